"""What is still queued when the process ends."""

from __future__ import annotations

import os
import sys
import weakref
from time import monotonic
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from llmevents._delivery import Delivery

EXIT_TIMEOUT = 2.0
"""Seconds that the end of the process is held up at most, over all handlers."""


class ExitHook:
    """Delivers what is queued before the process ends, within one deadline.

    `atexit` does the calling, which SIGTERM without a handler and `os._exit` pass
    over. A child of `multiprocessing` ends by `os._exit` and has a hook of its own.
    """

    __slots__ = ("_armed", "_child", "_members")

    def __init__(self) -> None:
        self._members: weakref.WeakSet[Delivery] = weakref.WeakSet()
        self._armed = False
        self._child = 0

    def add(self, delivery: Delivery) -> None:
        """Take care of *delivery* for as long as it lives."""
        self._members.add(delivery)
        if not self._armed:
            self._armed = True
            import atexit

            atexit.register(self.run)

    def enter_child(self) -> None:
        """Take care of this process too, if `multiprocessing` has started it."""
        process = sys.modules.get("multiprocessing.process")
        if process is None or process.parent_process() is None:
            return
        if self._child != os.getpid():
            self._child = os.getpid()
            from multiprocessing.util import Finalize

            # Before the priorities from 0 on that multiprocessing's own things have.
            Finalize(None, self.run, exitpriority=100)

    def run(self) -> None:
        """Close all, wait for all, and say how many events were not delivered."""
        # What was shut down by hand and gave up then is settled.
        deliveries = [d for d in self._members if not d.queue.given_up]
        for delivery in deliveries:
            delivery.close()
        deadline = monotonic() + EXIT_TIMEOUT
        lost = 0
        for delivery in deliveries:
            delivery.shutdown(max(0.0, deadline - monotonic()))
            lost += delivery.queue.abandoned + delivery.queue.queued
        if lost and sys.stderr is not None:
            sys.stderr.write(
                f"llmevents: events not delivered at exit: {lost}; the background "
                f"handlers that they wait for took longer than {EXIT_TIMEOUT:g} s\n"
            )


exit_hook = ExitHook()
"""The process's only one."""
