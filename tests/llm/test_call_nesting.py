"""Calls within calls: one owner, nothing counted twice, and nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from llmevents import Bus, llm, propagate, span, start_span
from llmevents._context import current_span, take_in, take_out
from llmevents.llm import Call
from llmevents.llm._ownership import Layer
from llmevents.testing import CapturedEvents, capture
from tests.llm.calls import RESPONSE, chunks, handle, numbers
from tests.outcomes import in_child, in_threads, outcomes


def test_the_outermost_call_owns_and_the_inner_ones_are_requests(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(model="outer", bus=bus) as outer:
        with llm.chat(model="inner", bus=bus) as inner:
            inner.record(RESPONSE)
        outer.record({**RESPONSE, "usage": {"prompt_tokens": 999}})
    assert events.names() == [
        "llm.chat.start",
        "llm.provider.request.start",
        "llm.provider.request.stop",
        "llm.chat.stop",
    ]
    assert numbers(events) == [
        {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    ]
    assert numbers(events, "llm.provider.request.stop") == [{}]
    assert events[1].metadata["parent_span_id"] == events[0].metadata["span_id"]
    assert events[2].metadata["model"] == "inner"
    assert events[3].metadata["model"] == "outer"
    assert events[3].metadata["response_model"] == "tiny-1-2026"


@pytest.mark.parametrize("heard", ["llm.**", "llm.chat.*"], ids=["all", "chats only"])
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_layers_that_all_record_are_counted_once(layers: int, heard: str) -> None:
    """As decorated functions that call one another do; whoever listens to what."""
    bus = Bus()

    def ask(depth: int) -> object:
        with llm.chat(bus=bus) as call:
            response = RESPONSE if depth == 1 else ask(depth - 1)
            call.record(response)
            return response

    with capture(heard, bus=bus) as events:
        ask(layers)
    assert numbers(events) == [
        {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    ]


def test_what_an_inner_call_does_not_know_the_outer_one_may(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as outer:
        with llm.chat(bus=bus):
            pass
        outer.record(RESPONSE)
    assert numbers(events)[0]["total_tokens"] == 7


def test_an_inner_stream_left_early_makes_the_usage_incomplete(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        inner = handle(bus)
        stream = inner.observe(chunks())
        next(stream)
        stream.close()
    assert outcomes(events) == ["stop cancelled", "stop success"]
    assert events[-1].metadata["usage_complete"] is False


def test_an_inner_failure_that_is_caught_is_not_the_outer_ones(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        with pytest.raises(ValueError, match="inner"), llm.chat(bus=bus):
            raise ValueError("inner")  # noqa: EM101  # the message is the test's
        with llm.chat(bus=bus) as second:
            second.record(RESPONSE)
    assert outcomes(events) == [
        "exception error error",
        "stop success",
        "stop success",
    ]
    assert numbers(events)[0]["total_tokens"] == 7


def test_spans_between_do_not_hide_the_owner(bus: Bus) -> None:
    from llmevents.events import declare_span

    declare_span("myapp.step")
    step = span("myapp.step", bus=bus)
    with capture(bus=bus) as events, llm.chat(bus=bus), step, llm.chat(bus=bus) as call:
        call.record(RESPONSE)
    assert numbers(events)[0]["total_tokens"] == 7
    around = events.named("myapp.step.start")[0].metadata
    request = events.named("llm.provider.request.start")[0].metadata
    assert request["parent_span_id"] == around["span_id"]


def test_spans_in_a_request_that_nobody_hears_belong_to_the_call() -> None:
    """A parent that was never announced would be a hole in the tree."""
    bus = Bus()
    with (
        capture("llm.chat.*", "myapp.step.*", bus=bus) as events,
        llm.chat(bus=bus),
        llm.chat(bus=bus),
        span("myapp.step", bus=bus),
    ):
        pass
    outer = events.named("llm.chat.start")[0].metadata["span_id"]
    assert events.named("myapp.step.start")[0].metadata["parent_span_id"] == outer


def test_suppression_ends_with_the_owner(bus: Bus, events: CapturedEvents) -> None:
    """Or calls would vanish: one after the block, and one after it was ended by hand."""
    with llm.chat(bus=bus) as call:
        call.stop()
        with llm.chat(bus=bus) as second:
            second.record(RESPONSE)
    with llm.chat(bus=bus) as third:
        third.record(RESPONSE)
    assert [n.get("total_tokens") for n in numbers(events)] == [None, 7, 7]
    assert events.named("llm.provider.**") == []


def test_what_follows_an_ended_layer_is_the_next_ones(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus), llm.chat(bus=bus) as middle:
        middle.record(RESPONSE)
        middle.stop()
        with llm.chat(bus=bus) as inner:
            inner.record(RESPONSE)
    assert numbers(events) == [
        {"input_tokens": 6, "output_tokens": 8, "total_tokens": 14}
    ]


def test_requests_of_threads_add_up_exactly(bus: Bus, events: CapturedEvents) -> None:
    workers, each = 8, 50

    def work() -> None:
        for _ in range(each):
            with llm.chat(bus=bus) as inner:
                inner.record(RESPONSE)

    with llm.chat(bus=bus):
        in_threads(*(propagate(work) for _ in range(workers)))
    assert numbers(events)[0]["total_tokens"] == workers * each * 7
    assert len(events.named("llm.provider.request.stop")) == workers * each


def test_requests_of_tasks_add_up_exactly(bus: Bus, events: CapturedEvents) -> None:
    async def work(number: int) -> None:
        with llm.chat(bus=bus) as inner:
            await asyncio.sleep(0)
            inner.usage(input_tokens=number)

    async def use() -> None:
        with llm.chat(bus=bus):
            await asyncio.gather(*(work(number) for number in range(100)))

    asyncio.run(use())
    assert numbers(events) == [{"input_tokens": sum(range(100))}]


def test_calls_side_by_side_do_not_own_each_other(
    bus: Bus, events: CapturedEvents
) -> None:
    async def work(number: int) -> None:
        with llm.chat(bus=bus) as call:
            await asyncio.sleep(0)
            call.usage(input_tokens=number)

    async def use() -> None:
        await asyncio.gather(*(work(number) for number in range(10)))

    asyncio.run(use())
    assert sorted(n["input_tokens"] for n in numbers(events)) == list(range(10))


def test_a_handle_is_nobodys_owner(bus: Bus, events: CapturedEvents) -> None:
    first, second = handle(bus), handle(bus)
    second.record(RESPONSE)
    second.stop()
    first.stop()
    assert [n.get("total_tokens") for n in numbers(events)] == [7, None]


def test_a_call_of_another_bus_is_no_owner_even_further_out() -> None:
    bus, other = Bus(), Bus()
    with (
        capture(bus=bus) as events,
        capture(bus=other) as elsewhere,
        llm.chat(bus=bus),
        llm.chat(bus=other),
        llm.chat(bus=other) as inner,
    ):
        inner.record(RESPONSE)
    assert numbers(events) == [{}]
    assert numbers(elsewhere)[0]["total_tokens"] == 7


# --- blocks that are left while a request is under way --------------------------------


def test_a_call_ends_with_the_last_request_in_it(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        first, second = handle(bus), handle(bus)
        second.record(RESPONSE)
    second.stop()
    second.stop()
    assert events.named("llm.chat.stop") == []
    first.record(RESPONSE)
    first.stop()
    assert numbers(events)[0]["total_tokens"] == 14
    assert events[-1].metadata["usage_complete"] is True
    assert events.names()[-2:] == ["llm.provider.request.stop", "llm.chat.stop"]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        pytest.param(lambda call: call.stop(), "stop success", id="stopped"),
        pytest.param(lambda call: call.cancel(), "stop cancelled", id="cancelled"),
        pytest.param(
            lambda call: call.fail(TimeoutError("x")),
            "exception timeout error",
            id="failed",
        ),
    ],
)
@pytest.mark.parametrize("heard", ["llm.**", "llm.chat.*"], ids=["all", "chats only"])
def test_a_call_that_waited_ends_like_what_it_waited_for(
    end: Callable[[Call], None], outcome: str, heard: str
) -> None:
    bus = Bus()
    with capture(heard, bus=bus) as events:
        with llm.chat(bus=bus):
            request = handle(bus)
        request.record(RESPONSE)
        end(request)
    assert outcomes(events)[-1] == outcome
    assert events[-1].event[:2] == ("llm", "chat")
    assert events[-1].measurements["total_tokens"] == 7


def test_a_call_that_was_left_takes_no_more_requests(
    bus: Bus, events: CapturedEvents
) -> None:
    """Or a task that outlives the block could keep it open for ever."""

    async def use() -> None:
        with llm.chat(bus=bus):
            request = handle(bus)
            late = asyncio.create_task(ask_later())
        await late
        assert numbers(events) == [{"input_tokens": 1}]
        request.stop()

    async def ask_later() -> None:
        with llm.chat(bus=bus) as call:
            call.usage(input_tokens=1)

    asyncio.run(use())
    assert numbers(events) == [{"input_tokens": 1}, {}]


def test_a_call_that_is_ended_by_hand_waits_for_nothing(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        request = handle(bus)
        call.stop()
    request.record(RESPONSE)
    request.stop()
    assert outcomes(events) == ["stop success", "stop success"]
    assert numbers(events) == [{}]
    assert events.named("llm.chat.stop")[0].metadata["usage_complete"] is False


@pytest.mark.parametrize("before", [0, 2])
def test_a_request_that_outlives_its_call_counts_its_own_chunks(
    before: int, bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        request = handle(bus)
        for _ in range(before):
            request.chunk()
        call.stop()
    for _ in range(3):
        request.chunk()
    request.stop()
    told = events.named("llm.provider.request.chunk")
    assert [event.measurements["index"] for event in told] == [*range(before + 3)]
    assert len(events.named("llm.provider.request.first_chunk")) == 1
    (stop,) = events.named("llm.provider.request.stop")
    assert stop.measurements["chunks"] == before + 3


def test_a_block_that_raises_waits_for_nothing(
    bus: Bus, events: CapturedEvents
) -> None:
    def fail() -> None:
        with llm.chat(bus=bus):
            handle(bus)
            raise ValueError("mine")  # noqa: EM101  # the message is the test's

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert outcomes(events) == ["exception error error"]
    assert events[-1].metadata["usage_complete"] is False


def test_requests_that_end_in_threads_end_the_call_once(
    bus: Bus, events: CapturedEvents
) -> None:
    for _ in range(50):
        with llm.chat(bus=bus):
            requests = [handle(bus) for _ in range(4)]
            for request in requests:
                request.record(RESPONSE)
        in_threads(*(request.stop for request in requests))
    assert [n["total_tokens"] for n in numbers(events)] == [28] * 50


def test_a_block_that_is_left_as_its_last_request_ends_ends_once(
    bus: Bus, events: CapturedEvents
) -> None:
    """Both look whether the other is done; one of them at least sees it."""
    for _ in range(100):
        scope = llm.chat(bus=bus)
        call = scope.__enter__()
        request = handle(bus)
        request.record(RESPONSE)
        in_threads(request.stop, partial(call.leave, None))
        scope.__exit__(None, None, None)
    assert [n["total_tokens"] for n in numbers(events)] == [7] * 100


class _EndingWhenSeen(set[Layer]):
    """Requests of which each ends right after somebody has seen that it is there."""

    def __bool__(self) -> bool:
        seen = tuple(self)
        for request in seen:
            request.stop()
        return bool(seen)


def test_a_request_that_ends_between_two_looks_is_not_waited_for(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        request = handle(bus)
        request.record(RESPONSE)
        call._under_way = _EndingWhenSeen(call._under_way)
    assert numbers(events)[0]["total_tokens"] == 7


def test_an_interrupt_at_the_end_of_a_request_ends_the_call_too(
    bus: Bus, events: CapturedEvents
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with llm.chat(bus=bus):
        request = handle(bus)
    with (
        bus.attach("interrupts", "llm.provider.request.stop", interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        request.stop()
    assert outcomes(events) == ["stop success", "stop success"]


def test_a_request_that_could_not_begin_is_not_waited_for(
    bus: Bus, events: CapturedEvents
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with (
        llm.chat(bus=bus),
        bus.attach("x", "llm.provider.request.start", interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        handle(bus)
    assert outcomes(events) == ["exception error exit", "stop success"]


def test_a_forked_child_ends_nothing_of_its_parents(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        request = handle(bus)

        def end_in_child() -> object:
            request.stop()
            request.record(RESPONSE)
            with llm.chat(bus=bus) as own:
                own.record(RESPONSE)
            return [events.names()[2:], request.is_open, numbers(events)]

        seen = in_child(end_in_child)
    request.stop()
    tokens = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    assert seen == [["llm.chat.start", "llm.chat.stop"], False, [tokens]]
    assert outcomes(events) == ["stop success"] * 2


def test_a_plain_span_in_a_call_carries_no_usage(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        tool = start_span("llm.tool", bus=bus)
        call.record(RESPONSE)
        tool.stop()
    assert numbers(events, "llm.tool.stop") == [{}]


def test_a_dropped_stream_whose_request_ends_between_two_looks_is_over(
    bus: Bus, events: CapturedEvents
) -> None:
    call = handle(bus)
    take_in(current_span, call)
    request = handle(bus)
    take_out(current_span, call)
    request.record(RESPONSE)
    call._under_way = _EndingWhenSeen(call._under_way)
    call.stream_ended(None, exhausted=False)
    assert numbers(events)[0]["total_tokens"] == 7
    assert outcomes(events)[-1] == "stop cancelled"


def test_a_call_that_is_current_already_reads_its_stream_as_it_is(
    bus: Bus, events: CapturedEvents
) -> None:
    """Entered twice, a span would be around itself."""
    call = handle(bus)
    take_in(current_span, call)
    with span("llm.tool", bus=bus) as inner:
        assert len(list(call.observe(chunks()))) == 3
        assert current_span.get() is inner
    assert inner.outer is None
    take_out(current_span, call)
    assert current_span.get() is None
    assert numbers(events)[0]["total_tokens"] == 7
