"""The events of budgets."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmevents._tally import Tally
from llmevents._throttle import FailureLog
from llmevents.llm.budgets._plan import FULL, REFUSED
from llmevents.llm.budgets._reservation import Claim
from llmevents.llm.budgets._store import Account, BudgetStore, Reading


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._clock import Clock
    from llmevents._types import EventName

RESERVED = ("llm", "budget", "reserved")
SETTLED = ("llm", "budget", "settled")
WARNING = ("llm", "budget", "warning")
EXCEEDED = ("llm", "budget", "exceeded")

MOST = 10_000
"""Settled calls that are told of later, at most; of more the oldest are not."""


class Announcer:
    """Says what has happened to budgets; what is to be said once, once.

    Args:
        bus: Where to emit.
        store: Which knows what has been said.
        clock: For the log of failures.
    """

    __slots__ = ("_bus", "_failures", "_late", "_log", "_store")

    def __init__(self, bus: Bus, store: BudgetStore, clock: Clock) -> None:
        self._bus = bus
        self._store = store
        self._failures = Tally()
        self._log = FailureLog(clock)
        # Settled in the middle of the store's work, or while it was away, so that it
        # could not say how it stands.
        self._late: deque[tuple[Sequence[Claim], Sequence[int]]] = deque(maxlen=MOST)

    @property
    def failures(self) -> int:
        """How many there were."""
        return self._failures.value()

    def failed(self, error: Exception, what: str = "store of budgets") -> None:
        """Count a failure, and log it."""
        self._failures.add()
        self._log.report(what, error)

    def reserved(self, claims: Sequence[Claim], readings: Sequence[Reading]) -> None:
        """Say that amounts are reserved. Without readings there is nothing to say."""
        if readings:
            amounts = [claim.hold.amount for claim in claims]
            self._tell(RESERVED, claims, amounts, readings)
        self._catch_up()

    def settled(
        self,
        claims: Sequence[Claim],
        amounts: Sequence[int],
        readings: Sequence[Reading] | None,
    ) -> None:
        """Say that *amounts* are spent; without readings, later."""
        if readings is None:
            self._late.append((claims, amounts))
            return
        self._tell(SETTLED, claims, amounts, readings)
        self._catch_up()

    def refused(self, claim: Claim, reading: Reading) -> None:
        """Say that a call was refused, if it is the first one."""
        if not reading.announced & (FULL | REFUSED):
            is_full = reading.spent + reading.reserved >= claim.plan.budget.limit
            bit = FULL if is_full else REFUSED
            if self._first_to_say(claim.hold.account, bit):
                self._emit(EXCEEDED, claim, claim.hold.amount, reading)
        self._catch_up()

    def _catch_up(self) -> None:
        while self._late:
            claims, amounts = self._late.popleft()
            try:
                readings = self._store.read([claim.hold.account for claim in claims])
            except Exception as error:  # noqa: BLE001  # whatever a database raises
                self.failed(error)
                self._late.appendleft((claims, amounts))
                return
            self._tell(SETTLED, claims, amounts, readings)

    def _tell(
        self,
        event: EventName,
        claims: Sequence[Claim],
        amounts: Sequence[int],
        readings: Sequence[Reading],
    ) -> None:
        """Emit what has happened to each budget, and what it has come to."""
        wanted = self._bus.has_handlers(event)
        for claim, amount, reading in zip(claims, amounts, readings, strict=True):
            if wanted:
                self._emit(event, claim, amount, reading)
            if reading.spent >= claim.plan.lowest:
                self._announce(claim, amount, reading)

    def _announce(self, claim: Claim, amount: int, reading: Reading) -> None:
        due = claim.plan.due(reading)
        new = self._first_to_say(claim.hold.account, due) if due else 0
        for bit, _, level in claim.plan.levels:
            if new & bit:
                self._emit(WARNING, claim, amount, reading, level)
        if new & FULL:
            self._emit(EXCEEDED, claim, amount, reading)

    def _first_to_say(self, account: Account, bits: int) -> int:
        try:
            return self._store.announce(account, bits)
        except Exception as error:  # noqa: BLE001  # whatever a database raises
            self.failed(error)
            return 0

    def _emit(
        self,
        event: EventName,
        claim: Claim,
        amount: int,
        reading: Reading,
        level: float | None = None,
    ) -> None:
        plan = claim.plan
        limit = plan.budget.limit
        measurements = {
            "amount": amount,
            "spent": reading.spent,
            "limit": limit,
            "ratio": reading.spent / limit,
        }
        metadata: dict[str, object] = {
            "budget": plan.budget.name,
            "unit": plan.unit,
            "key": key_of(claim.hold.account),
            "window": plan.budget.window.text,
        }
        if level is not None:
            metadata["level"] = level
        self._bus.execute(event, measurements, metadata)


def key_of(account: Account) -> str:
    """Return for people whose account it is."""
    return ", ".join(account.key)
