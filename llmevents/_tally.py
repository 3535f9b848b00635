"""A counter that is exact everywhere, finalizers and signal handlers included."""

from __future__ import annotations

import itertools
import threading

from llmevents import _forksafe


class Tally:
    """Counts calls of `add` exactly, without a lock on that side.

    ``n += 1`` loses counts between threads, and a lock would deadlock when a
    finalizer or a signal handler counts while its own thread holds it. One step of
    `itertools.count` is a single C call, so it can be neither torn nor blocked.
    Reading takes a step as well, which is why reads are counted and subtracted.
    """

    __slots__ = ("__weakref__", "_lock", "_reads", "add")

    def __init__(self) -> None:
        self.add = itertools.count().__next__
        self._reads = 0
        self._lock = threading.Lock()
        _forksafe.registry.register(self)

    def value(self) -> int:
        """Return how often `add` was called, in this process and its parents."""
        with self._lock:
            steps = self.add()
            self._reads += 1
            return steps - self._reads + 1

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread may have held at the fork."""
        self._lock = threading.Lock()
