"""What was shown and what was not, counted without a lock."""

from __future__ import annotations

from threading import get_ident

from llmevents.reporting import ReporterStatus


SHOWN = "shown"
SCRAPES = "scrapes"
BAD_SERIES = "bad_series"
SCRAPE_ERROR = "scrape_error"

REASONS = (BAD_SERIES, SCRAPE_ERROR)
"""Why something is dropped."""


class Counts:
    """Exact for any number of threads, for each adds to numbers of its own.

    A lock could be held by another thread when the process forks; the child would
    wait for it at its first scrape.
    """

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}

    def add(self, what: str, count: int = 1) -> None:
        """Count something."""
        key = (what, get_ident())
        self._numbers[key] = self._numbers.get(key, 0) + count

    def of(self, what: str) -> int:
        """Return how much there was of it."""
        return sum(n for (each, _), n in list(self._numbers.items()) if each == what)

    def status(self) -> ReporterStatus:
        """Return series, of all scrapes; a scrape that failed counts as one."""
        shown = self.of(SHOWN)
        dropped = {reason: n for reason in REASONS if (n := self.of(reason))}
        return ReporterStatus(
            accepted=shown + sum(dropped.values()), delivered=shown, dropped=dropped
        )
