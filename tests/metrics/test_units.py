"""Units are converted exactly, where integers allow it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.metrics import (
    Counter,
    Distribution,
    Histogram,
    LastValue,
    MetricDefinitionError,
    Sum,
)
from llmevents.metrics._units import UNITS, convert, scale
from tests.metrics.readings import attached, value


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("nanosecond", "second", Fraction(1, 10**9)),
        ("second", "millisecond", Fraction(1000)),
        ("minute", "hour", Fraction(1, 60)),
        ("day", "hour", Fraction(24)),
        ("byte", "kilobyte", Fraction(1, 1000)),
        ("byte", "kibibyte", Fraction(1, 1024)),
        ("mebibyte", "megabyte", Fraction(1048576, 1000000)),
        ("ratio", "percent", Fraction(100)),
        ("nano_usd", "cent", Fraction(1, 10**7)),
        ("usd", "nano_usd", Fraction(10**9)),
    ],
)
def test_a_pair_of_units_has_its_ratio(
    source: str, target: str, factor: Fraction
) -> None:
    assert Sum("a.b", unit=(source, target)).scale == factor
    assert Sum("a.b", unit=(target, source)).scale == 1 / factor
    assert Sum("a.b", unit=(source, target)).unit == target


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.integers())
def test_there_and_back_is_where_one_was(one: str, other: str, number: int) -> None:
    if UNITS[one].quantity != UNITS[other].quantity:
        with pytest.raises(MetricDefinitionError, match="use two units of one"):
            scale("x", one, other)
        return
    factor = scale("x", one, other)
    assert Fraction(number) * factor / factor == number
    assert convert(number, factor) == float(number * factor) or isinstance(
        convert(number, factor), int
    )


def test_integers_stay_integers_where_they_can() -> None:
    assert convert(2_000_000_000, Fraction(1, 10**9)) == 2
    assert type(convert(2_000_000_000, Fraction(1, 10**9))) is int
    assert convert(5, Fraction(1, 10**6)) == 5e-06
    assert convert(2.5, Fraction(1000)) == 2500.0


@pytest.mark.parametrize(
    ("unit", "complaint"),
    [
        (("byte", "second"), "byte measures size, second time; use two units of one"),
        (("second", "fortnight"), "'fortnight', which is not known; use nanosecond, "),
        (("second", None), "None, which is not known"),
        (("a", "b", "c"), "pass its name, or a pair to convert from and to"),
        (3, "unit is 3; pass its name, or a pair"),
    ],
)
def test_a_unit_that_cannot_be_used_is_refused(unit: object, complaint: str) -> None:
    with pytest.raises(MetricDefinitionError, match=complaint):
        Counter("a.b", unit=unit)  # type: ignore[arg-type]  # what is being tested


def test_what_is_added_up_is_not_what_is_shown() -> None:
    """A sum of converted floats would drift; three times 0.1 is not 0.3."""
    bus, store = attached(
        Sum("job.cost", unit=("nano_usd", "usd")),
        LastValue("last", event="job", measurement="cost", unit=("nano_usd", "cent")),
    )

    for _ in range(3):
        bus.execute("job", {"cost": 100_000_000})

    assert value(store, "job.cost") == 0.3
    assert value(store, "last") == 10
    (series,) = store.snapshot().families["job.cost"].series
    assert series.raw == 300_000_000


def test_a_bound_is_meant_as_it_is_written() -> None:
    """0.01 s are ten million nanoseconds, and not a little more or less."""
    bus, store = attached(
        Distribution("job.time", unit=("nanosecond", "second"), buckets=(0.01, 0.07))
    )

    for time in (10_000_000, 10_000_001, 70_000_000, 70_000_001):
        bus.execute("job", {"time": time})

    (series,) = store.snapshot().families["job.time"].series
    assert series.value == Histogram((0.01, 0.07), (1, 2, 1), 0.160000002)


def test_definitions_of_one_name_may_convert_from_different_units() -> None:
    bus, store = attached(
        Sum("time", event="a.b", measurement="ns", unit=("nanosecond", "millisecond")),
        Sum("time", event="a.c", measurement="s", unit=("second", "millisecond")),
    )

    bus.execute("a.b", {"ns": 1_500_000})
    bus.execute("a.c", {"s": 2})
    bus.execute("a.c", {})

    assert value(store, "time") == 2001.5
