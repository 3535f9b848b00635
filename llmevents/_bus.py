"""The event bus: who listens to what, and calling them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from llmevents import _forksafe
from llmevents._clock import SYSTEM_CLOCK, Clock
from llmevents._errors import (
    EventPayloadError,
    HandlerExistsError,
    HandlerNotFoundError,
)
from llmevents._failure import FailureReporter, forget
from llmevents._names import parse_events, parse_name
from llmevents._nesting import MAX_DEPTH, depth_of
from llmevents._registration import (
    HandlerInfo,
    Registration,
    check_handler,
    check_id,
    check_policy,
    default_id,
)
from llmevents._subscription import Subscription
from llmevents._table import (
    HandlerTable,
    Route,
    SpanNames,
    fan_out,
    fan_out_plain,
)
from llmevents._tally import Tally
from llmevents._throttle import FailureLog, prepare
from llmevents._types import (
    EventName,
    FailurePolicy,
    Handler,
    Measurements,
    Metadata,
    Name,
    Names,
)


H = TypeVar("H", bound=Handler)

TAKEOVER = 1024
"""Dispatches that meet another one until one of them clears its flag."""

ambient: ContextVar[Metadata | None] = ContextVar("llmevents_context", default=None)
"""The metadata of the `llmevents.context` blocks around, merged and cleaned."""

_get_ambient = ambient.get
_context_in_use = False


def use_context() -> None:
    """Make every bus look for ambient metadata from now on.

    Until the first `llmevents.context` block of a process, `Bus.execute` saves the
    look into the context variable, a tenth of its time. There is no way back: tasks
    keep the context of a block that has ended.
    """
    global _context_in_use  # noqa: PLW0603  # read on every emission: nothing is faster
    _context_in_use = True


class Bus:
    """An independent event bus; the functions of `llmevents` are one bus's methods.

    Handlers run at once, in the caller, in the order they were attached. Emitting
    takes no lock; attaching and detaching replace an immutable table, and an event
    under way goes on with the handlers that it started with.

    Args:
        strict: Refuse events and measurements that are not declared in
            `llmevents.events`, with an `UndeclaredEventError` to the emitter. Made
            for tests: every emission is then checked in full.
        clock: Where spans take their time from; the system's clocks by default. A
            `llmevents.testing.ManualClock` makes durations predictable.

    Attributes:
        clock: As given.
        quiet: Span prefixes that nobody listens to, as far as anybody asked; spans
            look here first. Replaced as a whole when handlers come or go.
    """

    __slots__ = (
        "__weakref__",
        "_detours",
        "_dispatching",
        "_failures",
        "_lock",
        "_recursion_stops",
        "_refused_values",
        "_routes",
        "_table",
        "clock",
        "quiet",
    )

    def __init__(self, *, strict: bool = False, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self._lock = threading.RLock()
        self._dispatching = False
        self._failures = FailureReporter(self)
        self._recursion_stops = Tally()
        self._refused_values = Tally()
        self._detours = 0
        self._table = HandlerTable((), strict=strict)
        self._routes: dict[Any, Route | None] = self._table.routes
        self.quiet = self._table.quiet
        _forksafe.registry.register(self)

    def attach(
        self,
        handler_id: Hashable,
        events: Names,
        handler: Handler,
        config: object = None,
        *,
        on_failure: FailurePolicy = "keep",
    ) -> Subscription:
        """Call *handler* whenever one of *events* is emitted.

        Args:
            handler_id: Any hashable value; unique on this bus.
            events: One name or pattern, or a list of them. In a pattern ``*`` is one
                segment and ``**`` any number: ``"llm.*.stop"``, ``"llm.**"``.
                Overlapping patterns call the handler once per event.
            handler: ``handler(event, measurements, metadata, config)``. Both
                mappings are read-only by contract; who keeps them copies them. Its
                time is the emitter's: slow work belongs in
                `llmevents.background`.
            config: Handed to the handler as it is.
            on_failure: What an `Exception` from the handler leads to. ``"keep"``
                counts and reports it, ``"detach"`` also removes the handler,
                ``"raise"`` raises it in the emitter once the other handlers have
                run (for tests).

        Returns:
            A handle that detaches the handler, also as a context manager.

        Raises:
            EventNameError: A name or pattern is malformed, or the list is empty.
            HandlerError: *handler* is not callable with four arguments, or is a
                coroutine or generator function.
            HandlerExistsError: *handler_id* is taken. Nothing was attached.
            OptionError: *on_failure* is unknown.
        """
        check_id(handler_id)
        check_handler(handler)
        check_policy(on_failure)
        parsed = parse_events(events)
        prepare()
        registration = Registration(
            handler_id,
            parsed,
            handler,
            config,
            on_failure,
            failed=self._failed,
            log=FailureLog(self.clock),
        )

        def add(table: HandlerTable) -> HandlerTable:
            if handler_id in table.registrations:
                raise HandlerExistsError(handler_id)
            return table.adding(registration)

        self._change(add)
        return Subscription(self, registration)

    def on(
        self,
        *events: Name,
        handler_id: Hashable = None,
        config: object = None,
        on_failure: FailurePolicy = "keep",
    ) -> Callable[[H], H]:
        """Attach the decorated function to *events*; the function stays as it is.

        Args:
            events: Names or patterns, one or more.
            handler_id: By default ``module.qualname`` of the function.
            config: See `attach`.
            on_failure: See `attach`.

        Raises:
            LLMEventsError: As `attach`.
        """
        parse_events(list(events))
        check_id(handler_id)
        check_policy(on_failure)

        def decorate(handler: H) -> H:
            chosen = default_id(handler) if handler_id is None else handler_id
            self.attach(chosen, list(events), handler, config, on_failure=on_failure)
            return handler

        return decorate

    def detach(self, handler_id: Hashable) -> None:
        """Detach a handler from all its events.

        An event that is being dispatched still reaches it; no later one does.

        Raises:
            HandlerNotFoundError: No handler has this id.
        """
        check_id(handler_id)

        def remove(table: HandlerTable) -> HandlerTable:
            registration = table.registrations.get(handler_id)
            if registration is None:
                raise HandlerNotFoundError(handler_id)
            return table.removing(registration)

        self._change(remove)

    def list_handlers(self, prefix: Name = ()) -> list[HandlerInfo]:
        """Return the attached handlers whose name or pattern starts with *prefix*.

        In attach order, one entry per name or pattern as it was given. The empty
        prefix lists all; a pattern is found under the segments that it is written
        with.

        Raises:
            EventNameError: *prefix* is malformed.
        """
        wanted = parse_name(prefix, may_be_empty=True)
        return [
            info
            for registration in self._table.registrations.values()
            for info in registration.infos()
            if info.event[: len(wanted)] == wanted
        ]

    def has_handlers(self, event: Name) -> bool:
        """Whether *event* is worth emitting: somebody listens, by name or by pattern.

        A handler may not want what its patterns fit, as the OpenTelemetry reporter does
        not want requests that it shows no spans of. It counts for nothing here, and
        receives the event all the same where somebody else has it emitted.

        Raises:
            EventNameError: *event* is malformed.
        """
        table = self._table
        try:
            return table.heard[event]
        except (KeyError, TypeError):
            return table.is_heard(event, parse_name(event))

    def execute(
        self,
        event: Name,
        measurements: Measurements,
        metadata: Metadata | None = None,
    ) -> None:
        """Emit an event: call every handler attached to it, one after the other.

        The values are passed on as they are, at full speed: no redaction and no
        check of measurements. Spans and `llmevents.llm` calls do both. Ambient
        metadata of `llmevents.context` is added below *metadata*.

        What a handler raises is contained, see `attach`; only exceptions that are
        no `Exception` (KeyboardInterrupt, SystemExit, CancelledError) come out, the
        first of them, after the remaining handlers have run.

        Args:
            event: The name, ``("llm", "chat", "stop")`` or ``"llm.chat.stop"``.
                Handlers receive the tuple.
            measurements: Numbers. Times in nanoseconds, sizes in bytes.
            metadata: Facts about the event; empty by default.

        Raises:
            EventNameError: *event* is no name.
            EventPayloadError: Measurements or metadata are no mapping. Looked at
                the first time that a name is emitted, and always on a strict bus.
            UndeclaredEventError: The bus is strict and the event is not declared.
        """
        try:
            route = self._routes[event]
        except (KeyError, TypeError):
            route = self._resolve(event, measurements, metadata)
        if route is None:
            return
        if self._dispatching or (_context_in_use and _get_ambient() is not None):
            self._dispatch_guarded(route, measurements, metadata)
            return
        self._dispatching = True
        name, handler, config, registration = route
        if metadata is None:
            metadata = {}
        try:
            handler(name, measurements, metadata, config)
        except BaseException as error:  # noqa: BLE001  # _failed() sorts them
            try:
                escaped = self._failed(registration, name, error)
            finally:
                self._dispatching = False
            if escaped is not None:
                try:
                    raise escaped
                finally:
                    del escaped  # or the traceback would keep this frame alive
            return
        self._dispatching = False

    def stats(self) -> Mapping[str, int]:
        """Return what the bus has counted since it was made.

        ``handler_failures``: exceptions contained. ``recursion_stops``: emissions
        refused because dispatches were nested too deeply. ``refused_values``:
        measurements and metadata that spans dropped (NaN, text, reserved keys).
        """
        return {
            "handler_failures": self._failures.count.value(),
            "recursion_stops": self._recursion_stops.value(),
            "refused_values": self._refused_values.value(),
        }

    def after_fork_in_child(self) -> None:
        """Forget locks and dispatches of the parent's other threads."""
        self._lock = threading.RLock()
        self._dispatching = False

    def is_quiet(self, prefix: Name) -> bool:
        """Whether nobody wants an event of the spans of *prefix*.

        Raises:
            EventNameError: *prefix* is malformed.
        """
        return prefix in self.quiet or self.span_names(prefix) is None

    def span_names(self, prefix: Name) -> SpanNames | None:
        """Return the names of the events of a span, or None if nobody listens.

        Raises:
            EventNameError: *prefix* is malformed.
        """
        table = self._table
        try:
            return table.spans[prefix]
        except (KeyError, TypeError):
            return table.span_names(prefix, parse_name(prefix))

    def refuse_value(self) -> None:
        """Count one value that could not be a measurement or metadata."""
        self._refused_values.add()

    def _resolve(
        self, event: Name, measurements: object, metadata: object
    ) -> Route | None:
        """Look up an event for the first time, with the checks left out later."""
        table = self._table
        name = parse_name(event)
        if not isinstance(measurements, Mapping):
            raise EventPayloadError(measurements, "measurements")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise EventPayloadError(metadata, "metadata")
        if table.strict:
            from llmevents.events import check

            check(name, measurements)
        return table.route(event, name)

    def _dispatch_guarded(
        self, route: Route, measurements: Measurements, metadata: Metadata | None
    ) -> None:
        """Dispatch with what most emissions need not: context and a look at the depth.

        The flag is set and cleared by the same dispatch, so that a thread which
        dispatches beside this one, or for it, cannot clear it too early.
        """
        is_first = not self._dispatching
        if not is_first:
            # The documented way to a frame.
            depth = depth_of(sys._getframe(), _EXECUTE)  # noqa: SLF001
            if depth > MAX_DEPTH:
                self._recursion_stops.add()
                return
            is_first = depth == 1 and self._takes_over()
        merged = self._merged(metadata)
        if is_first:
            self._dispatching = True
        name, handler, config, registration = route
        try:
            handler(name, measurements, merged, config)
        except BaseException as error:  # noqa: BLE001  # likewise
            escaped = self._failed(registration, name, error)
            if escaped is not None:
                try:
                    raise escaped
                finally:
                    del escaped  # as in execute()
        finally:
            if is_first:
                self._dispatching = False

    def _merged(self, metadata: Metadata | None) -> Metadata:
        """Return *metadata* on top of the context."""
        around = _get_ambient() or {}
        if metadata is None:
            return around
        try:
            return {**around, **metadata}
        except Exception:  # noqa: BLE001  # a lazy mapping whose source has gone
            self._refused_values.add()
            return around

    def _takes_over(self) -> bool:
        """Whether the flag, which another dispatch has set, is cleared with this one.

        An exception that strikes between two instructions of `execute` leaves it set
        although nobody dispatches, and every emission would take the long way from
        then on. Now and then the flag is taken over therefore; if its dispatch is
        under way in another thread, a recursion there gets one level further.

        Other threads' stacks would tell, but may not be looked at: where that starts
        a garbage collection, `sys._current_frames` can block the process for ever
        (python/cpython#106883, mended in 3.11.8 and 3.12.1).
        """
        self._detours += 1
        return self._detours % TAKEOVER == 0

    def _failed(
        self, registration: Registration | None, name: EventName, error: BaseException
    ) -> BaseException | None:
        """Deal with what a handler raised; return what the emitter is to get."""
        if registration is None or not isinstance(error, Exception):
            return error
        try:
            if registration.on_failure == "detach":
                self._remove(registration)
            self._failures.report(registration, name, error)
        except BaseException as raised:  # noqa: BLE001  # Ctrl-C, or a test's own handler
            return raised
        if registration.on_failure == "raise":
            return error
        forget(error, _DISPATCHERS)
        return None

    def _remove(self, registration: Registration) -> None:
        self._change(lambda table: table.removing(registration))

    def _change(self, change: Callable[[HandlerTable], HandlerTable]) -> None:
        """Replace the table.

        A finalizer or signal handler may attach or detach in the middle of this
        very function and thread. It gets through the re-entrant lock, and this call
        starts over from the table that it left.
        """
        with self._lock:
            while True:
                before = self._table
                after = change(before)
                # No call from here to the last store: nothing can come in between.
                if self._table is before:
                    self._table = after
                    self._routes = after.routes
                    self.quiet = after.quiet
                    return


_EXECUTE = Bus.execute.__code__
_DISPATCHERS = frozenset(
    {
        _EXECUTE,
        Bus._dispatch_guarded.__code__,  # noqa: SLF001  # ours
        fan_out.__code__,
        fan_out_plain.__code__,
    }
)


default_bus = Bus()
"""The bus behind the functions of `llmevents`."""
