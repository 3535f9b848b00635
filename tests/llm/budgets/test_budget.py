"""Budgets are checked where they are written."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import OptionError
from llmevents.llm.budgets import Budget, Window, budgets_from_mapping
from llmevents.llm.budgets._mapping import OPTIONS
from llmevents.llm.budgets._windows import UNLIMITED, read_duration, read_window


def declare(**options: object) -> Budget:
    given: dict[str, Any] = {"name": "b", "limit": 1, **options}
    return Budget(**given)


def nanoseconds(*when: int) -> int:
    moment = datetime(*when, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]  # year, month, day and so on
    return int(moment.timestamp()) * 10**9


@pytest.mark.parametrize(
    ("limit", "nano"),
    [
        pytest.param(10, 10_000_000_000, id="integer"),
        pytest.param("0.50", 500_000_000, id="text"),
        pytest.param(" 1e-9 ", 1, id="exponent"),
        pytest.param(0.1, 100_000_000, id="float"),
        pytest.param(Decimal("2.000000001"), 2_000_000_001, id="decimal"),
    ],
)
def test_dollars_are_held_as_nano_dollars(limit: object, nano: int) -> None:
    assert declare(limit=limit).limit == nano


@given(st.integers(min_value=1, max_value=(1 << 63) - 1))
def test_every_amount_that_is_written_exactly_is_held_exactly(nano: int) -> None:
    dollars, rest = divmod(nano, 10**9)
    assert Budget("b", limit=f"{dollars}.{rest:09}").limit == nano
    assert Budget("b", limit=nano, unit="nano_usd").limit == nano


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(0, id="zero"),
        pytest.param(-1, id="negative"),
        pytest.param(True, id="true"),
        pytest.param(None, id="none"),
        pytest.param("ten", id="words"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param("1e999999999", id="huge"),
        pytest.param("9999999999", id="too_large_for_64_bits"),
        pytest.param("1e-999999999", id="tiny"),
        pytest.param("0.0000000001", id="a_tenth_of_a_nano_dollar"),
        pytest.param("1.0000000001", id="ten_decimals"),
        pytest.param([1], id="list"),
    ],
)
def test_what_is_no_amount_of_dollars_is_refused(limit: object) -> None:
    with pytest.raises(OptionError, match=r"expected limit to be US dollars above 0"):
        declare(limit=limit)


@pytest.mark.parametrize(
    "limit", [0, -1, 1.0, "7", True, 1 << 63], ids=lambda limit: f"{limit!r}"
)
def test_counts_are_integers(limit: object) -> None:
    with pytest.raises(OptionError, match="limit to be an integer of 1 or more, in to"):
        declare(limit=limit, unit="tokens")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"name": ""}, "name to be text that is not empty", id="name"),
        pytest.param({"unit": "euro"}, "unit to be 'usd' or 'nano_usd'", id="unit"),
        pytest.param({"unit": ["usd"]}, "unit to be", id="unit_list"),
        pytest.param({"on_exceeded": "stop"}, "'block' or 'warn'", id="on_exceeded"),
        pytest.param({"missing": "no"}, "'skip' or 'share'", id="missing"),
        pytest.param({"per": 3}, "per to be a key of metadata", id="per"),
        pytest.param({"per": ["a", ""]}, "per to be a key of metadata", id="per_empty"),
        pytest.param({"window": "hour"}, "window to be one of 'day'", id="window"),
        pytest.param({"window": 60}, "rolling window: a timedelta", id="window_number"),
        pytest.param({"window": "0s"}, "window to be one of", id="window_zero"),
        pytest.param({"window": "9999w"}, "100 years at most", id="window_long"),
        pytest.param({"timezone": "Mars/Base"}, "time zone that this", id="zone"),
        pytest.param({"timezone": "../etc"}, "time zone that this", id="zone_path"),
        pytest.param({"timezone": 1}, "IANA name of a time zone", id="zone_number"),
        pytest.param({"lease": timedelta(0)}, "lease to be a timedelta", id="lease"),
        pytest.param({"warn": [80]}, "numbers between 0 and 1", id="warn_percent"),
        pytest.param({"warn": "0.8"}, "numbers between 0 and 1", id="warn_text"),
        pytest.param({"warn": None}, "numbers between 0 and 1", id="warn_none"),
        pytest.param({"warn": ["x"]}, "numbers between 0 and 1", id="warn_words"),
        pytest.param({"match": "openai"}, "match to be a table", id="match"),
        pytest.param({"match": {"model": []}}, "match to be a table", id="match_none"),
        pytest.param({"match": {"m": 1.5}}, "match to be a table", id="match_float"),
        pytest.param({"match": {"m": [{}]}}, "match to be a table", id="match_items"),
        pytest.param({"match": {1: "a"}}, "match to be a table", id="match_key"),
        pytest.param({"reserve": 0}, "reserve to be US dollars", id="reserve"),
        pytest.param(
            {"max_input_tokens": 0}, "max_input_tokens to be an integer", id="max_input"
        ),
    ],
)
def test_bad_options_are_refused_when_declared(
    options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(OptionError, match=complaint):
        declare(**options)


def test_options_are_kept_in_one_form() -> None:
    budget = Budget(
        "b",
        limit=10,
        per=["user_id", "model", "user_id"],
        window=timedelta(hours=1),
        warn=0.9,
        match={"model": "gpt-*", "provider": ["openai", "azure"]},
        reserve="0.01",
        max_input_tokens=8_000,
        lease="90s",
    )
    assert budget.per == ("user_id", "model")
    assert budget.window == Window("1h", rolling=3_600_000_000_000)
    assert budget.warn == (0.9,)
    assert budget.match == (
        ("model", ("gpt-*",)),
        ("provider", ("openai", "azure")),
    )
    assert budget.reserve == 10_000_000
    assert budget.max_input_tokens == 8_000
    assert budget.lease == 90_000_000_000
    assert Budget("b", limit=1, per="user_id").per == ("user_id",)
    assert Budget("b", limit=1, warn=(0.95, 0.8, 0.8)).warn == (0.8, 0.95)
    assert Budget("b", limit=1, warn=()).warn == ()


def test_a_budget_is_data() -> None:
    one, same = Budget("b", limit=1), Budget("b", limit=1.0)
    assert one == same
    assert len({one, same}) == 1
    with pytest.raises(AttributeError, match="limit"):
        one.limit = 2  # type: ignore[misc]  # it is frozen, which is what is tested


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("7d", "1w"),
        ("2w", "2w"),
        ("48h", "2d"),
        ("1d", "24h"),
        ("24h", "24h"),
        ("90m", "90m"),
        ("60 s", "1m"),
        ("250ms", "250ms"),
        (timedelta(days=1, seconds=1), "86401s"),
        (timedelta(microseconds=5), "5e-06s"),
    ],
    ids=str,
)
def test_a_length_of_time_has_one_text(given: object, text: str) -> None:
    assert read_duration(given, "window")[1] == text


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        pytest.param("day", (2026, 7, 1, 12), (2026, 7, 1), (2026, 7, 2), id="day"),
        pytest.param("day", (2026, 7, 1), (2026, 7, 1), (2026, 7, 2), id="midnight"),
        pytest.param("week", (2026, 7, 1), (2026, 6, 29), (2026, 7, 6), id="week"),
        pytest.param("week", (2026, 6, 29), (2026, 6, 29), (2026, 7, 6), id="monday"),
        pytest.param("month", (2028, 2, 29), (2028, 2, 1), (2028, 3, 1), id="leap"),
        pytest.param("month", (2026, 12, 31), (2026, 12, 1), (2027, 1, 1), id="last"),
        pytest.param("month", (2026, 1, 31), (2026, 1, 1), (2026, 2, 1), id="january"),
        pytest.param("year", (2028, 2, 29), (2028, 1, 1), (2029, 1, 1), id="year"),
    ],
)
def test_periods_of_the_calendar_are_those_of_utc(
    window: str, now: tuple[int, ...], start: tuple[int, ...], end: tuple[int, ...]
) -> None:
    period = read_window(window, "UTC").period(nanoseconds(*now))
    assert period == (nanoseconds(*start), nanoseconds(*end))


def test_a_period_ends_in_the_nanosecond_in_which_the_next_begins() -> None:
    window = read_window("month", "UTC")
    end = nanoseconds(2026, 8, 1)
    assert window.period(end - 1).end == end == window.period(end).start


def test_a_day_of_another_zone_may_have_23_hours() -> None:
    """Europe/Berlin, 29 March 2026: clocks go from 2 to 3."""
    pytest.importorskip("zoneinfo")
    window = read_window("day", "Europe/Berlin")
    period = window.period(nanoseconds(2026, 3, 29, 12))
    assert period == (nanoseconds(2026, 3, 28, 23), nanoseconds(2026, 3, 29, 22))


def test_other_windows_have_no_period() -> None:
    assert read_window(None, "UTC").period(1) == UNLIMITED
    assert read_window("1h", "UTC").period(1) == UNLIMITED


def test_tables_become_budgets_in_their_order() -> None:
    users, daily = budgets_from_mapping(
        {
            "users": {
                "limit": 100_000,
                "unit": "tokens",
                "per": "user_id",
                "window": "month",
                "warn": [0.9],
            },
            "daily": {"limit": "25.00", "window": "day", "match": {"model": "gpt-*"}},
        }
    )
    assert users == Budget(
        "users",
        limit=100_000,
        unit="tokens",
        per="user_id",
        window="month",
        warn=[0.9],
    )
    assert daily == Budget("daily", limit=25, window="day", match={"model": "gpt-*"})


def test_the_options_of_a_table_are_those_of_a_budget() -> None:
    import inspect

    assert set(inspect.signature(Budget).parameters) - {"name"} == OPTIONS


@pytest.mark.parametrize(
    ("mapping", "option", "complaint"),
    [
        pytest.param([], "budgets", "a table of tables by name", id="list"),
        pytest.param({"a": 3}, "budgets.a", "a table such as", id="number"),
        pytest.param(
            {"a": {"limit": 1, "windwo": "day"}},
            "budgets.a",
            "nearest: 'window'",
            id="unknown",
        ),
        pytest.param({"a": {"per": "x"}}, "budgets.a", "has a limit", id="no_limit"),
        pytest.param(
            {"a": {"limit": 0}}, "budgets.a.limit", "US dollars above 0", id="limit"
        ),
    ],
)
def test_a_bad_table_is_refused_by_its_setting(
    mapping: dict[str, object], option: str, complaint: str
) -> None:
    with pytest.raises(OptionError, match=complaint) as refused:
        budgets_from_mapping(mapping)
    assert refused.value.option == option
