"""Histograms as values: which ones are sent for what is counted in buckets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, copysign, inf, log2
from typing import NamedTuple

from llmevents.metrics import ExponentialHistogram, Histogram
from llmevents_statsd._numbers import countable


LINES = 100
"""Of one series at a time at most; past that each stands for several values."""

_STEPS: int = 2 ** ExponentialHistogram().to_json()["scale"]
"""Buckets of an exponential histogram to a factor of two."""


class Bucket(NamedTuple):
    """Values that came in between two bounds.

    Attributes:
        key: What it is known by in its histogram.
        values: How many there were.
    """

    key: int
    values: int
    low: float
    high: float


def bucket_counts(value: Histogram | ExponentialHistogram) -> dict[int, int]:
    """Return how many values there were, by bucket."""
    if isinstance(value, Histogram):
        return {key: count for key, count in enumerate(value.counts) if count}
    return dict(value.counts)


def bounds(
    value: Histogram | ExponentialHistogram, key: int, factor: float
) -> tuple[float, float]:
    """Return between what the values of a bucket are, times *factor*."""
    if isinstance(value, ExponentialHistogram):
        inside = ExponentialHistogram({key: 1}).quantile(0.0)
        if not inside:
            return 0.0, 0.0
        step = ceil(log2(abs(inside)) * _STEPS)
        near, far = (
            copysign(2.0 ** (each / _STEPS), inside) * factor
            for each in (step - 1, step)
        )
        return min(near, far), max(near, far)
    first = value.bounds[0]
    low = value.bounds[key - 1] if key else min(0.0, first)
    high = value.bounds[key] if key < len(value.bounds) else inf
    return low * factor, high * factor


def place(buckets: Sequence[Bucket], total: float) -> tuple[list[float], float]:
    """Return a value for each bucket, so that together they come to *total*.

    All lie equally far along in their buckets. A single value comes out as it was.

    Returns:
        The values, and what they come to: the nearest to *total* that there is.
    """
    buckets = [_closed(bucket, buckets, total) for bucket in buckets]
    least = sum(bucket.values * bucket.low for bucket in buckets)
    most = sum(bucket.values * bucket.high for bucket in buckets)
    share = (total - least) / (most - least) if most > least else 0.0
    share = min(1.0, max(0.0, share))
    values = [bucket.low + (bucket.high - bucket.low) * share for bucket in buckets]
    return values, min(most, max(least, total))


def _closed(bucket: Bucket, buckets: Sequence[Bucket], total: float) -> Bucket:
    """Return *bucket*; the one without an upper bound, as what is left for it."""
    if bucket.high != inf:
        return bucket
    others = sum(
        other.values * (other.low + other.high) / 2
        for other in buckets
        if other.high != inf
    )
    value = max(bucket.low, (total - others) / bucket.values)
    return bucket._replace(low=value, high=value)


class Placed(NamedTuple):
    """Values of one bucket, and what is sent for each."""

    key: int
    values: int
    value: float


class Slice(NamedTuple):
    """Values that one line stands for.

    Attributes:
        size: How many.
        value: Their mean.
        buckets: How many of them are from which bucket.
    """

    size: int
    value: float
    buckets: tuple[tuple[int, int], ...]


def slices(placed: Sequence[Placed], per_line: int | None) -> Iterator[Slice]:
    """Yield what the lines stand for: a bucket each, or so many values each.

    Args:
        placed: In ascending order.
        per_line: None for a line per bucket. Otherwise neighbouring buckets share
            lines where they have to, and what is left over goes into a smaller one
            in the middle, where it weighs least.
    """
    if per_line is None:
        for key, values, value in placed:
            for size in parts(values):
                yield Slice(size, value, ((key, size),))
        return
    full, rest = divmod(sum(each.values for each in placed), per_line)
    below = full // 2
    left = list(reversed(placed))
    for size in (*[per_line] * below, *parts(rest), *[per_line] * (full - below)):
        yield _slice(left, size)


def _slice(left: list[Placed], size: int) -> Slice:
    """Take *size* values off the end of *left*."""
    needed, together = size, 0.0
    buckets = []
    while needed:
        key, values, value = left.pop()
        taken = min(values, needed)
        if taken < values:
            left.append(Placed(key, values - taken, value))
        buckets.append((key, taken))
        together += taken * value
        needed -= taken
    return Slice(size, together / size, tuple(buckets))


def parts(count: int) -> Iterator[int]:
    """Yield numbers that a server counts exactly, and that add up to *count*."""
    while count:
        part = countable(count)
        yield part
        count -= part


def values_per_line(count: int, sample_rate: float | None) -> int | None:
    """Return for how many of *count* values a line stands; None for a bucket's.

    Powers of two have short rates: ``0.125``.
    """
    if sample_rate is None:
        return None
    least = 1 << (max(1, ceil(count / LINES)) - 1).bit_length()
    return countable(max(round(1 / sample_rate), least))
