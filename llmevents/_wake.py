"""Waking a thread from anywhere."""

from __future__ import annotations

import threading
from contextlib import suppress


class Wake:
    """A flag that one thread waits for, and that waiting takes down again.

    `threading.Event.set` takes a lock: a signal handler or finalizer that sets an
    event while its own thread is inside `set` hangs for ever. Releasing a plain lock
    is a single C call, so `set` is safe everywhere, and any number of calls count
    as one.
    """

    __slots__ = ("_down",)

    def __init__(self) -> None:
        self._down = threading.Lock()
        self._down.acquire()

    def set(self) -> None:
        """Raise the flag; never waits."""
        if self._down.locked():
            # Unless somebody else has just raised it.
            with suppress(RuntimeError):
                self._down.release()

    def wait(self, timeout: float = -1) -> bool:
        """Wait for the flag and take it down; False if *timeout* seconds passed.

        Without a timeout it waits for ever.
        """
        return self._down.acquire(timeout=timeout)
