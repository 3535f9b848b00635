"""Shards: what one thread has aggregated, and how the threads come together.

Nobody waits in here while an event is being recorded. A handler may run in a
finalizer or a signal handler, in the middle of any function below, in the same
thread; a lock that it waited for would never be released.

The interpreter lets other threads and signal handlers in at calls and at backward
jumps only (CPython 3.11 to 3.13; 3.10 at every jump that is taken), and subscripts of
lists and dicts are neither. The compiled plan relies on it: each addition is a single
step, and from 3.11 on so is the look-up of a row with all additions to it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from llmevents.metrics._admission import Slot, TagKey
from llmevents.metrics._cells import Row, State
from llmevents.metrics._series import Exemplar


if TYPE_CHECKING:
    from llmevents.metrics._tags import Key

SWEEP_AT_LEAST = 16
"""Shards there may be before those of ended threads are looked for."""

MOST_READS = 100
"""How often a reader starts again because series are being forgotten."""

States: TypeAlias = dict[Slot, list[State]]


class GroupRows:
    """The rows of one thread for the metrics of one group, which share their tags.

    Attributes:
        lookup: Rows by tags as events have them; what the compiled plan looks into.
        rows: The same rows by tags as they are shown. Each is here once.
        replaced: Rows of forgotten series, by identity, for which there are new ones
            before they were taken out. A row gets here before it leaves *rows*.
    """

    __slots__ = ("lookup", "places", "replaced", "rows")

    def __init__(self, places: tuple[int, ...]) -> None:
        self.places = places
        self.lookup: dict[Key, Row] = {}
        self.rows: dict[TagKey, Row] = {}
        self.replaced: dict[int, Row] = {}

    def all(self) -> list[Row]:
        """Return every row once, whatever its thread does meanwhile."""
        rows = list(self.rows.values())
        if not self.replaced:
            return rows
        found = {id(row): row for row in rows}
        return list({**found, **self.replaced}.values())


class Shard:
    """What one thread has aggregated.

    Attributes:
        groups: By name of the group.
        exemplars: The newest by series and bucket.
    """

    __slots__ = ("_is_owned", "exemplars", "groups")

    def __init__(self, owner: _Owner) -> None:
        self._is_owned = weakref.ref(owner)
        self.groups: dict[str, GroupRows] = {}
        self.exemplars: dict[tuple[Slot, int], Exemplar] = {}

    def is_dead(self) -> bool:
        """Whether the thread has ended."""
        return self._is_owned() is None

    def collect(self, into: States) -> None:
        """Add what there is in each row to *into*; the thread may go on adding."""
        # Lists of values and copies of rows come about in one step.
        for group in list(self.groups.values()):
            places = group.places
            for live in group.all():
                read_row(live.copy(), places, into)


def read_row(row: Row, places: Sequence[int], into: States) -> None:
    """Add the states of all series in *row* to *into*."""
    for slot, at in zip(row[-1], places, strict=True):
        state = slot.family.kind.read(row, at)
        if state is not None:
            found = into.get(slot)
            if found is None:
                into[slot] = [state]
            else:
                found.append(state)


class _Owner:
    """Lives in a thread-local, and so as long as its thread."""

    __slots__ = ("__weakref__", "shard")

    def __init__(self) -> None:
        self.shard = Shard(self)


class _Base(NamedTuple):
    """What ended threads came to. Replaced as a whole, never changed.

    Attributes:
        states: By series.
        exemplars: As in a shard.
        folded: Shards that are part of this and may still be in the list.
    """

    states: dict[Slot, State]
    exemplars: dict[tuple[Slot, int], Exemplar]
    folded: frozenset[Shard]


class ShardSet:
    """The shards of all threads, and what is left of those that have ended.

    Shards of ended threads are folded into one when somebody reads, and when they
    have become as many as those of running threads. Readers take no lock: they see
    either the state before a fold or the one after.

    Attributes:
        local: The thread's own: its owner, and the look-up of each group by name.
    """

    __slots__ = ("_base", "_folding", "_forgotten", "_live", "_sweep_at", "local")

    def __init__(self) -> None:
        self.local = threading.local()
        self.clear()

    def clear(self) -> None:
        """Forget everything, locks included; for the only thread there is."""
        vars(self.local).clear()
        self._folding = threading.Lock()
        # A dict for its order, and because adding is a single step.
        self._live: dict[Shard, None] = {}
        self._base = _Base({}, {}, frozenset())
        self._sweep_at = SWEEP_AT_LEAST
        # Odd while rows are being moved to the base.
        self._forgotten = 0

    def mine(self) -> Shard:
        """Return the shard of this thread."""
        owner: _Owner | None = vars(self.local).get("owner")
        return self._join() if owner is None else owner.shard

    def shards(self) -> list[Shard]:
        """Return the shards that have not been folded yet."""
        return list(self._live)

    def states(self) -> dict[Slot, State]:
        """Return what each series came to, in all threads."""
        self.fold()
        states: States = {}
        for _ in range(MOST_READS):
            before = self._forgotten
            base, shards = self._consistent()
            states = {slot: [state] for slot, state in base.states.items()}
            for shard in shards:
                shard.collect(states)
            if before == self._forgotten and not before % 2:
                break
        return {slot: _merge(slot, found) for slot, found in states.items()}

    def exemplars(self) -> dict[Slot, dict[int, Exemplar]]:
        """Return the newest exemplars by series and bucket."""
        base, shards = self._consistent()
        newest: dict[Slot, dict[int, Exemplar]] = {}
        for found in (base.exemplars, *(shard.exemplars.copy() for shard in shards)):
            for (slot, bucket), exemplar in found.items():
                buckets = newest.setdefault(slot, {})
                other = buckets.get(bucket)
                if other is None or other.time_ns <= exemplar.time_ns:
                    buckets[bucket] = exemplar
        return newest

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

    def forget(
        self, gone: frozenset[Slot], expected: Mapping[Slot, State] | None = None
    ) -> None:
        """Drop all rows of the series in *gone*; what else is in them is kept.

        A row leaves the look-up in one step, after which nobody adds to it.

        Args:
            gone: Series that their families have removed.
            expected: What they came to when they were found to be gone. If it is
                more by now, the series is back, with all it had.
        """
        with self._folding:
            self._forgotten += 1
            kept: States = {}
            for shard in self.shards():
                for group in list(shard.groups.values()):
                    for row in _take_out(group, gone):
                        read_row(row, group.places, kept)
                for key in [key for key in list(shard.exemplars) if key[0] in gone]:
                    shard.exemplars.pop(key, None)
            base = self._base
            states = dict(base.states)
            for slot, found in kept.items():
                known = [states[slot]] if slot in states else []
                states[slot] = _merge(slot, [*known, *found])
            if expected is not None:
                for slot in gone & states.keys():
                    if states[slot] != expected.get(slot):
                        again = slot.family.revive(slot)
                        known = [states[again]] if again in states else []
                        states[again] = _merge(again, [*known, states[slot]])
            self._base = _Base(
                {slot: state for slot, state in states.items() if slot not in gone},
                {k: v for k, v in base.exemplars.items() if k[0] not in gone},
                base.folded,
            )
            self._forgotten += 1

    def _join(self) -> Shard:
        # Of two that a thread makes, because it was interrupted at that, one wins.
        owner: _Owner = vars(self.local).setdefault("owner", _Owner())
        self._live[owner.shard] = None
        if len(self._live) >= self._sweep_at:
            self.fold()
        return owner.shard

    def _fold(self, dead: Sequence[Shard]) -> None:
        before = self._base
        found: States = {slot: [state] for slot, state in before.states.items()}
        exemplars = dict(before.exemplars)
        for shard in dead:
            if shard not in before.folded:
                shard.collect(found)
                exemplars.update(shard.exemplars)
        states = {slot: _merge(slot, each) for slot, each in found.items()}
        # One step for those who read: from here on the shards count as folded, also
        # if an exception keeps us from taking them off the list.
        self._base = _Base(states, exemplars, frozenset(dead))
        for shard in dead:
            del self._live[shard]

    def _consistent(self) -> tuple[_Base, list[Shard]]:
        """Return the base and exactly the shards that are not in it."""
        while True:
            base = self._base
            shards = list(self._live)
            if self._base is base:
                return base, [shard for shard in shards if shard not in base.folded]


def _merge(slot: Slot, states: Sequence[State]) -> State:
    return states[0] if len(states) == 1 else slot.family.kind.merge(states)


def _take_out(group: GroupRows, gone: frozenset[Slot]) -> list[Row]:
    """Take all rows with a series in *gone* out of *group*."""
    taken = {id(row): row for row in group.all() if not gone.isdisjoint(row[-1])}
    for shown in list(group.rows):
        if id(group.rows.get(shown)) in taken:
            row = group.rows.pop(shown, None)
            if row is not None and id(row) not in taken:
                # A new one, which its thread has made between the look and the step.
                group.replaced[id(row)] = row
    for identity in taken:
        group.replaced.pop(identity, None)
    for key in list(group.lookup):
        if id(group.lookup.get(key)) in taken:
            group.lookup.pop(key, None)
    return list(taken.values())
