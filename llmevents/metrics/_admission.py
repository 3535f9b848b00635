"""Which series a metric has, and how many it may have."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from itertools import chain
from typing import TypeAlias

from llmevents.metrics._cells import Kind, kind_of
from llmevents.metrics._definitions import Metric


OVERFLOW = "__overflow__"
"""Every tag's value in the series that takes what is past the limit."""

TagKey: TypeAlias = tuple[str, ...]
"""Tags and their values in turn, sorted: what a series is known by. One flat tuple,
because there is one for each series."""


def tag_key(tags: Mapping[str, str]) -> TagKey:
    """Return what the series with *tags* is known by."""
    return tuple(chain.from_iterable(sorted(tags.items())))


class Slot:
    """The identity of one series, by which every thread finds its own cells of it.

    There is one for each series, so it is small.

    Attributes:
        family: The metric's.
        is_overflow: Whether it takes what is past the limit.
        is_gone: Whether it was forgotten.
        epoch: Told apart from an earlier one of the same tags by this.
    """

    __slots__ = ("_pairs", "epoch", "family", "is_gone", "is_overflow")

    def __init__(
        self, family: FamilySlots, tags: Mapping[str, str], *, is_overflow: bool = False
    ) -> None:
        self.family = family
        self._pairs = tuple(chain.from_iterable(tags.items()))
        self.is_overflow = is_overflow
        self.is_gone = False
        self.epoch = family.removals

    @property
    def tags(self) -> dict[str, str]:
        """The tags as they are shown."""
        return dict(zip(self._pairs[::2], self._pairs[1::2], strict=True))


class FamilySlots:
    """The series of one metric. Admission is the same for all threads.

    There is no lock to wait for: a thread takes a ticket, enters its slot with one
    atomic `dict.setdefault`, and hands the ticket back if another was faster. The
    limit is never exceeded; at worst a series is admitted one event later.

    Attributes:
        definition: The first one of the metric's name.
        kind: How its values are aggregated.
        is_full: Whether a series had to be turned away.
        removals: How many series were removed.
    """

    __slots__ = (
        "_limit",
        "_returned",
        "_slots",
        "_tickets",
        "definition",
        "is_full",
        "kind",
        "removals",
    )

    def __init__(self, definition: Metric, limit: int) -> None:
        self.definition = definition
        self.kind: Kind = kind_of(definition)
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget all series."""
        self._tickets = itertools.count()
        self._returned: deque[None] = deque()
        self._slots: dict[TagKey, Slot] = {}
        self.is_full = False
        self.removals = 0

    def slots(self) -> list[Slot]:
        """Return all slots in the order of their admission."""
        return list(self._slots.values())

    def has(self, key: TagKey) -> bool:
        """Whether the series was admitted."""
        return key in self._slots

    def admit(self, key: TagKey, tags: Mapping[str, str]) -> Slot:
        """Return the slot of the series with *tags*, a new one if need be."""
        slot = self._slots.get(key)
        if slot is not None:
            return slot
        if not self._take_ticket():
            self.is_full = True
            return self.overflow(tags)
        new = Slot(self, tags)
        slot = self._slots.setdefault(key, new)
        if slot is not new:
            self._returned.append(None)
        return slot

    def overflow(self, tags: Mapping[str, str]) -> Slot:
        """Return the slot of all that is past the limit."""
        slot = self._slots.get(_OVERFLOW_KEY)
        if slot is None:
            # Where a function makes the tags, the first event past the limit decides.
            names = self.definition.tag_names
            names = tuple(tags) if names is None else names
            shown = dict.fromkeys(names, OVERFLOW)
            slot = Slot(self, shown, is_overflow=True)
            slot = self._slots.setdefault(_OVERFLOW_KEY, slot)
        return slot

    def remove(self, slot: Slot) -> bool:
        """Forget a series, and make room for another; return whether it was there."""
        slot.is_gone = True
        if self._slots.pop(tag_key(slot.tags), None) is None:
            return False
        self.removals += 1
        self._returned.append(None)
        self.is_full = False
        return True

    def revive(self, slot: Slot) -> Slot:
        """Return a slot that goes on where *slot*, which was removed, has ended."""
        again = self.admit(tag_key(slot.tags), slot.tags)
        if not again.is_overflow:
            again.epoch = slot.epoch
        return again

    def _take_ticket(self) -> bool:
        try:
            self._returned.popleft()
        except IndexError:
            return next(self._tickets) < self._limit
        return True


# No series has this key: a tag's name is never empty.
_OVERFLOW_KEY: TagKey = ("", OVERFLOW)
