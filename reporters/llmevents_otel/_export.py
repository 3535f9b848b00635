"""The one thread that sends everything, and how to flush and stop it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic

from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    attach,
    detach,
    set_value,
)

from llmevents_otel._pipeline import DELAY, Counts, Pipeline
from llmevents_otel._queue import MOST_RECORDS


RETRY_START = 1.0
"""Seconds after which a thread that could not be started is tried again."""

MARGIN = 0.25
"""Seconds, at most, that `Exporter.stop` keeps for breaking off what hangs."""


class _Request:
    """A flush, or the end.

    Attributes:
        is_last: Whether nothing is to be sent afterwards.
        marks: How much of each pipeline it is about; None until it has begun.
        lost: How much of each was lost before.
        is_done: Whether all that was there is delivered.
    """

    __slots__ = ("done", "is_done", "is_last", "lost", "marks")

    def __init__(self, *, is_last: bool) -> None:
        self.is_last = is_last
        self.marks: list[int] | None = None
        self.lost = 0
        self.is_done = False
        self.done = threading.Event()


class Exporter:
    """Sends what is in some pipelines, by a thread of its own, in one process.

    Args:
        pipelines: By the name of the signal.
        collect: Loads the metrics into their pipeline; None if there are none.
        interval: Seconds between two collections.
        timeout: Of a request, in seconds.
    """

    def __init__(
        self,
        pipelines: Mapping[str, Pipeline],
        *,
        collect: Callable[[], None] | None,
        interval: float,
        timeout: float,
    ) -> None:
        self.pipelines = pipelines
        self._all: Sequence[Pipeline] = tuple(pipelines.values())
        self._collect = collect
        self._interval = interval
        self._timeout = timeout
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._open: list[_Request] = []
        self._collect_due = monotonic() + interval if collect else inf
        self._stop_at = inf
        self._is_closing = False
        self._is_stopped = False
        self._is_awake = False
        self._thread: threading.Thread | None = None
        self._start_due = 0.0
        # Whoever has this entry is the one who sends.
        self._role = [None]

    # --- Any thread ------------------------------------------------------------------

    def offer(self, signal: str, record: object, size: int) -> None:
        """Take in *record*, or count it as dropped. Never waits for anything."""
        is_full = self.pipelines[signal].offer(record, size)
        if self._thread is None:
            self.attend()
        if is_full and not self._is_awake:
            self._is_awake = True
            self._requests.put(None)

    def attend(self) -> bool:
        """Start the thread if there is none; return whether there is one.

        Once `stop` was called none is started any more: the interpreter may be ending,
        and `stop` sends what there is by itself.
        """
        if self._role and not self._is_closing:
            self._start_thread()
        return not self._role

    def counts(self) -> list[Counts]:
        """Return what became of the records of each pipeline."""
        return [pipeline.counts() for pipeline in self._all]

    def unsent(self) -> int:
        """Return how many records were left when it was stopped."""
        return sum(
            each.queued + each.dropped.get("shutdown", 0) for each in self.counts()
        )

    def flush(self, timeout: float) -> bool:
        """Send what there is; return whether all of it arrived in *timeout* seconds."""
        return self._ask(_Request(is_last=False), monotonic() + timeout)

    def stop(self, timeout: float) -> None:
        """Send what there is, for *timeout* seconds at most, and drop the rest."""
        now = monotonic()
        end = now + timeout
        self._is_closing = True
        self._stop_at = end - min(MARGIN, timeout / 2)
        for pipeline in self._all:
            pipeline.queue.closed = True
        self._ask(_Request(is_last=True), self._stop_at)
        self._is_stopped = True
        for pipeline in self._all:
            pipeline.give_up("shutdown")
            pipeline.abort()
        self._requests.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, end - monotonic()))

    def _ask(self, request: _Request, deadline: float) -> bool:
        if self._thread is threading.current_thread():
            return False
        self._requests.put(request)
        if not self.attend():
            self._work_here(request, deadline)
        request.done.wait(max(0.0, deadline - monotonic()))
        return request.is_done

    # --- Who sends -------------------------------------------------------------------

    def _start_thread(self) -> None:
        if monotonic() < self._start_due:
            return
        try:
            self._role.pop()
        except IndexError:
            return
        thread = threading.Thread(target=self._run, name="llmevents-otel", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # At interpreter shutdown (from Python 3.12), or no thread is to be had.
            self._start_due = monotonic() + RETRY_START
            self._role.append(None)

    def _run(self) -> None:
        self._thread = threading.current_thread()
        token = attach(_silent())
        try:
            while self._turn(self._wait()):
                pass
        finally:
            self._end()
            detach(token)

    def _work_here(self, request: _Request, deadline: float) -> None:
        """Do in this thread what the other would, because there is none."""
        try:
            self._role.pop()
        except IndexError:
            return
        self._thread = threading.current_thread()
        token = attach(_silent())
        try:
            while not request.done.is_set() and monotonic() < deadline:
                self._turn(min(self._wait(), deadline - monotonic()))
        finally:
            self._end()
            detach(token)

    def _end(self) -> None:
        for pipeline in self._all:
            pipeline.close()
        with suppress(Empty):
            while True:
                self._open.append(
                    self._requests.get_nowait() or _Request(is_last=False)
                )
        for request in self._open:
            request.done.set()
        self._open.clear()
        self._thread = None
        self._role.append(None)

    # --- What the one who sends does ---------------------------------------------------

    def _wait(self) -> float:
        # Before it looks: who fills a batch after the look has to wake this thread.
        if all(len(pipeline.queue) < MOST_RECORDS for pipeline in self._all):
            self._is_awake = False
        now = monotonic()
        urgent = bool(self._open)
        waits = [pipeline.wait(now, urgent=urgent) for pipeline in self._all]
        return max(0.0, min(DELAY, self._collect_due - now, *waits))

    def _turn(self, wait: float) -> bool:
        """Wait for a request, then send all that is due; False if it was the last."""
        try:
            request = self._requests.get(wait > 0, wait)
        except Empty:
            request = None
        now = monotonic()
        if request is not None:
            for pipeline in self._all:
                pipeline.hurry(now)
        if self._collect is not None and (request or now >= self._collect_due):
            self._collect_due = now + self._interval
            self._collect()
        if request is not None:
            request.marks = [each.queue.admitted.value() for each in self._all]
            request.lost = sum(each.lost for each in self._all)
            self._open.append(request)
        self._send()
        return self._settle() and not self._is_stopped

    def _send(self) -> None:
        """Send a request of each signal that has one due."""
        urgent = bool(self._open)
        for pipeline in self._all:
            now = monotonic()
            timeout = min(self._timeout, self._stop_at - now)
            if timeout > 0:
                pipeline.work(now, timeout, urgent=urgent)

    def _settle(self) -> bool:
        """Answer the requests that are done; return whether to go on."""
        go_on = True
        for request in list(self._open):
            marks = request.marks or []
            pairs = zip(self._all, marks, strict=True)
            if all(pipeline.settled >= mark for pipeline, mark in pairs):
                request.is_done = request.lost == sum(each.lost for each in self._all)
                self._open.remove(request)
                request.done.set()
                go_on = go_on and not request.is_last
        return go_on


def _silent() -> Context:
    """Return a context in which instrumented HTTP clients make no spans."""
    context = set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, Context())  # noqa: FBT003
    return set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, True, context)  # noqa: FBT003


def warn_at_exit(lost: int, timeout: float) -> None:
    """Say on standard error what was not delivered when the program ended."""
    if lost and sys.stderr is not None:
        sys.stderr.write(
            f"llmevents: records not delivered to OpenTelemetry at exit: {lost}; "
            f"the endpoint did not take them within {timeout:g} s\n"
        )


def is_multiprocessing_child() -> bool:
    """Whether `multiprocessing` started this process, which passes over `atexit`."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
