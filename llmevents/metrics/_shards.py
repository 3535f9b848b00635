"""Shards: what one thread has aggregated, and how the threads come together.

Nobody waits in here while an event is being recorded. A handler may run in a
finalizer or a signal handler, in the middle of any function below, in the same
thread; a lock that it waited for would never be released.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from llmevents._types import EventName, Measurements, Metadata
from llmevents.metrics._cells import Cell, State
from llmevents.metrics._series import FamilySlots, Slot, TagSet


LateEvent: TypeAlias = tuple[EventName, Measurements, Metadata]
"""An event that was emitted while its thread was recording another."""

SWEEP_AT_LEAST = 16
"""Shards there may be before those of ended threads are looked for."""


class Row:
    """The cells of one thread for one set of tags, one per metric that has them."""

    __slots__ = ("cells", "key", "tags")

    def __init__(self, key: Hashable, tags: TagSet, width: int) -> None:
        self.key = key
        self.tags = tags
        self.cells: list[Cell | None] = [None] * width


class Shard:
    """What one thread has aggregated.

    Attributes:
        busy: Whether the thread is recording. An event that comes up meanwhile, in
            a finalizer, a signal handler or a user's function, must not touch cells
            that are being changed.
        late: Such events, which the thread records as soon as it is done. Appending
            and taking away are single steps.
        cells: By series; entries are only ever added.
    """

    __slots__ = ("_is_owned", "_most_rows", "_rows", "busy", "cells", "late")

    def __init__(self, owner: _Owner, most_rows: int) -> None:
        self.busy = False
        self.late: deque[LateEvent] = deque()
        self.cells: dict[Slot, Cell] = {}
        self._is_owned = weakref.ref(owner)
        self._most_rows = most_rows
        self._rows: dict[Hashable, dict[Hashable, Row]] = {}

    def is_dead(self) -> bool:
        """Whether the thread has ended."""
        return self._is_owned() is None

    def find(self, group: Hashable, key: Hashable) -> Row | None:
        """Return the row of *group* under *key*, if it was kept."""
        rows = self._rows.get(group)
        return None if rows is None else rows.get(key)

    def open(
        self, group: Hashable, row: Row, position: int, family: FamilySlots
    ) -> Cell:
        """Return the cell of *family* in *row*, for the first value in this thread.

        Series past the limit are not remembered by their tags, which would be
        without bound; they are looked up each time.
        """
        slot = family.admit(row.tags)
        cell = self.cells.get(slot)
        if cell is None:
            cell = self.cells[slot] = family.cell()
        if not slot.overflow:
            row.cells[position] = cell
            rows = self._rows.setdefault(group, {})
            if len(rows) < self._most_rows:
                rows[row.key] = row
        return cell


class _Owner:
    """Lives in a thread-local, and so as long as its thread.

    It is all that is there, so that joining is a single step: of two shards that a
    thread made, because it was interrupted at that, one is dead at once.
    """

    __slots__ = ("__weakref__", "shard")

    def __init__(self, most_rows: int) -> None:
        self.shard = Shard(self, most_rows)


class _Base(NamedTuple):
    """What ended threads came to. Replaced as a whole, never changed.

    Attributes:
        states: By series.
        folded: Shards that are part of `states` and may still be in the list.
    """

    states: dict[Slot, State]
    folded: frozenset[Shard]


class ShardSet:
    """The shards of all threads, and what is left of those that have ended.

    Shards of ended threads are folded into one when somebody reads, and when they
    have become as many as those of running threads. Readers take no lock: they see
    either the state before a fold or the one after.
    """

    __slots__ = ("_base", "_folding", "_live", "_local", "_most_rows", "_sweep_at")

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self.clear()

    def clear(self) -> None:
        """Forget everything, locks included."""
        self._local = threading.local()
        self._folding = threading.Lock()
        # A dict for its order, and because adding is a single step.
        self._live: dict[Shard, None] = {}
        self._base = _Base({}, frozenset())
        self._sweep_at = SWEEP_AT_LEAST

    def mine(self) -> Shard:
        """Return the shard of this thread."""
        try:
            owner: _Owner = self._local.owner
        except AttributeError:
            return self._join()
        return owner.shard

    def states(self) -> list[Mapping[Slot, State]]:
        """Return everything there is, from ended threads and from running ones."""
        self.fold()
        base, shards = self._consistent()
        taken: list[Mapping[Slot, State]] = [base.states]
        for shard in shards:
            # A list of keys comes about in one step, while the thread goes on adding.
            slots = list(shard.cells)
            taken.append({slot: shard.cells[slot].state() for slot in slots})
        return taken

    def fold(self) -> None:
        """Merge the shards of ended threads, unless somebody is at it."""
        if not self._folding.acquire(blocking=False):
            return
        try:
            dead = [shard for shard in list(self._live) if shard.is_dead()]
            if dead:
                self._fold(dead)
            self._sweep_at = 2 * len(self._live) + SWEEP_AT_LEAST
        finally:
            self._folding.release()

    def _join(self) -> Shard:
        owner = _Owner(self._most_rows)
        self._live[owner.shard] = None
        self._local.owner = owner
        if len(self._live) >= self._sweep_at:
            self.fold()
        return owner.shard

    def _fold(self, dead: Sequence[Shard]) -> None:
        before = self._base
        new = [shard for shard in dead if shard not in before.folded]
        states = dict(before.states)
        for shard in new:
            for slot, cell in shard.cells.items():
                known = states.get(slot)
                state = cell.state()
                states[slot] = (
                    state if known is None else type(cell).merge((known, state))
                )
        # One step for those who read: from here on the shards count as folded, also
        # if an exception keeps us from taking them off the list.
        self._base = _Base(states, frozenset(dead))
        for shard in dead:
            del self._live[shard]

    def _consistent(self) -> tuple[_Base, list[Shard]]:
        """Return the base and exactly the shards that are not in it."""
        while True:
            base = self._base
            shards = list(self._live)
            if self._base is base:
                return base, [shard for shard in shards if shard not in base.folded]
