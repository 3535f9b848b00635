"""Spans: an operation with a start event and exactly one terminal event."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    overload,
)

from llmevents import _forksafe
from llmevents._bus import Bus, ambient, default_bus
from llmevents._context import RESERVED_METADATA, current_span
from llmevents._ids import span_ids
from llmevents._values import clean_number


if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from 3.11 on

    from llmevents._stream import ObservedAsyncIterator, ObservedIterator
    from llmevents._table import SpanNames
    from llmevents._types import EventName, Measurements, Metadata, Name

T = TypeVar("T")

Cleaner: TypeAlias = "Callable[[Metadata], dict[str, Any]]"

Status: TypeAlias = Literal["success", "error", "timeout", "cancelled"]

RESERVED_MEASUREMENTS = frozenset({"duration", "monotonic_time", "system_time"})


class Span:
    """One operation under way. Made by `span` or `start_span`, not by hand.

    Emits ``<prefix>.start`` when it is made and one of ``<prefix>.stop`` and
    ``<prefix>.exception`` when it ends; whoever ends it second is ignored. If nobody
    listens when it starts, it stays silent to its end and costs next to nothing.
    Every method may be called from any thread.

    A span that is open when the process forks belongs to the parent: in the child
    it emits nothing, so that no operation ends twice.

    Attributes:
        span_id: 32 hexadecimal digits; sorts by start time; empty if nobody listens.
        parent_span_id: The id of the span around it, or None.
        scoped: Whether it is a ``with`` block or decorated function, and so the
            current span of its context, rather than a handle.
        call: The inference call that this span is, or that it is part of, if any.
        outer: The span that was current when this one became it, until it is left.
    """

    current_in_steps = False
    """Whether a handle is current while the stream that it watches gives an item."""

    __slots__ = (
        "__weakref__",
        "_bus",
        "_count_chunk",
        "_ending",
        "_generation",
        "_measurements",
        "_metadata",
        "_names",
        "_started_ns",
        "_stream_open",
        "call",
        "outer",
        "parent_span_id",
        "scoped",
        "span_id",
    )

    def __init__(self, bus: Bus, prefix: Name, *, scoped: bool) -> None:
        self._bus = bus
        self._names = bus.span_names(prefix)
        self.scoped = scoped
        self.span_id = ""
        self.parent_span_id: str | None = None
        self.call: Span | None = None
        self.outer: Span | None = None
        self._measurements: dict[str, int | float] = {}
        self._metadata: dict[str, Any] = {}
        # One step of it is one C call, so that threads cannot lose a chunk.
        self._count_chunk = itertools.count().__next__
        self._stream_open = False
        self._started_ns = 0
        self._ending = threading.Lock()
        self._generation = _forksafe.registry.generation

    @classmethod
    def silent(cls) -> Self:
        """Return a span of a bus of its own, that nobody can ever listen to."""
        return cls(Bus(), "silent", scoped=True)

    def begin(self, metadata: Metadata | None, *, ago: int = 0) -> None:
        """Emit the start event. Called once, by what makes the span.

        Args:
            metadata: Part of the start event and of the terminal one.
            ago: How many nanoseconds ago it began, where that is told afterwards.
        """
        if self._names is None:
            return
        self._names = names = self._join(current_span.get(), self._names)
        if names is None:
            return
        clock = self._bus.clock
        system_time = clock.time_ns() - ago
        self.span_id = span_ids.make(system_time)
        self._metadata = {
            **(ambient.get() or {}),
            **self._own(metadata, _cleaners().again),
            "span_id": self.span_id,
            "scoped": self.scoped,
        }
        if self.parent_span_id is not None:
            self._metadata["parent_span_id"] = self.parent_span_id
        self._started_ns = clock.monotonic_ns() - ago
        values = {"monotonic_time": self._started_ns, "system_time": system_time}
        try:
            self._bus.execute(names.start, values, dict(self._metadata))
        except BaseException as error:
            # Nobody gets hold of this span, so that nobody else could end it.
            with suppress(Exception):
                self.fail(error)
            raise
        self._started_ns = clock.monotonic_ns() - ago

    def measure(self, /, **measurements: object) -> None:
        """Add measurements to the terminal event; the last value of a key wins.

        Values that are not finite numbers, and the keys ``duration``,
        ``monotonic_time`` and ``system_time``, are dropped and counted in
        ``stats()["refused_values"]``. Never raises.
        """
        if self._names is not None:
            self._measure(measurements)

    def annotate(self, /, **metadata: object) -> None:
        """Add metadata to the terminal event; the last value of a key wins.

        Secrets are taken out. The library's own keys (``span_id``, ``kind``,
        ``error_type``, ...) are dropped and counted. Never raises.
        """
        if self._names is not None:
            self._metadata.update(self._own(metadata))

    @property
    def metadata(self) -> Metadata:
        """What the terminal event would say by now; a copy."""
        return dict(self._metadata)

    def stop(
        self,
        measurements: Measurements | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """End the span successfully: ``<prefix>.stop``."""
        self._end("success", measurements, metadata)

    def fail(
        self,
        error: BaseException,
        measurements: Measurements | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """End the span with an error: ``<prefix>.exception``.

        Its metadata gets ``kind`` ("error"; "cancelled" for a cancelled task; "exit"
        for KeyboardInterrupt and SystemExit), ``error_type`` and a redacted
        ``error_message``.
        """
        kind = kind_of(error)
        status: Status = "cancelled" if kind == "cancelled" else "error"
        self._end(status, measurements, metadata, error=error, kind=kind)

    def cancel(
        self,
        measurements: Measurements | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """End the span because its result is no longer wanted.

        Emits ``<prefix>.stop`` with ``status="cancelled"``, as for a stream that its
        consumer leaves early.
        """
        self._end("cancelled", measurements, metadata)

    def chunk(self) -> None:
        """Count one item of a stream; `iterate` does so by itself.

        The first one emits ``<prefix>.first_chunk``, and each one
        ``<prefix>.chunk`` while somebody listens to that.
        """
        if not self.is_open:
            return
        names = self._names
        index = self._count_chunk()
        if index == 0:
            self._first_chunk(names)
        if names is not None and self._bus.has_handlers(names.chunk):
            now = self._bus.clock.monotonic_ns()
            values = {"index": index, "monotonic_time": now}
            self._bus.execute(names.chunk, values, dict(self._metadata))

    @overload
    def iterate(
        self, stream: AsyncIterable[T], on_chunk: Callable[[T], object] | None = None
    ) -> ObservedAsyncIterator[T]: ...

    @overload
    def iterate(
        self, stream: Iterable[T], on_chunk: Callable[[T], object] | None = None
    ) -> ObservedIterator[T]: ...

    def iterate(
        self,
        stream: Iterable[T] | AsyncIterable[T],
        on_chunk: Callable[[T], object] | None = None,
    ) -> ObservedIterator[T] | ObservedAsyncIterator[T]:
        """Pass a stream through, counting its items and ending with it.

        Adds ``chunks`` and ``time_to_first_chunk`` (nanoseconds) to the terminal
        event. A handle ends when the stream does: exhausted or failed, or closed,
        abandoned, garbage collected or never begun, which is a stop with
        ``status="cancelled"``. A ``with`` block ends at its own end, with that status
        if the stream was left early.

        Args:
            stream: Anything iterable, or asynchronously iterable.
            on_chunk: Called with each item, for example to read usage from it. What
                it raises is dropped and counted in ``stats()["refused_values"]``.

        Returns:
            An iterator of the same items, with ``close`` or ``aclose``.
        """
        from llmevents._stream import observe

        return observe(self, stream, on_chunk)

    def stream_opened(self) -> None:
        """Note that a stream is being read. Called by `iterate`."""
        self._stream_open = True

    def stream_ended(self, error: BaseException | None, *, exhausted: bool) -> None:
        """Note how a stream ended, and end a handle with it. Called by `iterate`."""
        if isinstance(error, GeneratorExit):
            error = None  # it was closed while it waited for an item
        if exhausted or error is not None:
            self._stream_open = False
        if self.scoped:
            return
        if exhausted:
            self.stop()
        elif error is not None:
            self.fail(error)
        else:
            self.cancel()

    def leave(self, error: BaseException | None) -> None:
        """End the span as the block that it stands for was left."""
        if isinstance(error, GeneratorExit) or (error is None and self._stream_open):
            self.cancel()
        elif error is None:
            self.stop()
        else:
            self.fail(error)

    def returned(self, result: object) -> None:
        """Take note of what a decorated function returned, or gave as an item."""

    def refuse_value(self) -> None:
        """Count one value that could not be used."""
        self._bus.refuse_value()

    @property
    def is_open(self) -> bool:
        """Whether the span has begun, here and not in a parent process, and not ended."""
        here = self._generation == _forksafe.registry.generation
        return here and self._names is not None and not self._ending.locked()

    def _is_wanted(self) -> bool:
        """Whether anybody will learn of how the span ends."""
        return self._names is not None

    def _may_end(self) -> bool:
        """Whether this is the first end, and the process the one that began."""
        here = self._generation == _forksafe.registry.generation
        return here and self._ending.acquire(blocking=False)

    def _join(self, parent: Span | None, names: SpanNames) -> SpanNames | None:
        """Take the place under *parent*, before the start event.

        Returns:
            The names to emit under. Subclasses may choose others, or None.
        """
        if parent is not None:
            self.parent_span_id = parent.span_id
            self.call = parent.call
        return names

    def _conclude(self, status: Status, error: BaseException | None) -> None:
        """Add what the terminal event says about the outcome; for subclasses too."""
        if error is None and status == "cancelled":
            self._metadata["status"] = status

    def _end(
        self,
        status: Status,
        measurements: Measurements | None,
        metadata: Metadata | None,
        *,
        error: BaseException | None = None,
        kind: str = "",
    ) -> None:
        if not self._is_wanted() or not self._may_end():
            return
        now = self._bus.clock.monotonic_ns()
        try:
            if self._names is not None:
                if measurements is not None:
                    self._measure(measurements)
                self._metadata.update(self._own(metadata))
            self._conclude(status, error)
            if error is not None:
                self._describe(error, kind)
        finally:
            # The text of an error is foreign code, and may be interrupted.
            if self._names is not None:
                names = self._names
                self._emit_end(names.stop if error is None else names.exception, now)

    def _emit_end(self, event: EventName, now: int) -> None:
        chunks = self._chunks()
        self._bus.execute(
            event,
            {
                **self._measurements,
                **({"chunks": chunks} if chunks else {}),
                "duration": now - self._started_ns,
                "monotonic_time": now,
            },
            dict(self._metadata),
        )

    def _measure(self, measurements: Mapping[Any, object]) -> None:
        try:
            pairs = list(measurements.items())
        except Exception:  # noqa: BLE001  # whatever it is, it is no mapping of numbers
            self._bus.refuse_value()
            return
        for key, value in pairs:
            known = isinstance(key, str) and key not in RESERVED_MEASUREMENTS
            number = clean_number(value) if known else None
            if number is None:
                self._bus.refuse_value()
            else:
                self._measurements[key] = number

    def _chunks(self) -> int:
        """Return how many chunks there were. Called once, at the end."""
        return self._count_chunk()

    def _first_chunk(self, names: SpanNames | None) -> None:
        if names is None:
            return
        now = self._bus.clock.monotonic_ns()
        waited = now - self._started_ns
        self._measurements["time_to_first_chunk"] = waited
        values = {"time_to_first_chunk": waited, "monotonic_time": now}
        self._bus.execute(names.first_chunk, values, dict(self._metadata))

    def _describe(self, error: BaseException, kind: str) -> None:
        from llmevents._redact import describe_error

        self._metadata["kind"] = kind
        error_type, error_message = describe_error(error)
        self._metadata["error_type"] = error_type
        self._metadata["error_message"] = error_message

    def _own(
        self, metadata: Metadata | None, clean: Cleaner | None = None
    ) -> dict[str, Any]:
        """Return *metadata* without secrets and without the library's own keys."""
        if metadata is None:
            return {}
        cleaned = (clean or _cleaners().once)(metadata)
        if not RESERVED_METADATA.isdisjoint(cleaned):
            for key in RESERVED_METADATA.intersection(cleaned):
                del cleaned[key]
                self._bus.refuse_value()
        return cleaned


class _Cleaners(NamedTuple):
    """What takes secrets out of metadata, and what remembers that there are none."""

    once: Cleaner
    again: Cleaner


@cache
def _cleaners() -> _Cleaners:
    """Return them; their patterns take long to load, so not before."""
    from llmevents._redact import clean_again, clean_metadata

    return _Cleaners(clean_metadata, clean_again)


def start_span(
    prefix: Name, metadata: Metadata | None = None, *, bus: Bus | None = None
) -> Span:
    """Start a span that is ended by hand, from any thread or callback.

    It never is the current span, so it is nobody's parent. End it with `Span.stop`,
    `Span.fail` or `Span.cancel`, or let `Span.iterate` do so.

    Args:
        prefix: ``"myapp.job"`` emits ``myapp.job.start`` and so on.
        metadata: Part of the start event and of the terminal one.
        bus: Where to emit; the default bus unless given.

    Raises:
        EventNameError: *prefix* is malformed.
    """
    chosen = default_bus if bus is None else bus
    started = Span(chosen, prefix, scoped=False)
    started.begin(metadata)
    return started


def kind_of(error: BaseException) -> str:
    """Return the ``kind`` that an exception event states for *error*."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "exit"
    # asyncio's and trio's, told by name so that neither need be imported.
    if not isinstance(error, Exception) and any(
        "Cancelled" in kind.__name__ for kind in type(error).__mro__
    ):
        return "cancelled"
    return "error"


def is_timeout(error: BaseException) -> bool:
    """Whether *error* says that time ran out; those of SDKs do so by their names."""
    return isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
