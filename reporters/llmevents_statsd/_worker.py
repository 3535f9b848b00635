"""The thread that looks at the metric store and sends what is new."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from math import inf
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from llmevents_statsd._packets import fill
from llmevents_statsd._transport import BUSY, TOO_LONG, Transport, reason_of


if TYPE_CHECKING:
    from llmevents.metrics import MetricStore, Snapshot
    from llmevents_statsd._counts import Counts
    from llmevents_statsd._options import Options
    from llmevents_statsd._series import Book, Change, Group

BURST = 16
"""Packets that are sent at once; a receiver's buffer holds some ninety (Linux)."""

PAUSE = 0.002
"""Seconds between bursts, and before another try where there is no room."""

PATIENCE = 50
"""Tries in one look where there is no room."""


class _Request:
    """Something that the thread is asked to do at once."""

    __slots__ = ("deadline", "done", "is_last", "succeeded")

    def __init__(self, timeout: float, *, is_last: bool) -> None:
        self.deadline = time.monotonic() + timeout
        self.is_last = is_last
        self.done = threading.Event()
        self.succeeded = False


class Worker:
    """A daemon thread, from one start to one stop.

    Args:
        metrics: What to look at.
        book: What was sent; this thread's from now on.
        counts: Likewise.
        options: Those of the reporter.
        before: The worker that had these before and may not have ended yet.
    """

    def __init__(
        self,
        metrics: MetricStore,
        book: Book,
        counts: Counts,
        options: Options,
        before: Worker | None,
    ) -> None:
        self._metrics = metrics
        self._book = book
        self._counts = counts
        self._options = options
        self._before = before
        self._transport = Transport(options.host, options.port, options.socket_path)
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._deadline = inf
        self._unconfirmed: list[Change] = []
        self._first = 0
        self._pid = os.getpid()
        self._thread = threading.Thread(
            target=self._run, name="llmevents-statsd", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def belongs_here(self) -> bool:
        """Whether it was made in this process, and not before a fork."""
        return self._pid == os.getpid()

    def is_running(self) -> bool:
        """Whether it has not ended, and can be asked for something."""
        return self.belongs_here and self._deadline == inf and self._thread.is_alive()

    def flush(self, timeout: float) -> bool:
        """Send what there is now; return whether all of it was sent in time."""
        request = _Request(timeout, is_last=False)
        self._requests.put(request)
        return request.done.wait(max(0.0, timeout)) and request.succeeded

    def stop(self, timeout: float) -> None:
        """Send what there is, as far as there is time, and end."""
        request = _Request(timeout, is_last=True)
        self._deadline = request.deadline
        self._requests.put(request)
        self._thread.join(max(0.0, timeout))
        self._transport.cancel()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        if self._before is not None:
            self._before.join()
            self._before = None
        is_last = False
        while not is_last:
            request = self._next_request()
            is_last = request is not None and request.is_last
            succeeded = self._look()
            if request is not None:
                request.succeeded = succeeded
                request.done.set()
        self._confirm()
        self._transport.close()
        while not self._requests.empty():
            self._requests.get().done.set()

    def _next_request(self) -> _Request | None:
        try:
            return self._requests.get(timeout=self._options.interval)
        except Empty:
            return None

    def _look(self) -> bool:
        """Send what is new; return whether all of it was sent."""
        try:
            self._confirm()
            return self._send_all(self._metrics.snapshot())
        except Exception as error:  # noqa: BLE001  # the thread has to go on
            self._counts.log.report("cannot read the metrics for StatsD", error)
            return False

    def _confirm(self) -> None:
        """Take back the last look if it was refused, as could not be known then."""
        try:
            self._transport.check()
        except OSError as error:
            self._fail(error)
        self._unconfirmed.clear()

    def _send_all(self, snapshot: Snapshot) -> bool:
        complete = True
        patience = iter(range(PATIENCE))
        for number, packet in enumerate(
            fill(self._groups(snapshot), self._options.mtu)
        ):
            if number and not number % BURST:
                time.sleep(PAUSE)
            if time.monotonic() >= self._deadline:
                return False
            self._counts.queue(packet.lines)
            try:
                self._send(packet.data, patience)
            except OSError as error:
                self._counts.drop(reason_of(error))
                self._fail(error)
                complete = False
                if reason_of(error) != TOO_LONG:
                    # Another time others come first.
                    self._first += 1
                    break
                continue
            self._counts.deliver()
            self._note(packet.changes)
        return complete

    def _groups(self, snapshot: Snapshot) -> Iterator[Group]:
        """Yield what can be sent; count what cannot, and be done with it."""
        for group in self._book.groups(snapshot, self._first):
            reason = group.reason
            if not reason and len(group.data) > self._options.mtu:
                reason = "oversize"
            if reason:
                self._counts.drop(reason, group.lines)
                group.change(1)
            else:
                yield group

    def _send(self, data: bytes, patience: Iterator[int]) -> None:
        """Send a packet, with some patience where there is no room for it."""
        while True:
            try:
                self._transport.send(data)
            except OSError as error:
                if (
                    reason_of(error) not in BUSY
                    or time.monotonic() >= self._deadline
                    or next(patience, None) is None
                ):
                    raise
                time.sleep(PAUSE)
            else:
                return

    def _note(self, changes: Iterable[Change]) -> None:
        for change in changes:
            change(1)
        self._unconfirmed.extend(changes)

    def _fail(self, error: OSError) -> None:
        """Make the next packet go through another socket, and say why.

        A datagram that nobody listens for is refused some time after it was sent, and
        nothing says which one it was: all of the look are taken back.
        """
        reason = reason_of(error)
        if reason == "refused":
            for change in self._unconfirmed:
                change(-1)
            self._unconfirmed.clear()
        if reason not in BUSY and reason != TOO_LONG:
            self._transport.close()
        self._counts.log.report(f"cannot send to StatsD at {self._transport}", error)
