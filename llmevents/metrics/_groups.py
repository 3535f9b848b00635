"""Groups: the metrics of one event that have the same tags, and so share their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from llmevents.metrics._admission import FamilySlots, Slot, TagKey, tag_key
from llmevents.metrics._cells import Row
from llmevents.metrics._shards import GroupRows, ShardSet


if TYPE_CHECKING:
    from llmevents.metrics._tags import Key, TagReader

_OVERFLOW: TagKey = ("", "")
"""What a thread's row of all that is past the limit is known by. No series is: a tag's
name is never empty."""


class Group:
    """Opens the rows of some metrics, in whatever thread needs one.

    Attributes:
        name: Under which a thread finds its look-up, and its shard the rows.
        places: Where each metric's places begin in a row.
    """

    __slots__ = (
        "_families",
        "_first_event",
        "_most",
        "_reader",
        "_shards",
        "name",
        "places",
    )

    def __init__(
        self,
        name: str,
        families: Sequence[FamilySlots],
        reader: TagReader,
        shards: ShardSet,
        *,
        most: int,
        first_event: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._families = tuple(families)
        self._reader = reader
        self._shards = shards
        self._most = most
        self._first_event = first_event
        widths = [len(family.kind.places()) for family in families]
        self.places = tuple(accumulate(widths[:-1], initial=0))

    def open(self, key: Key) -> Row | None:
        """Make a row that an event with *key* can look up, or return one.

        The compiled plan looks up by itself; what comes here is the first event of a
        series in this thread, and each whose row is not to be remembered by its key.

        Returns:
            None if the row is to be looked up now: it may be taken out any time.
        """
        rows = self._rows()
        if key in rows.lookup:
            return None
        if self._is_past_the_limit(key):
            return self._overflow(rows, key)
        row = self._row(rows, key)
        if len(rows.lookup) >= self._most or all(map(_is_overflow, row[-1])):
            return row
        rows.lookup[key] = row
        if any(slot.is_gone for slot in row[-1]):
            rows.lookup.pop(key, None)
        return None

    def _rows(self) -> GroupRows:
        groups = self._shards.mine().groups
        rows = groups.get(self.name)
        if rows is None:
            # An interruption may have been faster.
            rows = groups.setdefault(self.name, GroupRows(self.places))
            vars(self._shards.local)[self.name] = rows.lookup
            self._first_event()
        return rows

    def _is_past_the_limit(self, key: Key) -> bool:
        if not all(family.is_full for family in self._families):
            return False
        # As the tags are: to clean them costs more than the rest of the event.
        known = tag_key(self._reader.plain(key))
        return not any(family.has(known) for family in self._families)

    def _row(self, rows: GroupRows, key: Key) -> Row:
        """Return the row of the series that *key* stands for, a new one if need be."""
        tags = self._reader.tags(key)
        known = tag_key(tags)
        row = rows.rows.get(known)
        while row is None or any(slot.is_gone for slot in row[-1]):
            if row is not None:
                # Who forgets its series has yet to take it out.
                rows.replaced[id(row)] = row
                rows.rows.pop(known, None)
            slots = tuple(family.admit(known, tags) for family in self._families)
            if all(slot.is_overflow for slot in slots):
                return self._overflow(rows, key)
            row = rows.rows.setdefault(known, self._blank(slots))
        return row

    def _overflow(self, rows: GroupRows, key: Key) -> Row:
        row = rows.rows.get(_OVERFLOW)
        if row is None:
            tags = self._reader.plain(key)
            slots = tuple(family.overflow(tags) for family in self._families)
            row = rows.rows.setdefault(_OVERFLOW, self._blank(slots))
        return row

    def _blank(self, slots: tuple[Slot, ...]) -> Row:
        row = [place for family in self._families for place in family.kind.places()]
        # A copy has no room to spare, of which a list is given some as it grows.
        return [*row, slots].copy()


def _is_overflow(slot: Slot) -> bool:
    return slot.is_overflow
