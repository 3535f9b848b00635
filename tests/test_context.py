"""Ambient metadata and the current span: who sees them, and who does not."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from llmevents import (
    Bus,
    HandlerError,
    LLMEventsError,
    context,
    propagate,
    span,
    start_span,
)
from llmevents._bus import ambient
from llmevents._context import current_span
from llmevents.testing import capture
from tests.outcomes import in_threads, outcomes


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert caplog.get_records("call") == []
    assert current_span.get() is None
    assert ambient.get() is None


def around() -> dict[str, object]:
    """Return what is ambient here."""
    return dict(ambient.get() or {})


# --- Blocks -----------------------------------------------------------------------


def test_a_block_adds_metadata_to_every_event_in_it() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        bus.execute("app.before", {})
        with context(user="u-1"):
            bus.execute("app.point", {}, {"page": 3})
            bus.execute("app.bare", {})
            start_span("app.job", bus=bus).stop()
        bus.execute("app.after", {})

    assert [e.metadata.get("user") for e in events] == [None, *["u-1"] * 4, None]
    assert events[1].metadata == {"user": "u-1", "page": 3}
    assert events[2].metadata == {"user": "u-1"}


def test_explicit_beats_inner_beats_outer() -> None:
    bus = Bus()

    with (
        capture(bus=bus) as events,
        context(a="outer", b="outer", c="outer"),
        context(b="inner", c="inner"),
    ):
        bus.execute("app.point", {}, {"c": "explicit"})
        start_span("app.job", {"c": "explicit"}, bus=bus).stop()

    for event in events:
        found = [event.metadata[key] for key in "abc"]
        assert found == ["outer", "inner", "explicit"]


def test_none_takes_the_outer_value_away() -> None:
    with context(a=1, b=2):
        with context(a=None, never=None):
            assert around() == {"b": 2}
        assert around() == {"a": 1, "b": 2}


def test_keys_that_are_no_identifiers_come_as_a_mapping() -> None:
    with context({"http.route": "/", "a": 1, "self": 2}, a=3):
        assert around() == {"http.route": "/", "a": 3, "self": 2}
    with context(self=1, values=2):
        assert around() == {"self": 1, "values": 2}


def test_an_empty_block_changes_nothing() -> None:
    with context(a=1), context(), context({}), context(None):
        assert around() == {"a": 1}
    with context():
        assert around() == {}


def test_secrets_are_taken_out_once_at_entry() -> None:
    secret = "sk-proj-" + "Ab3dEf6hIj9kLm2nOp5q" * 2
    values: dict[str, object] = {"api_key": secret, "deep": [{"note": secret}]}

    with context(values):
        assert secret not in repr(around())
        assert around().keys() == {"api_key", "deep"}


def test_values_are_those_of_the_entry() -> None:
    values: dict[str, object] = {"deep": [1]}

    with context(values):
        values["late"] = 1
        assert around() == {"deep": [1]}


def test_an_error_passes_and_ends_the_block() -> None:
    error = ValueError("no")

    with pytest.raises(ValueError, match="no") as caught, context(a=1):
        raise error

    assert caught.value is error
    assert error.__context__ is None


def test_a_block_is_for_one_entry_at_a_time() -> None:
    block = context(a=1)

    with block, pytest.raises(LLMEventsError, match="create one with context"):
        block.__enter__()
    with block:
        assert around() == {"a": 1}


def test_a_block_that_was_not_entered_may_be_left() -> None:
    """As an ExitStack or a callback may do after a failure."""
    context(a=1).__exit__(None, None, None)
    span("app.job").__exit__(None, None, None)


# --- Tasks ------------------------------------------------------------------------


def test_tasks_inherit_the_block_that_they_were_made_in() -> None:
    async def look() -> dict[str, object]:
        await asyncio.sleep(0)
        return around()

    async def main() -> None:
        with context(user="u-1"):
            inside = asyncio.create_task(look())
        outside = asyncio.create_task(look())
        assert await inside == {"user": "u-1"}
        assert await outside == {}

    asyncio.run(main())


def test_a_block_of_a_task_is_the_tasks_own() -> None:
    async def work(number: int) -> dict[str, object]:
        with context(number=number):
            await asyncio.sleep(0)
            return around()

    async def main() -> None:
        with context(app="x"):
            found = await asyncio.gather(*[work(n) for n in range(50)])
            assert found == [{"app": "x", "number": n} for n in range(50)]
            assert around() == {"app": "x"}

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in 3.11")
def test_tasks_of_a_group_are_children_of_the_span_around_it() -> None:
    bus = Bus()

    async def work() -> None:
        with span("app.child", bus=bus):
            await asyncio.sleep(0)

    async def main() -> None:
        with span("app.parent", bus=bus), context(user="u-1"):
            group: Any = vars(asyncio)["TaskGroup"]()
            async with group:
                group.create_task(work())
                group.create_task(work())

    with capture("app.**", bus=bus) as events:
        asyncio.run(main())

    parent, *rest = events
    children = [event for event in rest if event.event[1] == "child"]
    assert outcomes(events) == ["stop"] * 3
    assert {e.metadata["parent_span_id"] for e in children} == {
        parent.metadata["span_id"]
    }
    assert {e.metadata["user"] for e in children} == {"u-1"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in 3.11")
def test_a_group_that_fails_cancels_the_spans_of_its_other_tasks() -> None:
    bus = Bus()

    async def wait() -> None:
        with span("app.wait", bus=bus):
            await asyncio.Event().wait()

    async def fail() -> None:
        with span("app.fail", bus=bus):
            await asyncio.sleep(0)
            msg = "no"
            raise ValueError(msg)

    async def main() -> None:
        with span("app.group", bus=bus):
            group: Any = vars(asyncio)["TaskGroup"]()
            async with group:
                group.create_task(wait())
                group.create_task(fail())

    with capture("app.**", bus=bus) as events, suppress(Exception):
        asyncio.run(main())

    ended = [e for e in events if e.event[-1] == "exception"]
    assert {e.event[1]: e.metadata["kind"] for e in ended} == {
        "wait": "cancelled",
        "fail": "error",
        "group": "error",
    }
    assert len(events) == 6


def test_to_thread_takes_the_context_along() -> None:
    bus = Bus()

    def work() -> dict[str, object]:
        with span("app.child", bus=bus):
            return around()

    async def main() -> None:
        with context(user="u-1"), span("app.parent", bus=bus):
            assert await asyncio.to_thread(work) == {"user": "u-1"}

    with capture(bus=bus) as events:
        asyncio.run(main())

    parent, child = events[:2]
    assert child.metadata["parent_span_id"] == parent.metadata["span_id"]


# --- Threads ----------------------------------------------------------------------


def test_a_thread_starts_without_context_unless_it_is_propagated() -> None:
    """As all context variables; a later Python may let threads inherit them."""
    bus = Bus()

    def work() -> tuple[dict[str, object], str | None]:
        with span("app.child", bus=bus) as child:
            return around(), child.parent_span_id

    with (
        capture(bus=bus, scope="process"),
        context(user="u-1"),
        span("app.parent", bus=bus) as parent,
        ThreadPoolExecutor(1) as pool,
    ):
        with_it = pool.submit(propagate(work)).result(30)
        without = pool.submit(work).result(30)

    assert with_it == ({"user": "u-1"}, parent.span_id)
    assert without == ({}, None)


def test_a_pool_thread_keeps_nothing_of_the_work_before() -> None:
    def enter_and_stay() -> None:
        context(leaked=True).__enter__()

    with context(user="u-1"), ThreadPoolExecutor(1) as pool:
        pool.submit(propagate(enter_and_stay)).result(30)
        assert pool.submit(around).result(30) == {}
        assert around() == {"user": "u-1"}


def test_calls_of_a_propagated_function_may_overlap() -> None:
    """One context can be entered once at a time; each call has a copy."""
    barrier = threading.Barrier(4)
    found: list[dict[str, object]] = []

    def work() -> None:
        barrier.wait(30)
        with context(inner=True):
            found.append(around())
        barrier.wait(30)

    with context(user="u-1"):
        propagated = propagate(work)
    in_threads(*[propagated] * 4)

    assert found == [{"user": "u-1", "inner": True}] * 4


def test_the_context_is_that_of_propagate_and_not_of_the_call() -> None:
    with context(user="u-1"):
        propagated = propagate(around)
    with context(user="u-2"):
        assert propagated() == {"user": "u-1"}
        assert around() == {"user": "u-2"}


def test_other_context_variables_go_along() -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)
    token = variable.set(7)
    propagated = propagate(variable.get)
    variable.reset(token)

    assert propagated() == 7


def test_a_propagated_function_looks_and_acts_as_itself() -> None:
    def add(a: int, *, b: int = 2) -> int:
        """Add."""
        return a + b

    propagated = propagate(add)

    assert propagated(1, b=5) == 6
    assert propagated.__name__ == "add"
    assert inspect.signature(propagated) == inspect.signature(add)
    assert propagate(functools.partial(add, 1))() == 3
    with pytest.raises(ZeroDivisionError, match="division"):
        propagate(lambda: 1 // 0)()


async def coroutine() -> None: ...


def generator() -> Generator[None, None, None]:
    yield


async def async_generator() -> AsyncGenerator[None, None]:
    yield


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (coroutine, "start the task inside the block"),
        (functools.partial(coroutine), "start the task inside the block"),
        (generator, "propagate the function that asks for the items"),
        (async_generator, "propagate the function that asks for the items"),
    ],
    ids=["coroutine", "partial", "generator", "async generator"],
)
def test_what_would_run_elsewhere_cannot_be_propagated(
    function: Callable[[], object], remedy: str
) -> None:
    """It would seem to work, and the context would be missing."""
    with pytest.raises(HandlerError, match=remedy) as caught:
        propagate(function)

    assert caught.value.handler is function


# --- Decorated generators ---------------------------------------------------------


def test_a_consumer_does_not_see_what_a_generator_entered() -> None:
    bus = Bus()
    seen = []

    @span("app.numbers", bus=bus)
    def numbers() -> Iterator[int]:
        with context(inside=True), span("app.step", bus=bus) as step:
            for number in range(3):
                seen.append((around(), current_span.get() is step))
                yield number

    with capture(bus=bus), context(user="u-1"), span("app.reader", bus=bus) as reader:
        for _ in numbers():
            assert around() == {"user": "u-1"}
            assert current_span.get() is reader

    assert seen == [({"user": "u-1", "inside": True}, True)] * 3


def test_a_consumer_does_not_see_what_an_async_generator_entered() -> None:
    bus = Bus()
    seen = []

    @span("app.numbers", bus=bus)
    async def numbers() -> AsyncIterator[int]:
        with context(inside=True), span("app.step", bus=bus) as step:
            for number in range(3):
                await asyncio.sleep(0)
                seen.append((around(), current_span.get() is step))
                yield number

    async def main() -> None:
        with context(user="u-1"), span("app.reader", bus=bus) as reader:
            async for _ in numbers():
                assert around() == {"user": "u-1"}
                assert current_span.get() is reader
                await asyncio.sleep(0)

    with capture(bus=bus):
        asyncio.run(main())

    assert seen == [({"user": "u-1", "inside": True}, True)] * 3


def test_a_generator_does_not_see_what_its_consumer_enters_later() -> None:
    seen = []

    @span("app.numbers", bus=Bus())
    def numbers() -> Generator[None, None, None]:
        for _ in range(2):
            seen.append(around())
            yield

    with context(user="u-1"):
        running = numbers()
        next(running)
    with context(user="u-2", session="s-2"):
        next(running)
    running.close()

    assert seen == [{"user": "u-1"}] * 2


def test_spans_in_a_generator_are_children_of_its_span() -> None:
    bus = Bus()

    @span("app.numbers", bus=bus)
    def numbers() -> Iterator[None]:
        for _ in range(2):
            with span("app.inside", bus=bus):
                pass
            yield

    with capture("app.*.start", bus=bus) as events, span("app.reader", bus=bus):
        for _ in numbers():
            start_span("app.outside", bus=bus)

    ids = {e.event[1]: e.metadata["span_id"] for e in events}
    parents = [(e.event[1], e.metadata.get("parent_span_id")) for e in events]
    assert parents == [
        ("reader", None),
        ("numbers", ids["reader"]),
        ("inside", ids["numbers"]),
        ("outside", ids["reader"]),
        ("inside", ids["numbers"]),
        ("outside", ids["reader"]),
    ]


def test_a_generator_that_nobody_listens_to_is_no_parent() -> None:
    bus = Bus()

    @span("silent.numbers", bus=bus)
    def numbers() -> Iterator[None]:
        with span("app.inside", bus=bus):
            yield

    with (
        capture("app.**", bus=bus) as events,
        context(user="u-1"),
        span("app.reader", bus=bus) as reader,
    ):
        for _ in numbers():
            assert current_span.get() is reader

    assert events[1].name == "app.inside.start"
    assert events[1].metadata["parent_span_id"] == reader.span_id


def test_generators_within_generators_keep_apart() -> None:
    bus = Bus()

    @span("app.number", bus=bus)
    def nested(depth: int) -> Iterator[int]:
        with context({f"depth{depth}": True}):
            if depth:
                yield from nested(depth - 1)
            yield len(around())

    with capture("app.number.start", bus=bus) as events:
        assert list(nested(3)) == [4, 3, 2, 1]

    ids = [e.metadata["span_id"] for e in events]
    assert [e.metadata.get("parent_span_id") for e in events] == [None, *ids[:3]]


def test_the_end_of_a_generator_carries_its_own_context() -> None:
    """Whoever closes it, or makes the collector do so, may be at another request."""
    bus = Bus()

    @span("app.numbers", bus=bus)
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    @span("app.numbers", bus=bus)
    async def numbers_later() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def main() -> None:
        with context(user="u-1"):
            running: Any = numbers_later()
            await anext(running)
        with context(user="u-2", session="s-2"):
            await running.aclose()

    with capture("app.numbers.*", bus=bus) as events:
        with context(user="u-1"):
            running = numbers()
            next(running)
        with context(user="u-2", session="s-2"):
            next(running)
            del running
        asyncio.run(main())

    assert outcomes(events) == ["stop cancelled"] * 2
    assert {e.metadata["user"] for e in events} == {"u-1"}
    assert not any("session" in e.metadata for e in events)


def test_a_step_that_ends_in_another_context_changes_nothing_there() -> None:
    """So end the tasks of a loop that was closed: in whatever context is there."""
    bus = Bus()

    class Wait:
        def __await__(self) -> Generator[None, None, None]:
            yield

    @span("app.numbers", bus=bus)
    async def numbers() -> AsyncIterator[int]:
        await Wait()
        yield 1

    def begin() -> Any:  # noqa: ANN401  # what a step of an async generator is has no name
        context(user="of the task").__enter__()
        step = anext(numbers())
        step.__await__().send(None)
        return step

    with capture("app.*.*", bus=bus, scope="process") as events:
        step = copy_context().run(begin)
        with context(user="mine"), span("app.mine", bus=bus) as mine:
            with pytest.raises(ValueError, match="elsewhere"):
                step.throw(ValueError("elsewhere"))
            assert around() == {"user": "mine"}
            assert current_span.get() is mine

    assert outcomes(events) == ["exception error", "stop"]
    assert events[2].metadata["user"] == "of the task"


# --- Blocks in generators that are not decorated ----------------------------------


def test_an_async_generator_that_is_left_early_leaves_nothing_behind() -> None:
    bus = Bus()

    async def numbers() -> AsyncIterator[int]:
        with context(inside=True), span("app.inside", bus=bus):
            yield 1
            yield 2

    async def main() -> None:
        async for _ in numbers():
            break
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert outcomes(events) == ["stop cancelled"]

    with capture(bus=bus) as events:
        asyncio.run(main())


def test_a_block_that_is_left_in_another_context_restores_nothing_there() -> None:
    bus = Bus()
    block, scope = context(user="theirs"), span("app.theirs", bus=bus)

    def enter() -> None:
        block.__enter__()
        scope.__enter__()

    with capture(bus=bus, scope="process") as events:
        copy_context().run(enter)
        with context(user="mine"), span("app.mine", bus=bus) as mine:
            scope.__exit__(None, None, None)
            block.__exit__(None, None, None)
            assert around() == {"user": "mine"}
            assert current_span.get() is mine

    assert [e.name for e in events if e.event[-1] == "stop"] == [
        "app.theirs.stop",
        "app.mine.stop",
    ]


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1)]
)
def test_blocks_may_be_left_in_any_order(order: tuple[int, ...]) -> None:
    """As by generators that take turns; the last to go must not bring back another."""
    bus = Bus()

    def enter(number: int) -> Iterator[None]:
        with context({f"n{number}": True}), span(f"app.n{number}", bus=bus):
            yield

    with (
        capture(bus=bus) as events,
        context(user="u-1"),
        span("app.reader", bus=bus) as reader,
    ):
        running = [enter(number) for number in range(3)]
        for each in running:
            next(each)
        for number in order:
            assert list(running[number]) == []
        assert around() == {"user": "u-1"}
        assert current_span.get() is reader

    assert outcomes(events) == ["stop"] * 4


def test_a_task_keeps_the_parent_that_it_was_born_to() -> None:
    """Also after its own spans, and although the parent has ended meanwhile."""
    bus = Bus()

    async def main() -> None:
        over = asyncio.Event()

        async def later() -> list[str | None]:
            await over.wait()
            parents = []
            for _ in range(2):
                with context(step=True), span("app.child", bus=bus) as child:
                    parents.append(child.parent_span_id)
            assert around() == {"user": "u-1"}
            return parents

        with context(user="u-1"), span("app.parent", bus=bus) as parent:
            task = asyncio.create_task(later())
        over.set()
        assert await task == [parent.span_id] * 2

    with capture(bus=bus):
        asyncio.run(main())


def test_tasks_that_start_the_next_one_do_not_keep_the_last_ones() -> None:
    """A service that reschedules itself within its span would grow for ever."""
    bus = Bus()
    spans: list[weakref.ref[object]] = []

    async def work(left: int) -> None:
        with context(left=left), span("app.work", bus=bus) as s:
            spans.append(weakref.ref(s))
            if left:
                tasks.append(asyncio.create_task(work(left - 1)))

    async def main() -> int:
        tasks.append(asyncio.create_task(work(20)))
        while tasks:
            await tasks.pop()
        return sum(ref() is not None for ref in spans)

    tasks: list[asyncio.Task[None]] = []
    with capture("app.work.stop", bus=bus) as events:
        alive = asyncio.run(main())

    assert len(events) == 21
    assert alive <= 3
