"""What became of the lines, and saying so in the log."""

from __future__ import annotations

import time

from llmevents.reporting import ReporterStatus


LOG_EVERY = 60.0
"""Seconds between two lines in the log at least."""


class Log:
    """Says what failed, at most once a minute. For one thread at a time."""

    __slots__ = ("_due", "_silent")

    def __init__(self) -> None:
        self._due = 0.0
        self._silent = 0

    def report(self, what: str, error: BaseException) -> None:
        """Log that *what* failed, unless it is too soon."""
        now = time.monotonic()
        if now < self._due:
            self._silent += 1
            return
        import logging

        self._due = now + LOG_EVERY
        silent, self._silent = self._silent, 0
        why = f": {error.strerror}" if isinstance(error, OSError) else ""
        logging.getLogger("llmevents.statsd").warning(
            "%s: %s%s (%d more since the last report)",
            what,
            type(error).__name__,
            why,
            silent,
        )


class Counts:
    """Counts of lines. One thread at a time counts, any may read.

    What is read was true at one moment: it is replaced as a whole.

    Attributes:
        log: For whoever counts.
    """

    __slots__ = ("_delivered", "_dropped", "_queued", "_status", "log")

    def __init__(self) -> None:
        self.log = Log()
        self._delivered = 0
        self._queued = 0
        self._dropped: dict[str, int] = {}
        self._status = ReporterStatus()

    @property
    def status(self) -> ReporterStatus:
        """The counts so far."""
        return self._status

    def queue(self, lines: int) -> None:
        """Count lines that are about to be sent."""
        self._queued = lines
        self._publish()

    def deliver(self) -> None:
        """Count the queued lines as sent."""
        self._delivered += self._queued
        self._queued = 0
        self._publish()

    def drop(self, reason: str, lines: int = 0) -> None:
        """Count *lines*, and the queued ones, as given up."""
        lines += self._queued
        self._dropped[reason] = self._dropped.get(reason, 0) + lines
        self._queued = 0
        self._publish()

    def _publish(self) -> None:
        self._status = ReporterStatus(
            accepted=self._delivered + sum(self._dropped.values()) + self._queued,
            delivered=self._delivered,
            dropped=self._dropped,
            queued=self._queued,
        )
