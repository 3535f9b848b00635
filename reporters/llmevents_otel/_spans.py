"""`SpanRecorder`: OpenTelemetry spans from the start and terminal events of ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from llmevents.events import catalogue
from llmevents_otel._attributes import (
    NAME_LIMIT,
    Value,
    as_text,
    clean_text,
)
from llmevents_otel._counts import Tally
from llmevents_otel._current import CurrentSpans, Place
from llmevents_otel._plans import FAILURES, Family, Plans
from llmevents_otel._points import Points


if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from llmevents import EventName, Measurements, Metadata, Name
    from llmevents_otel._tables import Profile

MOST_OPEN = 32_768
"""Spans that may be open at once. One whose end never comes holds a few kilobytes."""

MOST_POINTS = 128
"""Events of one span; OpenTelemetry keeps as many."""

LATEST = 2**63 - 1
"""The last moment that is told, in the year 2262."""

PROCESS = slice(16, 24)
"""The part of our span ids that is another one in a forked child. It costs nothing to
look at, and `os.getpid` a system call."""

PHASES = frozenset({"start", "stop", "exception", "first_chunk", "chunk"})
REQUEST = ("llm", "provider", "request")
"""One attempt of a call, or a call that is part of another."""

COST = "llm.cost.calculated"
"""What a call has cost, which is on its terminal event as well."""

UNRELATED = frozenset({"process", "asyncio", "llmevents"})
"""What the names begin with of events that belong to no span."""


NOTHING: Mapping[str, object] = {}


class Point(NamedTuple):
    """An event of a span that has not ended yet."""

    name: str
    attributes: dict[str, Value]
    time_ns: int


class OpenSpan(Place):
    """A span that has started: OpenTelemetry's, and what its end needs to know."""

    __slots__ = ("family", "points", "started", "started_ns")

    def __init__(
        self,
        span_id: str,
        span: Span,
        family: Family,
        started: Mapping[str, object],
        started_ns: int | None,
    ) -> None:
        self.span_id = span_id
        self.span = span
        self.outer = None
        self.is_over = self.is_buried = False
        self.family = family
        self.started = started
        self.started_ns = started_ns
        self.points: list[Point] = []


class Carried(Place):
    """The place of a span in the context of an SDK's method."""

    __slots__ = ()

    def __init__(self, opened: OpenSpan, span_id: str) -> None:
        self.span_id = span_id
        self.span = opened.span
        self.outer = None
        self.is_over = self.is_buried = False


class _Ended(threading.local):
    """The span that this thread has ended last, for who handles the event after us."""

    place: Place | None = None


class SpanRecorder:
    """A handler that turns span events into OpenTelemetry spans.

    The start event starts a span, the terminal one ends it *duration* nanoseconds
    later. Its parent is the span that ``parent_span_id`` names, or one of another
    library that has been started within that, or else the current one. A span that
    is a block is OpenTelemetry's current one in the block, so that spans of other
    libraries get it as their parent. Events that belong to a span (a retry, a cache
    hit) become events of it. Takes no lock of its own, and may be called anywhere.

    A call is one span: its requests, ``llm.provider.request``, are none unless asked
    for. What belongs to one then, a child or an event, belongs to the call.

    In a forked child the spans that are open belong to the parent, which ends them;
    new ones get them as parents all the same.

    Args:
        tracer: Where spans are made.
        profile: The names to use.
        requests: Whether requests of calls are spans too.
        most_open: Spans that may be open at once. Of more, the oldest are forgotten,
            never end, and are counted in `forgotten`.
    """

    def __init__(
        self,
        *,
        tracer: Tracer,
        profile: Profile,
        requests: bool = False,
        most_open: int = MOST_OPEN,
    ) -> None:
        self._tracer = tracer
        self._plans = Plans(profile, profile.spans)
        self._points = Points(profile)
        self._hides = None if requests else REQUEST
        self._most_open = most_open
        self._open: dict[object, OpenSpan] = {}
        # Requests that are no spans: whose place each of them has.
        self._hidden: dict[object, object] = {}
        self._pid = os.getpid()
        self._process = ""
        self._current = CurrentSpans()
        self._ended = _Ended()
        self._forgotten = Tally()

    @staticmethod
    def events() -> list[Name]:
        """Return what to attach the recorder to, as of now.

        Not to ``"**"``: streams emit an event for each chunk while somebody listens.
        Beside those of spans they are the declared events that are no measurement of
        the process, no news of llmevents itself, and not what the span says too.
        """
        points: list[Name] = [
            declared.name
            for declared in catalogue()
            if declared.name.rpartition(".")[2] not in PHASES
            and declared.name.partition(".")[0] not in UNRELATED
            and declared.name != COST
        ]
        return ["**.start", "**.stop", "**.exception", *points]

    @property
    def open(self) -> int:
        """How many spans have started and not ended."""
        return len(self._open)

    @property
    def forgotten(self) -> int:
        """How many spans were given up because too many were open, or by `close`."""
        return self._forgotten.value()

    def handle(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,  # noqa: ARG002  # a handler's signature
    ) -> None:
        """Take note of one event of the bus."""
        phase = event[-1]
        if phase == "start":
            self._start(event, measurements, metadata)
        elif phase == "stop" or phase == "exception":  # noqa: PLR1714  # faster
            self._end(event, measurements, metadata)
        elif phase not in PHASES or "span_id" not in metadata:
            self._note(event, measurements, metadata)

    __call__ = handle

    def __llmevents_wants__(self, event: EventName) -> bool:
        """Requests that are no spans are not emitted for them."""
        return self._hides is None or event[:-1] != self._hides

    def trace_of(self, metadata: Metadata) -> dict[str, str] | None:
        """Return the trace and span that an event belongs to, for an exemplar.

        That is the span which ``span_id`` names, if it is open or the last that this
        thread has ended, else the current one.

        Returns:
            ``{"trace_id": ..., "span_id": ...}`` in hexadecimal digits; None without
            a span, and of one that is not sampled.
        """
        context = self._span_context(metadata)
        if context is None:
            context = get_current_span().get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return None
        return {
            "trace_id": format_trace_id(context.trace_id),
            "span_id": format_span_id(context.span_id),
        }

    def context_of(self, metadata: Metadata) -> Context | None:
        """Return the context of the span that an event belongs to, as `trace_of`.

        Returns:
            None if ``span_id`` names none that is known: the current context it is.
        """
        context = self._span_context(metadata)
        return context and set_span_in_context(NonRecordingSpan(context))

    # --- A carrier, for calls of SDKs ------------------------------------------------

    def enter(self, span_id: str) -> object:
        """Make the open span *span_id* current while the SDK's method runs."""
        opened = self._opened(span_id)
        here = get_current()
        if opened is None or get_current_span(here) is opened.span:
            return None
        # Not the span's own place: within its block a call may be entered again.
        place = Carried(opened, opened.span_id)
        self._current.enter(place, here, here)
        return place

    def leave(self, entered: object) -> None:
        """Put back what was current before."""
        if isinstance(entered, Place):
            self._current.leave(entered)

    def stand_in(self, span_id: str) -> object:
        """Return a span of the same trace and id as *span_id*, that records nothing."""
        opened = self._opened(span_id)
        context = None if opened is None else opened.span.get_span_context()
        if context is None or not context.is_valid:
            return None
        return NonRecordingSpan(context)

    def close(self) -> None:
        """Forget the spans that are open; they are counted in `forgotten`."""
        if self._pid == os.getpid():
            while self._forget_oldest():
                pass
        else:
            self._open = {}
        self._hidden = {}

    def _start(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        span_id = metadata.get("span_id")
        if type(span_id) is not str:
            self._note(event, measurements, metadata)
            return
        if span_id[PROCESS] != self._process:
            self._look_at_process(span_id)
        parent_span_id = metadata.get("parent_span_id")
        if self._hidden:
            parent_span_id = self._shown(parent_span_id)
        if event[:-1] == self._hides:
            self._hide(span_id, parent_span_id)
            return
        plan = self._plans.find(event, metadata)
        family = plan.family
        here = get_current()
        around = self._current.inside(parent_span_id, here)
        if around is None:
            # A handle's child, or one whose parent is entered in another context.
            parent = self._opened(parent_span_id)
            around = here if parent is None else set_span_in_context(parent.span, here)
        started_ns: int | None = measurements.get("system_time")  # type: ignore[assignment]  # told by the next line
        if type(started_ns) is not int or not 0 <= started_ns <= LATEST:
            started_ns = None  # which is now
        span = self._tracer.start_span(
            plan.name or family.name(metadata),
            around,
            family.kind,
            plan.begin(metadata),
            start_time=started_ns,
        )
        opened = OpenSpan(span_id, span, family, dict(metadata), started_ns)
        self._open[span_id] = opened
        if len(self._open) > self._most_open:
            self._forget_oldest()
        if metadata.get("scoped") is True:
            self._current.enter(opened, around, here)

    def _end(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        span_id = metadata.get("span_id")
        if type(span_id) is not str:
            self._note(event, measurements, metadata)
            return
        opened = self._open.pop(span_id, None)
        if opened is None:
            self._end_unopened(span_id)
            return
        if opened.outer is not None:
            self._current.leave(opened)
        span = opened.span
        self._ended.place = opened
        end_ns = _end_of(opened.started_ns, measurements.get("duration"))
        try:
            if span.is_recording():
                failed = event[-1] == "exception"
                started = opened.started
                added = opened.family.end(
                    measurements, metadata, started, failed=failed
                )
                if added:
                    span.set_attributes(added)
                _set_status(span, metadata, end_ns, failed=failed)
                if opened.points:
                    _add(opened.points, span, end_ns)
                subject = opened.family.subject
                if metadata.get(subject) is not started.get(subject):
                    span.update_name(opened.family.name(metadata))
        finally:
            span.end(end_ns)
            # Contexts of tasks may keep the span for long, as their parent.
            opened.started = NOTHING
            if opened.points:
                opened.points.clear()

    def _note(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        """Make an event of the span that it names, or of the current one."""
        target = self._target(metadata.get("span_id"))
        span = target.span if isinstance(target, OpenSpan) else target
        if span is None or not span.is_recording():
            return
        attributes = self._points.attributes(event, measurements, metadata)
        point = Point(
            clean_text(".".join(event), NAME_LIMIT), attributes, time.time_ns()
        )
        if not isinstance(target, OpenSpan):
            span.add_event(*point)
        elif len(target.points) < MOST_POINTS:
            # Not on the span itself yet: it has a lock, which this very thread may
            # hold if the event comes from a finalizer.
            target.points.append(point)

    def _target(self, span_id: object) -> OpenSpan | Span | None:
        """Return the open span that *span_id* names, or else the current span."""
        opened = self._opened(span_id)
        if opened is not None:
            return opened
        current = get_current_span()
        place = self._current.current()
        if place is None or place.span is not current:
            return current
        # One of ours that has ended gets no more events.
        return self._open.get(place.span_id)

    def _opened(self, span_id: object) -> OpenSpan | None:
        if type(span_id) is not str:
            return None
        opened = self._open.get(span_id)
        if opened is None and self._hidden:
            opened = self._open.get(self._shown(span_id))
        return opened

    def _hide(self, span_id: str, parent_span_id: object) -> None:
        """Let *span_id* stand for its parent, the call."""
        self._hidden[span_id] = parent_span_id
        if len(self._hidden) > self._most_open:
            with suppress(RuntimeError, StopIteration):
                # Another thread may add one, or end this one, at the same time.
                self._hidden.pop(next(iter(self._hidden)), None)

    def _end_unopened(self, span_id: str) -> None:
        """End a request that is no span, or one that was forgotten."""
        if span_id not in self._hidden:
            self._current.leave_unknown(span_id)
            return
        opened = self._opened(span_id)
        self._hidden.pop(span_id, None)
        if opened is not None:
            # For the exemplars of its duration.
            self._ended.place = Carried(opened, span_id)

    def _shown(self, span_id: object) -> object:
        """Return the span that stands for *span_id* if that is a request, else itself."""
        return self._hidden.get(span_id, span_id) if type(span_id) is str else span_id

    def _span_context(self, metadata: Metadata) -> SpanContext | None:
        span_id = metadata.get("span_id")
        opened = self._opened(span_id)
        if opened is not None:
            return opened.span.get_span_context()
        ended = self._ended.place
        if ended is None or type(span_id) is not str or ended.span_id != span_id:
            return None
        return ended.span.get_span_context()

    def _look_at_process(self, span_id: str) -> None:
        """Forget the spans of the parent process if this is a forked child."""
        self._process = span_id[PROCESS]
        if self._pid != os.getpid():
            self._open = {}
            self._pid = os.getpid()

    def _forget_oldest(self) -> bool:
        while self._open:
            try:
                oldest = next(iter(self._open))
            except (RuntimeError, StopIteration):
                continue  # another thread has started or ended one meanwhile
            if self._open.pop(oldest, None) is not None:
                self._forgotten.add()
                return True
        return False


def _end_of(started_ns: int | None, duration: object) -> int | None:
    if started_ns is None or type(duration) is not int or duration < 0:
        return None
    return min(started_ns + duration, LATEST)


def _add(points: list[Point], span: Span, end_ns: int | None) -> None:
    for name, attributes, time_ns in points:
        # The time that start handlers take is no part of the duration.
        span.add_event(name, attributes, min(time_ns, end_ns or time_ns))


def _set_status(
    span: Span, metadata: Metadata, end_ns: int | None, *, failed: bool
) -> None:
    if not failed:
        if metadata.get("status") in FAILURES:
            # Nothing was raised here: an answer with a status code of errors.
            span.set_status(StatusCode.ERROR)
        return
    error_type = as_text(metadata.get("error_type"))
    message = as_text(metadata.get("error_message"))
    facts = {"exception.type": error_type, "exception.message": message}
    known = {key: value for key, value in facts.items() if value}
    span.add_event("exception", known, end_ns)
    span.set_status(StatusCode.ERROR, message or error_type)
