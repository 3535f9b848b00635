"""Budgets: limits on money, tokens and calls, held before a call is sent.

>>> from llmevents.llm.budgets import Budget, BudgetGuard
>>> import llmevents
>>> guard = BudgetGuard(
...     llmevents.default_bus,
...     [Budget("users", limit=100_000, unit="tokens", per="user_id", window="month")],
... )
>>> guard.attach()
>>> guard.detach()
"""

from llmevents._errors import BudgetExceededError
from llmevents.llm._active import active_guards, reserve
from llmevents.llm.budgets._budget import Budget
from llmevents.llm.budgets._guard import BudgetGuard
from llmevents.llm.budgets._limits import (
    LimitViolation,
    UsageLimits,
    check_usage_limits,
)
from llmevents.llm.budgets._mapping import budgets_from_mapping
from llmevents.llm.budgets._memory import MemoryBudgetStore
from llmevents.llm.budgets._reservation import Reservation
from llmevents.llm.budgets._status import BudgetStatus
from llmevents.llm.budgets._store import Account, BudgetStore, Hold, Outcome, Reading
from llmevents.llm.budgets._windows import Window


__all__ = [
    "Account",
    "Budget",
    "BudgetExceededError",
    "BudgetGuard",
    "BudgetStatus",
    "BudgetStore",
    "Hold",
    "LimitViolation",
    "MemoryBudgetStore",
    "Outcome",
    "Reading",
    "Reservation",
    "UsageLimits",
    "Window",
    "active_guards",
    "budgets_from_mapping",
    "check_usage_limits",
    "reserve",
]
