"""Numbers, charts, rates and columns of the console reporter, one by one."""

from __future__ import annotations

import io
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.metrics import (
    Counter,
    Distribution,
    ExponentialHistogram,
    Family,
    Histogram,
    Series,
)
from llmevents_console._amounts import merge, spread
from llmevents_console._charts import Shape, bar, shape, sparkline
from llmevents_console._history import COLUMNS, History
from llmevents_console._layout import Column, fitting, table
from llmevents_console._metric_tables import Row, activity, distributions, values
from llmevents_console._paper import Paper, short_names
from llmevents_console._readable import (
    dollars,
    duration,
    estimate,
    exact,
    exact_dollars,
    rate,
    readable,
)
from llmevents_console._text import Charset


UNICODE = Charset()
ASCII = Charset("ascii")


# --- Numbers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "nanosecond", "0 ns"),
        (850, "nanosecond", "850 ns"),
        (12_500, "nanosecond", "12.5 us"),
        (0.8204, "second", "820 ms"),
        (999.4, "millisecond", "999 ms"),
        (999.5, "millisecond", "1.00 s"),
        (9_995, "millisecond", "10.0 s"),
        (59.9, "second", "59.9 s"),
        (60, "second", "1 min 0 s"),
        (192, "second", "3 min 12 s"),
        (90, "minute", "1 h 30 min"),
        (52, "hour", "2 d 4 h"),
        (1e6, "day", "1,000,000 d 0 h"),
        (-0.0025, "second", "-2.50 ms"),
        (-192, "second", "-3 min 12 s"),
        (0.25, "nanosecond", "0.250 ns"),
        (512, "byte", "512 B"),
        (2_048, "byte", "2.05 kB"),
        (3.5, "megabyte", "3.50 MB"),
        (1, "gibibyte", "1.07 GB"),
        (5e18, "byte", "5,000,000 TB"),
        (0.25, "ratio", "25.0 %"),
        (12.34, "percent", "12.3 %"),
        (0.012, "percent", "0.012 %"),
        (0, "percent", "0.0 %"),
        (123_460_000, "nano_usd", "$0.1235"),
        (12.346, "cent", "$0.1235"),
        (1234.5, "usd", "$1,234.5000"),
        (-2, "usd", "-$2.0000"),
        (0, "cent", "$0.0000"),
        (7, "nano_usd", "<$0.0001"),
        (-7, "nano_usd", "-<$0.0001"),
        (1_234_567, "page", "1,234,567 page"),
        (1_234.5, "", "1,234.5"),
        (Fraction(1, 4), "page", "0.25 page"),
    ],
)
def test_values_are_shown_in_units_that_fit(
    value: float | Fraction, unit: str, text: str
) -> None:
    assert readable(value, unit) == text


@pytest.mark.parametrize("name", ["llm.tokens.total", "llm.token.n", "input_tokens"])
def test_a_unit_that_the_name_has_is_not_repeated(name: str) -> None:
    assert readable(5, "token", name) == "5"
    assert readable(5, "token", "llm.sum") == "5 token"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234.56, "token", "1,235"),
        (45.678, "token", "45.7"),
        (0.0001234, "", "0.000123"),
        (2e15, "", "2e+15"),
        (0.0, "", "0"),
        (2.34, "second", "2.34 s"),
    ],
)
def test_quantiles_have_three_digits(value: float, unit: str, text: str) -> None:
    assert estimate(value, unit) == text


@pytest.mark.parametrize(
    ("per_second", "unit", "text"),
    [
        (0.0, "", "0/s"),
        (12.34, "", "12.3/s"),
        (10_301.2, "token", "10,301/s"),
        (0.075, "", "4.50/min"),
        (0.005, "usd", "$0.3000/min"),
        (2_500_000.0, "byte", "2.50 MB/s"),
        (0.5, "second", "500 ms/s"),
    ],
)
def test_rates_are_per_second_or_minute(
    per_second: float, unit: str, text: str
) -> None:
    assert rate(per_second, unit) == text


@given(st.integers(-(2**63), 2**63))
def test_no_nano_dollar_is_lost_where_numbers_are_exact(nano_usd: int) -> None:
    text = exact_dollars(Fraction(nano_usd, 10**9))
    assert Fraction(text.replace("$", "").replace(",", "")) == Fraction(nano_usd, 10**9)
    assert len(text.partition(".")[2]) >= 4


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_exact_numbers_can_be_read_back(value: float) -> None:
    assert float(exact(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_number_can_be_shown(value: float) -> None:
    for unit in ("nanosecond", "byte", "usd", "percent", "ratio", "", "token"):
        assert readable(value, unit).isprintable()
    assert duration(value)
    assert dollars(Fraction(value))


# --- Charts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([0.0, 0.0], "▁▁"),
        ([1.0], "█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([0.0, 1e-9, 1.0], "▁▂█"),
    ],
)
def test_a_sparkline_is_as_high_as_its_values(numbers: list[float], text: str) -> None:
    """What is not nothing does not look like nothing."""
    assert sparkline(numbers, UNICODE) == text


def test_charts_have_an_ascii_form() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], ASCII) == "_.:-=+*#"
    assert bar(0.5, 10, ASCII) == "#####"
    assert Charset("cp1252").is_unicode is False


@pytest.mark.parametrize(
    ("proportion", "text"),
    [
        (0, ""),
        (-1, ""),
        (1e-9, "▏"),
        (0.5, "██"),
        (0.6, "██▍"),
        (1, "████"),
        (9, "████"),
    ],
)
def test_a_bar_is_as_long_as_its_proportion(proportion: float, text: str) -> None:
    assert bar(proportion, 4, UNICODE) == text


@pytest.mark.parametrize(
    ("histogram", "expected"),
    [
        (Histogram((1, 2, 4), (0, 3, 1, 0), 0), Shape(1, 4, [3, 1])),
        (Histogram((1, 2, 4), (1, 0, 0, 2), 0), Shape(0.0, None, [1, 0, 0, 2])),
        (Histogram((-1, 2), (1, 0, 0), 0), Shape(None, -1, [1])),
        (Histogram((1, 2, 4), (0, 0, 0, 0), 0), Shape(None, None, [])),
        (ExponentialHistogram(), Shape(None, None, [])),
    ],
)
def test_a_chart_goes_from_the_first_value_to_the_last(
    histogram: Histogram | ExponentialHistogram, expected: Shape
) -> None:
    assert shape(histogram, 10) == expected


@given(st.lists(st.integers(0, 9), min_size=2, max_size=50), st.integers(1, 20))
def test_a_chart_loses_no_values_and_is_no_wider_than_asked(
    counts: list[int], width: int
) -> None:
    histogram = Histogram(tuple(range(len(counts) - 1)), tuple(counts), 0)
    exponential = ExponentialHistogram(dict(enumerate(counts, start=-9)))
    for each in (histogram, exponential):
        columns = shape(each, width).counts
        assert sum(columns) == sum(counts)
        assert len(columns) <= width


# --- Rates -----------------------------------------------------------------------


def test_a_rate_is_of_the_last_ten_seconds() -> None:
    history = History()
    assert (history.seconds, history.rate("n"), history.rates("n")) == (0, None, [])
    history.add(0.0, {"n": 1000})
    assert history.rate("n") is None
    for second in range(1, 31):
        history.add(float(second), {"n": 1000 + max(0, second - 20) * 5})
    assert history.rate("n") == 5
    assert history.seconds == 30
    assert history.rates("n") == [0] * 10 + [5] * 5
    assert history.rate("m") == 0


def test_looks_that_are_rare_still_make_a_rate() -> None:
    history = History()
    for minute in range(3):
        history.add(minute * 60.0, {"n": minute * minute * 60})
    assert history.rate("n") == 3
    assert history.rates("n") == [1, 3]


def test_a_total_that_was_reset_has_not_gone_backwards() -> None:
    history = History()
    history.add(0.0, {"n": 100})
    history.add(2.0, {"n": 0})
    assert history.rate("n") == 0


def test_two_looks_at_one_moment_make_no_rate() -> None:
    history = History()
    history.add(1.0, {"n": 0})
    history.add(1.0, {"n": 9})
    assert history.rate("n") is None
    assert history.rates("n") == [0]


def test_history_is_bounded() -> None:
    history = History()
    for second in range(1000):
        history.add(float(second), {"n": second})
    assert len(history.rates("n")) == COLUMNS
    assert history.seconds <= 2 * COLUMNS


# --- Columns ---------------------------------------------------------------------


def column(width: int, rank: int = 0, *, is_text: bool = False) -> Column:
    return Column(header="h", cells=["x" * width], rank=rank, is_text=is_text)


def test_columns_that_matter_least_are_left_out_first() -> None:
    columns = [column(5), column(5, 3), column(5, 1), column(5, 2)]
    kept = [
        [each.rank for each in fitting(columns, width)] for width in (5, 12, 19, 26)
    ]
    assert kept == [[0], [0, 1], [0, 1, 2], [0, 3, 1, 2]]


def test_texts_are_cut_for_what_matters_and_not_for_the_rest() -> None:
    text = column(40, is_text=True)
    assert fitting([text, column(5, 2)], 19) == [text, column(5, 2)]
    assert fitting([text, column(5, 3)], 19) == [text]
    assert fitting([text, column(5, 3)], 23) == [text, column(5, 3)]


def test_the_text_gets_what_is_left() -> None:
    from rich.console import Console

    stream = io.StringIO()
    columns = [
        Column(header="name", cells=["表" * 30, "a" * 30], is_text=True),
        Column(header="two\nrows", cells=["1", "0"]),
    ]
    Console(file=stream, width=30).print(table(columns, 30, UNICODE))
    assert stream.getvalue().splitlines() == [
        "                           two",
        "name                      rows",
        "────────────────────────  ────",
        "表表表表表表表表表表表…      1",
        "aaaaaaaaaaaaaaaaaaaaaaa…     0",
    ]


def test_headers_and_totals_are_bold_and_zeros_are_dim() -> None:
    errors = Column(header="errors", cells=["0", "3", "3"], style="red")
    text = table([errors], 30, UNICODE, bold=2)
    styles = [
        (text.plain[span.start : span.end].strip(), span.style) for span in text.spans
    ]
    assert [pair for pair in styles if pair[0]] == [
        ("errors", "bold "),
        ("0", "dim"),
        ("3", "red"),
        ("3", "bold red"),
    ]


def test_names_lose_what_all_of_them_have() -> None:
    assert short_names([]) == []
    assert short_names(["a.b.total"]) == ["total"]
    assert short_names(["a.x.n.total", "a.y_z.n.total"]) == ["x", "y z"]


def test_short_names_stay_different() -> None:
    paper = Paper(width=40, charset=UNICODE)
    assert paper.names(["llm.cost.usd", "llm.size.bytes"]) == ["cost", "size"]
    same = ["llm.cost.usd.total", "llm.cost.cents.total"]
    assert paper.names(same) == same


# --- Tables ----------------------------------------------------------------------


def test_histograms_of_one_metric_are_put_together() -> None:
    one, two = Histogram((1, 2), (1, 0, 2), 7), Histogram((1, 2), (0, 5, 1), 8)
    assert merge([one, two, 5]) == Histogram((1, 2), (1, 5, 3), 0)
    assert merge([5]) is None
    many = ExponentialHistogram({1: 2, 3: 1}), ExponentialHistogram({3: 2})
    assert merge(many) == ExponentialHistogram({1: 2, 3: 3})


def test_tables_that_are_cut_say_so() -> None:
    counter = Counter("a.n")
    sizes = Distribution("a.size", buckets=(1, 2))
    counters = [Family(counter, (Series({}, 1),))] * 3
    histogram = Histogram((1, 2), (1, 0, 0), 1)
    spreading = [Family(sizes, (Series({}, histogram),)), Family(sizes, ())]
    paper = Paper(width=60, charset=UNICODE)
    for made in (
        activity(counters, History(), paper, 1),
        distributions([*spreading, *spreading], paper, 2),
        values([Row(family) for family in counters], paper, 1),
    ):
        assert "and 2 more" in _text(made)
    assert spread(spreading[1]) is None
    rows = _text(distributions(spreading, paper, 2)).splitlines()
    assert rows[-1].split() == ["a", "size", "0"]


def test_a_series_that_is_a_distribution_has_a_number_of_values() -> None:
    """Elsewhere the series of a distribution have one row together."""
    series = Series({"k": "v"}, Histogram((1, 2), (1, 2, 0), 1))
    family = Family(Distribution("a.size", buckets=(1, 2), tags=("k",)), (series,))
    made = values([Row(family, series)], Paper(width=60, charset=UNICODE), 9)
    assert _text(made).splitlines()[-1].split() == ["a", "size", "k=v", "3", "values"]


def _text(made: object) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=60).print(made)
    return stream.getvalue()
