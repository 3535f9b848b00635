"""One account of `MemoryBudgetStore`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from llmevents.llm.budgets._store import Account, Hold, Reading


if TYPE_CHECKING:
    from collections.abc import Iterable

SLACK_NS = 3_600_000_000_000
"""An hour: how far a wall clock may be put back into a period that has passed."""

MAX_ENTRIES = 1024
"""Amounts of one rolling window that are kept one by one."""


class Held:
    """One hold of a reservation.

    Attributes:
        hold: As it was asked for.
        entry: The account it is booked on.
        began: Monotonic time of the reservation.
        lease: How long it is held.
    """

    __slots__ = ("began", "entry", "hold", "lease")

    entry: Entry

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.began = 0
        self.lease = 0


class Entry:
    """What is booked on one account.

    The amounts of a rolling window are kept with their times, up to `MAX_ENTRIES`.
    Of more, neighbours in time are put together, under the later time: each leaves
    the window late by less than a 500th of its length, and never early.

    Attributes:
        spent: Settled amounts.
        reserved: Held amounts.
        held: How many calls hold some.
        forget_at: Monotonic time at which its period has long passed; 0 if never.
        is_forgotten: Whether the store does not have it any more.
    """

    __slots__ = (
        "_announced",
        "_recent",
        "forget_at",
        "held",
        "is_forgotten",
        "reserved",
        "spent",
    )

    def __init__(self) -> None:
        self.spent = 0
        self.reserved = 0
        self.held = 0
        self.forget_at = 0
        self.is_forgotten = False
        # Bit -> monotonic time until which it is set; 0 for ever.
        self._announced: dict[int, int] = {}
        # Time and amount, in the order of time.
        self._recent: deque[tuple[int, int]] = deque()

    def spend(self, held: Held, amount: int, now: int) -> None:
        """Book what a call has spent."""
        rolling = held.hold.account.rolling
        if not rolling:
            self.spent += amount
            return
        when = held.began
        if now - when >= rolling:
            # Its window is over. What nothing was held for has not counted yet.
            when, amount = now, max(0, amount - held.hold.amount)
        if amount:
            self.spent += amount
            self._insert(when, amount)
            if len(self._recent) > MAX_ENTRIES:
                step = max(1, rolling * 2 // MAX_ENTRIES)
                self._recent = deque(coarser(self._recent, step))

    def trim(self, account: Account, now: int) -> None:
        """Let go of what has left the rolling window."""
        recent = self._recent
        while recent and now - recent[0][0] >= account.rolling:
            self.spent -= recent.popleft()[1]

    def read(self, account: Account, now: int) -> Reading:
        """Return the state of the account."""
        frees_in = None
        if account.rolling:
            self.trim(account, now)
            if self._recent:
                frees_in = self._recent[0][0] + account.rolling - now
        bits = self._bits(now) if self._announced else 0
        return Reading(self.spent, self.reserved, bits, frees_in)

    def announce(self, account: Account, bits: int, now: int) -> int:
        """Set *bits*; return the new ones."""
        new = bits & ~self._bits(now)
        until = now + account.rolling if account.rolling else 0
        for index in range(new.bit_length()):
            if new >> index & 1:
                self._announced[1 << index] = until
        return new

    def is_over(self, account: Account, now: int) -> bool:
        """Whether there is nothing left that could count."""
        if self.held:
            return False
        if account.rolling:
            self.trim(account, now)
            return not self._recent and not self._bits(now)
        return bool(self.forget_at) and now >= self.forget_at

    def _bits(self, now: int) -> int:
        return sum(
            bit for bit, until in self._announced.items() if not until or now < until
        )

    def _insert(self, when: int, amount: int) -> None:
        """Put an amount where it belongs: near the end, as calls end soon."""
        recent = self._recent
        place = len(recent)
        while place and recent[place - 1][0] > when:
            place -= 1
        recent.insert(place, (when, amount))


def coarser(recent: Iterable[tuple[int, int]], step: int) -> Iterable[tuple[int, int]]:
    """Put together what is within one step, under the latest time of it."""
    amount, latest = 0, 0
    for when, more in recent:
        if amount and when // step != latest // step:
            yield latest, amount
            amount = 0
        amount, latest = amount + more, when
    yield latest, amount
