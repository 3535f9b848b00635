"""Streams that a span watches: however they end, the span ends once."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from contextlib import aclosing, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from llmevents import Bus, Span, context, span, start_span
from llmevents._bus import ambient
from llmevents._context import current_span
from llmevents.testing import CapturedEvents, ManualClock, capture
from tests.outcomes import in_child, in_threads, outcomes, until


class StreamError(Exception):
    """What a stream fails with."""


class ConsumerError(Exception):
    """What the code that reads a stream fails with."""


@pytest.fixture(autouse=True)
def _nothing_is_logged_or_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> Iterator[None]:
    """Failed detachments, lost tasks and unclosed generators all reach the log."""
    yield
    gc.collect()
    assert caplog.get_records("call") == []
    assert current_span.get() is None
    assert ambient.get() is None


def numbers(error: BaseException | None = None) -> Generator[int, None, None]:
    yield 1
    yield 2
    if error is not None:
        raise error
    yield 3


async def numbers_later(
    error: BaseException | None = None,
) -> AsyncGenerator[int, None]:
    for number in numbers(error):
        await asyncio.sleep(0)
        yield number


async def never() -> AsyncGenerator[int, None]:
    yield 1
    await asyncio.Event().wait()


# --- Ways of reading a stream -----------------------------------------------------

Read = Callable[[Any], object]


def exhaust(stream: Any) -> None:  # noqa: ANN401  # observed or not
    assert list(stream) == [1, 2, 3]
    assert list(stream) == []
    stream.close()


def leave(stream: Iterator[int]) -> None:
    for _ in stream:
        break


def close(stream: Any) -> None:  # noqa: ANN401  # observed or not
    with closing(stream):
        assert next(stream) == 1
    assert list(stream) == []
    stream.close()


def close_unread(stream: Any) -> None:  # noqa: ANN401  # observed or not
    stream.close()


def close_elsewhere(stream: Any) -> None:  # noqa: ANN401  # observed or not
    next(stream)
    in_threads(stream.close)


def never_read(stream: Iterator[int]) -> None:
    iter(stream)


def lose_in_a_cycle(stream: Iterator[int]) -> None:
    next(stream)
    cycle: list[object] = [stream]
    cycle.append(cycle)


def fail_between(stream: Iterator[int]) -> None:
    for _ in stream:
        raise ConsumerError


READS: dict[str, tuple[Read, str, str]] = {
    # The stream is read in this way: a handle ends so, and a block.
    "exhausted": (exhaust, "stop", "stop"),
    "left": (leave, "stop cancelled", "stop cancelled"),
    "closed": (close, "stop cancelled", "stop cancelled"),
    "closed unread": (close_unread, "stop cancelled", "stop cancelled"),
    "closed elsewhere": (close_elsewhere, "stop cancelled", "stop cancelled"),
    "never read": (never_read, "stop cancelled", "stop cancelled"),
    "lost in a cycle": (lose_in_a_cycle, "stop cancelled", "stop cancelled"),
    # The stream did not fail; its reader gave it up.
    "consumer fails": (fail_between, "stop cancelled", "exception error"),
}


async def exhaust_later(stream: Any) -> None:  # noqa: ANN401  # observed or not
    assert [number async for number in stream] == [1, 2, 3]
    assert [number async for number in stream] == []
    await stream.aclose()


async def leave_later(stream: AsyncIterator[int]) -> None:
    async for _ in stream:
        break


async def close_later(stream: Any) -> None:  # noqa: ANN401  # observed or not
    async with aclosing(stream):
        assert await anext(stream) == 1
    assert [number async for number in stream] == []
    await stream.aclose()


async def close_unread_later(stream: Any) -> None:  # noqa: ANN401  # observed or not
    await stream.aclose()


async def close_in_another_task(stream: Any) -> None:  # noqa: ANN401  # observed or not
    await anext(stream)
    await asyncio.create_task(stream.aclose())


async def read_in_several_tasks(stream: Any) -> None:  # noqa: ANN401  # observed or not
    async def step() -> int:
        return cast("int", await anext(stream))

    assert [await asyncio.create_task(step()) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def never_read_later(stream: AsyncIterator[int]) -> None:
    aiter(stream)


async def lose_in_a_cycle_later(stream: AsyncIterator[int]) -> None:
    await anext(stream)
    lose_in_a_cycle(cast("Iterator[int]", iter([stream])))


async def fail_between_later(stream: AsyncIterator[int]) -> None:
    async for _ in stream:
        raise ConsumerError


async def be_cancelled_between(stream: AsyncIterator[int]) -> None:
    async for _ in stream:
        raise asyncio.CancelledError


READS_LATER: dict[str, tuple[Callable[[Any], Awaitable[object]], str, str]] = {
    "exhausted": (exhaust_later, "stop", "stop"),
    "left": (leave_later, "stop cancelled", "stop cancelled"),
    "closed": (close_later, "stop cancelled", "stop cancelled"),
    "closed unread": (close_unread_later, "stop cancelled", "stop cancelled"),
    "closed elsewhere": (close_in_another_task, "stop cancelled", "stop cancelled"),
    "read in tasks": (read_in_several_tasks, "stop", "stop"),
    "never read": (never_read_later, "stop cancelled", "stop cancelled"),
    "lost in a cycle": (lose_in_a_cycle_later, "stop cancelled", "stop cancelled"),
    "consumer fails": (fail_between_later, "stop cancelled", "exception error"),
    "consumer cancelled": (
        be_cancelled_between,
        "stop cancelled",
        "exception cancelled",
    ),
}


@pytest.mark.parametrize("way", READS)
def test_a_handle_ends_with_its_stream(way: str) -> None:
    read, outcome, _ = READS[way]
    bus = Bus()

    with capture(bus=bus, scope="process") as events:
        stream = start_span("app.job", bus=bus).iterate(numbers())
        with suppress(ConsumerError):
            read(stream)
        del stream
        gc.collect()

    assert outcomes(events) == [outcome]
    assert events[-1].event[-1] == "stop"


@pytest.mark.parametrize("way", READS)
def test_a_block_ends_at_its_end_and_knows_how_its_stream_did(way: str) -> None:
    read, _, outcome = READS[way]
    bus = Bus()

    with (
        capture(bus=bus, scope="process") as events,
        suppress(ConsumerError),
        span("app.job", bus=bus) as s,
    ):
        read(s.iterate(numbers()))
        assert outcomes(events) == []
    gc.collect()

    assert outcomes(events) == [outcome]


@pytest.mark.parametrize("way", READS_LATER)
def test_a_handle_ends_with_its_async_stream(way: str) -> None:
    read, outcome, _ = READS_LATER[way]
    bus = Bus()

    async def main() -> None:
        stream = start_span("app.job", bus=bus).iterate(numbers_later())
        with suppress(ConsumerError, asyncio.CancelledError):
            await read(stream)
        del stream
        gc.collect()
        assert outcomes(events) == [outcome]

    with capture(bus=bus, scope="process") as events:
        asyncio.run(main())

    assert outcomes(events) == [outcome]


@pytest.mark.parametrize("way", READS_LATER)
def test_a_block_ends_at_its_end_and_knows_how_its_async_stream_did(way: str) -> None:
    read, _, outcome = READS_LATER[way]
    bus = Bus()

    async def main() -> None:
        with (
            suppress(ConsumerError, asyncio.CancelledError),
            span("app.job", bus=bus) as s,
        ):
            await read(s.iterate(numbers_later()))
            assert outcomes(events) == []
        gc.collect()

    with capture(bus=bus, scope="process") as events:
        asyncio.run(main())

    assert outcomes(events) == [outcome]


# --- What is measured -------------------------------------------------------------


def check_measured(clock: ManualClock, events: CapturedEvents) -> None:
    about = events[0].metadata
    assert [(e.event[-1], e.measurements) for e in events] == [
        ("start", {"monotonic_time": 0, "system_time": 0}),
        ("first_chunk", {"time_to_first_chunk": 40, "monotonic_time": 40}),
        ("chunk", {"index": 0, "monotonic_time": 40}),
        ("chunk", {"index": 1, "monotonic_time": 80}),
        ("chunk", {"index": 2, "monotonic_time": 120}),
        (
            "stop",
            {
                "time_to_first_chunk": 40,
                "chunks": 3,
                "duration": 120,
                "monotonic_time": 120,
            },
        ),
    ]
    assert [event.metadata for event in events] == [about] * 6


def test_a_stream_is_counted_and_timed() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)

    def slow() -> Iterator[int]:
        for number in numbers():
            clock.advance(40)
            yield number

    with capture(bus=bus) as events:
        stream = start_span("app.job", {"a": 1}, bus=bus).iterate(slow())
        assert list(stream) == [1, 2, 3]

    check_measured(clock, events)


def test_an_async_stream_is_counted_and_timed() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)

    async def slow() -> AsyncIterator[int]:
        async for number in numbers_later():
            clock.advance(40)
            yield number

    async def main() -> list[int]:
        stream = start_span("app.job", {"a": 1}, bus=bus).iterate(slow())
        return [number async for number in stream]

    with capture(bus=bus) as events:
        assert asyncio.run(main()) == [1, 2, 3]

    check_measured(clock, events)


def test_a_stream_without_items_has_no_chunks() -> None:
    """Unknown is absent, and no first chunk ever came."""
    bus = Bus()

    with capture(bus=bus) as events:
        assert list(start_span("app.job", bus=bus).iterate([])) == []

    assert events.names() == ["app.job.start", "app.job.stop"]
    assert events[1].measurements.keys() == {"duration", "monotonic_time"}


def test_what_was_counted_before_a_stream_was_left_is_stated() -> None:
    bus = Bus()

    with capture("app.job.stop", bus=bus) as events:
        stream = start_span("app.job", bus=bus).iterate(numbers())
        next(stream)
        next(stream)
        del stream

    assert events[0].measurements["chunks"] == 2
    assert "time_to_first_chunk" in events[0].measurements


def test_chunk_events_cost_nothing_while_nobody_listens_to_them() -> None:
    bus = Bus()

    with capture("app.job.stop", "app.job.first_chunk", bus=bus) as events:
        list(start_span("app.job", bus=bus).iterate(numbers()))

    assert events.names() == ["app.job.first_chunk", "app.job.stop"]
    assert events[1].measurements["chunks"] == 3


def test_any_iterable_is_a_stream() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        for items in ([1, 2], (1, 2), range(1, 3), {1: 0, 2: 0}, iter([1, 2])):
            stream = start_span("app.job", bus=bus).iterate(items)
            assert iter(stream) is stream
            assert list(stream) == [1, 2]
            stream.close()

    assert outcomes(events) == ["stop"] * 5


# --- Each item is shown to a callback ---------------------------------------------


def test_each_item_is_shown_before_it_is_handed_on() -> None:
    bus = Bus()
    shown: list[int] = []

    with capture(bus=bus):
        for item in start_span("app.job", bus=bus).iterate(numbers(), shown.append):
            assert shown[-1] == item

    assert shown == [1, 2, 3]


def test_what_is_read_from_the_first_item_is_in_its_events() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        list(s.iterate(numbers(), lambda item: s.annotate(item=item)))

    assert [event.metadata.get("item") for event in events] == [None, 1, 1, 2, 3, 3]


def test_a_callback_that_raises_costs_nobody_a_chunk() -> None:
    bus = Bus()

    def read(item: int) -> None:
        raise LookupError(item)

    async def main() -> list[int]:
        stream = start_span("app.job", bus=bus).iterate(numbers_later(), read)
        return [number async for number in stream]

    with capture("app.job.*", bus=bus) as events:
        assert list(start_span("app.job", bus=bus).iterate(numbers(), read)) == [
            1,
            2,
            3,
        ]
        assert asyncio.run(main()) == [1, 2, 3]

    assert outcomes(events) == ["stop", "stop"]
    assert events[-1].measurements["chunks"] == 3
    assert bus.stats()["refused_values"] == 6


def test_a_callback_that_is_interrupted_interrupts_the_reader() -> None:
    bus = Bus()

    def interrupt(item: int) -> None:
        msg = "ctrl-c"
        raise KeyboardInterrupt(msg)

    with capture(bus=bus) as events:
        stream = start_span("app.job", bus=bus).iterate(numbers(), interrupt)
        with pytest.raises(KeyboardInterrupt, match="ctrl-c"):
            next(stream)
        del stream

    assert outcomes(events) == ["stop cancelled"]


# --- Streams that fail ------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StreamError("broken"), "exception error"),
        (asyncio.CancelledError("broken"), "exception cancelled"),
        (KeyboardInterrupt("broken"), "exception exit"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_an_error_of_the_stream_ends_a_handle(
    error: BaseException, outcome: str
) -> None:
    bus = Bus()

    async def main() -> None:
        stream = start_span("app.later", bus=bus).iterate(numbers_later(error))
        with pytest.raises(type(error), match="broken") as caught:
            [number async for number in stream]
        assert caught.value is error
        assert error.__context__ is None

    with capture(bus=bus) as events:
        stream = start_span("app.job", bus=bus).iterate(numbers(error))
        with pytest.raises(type(error), match="broken") as caught:
            list(stream)
        assert caught.value is error
        assert error.__context__ is None
        asyncio.run(main())
        stream.close()

    assert outcomes(events) == [outcome, outcome]
    assert [e.measurements["chunks"] for e in events if e.event[2] == "exception"] == [
        2,
        2,
    ]


def test_a_block_that_gets_over_the_error_of_its_stream_succeeds() -> None:
    """As with a fallback to another provider."""
    bus = Bus()

    with capture(bus=bus) as events:
        with span("app.job", bus=bus) as s, suppress(StreamError):
            list(s.iterate(numbers(StreamError())))
        with suppress(StreamError), span("app.job", bus=bus) as s:
            list(s.iterate(numbers(StreamError())))

    assert outcomes(events) == ["stop", "exception error"]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (leave, exhaust, "stop"),
        (exhaust, leave, "stop cancelled"),
        (exhaust, exhaust, "stop"),
    ],
)
def test_the_last_stream_of_a_block_decides(
    first: Read, second: Read, outcome: str
) -> None:
    bus = Bus()

    with capture(bus=bus) as events, span("app.job", bus=bus) as s:
        first(s.iterate(numbers()))
        second(s.iterate(numbers()))

    assert outcomes(events) == [outcome]


class BrokenStart:
    """A stream that cannot be begun."""

    def __iter__(self) -> Iterator[int]:
        msg = "no connection"
        raise StreamError(msg)


class BrokenAsyncStart:
    def __aiter__(self) -> AsyncIterator[int]:
        msg = "no connection"
        raise StreamError(msg)


@pytest.mark.parametrize("stream", [BrokenStart(), BrokenAsyncStart()])
def test_a_stream_that_cannot_be_begun_ends_a_handle(stream: Any) -> None:  # noqa: ANN401  # of either kind
    bus = Bus()

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        with pytest.raises(StreamError, match="no connection"):
            s.iterate(stream)

    assert outcomes(events) == ["exception error"]


def test_what_is_no_stream_is_refused_as_by_iter() -> None:
    bus = Bus()
    stream: Any = 7

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)
        with pytest.raises(TypeError, match="'int' object is not iterable"):
            s.iterate(stream)

    assert outcomes(events) == ["exception error"]


# --- Cancellation and loss of async streams ---------------------------------------


@pytest.mark.parametrize("scoped", [True, False])
def test_a_task_that_is_cancelled_in_mid_stream_is_cancelled(scoped: bool) -> None:
    bus = Bus()

    async def consume() -> None:
        if scoped:
            with span("app.job", bus=bus) as s:
                await exhaust_later(s.iterate(never()))
        else:
            await exhaust_later(start_span("app.job", bus=bus).iterate(never()))

    async def main() -> None:
        task = asyncio.create_task(consume())
        await until(lambda: bool(events.named("app.job.chunk")))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert outcomes(events) == ["exception cancelled"]
    assert events[-1].measurements["chunks"] == 1


@pytest.mark.parametrize("scoped", [True, False])
def test_a_step_that_is_given_up_on_leaves_the_stream_early(scoped: bool) -> None:
    """The loop was closed on it: nothing failed, and nobody was cancelled."""
    bus = Bus()

    def drop(s: Span) -> None:
        stream = s.iterate(never())
        with suppress(StopIteration):
            stream.__anext__().send(None)
        waiting = stream.__anext__()
        waiting.send(None)
        waiting.close()

    async def main() -> None:
        if scoped:
            with span("app.job", bus=bus) as s:
                drop(s)
        else:
            drop(start_span("app.job", bus=bus))

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert outcomes(events) == ["stop cancelled"]


def test_a_stream_that_outlives_its_loop_ends_when_it_is_dropped() -> None:
    bus = Bus()

    async def main() -> AsyncIterator[int]:
        stream = start_span("app.job", bus=bus).iterate(numbers_later())
        await anext(stream)
        return stream

    with capture(bus=bus) as events:
        stream = asyncio.run(main())
        assert outcomes(events) == []
        del stream

    assert outcomes(events) == ["stop cancelled"]


def test_a_dropped_stream_is_not_counted_to_whoever_runs_just_then() -> None:
    """The collector interrupts anybody; a call must not be billed to another user."""
    bus = Bus()

    def seen(*args: object) -> None:
        seen_ambient.append(dict(ambient.get() or {}))

    seen_ambient: list[dict[str, object]] = []
    bus.attach("seen", "app.job.stop", seen)

    with capture("app.job.stop", bus=bus) as events:
        with context(user="first", session="s-1"):
            known = start_span("app.job", bus=bus).iterate(numbers())
        unknown = start_span("app.job", bus=bus).iterate(numbers())
        with context(user="second", team="t-2"), span("app.other", bus=bus) as other:
            del known, unknown
            assert current_span.get() in {other, None}
            bus.execute("app.job.stop", {})

    users = [
        {key: event.metadata.get(key) for key in ("user", "session", "team")}
        for event in events
    ]
    assert users == [
        {"user": "first", "session": "s-1", "team": None},
        {"user": None, "session": None, "team": None},
        {"user": "second", "session": None, "team": "t-2"},
    ]
    assert seen_ambient[:2] == [{"user": "first", "session": "s-1"}, {}]


def test_a_stream_that_its_own_context_leads_to_can_be_collected() -> None:
    """Web frameworks keep the request in a context variable, and all in the request."""
    from contextvars import ContextVar

    bus = Bus()
    request: ContextVar[list[object]] = ContextVar("request")

    with capture(bus=bus) as events:
        token = request.set([])
        request.get().append(start_span("app.job", bus=bus).iterate(numbers()))
        request.reset(token)
        gc.collect()
        assert outcomes(events) == ["stop cancelled"]


def test_of_many_threads_that_close_a_stream_one_ends_the_span() -> None:
    bus = Bus()

    with capture("app.job.stop", bus=bus, scope="process") as events:
        for _ in range(20):
            stream = start_span("app.job", bus=bus).iterate([1, 2, 3])
            in_threads(*[stream.close] * 4, partial(list, stream))

    assert len(events) == 20


# --- Closing ----------------------------------------------------------------------


class Closable:
    """A stream as SDKs have them: to iterate is a generator, to close is its own."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2, 3)

    def close(self) -> None:
        self.closed += 1


class AsyncClosable:
    def __init__(self) -> None:
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in (1, 2, 3):
            yield number

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class SyncClosable(AsyncClosable):
    def close(self) -> None:  # type: ignore[override]  # the point of it
        self.closed += 1


def test_closing_reaches_the_stream_behind_its_iterator() -> None:
    """Or the connection would stay open until the stream is garbage collected."""
    bus = Bus()
    source = Closable()

    with capture(bus=bus) as events:
        stream = start_span("app.job", bus=bus).iterate(source)
        next(stream)
        stream.close()

    assert source.closed == 1
    assert list(stream) == []
    assert outcomes(events) == ["stop cancelled"]


@pytest.mark.parametrize("kind", [AsyncClosable, SyncClosable])
def test_aclosing_reaches_the_stream_behind_its_iterator(
    kind: type[AsyncClosable],
) -> None:
    bus = Bus()
    source = kind()

    async def main() -> None:
        stream = start_span("app.job", bus=bus).iterate(source)
        await anext(stream)
        await stream.aclose()
        assert [number async for number in stream] == []

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert source.closed == 1
    assert outcomes(events) == ["stop cancelled"]


class Unclosable:
    """An iterator whose end fails."""

    def __iter__(self) -> Unclosable:
        return self

    def __next__(self) -> int:
        return 1

    def close(self) -> None:
        msg = "connection lost"
        raise StreamError(msg)


class AsyncUnclosable:
    def __aiter__(self) -> AsyncUnclosable:
        return self

    async def __anext__(self) -> int:
        return 1

    async def aclose(self) -> None:
        msg = "connection lost"
        raise StreamError(msg)


def test_a_close_that_fails_ends_the_span_and_says_so() -> None:
    bus = Bus()

    async def main() -> None:
        stream = start_span("app.job", bus=bus).iterate(AsyncUnclosable())
        with pytest.raises(StreamError, match="connection lost"):
            await stream.aclose()

    with capture(bus=bus) as events:
        stream = start_span("app.job", bus=bus).iterate(Unclosable())
        with pytest.raises(StreamError, match="connection lost"):
            stream.close()
        asyncio.run(main())

    assert outcomes(events) == ["stop cancelled"] * 2


class Either:
    """A stream of both kinds, as litellm has them."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def __iter__(self) -> Iterator[int]:
        self.begun.append("sync")
        return iter((1, 2, 3))

    def __aiter__(self) -> AsyncIterator[int]:
        self.begun.append("async")
        return numbers_later()


def test_a_stream_of_both_kinds_is_what_its_reader_takes_it_for() -> None:
    """To begin both would send two requests, or fail for the wrong one."""
    bus = Bus()
    source, source_later = Either(), Either()

    async def main() -> None:
        await exhaust_later(start_span("app.job", bus=bus).iterate(source_later))

    with capture(bus=bus) as events:
        exhaust(start_span("app.job", bus=bus).iterate(source))
        asyncio.run(main())

    assert source.begun == ["sync"]
    assert source_later.begun == ["async"]
    assert outcomes(events) == ["stop", "stop"]


# --- At the end of the process ----------------------------------------------------


def test_a_stream_that_is_alive_at_exit_ends_then(tmp_path: Path) -> None:
    script = tmp_path / "leave.py"
    script.write_text(
        "import llmevents\n"
        "@llmevents.on('app.job.*', handler_id='print')\n"
        "def show(event, measurements, metadata, config):\n"
        "    print(event[-1], metadata.get('status', ''), flush=True)\n"
        "kept = llmevents.start_span('app.job').iterate([1, 2, 3])\n"
        "next(kept)\n"
    )
    done = subprocess.run(  # our own script
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "start ",
        "first_chunk ",
        "chunk ",
        "stop cancelled",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_that_drops_a_stream_emits_nothing() -> None:
    bus = Bus()
    kept: list[object] = []

    def child() -> int:
        before = len(events)
        kept.clear()
        gc.collect()
        return len(events) - before

    with capture(bus=bus) as events:
        kept.append(start_span("app.job", bus=bus).iterate(numbers()))
        assert in_child(child) == 0
        assert outcomes(events) == []
        kept.clear()

    assert outcomes(events) == ["stop cancelled"]
