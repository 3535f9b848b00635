"""The protocol behind which the state of budgets is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Account(NamedTuple):
    """What amounts are booked on: one budget, one key, one period."""

    budget: str
    """The budget's name."""

    key: tuple[str, ...]
    """The values of the metadata that the limit is per; empty if it is per none."""

    start: int
    """Where the period of the calendar begins, in nanoseconds since the Unix epoch; 0
    where there is none."""

    end: int
    """Where it ends; 0 likewise."""

    rolling: int
    """Length of the rolling window in nanoseconds; 0 where there is none."""


class Hold(NamedTuple):
    """What a call asks of one account."""

    account: Account
    """Which one."""

    amount: int
    """To hold until the call is settled."""

    needs: int
    """The room that there must be: *amount*, or 1 where that is a guess."""

    limit: int | None
    """Spent, reserved and *needs* together must not exceed it. None refuses nothing."""

    lease: int
    """Nanoseconds after which the amount is given back by itself."""


class Reading(NamedTuple):
    """The state of an account."""

    spent: int
    """Settled amounts of the period, or of the rolling window."""

    reserved: int
    """What calls under way hold."""

    announced: int
    """The bits that `BudgetStore.announce` has set."""

    frees_in: int | None
    """Nanoseconds until the oldest amount leaves the rolling window; None where there
    is none."""


class Outcome(NamedTuple):
    """What `BudgetStore.reserve` has done."""

    token: object | None
    """Stands for the reservation; None if it was refused."""

    readings: tuple[Reading, ...]
    """For each hold, up to the one that was refused, the account after it; empty if
    nobody could look."""

    refused: int = -1
    """Index of the first hold that found no room, or -1."""


class BudgetStore(Protocol):
    """Where budgets keep what is spent and reserved.

    Every method is one atomic step, for all threads and all processes that share the
    store, and may be called from any thread. `settle` and `announce` may also be
    called by a finalizer or a signal handler while the same thread is in the middle
    of any of these methods, and must not wait for it.

    An amount belongs to the moment of its reservation: to the period of the calendar
    that it was asked for in, and in a rolling window for its length from then on.
    When that window is over before the call is, what the call used beyond its
    reservation counts from when it is settled.
    """

    def reserve(self, holds: Sequence[Hold], /) -> Outcome:
        """Hold all amounts, or none of them if one finds no room.

        Reservations that were not settled within their lease, or within the rolling
        window if that is shorter, are given back first.
        """

    def settle(
        self, token: object, amounts: Sequence[int], /
    ) -> tuple[Reading, ...] | None:
        """Replace what is held by what was spent, in the order of the holds.

        Called at most once for a token. What was spent counts in full, whatever the
        limit is, and also if the lease is over. An amount of 0 releases.

        Returns:
            For each hold the account after it. None: it could not be done at once,
            and will be done before anything else that the store is asked for.
        """

    def announce(self, account: Account, bits: int, /) -> int:
        """Set *bits*, and return those of them that were not set.

        They stay set for the period; in a rolling window, for its length.
        """

    def read(self, accounts: Sequence[Account], /) -> tuple[Reading, ...]:
        """Return the state of each account; of an unknown one, zeros."""

    def accounts(self, budget: str, /) -> list[Account]:
        """Return the accounts of a budget that something was booked on."""
