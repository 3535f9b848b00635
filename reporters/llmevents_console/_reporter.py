"""`ConsoleReporter`: a thread that shows the metric store now and then."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TextIO

from llmevents import LLMEventsError, OptionError
from llmevents.metrics import MetricDefinitionError
from llmevents.reporting import ReporterStatus
from llmevents_console._screen import Screen, open_screen
from llmevents_console._stream import GuardedStream
from llmevents_console._view import Look


if TYPE_CHECKING:
    from llmevents import Bus
    from llmevents.metrics import MetricStore

SHORTEST_INTERVAL = 0.05
LONGEST_INTERVAL = 86_400.0

SHARE = 10
"""A look that takes long is followed by a pause so many times as long."""

LONGEST_PAUSE = 10.0
"""Seconds of such a pause, at most."""


class _Request:
    """Something that the thread is asked to do at once."""

    __slots__ = ("done", "is_last")

    def __init__(self, *, is_last: bool) -> None:
        self.is_last = is_last
        self.done = threading.Event()


class ConsoleReporter:
    """Shows the metric store: a live view in a terminal, lines elsewhere.

    The live view begins with a row per model: calls, errors, tokens, cost, latency.
    Rates over the last minute, distributions and all other metrics follow, in units
    that are easy to read. Elsewhere a series has a line whenever it has changed, with
    its exact value in the unit of its definition. At the end there is a summary.

    All writing is done in one daemon thread, so that a stream that blocks does not
    block the program; a stream that fails is counted. A program that prints while
    the live table is up should pass another *stream*, or ``live=False``.

    Args:
        interval: Seconds between two looks at the store, 0.05 to 86,400.
        live: Whether to draw a table over and over. By default, if *stream* is a
            terminal that can do so.
        summary: Whether to leave a summary behind when stopping. Without it the live
            view is wiped off, and lines simply end.
        stream: Where to; by default standard output as it is when starting.

    Raises:
        OptionError: An option has a value that it cannot have.
    """

    def __init__(
        self,
        *,
        interval: float = 1.0,
        live: bool | None = None,
        summary: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        _check_interval(interval)
        _check_live(live)
        _check_summary(summary)
        self._interval = interval
        self._live = live
        self._summary = summary
        self._stream = stream
        self._session: _Session | None = None
        self._counts = _Counts()

    def start(self, bus: Bus, metrics: MetricStore) -> None:  # noqa: ARG002  # the protocol's
        """Begin to show *metrics*; *bus* is not used.

        Raises:
            LLMEventsError: It was started already, and not stopped.
            MetricDefinitionError: A definition has options for this reporter, which
                has none.
        """
        _check_definitions(metrics)
        if self._running() is not None:
            msg = "this reporter is started already; stop() it first"
            raise LLMEventsError(msg)
        stream = GuardedStream(sys.stdout if self._stream is None else self._stream)
        screen = open_screen(stream, live=self._live, with_summary=self._summary)
        self._session = _Session(metrics, stream, screen, self._counts, self._interval)
        self._session.start()

    def flush(self, timeout: float) -> bool:
        """Show what there is now; return whether that was done in *timeout* seconds."""
        session = self._running()
        return session is None or session.flush(timeout)

    def stop(self, timeout: float) -> None:
        """Show everything for the last time, and end the thread; then do nothing."""
        session = self._running()
        if session is not None:
            session.stop(timeout)

    def status(self) -> ReporterStatus:
        """Return how many refreshes of the live view, or lines, were shown.

        Dropped are those with a ``"write_error"`` (the stream is broken or closed),
        and whole looks at the store with a ``"render_error"``.
        """
        return self._counts.status()

    def _running(self) -> _Session | None:
        """Return the session, unless it has ended or belongs to a parent process."""
        session = self._session
        return session if session is not None and session.is_running() else None


class _Counts:
    """What was shown. One thread at a time counts, any may read."""

    __slots__ = ("delivered", "render_errors", "write_errors")

    def __init__(self) -> None:
        self.delivered = 0
        self.write_errors = 0
        self.render_errors = 0

    def status(self) -> ReporterStatus:
        delivered = self.delivered
        dropped = {
            "write_error": self.write_errors,
            "render_error": self.render_errors,
        }
        return ReporterStatus(
            accepted=delivered + sum(dropped.values()),
            delivered=delivered,
            dropped={reason: count for reason, count in dropped.items() if count},
        )


class _Session:
    """The thread between one start and one stop, and what it needs."""

    def __init__(
        self,
        metrics: MetricStore,
        stream: GuardedStream,
        screen: Screen,
        counts: _Counts,
        interval: float,
    ) -> None:
        self._metrics = metrics
        self._stream = stream
        self._screen = screen
        self._counts = counts
        self._interval = interval
        self._pid = os.getpid()
        self._spent = 0.0
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name="llmevents-console", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def is_running(self) -> bool:
        # Of the parent's threads none is there in a forked child, whatever they say.
        return self._pid == os.getpid() and self._thread.is_alive()

    def flush(self, timeout: float) -> bool:
        request = _Request(is_last=False)
        self._requests.put(request)
        return request.done.wait(timeout)

    def stop(self, timeout: float) -> None:
        self._requests.put(_Request(is_last=True))
        self._thread.join(max(0.0, timeout))

    def _run(self) -> None:
        self._show(self._screen.draw)
        while True:
            request = self._next_request()
            if request is not None and request.is_last:
                break
            self._show(self._screen.draw)
            if request is not None:
                request.done.set()
        self._show(self._screen.finish)
        with suppress(Empty):
            while True:
                self._requests.get_nowait().done.set()

    def pause(self) -> float:
        """Return the seconds until the next look.

        Very many series are looked at less often, so as to leave the program its time.
        """
        return max(self._interval, min(SHARE * self._spent, LONGEST_PAUSE))

    def _next_request(self) -> _Request | None:
        try:
            return self._requests.get(timeout=self.pause())
        except Empty:
            return None

    def _show(self, draw: Callable[[Look], int]) -> None:
        self._stream.failed = False
        begin = time.thread_time()
        try:
            shown = draw(Look(self._metrics.snapshot(), self._metrics.refused))
        except Exception:  # noqa: BLE001  # nothing in here is worth the program's life
            self._counts.render_errors += 1
            return
        finally:
            self._spent = time.thread_time() - begin
        if self._stream.failed:
            self._counts.write_errors += shown
        else:
            self._counts.delivered += shown


def _check_definitions(metrics: MetricStore) -> None:
    for definition in metrics.definitions:
        options = definition.reporter_options.get("console")
        if options:
            reason = (
                f"it has reporter_options for 'console', {', '.join(options)}, "
                "and this reporter has none for single metrics; take them out"
            )
            raise MetricDefinitionError(definition.name, reason)


def _check_interval(interval: object) -> None:
    if (
        isinstance(interval, (int, float))
        and not isinstance(interval, bool)
        and SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL
    ):
        return
    expected = f"seconds between {SHORTEST_INTERVAL} and {LONGEST_INTERVAL:,.0f}"
    raise OptionError(interval, "interval", expected)


def _check_live(live: object) -> None:
    if live is not None and not isinstance(live, bool):
        raise OptionError(live, "live", "True, False or None")


def _check_summary(summary: object) -> None:
    if not isinstance(summary, bool):
        raise OptionError(summary, "summary", "True or False")
