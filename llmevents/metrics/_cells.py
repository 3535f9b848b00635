"""Cells: the part of one series' aggregate that one thread makes.

A cell has one writer, its thread, and any number of readers. `Cell.state` is what a
reader takes along: immutable, and read in one step.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import fsum
from typing import Protocol, TypeAlias

from llmevents.metrics._definitions import Distribution, LastValue, Metric, Summary
from llmevents.metrics._histogram import ExponentialHistogram, Histogram, key_of
from llmevents.metrics._units import convert


State: TypeAlias = tuple[int | float, ...]
"""What a cell came to, empty before the first value. Each type of cell reads its own."""


class Cell(Protocol):
    """An aggregate under way; made without arguments."""

    def __init__(self) -> None: ...

    def add(self, value: float, /) -> None:
        """Take in one value that has passed all checks."""

    def state(self) -> State:
        """Return what came together so far."""

    @staticmethod
    def merge(states: Sequence[State], /) -> State:
        """Return what one cell would have come to that had seen all values."""

    @staticmethod
    def value(state: State, /) -> int | float:
        """Return the series' value."""


class TotalCell:
    """A sum of values; a counter's values are ones.

    A state is a number of parts that add up to the total. Integers are one part and
    exact. Floats are as many as it takes to be exact as well, so that the order in
    which threads end does not show: a total that only grows would go back by a
    rounding error, and readers take that for a restart.
    """

    __slots__ = ("_total",)

    def __init__(self) -> None:
        self._total: int | float = 0

    def add(self, value: float, /) -> None:
        """Add *value*."""
        self._total += value

    def state(self) -> State:
        """Return the total as a single part."""
        return (self._total,)

    @staticmethod
    def merge(states: Sequence[State], /) -> State:
        """Return the parts of the total of all *states*."""
        numbers = [part for state in states for part in state]
        if _are_integers(numbers):
            return (sum(numbers),)
        floats = [part for number in numbers for part in _as_floats(number)]
        parts: list[float] = []
        while rest := fsum((*floats, *(-part for part in parts))):
            parts.append(rest)
        return tuple(parts) or (0.0,)

    @staticmethod
    def value(state: State, /) -> int | float:
        """Return the total, correctly rounded."""
        return sum(state) if _are_integers(state) else fsum(state)


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


class LatestCell:
    """The newest value, stamped so that the newest of several threads is known."""

    __slots__ = ("_latest",)

    _next_stamp = itertools.count().__next__

    def __init__(self) -> None:
        self._latest: State = ()

    def add(self, value: float, /) -> None:
        """Replace what is there."""
        self._latest = (self._next_stamp(), value)

    def state(self) -> State:
        """Return the stamp and the value."""
        return self._latest

    @staticmethod
    def merge(states: Sequence[State], /) -> State:
        """Return the newest of *states*; no two have the same stamp."""
        return max(states)

    @staticmethod
    def value(state: State, /) -> int | float:
        """Return the value."""
        return state[1]


class HistogramCell:
    """Counts per bucket and the sum, of a distribution or a summary."""

    __slots__ = ("_counts", "_definition", "_sum")

    def __init__(self, definition: Metric) -> None:
        self._definition = definition
        self._counts: dict[int, int] = {}
        self._sum: int | float = 0

    def add(self, value: float, /) -> None:
        shown = convert(value, self._definition.scale)
        if isinstance(self._definition, Distribution):
            key = bisect_left(self._definition.buckets, shown)
        else:
            key = key_of(shown)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._sum += value

    def state(self) -> State:
        return (self._sum, self._counts.copy())  # type: ignore

    def merge(self, states):  # type: ignore
        counts: dict[int, int] = {}
        for _, more in states:
            for key, n in more.items():
                counts[key] = counts.get(key, 0) + n
        return (sum(state[0] for state in states), counts)

    def value(self, state):  # type: ignore
        total = state[0]
        if isinstance(self._definition, Distribution):
            bounds = self._definition.buckets
            counts = tuple(state[1].get(i, 0) for i in range(len(bounds) + 1))
            return Histogram(bounds, counts, total)
        return ExponentialHistogram(state[1], total)


def cell_type(definition: Metric):
    """Return what aggregates the values of *definition*."""
    if isinstance(definition, (Distribution, Summary)):
        return lambda: HistogramCell(definition)
    return LatestCell if isinstance(definition, LastValue) else TotalCell
