"""Small charts of block characters, for people who would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmevents.metrics import ExponentialHistogram, Histogram
from llmevents_console._text import Charset


def sparkline(values: Sequence[float], charset: Charset) -> str:
    """Return a column per value, as high as it is; the least but zero is visible."""
    top = max(values, default=0.0)
    if top <= 0:
        return charset.levels[0] * len(values)
    last = len(charset.levels) - 1
    return "".join(
        charset.levels[min(last, max(1, round(value / top * last))) if value > 0 else 0]
        for value in values
    )


def bar(proportion: float, width: int, charset: Charset) -> str:
    """Return a bar that fills a *proportion* of *width* cells."""
    steps = len(charset.eighths)
    length = round(min(1.0, max(0.0, proportion)) * width * steps)
    if proportion > 0:
        length = max(1, length)
    full, part = divmod(length, steps)
    return charset.eighths[-1] * full + (charset.eighths[part - 1] if part else "")


class Shape(NamedTuple):
    """How many values there were in ranges next to each other.

    Attributes:
        low: Where the first range begins; None if nowhere.
        high: Where the last one ends; None if nowhere.
        counts: Values per range.
    """

    low: float | None
    high: float | None
    counts: list[int]


def shape(values: Histogram | ExponentialHistogram, width: int) -> Shape:
    """Return what a chart of at most *width* columns has to show."""
    if isinstance(values, Histogram):
        return _of_buckets(values, width)
    return _of_powers(values, width)


def _of_buckets(values: Histogram, width: int) -> Shape:
    """Return the buckets from the first to the last that has any values."""
    filled = [place for place, count in enumerate(values.counts) if count]
    if not filled:
        return Shape(None, None, [])
    first, last = filled[0], filled[-1]
    bounds = (0.0 if values.bounds[0] > 0 else None, *values.bounds, None)
    counts = values.counts[first : last + 1]
    return Shape(bounds[first], bounds[last + 1], _joined(counts, width))


def _of_powers(values: ExponentialHistogram, width: int) -> Shape:
    """Return ranges of equal ratios; keys are in the order of what they stand for."""
    keys = [key for key, count in values.counts.items() if count]
    if not keys:
        return Shape(None, None, [])
    least = min(keys)
    span = max(keys) - least + 1
    columns = [0] * min(width, span)
    for key in keys:
        columns[(key - least) * len(columns) // span] += values.counts[key]
    return Shape(values.minimum, values.maximum, columns)


def _joined(counts: Sequence[int], width: int) -> list[int]:
    """Return *counts*, neighbours added up so that there are at most *width*."""
    together = -(-len(counts) // width)
    return [
        sum(counts[start : start + together])
        for start in range(0, len(counts), together)
    ]
