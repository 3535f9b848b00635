"""What can be asked of a ledger, and what the answers can tell."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import OptionError
from llmevents.ledger import COLUMNS
from llmevents.ledger._query import (
    ALL,
    COUNTS,
    DERIVED,
    GROUPINGS,
    SUMS,
    UNIQUE,
    Comparison,
    Filter,
    Grouping,
    Totals,
    Unique,
    compare,
    top,
)
from tests.ledger.plain_engine import PlainEngine, totals


NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def test_groupings_and_sums_are_columns() -> None:
    """Or one that is added to the records would be forgotten here."""
    kinds = {column.name: column.kind for column in COLUMNS}
    assert set(GROUPINGS) == set(get_args(Grouping))
    assert {kinds[column] for column in GROUPINGS.values()} == {"text", "timestamp"}
    assert {kinds[column] for column in UNIQUE} == {"text"}
    assert {name for name in kinds if name.endswith("_tokens")} == {
        *(name for name in SUMS if name.endswith("_tokens")),
        "max_tokens",
    }
    assert {kinds[name] for name in SUMS} == {"integer"}
    assert set(SUMS) <= {part.name for part in fields(Totals)}
    assert len(UNIQUE) == len(Unique._fields)


def test_a_window_is_stated_as_records_state_their_time() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    where = Filter(since=NOON, until=datetime(2026, 11, 22, 0, 0, 0, 1, tzinfo=east))
    assert where.window == (
        "2026-11-21T12:00:00.000000Z",
        "2026-11-21T18:30:00.000001Z",
    )
    assert ALL.window == (None, None)
    early = Filter(since=datetime(1, 1, 1, tzinfo=timezone.utc))
    assert early.window[0] == "0001-01-01T00:00:00.000000Z"


def test_a_filter_says_which_columns_have_to_be_what() -> None:
    where = Filter(user="u", session=" ", model="m", status="error")
    assert where.matches == {
        "user_id": "u",
        "session_id": " ",
        "model": "m",
        "status": "error",
    }
    assert ALL.matches == {}


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("value", [datetime(2026, 11, 21), "7d"], ids=["naive", "text"])  # noqa: DTZ001  # the mistake
def test_a_moment_without_a_time_zone_is_refused(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=rf"{name} to be a datetime with its time zo"):
        Filter(**{name: value})  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("value", [7, ""])
def test_what_says_nothing_is_refused(value: object) -> None:
    with pytest.raises(OptionError, match=f"user to be text that is not .* {value!r}"):
        Filter(user=value)  # type: ignore[arg-type]  # the mistake


def test_what_nobody_stated_is_unknown() -> None:
    nothing = Totals()
    assert nothing.to_json() == dict.fromkeys(
        [
            "calls",
            "successes",
            "failures",
            "timeouts",
            "cancelled",
            "priced",
            "unpriced",
        ],
        0,
    )
    assert [getattr(nothing, name) for name in DERIVED[1:]] == [None] * 6
    silent = totals([{"id": "1", "duration_ns": 0, "output_tokens": 5}])
    assert silent.average_ns == silent.p99_ns == 0
    assert silent.tokens_per_second is None
    assert (silent.input_tokens, silent.cost_nano_usd) == (None, None)


def test_speed_is_of_the_calls_that_state_output_and_duration() -> None:
    found = totals(
        [
            {"id": "1", "output_tokens": 30, "duration_ns": 2_000_000_000},
            {"id": "2", "output_tokens": 1_000},
            {"id": "3", "duration_ns": 9_000_000_000},
        ]
    )
    assert found.tokens_per_second == 15.0
    assert found.average_ns == 5_500_000_000
    assert found.to_json()["tokens_per_second"] == 15.0


def test_calls_are_priced_or_not() -> None:
    found = totals([{"id": "1"}, {"id": "2", "cost_nano_usd": 0}, {"id": "3"}])
    assert (found.calls, found.priced, found.unpriced) == (3, 1, 2)


def test_a_proportion_above_one_is_refused() -> None:
    with pytest.raises(OptionError, match="between 0 and 1"):
        Totals().quantile_ns(1.5)


records = st.lists(
    st.fixed_dictionaries(
        {"id": st.text()},
        optional={
            "status": st.sampled_from(["success", "error", "timeout", "cancelled"]),
            **dict.fromkeys((*SUMS, "duration_ns"), st.integers(0, 2**63 - 1)),
        },
    ),
    max_size=4,
)


@given(records, records)
def test_totals_of_parts_make_those_of_the_whole(
    first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    assert totals(first).merge(totals(second)) == totals(first + second)


def test_a_comparison_tells_what_changed_as_far_as_it_is_known() -> None:
    compared = Comparison(
        Totals(calls=2, cost_nano_usd=10), Totals(calls=3, cost_nano_usd=5, pages=1)
    )
    assert compared.change("calls") == 1
    assert compared.ratio("cost_nano_usd") == 0.5
    assert compared.change("pages") is compared.ratio("pages") is None
    assert compared.change("images") is compared.ratio("images") is None
    assert Comparison(Totals(), Totals(calls=1)).ratio("calls") is None


def test_models_by_cost_and_periods_are_asked_of_any_engine() -> None:
    engine = PlainEngine(
        [
            {"id": str(number), "model": model, "cost_nano_usd": number, **rest}
            for number, (model, rest) in enumerate(
                [
                    ("a", {"timestamp": "2026-11-21T11:59:59.999999Z"}),
                    ("b", {"timestamp": "2026-11-21T12:00:00.000000Z"}),
                    ("c", {}),
                ]
            )
        ]
    )
    assert [group.key for group in top(engine, limit=2)] == ["c", "b"]
    compared = compare(engine, Filter(until=NOON), Filter(since=NOON))
    assert (compared.first.cost_nano_usd, compared.second.cost_nano_usd) == (0, 1)
    assert COUNTS[0] not in compared.first.to_json()
