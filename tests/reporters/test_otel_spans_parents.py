"""Whose child a span is: of ours, of other libraries', in tasks, threads, generators."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from opentelemetry import context as otel_context
from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.trace import get_current_span, set_span_in_context

from llmevents import Bus, llm, propagate, span, start_span
from llmevents_otel._current import Place
from llmevents_otel._profiles import profile_named
from llmevents_otel._spans import SpanRecorder
from tests.outcomes import in_threads, until
from tests.reporters.otel_recording import Recording


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture(autouse=True)
def _quiet_and_clean(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test leaves a span current, nor has OpenTelemetry anything to complain of.

    "Failed to detach context" in the log is the commonest complaint about
    instrumentation of streams.
    """
    before = otel_context.get_current()
    yield
    assert otel_context.get_current() == before
    assert caplog.records == []


def block(recording: Recording, name: str) -> span:
    return span(name, bus=recording.bus)


# --- Blocks and handles ------------------------------------------------------------


def test_spans_are_children_of_the_blocks_around_them(recording: Recording) -> None:
    call = llm.chat(model="m", bus=recording.bus)
    with block(recording, "a.outer"), block(recording, "a.inner"), call:
        pass
    assert recording.parent("chat m") == "a.inner"
    assert recording.parent("a.inner") == "a.outer"
    assert recording.parent("a.outer") is None
    assert (
        len({seen.context and seen.context.trace_id for seen in recording.finished()})
        == 1
    )


def test_spans_after_one_another_are_siblings(recording: Recording) -> None:
    with block(recording, "a.outer"):
        with block(recording, "a.first"):
            pass
        with block(recording, "a.second"):
            pass
    assert recording.parent("a.first") == recording.parent("a.second") == "a.outer"


def test_a_handle_is_a_child_and_no_parent(recording: Recording) -> None:
    with block(recording, "a.outer"):
        handle = start_span("a.handle", bus=recording.bus)
        with block(recording, "a.inner"):
            pass
        handle.stop()
    assert recording.parent("a.handle") == recording.parent("a.inner") == "a.outer"


def test_a_decorated_function_is_a_block(recording: Recording) -> None:
    @span("a.function", bus=recording.bus)
    def run() -> None:
        with recording.foreign.start_as_current_span("foreign"):
            pass

    run()
    assert recording.parent("foreign") == "a.function"


# --- Other libraries ---------------------------------------------------------------


def test_spans_of_other_libraries_fit_in_between(recording: Recording) -> None:
    foreign = recording.foreign.start_as_current_span
    with (
        foreign("server"),
        block(recording, "a.outer"),
        foreign("middle"),
        block(recording, "a.inner"),
        foreign("client"),
    ):
        pass
    chain = ["client", "a.inner", "middle", "a.outer", "server"]
    assert [recording.parent(name) for name in chain] == [*chain[1:], None]


def test_a_handle_in_a_span_of_another_library_is_its_child(
    recording: Recording,
) -> None:
    with block(recording, "a.outer"), recording.foreign.start_as_current_span("middle"):
        start_span("a.handle", bus=recording.bus).stop()
    assert recording.parent("a.handle") == "middle"


def test_the_parent_that_a_server_was_told_of_is_the_parent(
    recording: Recording,
) -> None:
    """It is in another process, so that nothing but its context is known here."""
    with recording.foreign.start_as_current_span("remote") as remote:
        around = set_span_in_context(remote)
    token = otel_context.attach(around)
    with block(recording, "a.outer"):
        pass
    otel_context.detach(token)
    assert recording.parent("a.outer") == "remote"


def test_baggage_is_there_in_a_block_and_after_it(recording: Recording) -> None:
    token = otel_context.attach(set_baggage("tenant", "t-1"))
    with block(recording, "a.outer"):
        assert get_baggage("tenant") == "t-1"
    assert get_baggage("tenant") == "t-1"
    otel_context.detach(token)


def test_what_others_leave_behind_in_a_block_ends_with_it(recording: Recording) -> None:
    """As it does with OpenTelemetry's own spans."""
    with block(recording, "a.outer"):
        otel_context.attach(set_baggage("left", "behind"))
    assert get_baggage("left") is None


def test_a_span_of_another_library_may_outlast_a_block(recording: Recording) -> None:
    with block(recording, "a.around"):
        outer = block(recording, "a.outer")
        outer.__enter__()
        foreign = recording.foreign.start_as_current_span("foreign")
        foreign.__enter__()
        outer.__exit__(None, None, None)
        with block(recording, "a.after"):
            pass
        foreign.__exit__(None, None, None)
    assert recording.parent("foreign") == "a.outer"
    assert recording.parent("a.after") == "a.around"


def test_the_current_span_is_the_blocks(recording: Recording) -> None:
    before = get_current_span()
    with block(recording, "a.outer"):
        current = get_current_span()
        assert current.is_recording()
    assert get_current_span() is before
    assert recording.span("a.outer").context == current.get_span_context()


def test_two_recorders_do_not_mix_their_spans(recording: Recording) -> None:
    """A span of another bus is to a recorder like one of another library."""
    tracer = recording.provider.get_tracer("second")
    second = SpanRecorder(tracer=tracer, profile=profile_named("genai-1.41"))
    bus = Bus()
    bus.attach("second", second.events(), second.handle, on_failure="raise")
    middle, inner = span("b.middle", bus=bus), span("b.inner", bus=bus)
    with block(recording, "a.outer"), middle, block(recording, "a.inner"), inner:
        pass
    assert recording.parent("b.inner") == "a.inner"
    assert recording.parent("a.inner") == "b.middle"
    assert recording.parent("b.middle") == "a.outer"


# --- Blocks that are not left in the order in which they were entered --------------


def test_blocks_of_two_generators_may_take_turns(recording: Recording) -> None:
    def items(name: str) -> Iterator[int]:
        with block(recording, name):
            yield 1
            yield 2

    with block(recording, "a.around"):
        first, second = items("a.first"), items("a.second")
        next(first), next(second)
        assert [*first] == [2]
        with recording.foreign.start_as_current_span("between"):
            pass
        assert [*second] == [2]
        with recording.foreign.start_as_current_span("after"):
            pass
    assert recording.parent("a.first") == "a.around"
    assert recording.parent("a.second") == "a.first"
    assert recording.parent("between") == "a.second"
    assert recording.parent("after") == "a.around"


def test_three_blocks_left_in_the_order_of_entering(recording: Recording) -> None:
    blocks = [block(recording, f"a.b{number}") for number in range(3)]
    with block(recording, "a.around"):
        for each in blocks:
            each.__enter__()
        for each in blocks:
            each.__exit__(None, None, None)
        with recording.foreign.start_as_current_span("after"):
            pass
    assert recording.parent("after") == "a.around"


def test_a_decorated_generator_has_children_and_its_consumer_has_none_of_it(
    recording: Recording,
) -> None:
    @span("a.items", bus=recording.bus)
    def items() -> Iterator[int]:
        with block(recording, "a.inside"):
            yield 1
            start_span("a.deep", bus=recording.bus).stop()
            yield 2

    with block(recording, "a.consumer"):
        for item in items():
            with block(recording, f"a.consumed{item}"):
                pass
    assert recording.parent("a.inside") == "a.items"
    assert recording.parent("a.deep") == "a.inside"
    assert recording.parent("a.items") == "a.consumer"
    assert recording.parent("a.consumed1") == "a.consumer"
    assert recording.parent("a.consumed2") == "a.consumer"


def test_an_asynchronous_generator_may_be_closed_in_another_task(
    recording: Recording,
) -> None:
    async def items() -> AsyncIterator[int]:
        with block(recording, "a.items"):
            yield 1
            yield 2

    async def main() -> None:
        generator = items()
        await asyncio.create_task(anext(generator))  # type: ignore[arg-type]  # a coroutine
        closing = asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]  # a generator
        await closing
        with block(recording, "a.after"):
            pass

    asyncio.run(main())
    assert len(recording.named("a.items")) == 1
    assert recording.parent("a.after") is None


def test_a_generator_may_be_garbage_collected_anywhere(recording: Recording) -> None:
    def items() -> Iterator[int]:
        with block(recording, "a.items"):
            yield 1

    generator = items()
    copy_context().run(next, generator)
    with block(recording, "a.outer"):
        del generator
        gc.collect()
        with recording.foreign.start_as_current_span("inside"):
            pass
    assert len(recording.named("a.items")) == 1
    assert recording.parent("inside") == "a.outer"


def test_a_stream_that_outlives_its_block_is_its_child(recording: Recording) -> None:
    with block(recording, "a.outer"):
        call = llm.chat(model="m", bus=recording.bus).handle()
        stream = call.iterate(iter("abc"))
        next(stream)
    assert list(stream) == ["b", "c"]
    assert recording.parent("chat m") == "a.outer"


# --- Tasks -------------------------------------------------------------------------


def test_tasks_inherit_and_do_not_disturb_each_other(recording: Recording) -> None:
    async def work(name: str, entered: asyncio.Event, go: asyncio.Event) -> None:
        with block(recording, f"a.{name}"):
            entered.set()
            await go.wait()
            with recording.foreign.start_as_current_span(f"inside {name}"):
                await asyncio.sleep(0)

    async def main() -> None:
        go = asyncio.Event()
        entered = [asyncio.Event(), asyncio.Event()]
        with block(recording, "a.outer"):
            tasks = [
                asyncio.create_task(work(name, event, go))
                for name, event in zip(("one", "two"), entered, strict=True)
            ]
            for event in entered:
                await event.wait()
            with recording.foreign.start_as_current_span("inside outer"):
                pass
        go.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert recording.parent("a.one") == recording.parent("a.two") == "a.outer"
    assert recording.parent("inside one") == "a.one"
    assert recording.parent("inside two") == "a.two"
    assert recording.parent("inside outer") == "a.outer"


def test_a_task_goes_on_as_the_child_of_a_block_that_has_ended(
    recording: Recording,
) -> None:
    async def later(go: asyncio.Event) -> None:
        await go.wait()
        with block(recording, "a.first"):
            pass
        with recording.foreign.start_as_current_span("foreign"):
            pass
        with block(recording, "a.second"):
            pass

    async def main() -> None:
        go = asyncio.Event()
        with block(recording, "a.outer"):
            task = asyncio.create_task(later(go))
        go.set()
        await task

    asyncio.run(main())
    for name in ("a.first", "foreign", "a.second"):
        assert recording.parent(name) == "a.outer"


def test_ten_thousand_interleaved_tasks_are_not_mixed_up(recording: Recording) -> None:
    tasks = 10_000
    waiting = 0

    async def work(number: int, go: asyncio.Event) -> None:
        nonlocal waiting
        with span("a.task", {"n": number}, bus=recording.bus):
            waiting += 1
            await go.wait()
            with llm.chat(model="m", bus=recording.bus, n=number) as call:
                await asyncio.sleep(0)
                call.usage(input_tokens=number)

    async def main() -> None:
        go = asyncio.Event()
        running = [asyncio.create_task(work(number, go)) for number in range(tasks)]
        await until(lambda: waiting == tasks)
        assert recording.spans.open == tasks
        go.set()
        await asyncio.gather(*running)

    asyncio.run(main())
    seen = [(each, dict(each.attributes or {})) for each in recording.finished()]
    outer = {
        attributes["n"]: each.context
        for each, attributes in seen
        if each.name == "a.task"
    }
    inner = [(each, attributes) for each, attributes in seen if each.name == "chat m"]
    assert len(outer) == len(inner) == tasks
    for each, attributes in inner:
        assert each.parent == outer[attributes["n"]]
        assert attributes["gen_ai.usage.input_tokens"] == attributes["n"]
    assert len({context and context.trace_id for context in outer.values()}) == tasks
    assert (recording.spans.open, recording.spans.forgotten) == (0, 0)


def test_tasks_that_each_begin_the_next_one_keep_none(recording: Recording) -> None:
    """A chain of contexts would grow for as long as the program runs."""
    places: list[weakref.ref[Place]] = []

    async def work(left: int) -> None:
        with block(recording, "a.task"):
            place = recording.spans._current.current()
            assert place is not None
            places.append(weakref.ref(place))
            following = asyncio.create_task(work(left - 1)) if left else None
        del place
        if following is not None:
            chain.append(following)

    chain: list[asyncio.Task[None]] = []

    async def main() -> None:
        await work(20)
        while chain:
            await chain.pop()
        with block(recording, "a.last"):
            pass  # what ended last is kept, for exemplars

    copy_context().run(asyncio.run, main())
    gc.collect()
    assert len(places) == 21
    assert [place() for place in places if place() is not None] == []


# --- Threads -----------------------------------------------------------------------


def test_a_propagated_function_has_its_parent_in_another_thread(
    recording: Recording,
) -> None:
    def work() -> None:
        foreign = recording.foreign.start_as_current_span("foreign")
        with block(recording, "a.thread"), foreign:
            pass

    with ThreadPoolExecutor() as pool, block(recording, "a.outer"):
        pool.submit(propagate(work)).result(30)
    assert recording.parent("a.thread") == "a.outer"
    assert recording.parent("foreign") == "a.thread"


def test_a_thread_of_its_own_begins_a_trace_of_its_own(recording: Recording) -> None:
    def work() -> None:
        with block(recording, "a.thread"):
            pass

    with block(recording, "a.outer"):
        in_threads(work)
    assert recording.parent("a.thread") is None


def test_a_block_may_be_left_in_another_context(recording: Recording) -> None:
    """A framework that runs the two halves of a fixture in two contexts, for one."""
    outer = block(recording, "a.outer")
    copy_context().run(outer.__enter__)
    with block(recording, "a.here"):
        outer.__exit__(None, None, None)
        with recording.foreign.start_as_current_span("inside"):
            pass
    assert len(recording.named("a.outer")) == 1
    assert recording.parent("inside") == "a.here"


def test_the_parent_of_a_handle_that_another_context_has_entered_is_found(
    recording: Recording,
) -> None:
    """Ours says whose child it is; OpenTelemetry's context knows nothing of it."""
    facts: dict[str, object] = {"span_id": "1"}
    recording.bus.execute("a.outer.start", {"system_time": 1}, facts)
    child = {"span_id": "2", "parent_span_id": "1"}
    recording.bus.execute("a.inner.start", {"system_time": 2}, child)
    recording.bus.execute("a.inner.stop", {"duration": 1}, child)
    recording.bus.execute("a.outer.stop", {"duration": 9}, facts)
    assert recording.parent("a.inner") == "a.outer"


def test_a_parent_that_nobody_knows_is_replaced_by_the_current_span(
    recording: Recording,
) -> None:
    facts = {"span_id": "2", "parent_span_id": "of another process"}
    with recording.foreign.start_as_current_span("request"):
        recording.bus.execute("a.inner.start", {"system_time": 2}, facts)
    recording.bus.execute("a.inner.stop", {"duration": 1}, facts)
    assert recording.parent("a.inner") == "request"
