"""Loading genai-prices: once, in a thread, and never on an event loop."""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmevents import _forksafe
from llmevents._clock import SYSTEM_CLOCK


if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

PATIENCE = 2.0
"""Seconds from the begin of loading for which calls wait for it, all together.
It takes 0.7 s here; a machine on which it takes longer gets other prices first."""

LONGEST = 10.0
"""Seconds that a fork waits for the import at most."""


class Library:
    """The one import of genai-prices in this process.

    Importing it and its data takes 0.7 s and 96 MB, so that a thread of its own does
    it. Nobody waits longer than `PATIENCE` from its begin, and no event loop waits at
    all.

    Attributes:
        current: Returns the library's snapshot, or None: there is none, or not yet.
            A snapshot that is not the last one has other prices.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_deadline",
        "_loaded",
        "_loader",
        "_waited_for",
        "current",
        "settled",
    )

    def __init__(self) -> None:
        self._waited_for = False
        self.after_fork_in_child()
        _forksafe.registry.register(self)

    def finish(self) -> None:
        """Wait for an import that has begun, and begin none.

        A module that is half imported when the process forks stays locked in the
        child, and whatever imports it there hangs: better to fork late.
        """
        if self._begun.locked() and self._loader != get_ident():
            self.wait(LONGEST)

    def after_fork_in_child(self) -> None:
        """Begin anew unless it is loaded: the thread that did it is the parent's."""
        if getattr(self, "settled", False):
            return
        self.current: Callable[[], DataSnapshot | None] = _none
        self.settled = False
        # Locks, not events: a finalizer may ask while its own thread is asking, and
        # what waits here always gives up in time.
        self._begun = allocate_lock()
        self._loaded = allocate_lock()
        self._deadline = 0
        self._loader = 0

    def begin(self) -> None:
        """Load it in a thread, if nobody has begun. Returns at once."""
        if self.settled or not self._begun.acquire(blocking=False):
            return
        import threading

        if not self._waited_for:
            self._waited_for = True
            _forksafe.registry.wait_before_fork(self.finish)
        self._loaded.acquire()
        self._deadline = SYSTEM_CLOCK.monotonic_ns() + int(PATIENCE * 1e9)
        thread = threading.Thread(
            target=self._load, name="llmevents-prices", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or has no thread left
            self._loaded.release()
            self._begun.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is loaded, or known not to be there; begin if need be.

        Args:
            seconds: At most so long; else until `PATIENCE` is used up.

        Returns:
            Whether it is.
        """
        self.begin()
        if not self.settled:
            if seconds is None:
                left = self._deadline - SYSTEM_CLOCK.monotonic_ns()
                seconds = max(left / 1e9, 0.0)
            if self._loaded.acquire(timeout=seconds):
                self._loaded.release()
        return self.settled

    def _load(self) -> None:
        self._loader = get_ident()
        try:
            from genai_prices import data_snapshot

            data_snapshot.get_snapshot()
            self.current = data_snapshot.get_snapshot
        except Exception as error:  # noqa: BLE001  # not installed, or not importable
            if not isinstance(error, ModuleNotFoundError):
                warn_of(error)
        finally:
            self.settled = True
            self._loaded.release()


def is_on_event_loop() -> bool:
    """Return whether an asyncio event loop is running in this thread."""
    events = sys.modules.get("asyncio.events")
    running = getattr(events, "_get_running_loop", None)
    return running is not None and running() is not None


def _none() -> None:
    return None


def warn_of(error: Exception) -> None:
    """Log that genai-prices, or some of it, cannot be used."""
    import logging

    logging.getLogger("llmevents").warning(
        "genai-prices cannot be used (%s); other prices are used instead",
        type(error).__name__,
    )


library = Library()
"""That of this process."""
