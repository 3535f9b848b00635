"""Numbers and texts as people read them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from llmevents.cli import _usage_charts as charts
from llmevents.cli import _usage_tables as tables
from llmevents.cli import _usage_text as shown
from tests.cli.usage_stores import call


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (None, shown.UNKNOWN),
        (0, "0 ns"),
        (5, "5.00 ns"),
        (820, "820 ns"),
        (999_499, "999 µs"),
        (999_999, "1.00 ms"),
        (12_345_678, "12.3 ms"),
        (999_600_000, "1.00 s"),
        (2_310_000_000, "2.31 s"),
        (59_900_000_000, "59.9 s"),
        (59_999_000_000, "1 min 0 s"),
        (192 * SECOND, "3 min 12 s"),
        (3_600 * SECOND, "1 h 0 min"),
        (8_000 * SECOND, "2 h 13 min"),
        (100 * 3_600 * SECOND, "4 d 4 h"),
    ],
)
def test_durations_have_the_unit_that_fits(nanoseconds: int | None, text: str) -> None:
    assert shown.duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (None, shown.UNKNOWN),
        (0, "$0.00"),
        (1, "<$0.000001"),
        (-1, "-<$0.000001"),
        (1_234, "$0.000001"),
        (517_000, "$0.000517"),
        (1_350_000, "$0.0014"),
        (-2_500_000_000, "-$2.5000"),
        (99_999_000_000, "$99.9990"),
        (1_234_567_890_000_000, "$1,234,567.89"),
    ],
)
def test_money_has_as_many_decimals_as_it_takes(nano: int | None, text: str) -> None:
    assert shown.money(nano) == text


@pytest.mark.parametrize("odd", ["abc", "5", 1.5, True, [], {}, float("nan")])
def test_what_is_no_number_is_unknown(odd: object) -> None:
    """A file of JSON lines may hold anything."""
    assert shown.count(odd) == shown.UNKNOWN
    assert shown.money(odd) == shown.money(odd, 2) == shown.UNKNOWN
    assert shown.duration(odd) == shown.UNKNOWN
    assert shown.decimals_for([odd]) == shown.decimals_for([])


def test_money_of_a_column_has_the_same_decimals() -> None:
    amounts = [123_000_000_000, 517_000, None, 0]
    decimals = shown.decimals_for(amounts)

    assert [shown.money(one, decimals) for one in amounts] == [
        "$123.000000",
        "$0.000517",
        shown.UNKNOWN,
        "$0.000000",
    ]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, 1, shown.UNKNOWN),
        (1, None, shown.UNKNOWN),
        (0, 0, "="),
        (0, 3, "new"),
        (4, 5, "+25.0 %"),
        (4, 3, "-25.0 %"),
        (4, 4, "="),
        (10_000, 10_001, "+<0.1 %"),
        (10_000, 9_999, "-<0.1 %"),
        (2, 50, "25 times"),
    ],
)
def test_changes_are_those_that_people_can_imagine(
    before: int | None, after: int | None, text: str
) -> None:
    assert shown.change(before, after) == text


def test_what_is_there_is_no_share_of_nothing() -> None:
    assert shown.share(0, 0) == shown.UNKNOWN
    assert shown.share(0, 7) == "0.0 %"
    assert shown.share(1, 1_000_000) == "<0.1 %"
    assert shown.share(1, 3) == "33.3 %"


def test_texts_are_shown_and_do_nothing() -> None:
    assert shown.name("a\x1bb") == "a\\x1bb"
    assert shown.name("") == shown.UNKNOWN
    assert shown.name(None, "nobody") == "nobody"
    assert shown.moment("2026-11-21T09:30:00.000001Z") == "2026-11-21 09:30:00"
    assert shown.moment("\x1b") == "\\x1b"
    assert shown.moment(None) == shown.UNKNOWN


@pytest.mark.parametrize(
    ("proportion", "blocks", "ascii_only"),
    [
        (0.0, "", ""),
        (0.001, "▏", "#"),
        (0.5, "████", "####"),
        (0.55, "████▍", "#####"),
        (3.0, "████████", "########"),
    ],
)
def test_a_bar_is_as_long_as_its_part(
    proportion: float, blocks: str, ascii_only: str
) -> None:
    assert charts.bar(proportion, 8) == blocks
    assert charts.bar(proportion, 8, is_unicode=False) == ascii_only


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert charts.sparkline([0, 1, 50, 100]) == "▁▂▅█"
    assert charts.sparkline([0, 0]) == "▁▁"
    assert charts.sparkline([]) == ""
    assert charts.sparkline([0, 100], is_unicode=False) == "_#"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "ok"),
        ({"status": "error"}, "error"),
        ({"status": "error", "error_type": "X", "http_status": 429}, "X 429"),
        ({"status": "timeout", "error_type": "X"}, "X"),
        ({"status": "cancelled"}, "cancelled"),
    ],
)
def test_an_outcome_is_what_went_wrong(facts: dict[str, object], text: str) -> None:
    assert tables.outcome(call(1, **facts)) == text  # type: ignore[arg-type]  # none of these is the number of hours


def test_a_narrow_terminal_is_not_overrun() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80)
    records = [
        call(1, model="a-model-of-a-name-that-is-long", cost_nano_usd=517_000),
        call(2, status="error", error_type="ATypeOfErrorThatIsLong", http_status=500),
    ]

    console.print(tables.records(console, records))

    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "User" not in lines[0]
    assert "$0.000517" in file.getvalue()
