"""`Points`: attributes of events that belong to a span, such as a retry."""

from __future__ import annotations

from collections.abc import Mapping

from llmevents_otel._attributes import (
    KEY_LIMIT,
    NUMBER_LIMIT,
    Rules,
    Value,
    compile_rules,
    fewer,
    translate,
)
from llmevents_otel._tables import Profile, Table


class Points:
    """What the events of one profile become, worked out once.

    Args:
        profile: The names to use.
    """

    __slots__ = ("_others", "_own")

    def __init__(self, profile: Profile) -> None:
        self._others = _compile(profile.points)
        self._own = {
            event: _compile(table) for event, table in profile.own_points.items()
        }

    def attributes(
        self,
        event: tuple[str, ...],
        measurements: Mapping[str, object],
        metadata: Mapping[str, object],
    ) -> dict[str, Value]:
        """Return the attributes of an event."""
        keys, numbers = self._own.get(event[:2], self._others)
        attributes: dict[str, Value] = {}
        translate(keys, fewer(keys, metadata, KEY_LIMIT).items(), attributes)
        kept = fewer(numbers, measurements, NUMBER_LIMIT)
        translate(numbers, kept.items(), attributes)
        return attributes


def _compile(table: Table) -> tuple[Rules, Rules]:
    return compile_rules(table.metadata), compile_rules(table.measurements)
