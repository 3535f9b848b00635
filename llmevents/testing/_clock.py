"""A clock that a test moves."""

from __future__ import annotations

import threading


class ManualClock:
    """A clock that stands still until it is told to go on.

    Pass it as ``Bus(clock=...)`` and durations are what the test says. Safe to
    share between threads.

    Args:
        monotonic_ns: Where the monotonic clock starts, in nanoseconds.
        time_ns: Where the wall clock starts, in nanoseconds since the Unix epoch.

    Examples:
        >>> clock = ManualClock()
        >>> clock.advance(1_500)
        >>> clock.monotonic_ns()
        1500
    """

    def __init__(self, monotonic_ns: int = 0, time_ns: int = 0) -> None:
        self._monotonic_ns = monotonic_ns
        self._time_ns = time_ns
        self._lock = threading.Lock()

    def monotonic_ns(self) -> int:
        """Return the monotonic time, in nanoseconds."""
        return self._monotonic_ns

    def time_ns(self) -> int:
        """Return the wall-clock time, in nanoseconds since the Unix epoch."""
        return self._time_ns

    def advance(self, nanoseconds: int) -> None:
        """Let both clocks go on by *nanoseconds*.

        Raises:
            ValueError: It is negative. `step_wall_clock` may go back.
        """
        if nanoseconds < 0:
            msg = (
                f"expected a time that passes, got {nanoseconds} ns; "
                "a monotonic clock does not go back, use step_wall_clock()"
            )
            raise ValueError(msg)
        with self._lock:
            self._monotonic_ns += nanoseconds
            self._time_ns += nanoseconds

    def step_wall_clock(self, nanoseconds: int) -> None:
        """Move the wall clock alone, forwards or back, as a correction would."""
        with self._lock:
            self._time_ns += nanoseconds
