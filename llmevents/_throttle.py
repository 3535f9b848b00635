"""Logging failures that may come by the thousand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from llmevents._show import printable


if TYPE_CHECKING:
    from llmevents._clock import Clock

LOG_INTERVAL_NS = 1_000_000_000
"""One failing thing is in the log at most once in this time."""


class FailureLog:
    """Logs at most one failure a second, and how many there were since the last.

    May be used by any thread, and inside finalizers and signal handlers: there is
    no lock. Whoever holds the *ticket*, the time that the next line is due, decides
    about it; a failure that comes up meanwhile is counted in a later line.
    """

    __slots__ = ("_clock", "_count", "_logged", "_ticket")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._count = itertools.count(1).__next__
        self._logged = 0
        self._ticket: list[int | None] = [None]

    def report(self, what: str, error: BaseException, *, on: str = "") -> None:
        """Log that *what* failed with *error*, unless it is too soon.

        The record says class, place and redacted message, in one printable line. It
        has no stack trace, whose source lines may hold secrets.

        Args:
            what: What failed, ``"handler 'x'"``.
            error: What it raised.
            on: Where, as it goes on in the sentence: ``" on llm.chat.stop"``.
        """
        number = self._count()
        if self._is_due():
            failures, self._logged = number - self._logged, number
            # Neither a broken logging handler nor a broken error may do more harm.
            with suppress(Exception):
                self._log(f"{what} failed{on}", error, failures)

    def _is_due(self) -> bool:
        try:
            due = self._ticket.pop()
        except IndexError:
            return False
        try:
            now = self._clock.monotonic_ns()
            if due is not None and now < due:
                return False
            due = now + LOG_INTERVAL_NS
        finally:
            self._ticket.append(due)
        return True

    @staticmethod
    def _log(what: str, error: BaseException, failures: int) -> None:
        log, describe_error = prepare()
        error_type, error_message = describe_error(error)
        line = f"{what}: {error_type}: {error_message}"
        since = f"({_where(error)}, {failures} since the last report)"
        log("%s %s", printable(line), printable(since))


@cache
def prepare() -> tuple[Callable[..., None], Callable[[BaseException], tuple[str, str]]]:
    """Import what a failure needs, before there is one.

    A failure may come up in a signal handler that has interrupted these very
    imports, or while the interpreter goes down and nothing can be imported.

    Returns:
        How to log an error, and how to describe one.
    """
    import logging

    from llmevents._redact import describe_error

    return logging.getLogger("llmevents").error, describe_error


def _where(error: BaseException) -> str:
    """Return file and line where *error* was raised."""
    place = error.__traceback__
    if place is None:
        return "raised elsewhere"
    while place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
