"""What reporters and the metric store had to give up, as events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.metrics import MetricStore
    from llmevents.reporting import Reporter

PERIOD = 10.0
"""Seconds between two looks."""

DROPPED = ("llmevents", "reporter", "dropped")


class Losses:
    """Emits ``llmevents.reporter.dropped`` for what was lost since the last look.

    One event for each reporter and reason. The metric store goes by the name of
    ``store``; its reason is ``refused``.
    """

    def __init__(
        self, bus: Bus, store: MetricStore, reporters: Mapping[str, Reporter]
    ) -> None:
        self._bus = bus
        self._store = store
        self._reporters = reporters
        self._seen: dict[tuple[str, str], int] = {}

    def emit(self) -> None:
        """Look, and emit what is new."""
        for key, count in self._counts().items():
            new = count - self._seen.get(key, 0)
            self._seen[key] = count
            if new > 0:
                reporter, reason = key
                metadata = {"reporter": reporter, "reason": reason}
                self._bus.execute(DROPPED, {"count": new}, metadata)

    def _counts(self) -> dict[tuple[str, str], int]:
        counts = {
            (name, reason): count
            for name, reporter in list(self._reporters.items())
            for reason, count in reporter.status().dropped.items()
        }
        return {**counts, ("store", "refused"): self._store.refused}
