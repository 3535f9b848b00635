"""Whether what the records come to is within limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from decimal import Decimal
from math import isfinite
from typing import Literal, TypeAlias

from llmevents._errors import OptionError
from llmevents.ledger._query import ALL, Engine, Filter, Grouping
from llmevents.llm._money import to_nano


Amount: TypeAlias = "float | str | Decimal"
"""US dollars."""

Alert: TypeAlias = "Callable[[Excess], object]"

FIRST = 100
"""Groups that are looked at before it is known that there are more to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A limit that is exceeded, or nearly so.

    Attributes:
        limit: Its name: ``"max_cost_per_user"``.
        key: Which user or task; None for a limit of all calls together.
        unit: ``"nano_usd"``, ``"token"``, ``"call"`` or ``"nanosecond"``.
        found: What the calls come to.
        allowed: What they may come to.
    """

    limit: str
    key: str | None
    unit: str
    found: int
    allowed: int

    @property
    def is_violation(self) -> bool:
        """Whether it is exceeded."""
        return self.found > self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageCheck:
    """What a check has found.

    Attributes:
        violations: Limits that are exceeded, the greatest excess of each first.
        notices: Limits that will soon be.
    """

    violations: tuple[Excess, ...]
    notices: tuple[Excess, ...] = ()

    @property
    def within_limits(self) -> bool:
        """Whether there is no violation."""
        return not self.violations


def check_usage(
    engine: Engine,
    where: Filter = ALL,
    *,
    max_cost_per_task: Amount | None = None,
    max_cost_per_user: Amount | None = None,
    max_tokens_per_user: int | None = None,
    max_tokens: int | None = None,
    max_failures: int | None = None,
    max_average_ms: float | None = None,
    notice: float = 1.0,
    alert: Alert | None = None,
) -> UsageCheck:
    """Look whether what the records come to is within limits.

    It is about what was recorded, by any process and at any time. To block calls, or
    to look at what is spent right now without reading records, use
    `llmevents.llm.budgets`.

    Args:
        engine: Of the store.
        where: Which calls: `today` or `this_month`, say.
        max_cost_per_task: In US dollars.
        max_cost_per_user: Likewise.
        max_tokens_per_user: Input and output together.
        max_tokens: Of all calls together.
        max_failures: Errors and timeouts.
        max_average_ms: Mean duration of the calls, in milliseconds.
        notice: From which part of a limit on it is told as a notice: 0.9 for 90 %.
        alert: Called with each violation, and then with each notice.

    Raises:
        OptionError: A limit is negative or no number, or *notice* not above 0 and at
            most 1.
        OSError: The store cannot be read.

    """
    limits = _Limits(engine, where, _part(notice, "notice"))
    found = [
        *limits.of_costs("max_cost_per_task", "task", max_cost_per_task),
        *limits.of_costs("max_cost_per_user", "user", max_cost_per_user),
        *limits.of_tokens("max_tokens_per_user", max_tokens_per_user),
        *limits.of_all(max_tokens, max_failures, max_average_ms),
    ]
    check = UsageCheck(
        violations=tuple(excess for excess in found if excess.is_violation),
        notices=tuple(excess for excess in found if not excess.is_violation),
    )
    if alert is not None:
        for excess in (*check.violations, *check.notices):
            alert(excess)
    return check


def today(now: datetime) -> Filter:
    """Return what selects the calls of the day in UTC.

    Raises:
        OptionError: *now* has no time zone.
    """
    midnight = _utc(now).replace(hour=0, minute=0, second=0, microsecond=0)
    return Filter(since=midnight)


def this_month(now: datetime) -> Filter:
    """Return what selects the calls of the month in UTC.

    Raises:
        OptionError: *now* has no time zone.
    """
    first = _utc(now).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Filter(since=first)


def check_day(
    engine: Engine,
    *,
    now: datetime,
    max_tokens: int = 1_000_000,
    max_failures: int = 100,
    max_average_ms: float = 5_000,
    alert: Alert | None = None,
) -> UsageCheck:
    """Look whether today is an ordinary day. Otherwise as `check_usage`."""
    return check_usage(
        engine,
        today(now),
        max_tokens=max_tokens,
        max_failures=max_failures,
        max_average_ms=max_average_ms,
        alert=alert,
    )


def check_quotas(
    engine: Engine,
    *,
    now: datetime,
    max_tokens_per_user: int = 100_000,
    notice: float = 0.9,
    user: str | None = None,
    alert: Alert | None = None,
) -> UsageCheck:
    """Look whether users are within their tokens of this month.

    Args:
        engine: Of the store.
        now: With its time zone; the month is that of UTC.
        max_tokens_per_user: Input and output together.
        notice: From which part on it is told that it will soon be used up.
        user: Look at this one alone.
        alert: Called with each violation, and then with each notice.

    Raises:
        OptionError: As `check_usage`.
        OSError: The store cannot be read.
    """
    return check_usage(
        engine,
        replace(this_month(now), user=user),
        max_tokens_per_user=max_tokens_per_user,
        notice=notice,
        alert=alert,
    )


class _Limits:
    """What some calls come to, held against limits."""

    def __init__(self, engine: Engine, where: Filter, notice: Decimal) -> None:
        self._engine = engine
        self._where = where
        self._notice = notice

    def of_costs(
        self, name: str, grouping: Grouping, limit: Amount | None
    ) -> Iterator[Excess]:
        """Yield who has cost too much, the dearest first."""
        if limit is None:
            return
        allowed = to_nano(limit, name)
        for key, found in self._dearest(grouping, "cost_nano_usd", allowed):
            yield Excess(
                limit=name, key=key, unit="nano_usd", found=found, allowed=allowed
            )

    def of_tokens(self, name: str, limit: int | None) -> Iterator[Excess]:
        """Yield which users have used too many tokens, the greediest first."""
        if limit is None:
            return
        allowed = _count(limit, name)
        for key, found in self._dearest("user", "total_tokens", allowed):
            yield Excess(
                limit=name, key=key, unit="token", found=found, allowed=allowed
            )

    def of_all(
        self, tokens: int | None, failures: int | None, average_ms: float | None
    ) -> Iterator[Excess]:
        """Yield what is too much of all calls together."""
        if tokens is failures is average_ms is None:
            return
        totals = self._engine.summary(self._where)
        average = _nanoseconds(average_ms, "max_average_ms")
        for name, unit, found, limit in (
            ("max_tokens", "token", totals.total_tokens, tokens),
            ("max_failures", "call", totals.failures, failures),
            ("max_average_ms", "nanosecond", totals.average_ns, average),
        ):
            if limit is None:
                continue
            allowed = _count(limit, name)
            if found is not None and self._is_told(found, allowed):
                yield Excess(
                    limit=name, key=None, unit=unit, found=found, allowed=allowed
                )

    def _dearest(
        self,
        grouping: Grouping,
        order: Literal["cost_nano_usd", "total_tokens"],
        allowed: int,
    ) -> Iterator[tuple[str, int]]:
        """Yield keys that have used more than they may, and how much they have."""
        limit = FIRST
        while True:
            groups = self._engine.by(grouping, self._where, order=order, limit=limit)
            used = [(group.key, getattr(group.totals, order) or 0) for group in groups]
            if len(groups) < limit or not self._is_told(used[-1][1], allowed):
                break
            limit *= 4
        for key, found in used:
            if key is not None and self._is_told(found, allowed):
                yield key, found

    def _is_told(self, found: int, allowed: int) -> bool:
        return found > allowed or (self._notice < 1 and found > self._notice * allowed)


def _count(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise OptionError(value, name, "an integer of 0 or more")


def _part(value: object, name: str) -> Decimal:
    if isinstance(value, (int, float)) and 0 < value <= 1:
        return Decimal(repr(float(value)))
    raise OptionError(value, name, "a number above 0 and at most 1")


def _nanoseconds(milliseconds: object, name: str) -> int | None:
    if milliseconds is None:
        return None
    if (
        isinstance(milliseconds, (int, float))
        and not isinstance(milliseconds, bool)
        and isfinite(milliseconds)
        and milliseconds >= 0
    ):
        return round(milliseconds * 1_000_000)
    raise OptionError(milliseconds, name, "a number of milliseconds, 0 or more")


def _utc(now: datetime) -> datetime:
    if now.utcoffset() is None:
        expected = "a datetime with its time zone, such as timezone.utc"
        raise OptionError(now, "now", expected)
    return now.astimezone(timezone.utc)
