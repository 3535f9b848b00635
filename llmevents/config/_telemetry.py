"""`Telemetry`: what `configure` has started, and how to end it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from llmevents._bus import Bus, default_bus
from llmevents.config._losses import PERIOD, Losses


if TYPE_CHECKING:
    from typing_extensions import Self

    from llmevents._subscription import Subscription
    from llmevents.config._calls import Call
    from llmevents.config._llm import LLMLayer
    from llmevents.config._views import TelemetryStatus, Usage
    from llmevents.ledger import Engine
    from llmevents.llm.budgets import BudgetStatus
    from llmevents.metrics import MetricStore
    from llmevents.poller import Poller
    from llmevents.reporting import Reporter


class Running:
    """What there is to be ended.

    Attributes:
        bus: Where the events are.
        store: Attached to *bus*.
        reporters: Started, by name.
        stops: A call of ``stop`` for each of them.
        logger: The debug logger's subscription.
        instrumented: SDKs that were not instrumented before.
        llm: Prices, thresholds and budgets.
        timeout: Seconds for `Telemetry.flush` and `Telemetry.shutdown` by default.
    """

    def __init__(self, bus: Bus, store: MetricStore, timeout: float) -> None:
        self.bus = bus
        self.store = store
        self.timeout = timeout
        self.reporters: dict[str, Reporter] = {}
        self.stops: dict[str, Call] = {}
        self.logger: Subscription | None = None
        self.instrumented: tuple[str, ...] = ()
        self.llm: LLMLayer | None = None
        self._losses = Losses(bus, store, self.reporters)
        self._poller: Poller | None = None
        self.pid = os.getpid()

    def begin(self, name: str, reporter: Reporter) -> None:
        """Start a reporter, and the thread that will stop it."""
        from llmevents.config._calls import Call

        reporter.start(self.bus, self.store)
        self.reporters[name] = reporter
        stop = Call(f"llmevents-stop-{name}", reporter.stop)
        self.stops[name] = stop
        stop.prepare()

    def watch_losses(self) -> None:
        """Have what is lost emitted as events, every now and then."""
        from llmevents.poller import Poller

        self._poller = Poller([self._losses.emit], period=PERIOD, bus=self.bus)
        self._poller.start()

    def end(self, timeout: float) -> None:
        """End everything within *timeout* seconds, the store last."""
        deadline = monotonic() + timeout
        if self._poller is not None:
            self._poller.stop(timeout)
        if self.instrumented:
            from llmevents.instrumentation import uninstrument

            uninstrument(*self.instrumented)
        if self.llm is not None:
            self.llm.end()
        self.all_at_once("stop", self._stop_calls(), deadline)
        self._losses.emit()
        if self.logger is not None:
            self.logger.detach()
        self.store.detach()

    def all_at_once(
        self, what: str, calls: Mapping[str, Call], deadline: float
    ) -> bool:
        """Begin all calls, then wait for all; return whether they did as asked.

        One that raises, or does not come back in time, is logged and becomes the
        event ``llmevents.reporter.failure``.
        """
        for call in calls.values():
            call.begin(deadline)
        done = True
        for name, call in calls.items():
            if not call.join():
                self._report(name, f"{what}_timeout", None)
                done = False
            elif call.error is not None:
                self._report(name, f"{what}_error", call.error)
                done = False
            else:
                done = done and call.result is not False
        return done

    def _stop_calls(self) -> Mapping[str, Call]:
        if self.pid == os.getpid():
            return self.stops
        # Threads that wait are not there in a forked child. What a reporter does
        # in one is its own affair.
        return self.calls("stop", lambda reporter: reporter.stop)

    def calls(
        self, what: str, method: Callable[[Reporter], Callable[[float], object]]
    ) -> dict[str, Call]:
        """Return a call of a method for each reporter."""
        from llmevents.config._calls import Call

        return {
            name: Call(f"llmevents-{what}-{name}", method(reporter))
            for name, reporter in self.reporters.items()
        }

    def _report(self, name: str, reason: str, error: BaseException | None) -> None:
        import logging

        from llmevents._redact import describe_error

        kind, message = ("TimeoutError", "no answer in time")
        if error is not None:
            kind, message = describe_error(error)
        logging.getLogger("llmevents").error(
            "reporter %r: %s: %s: %s", name, reason, kind, message
        )
        self.bus.execute(
            ("llmevents", "reporter", "failure"),
            {"count": 1},
            {"reporter": name, "reason": reason, "error_type": kind},
        )


class Telemetry:
    """Everything that `configure` has started; a context manager that ends it.

    It ends with the process too, as far as `atexit` is called: not by SIGTERM
    without a handler, and not by `os._exit`. In a forked child it does not touch
    what belongs to the parent.

    All methods may be called from any thread.
    """

    def __init__(
        self,
        running: Running | None = None,
        *,
        bus: Bus | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._running = running
        self._bus = bus or default_bus
        self._on_end = on_end
        self._store = None if running is None else running.store
        # Whoever takes the one item ends what is running.
        self._turn = [] if running is None else [True]
        self._ended = threading.Event()
        self._finalizer: Callable[[], object] | None = None

    def __repr__(self) -> str:
        state = "running" if self._turn else "not running"
        return f"<Telemetry {state}, reporters: {', '.join(self.reporters) or 'none'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    @property
    def bus(self) -> Bus:
        """The bus that is listened to."""
        return self._bus

    @property
    def metrics(self) -> MetricStore:
        """The metric store; without definitions if llmevents is disabled."""
        if self._store is None:
            from llmevents.metrics import MetricStore

            self._store = MetricStore(())
        return self._store

    @property
    def reporters(self) -> Mapping[str, Reporter]:
        """The reporters by name, read-only."""
        return MappingProxyType(
            {} if self._running is None else self._running.reporters
        )

    def status(self) -> TelemetryStatus:
        """Return what everything did so far. Never waits."""
        from llmevents.config._views import TelemetryStatus

        reporters = {name: one.status() for name, one in self.reporters.items()}
        llm = None if self._running is None else self._running.llm
        return TelemetryStatus(
            reporters=MappingProxyType(reporters),
            store=MappingProxyType(
                {
                    "refused": self.metrics.refused,
                    "skipped": self.metrics.skipped,
                    "overflowing": len(self.metrics.overflowing),
                }
            ),
            bus=self._bus.stats(),
            budgets=MappingProxyType({} if llm is None else llm.counts()),
        )

    def usage(self) -> Usage:
        """Return what calls came to: those of the ledger, or else of the metrics.

        With a ledger they are all calls that it keeps, of other processes and earlier
        runs too; what it has not written yet is written first. Otherwise they are those
        of this process, as far as the metrics of the presets say: ``default`` and
        ``service`` have all numbers, ``basic`` has calls and errors of chats, ``cost``
        has tokens and cost.

        Raises:
            OSError: The ledger cannot be read.
        """
        from llmevents.config._views import usage_of, usage_of_ledger

        for reporter in self.reporters.values():
            ask: Callable[[], Engine] | None = getattr(reporter, "engine", None)
            if ask is not None:
                reporter.flush(self._seconds(None))
                with closing(ask()) as engine:
                    return usage_of_ledger(engine)
        return usage_of(self.metrics.snapshot())

    def budgets(self) -> tuple[BudgetStatus, ...]:
        """Return what of each budget is spent and reserved, by key, at present."""
        llm = None if self._running is None else self._running.llm
        return () if llm is None or llm.guard is None else llm.guard.status()

    def flush(self, timeout: float | None = None) -> bool:
        """Have all reporters hand over what there is, all at once.

        Args:
            timeout: Seconds for all together; ``shutdown_timeout`` by default.

        Returns:
            Whether all did it in time; those that are ended have nothing to hand
            over.

        Raises:
            OptionError: *timeout* is no finite number of seconds, 0 or more.
        """
        running = self._running
        seconds = self._seconds(timeout)
        if running is None or not self._turn:
            return True
        calls = running.calls("flush", lambda reporter: reporter.flush)
        return running.all_at_once("flush", calls, monotonic() + seconds)

    def shutdown(self, timeout: float | None = None) -> None:
        """End everything that was started; a second time does nothing.

        SDKs are given back first, so that no new events come. Then all reporters are
        told to stop, all at once, and one that raises or hangs does not stop the
        others. Logger and metric store are detached last. Whoever calls this while
        it is under way waits for the end as well.

        Args:
            timeout: Seconds for all together; ``shutdown_timeout`` by default.

        Raises:
            OptionError: *timeout* is no finite number of seconds, 0 or more.
        """
        seconds = self._seconds(timeout)
        running = self._running
        if running is None:
            return
        try:
            self._turn.pop()
        except IndexError:
            if running.pid == os.getpid():
                self._ended.wait(seconds)
            return
        try:
            running.end(seconds)
        finally:
            self._leave()

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return 0.0 if self._running is None else self._running.timeout
        from llmevents._options import check_seconds

        return check_seconds(timeout, "timeout")

    def end_with_process(self) -> None:
        """Have `shutdown` called when the process ends."""
        import atexit

        atexit.register(self.shutdown)
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            # A child of multiprocessing ends by os._exit, without atexit.
            from multiprocessing.util import Finalize

            self._finalizer = Finalize(None, self.shutdown, exitpriority=100).cancel

    def _leave(self) -> None:
        import atexit

        atexit.unregister(self.shutdown)
        if self._finalizer is not None:
            self._finalizer()
        self._on_end()
        self._ended.set()
