"""What one call holds of the budgets that it counts for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmevents import _forksafe
from llmevents.llm.budgets._plan import Plan
from llmevents.llm.budgets._store import Hold


if TYPE_CHECKING:
    from llmevents._types import Measurements
    from llmevents.llm.budgets._guard import BudgetGuard


class Claim(NamedTuple):
    """What a reservation holds of one budget."""

    plan: Plan
    hold: Hold

    def unlimited(self) -> Claim:
        """Return the same for a call that nobody can refuse."""
        return self._replace(hold=self.hold._replace(limit=None))


class Reservation:
    """What one call holds of the budgets that it counts for.

    Made by `BudgetGuard.begin`. It ends once, in the process that it began in;
    further ends do nothing.
    """

    __slots__ = ("_claims", "_ending", "_generation", "_guard", "_token")

    def __init__(
        self, guard: BudgetGuard, token: object, claims: tuple[Claim, ...]
    ) -> None:
        self._guard = guard
        self._token = token
        self._claims = claims
        # To pop it is one step, which only one thread takes.
        self._ending = [True] if claims else []
        self._generation = _forksafe.registry.generation

    @property
    def token(self) -> object:
        """What stands for it in the store."""
        return self._token

    @property
    def amounts(self) -> dict[str, int]:
        """What was reserved, by the name of the budget."""
        return {claim.hold.account.budget: claim.hold.amount for claim in self._claims}

    def settle(
        self,
        measurements: Measurements,
        status: str = "success",
        *,
        complete: bool = True,
    ) -> None:
        """See `BudgetGuard.settle`."""
        self._guard.settle(self, measurements, status, complete=complete)

    def release(self) -> None:
        """See `BudgetGuard.release`."""
        self._guard.release(self)

    def end(self) -> tuple[Claim, ...]:
        """Return what is to be settled, to whoever asks first."""
        if self._generation != _forksafe.registry.generation:
            return ()
        try:
            self._ending.pop()
        except IndexError:
            return ()
        return self._claims
