"""From one start to one stop: handlers, and an exporter in every process."""

from __future__ import annotations

import atexit
import itertools
import os
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents.reporting import ReporterStatus
from llmevents_otel._export import Exporter, is_multiprocessing_child, warn_at_exit
from llmevents_otel._failures import FailureReports
from llmevents_otel._pipeline import Pipeline, Records
from llmevents_otel._retry import RetryPolicy


if TYPE_CHECKING:
    from llmevents import Bus, Handler, Name, Subscription
    from llmevents.metrics import MetricStore
    from llmevents_otel._otlp import Sender
    from llmevents_otel._spans import SpanRecorder

METRICS = "metrics"

EXIT_TIMEOUT = 2.0
"""Seconds that the end of the process is held up at most."""

_next_id = itertools.count(1).__next__


class _Signal(NamedTuple):
    """What a pipeline is made of, once per process."""

    records: Records
    make_sender: Callable[[], Sender]
    places: int


class Session:
    """What a started reporter consists of.

    Args:
        bus: Where handlers are attached.
        policy: When to try again.
        interval: Seconds between two collections of metrics.
        timeout: Seconds for one request.
    """

    def __init__(
        self, bus: Bus, *, policy: RetryPolicy, interval: float, timeout: float
    ) -> None:
        self.bus = bus
        self._policy = policy
        self._interval = interval
        self._timeout = timeout
        self._id = f"llmevents.otel.{_next_id()}"
        self._pid = os.getpid()
        self._signals: dict[str, _Signal] = {}
        self._collect: Callable[[Pipeline], None] | None = None
        self._store: MetricStore | None = None
        self._subscriptions: list[Subscription] = []
        self._flushed_too: list[Any] = []
        self._at_stop: list[Callable[[], None]] = []
        self._recorder: SpanRecorder | None = None
        # By process: a forked child finds none under its own id, and makes one.
        self._exporters: dict[int, Exporter] = {}
        self.is_running = False

    # --- Putting it together ---------------------------------------------------------

    def add(
        self,
        name: str,
        records: Records,
        make_sender: Callable[[], Sender],
        places: int,
    ) -> None:
        """Export a signal."""
        self._signals[name] = _Signal(records, make_sender, places)

    def collect_with(
        self, collect: Callable[[Pipeline], None], metrics: MetricStore
    ) -> None:
        """Have *collect* load the *metrics*."""
        self._collect = collect
        self._store = metrics

    def attach(self, events: list[Name], handler: Handler) -> None:
        """Attach *handler* to the bus until the session stops."""
        handler_id = f"{self._id}.{len(self._subscriptions)}"
        self._subscriptions.append(self.bus.attach(handler_id, events, handler))

    def record(self, recorder: SpanRecorder) -> None:
        """Close *recorder* at the end, and count the spans that it has forgotten."""
        self._recorder = recorder

    def flush_too(self, provider: object) -> None:
        """Flush *provider*, which is the user's, whenever this is flushed."""
        self._flushed_too.append(provider)

    def at_stop(self, action: Callable[[], None]) -> None:
        """Call *action* when the session stops."""
        self._at_stop.append(action)

    # --- Running ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread that sends."""
        self.is_running = True
        if self._store is not None and len(self._signals) == 1:
            # Spans and log records show by themselves that a child has come to life.
            self.at_stop(self._store.on_first_event(self._notice))
        if self._signals:
            atexit.register(self._at_exit)
            self._exporter().attend()

    def offer(self, signal: str, record: object, size: int) -> None:
        """Take in *record*, or count it as dropped. Never waits for anything."""
        exporter = self._exporters.get(os.getpid())
        (exporter or self._exporter()).offer(signal, record, size)

    def flush(self, timeout: float) -> bool:
        """Send what there is; return whether all of it arrived in *timeout* seconds."""
        deadline = monotonic() + timeout
        exporter = self._exporters.get(os.getpid())
        is_done = exporter is None or exporter.flush(timeout)
        for provider in self._flushed_too:
            left = max(0.0, deadline - monotonic())
            is_done = _flush(provider, left) and is_done
        return is_done

    def stop(self, timeout: float) -> None:
        """Send what there is for *timeout* seconds, drop the rest, and end."""
        if not self.is_running:
            return
        deadline = monotonic() + timeout
        self.is_running = False
        for subscription in self._subscriptions:
            subscription.detach()
        if self._recorder is not None:
            self._recorder.close()
        atexit.unregister(self._at_exit)
        exporter = self._exporters.get(os.getpid())
        if exporter is not None:
            exporter.stop(max(0.0, deadline - monotonic()))
        # Not earlier: what was sent last is to have its exemplars.
        for action in self._at_stop:
            action()

    def status(self) -> ReporterStatus:
        """Return the counts of this process."""
        exporter = self._exporters.get(os.getpid())
        counts = [] if exporter is None else exporter.counts()
        dropped: dict[str, int] = {}
        unfinished = 0
        if self._recorder is not None and self._pid == os.getpid():
            unfinished = self._recorder.forgotten
        if unfinished:
            dropped["unfinished"] = unfinished
        for each in counts:
            for reason, number in each.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + number
        return ReporterStatus(
            accepted=sum(each.accepted for each in counts) + unfinished,
            delivered=sum(each.delivered for each in counts),
            dropped=dropped,
            queued=sum(each.queued for each in counts),
        )

    def _notice(self) -> None:
        """Start the thread of a forked child, whose metrics nobody else sends."""
        if os.getpid() not in self._exporters:
            self._exporter().attend()

    def _exporter(self) -> Exporter:
        pid = os.getpid()
        exporter = self._exporters.setdefault(pid, self._make_exporter())
        if pid != self._pid:
            for other in [other for other in self._exporters if other != pid]:
                del self._exporters[other]
            if is_multiprocessing_child():
                from multiprocessing.util import Finalize

                # Before the priorities from 0 on that multiprocessing itself has.
                Finalize(None, self._at_exit, exitpriority=100)
        return exporter

    def _make_exporter(self) -> Exporter:
        reports = FailureReports()
        pipelines = {
            name: Pipeline(
                signal.records,
                signal.make_sender,
                places=signal.places,
                policy=self._policy,
                report=reports.report,
            )
            for name, signal in self._signals.items()
        }
        load = self._collect

        def collect() -> None:
            assert load is not None  # noqa: S101  # or it is not called
            with reports.contained("metrics"):
                load(pipelines[METRICS])

        return Exporter(
            pipelines,
            collect=None if load is None else collect,
            interval=self._interval,
            timeout=self._timeout,
        )

    def _at_exit(self) -> None:
        exporter = self._exporters.get(os.getpid())
        if exporter is None or not self.is_running:
            return
        self.stop(EXIT_TIMEOUT)
        warn_at_exit(exporter.unsent(), EXIT_TIMEOUT)


def _flush(provider: object, timeout: float) -> bool:
    """Flush a provider of the user's, if it can be flushed."""
    force_flush = getattr(provider, "force_flush", None)
    if force_flush is None:
        return True
    try:
        return force_flush(int(timeout * 1000)) is not False
    except Exception:  # noqa: BLE001  # foreign code
        return False
