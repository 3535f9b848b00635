"""Counters that are exact in any thread, signal handlers and finalizers included."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping


class Tally:
    """Counts without a lock: one step of `itertools.count` is a single C call.

    Attributes:
        steps: The iterator that counts; every `next` of it is one more.
    """

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = itertools.count()

    def add(self, number: int = 1) -> None:
        """Count *number* more, in one call that nothing can come between."""
        if number == 1:
            next(self.steps)
        else:
            deque(itertools.islice(self.steps, number), maxlen=0)

    def value(self) -> int:
        """Return the count."""
        # The only way to look at an `itertools.count` that is not deprecated.
        return int(repr(self.steps).removeprefix("count(").removesuffix(")"))


class Tallies:
    """Tallies by reason, which come into being when they are needed."""

    __slots__ = ("_by_reason",)

    def __init__(self) -> None:
        self._by_reason: dict[str, Tally] = {}

    def add(self, reason: str, number: int = 1) -> None:
        """Count *number* more for *reason*."""
        if number:
            self._by_reason.setdefault(reason, Tally()).add(number)

    def values(self) -> Mapping[str, int]:
        """Return the counts by reason."""
        return {reason: each.value() for reason, each in [*self._by_reason.items()]}
