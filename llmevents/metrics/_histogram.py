"""What distributions and summaries come to: histograms, as values that can be kept."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, fsum, log2
from types import MappingProxyType
from typing import Any

from llmevents._errors import OptionError


SCALE = 6
"""Of the exponential histogram, as OpenTelemetry counts (metrics data model v1.41,
exponential scale): a bucket's bounds are 2**(1/64) apart, about 1.1 %."""

STEPS = 1 << SCALE
"""Buckets to a factor of two."""

LOWEST = -40 * STEPS
HIGHEST = 64 * STEPS
"""Buckets there are: 1e-12 to 1.8e19. What is beyond is counted in the outermost."""

ZERO = 0
"""The key of the bucket for zero. Positive values have positive keys."""

OFFSET = 1 - LOWEST


def key_of(value: float) -> int:
    """Return the key of the bucket that *value* falls into."""
    if value == 0:
        return ZERO
    step = ceil(log2(abs(value)) * STEPS)
    key = min(max(step, LOWEST), HIGHEST) + OFFSET
    return key if value > 0 else -key


def value_of(key: int) -> float:
    """Return the value that is within 0.6 % of all values in the bucket *key*."""
    if key == ZERO:
        return 0.0
    upper = 2.0 ** ((abs(key) - OFFSET) / STEPS)
    middle: float = upper * 2 / (1 + 2.0 ** (1 / STEPS))
    return middle if key > 0 else -middle


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values fell into each of some buckets.

    Attributes:
        bounds: Upper bounds, each included in its bucket.
        counts: Values per bucket; one more than there are bounds, for what is above.
        sum: Of all values, exact while these are integers.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: int | float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """How many values there were up to each bound, and in all."""
        return tuple(accumulate(self.counts))

    def quantile(self, q: float) -> float:
        """Return the value below which a proportion *q* of all is, by interpolation.

        As Prometheus' ``histogram_quantile`` (2.42): linear within a bucket, of which
        the first begins at 0 if its bound is positive; above the last bound, that
        bound. NaN if there are no values.

        Raises:
            OptionError: *q* is not between 0 and 1.
        """
        _check_proportion(q)
        cumulative = self.cumulative
        if not cumulative[-1]:
            return float("nan")
        rank = q * cumulative[-1]
        bucket = bisect_left(cumulative, rank)
        if bucket >= len(self.bounds):
            return float(self.bounds[-1])
        upper = self.bounds[bucket]
        if bucket == 0 and upper <= 0:
            return float(upper)
        lower = self.bounds[bucket - 1] if bucket else 0.0
        before = cumulative[bucket - 1] if bucket else 0
        inside = self.counts[bucket]
        return lower + (upper - lower) * ((rank - before) / inside if inside else 1.0)


@dataclass(frozen=True, slots=True)
class ExponentialHistogram:
    """How many values there were of each size, whatever the sizes are.

    Buckets are 2**(1/64) wide, so that a quantile is within 1 % of the true one for
    values of 1e-12 to 1.8e19, on either side of zero; what is beyond counts as the
    outermost of these. There are at most 13,315 buckets, of which those with values
    are kept. Two can be merged without any loss.

    Attributes:
        counts: Values per bucket, by key; read-only. 0 for zero, negative keys for
            negative values.
        sum: Of all values, exact while these are integers.
    """

    counts: Mapping[int, int] = field(default_factory=dict)
    sum: int | float = 0

    def __post_init__(self) -> None:
        kept = {key: self.counts[key] for key in sorted(self.counts)}
        object.__setattr__(self, "counts", MappingProxyType(kept))

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts.values())

    @property
    def minimum(self) -> float:
        """The least value, within 1 %; NaN if there is none."""
        return self.quantile(0.0)

    @property
    def maximum(self) -> float:
        """The greatest value, within 1 %; NaN if there is none."""
        return self.quantile(1.0)

    def quantile(self, q: float) -> float:
        """Return the value that a proportion *q* of all is not above, within 1 %.

        The true one is the value of rank ``ceil(q * count)`` in ascending order, and
        the first for 0. NaN if there are no values.

        Raises:
            OptionError: *q* is not between 0 and 1.
        """
        _check_proportion(q)
        rank = max(1, ceil(q * self.count))
        seen = 0
        for key, count in self.counts.items():
            seen += count
            if seen >= rank:
                return value_of(key)
        return float("nan")

    def merge(self, other: ExponentialHistogram) -> ExponentialHistogram:
        """Return the histogram of the values of both."""
        counts = dict(self.counts)
        for key, count in other.counts.items():
            counts[key] = counts.get(key, 0) + count
        return ExponentialHistogram(counts, add(self.sum, other.sum))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes: text, numbers, lists and dicts only."""
        return {
            "scale": SCALE,
            "sum": self.sum,
            "counts": [[key, count] for key, count in self.counts.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExponentialHistogram:
        """Return the histogram that *data* was made of.

        Raises:
            OptionError: It was not made by `to_json`, or with another scale.
        """
        try:
            scale, total, pairs = data["scale"], data["sum"], data["counts"]
            counts = {int(key): int(count) for key, count in pairs}
        except (KeyError, TypeError, ValueError) as error:
            expected = "a mapping of scale, sum and counts, as to_json() returns it"
            raise OptionError(data, "the histogram", expected) from error
        if scale != SCALE or not isinstance(total, (int, float)):
            expected = f"scale {SCALE} and a number as its sum"
            raise OptionError(data, "the histogram", expected)
        return cls(counts, total)


def add(one: float, other: float) -> int | float:
    """Return the sum: exact of integers, correctly rounded otherwise."""
    if type(one) is int and type(other) is int:
        return one + other
    return fsum((one, other))


def _check_proportion(q: object) -> None:
    if not isinstance(q, (int, float)) or not 0 <= q <= 1:
        raise OptionError(q, "the quantile", "a number between 0 and 1")
