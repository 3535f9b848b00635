"""Histograms: every value is in its bucket, and quantiles are as good as promised."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import OptionError
from llmevents.metrics import (
    Distribution,
    ExponentialHistogram,
    Histogram,
    MetricDefinitionError,
    Sum,
    Summary,
)
from llmevents.metrics._histogram import HIGHEST, LOWEST, OFFSET, key_of, value_of
from tests.metrics.readings import attached


SIZES = st.one_of(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(1e-9, 1e18),
    st.floats(-1e18, -1e-9),
)


def distribution(*numbers: float, buckets: tuple[float, ...]) -> Histogram:
    bus, store = attached(Distribution("a.b", buckets=buckets))
    for number in numbers:
        bus.execute("a", {"b": number})
    (series,) = store.snapshot().families["a.b"].series
    assert isinstance(series.value, Histogram)
    return series.value


def summary(*numbers: float) -> ExponentialHistogram:
    bus, store = attached(Summary("a.b"))
    for number in numbers:
        bus.execute("a", {"b": number})
    (series,) = store.snapshot().families["a.b"].series
    assert isinstance(series.value, ExponentialHistogram)
    return series.value


# --- Distributions -------------------------------------------------------------------


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    """R-11: ``le`` of Prometheus is inclusive."""
    found = distribution(1, 1.0, 1.0001, 5, 6, buckets=(1, 5))

    assert found.counts == (2, 2, 1)
    assert found.cumulative == (2, 4, 5)
    assert found.count == 5
    assert found.sum == 14.0001


@given(
    st.lists(SIZES, min_size=1),
    st.lists(st.floats(-1e6, 1e6), min_size=1, unique=True).map(sorted),
)
def test_every_value_is_in_one_bucket(
    numbers: list[float], bounds: list[float]
) -> None:
    found = distribution(*numbers, buckets=tuple(bounds))

    assert found.count == len(numbers)
    for bound, count in zip(bounds, found.cumulative, strict=False):
        assert count == sum(number <= bound for number in numbers)


def test_the_default_buckets_are_those_of_the_genai_conventions() -> None:
    seconds = Distribution("a.b", unit=("nanosecond", "second")).buckets
    milliseconds = Distribution("a.b", unit="millisecond").buckets
    tokens = Distribution("a.b", unit="token").buckets

    assert seconds[:5] == (0.01, 0.02, 0.04, 0.08, 0.16)
    assert seconds[-1] == 81.92
    assert len(seconds) == 14
    assert milliseconds[:3] == (10.0, 20.0, 40.0)
    assert tokens[:4] == (1, 4, 16, 64)
    assert tokens[-1] == 67_108_864


@pytest.mark.parametrize(
    ("buckets", "complaint"),
    [
        ((), "pass 1 to 1,000 upper bounds"),
        ((2, 1), "each larger than the one before"),
        ((1, 1), "each larger than the one before"),
        (range(3), "pass 1 to 1,000 upper bounds"),
        ((1, math.inf), "bound inf is no finite number; leave infinity out"),
        ((1, "2"), "bound '2' is no finite number"),
        ((True, 2), "bound True is no finite number"),
    ],
)
def test_buckets_that_make_no_sense_are_refused(
    buckets: object, complaint: str
) -> None:
    """R-06, R-07."""
    with pytest.raises(MetricDefinitionError, match=complaint):
        Distribution("a.b", buckets=buckets)  # type: ignore[arg-type]  # what is being tested


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        pytest.param((0, 10, 0), 0.5, 1.5, id="in the middle of a bucket"),
        pytest.param((10, 0, 0), 0.5, 0.5, id="the first bucket begins at 0"),
        pytest.param((0, 0, 10), 0.5, 2.0, id="above the last bound"),
        pytest.param((0, 0, 0), 0.5, math.nan, id="nothing"),
        pytest.param((5, 5, 0), 1, 2.0, id="all"),
        pytest.param((0, 10, 0), 0, 1.0, id="none, and the first bucket is empty"),
    ],
)
def test_a_quantile_is_interpolated(
    counts: tuple[int, ...], q: float, expected: float
) -> None:
    found = Histogram((1, 2), counts, 0).quantile(q)

    assert found == expected or math.isnan(found) is math.isnan(expected) is True


def test_a_first_bound_that_is_not_positive_is_its_buckets_quantile() -> None:
    assert Histogram((-1, 1), (10, 0, 0), 0).quantile(0.5) == -1.0


@pytest.mark.parametrize("q", [-0.1, 1.1, "x", math.nan])
def test_a_quantile_that_is_no_proportion_is_refused(q: float) -> None:
    for histogram in (Histogram((1,), (1, 0), 1), ExponentialHistogram({1: 1})):
        with pytest.raises(OptionError, match="quantile to be a number between 0 and"):
            histogram.quantile(q)


# --- Summaries -----------------------------------------------------------------------


@given(st.lists(SIZES, min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_one_percent(numbers: list[float], q: float) -> None:
    found = summary(*numbers)
    ordered = sorted(numbers)
    true = ordered[max(1, math.ceil(q * len(ordered))) - 1]

    assert found.count == len(numbers)
    assert abs(found.quantile(q) - true) <= abs(true) * 0.01
    assert abs(found.minimum - ordered[0]) <= abs(ordered[0]) * 0.01
    assert abs(found.maximum - ordered[-1]) <= abs(ordered[-1]) * 0.01


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_size_has_a_bucket_of_a_bounded_number(number: float) -> None:
    key = key_of(number)

    assert abs(key) <= HIGHEST - LOWEST + 1
    assert (key > 0) == (number > 0)
    assert key_of(-number) == -key
    if 1e-9 < number < 1e18:
        upper = 2.0 ** ((key - OFFSET) / 64)
        assert upper / 1.0110 < number <= upper * (1 + 1e-12)


def test_zero_and_negative_values_are_counted_too() -> None:
    found = summary(-4, 0, 0, 2)

    assert list(found.counts.values()) == [1, 2, 1]
    assert found.sum == -2
    assert found.quantile(0.5) == 0.0
    assert value_of(0) == 0.0
    assert math.isnan(ExponentialHistogram().quantile(0.5))


@given(st.lists(SIZES), st.lists(SIZES))
def test_merging_is_the_same_as_counting_together(
    one: list[int], other: list[int]
) -> None:
    whole = [int(number) for number in (*one, *other)]
    parts = [
        summary(*map(int, numbers)) if numbers else ExponentialHistogram()
        for numbers in (one, other)
    ]

    together = summary(*whole) if whole else ExponentialHistogram()
    assert parts[0].merge(parts[1]) == together


def test_sums_of_floats_are_merged_correctly_rounded() -> None:
    parts = summary(0.1), summary(0.2)

    assert parts[0].merge(parts[1]).sum == 0.1 + 0.2


@given(st.lists(SIZES, min_size=1))
def test_what_was_stored_comes_back(numbers: list[float]) -> None:
    found = summary(*numbers)

    assert ExponentialHistogram.from_json(json.loads(json.dumps(found.to_json()))) == (
        found
    )


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"scale": 6, "sum": 1, "counts": 3},
        {"scale": 6, "sum": 1, "counts": [["x", 1]]},
        {"scale": 5, "sum": 1, "counts": []},
        {"scale": 6, "sum": None, "counts": []},
    ],
)
def test_what_no_histogram_was_stored_as_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="expected the histogram to be"):
        ExponentialHistogram.from_json(data)


def test_a_summary_counts_in_the_unit_that_is_shown() -> None:
    """Or histograms of different sources could not be merged."""
    bus, store = attached(
        Summary("t", event="a", measurement="ns", unit=("nanosecond", "second")),
        Summary("t", event="b", measurement="ms", unit=("millisecond", "second")),
    )

    bus.execute("a", {"ns": 2_000_000_000})
    bus.execute("b", {"ms": 2_000})

    (series,) = store.snapshot().families["t"].series
    assert series.value == ExponentialHistogram({key_of(2): 2}, 4)


def test_definitions_of_one_name_must_have_the_same_buckets() -> None:
    bus, store = attached(Sum("x.n"))
    del bus, store
    with pytest.raises(MetricDefinitionError, match="with buckets"):
        attached(
            Distribution("d", event="a", measurement="n", buckets=(1, 2)),
            Distribution("d", event="b", measurement="n", buckets=(1, 3)),
        )
