"""Logging failures that may come by the thousand."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from llmevents._failure import LOG_INTERVAL_NS


if TYPE_CHECKING:
    from llmevents._clock import Clock


class FailureLog:
    """Logs at most one failure a second, and how many there were since the last.

    Two threads that report at the same moment may both log; nothing else is shared.
    """

    __slots__ = ("_clock", "_due_ns", "_unlogged")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_ns: int | None = None
        self._unlogged = 0

    def report(self, what: str, error: BaseException) -> None:
        """Log that *what* failed with *error*, unless it is too soon. Never raises.

        The record says class, place and redacted message. It has no stack trace,
        whose source lines may hold secrets.
        """
        self._unlogged += 1
        now = self._clock.monotonic_ns()
        if self._due_ns is not None and now < self._due_ns:
            return
        self._due_ns = now + LOG_INTERVAL_NS
        failures, self._unlogged = self._unlogged, 0
        # Neither a broken logging handler nor a broken error may do more harm.
        with suppress(Exception):
            _log(what, error, failures)


def _log(what: str, error: BaseException, failures: int) -> None:
    import logging

    from llmevents._redact import describe_error

    error_type, error_message = describe_error(error)
    logging.getLogger("llmevents").error(
        "%s failed: %s: %s (%s, %d since the last report)",
        what,
        error_type,
        error_message,
        _place(error),
        failures,
    )


def _place(error: BaseException) -> str:
    place = error.__traceback__
    if place is None:
        return "raised elsewhere"
    while place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
