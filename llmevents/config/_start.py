"""From what is prepared to what is running."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from llmevents import _forksafe
from llmevents._errors import HandlerExistsError, LLMEventsError
from llmevents.config._llm import LLMLayer
from llmevents.config._telemetry import Running, Telemetry


if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmevents._bus import Bus
    from llmevents.config._prepare import Prepared, Setting


class Current:
    """The telemetry that is running in this process, if any."""

    def __init__(self) -> None:
        self.telemetry: Telemetry | None = None
        self.settings: Mapping[str, Setting] | None = None
        self._lock = threading.Lock()
        _forksafe.registry.register(self)

    def after_fork_in_child(self) -> None:
        """Another thread of the parent may have been configuring."""
        self._lock = threading.Lock()

    def start(self, prepared: Prepared, bus: Bus) -> Telemetry:
        """Start what is prepared, unless something is running already.

        Raises:
            LLMEventsError: Something is.
        """
        if not self._lock.acquire(blocking=False):
            msg = "llmevents is being configured in another thread; do it in one"
            raise LLMEventsError(msg)
        try:
            self.refuse_second()
            running = _run(prepared, bus)
            telemetry = Telemetry(running, bus=bus, on_end=self._forget)
            self.telemetry = telemetry
            self.settings = MappingProxyType(dict(prepared.settings))
        finally:
            self._lock.release()
        telemetry.end_with_process()
        return telemetry

    def refuse_second(self) -> None:
        """Raise if something is running.

        Raises:
            LLMEventsError: It is.
        """
        if self.telemetry is not None:
            msg = (
                f"llmevents is configured already: {self.telemetry!r}; call "
                f"shutdown() on what configure() returned before configuring again"
            )
            raise LLMEventsError(msg)

    def _forget(self) -> None:
        self.telemetry = None
        self.settings = None


def _run(prepared: Prepared, bus: Bus) -> Running:
    if prepared.store is None:  # pragma: no cover - a problem, which was raised
        msg = "there is no metric store"
        raise LLMEventsError(msg)
    running = Running(bus, prepared.store, prepared.shutdown_timeout)
    try:
        running.store.attach(bus)
        running.llm = LLMLayer(
            bus,
            prepared.pricer,
            prepared.thresholds,
            prepared.budgets,
            prepared.budget_store,
        )
        if prepared.logger is not None:
            from llmevents.logger import attach_default_logger

            level, events = prepared.logger
            # One that was attached by hand stays as it is.
            with suppress(HandlerExistsError):
                running.logger = attach_default_logger(level, events, bus=bus)
        for name, reporter in prepared.reporters.items():
            running.begin(name, reporter)
        if running.reporters:
            running.watch_losses()
        _instrument(running, prepared)
    except BaseException:
        running.end(prepared.shutdown_timeout)
        raise
    return running


def _instrument(running: Running, prepared: Prepared) -> None:
    sdks = prepared.instrument
    if sdks:
        from llmevents.instrumentation import instrument, wanted

        running.instrumented = tuple(sdk for sdk in sdks if sdk not in wanted)
        instrument(
            *sdks,
            bus=running.bus,
            include_stream_usage=prepared.include_stream_usage,
        )


current = Current()
"""The process's only one."""
