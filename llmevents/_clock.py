"""Where times come from."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks in nanoseconds, as integers."""

    def monotonic_ns(self) -> int:
        """Return a time that never goes back; only differences mean anything."""

    def time_ns(self) -> int:
        """Return the wall-clock time since the Unix epoch, in UTC."""


class SystemClock:
    """The clocks of the system: `time.perf_counter_ns` and `time.time_ns`."""

    __slots__ = ()

    monotonic_ns = staticmethod(time.perf_counter_ns)
    time_ns = staticmethod(time.time_ns)


SYSTEM_CLOCK: Clock = SystemClock()
"""The clock of every bus that is not given another."""
