"""What totals were a moment ago, for rates."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple


STEP = 2.0
"""Seconds that a column of a sparkline stands for, at least."""

COLUMNS = 30
"""Columns of a sparkline."""

WINDOW = 10.0
"""Seconds that a rate is an average of, at most unless looks are rarer than that."""


class _Sample(NamedTuple):
    seconds: float
    totals: Mapping[str, float]


class History:
    """The totals of the last minute, or of the last 30 looks if that is longer.

    What it keeps is bounded: one number per metric and column.
    """

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=COLUMNS + 1)

    def add(self, seconds: float, totals: Mapping[str, float]) -> None:
        """Take note of *totals* at *seconds* of a clock that never goes back."""
        samples = self._samples
        # The newest sample moves along until it is a step away from the one before.
        if len(samples) > 1 and samples[-1].seconds - samples[-2].seconds < STEP:
            samples.pop()
        samples.append(_Sample(seconds, dict(totals)))

    @property
    def seconds(self) -> float:
        """How far back it goes."""
        samples = self._samples
        return samples[-1].seconds - samples[0].seconds if samples else 0.0

    def rate(self, name: str) -> float | None:
        """Return the growth per second of late; None if it is too early to tell."""
        samples = list(self._samples)
        if len(samples) < 2:  # noqa: PLR2004  # a difference is one of two
            return None
        newest = samples[-1]
        since = next(
            sample
            for place, sample in enumerate(samples)
            if newest.seconds - sample.seconds <= WINDOW or place == len(samples) - 2
        )
        return _rate(since, newest, name)

    def rates(self, name: str) -> list[float]:
        """Return the growth per second, from the oldest to the newest."""
        return [
            _rate(before, after, name) or 0.0
            for before, after in pairwise(self._samples)
        ]


def _rate(before: _Sample, after: _Sample, name: str) -> float | None:
    """Return the growth between two samples; a total that was reset has not grown."""
    seconds = after.seconds - before.seconds
    if seconds <= 0:
        return None
    growth = after.totals.get(name, 0.0) - before.totals.get(name, 0.0)
    return max(0.0, growth / seconds)
