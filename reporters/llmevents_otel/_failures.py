"""Telling what went wrong with sending: seldom, and without secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from llmevents_otel._retry import Action, Outcome


LOG_INTERVAL = 60.0
"""Seconds between two lines about the same failure of the same signal."""


class FailureReports:
    """Logs failures. The worker's own.

    The log has reasons and classes of exceptions, never their messages: what
    requests says of a bad header includes its value.
    """

    def __init__(self) -> None:
        self._log = logging.getLogger("llmevents.otel")
        self._due: dict[tuple[str, str], float] = {}
        self._unlogged: dict[tuple[str, str], int] = {}

    def report(self, name: str, outcome: Outcome, lost: int) -> None:
        """Note that sending *name* failed, and how many records that has cost."""
        key = (name, outcome.reason)
        self._unlogged[key] = lost = self._unlogged.get(key, 0) + lost
        now = monotonic()
        if now < self._due.get(key, 0.0):
            return
        self._due[key] = now + LOG_INTERVAL
        self._unlogged[key] = 0
        why = outcome.reason
        if outcome.error_type:
            why = f"{why} ({outcome.error_type})"
        # A logging handler may be broken; that is no reason to stop.
        with suppress(Exception):
            if lost:
                self._log.warning("OTLP: %d %s are lost: %s", lost, name, why)
            else:
                self._log.warning("OTLP: %s wait, to be tried again: %s", name, why)

    @contextmanager
    def contained(self, name: str) -> Iterator[None]:
        """Report what is raised inside as a failure that has cost no record."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # nothing here may end the thread
            error_type = type(error).__name__
            reason = "collect_error"
            outcome = Outcome(action=Action.DROP, reason=reason, error_type=error_type)
            self.report(name, outcome, 0)
