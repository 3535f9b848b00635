"""Prices as people write them, in a file or in code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timezone
from difflib import get_close_matches
from fractions import Fraction
from typing import NamedTuple

from llmevents._errors import OptionError
from llmevents.llm._money import to_usd
from llmevents.llm.pricing._units import COUNTED, TOKENS, Prices, Stepped


PER = 1_000_000
"""Tokens that a price is for, unless it says another number."""

RATES = frozenset({*TOKENS, *COUNTED})
STEP_KEYS = RATES | {"above"}
TIER_KEYS = RATES | {"tiers"}
TABLE_KEYS = TIER_KEYS | {"per", "from", "until", "service_tiers", "source", "checked"}


class Table(NamedTuple):
    """The prices of one model in one period.

    Attributes:
        prices: Those of an ordinary call.
        service_tiers: Tier -> what differs there; ``"batch"`` is one.
        start: First day, included; None: always.
        end: Day before which it ends; None: never.
        source: Where the prices are from, as said.
        checked: The day on which somebody looked there, as said.
    """

    prices: Prices
    service_tiers: Mapping[str, Prices]
    start: date | None
    end: date | None
    source: str
    checked: date | None

    def holds_on(self, day: date) -> bool:
        """Return whether these are the prices of *day*."""
        return (self.start is None or self.start <= day) and (
            self.end is None or day < self.end
        )

    def prices_of(self, tier: str | None) -> Prices:
        """Return the prices of a service tier, an ordinary call's where unsaid."""
        return {**self.prices, **self.service_tiers.get(tier or "", {})}


def read_tables(key: str, given: object) -> tuple[Table, ...]:
    """Read the prices of one model: one table, or a list of them by period.

    Raises:
        OptionError: Something in it is wrong; the message says what, and where.
    """
    option = f"price of {key!r}"
    if not isinstance(given, list):
        return (_read_table(given, option),)
    if not given:
        raise OptionError(given, option, "a table, or a list of one table or more")
    return tuple(
        _read_table(table, f"{option}, table {position}")
        for position, table in enumerate(given, 1)
    )


def _read_table(given: object, option: str) -> Table:
    table = _mapping(given, option, TABLE_KEYS)
    per = table.get("per", PER)
    if isinstance(per, bool) or not isinstance(per, int) or per < 1:
        expected = "a number of tokens, such as 1000 or 1000000"
        raise OptionError(per, f"{option}, per", expected)
    tiers = table.get("service_tiers", {})
    if not isinstance(tiers, Mapping):
        expected = "a table of tables, such as {flex = {input = 1}}"
        raise OptionError(tiers, f"{option}, service_tiers", expected)
    start, end = (_day(table.get(key), f"{option}, {key}") for key in ("from", "until"))
    if start is not None and end is not None and start >= end:
        raise OptionError(end, f"{option}, until", f"a day after {start}")
    read = Table(
        prices=_prices(table, per, option),
        service_tiers={
            str(name).lower(): _prices(
                _mapping(tier, f"{option}, service tier {name!r}", TIER_KEYS),
                per,
                f"{option}, service tier {name!r}",
            )
            for name, tier in tiers.items()
        },
        start=start,
        end=end,
        source=str(table.get("source", "")),
        checked=_day(table.get("checked"), f"{option}, checked"),
    )
    if not read.prices and not any(read.service_tiers.values()):
        expected = f"a table with one price or more, such as {_names(RATES)}"
        raise OptionError(given, option, expected)
    return read


def _prices(table: Mapping[str, object], per: int, option: str) -> Prices:
    base = dict(_rates(table, per, option))
    steps: dict[str, list[tuple[int, Fraction]]] = {unit: [] for unit in base}
    for start, step in _steps(table.get("tiers", []), option):
        for unit, rate in _rates(step, per, f"{option}, tier above {start}"):
            if unit not in base:
                expected = f"to price what the table itself prices too ({unit})"
                raise OptionError(dict(step), f"{option}, tier above {start}", expected)
            steps[unit].append((start, rate))
    return {unit: Stepped(rate, tuple(steps[unit])) for unit, rate in base.items()}


def _steps(given: object, option: str) -> list[tuple[int, Mapping[str, object]]]:
    if not isinstance(given, list):
        expected = "a list of tables, such as [{above = 200000, input = 2.5}]"
        raise OptionError(given, f"{option}, tiers", expected)
    steps: list[tuple[int, Mapping[str, object]]] = []
    for position, step in enumerate(given, 1):
        read = _mapping(step, f"{option}, tier {position}", STEP_KEYS)
        above = read.get("above")
        if isinstance(above, bool) or not isinstance(above, int) or above < 0:
            expected = "a number of input tokens, such as 200000"
            raise OptionError(above, f"{option}, tier {position}, above", expected)
        steps.append((above, read))
    starts = [start for start, _ in steps]
    if len(set(starts)) < len(starts):
        raise OptionError(starts, f"{option}, tiers", "each above another number")
    return sorted(steps, key=lambda step: step[0])


def _rates(
    table: Mapping[str, object], per: int, option: str
) -> Iterator[tuple[str, Fraction]]:
    """Yield the prices in a table: unit and US dollars for one of them."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if key in TOKENS:
            unit, size = TOKENS[key], per
        elif key in COUNTED:
            unit, size = COUNTED[key]
        else:
            continue
        if unit in found:
            expected = f"left out, because {found[unit]} prices the same"
            raise OptionError(value, f"{option}, {key}", expected)
        found[unit] = key
        yield unit, to_usd(value, f"{option}, {key}") / size


def _mapping(
    given: object, option: str, known: frozenset[str] | set[str]
) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        expected = "a table, such as {input = 2.5, output = 10}"
        raise OptionError(given, option, expected)
    for key in given:
        if key not in known:
            expected = (
                f"without the key {str(key)!r}; {_remedy(key, given[key], known)}"
            )
            raise OptionError(dict(given), option, expected)
    return given


def _remedy(key: object, value: object, known: frozenset[str] | set[str]) -> str:
    near = get_close_matches(str(key), sorted(known), 1)
    if near:
        return f"do you mean {near[0]!r}"
    if isinstance(value, Mapping):
        return "a name with dots has quotes around it in TOML: [prices.models.'m-1.5']"
    return f"known: {_names(known)}"


def _names(keys: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(keys))


def _day(given: object, option: str) -> date | None:
    """Read a day, in UTC: a date, a moment, or ISO text."""
    if isinstance(given, str):
        try:
            return date.fromisoformat(given)
        except ValueError:
            pass
    elif isinstance(given, datetime):
        moment = given if given.tzinfo else given.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc).date()
    elif given is None or isinstance(given, date):
        return given
    raise OptionError(given, option, "a day such as 2025-06-10")
