"""A counter that is exact everywhere, finalizers and signal handlers included."""

from __future__ import annotations

import itertools


class Tally:
    """Counts calls of `add` exactly, without a lock.

    ``n += 1`` loses counts between threads, and a lock would deadlock when a
    finalizer or a signal handler counts while its own thread holds it. One step of
    `itertools.count` is a single C call, so it can be neither torn nor blocked, and
    its `repr` tells the count without taking a step.
    """

    __slots__ = ("_steps", "add")

    def __init__(self) -> None:
        self._steps = itertools.count()
        self.add = self._steps.__next__

    def value(self) -> int:
        """Return how often `add` was called, in this process and its parents."""
        return int(repr(self._steps).removeprefix("count(").removesuffix(")"))
