"""Cells: how the values of each type of metric are kept in a row, and read from it.

A row is a list that belongs to one thread and one set of tags. Every metric has a few
places in it. A place without a value yet holds False, which adds like 0 and is told
apart from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import fsum
from operator import add
from typing import Any, Protocol, TypeAlias

from llmevents.metrics._definitions import (
    Distribution,
    LastValue,
    Metric,
    Summary,
)
from llmevents.metrics._histogram import ExponentialHistogram, Histogram
from llmevents.metrics._series import Value


Row: TypeAlias = list[Any]
"""Places of all metrics that share their tags; the last one holds their slots."""

State: TypeAlias = tuple[Any, ...]
"""What the cells of a series came to. Each kind reads its own."""


class Kind(Protocol):
    """How the values of one metric are aggregated."""

    def places(self) -> Row:
        """Return the places of a new row, without a value."""

    def read(self, row: Row, at: int, /) -> State | None:
        """Return what came together in the places from *at* on, None for nothing."""

    def merge(self, states: Sequence[State], /) -> State:
        """Return what one cell would have come to that had seen all values."""

    def value(self, state: State, /) -> Value:
        """Return the series' value, in the unit of the measurements."""


class Total:
    """A sum of values; a counter's values are ones.

    A state is a number of parts that add up to the total. Integers are one part and
    exact. Floats are as many as it takes to be exact as well, so that the order in
    which threads end does not show: a total that only grows would go back by a
    rounding error, and readers take that for a restart.
    """

    __slots__ = ()

    def places(self) -> Row:
        """Return the place of the total."""
        return [False]

    def read(self, row: Row, at: int, /) -> State | None:
        """Return the total as a single part."""
        total = row[at]
        return None if total is False else (total,)

    def merge(self, states: Sequence[State], /) -> State:
        """Return the parts of the total of all *states*."""
        return _parts([part for state in states for part in state])

    def value(self, state: State, /) -> Value:
        """Return the total, correctly rounded."""
        return _total(state)


class Latest:
    """The newest value, stamped so that the newest of several threads is known."""

    __slots__ = ()

    def places(self) -> Row:
        """Return the place of stamp and value."""
        return [False]

    def read(self, row: Row, at: int, /) -> State | None:
        """Return the stamp and the value."""
        return row[at] or None

    def merge(self, states: Sequence[State], /) -> State:
        """Return the newest of *states*; no two have the same stamp."""
        return max(states)

    def value(self, state: State, /) -> Value:
        """Return the value."""
        value: int | float = state[1]
        return value


class Buckets:
    """Counts between bounds, then the sum. A state is these two."""

    __slots__ = ("_bounds", "size")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.size = len(bounds) + 1

    def places(self) -> Row:
        """Return a place for each bucket, and one for the sum."""
        return [0] * self.size + [False]

    def read(self, row: Row, at: int, /) -> State | None:
        """Return the counts, and the sum as a single part."""
        end = at + self.size
        total = row[end]
        return None if total is False else (row[at:end], (total,))

    def merge(self, states: Sequence[State], /) -> State:
        """Return the counts of all *states*, and the parts of the sum."""
        counts = states[0][0]
        for state in states[1:]:
            counts = list(map(add, counts, state[0]))
        return counts, _parts([part for state in states for part in state[1]])

    def value(self, state: State, /) -> Value:
        """Return a histogram of explicit bounds."""
        return Histogram(self._bounds, tuple(state[0]), _total(state[1]))


class Exponential:
    """Counts by key of the exponential histogram, then the sum."""

    __slots__ = ()

    def places(self) -> Row:
        """Return the place of the counts, and one for the sum."""
        return [defaultdict(int), False]

    def read(self, row: Row, at: int, /) -> State | None:
        """Return the counts, and the sum as a single part."""
        total = row[at + 1]
        return None if total is False else (dict(row[at]), (total,))

    def merge(self, states: Sequence[State], /) -> State:
        """Return the counts of all *states*, and the parts of the sum."""
        counts: dict[int, int] = {}
        for state in states:
            for key, count in state[0].items():
                counts[key] = counts.get(key, 0) + count
        return counts, _parts([part for state in states for part in state[1]])

    def value(self, state: State, /) -> Value:
        """Return an exponential histogram."""
        return ExponentialHistogram(state[0], _total(state[1]))


def kind_of(definition: Metric) -> Kind:
    """Return how the values of *definition* are aggregated."""
    if isinstance(definition, Distribution):
        return Buckets(definition.buckets)
    if isinstance(definition, Summary):
        return Exponential()
    return Latest() if isinstance(definition, LastValue) else Total()


def source_bounds(definition: Distribution) -> tuple[float, ...]:
    """Return the bounds in the unit of the measurements, as they are written.

    0.01 seconds are 10,000,000 nanoseconds and not what the float next to 0.01 is.
    """
    bounds = []
    for bound in definition.buckets:
        exact = Fraction(repr(bound)) / definition.scale
        whole = exact.denominator == 1
        bounds.append(exact.numerator if whole else float(exact))
    return tuple(bounds)


def _parts(numbers: Sequence[float]) -> State:
    if _are_integers(numbers):
        return (sum(numbers),)
    floats = [part for number in numbers for part in _as_floats(number)]
    parts: list[float] = []
    while rest := fsum((*floats, *(-part for part in parts))):
        parts.append(rest)
    return tuple(parts) or (0.0,)


def _total(parts: Sequence[float]) -> int | float:
    return sum(parts) if _are_integers(parts) else fsum(parts)


def _as_floats(number: float) -> Iterator[float]:
    """Yield floats that add up to *number*; an integer may need more than one."""
    if type(number) is float:
        yield number
        return
    while number:
        part = float(number)
        yield part
        number -= int(part)


def _are_integers(numbers: Sequence[float]) -> bool:
    return all(type(number) is int for number in numbers)
