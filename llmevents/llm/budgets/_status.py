"""How budgets stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmevents.llm._windows import utc_datetime
from llmevents.llm.budgets._store import Account, Reading


if TYPE_CHECKING:
    from datetime import datetime

    from llmevents.llm.budgets._plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """How one budget stands for one key, in the present period.

    Attributes:
        budget: Its name.
        unit: ``"nano_usd"``, ``"token"`` or ``"call"``, of all amounts.
        key: The metadata that the limit is per, with this key's values.
        window: As declared: ``"month"``, ``"24h"``, or ``"total"``.
        spent: What calls have used.
        reserved: What calls under way hold.
        limit: The limit.
        resets_at: When the period ends or, in a rolling window, the oldest amount
            leaves it; in UTC. None if never, or if nothing is in the window.
    """

    budget: str
    unit: str
    key: dict[str, str]
    window: str
    spent: int
    reserved: int
    limit: int
    resets_at: datetime | None

    @property
    def ratio(self) -> float:
        """Spent over limit."""
        return self.spent / self.limit

    @property
    def remaining(self) -> int:
        """What is neither spent nor reserved; 0 if the limit is exceeded."""
        return max(0, self.limit - self.spent - self.reserved)

    @classmethod
    def of(
        cls, plan: Plan, account: Account, reading: Reading, now_ns: int
    ) -> BudgetStatus:
        """Return the status that *reading* gives."""
        budget = plan.budget
        return cls(
            budget=budget.name,
            unit=plan.unit,
            key=dict(zip(budget.per, account.key, strict=True)),
            window=budget.window.text,
            spent=reading.spent,
            reserved=reading.reserved,
            limit=budget.limit,
            resets_at=resets_at(account, reading, now_ns),
        )


def resets_at(account: Account, reading: Reading, now_ns: int) -> datetime | None:
    """Return when an account has room again by itself, if it will have."""
    if account.end:
        return utc_datetime(account.end)
    return None if reading.frees_in is None else utc_datetime(now_ns + reading.frees_in)
