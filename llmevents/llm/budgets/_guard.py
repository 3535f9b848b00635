"""Reserving before a call and settling after it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

from llmevents._errors import BudgetExceededError, OptionError
from llmevents._tally import Tally
from llmevents.llm import _active
from llmevents.llm.budgets._announcer import Announcer, key_of
from llmevents.llm.budgets._budget import Budget
from llmevents.llm.budgets._memory import MemoryBudgetStore
from llmevents.llm.budgets._plan import Plan, as_amount
from llmevents.llm.budgets._reservation import Claim, Reservation
from llmevents.llm.budgets._status import BudgetStatus, resets_at
from llmevents.llm.budgets._store import BudgetStore, Reading


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._clock import Clock
    from llmevents._types import Measurements, Metadata

UpperBound: TypeAlias = "Callable[[Metadata], int | None]"
"""What a call may cost at most, in nano-US-dollars; None where that is unknown."""

StoreFailure: TypeAlias = Literal["open", "closed"]


class BudgetGuard:
    """Keeps the calls of one bus within budgets.

    It is no handler: what a handler raises stops nobody, and what it counts has been
    spent already. `begin` reserves the most that a call may use, or raises; `settle`
    puts what it has used in its place. `attach` makes instrumented SDKs and the calls
    of `llmevents.llm` do so; calls within another call count as part of that one.

    Emits ``llm.budget.reserved`` and ``.settled`` for each budget of each call;
    ``.warning`` once for each warn level (metadata ``level``), and ``.exceeded`` once
    when the limit is reached, in each period of each key. A rolling window warns
    again after its length. ``.exceeded`` is also emitted, once, for the first call
    that is refused although the limit is not reached, because it may use more than
    what is left.

    May be used by any number of threads. `settle` and `release` may run in
    finalizers and signal handlers.

    Args:
        bus: Whose calls, and where to emit.
        budgets: Each under a name of its own.
        store: Where their state is kept; a `MemoryBudgetStore` unless given.
        clock: The clock of the bus unless given.
        upper_bound: Given the metadata of a call, returns the most that it may cost in
            nano-US-dollars, or None. Without it, budgets in money reserve what their
            ``reserve`` says.
        on_store_failure: What becomes of calls that a store which fails cannot check:
            ``"open"`` lets them through, uncounted; ``"closed"`` refuses those that a
            budget with ``on_exceeded="block"`` would count.

    Raises:
        OptionError: Two budgets have one name, or an option is unknown.

    Examples:
        >>> from llmevents import Bus
        >>> from llmevents.llm.budgets import Budget, BudgetExceededError, BudgetGuard
        >>> guard = BudgetGuard(
        ...     Bus(), [Budget("daily", limit=1, unit="calls", window="day")]
        ... )
        >>> reservation = guard.begin({"provider": "acme", "model": "tiny-1"})
        >>> guard.settle(reservation, {"total_tokens": 7})
        >>> try:
        ...     guard.begin({"provider": "acme", "model": "tiny-1"})
        ... except BudgetExceededError as error:
        ...     error.budget, error.spent, error.limit
        ('daily', 1, 1)
    """

    def __init__(
        self,
        bus: Bus,
        budgets: Iterable[Budget],
        store: BudgetStore | None = None,
        *,
        clock: Clock | None = None,
        upper_bound: UpperBound | None = None,
        on_store_failure: StoreFailure = "open",
    ) -> None:
        if on_store_failure not in ("open", "closed"):
            expected = "'open' or 'closed'"
            raise OptionError(on_store_failure, "on_store_failure", expected)
        self.bus = bus
        self._clock = bus.clock if clock is None else clock
        self._plans = _plans(budgets)
        self._store: BudgetStore = (
            MemoryBudgetStore(clock=self._clock) if store is None else store
        )
        self._upper_bound = upper_bound
        self._is_open = on_store_failure == "open"
        self._nothing = Reservation(self, None, ())
        self._refused = Tally()
        self._overshoots = Tally()
        self._announcer = Announcer(bus, self._store, self._clock)
        self._handler_id = ("llmevents", "budgets", next(_numbers))

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """As given."""
        return tuple([plan.budget for plan in self._plans])

    def begin(self, metadata: Metadata, *, refuse: bool = True) -> Reservation:
        """Reserve what a call may use, of all budgets that it counts for or of none.

        Args:
            metadata: What is known of the call before it: ``provider``, ``model``,
                ``operation``, ``max_tokens`` and what is in the context.
            refuse: Whether it may be refused. A call that is over can only be counted.

        Raises:
            BudgetExceededError: A budget has no room. Nothing is reserved.
        """
        claims = self._claims(metadata)
        if not refuse:
            claims = tuple([claim.unlimited() for claim in claims])
        if not claims:
            return self._nothing
        try:
            outcome = self._store.reserve([claim.hold for claim in claims])
        except Exception as error:  # noqa: BLE001  # whatever a database raises
            self._announcer.failed(error)
            if refuse:
                self._refuse_unchecked(claims, error)
            return self._nothing
        if outcome.token is None:
            claim = claims[outcome.refused]
            if not outcome.readings:
                self._refuse_unseen(claim)
            self._refuse(claim, outcome.readings[outcome.refused])
        reservation = Reservation(self, outcome.token, claims)
        try:
            self._announcer.reserved(claims, outcome.readings)
        except BaseException:
            self.release(reservation)
            raise
        return reservation

    def settle(
        self,
        reservation: Reservation,
        measurements: Measurements,
        status: str = "success",
        *,
        complete: bool = True,
    ) -> None:
        """Put what a call has used in the place of what it reserved.

        Where *measurements* do not have it, what was reserved counts as spent: a
        stream that was cut short and a call without a price are not free. An error
        before the first chunk has used nothing but one call.

        Args:
            reservation: From `begin`. One that has ended is left alone.
            measurements: Of the terminal event: ``cost_nano_usd``, ``total_tokens``,
                ``input_tokens``, ``output_tokens``.
            status: ``"success"``, ``"error"``, ``"timeout"`` or ``"cancelled"``.
            complete: Whether *measurements* are all that was used. If not, at least
                what was reserved counts.
        """
        claims = reservation.end()
        if claims:
            amounts = [
                claim.plan.spent(claim.hold, measurements, status, complete=complete)
                for claim in claims
            ]
            self._settle(reservation, claims, amounts)

    def release(self, reservation: Reservation) -> None:
        """Give back what a call holds that was never sent."""
        claims = reservation.end()
        if claims:
            self._settle(reservation, claims, [0] * len(claims))

    def status(self) -> tuple[BudgetStatus, ...]:
        """Return the state of each budget and key, in the present period.

        A budget that is per no key is always there; others as far as a call counted.
        Where the store fails, its budgets are left out.
        """
        now = self._clock.time_ns()
        found: list[BudgetStatus] = []
        for plan in self._plans:
            try:
                found += self._status(plan, now)
            except Exception as error:  # noqa: BLE001  # whatever a database raises
                self._announcer.failed(error)
        return tuple(found)

    def stats(self) -> Mapping[str, int]:
        """Return what the guard has counted since it was made.

        ``refused``: calls that were not admitted. ``overshoots``: amounts that were
        larger than reserved. ``store_failures``: what the store, or *upper_bound*,
        has raised.
        """
        return {
            "refused": self._refused.value(),
            "overshoots": self._overshoots.value(),
            "store_failures": self._announcer.failures,
        }

    def attach(self) -> None:
        """Guard the calls of the bus, also where nobody listens to their events.

        Does nothing if it does so already.
        """
        from llmevents._catalogue import INFERENCE_ENDS

        if not _active.add(self):
            return
        # A call that nobody listens to is skipped, budgets and all.
        self.bus.attach(self._handler_id, INFERENCE_ENDS, _listen)

    def detach(self) -> None:
        """Guard no more calls. Those under way are still settled."""
        if _active.remove(self):
            self.bus.detach(self._handler_id)

    def _status(self, plan: Plan, now: int) -> list[BudgetStatus]:
        accounts = self._store.accounts(plan.budget.name)
        present = [a for a in accounts if a == plan.at(a.key, now)]
        if not plan.budget.per and not present:
            present = [plan.at((), now)]
        return [
            BudgetStatus.of(plan, account, reading, now)
            for account, reading in zip(present, self._store.read(present), strict=True)
        ]

    def _claims(self, metadata: Metadata) -> tuple[Claim, ...]:
        now = self._clock.time_ns()
        ask, cost = self._upper_bound, _unknown
        if ask is not None:
            cost = _Bound(ask, metadata, self._announcer).cost
        claims: list[Claim] = []
        for plan in self._plans:
            account = plan.account(metadata, now)
            if account is not None:
                claims.append(Claim(plan, plan.hold(account, metadata, cost)))
        return tuple(claims)

    def _settle(
        self,
        reservation: Reservation,
        claims: tuple[Claim, ...],
        amounts: Sequence[int],
    ) -> None:
        for claim, amount in zip(claims, amounts, strict=True):
            if amount > claim.hold.amount:
                self._overshoots.add()
        try:
            readings = self._store.settle(reservation.token, amounts)
        except Exception as error:  # noqa: BLE001  # whatever a database raises
            self._announcer.failed(error)
        else:
            self._announcer.settled(claims, amounts, readings)

    def _refuse(self, claim: Claim, reading: Reading) -> NoReturn:
        self._refused.add()
        hold, budget = claim.hold, claim.plan.budget
        self._announcer.refused(claim, reading)
        raise BudgetExceededError(
            budget.name,
            key=key_of(hold.account),
            unit=claim.plan.unit,
            amount=hold.amount,
            limit=budget.limit,
            window=budget.window.text,
            spent=reading.spent,
            reserved=reading.reserved,
            resets_at=resets_at(hold.account, reading, self._clock.time_ns()),
        )

    def _refuse_unchecked(self, claims: Iterable[Claim], error: Exception) -> None:
        """Refuse a call that could not be checked, if it has to be."""
        for claim in claims:
            if claim.hold.limit is not None and not self._is_open:
                self._refuse_unseen(claim, error)

    def _refuse_unseen(self, claim: Claim, error: Exception | None = None) -> NoReturn:
        """Refuse a call without knowing what is spent."""
        self._refused.add()
        hold, budget = claim.hold, claim.plan.budget
        raise BudgetExceededError(
            budget.name,
            key=key_of(hold.account),
            unit=claim.plan.unit,
            amount=hold.amount,
            limit=budget.limit,
            window=budget.window.text,
        ) from error


class _Bound:
    """What a call may cost, worked out once, and only if a budget asks for it."""

    __slots__ = ("_announcer", "_ask", "_found", "_metadata")

    def __init__(
        self, ask: UpperBound, metadata: Metadata, announcer: Announcer
    ) -> None:
        self._ask = ask
        self._metadata = metadata
        self._announcer = announcer
        self._found: list[int | None] = []

    def cost(self) -> int | None:
        """Return nano-US-dollars, or None where it is unknown."""
        if not self._found:
            self._found.append(self._work_out())
        return self._found[0]

    def _work_out(self) -> int | None:
        try:
            return as_amount(self._ask(self._metadata))
        except Exception as error:  # noqa: BLE001  # a user's function
            self._announcer.failed(error, "upper_bound of budgets")
            return None


def _plans(budgets: Iterable[Budget]) -> tuple[Plan, ...]:
    plans: dict[str, Plan] = {}
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise OptionError(budget, "each of budgets", "a Budget")
        if budget.name in plans:
            expected = "the only one of its name; give each budget its own"
            raise OptionError(budget.name, "a budget", expected)
        plans[budget.name] = Plan(budget)
    return tuple(plans.values())


def _unknown() -> int | None:
    """Return what a call may cost where there is nobody to ask."""
    return None


def _listen(*_: object) -> None:
    """Be somebody who listens."""


_numbers = itertools.count(1)
