"""Looking whether what is spent is within limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from llmevents._bus import default_bus
from llmevents._errors import OptionError
from llmevents.llm._active import active_guards
from llmevents.llm.budgets._units import read_amount


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.llm.budgets._budget import Amount, Budget
    from llmevents.llm.budgets._guard import BudgetGuard
    from llmevents.llm.budgets._status import BudgetStatus

_LIMIT = re.compile(r"max_(cost|tokens|calls)_per_(\w+)")

_UNITS = {"cost": ("usd", "nano_usd"), "tokens": ("tokens",), "calls": ("calls",)}
"""What a limit is about -> its own unit, and others that count the same."""

_KEYS = frozenset({"user", "session", "task", "organization", "source"})
"""What stands for a key of metadata that ends in ``_id``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitViolation:
    """A key that has spent more than a limit.

    Attributes:
        limit: The limit's name: ``"max_cost_per_user"``, or a budget's.
        budget: The budget that counted it.
        key: Which user, task and so on.
        unit: ``"nano_usd"``, ``"token"`` or ``"call"``.
        spent: What it has spent.
        allowed: What it may spend.
    """

    limit: str
    budget: str
    key: Mapping[str, str]
    unit: str
    spent: int
    allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLimits:
    """Whether what is spent is within limits.

    Attributes:
        violations: What is not.
    """

    violations: tuple[LimitViolation, ...]

    @property
    def within_limits(self) -> bool:
        """Whether there is no violation."""
        return not self.violations


def check_usage_limits(
    *,
    bus: Bus | None = None,
    of: Mapping[str, str] | None = None,
    **limits: Amount,
) -> UsageLimits:
    """Look whether the budgets of a bus are within limits; nothing is blocked.

    Without limits, each budget is held against its own. With them, what budgets have
    counted is held against these: ``max_cost_per_user=100`` (dollars) against every
    budget in money that is per ``user_id``, whatever its own limit is.

    Args:
        bus: The default bus unless given. Its attached guards are asked.
        of: Look only at keys with this metadata: ``{"user_id": "u-1"}``.
        limits: ``max_cost_per_KEY``, ``max_tokens_per_KEY`` and
            ``max_calls_per_KEY``. ``user``, ``session``, ``task``, ``organization``
            and ``source`` stand for ``user_id`` and so on; any other is the key.

    Raises:
        OptionError: A limit is unknown or no amount, or no budget counts what it is
            about. To count without blocking, declare a budget with
            ``on_exceeded="warn"``.

    Examples:
        >>> from llmevents import Bus
        >>> from llmevents.llm.budgets import Budget, BudgetGuard, check_usage_limits
        >>> bus = Bus()
        >>> guard = BudgetGuard(
        ...     bus, [Budget("users", limit=100, per="user_id", on_exceeded="warn")]
        ... )
        >>> guard.attach()
        >>> call = guard.begin({"user_id": "u-1"})
        >>> guard.settle(call, {"cost_nano_usd": 12_000_000_000})
        >>> limits = check_usage_limits(bus=bus, max_cost_per_user=10)
        >>> limits.within_limits, limits.violations[0].key
        (False, {'user_id': 'u-1'})
        >>> guard.detach()
    """
    found = list(_counted(active_guards(default_bus if bus is None else bus)))
    violations: list[LimitViolation] = []
    for name, value in limits.items():
        limit = _Limit.read(name, value)
        counted = [pair for pair in found if limit.is_about(pair[0])]
        if not counted:
            raise OptionError(value, name, limit.uncounted())
        violations += [
            _against(name, limit.amount, status)
            for _, statuses in counted
            for status in statuses
        ]
    if not limits:
        violations = [
            _against(status.budget, status.limit, status)
            for _, statuses in found
            for status in statuses
        ]
    wanted = (of or {}).items()
    return UsageLimits(
        violations=tuple(
            violation
            for violation in violations
            if violation.spent > violation.allowed and wanted <= violation.key.items()
        )
    )


class _Limit(NamedTuple):
    """A limit by its name: what, per which key of metadata, and how much."""

    what: str
    key: str
    amount: int

    @classmethod
    def read(cls, name: str, value: object) -> _Limit:
        found = _LIMIT.fullmatch(name)
        if found is None:
            expected = (
                "max_cost_per_KEY, max_tokens_per_KEY or max_calls_per_KEY, "
                "such as max_cost_per_user"
            )
            raise OptionError(name, "a limit", expected)
        what, whose = found.groups()
        key = f"{whose}_id" if whose in _KEYS else whose
        return cls(what, key, read_amount(value, _UNITS[what][0], name))

    def is_about(self, budget: Budget) -> bool:
        return budget.unit in _UNITS[self.what] and budget.per == (self.key,)

    def uncounted(self) -> str:
        unit = _UNITS[self.what][0]
        return (
            f"left out, since no attached guard counts it; declare "
            f"Budget(..., unit={unit!r}, per={self.key!r}, on_exceeded='warn')"
        )


def _counted(
    guards: Iterable[BudgetGuard],
) -> Iterator[tuple[Budget, list[BudgetStatus]]]:
    """Yield each budget, and how it stands for each key."""
    for guard in guards:
        statuses = guard.status()
        for budget in guard.budgets:
            yield budget, [s for s in statuses if s.budget == budget.name]


def _against(name: str, allowed: int, status: BudgetStatus) -> LimitViolation:
    return LimitViolation(
        limit=name,
        budget=status.budget,
        key=status.key,
        unit=status.unit,
        spent=status.spent,
        allowed=allowed,
    )
