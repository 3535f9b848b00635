"""What happens when a handler raises."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from llmevents import _forksafe
from llmevents._names import dotted
from llmevents._tally import Tally


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._registration import Registration
    from llmevents._types import EventName

FAILURE_EVENT: EventName = ("llmevents", "handler", "failure")

LOG_INTERVAL_NS = 1_000_000_000
"""A handler is in the log at most once in this time, however often it fails."""


class FailureReporter:
    """Counts, announces and logs the failures of one bus's handlers.

    Nothing in here blocks or raises: it runs in the emitter, possibly inside a
    finalizer or a signal handler.
    """

    __slots__ = ("__weakref__", "_bus", "_lock", "count")

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self.count = Tally()
        _forksafe.registry.register(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread may have held at the fork."""
        self._lock = threading.Lock()

    def report(
        self, registration: Registration, name: EventName, error: Exception
    ) -> None:
        """Account for one failure: the event each time, the log now and then."""
        self.count.add()
        registration.failures_unlogged += 1
        if name != FAILURE_EVENT and self._bus.has_handlers(FAILURE_EVENT):
            self._announce(registration, name, error)
        now = self._bus.clock.monotonic_ns()
        if now >= registration.log_due_ns and self._lock.acquire(blocking=False):
            try:
                if now >= registration.log_due_ns:
                    registration.log_due_ns = now + LOG_INTERVAL_NS
                    self._log(registration, name, error)
            finally:
                self._lock.release()

    def _announce(
        self, registration: Registration, name: EventName, error: Exception
    ) -> None:
        from llmevents._redact import describe_error

        clock = self._bus.clock
        error_type, error_message = describe_error(error)
        self._bus.execute(
            FAILURE_EVENT,
            {"monotonic_time": clock.monotonic_ns(), "system_time": clock.time_ns()},
            {
                "event": dotted(name),
                "handler_id": registration.handler_id,
                "kind": "error",
                "error_type": error_type,
                "error_message": error_message,
            },
        )

    @staticmethod
    def _log(registration: Registration, name: EventName, error: Exception) -> None:
        import logging

        from llmevents._redact import describe_error

        error_type, error_message = describe_error(error)
        failures, registration.failures_unlogged = registration.failures_unlogged, 0
        # A broken logging handler must not reach the emitter either.
        with suppress(Exception):
            logging.getLogger("llmevents").error(
                "handler %r failed on %s: %s: %s (%s, %d since the last report)",
                registration.handler_id,
                dotted(name),
                error_type,
                error_message,
                _where(error),
                failures,
            )


def _where(error: Exception) -> str:
    """Return file and line where *error* was raised; a stack trace may hold secrets."""
    place = error.__traceback__
    if place is None:
        return "raised elsewhere"
    while place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
