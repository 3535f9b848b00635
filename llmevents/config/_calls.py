"""Calls of foreign code that must not hold anybody up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic


class Call:
    """One call of one function, in a daemon thread of its own.

    The thread is started beforehand where the call is for the end of the process:
    from Python 3.12 on no thread can be started any more when `atexit` runs.

    Args:
        name: Of the thread.
        function: Is given the seconds that are left.

    Attributes:
        error: What the function raised.
        result: What it returned.
    """

    def __init__(self, name: str, function: Callable[[float], object]) -> None:
        self.error: BaseException | None = None
        self.result: object = None
        self._function = function
        self._deadline = 0.0
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wait, name=name, daemon=True)

    def prepare(self) -> None:
        """Start the thread, which then waits for `begin`."""
        self._thread.start()

    def begin(self, deadline: float) -> None:
        """Make the call, which has time until *deadline* on the monotonic clock."""
        self._deadline = deadline
        self._begun.set()
        if not self._thread.is_alive():
            try:
                self._thread.start()
            except RuntimeError:  # too late for threads: the process is ending
                self._run()

    def join(self) -> bool:
        """Wait for the end, until the deadline; return whether it came."""
        return self._ended.wait(max(0.0, self._deadline - monotonic()))

    def _wait(self) -> None:
        self._begun.wait()
        self._run()

    def _run(self) -> None:
        try:
            self.result = self._function(max(0.0, self._deadline - monotonic()))
        except BaseException as error:  # noqa: BLE001  # of reporters, in a thread of ours
            self.error = error
        finally:
            self._ended.set()
