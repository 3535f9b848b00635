"""What a transaction works on: reservations, and rows of accounts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from llmevents.ledger._budgets_tables import id_of, text_of
from llmevents.llm.budgets import Account, Hold, Reading
from llmevents.llm.budgets._book import SLACK_NS
from llmevents.llm.budgets._units import LARGEST


class Token:
    """What stands for a reservation.

    Attributes:
        id: Unique over all processes.
        holds: As they were asked for.
        ids: Of their accounts.
        began: Wall-clock time of the reservation.
        amounts: What was spent, once it is settled.
        readings: The accounts after that, once it is booked.
        may_be_held: Whether a transaction that held it was to be committed, and nobody
            knows whether it was.
        may_be_settled: Likewise for what was spent.
    """

    __slots__ = (
        "amounts",
        "began",
        "holds",
        "id",
        "ids",
        "may_be_held",
        "may_be_settled",
        "readings",
    )

    def __init__(self, holds: Sequence[Hold], began: int) -> None:
        self.id = os.urandom(16).hex()
        self.holds = tuple([_bounded(hold) for hold in holds])
        self.ids = tuple([id_of(text_of(hold.account)) for hold in holds])
        self.began = began
        self.amounts: tuple[int, ...] | None = None
        self.readings: tuple[Reading, ...] | None = None
        self.may_be_held = False
        self.may_be_settled = False

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows of its holds."""
        return [
            (self.id, number, id_, hold.amount, self.began + _lease(hold))
            for number, (id_, hold) in enumerate(zip(self.ids, self.holds, strict=True))
        ]


class Entry:
    """The row of one account, and what there is to be changed in other tables.

    Attributes:
        account: Whose it is.
        is_new: Whether there is no row yet.
        is_changed: Whether it differs from what it was.
        is_trimmed: Whether amounts have left the rolling window since.
        is_expired: Whether leases are over that nobody has ended.
    """

    def __init__(self, id_: str, account: Account) -> None:
        self.id = id_
        self.account = account
        self.is_new = True
        self.is_changed = self.is_trimmed = self.is_expired = False
        self.spent = self.reserved = self.held = self.entries = 0
        self.oldest: int | None = None
        # Bit -> time until which it is set; 0 for ever.
        self.bits: dict[int, int] = {}

    def read(self, now: int) -> Reading:
        """Return the state of the account."""
        rolling, frees_in = self.account.rolling, None
        if rolling and self.oldest is not None:
            frees_in = self.oldest + rolling - now
        return Reading(self.spent, self.reserved, self.announced(now), frees_in)

    def announced(self, now: int) -> int:
        """Return the bits that are set."""
        return sum(b for b, until in self.bits.items() if not until or now < until)

    def announce(self, bits: int, now: int) -> int:
        """Set bits, and return the new ones."""
        new = bits & ~self.announced(now)
        rolling = self.account.rolling
        for index in range(new.bit_length()):
            if new >> index & 1:
                self.bits[1 << index] = now + rolling if rolling else 0
        self.is_changed |= bool(new)
        return new

    def hold(self, amount: int, calls: int) -> None:
        """Add to what is held, or take from it."""
        self.reserved = min(max(0, self.reserved + amount), LARGEST)
        self.held = max(0, self.held + calls)
        self.is_changed = True

    def spend(self, amount: int) -> None:
        """Add to what is spent, or take from it."""
        self.spent = min(max(0, self.spent + amount), LARGEST)
        self.is_changed = True

    def is_over(self, now: int) -> bool:
        """Whether there is nothing left that could count."""
        if self.account.rolling:
            return not self.held and self.oldest is None and not self.announced(now)
        return not self.held and now >= self.account.end + SLACK_NS

    def values(self, forget_at: int | None) -> tuple[object, ...]:
        """Return the row without its id."""
        bits = json.dumps(self.bits)
        counts = (self.spent, self.reserved, self.held, self.entries)
        return (*counts, bits, forget_at)


def _lease(hold: Hold) -> int:
    rolling = hold.account.rolling
    return min(hold.lease, rolling) if rolling else hold.lease


def _bounded(hold: Hold) -> Hold:
    return hold._replace(amount=min(hold.amount, LARGEST))
