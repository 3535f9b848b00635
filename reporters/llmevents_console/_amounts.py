"""What series come to, added up."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from llmevents.metrics import (
    Counter,
    Distribution,
    ExponentialHistogram,
    Family,
    Histogram,
    Series,
    Sum,
    Summary,
    Value,
)
from llmevents_console._readable import DOLLARS, estimate


Amount: TypeAlias = int | float | Fraction
"""A total. Money is a fraction, so that nothing of it is lost."""

Buckets: TypeAlias = Histogram | ExponentialHistogram
"""What values are distributed like."""


class Spread(NamedTuple):
    """A distribution of values, and their unit."""

    values: Buckets
    unit: str

    def quantile(self, q: float) -> str:
        """Return a quantile as a person reads it; blank if there are no values."""
        return estimate(self.values.quantile(q), self.unit) if self.values.count else ""


def adds_up(family: Family) -> bool:
    """Whether the series of a metric can be added to each other."""
    return isinstance(family.definition, (Counter, Sum))


def spreads(family: Family) -> bool:
    """Whether a metric is about how values are distributed."""
    return isinstance(family.definition, (Distribution, Summary))


def only_grows(family: Family) -> bool:
    """Whether a rate of the metric means anything."""
    definition = family.definition
    return isinstance(definition, Counter) or (
        isinstance(definition, Sum) and definition.monotonic
    )


def amount(series: Series, unit: str) -> Amount:
    """Return what a series came to, in *unit*; of a distribution, how many values."""
    raw = series.raw
    if isinstance(raw, (Histogram, ExponentialHistogram)):
        return raw.count
    if unit in DOLLARS:
        return Fraction(raw) * series.scale
    value = series.value
    return value if isinstance(value, (int, float)) else value.count


def total(family: Family) -> Amount:
    """Return what all series of a metric came to together."""
    unit = family.definition.unit
    return sum((amount(series, unit) for series in family.series), start=0)


def spread(family: Family) -> Spread | None:
    """Return the distribution of all series of a metric; None if it is of no such."""
    merged = merge(series.value for series in family.series)
    return None if merged is None else Spread(merged, family.definition.unit)


def merge(values: Iterable[Value]) -> Buckets | None:
    """Return the distribution of all values together; numbers are left out.

    Histograms have to have the same bounds, as those of one metric do.
    """
    counts: dict[int, int] = {}
    histograms: list[Histogram] = []
    exponential = None
    for value in values:
        if isinstance(value, Histogram):
            histograms.append(value)
        elif isinstance(value, ExponentialHistogram):
            exponential = value
            for key, count in value.counts.items():
                counts[key] = counts.get(key, 0) + count
    if exponential is not None:
        return ExponentialHistogram(counts)
    if not histograms:
        return None
    columns = zip(*(each.counts for each in histograms), strict=True)
    return Histogram(histograms[0].bounds, tuple(map(sum, columns)), 0)
