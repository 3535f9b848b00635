"""The state of budgets in the memory of one process."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from llmevents import _forksafe
from llmevents._clock import SYSTEM_CLOCK
from llmevents._options import check_count
from llmevents.llm.budgets._book import SLACK_NS, Entry, Held
from llmevents.llm.budgets._store import Account, Hold, Outcome, Reading


if TYPE_CHECKING:
    from llmevents._clock import Clock

T = TypeVar("T")

MAX_KEYS = 100_000
"""Accounts of one budget; some 60 MB if all of them are in use."""

NOTHING = Reading(0, 0, 0, None)
"""The state of an account that nothing was booked on."""

LOCK_WAIT = 1.0
"""Seconds to wait for a lock that others hold for microseconds.

Garbage collection may run foreign code in the middle of those, and that code may wait
for a lock of whoever is waiting here.
"""


class MemoryBudgetStore:
    """Keeps budgets in this process; exact for any number of threads and tasks.

    Each process has its own: with four workers, four times the limit can be spent. A
    forked child begins with what its parent had spent; what calls of the parent hold
    stays with the parent.

    Leases and rolling windows are measured with the monotonic clock, and days, weeks,
    months and years with the wall clock. A wall clock that is put back returns to the
    amounts of the earlier period, and later to those of the present one: no period
    begins twice.

    An account is forgotten when its period has passed, an hour after that, or its
    rolling window is empty. Beyond *max_keys* of one budget, the account that was
    asked for least recently is forgotten, and its key begins at 0 when it comes back;
    `evicted` counts these.

    A reservation that is made by a signal handler or a finalizer, in the middle of
    this very store's work in the same thread, is granted unseen, and counted.

    Args:
        max_keys: Accounts of one budget to keep at most, 100,000 by default. Those
            that calls under way hold amounts of are kept anyway.
        clock: The system's clocks unless given.

    Raises:
        OptionError: *max_keys* is not 1 or more.
    """

    def __init__(
        self, *, max_keys: int = MAX_KEYS, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._max_keys = check_count(max_keys, "max_keys")
        self._clock = clock
        self._books: dict[str, OrderedDict[Account, Entry]] = {}
        # By length of the lease: each queue is in the order in which they are over.
        self._leases: dict[int, OrderedDict[int, Held]] = {}
        # What could not be done at once; None stands for a reservation.
        self._late: deque[tuple[tuple[Held, ...], Sequence[int] | None]] = deque()
        self._evicted = 0
        self._busy = False
        self._lock = threading.RLock()
        self._lock_wait = LOCK_WAIT
        _forksafe.registry.register(self)

    @property
    def evicted(self) -> int:
        """How many accounts were forgotten because there were too many."""
        return self._evicted

    def reserve(self, holds: Sequence[Hold], /) -> Outcome:
        """Hold all amounts or none; see `BudgetStore`."""
        token = tuple([Held(hold) for hold in holds])
        outcome = self._exclusively(lambda now: self._reserve(token, now))
        if outcome is None:
            self._late.append((token, None))
            return Outcome(token, ())
        return outcome

    def settle(
        self, token: object, amounts: Sequence[int], /
    ) -> tuple[Reading, ...] | None:
        """Replace what is held by what was spent; see `BudgetStore`."""
        assert isinstance(token, tuple)  # noqa: S101  # from reserve()
        # What is late is done before anything else, so this is no detour.
        self._late.append((token, amounts))
        return self._exclusively(
            lambda now: tuple([self._reading(held, now) for held in token])
        )

    def announce(self, account: Account, bits: int, /) -> int:
        """Set *bits* and return the new ones; see `BudgetStore`."""
        return (
            self._exclusively(
                lambda now: self._open(account, now).announce(account, bits, now)
            )
            or 0
        )

    def read(self, accounts: Sequence[Account], /) -> tuple[Reading, ...]:
        """Return the state of each account; see `BudgetStore`."""
        readings = self._exclusively(
            lambda now: [self._look(account, now) for account in accounts]
        )
        if readings is None:
            # As it is, in the middle of the work, which must not be disturbed.
            readings = [self._look(account, None) for account in accounts]
        return tuple(readings)

    def accounts(self, budget: str, /) -> list[Account]:
        """Return the accounts that something was booked on; see `BudgetStore`."""
        return self._exclusively(lambda _: list(self._books.get(budget, ()))) or []

    def after_fork_in_child(self) -> None:
        """Forget locks, and what calls of the parent hold."""
        self._lock = threading.RLock()
        self._busy = False
        self._late = deque()
        self._leases = {}
        for book in self._books.values():
            for entry in book.values():
                entry.reserved = entry.held = 0

    def _exclusively(self, work: Callable[[int], T]) -> T | None:
        """Do *work* while nobody else does any, and before it what is late.

        Returns:
            What it returns. None if this thread is in the middle of other work, or
            the lock could not be had.
        """
        if not self._lock.acquire(timeout=self._lock_wait):
            return None
        nested = True
        try:
            nested = self._busy
            if nested:
                return None
            self._busy = True
            now = self._clock.monotonic_ns()
            self._catch_up(now)
            return work(now)
        finally:
            if not nested:
                self._busy = False
            self._lock.release()

    def _catch_up(self, now: int) -> None:
        """Do what is late, and give back what was held for too long."""
        while self._late:
            token, amounts = self._late.popleft()
            if amounts is None:
                for held in token:
                    held.entry = self._open(held.hold.account, now)
                self._take(token, now)
                continue
            for held, amount in zip(token, amounts, strict=True):
                self._give_back(held)
                if held.entry.is_forgotten:  # since its lease was over
                    held.entry = self._open(held.hold.account, now)
                held.entry.spend(held, amount, now)
        for lease, queue in self._leases.items():
            while queue:
                oldest = next(iter(queue.values()))
                if now - oldest.began < lease:
                    break
                self._give_back(oldest)

    def _reserve(self, token: tuple[Held, ...], now: int) -> Outcome:
        for index, held in enumerate(token):
            hold = held.hold
            entry = held.entry = self._open(hold.account, now)
            if hold.limit is not None:
                if hold.account.rolling:
                    entry.trim(hold.account, now)
                if entry.spent + entry.reserved + hold.needs > hold.limit:
                    readings = [self._reading(h, now) for h in token[: index + 1]]
                    return Outcome(None, tuple(readings), index)
        self._take(token, now)
        return Outcome(token, tuple([self._reading(held, now) for held in token]))

    def _take(self, token: tuple[Held, ...], now: int) -> None:
        for held in token:
            hold = held.hold
            held.began = now
            held.entry.reserved += hold.amount
            held.entry.held += 1
            rolling = hold.account.rolling
            held.lease = min(hold.lease, rolling) if rolling else hold.lease
            queue = self._leases.get(held.lease)
            if queue is None:
                queue = self._leases[held.lease] = OrderedDict()
            queue[id(held)] = held

    def _give_back(self, held: Held) -> None:
        """End what is held, unless it has ended, here or in a parent process."""
        queue = self._leases.get(held.lease)
        if queue is not None and queue.pop(id(held), None) is not None:
            held.entry.reserved -= held.hold.amount
            held.entry.held -= 1

    def _reading(self, held: Held, now: int) -> Reading:
        return held.entry.read(held.hold.account, now)

    def _look(self, account: Account, now: int | None) -> Reading:
        book = self._books.get(account.budget)
        entry = None if book is None else book.get(account)
        if entry is None:
            return NOTHING
        if now is None:
            return Reading(entry.spent, entry.reserved, 0, None)
        return entry.read(account, now)

    def _open(self, account: Account, now: int) -> Entry:
        """Return the entry of an account; make it, and forget others for it."""
        book = self._books.get(account.budget)
        if book is None:
            book = self._books[account.budget] = OrderedDict()
        entry = book.get(account)
        if entry is not None:
            book.move_to_end(account)
            return entry
        # Two for each new one: what has passed cannot pile up.
        for oldest, idle in list(_first(book, 2)):
            if idle.is_over(oldest, now):
                idle.is_forgotten = True
                del book[oldest]
        if len(book) >= self._max_keys:
            self._evict(book)
        entry = book[account] = Entry()
        if account.end:
            left = account.end - self._clock.time_ns()
            entry.forget_at = now + left + SLACK_NS
        return entry

    def _evict(self, book: OrderedDict[Account, Entry]) -> None:
        for account, entry in book.items():
            if not entry.held:
                entry.is_forgotten = True
                del book[account]
                self._evicted += 1
                return


def _first(
    book: OrderedDict[Account, Entry], count: int
) -> Sequence[tuple[Account, Entry]]:
    return [pair for pair, _ in zip(book.items(), range(count), strict=False)]
