"""A budget, made ready to be asked at each call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from llmevents._redact_values import as_text
from llmevents._values import clean_number
from llmevents.llm.budgets._budget import Budget
from llmevents.llm.budgets._store import Account, Hold, Reading
from llmevents.llm.budgets._units import LARGEST, UNITS
from llmevents.llm.budgets._windows import UNLIMITED


if TYPE_CHECKING:
    from llmevents._types import Measurements, Metadata

FULL = 1
"""The bit for: the limit is reached."""

REFUSED = 2
"""The bit for: a call was refused although the limit was not reached."""

_DECAY = 16
"""A guess comes down by a 16th with each smaller call, so that one large call does not
shut out others for long."""


class Plan:
    """What a guard knows of one budget.

    Attributes:
        budget: As declared.
        unit: What it counts in, as events state it.
        levels: Bit, amount and part of the limit of each warn level, in order.
        lowest: The least amount that something is to be announced at.
        guess: What a call reserves of which nothing is known.
    """

    __slots__ = (
        "_calendar",
        "_measurements",
        "_period",
        "_tests",
        "budget",
        "guess",
        "levels",
        "lowest",
        "unit",
    )

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        unit = UNITS[budget.unit]
        self.unit = unit.name
        self.guess = 0
        self.levels = tuple(_levels(budget))
        self.lowest = min([budget.limit, *(amount for _, amount, _ in self.levels)])
        self._measurements = unit.measurements
        self._tests = tuple([(key, _test(wanted)) for key, wanted in budget.match])
        self._calendar = bool(budget.window.calendar)
        self._period = UNLIMITED

    def account(self, metadata: Metadata, now_ns: int) -> Account | None:
        """Return what a call of this *metadata* is booked on, if it is at all."""
        for key, test in self._tests:
            value = metadata.get(key)
            if value is None or not test(value):
                return None
        budget = self.budget
        values: tuple[str, ...] = ()
        if budget.per:
            found = [metadata.get(key) for key in budget.per]
            if budget.missing == "skip" and any(value is None for value in found):
                return None
            values = tuple([_text(value) for value in found])
        return self.at(values, now_ns)

    def at(self, values: tuple[str, ...], now_ns: int) -> Account:
        """Return the account of a key for the present period."""
        period = self._period
        if self._calendar and not period.start <= now_ns < period.end:
            self._period = period = self.budget.window.period(now_ns)
        budget = self.budget
        return Account(budget.name, values, *period, budget.window.rolling)

    def hold(
        self, account: Account, metadata: Metadata, cost: Callable[[], int | None]
    ) -> Hold:
        """Return what a call asks of *account*.

        Args:
            account: Where it is booked.
            metadata: What is known of the call.
            cost: What it may cost at most.
        """
        budget = self.budget
        amount = self._bound(metadata, cost)
        if amount is None:
            amount = budget.reserve
        needs = amount
        if amount is None or needs is None:
            amount, needs = self.guess, 1
        limit = budget.limit if budget.on_exceeded == "block" else None
        return Hold(account, amount, needs, limit, budget.lease)

    def spent(
        self, hold: Hold, measurements: Measurements, status: str, *, complete: bool
    ) -> int:
        """Return what a call has spent, as far as it is known."""
        if not self._measurements:
            return 1
        amount = self._measured(measurements)
        if amount is None:
            if status == "error" and "time_to_first_chunk" not in measurements:
                return 0
            return hold.amount
        if not complete:
            return max(amount, hold.amount)
        guess = self.guess
        self.guess = max(amount, guess - guess // _DECAY)
        return amount

    def due(self, reading: Reading) -> int:
        """Return the bits of what is reached and has not been announced."""
        due = FULL if reading.spent >= self.budget.limit else 0
        for bit, amount, _ in self.levels:
            if reading.spent >= amount:
                due |= bit
        return due & ~reading.announced

    def _bound(self, metadata: Metadata, cost: Callable[[], int | None]) -> int | None:
        """Return the most that a call can use, if it says so."""
        unit = self.budget.unit
        if unit == "calls":
            return 1
        if self.unit == "nano_usd":
            return cost()
        longest = self.budget.max_input_tokens
        if unit == "input_tokens":
            return longest
        output = _positive(metadata.get("max_tokens"))
        if output is None:
            return None
        output *= _positive(metadata.get("choice_count")) or 1
        if unit == "tokens" and longest is not None:
            output += longest
        return min(output, LARGEST)

    def _measured(self, measurements: Measurements) -> int | None:
        for keys in self._measurements:
            total: int | None = None
            for key in keys:
                value = measurements.get(key)
                amount = None if value is None else as_amount(value)
                if amount is not None:
                    total = amount + (total or 0)
            if total is not None:
                return total
        return None


def as_amount(value: object) -> int | None:
    """Return *value* as an amount, a fraction rounded up; None where it is none."""
    if type(value) is int and 0 <= value <= LARGEST:
        return value
    number = clean_number(value)
    if number is None or number < 0:
        return None
    return min(-int(-number // 1), LARGEST)


def _positive(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return None


def _text(value: object) -> str:
    return "" if value is None else as_text(value)


def _levels(budget: Budget) -> Iterator[tuple[int, int, float]]:
    from fractions import Fraction

    for index, level in enumerate(budget.warn):
        # The part as it was written: 0.07 is a little more than seven hundredths.
        exact = Fraction(str(level)) * budget.limit
        yield 4 << index, -int(-exact // 1), level


def _test(wanted: tuple[str | int, ...]) -> Callable[[object], object]:
    """Return what says whether a value of metadata is wanted."""
    if not any(isinstance(value, str) and _is_pattern(value) for value in wanted):
        # Nothing else is compared: its own comparison may do anything.
        return lambda value: isinstance(value, (str, int)) and value in wanted
    patterns = "|".join([_regex(str(value)) for value in wanted])
    match = re.compile(patterns, re.DOTALL).fullmatch
    return lambda value: match(as_text(value))


def _regex(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def _is_pattern(value: str) -> bool:
    return "*" in value or "?" in value
