"""When a periodic task is due: at a fixed rate, without drift."""

from __future__ import annotations


class Schedule:
    """Ticks at ``start + n * period``, whatever the work in between takes.

    Args:
        start_ns: When tick 0 is due, in nanoseconds of a monotonic clock.
        period_ns: Nanoseconds between two ticks.
    """

    __slots__ = ("_period_ns", "_start_ns", "_tick")

    def __init__(self, start_ns: int, period_ns: int) -> None:
        self._start_ns = start_ns
        self._period_ns = period_ns
        self._tick = 0

    def wait_ns(self, now_ns: int) -> int:
        """Return how long to wait for the tick that is next; 0 if it is due."""
        return max(0, self._start_ns + self._tick * self._period_ns - now_ns)

    def advance(self, now_ns: int) -> int:
        """Go on to the first tick after *now_ns*; return how many were missed.

        Missed ticks are not made up for: a burst of late measurements says nothing
        that one does not.
        """
        following = max(
            self._tick + 1, (now_ns - self._start_ns) // self._period_ns + 1
        )
        missed = following - self._tick - 1
        self._tick = following
        return missed
