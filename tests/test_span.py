"""Spans as blocks and as handles: what they emit, and that they end once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import re
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmevents import (
    Bus,
    EventName,
    EventNameError,
    LLMEventsError,
    Measurements,
    Metadata,
    Name,
    Span,
    UndeclaredEventError,
    context,
    default_bus,
    span,
    start_span,
)
from llmevents._context import current_span
from llmevents._scope import Scope
from llmevents.testing import CapturedEvent, ManualClock, capture
from tests.outcomes import in_child, in_threads, outcomes


if TYPE_CHECKING:
    from llmevents._table import SpanNames

HOUR = 3_600_000_000_000
SECRET = "sk-proj-" + "Ab3dEf6hIj9kLm2nOp5q" * 2

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


class Cancelled(BaseException):
    """Like trio's: no relation of asyncio's."""


class TimedOutTask(asyncio.CancelledError):
    """A cancellation whose own name does not say so."""


# --- What is emitted --------------------------------------------------------------


def test_a_block_emits_its_start_and_its_stop() -> None:
    clock = ManualClock(monotonic_ns=1_000, time_ns=5_000)
    bus = Bus(clock=clock)

    with capture(bus=bus) as events, span("app.job", {"page": 3}, bus=bus) as s:
        clock.advance(70)
        s.measure(pages=2)
        s.annotate(language="en")

    about = {"page": 3, "span_id": s.span_id, "scoped": True}
    assert events == [
        CapturedEvent(
            ("app", "job", "start"),
            {"monotonic_time": 1_000, "system_time": 5_000},
            about,
        ),
        CapturedEvent(
            ("app", "job", "stop"),
            {"pages": 2, "duration": 70, "monotonic_time": 1_070},
            {**about, "language": "en"},
        ),
    ]


def test_a_handle_emits_the_same_and_says_that_it_is_one() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)

    with capture(bus=bus) as events:
        s = start_span(("app", "job"), {"page": 3}, bus=bus)
        clock.advance(9)
        s.stop({"pages": 2}, {"language": "en"})

    assert events.names() == ["app.job.start", "app.job.stop"]
    assert events[1].measurements == {"pages": 2, "duration": 9, "monotonic_time": 9}
    assert events[1].metadata == {
        "page": 3,
        "language": "en",
        "span_id": s.span_id,
        "scoped": False,
    }


def test_without_a_bus_it_is_the_default_one() -> None:
    with capture("test_span.**") as events:
        with span("test_span.block"):
            pass
        start_span("test_span.handle").stop()

    assert events.names() == [
        "test_span.block.start",
        "test_span.block.stop",
        "test_span.handle.start",
        "test_span.handle.stop",
    ]


def test_later_metadata_wins_and_the_start_keeps_its_own() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        s = start_span("app.job", {"a": 1, "b": 1, "c": 1}, bus=bus)
        s.annotate(b=2, c=2)
        s.measure(n=1, m=1)
        s.stop({"m": 2}, {"c": 3})

    start, stop = events
    assert [start.metadata[key] for key in "abc"] == [1, 1, 1]
    assert [stop.metadata[key] for key in "abc"] == [1, 2, 3]
    assert [stop.measurements[key] for key in "nm"] == [1, 2]


def test_metadata_so_far_is_a_copy() -> None:
    bus = Bus()

    with capture(bus=bus) as events, span("app.job", {"a": 1}, bus=bus) as s:
        assert isinstance(s.metadata, dict)
        s.metadata["a"] = 2
        assert s.metadata == {"a": 1, "span_id": s.span_id, "scoped": True}

    assert events[1].metadata["a"] == 1


def test_what_a_handler_was_given_does_not_change_later() -> None:
    """A queue hands it to another thread, while this one may go on annotating."""
    bus = Bus()
    kept: list[Metadata] = []
    bus.attach("queue", "app.job.stop", lambda e, m, metadata, c: kept.append(metadata))

    s = start_span("app.job", bus=bus)
    s.stop()
    s.annotate(late=True)

    assert "late" not in kept[0]


# --- Time -------------------------------------------------------------------------


def test_time_in_start_handlers_is_no_part_of_the_duration() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)
    bus.attach("slow", "app.job.start", lambda e, m, d, c: clock.advance(1_000))
    bus.attach("slow end", "app.job.stop", lambda e, m, d, c: clock.advance(1_000))

    with capture(bus=bus) as events, span("app.job", bus=bus):
        clock.advance(5)

    assert events[1].measurements == {"duration": 5, "monotonic_time": 1_005}


@pytest.mark.parametrize("step", [-HOUR, HOUR, -24 * 365 * 60 * HOUR])
def test_a_step_of_the_wall_clock_does_not_touch_durations(step: int) -> None:
    clock = ManualClock(time_ns=1_700_000_000_000_000_000)
    bus = Bus(clock=clock)

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        clock.step_wall_clock(step)
        clock.advance(7)
        s.chunk()
        s.stop()
        later = start_span("app.job", bus=bus)

    assert events.named("app.job.first_chunk")[0].measurements == {
        "time_to_first_chunk": 7,
        "monotonic_time": 7,
    }
    assert events.named("app.job.stop")[0].measurements["duration"] == 7
    assert re.fullmatch("[0-9a-f]{32}", later.span_id)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.integers(-(2**62), 2**62)), max_size=8)
)
def test_durations_are_the_monotonic_time_that_passed(
    steps: list[tuple[int, int]],
) -> None:
    clock = ManualClock(time_ns=2**62)
    bus = Bus(clock=clock)

    with capture(bus=bus) as events, span("app.job", bus=bus):
        for passed, stepped in steps:
            clock.advance(passed)
            clock.step_wall_clock(stepped)

    assert events[1].measurements["duration"] == sum(passed for passed, _ in steps)


# --- How it ends ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("over"), "exception error"),
        (TimeoutError("over"), "exception error"),
        (asyncio.CancelledError("over"), "exception cancelled"),
        (TimedOutTask("over"), "exception cancelled"),
        (Cancelled("over"), "exception cancelled"),
        # Of a future that was asked for its result: nobody was cancelled here.
        (concurrent.futures.CancelledError("over"), "exception error"),
        (KeyboardInterrupt("over"), "exception exit"),
        (SystemExit("over"), "exception exit"),
        (GeneratorExit("over"), "stop cancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_error_says_how_a_block_ended(error: BaseException, outcome: str) -> None:
    bus = Bus()

    with (
        capture(bus=bus) as events,
        pytest.raises(type(error), match="over"),
        span("app.job", bus=bus),
    ):
        raise error

    assert outcomes(events) == [outcome]


def test_an_error_is_described() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        start_span("app.job", bus=bus).fail(TimedOutTask("late"), {"n": 1}, {"a": 2})

    assert events[1].name == "app.job.exception"
    assert events[1].measurements["n"] == 1
    assert events[1].metadata["a"] == 2
    assert events[1].metadata["kind"] == "cancelled"
    assert events[1].metadata["error_type"].endswith("test_span.TimedOutTask")
    assert events[1].metadata["error_message"] == "late"


def test_an_error_propagates_as_it_was() -> None:
    bus = Bus()
    bus.attach("any", "**", lambda *args: None)
    error = ValueError("no")

    with pytest.raises(ValueError, match="no") as caught, span("app.job", bus=bus):
        raise error

    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert not hasattr(error, "__notes__")
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == [
        "test_an_error_propagates_as_it_was"
    ]


def test_a_described_error_does_not_outlive_its_handling() -> None:
    """Nothing of the span refers to it; its traceback would keep every frame."""
    bus = Bus()
    bus.attach("any", "**", lambda *args: None)
    error = TimedOutTask("late")
    with pytest.raises(TimedOutTask, match="late"), span("app.job", bus=bus):
        raise error
    start_span("app.job", bus=bus).fail(error)

    gone = weakref.ref(error)
    gc.disable()
    try:
        del error
        assert gone() is None
    finally:
        gc.enable()


ENDS: list[Callable[[Span], None]] = [
    lambda s: s.stop(),
    lambda s: s.cancel(),
    lambda s: s.fail(ValueError("no")),
    lambda s: s.leave(None),
    lambda s: s.leave(GeneratorExit()),
    lambda s: s.stream_ended(None, exhausted=True),
]
ENDINGS = [
    "stop",
    "stop cancelled",
    "exception error",
    "stop",
    "stop cancelled",
    "stop",
]


@pytest.mark.parametrize("second", range(len(ENDS)))
@pytest.mark.parametrize("first", range(len(ENDS)))
def test_the_first_end_counts_and_the_second_is_ignored(
    first: int, second: int
) -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        ENDS[first](s)
        ENDS[second](s)

    assert outcomes(events) == [ENDINGS[first]]


def test_a_block_that_was_ended_by_hand_ends_once() -> None:
    bus = Bus()

    late = ValueError("late")

    with (
        capture(bus=bus) as events,
        suppress(ValueError),
        span("app.job", bus=bus) as s,
    ):
        s.cancel({"n": 1}, {"why": "enough"})
        raise late

    assert outcomes(events) == ["stop cancelled"]
    assert events[1].metadata["why"] == "enough"
    assert events[1].measurements["n"] == 1


def test_of_many_threads_that_end_a_span_one_does() -> None:
    bus = Bus()

    with capture("app.job.*", bus=bus, scope="process") as events:
        for _ in range(50):
            s = start_span("app.job", bus=bus)
            in_threads(*[s.stop, s.cancel, lambda s=s: s.fail(ValueError())] * 2)

    assert len(events.named("app.job.start")) == 50
    assert len(outcomes(events)) == 50
    ids = [event.metadata["span_id"] for event in events if event.event[-1] != "start"]
    assert len(set(ids)) == 50


@settings(deadline=None)
@given(st.lists(st.sampled_from(["measure", "annotate", "chunk", *range(len(ENDS))])))
def test_whatever_is_done_to_a_span_it_ends_once_or_not_yet(
    steps: list[str | int],
) -> None:
    """The model: what comes before the first end is in the event, what comes later not."""
    bus = Bus()
    done: list[str] = []
    ending = None

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        for step in steps:
            if isinstance(step, int):
                ENDS[step](s)
                ending = ENDINGS[step] if ending is None else ending
                continue
            do = {
                "measure": lambda: s.measure(n=len(done)),
                "annotate": lambda: s.annotate(n=len(done)),
                "chunk": s.chunk,
            }
            do[step]()
            if ending is None:
                done.append(step)

    assert outcomes(events) == ([] if ending is None else [ending])
    chunks = done.count("chunk")
    assert len(events.named("app.job.chunk")) == chunks
    assert len(events.named("app.job.first_chunk")) == min(chunks, 1)
    if ending is not None:
        assert events[-1].measurements.get("chunks", 0) == chunks
        assert ("n" in events[-1].measurements) == ("measure" in done)
        assert ("n" in events[-1].metadata) == ("annotate" in done)


# --- Handlers that raise ----------------------------------------------------------


def interrupt(e: EventName, m: Measurements, d: Metadata, c: Any) -> None:  # noqa: ANN401  # as the bus calls it
    msg = "ctrl-c"
    raise KeyboardInterrupt(msg)


def complain(e: EventName, m: Measurements, d: Metadata, c: Any) -> None:  # noqa: ANN401  # as the bus calls it
    msg = "complaint"
    raise ValueError(msg)


@pytest.mark.parametrize(
    "make",
    [
        lambda b: span("app.job", bus=b).__enter__(),
        lambda b: start_span("app.job", bus=b),
    ],
    ids=["block", "handle"],
)
def test_a_span_whose_start_is_interrupted_ends(make: Callable[[Bus], Span]) -> None:
    """The other handlers saw it start, and nobody is given it to end it."""
    bus = Bus()
    bus.attach("ctrl-c", "app.job.start", interrupt)

    with capture(bus=bus) as events, pytest.raises(KeyboardInterrupt, match="ctrl-c"):
        make(bus)

    assert events.names() == ["app.job.start", "app.job.exception"]
    assert outcomes(events) == ["exception exit"]
    assert events[1].measurements["duration"] >= 0
    assert current_span.get() is None


def test_a_start_handler_that_may_raise_ends_the_span_too() -> None:
    bus = Bus()
    bus.attach("strict", "app.job.*", complain, on_failure="raise")

    with (
        capture(bus=bus) as events,
        pytest.raises(ValueError, match="complaint"),
        span("app.job", bus=bus),
    ):
        pytest.fail("the block was entered")

    assert outcomes(events) == ["exception error"]


def test_a_strict_bus_says_which_start_is_not_declared() -> None:
    bus = Bus(strict=True)
    bus.attach("any", "**", lambda *args: None)

    with pytest.raises(UndeclaredEventError, match=r"nobody\.knows\.this\.start"):
        start_span("nobody.knows.this", bus=bus)


def test_a_stop_handler_that_is_interrupted_interrupts_the_caller() -> None:
    bus = Bus()
    bus.attach("ctrl-c", "app.job.stop", interrupt)

    with (
        capture(bus=bus) as events,
        pytest.raises(KeyboardInterrupt, match="ctrl-c"),
        span("app.job", bus=bus) as s,
    ):
        pass
    s.stop()

    assert outcomes(events) == ["stop"]
    assert current_span.get() is None


class UnspeakableError(Exception):
    """An error whose text cannot be had."""

    def __init__(self, instead: BaseException) -> None:
        self.instead = instead

    def __str__(self) -> str:
        raise self.instead


def test_an_error_without_a_text_is_described_without() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        start_span("app.job", bus=bus).fail(UnspeakableError(ZeroDivisionError()))

    assert outcomes(events) == ["exception error"]
    assert events[1].metadata["error_message"] == "<message unavailable>"


def test_an_interrupt_while_an_error_is_described_costs_no_terminal_event() -> None:
    bus = Bus()

    interrupted = UnspeakableError(KeyboardInterrupt("ctrl-c"))

    with capture(bus=bus) as events, pytest.raises(KeyboardInterrupt, match="ctrl-c"):
        start_span("app.job", bus=bus).fail(interrupted)

    assert outcomes(events) == ["exception error"]


# --- Nobody listens ---------------------------------------------------------------


def test_a_span_that_nobody_listens_to_does_nothing() -> None:
    bus = Bus()
    bus.attach("other", "other.**", lambda *args: None)

    for s in (
        start_span("app.job", {"a": 1}, bus=bus),
        span("app.job", bus=bus).__enter__(),
    ):
        assert s.span_id == ""
        assert not s.is_open
        s.measure(n=float("nan"))
        s.annotate(kind="mine", api_key=SECRET)
        s.chunk()
        s.returned(object())
        assert list(s.iterate([1, 2])) == [1, 2]
        s.fail(ValueError())
        s.stop({"n": float("nan")})
        assert s.metadata == {}

    assert bus.stats() == {
        "handler_failures": 0,
        "recursion_stops": 0,
        "refused_values": 0,
    }


def test_a_span_that_nobody_listens_to_is_no_parent() -> None:
    bus = Bus()

    with (
        capture("app.outer.*", "app.inner.*", bus=bus) as events,
        span("app.outer", bus=bus) as outer,
        span("silent", bus=bus) as silent,
        span("app.inner", bus=bus) as inner,
    ):
        assert silent.span_id == ""

    assert inner.parent_span_id == outer.span_id
    assert events[1].metadata["parent_span_id"] == outer.span_id


def test_a_span_that_began_unheard_stays_silent() -> None:
    """A terminal event without a start would upset every gauge of active spans."""
    bus = Bus()

    s = start_span("app.job", bus=bus)
    with span("app.job", bus=bus), capture(bus=bus) as events:
        s.chunk()
        s.stop()
        start_span("app.job", bus=bus).stop()

    assert events.names() == ["app.job.start", "app.job.stop"]


def test_a_block_whose_listener_left_is_left_as_any() -> None:
    bus = Bus()

    with capture(bus=bus):
        block = span("app.job", bus=bus)
        s = block.__enter__()
    block.__exit__(None, None, None)

    assert not s.is_open
    assert current_span.get() is None


class PartSpan(Span):
    """A span that finds, when it begins, that it is part of another one."""

    __slots__ = ("concluded",)

    def __init__(self, bus: Bus, prefix: Name, *, scoped: bool) -> None:
        super().__init__(bus, prefix, scoped=scoped)
        self.concluded: list[object] = []

    def _join(self, parent: Span | None, names: SpanNames) -> None:
        super()._join(parent, names)

    def _is_wanted(self) -> bool:
        return True

    def _conclude(self, status: str, error: BaseException | None) -> None:
        self.concluded.append((status, error))


class part(Scope[PartSpan]):  # noqa: N801  # as `span`
    __slots__ = ()

    _span_type = PartSpan
    _silent = PartSpan.silent()


def test_a_kind_of_span_may_fall_silent_and_still_learn_how_it_ended() -> None:
    """As a call of a model that is part of another call."""
    bus = Bus()
    error = ValueError("no")

    with capture(bus=bus) as events, span("app.job", bus=bus) as around:
        with part("app.part", bus=bus) as first:
            assert current_span.get() is around
        with suppress(ValueError), part("app.part", bus=bus) as second:
            raise error
        handle = part("app.part", bus=bus).handle()
        handle.measure(n=1)
        handle.stop({"n": 1}, {"a": 1})
        handle.stop()

    assert events.names() == ["app.job.start", "app.job.stop"]
    assert first.concluded == handle.concluded == [("success", None)]
    assert second.concluded == [("error", error)]
    assert first.parent_span_id == around.span_id


def test_a_generator_of_a_silent_kind_is_no_parent_and_learns_of_its_loss() -> None:
    bus = Bus()
    handles: list[PartSpan] = []

    class Noting(part):
        __slots__ = ()

        def handle(self) -> PartSpan:
            handles.append(super().handle())
            return handles[-1]

    @Noting("app.part", bus=bus)
    def numbers() -> Iterator[str | None]:
        while True:
            yield start_span("app.inside", bus=bus).parent_span_id

    with capture(bus=bus), span("app.job", bus=bus) as around:
        running = numbers()
        assert next(running) == around.span_id
        del running

    assert handles[0].concluded == [("cancelled", None)]


@pytest.mark.parametrize("prefix", ["", "a..b", "a.*", ("a", 1), ["a"], 7, None])
def test_a_malformed_prefix_is_refused_whoever_listens(prefix: Any) -> None:  # noqa: ANN401  # wrong on purpose
    bus = Bus()

    with pytest.raises(EventNameError, match="is not an event name"):
        start_span(prefix, bus=bus)
    with pytest.raises(EventNameError, match="is not an event name"):
        span(prefix, bus=bus).__enter__()


# --- Parents ----------------------------------------------------------------------


def test_spans_in_a_block_know_their_parent() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        with span("app.outer", bus=bus) as outer:
            with span("app.inner", bus=bus) as inner:
                handle = start_span("app.handle", bus=bus)
            sibling = start_span("app.sibling", bus=bus)
        alone = start_span("app.alone", bus=bus)

    assert outer.parent_span_id is None
    assert inner.parent_span_id == outer.span_id
    assert handle.parent_span_id == inner.span_id
    assert sibling.parent_span_id == outer.span_id
    assert alone.parent_span_id is None
    parents = {e.metadata["span_id"]: e.metadata.get("parent_span_id") for e in events}
    assert parents == {
        s.span_id: s.parent_span_id for s in (outer, inner, handle, sibling, alone)
    }


def test_a_handle_is_nobodys_parent() -> None:
    bus = Bus()

    with capture(bus=bus):
        start_span("app.handle", bus=bus)
        with span("app.job", bus=bus) as s:
            pass

    assert s.parent_span_id is None


def test_a_block_ends_before_its_span_is_reported() -> None:
    """What a stop handler starts is not part of the span that is over."""
    bus = Bus()
    seen: list[Span | None] = []
    bus.attach("look", "app.job.*", lambda e, m, d, c: seen.append(current_span.get()))

    with span("app.job", bus=bus):
        pass

    assert seen == [None, None]


def test_a_span_object_is_for_one_block_at_a_time() -> None:
    bus = Bus()
    block = span("app.job", {"n": 1}, bus=bus)

    with capture(bus=bus) as events:
        with block, pytest.raises(LLMEventsError, match="is entered already"):
            block.__enter__()
        with block:
            pass

    assert outcomes(events) == ["stop", "stop"]


def test_a_second_entry_is_refused_although_the_listener_left() -> None:
    """Or the inner block would end the span of the outer one."""
    bus = Bus()
    block = span("app.job", bus=bus)

    with capture(bus=bus) as events:
        block.__enter__()
    with pytest.raises(LLMEventsError, match="create one with span"):
        block.__enter__()
    block.__exit__(None, None, None)

    assert events.names() == ["app.job.start"]


# --- Values -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), True, None, "3", b"3", [], object],
    ids=repr,
)
def test_what_is_no_finite_number_is_dropped_and_counted(value: object) -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        s.measure(bad=value, good=1)
        s.stop({"worse": value})  # type: ignore[dict-item]  # wrong on purpose

    assert events[1].measurements.keys() == {"good", "duration", "monotonic_time"}
    assert bus.stats()["refused_values"] == 2


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (-7, -7),
        (2**80, 2**80),
        (0.5, 0.5),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 4), 0.25),
    ],
)
def test_numbers_of_every_type_are_measurements(value: object, number: float) -> None:
    bus = Bus()

    with capture(bus=bus) as events, span("app.job", bus=bus) as s:
        s.measure(n=value)

    assert events[1].measurements["n"] == number
    assert type(events[1].measurements["n"]) is type(number)
    assert bus.stats()["refused_values"] == 0


def test_reserved_measurements_are_the_librarys() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        s.measure(duration=99, monotonic_time=99)
        s.stop({"system_time": 99, "chunks": 3})

    assert events[1].measurements == {"chunks": 3, "duration": 0, "monotonic_time": 0}
    assert bus.stats()["refused_values"] == 3


def test_reserved_metadata_is_the_librarys() -> None:
    bus = Bus()
    forged = {
        "span_id": "forged",
        "parent_span_id": "forged",
        "scoped": "forged",
        "kind": "forged",
        "error_type": "forged",
        "error_message": "forged",
    }

    with capture(bus=bus) as events:
        s = start_span("app.job", forged, bus=bus)
        s.annotate(**forged)
        s.stop(metadata=forged)

    assert bus.stats()["refused_values"] == 18
    for event in events:
        assert event.metadata == {"span_id": s.span_id, "scoped": False}


def test_reserved_keys_do_not_come_in_by_the_context() -> None:
    """A parent that a span does not have would join two traces."""
    bus = Bus()
    before = default_bus.stats()["refused_values"]

    with (
        capture(bus=bus) as events,
        context(parent_span_id="forged", span_id="forged", kind="forged", user="u"),
    ):
        with span("app.job", bus=bus) as s:
            pass
        bus.execute("app.point", {})

    for event in events[:2]:
        assert event.metadata == {"user": "u", "span_id": s.span_id, "scoped": True}
    assert events[2].metadata == {"user": "u"}
    assert default_bus.stats()["refused_values"] == before + 3


def test_any_key_may_be_given_and_none_raises() -> None:
    """Keys come from files and models; a TypeError would be the telemetry's fault."""
    bus = Bus()
    odd: Any = {"self": 1, "measurements": 2, 3: 3, None: 4, "with space": 5}

    with capture(bus=bus) as events:
        s = start_span("app.job", odd, bus=bus)
        s.measure(self=6)
        s.annotate(self="me")
        s.stop(odd, odd)

    assert outcomes(events) == ["stop"]
    assert events[1].measurements.keys() == {
        "self",
        "measurements",
        "with space",
        "duration",
        "monotonic_time",
    }
    assert events[1].metadata["self"] == 1
    assert events[1].metadata["3"] == 3
    assert bus.stats()["refused_values"] == 2


@pytest.mark.parametrize("junk", [[1], "text", 7, object], ids=repr)
def test_what_is_no_mapping_costs_no_terminal_event(junk: Any) -> None:  # noqa: ANN401  # wrong on purpose
    bus = Bus()

    with capture(bus=bus) as events:
        start_span("app.job", junk, bus=bus).stop(junk, junk)

    assert outcomes(events) == ["stop"]
    assert bus.stats()["refused_values"] >= 1


class Hostile:
    """A lazy proxy that cannot reach what it stands for."""

    def __getattribute__(self, name: str) -> object:
        msg = f"no {name} outside of a request"
        raise RuntimeError(msg)


def test_a_value_whose_class_cannot_be_asked_for_is_refused() -> None:
    bus = Bus()

    with capture(bus=bus) as events, span("app.job", bus=bus) as s:
        s.annotate(a=Hostile())
        s.measure(n=Hostile())

    assert outcomes(events) == ["stop"]
    assert "n" not in events[1].measurements
    assert bus.stats()["refused_values"] == 1


# --- Secrets ----------------------------------------------------------------------


def test_secrets_are_gone_before_any_handler_sees_them() -> None:
    bus = Bus()
    seen: list[str] = []
    bus.attach("see", "**", lambda *args: seen.append(repr(args)))
    error = ValueError(f"401 for Bearer {SECRET} at https://host/v1?key={SECRET}")

    with (
        context(api_key=SECRET, note=f"use {SECRET}"),
        suppress(ValueError),
        span(
            "app.job", {"authorization": SECRET, "deep": [{"x": SECRET}]}, bus=bus
        ) as s,
    ):
        s.annotate(token=SECRET, comment=f"key is {SECRET}")
        s.chunk()
        start_span("app.other", {"password": SECRET}, bus=bus).stop(
            metadata={"url": f"https://me:{SECRET}@host/?api_key={SECRET}"}
        )
        raise error

    assert len(seen) == 6
    assert SECRET[10:] not in "".join(seen)
    assert "[REDACTED]" in seen[-1]


# --- Chunks -----------------------------------------------------------------------


def test_chunks_are_counted_and_the_first_one_is_timed() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)

    with capture(bus=bus) as events:
        s = start_span("app.job", {"a": 1}, bus=bus)
        clock.advance(30)
        s.chunk()
        clock.advance(12)
        s.chunk()
        s.stop()

    about = {"a": 1, "span_id": s.span_id, "scoped": False}
    assert [(e.name, e.measurements, e.metadata) for e in events[1:]] == [
        (
            "app.job.first_chunk",
            {"time_to_first_chunk": 30, "monotonic_time": 30},
            about,
        ),
        ("app.job.chunk", {"index": 0, "monotonic_time": 30}, about),
        ("app.job.chunk", {"index": 1, "monotonic_time": 42}, about),
        (
            "app.job.stop",
            {
                "time_to_first_chunk": 30,
                "chunks": 2,
                "duration": 42,
                "monotonic_time": 42,
            },
            about,
        ),
    ]


def test_a_chunk_after_the_end_is_none_of_the_spans() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        s.stop()
        s.chunk()

    assert events.names() == ["app.job.start", "app.job.stop"]


def test_chunks_of_many_threads_are_all_counted() -> None:
    bus = Bus()

    def count() -> None:
        for _ in range(5_000):
            s.chunk()

    with capture(
        "app.job.stop", "app.job.first_chunk", bus=bus, scope="process"
    ) as events:
        s = start_span("app.job", bus=bus)
        in_threads(*[count] * 8)
        s.stop()

    assert events.names() == ["app.job.first_chunk", "app.job.stop"]
    assert events[1].measurements["chunks"] == 40_000


# --- Threads and forks ------------------------------------------------------------


def test_a_handle_is_ended_by_another_thread() -> None:
    bus = Bus()

    with capture(bus=bus, scope="process") as events:
        s = start_span("app.job", bus=bus)
        in_threads(lambda: s.measure(n=1), lambda: s.annotate(a=1))
        in_threads(s.stop)

    assert outcomes(events) == ["stop"]
    assert events[1].measurements["n"] == events[1].metadata["a"] == 1


@forks
def test_a_forked_child_does_not_end_what_its_parent_began() -> None:
    bus = Bus()

    def child() -> list[str]:
        seen = len(events)
        handle.chunk()
        handle.stop()
        stream.close()
        block.__exit__(None, None, None)
        assert not handle.is_open
        return [event.name for event in events[seen:]]

    with capture(bus=bus) as events:
        block = span("app.block", bus=bus)
        block.__enter__()
        handle = start_span("app.handle", bus=bus)
        stream = start_span("app.stream", bus=bus).iterate([1, 2])
        assert in_child(child) == []
        assert handle.is_open
        handle.stop()
        stream.close()
        block.__exit__(None, None, None)

    assert outcomes(events) == ["stop", "stop cancelled", "stop"]


@forks
def test_a_forked_child_has_spans_of_its_own() -> None:
    bus = Bus()

    def child() -> list[dict[str, object]]:
        seen = len(events)
        with span("app.child", bus=bus):
            pass
        return [{"name": e.name, **e.metadata} for e in events[seen:]]

    with capture(bus=bus) as events, span("app.parent", bus=bus) as parent:
        start, stop = cast("list[Any]", in_child(child))

    assert (start["name"], stop["name"]) == ("app.child.start", "app.child.stop")
    assert start["span_id"] == stop["span_id"] != parent.span_id
    assert start["parent_span_id"] == parent.span_id
    assert outcomes(events) == ["stop"]
