"""Span ids: unique across processes and forks, and in the order of time."""

from __future__ import annotations

import itertools
import os

from llmevents import _forksafe


class SpanIds:
    """Makes ids of 32 hexadecimal digits: time, process, count.

    16 digits of nanoseconds since the epoch, 8 random ones drawn once per process
    and again after a fork, and 8 of a counter. Ids sort by time as text, to the
    accuracy of the wall clock, and making one takes no system call.
    """

    __slots__ = ("__weakref__", "_next", "_process")

    def __init__(self) -> None:
        self._next = itertools.count().__next__
        self._process = os.urandom(4).hex()
        _forksafe.registry.register(self)

    def make(self, time_ns: int) -> str:
        """Return a new id for a span that starts at *time_ns* since the epoch."""
        # A clock that was set back beyond the epoch must not bring in a sign.
        time = time_ns & 0xFFFF_FFFF_FFFF_FFFF
        return f"{time:016x}{self._process}{self._next() & 0xFFFF_FFFF:08x}"

    def after_fork_in_child(self) -> None:
        """Draw a new process part; the counter goes on from the parent's."""
        self._process = os.urandom(4).hex()


span_ids = SpanIds()
"""The source of every span's id."""
