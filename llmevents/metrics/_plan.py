"""The plan: what to do at an event, worked out once for all metrics together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from llmevents._types import Measurements, Metadata
from llmevents._values import clean_number
from llmevents.metrics._definitions import Counter, Metric, Sum
from llmevents.metrics._series import FamilySlots, TagSet
from llmevents.metrics._shards import Row, Shard
from llmevents.metrics._tags import ComputedTags, KeyedTags, TagReader


LARGEST_INTEGER = (1 << 63) - 1
"""What fits 64 bits, which is what every back end takes."""

LARGEST_FLOAT = 1e290
"""Fewer than 10**18 such values cannot add up to infinity."""

_MISSING = object()

Refuse: TypeAlias = Callable[[], object]
"""Called for each value that cannot be used."""


class Instruction:
    """What one metric takes from an event."""

    __slots__ = (
        "_function",
        "_is_counter",
        "_is_monotonic",
        "_keep",
        "_key",
        "_refuse",
        "family",
    )

    def __init__(self, definition: Metric, family: FamilySlots, refuse: Refuse) -> None:
        self.family = family
        self._keep = definition.keep
        self._is_counter = isinstance(definition, Counter)
        self._is_monotonic = isinstance(definition, Sum) and definition.monotonic
        self._key = ""
        self._function = None
        if not isinstance(definition, Counter):
            if isinstance(definition.measurement, str):
                self._key = definition.measurement
            else:
                self._function = definition.measurement
        self._refuse = refuse

    def value(
        self, measurements: Measurements, metadata: Metadata
    ) -> int | float | None:
        """Return the value to take in, or None to skip the event."""
        if self._keep is not None and not self._keep(measurements, metadata):
            return None
        if self._is_counter:
            return 1
        if self._function is None:
            found: object = measurements.get(self._key, _MISSING)
            if found is _MISSING:
                return None
        else:
            found = self._function(measurements, metadata)
            if found is None:
                return None
        if type(found) is int and 0 <= found <= LARGEST_INTEGER:
            return found
        return self._check(found)

    def _check(self, found: object) -> int | float | None:
        value = clean_number(found)
        if value is not None and not (value < 0 and self._is_monotonic):
            largest = LARGEST_INTEGER if isinstance(value, int) else LARGEST_FLOAT
            if -largest <= value <= largest:
                return value
        self._refuse()
        return None


class Group:
    """The metrics of one event that have the same tags, and so share one look-up."""

    __slots__ = ("_instructions", "_reader")

    def __init__(self, reader: TagReader, instructions: Iterable[Instruction]) -> None:
        self._reader = reader
        self._instructions = tuple(enumerate(instructions))

    def record(
        self, shard: Shard, measurements: Measurements, metadata: Metadata
    ) -> Exception | None:
        """Take in one event; return the first exception of a user's function.

        A function that fails costs its own metric the event, and no other one. No
        series comes about before there is a value for it.
        """
        failure = None
        row: Row | None = None
        for position, instruction in self._instructions:
            try:
                value = instruction.value(measurements, metadata)
                if value is None:
                    continue
                if row is None:
                    row = self._row(shard, measurements, metadata)
                cell = row.cells[position]
                if cell is None:
                    cell = shard.open(self, row, position, instruction.family)
                cell.add(value)
            except Exception as error:  # noqa: BLE001  # whatever users' functions raise
                failure = error if failure is None else failure
        return failure

    def _row(self, shard: Shard, measurements: Measurements, metadata: Metadata) -> Row:
        key = self._reader.key(measurements, metadata)
        row = shard.find(self, key)
        if row is None:
            tags = TagSet(self._reader.tags(key))
            row = Row(key, tags, len(self._instructions))
        return row


class Plan:
    """What to do at an event. Events with the same metrics share one."""

    __slots__ = ("_groups",)

    def __init__(
        self, definitions: Iterable[tuple[Metric, FamilySlots]], refuse: Refuse
    ) -> None:
        readers: dict[object, TagReader] = {}
        members: dict[object, list[Instruction]] = {}
        for definition, family in definitions:
            # A function may have no hash, and is the same only if it is the same.
            tags = definition.tags
            spec = (
                tags if isinstance(tags, tuple) else id(tags),
                definition.constant_tags,
            )
            if spec not in readers:
                readers[spec] = _reader(definition)
            instruction = Instruction(definition, family, refuse)
            members.setdefault(spec, []).append(instruction)
        self._groups = tuple(
            Group(reader, members[spec]) for spec, reader in readers.items()
        )

    def record(
        self, shard: Shard, measurements: Measurements, metadata: Metadata
    ) -> Exception | None:
        """Take in one event; return the first exception of a user's function."""
        failure = None
        for group in self._groups:
            error = group.record(shard, measurements, metadata)
            failure = error if failure is None else failure
        return failure


def _reader(definition: Metric) -> TagReader:
    if isinstance(definition.tags, tuple):
        return KeyedTags(definition.tags, definition.constant_tags)
    return ComputedTags(definition.tags, definition.constant_tags)
