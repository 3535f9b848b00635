"""Series: which there are, how many there may be, and what a reader gets to see."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llmevents.metrics._cells import Cell, cell_type
from llmevents.metrics._definitions import Metric


OVERFLOW = "__overflow__"
"""Every tag's value in the series that takes what is past the limit."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series at one moment.

    Attributes:
        tags: Read-only. A tag that the events did not have is absent.
        value: In the unit of the definition.
    """

    tags: Mapping[str, str]
    value: int | float


@dataclass(frozen=True, slots=True)
class Family:
    """The series of one metric, in the order in which they came up.

    Attributes:
        definition: The metric; the first one, where several feed the same series.
        series: Empty until the first event.
    """

    definition: Metric
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a `MetricStore` knew at one moment.

    Attributes:
        families: By name of the metric, in the order of the definitions; read-only.
    """

    families: Mapping[str, Family]


class TagSet:
    """Tags in the order in which they are shown, and what they are known by."""

    __slots__ = ("key", "tags")

    def __init__(self, tags: Mapping[str, str]) -> None:
        self.tags = tags
        self.key = tuple(sorted(tags.items()))


class Slot:
    """The identity of one series, by which every thread finds its own cell of it."""

    __slots__ = ("overflow", "tags")

    def __init__(self, tags: Mapping[str, str], *, overflow: bool = False) -> None:
        self.tags = MappingProxyType(dict(tags))
        self.overflow = overflow


class FamilySlots:
    """Which series a metric has. Admission is the same for all threads.

    There is no lock to wait for: a thread takes a ticket, enters its slot with one
    atomic `dict.setdefault`, and hands the ticket back if another was faster. The
    limit is never exceeded; at worst a series is admitted one event later.
    """

    __slots__ = ("_limit", "_returned", "_slots", "_tickets", "cell", "definition")

    def __init__(self, definition: Metric, limit: int) -> None:
        self.definition = definition
        self.cell: type[Cell] = cell_type(definition)
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget all series."""
        self._tickets = itertools.count()
        self._returned: deque[None] = deque()
        self._slots: dict[tuple[tuple[str, str], ...], Slot] = {}

    def slots(self) -> list[Slot]:
        """Return all slots in the order of their admission."""
        return list(self._slots.values())

    def admit(self, tags: TagSet) -> Slot:
        """Return the slot of the series with *tags*, a new one if need be."""
        slot = self._slots.get(tags.key)
        if slot is not None:
            return slot
        if not self._take_ticket():
            return self._overflow(tags.tags)
        new = Slot(tags.tags)
        slot = self._slots.setdefault(tags.key, new)
        if slot is not new:
            self._returned.append(None)
        return slot

    def _take_ticket(self) -> bool:
        try:
            self._returned.popleft()
        except IndexError:
            return next(self._tickets) < self._limit
        return True

    def _overflow(self, tags: Mapping[str, str]) -> Slot:
        slot = self._slots.get(_OVERFLOW_KEY)
        if slot is None:
            # Where a function makes the tags, the first event past the limit decides.
            names = self.definition.tag_names or tags
            slot = Slot(dict.fromkeys(names, OVERFLOW), overflow=True)
            slot = self._slots.setdefault(_OVERFLOW_KEY, slot)
        return slot


# No series has this key: a tag's name is never empty.
_OVERFLOW_KEY = (("", OVERFLOW),)
