"""Layers on layers: one owner, and what the server has served, counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, FakeProvider, capture
from llmevents.testing.provider import Exchange, Reply
from tests.instrumentation.sdk import MESSAGES, TIMEOUT_SECONDS, WITH_USAGE
from tests.outcomes import outcomes


pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool

from llmevents.instrumentation._langchain_runs import runs
from llmevents.instrumentation.langchain import LLMEventsCallbackHandler
from tests.instrumentation.langchain_models import Scripted


langchain_openai = pytest.importorskip(
    "langchain_openai", reason="langchain-openai is not installed"
)

# langchain-openai warns of details that are null when it adds up a batch's usage.
pytestmark = pytest.mark.filterwarnings("ignore:Unexpected type for token usage")

SDKS = ("openai", "anthropic", "langchain")


@pytest.fixture
def bus() -> Iterator[Bus]:
    strict = Bus(strict=True)
    llmevents.instrument(*SDKS, bus=strict)
    yield strict
    llmevents.uninstrument(*SDKS)
    assert len(runs) == 0, "a run is remembered for ever"


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    with capture("llm.chat.*", "llm.agent.*", bus=bus, scope="process") as captured:
        yield captured


@pytest.fixture
def model(provider: FakeProvider) -> Any:  # noqa: ANN401  # of a package that need not be there
    return langchain_openai.ChatOpenAI(
        base_url=provider.base_url,
        api_key="test",
        model="gpt-4o",
        max_retries=0,
        stream_usage=True,
        # langchain-openai keeps its clients, and these their connections, for ever.
        default_headers={"Connection": "close"},
    )


def check(events: CapturedEvents, provider: FakeProvider, calls: int) -> None:
    """One start and one end for each call, and the usage that the server knows of."""
    starts = [each.metadata["span_id"] for each in events.named("llm.chat.start")]
    ends = [*events.named("llm.chat.stop"), *events.named("llm.chat.exception")]
    assert len(starts) == calls
    assert sorted(starts) == sorted(each.metadata["span_id"] for each in ends)
    served = provider.totals()
    for key in ("input_tokens", "output_tokens"):
        stated = sum(each.measurements.get(key, 0) for each in ends)
        assert stated == getattr(served, key), key


Use = Callable[[Any], object]
AsyncUse = Callable[[Any], Awaitable[object]]


@pytest.mark.parametrize(
    ("use", "calls"),
    [
        pytest.param(lambda model: model.invoke("Hello you"), 1, id="invoke"),
        pytest.param(lambda model: list(model.stream("Hello you")), 1, id="stream"),
        pytest.param(lambda model: model.batch(["a", "b c", "d"]), 3, id="batch"),
        pytest.param(
            lambda model: model.generate([[HumanMessage("a")], [HumanMessage("b c")]]),
            2,
            id="generate",
        ),
        pytest.param(
            lambda model: (RunnableLambda(lambda text: text) | model).invoke("Hello"),
            1,
            id="chain",
        ),
        pytest.param(
            lambda model: RunnableParallel(a=model, b=model).invoke("Hello"),
            2,
            id="parallel",
        ),
        pytest.param(
            lambda model: model.with_fallbacks([model]).invoke("Hello"),
            1,
            id="fallbacks",
        ),
    ],
)
def test_langchain_over_openai(
    use: Use,
    calls: int,
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    use(model)
    check(events, provider, calls)


async def _astream(model: Any) -> None:  # noqa: ANN401  # see the fixture
    async for _ in model.astream("Hello you"):
        pass


@pytest.mark.parametrize(
    ("use", "calls"),
    [
        pytest.param(lambda model: model.ainvoke("Hello you"), 1, id="ainvoke"),
        pytest.param(_astream, 1, id="astream"),
        pytest.param(lambda model: model.abatch(["a", "b c", "d"]), 3, id="abatch"),
        pytest.param(
            lambda model: model.agenerate([[HumanMessage("a")], [HumanMessage("b c")]]),
            2,
            id="agenerate",
        ),
        pytest.param(
            lambda model: RunnableParallel(a=model, b=model).ainvoke("Hello"),
            2,
            id="parallel",
        ),
    ],
)
def test_langchain_over_openai_asynchronously(
    use: AsyncUse,
    calls: int,
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    async def main() -> None:
        await asyncio.wait_for(use(model), TIMEOUT_SECONDS)

    asyncio.run(main())
    check(events, provider, calls)


def test_two_streams_that_take_turns(
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    first, second = model.stream("a"), model.stream("b c")
    for _ in zip(first, second, strict=True):
        pass
    check(events, provider, 2)


def test_calls_beside_a_stream_are_calls_of_their_own(
    model: Any,  # noqa: ANN401  # see the fixture
    client: openai.OpenAI,
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    """Complaint 33: the owner owns what happens within it, and nothing else."""
    stream = model.stream("Hello you")
    next(stream)
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    list(stream)
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    check(events, provider, 3)
    assert all("parent_span_id" not in event.metadata for event in events)


def test_a_call_that_fails_is_one_that_failed(
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    failing = model.model_copy(update={"model_name": "fault-500"})
    for ask in (failing.invoke, lambda text: list(failing.stream(text))):
        with pytest.raises(openai.InternalServerError, match="had an error"):
            ask("Hello")
    with pytest.raises(openai.InternalServerError, match="had an error"):
        asyncio.run(failing.ainvoke("Hello"))
    assert outcomes(events) == ["exception error error"] * 3
    check(events, provider, 3)


def test_what_a_failed_layer_has_used_is_stated(
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    bus: Bus,
    events: CapturedEvents,
) -> None:
    """The SDK's call is good and paid for; what is done with it fails."""

    def ask_and_fail() -> None:
        client = openai.OpenAI(base_url=provider.base_url, api_key="test")
        with client:
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        msg = "no good"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="no good"):
        Scripted(before=ask_and_fail).invoke("Hello")
    assert outcomes(events) == ["exception error error"]
    check(events, provider, 1)
    # An instrumented SDK knows whom it asks.
    assert events[-1].metadata["provider"] == "openai"


def test_a_batch_that_fails_in_the_middle_loses_nothing(
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    provider.script(Reply(), "fault-500")
    with pytest.raises(openai.InternalServerError, match="had an error"):
        model.generate([[HumanMessage(each)] for each in ("a", "b", "c")])
    check(events, provider, 3)
    assert sorted(outcomes(events)) == [
        "exception error error",
        "stop cancelled",
        "stop success",
    ]


def test_a_stream_left_early_is_cancelled_once(
    model: Any,  # noqa: ANN401  # see the fixture
    events: CapturedEvents,
) -> None:
    stream = model.stream("Hello you")
    next(stream)
    stream.close()
    assert outcomes(events) == ["stop cancelled"]
    assert events[-1].metadata["usage_complete"] is False


@pytest.mark.parametrize("by_hand", [False, True], ids=["instrument", "callbacks"])
def test_a_cancelled_call_owns_nothing_after(
    by_hand: bool,
    provider: FakeProvider,
    model: Any,  # noqa: ANN401  # see the fixture
    bus: Bus,
    events: CapturedEvents,
) -> None:
    """Complaint 33: what the same task asks next must not vanish into that call.

    So it is with `asyncio.timeout`. LangChain tells nobody of that end.
    """
    slow = model.model_copy(update={"model_name": "fault-slow"})
    config = {"callbacks": [LLMEventsCallbackHandler(bus=bus)]} if by_hand else None
    if by_hand:
        llmevents.uninstrument("langchain")

    async def cancel(task: asyncio.Task[object] | None) -> None:
        await asyncio.to_thread(provider.wait_for, lambda calls: len(calls) == 1)
        assert task is not None
        task.cancel()

    async def main() -> None:
        cancelling = asyncio.create_task(cancel(asyncio.current_task()))
        with pytest.raises(asyncio.CancelledError):
            await slow.ainvoke("Hello", config=config)
        await cancelling
        async with openai.AsyncOpenAI(
            base_url=provider.base_url, api_key="test"
        ) as client:
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    asyncio.run(main())
    assert outcomes(events) == ["exception cancelled cancelled", "stop success"]
    assert events[-1].measurements["input_tokens"] == 2
    assert "parent_span_id" not in events[-1].metadata


def test_what_is_under_way_in_a_failed_layer_is_stated(
    provider: FakeProvider, bus: Bus, events: CapturedEvents
) -> None:
    """It has read a part of a stream when it fails; whoever holds the stream may be."""
    client = openai.OpenAI(base_url=provider.base_url, api_key="test")
    held = []

    def ask_and_fail() -> None:
        stream = client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
        )
        held.append(stream)
        for part in stream:
            if part.usage is not None:
                break
        msg = "no good"
        raise ValueError(msg)

    with client:
        with pytest.raises(ValueError, match="no good"):
            Scripted(before=ask_and_fail).invoke("Hello")
        check(events, provider, 1)
        assert outcomes(events) == ["exception error error"]
        assert events[-1].metadata["usage_complete"] is False
        held.pop().close()


def test_a_handler_made_by_hand_owns_as_well(
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
) -> None:
    bus = Bus(strict=True)
    llmevents.instrument("openai", bus=bus)
    handler = LLMEventsCallbackHandler(bus=bus)
    config = {"callbacks": [handler]}
    with capture("llm.chat.*", bus=bus, scope="process") as events:
        model.invoke("Hello you", config=config)
        list(model.stream("Hello you", config=config))
        model.generate(
            [[HumanMessage("a")], [HumanMessage("b c")]], callbacks=[handler]
        )
        asyncio.run(model.ainvoke("Hello", config=config))
    llmevents.uninstrument("openai")
    check(events, provider, 5)
    assert (
        sum(each["input_tokens"] for each in handler.usage_metadata.values())
        == provider.totals().input_tokens
    )


def test_a_gateway_over_a_client(
    client: openai.OpenAI, provider: FakeProvider, bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(provider="gateway", bus=bus) as call:
        call.record(client.chat.completions.create(model="gpt-4o", messages=MESSAGES))
    with llm.chat(provider="gateway", bus=bus):
        list(
            client.chat.completions.create(
                model="gpt-4o",
                messages=MESSAGES,
                stream=True,
                stream_options=WITH_USAGE,
            )
        )
    check(events, provider, 2)


def test_a_gateway_over_langchain_over_a_client(
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    bus: Bus,
    events: CapturedEvents,
) -> None:
    with llm.chat(provider="gateway", bus=bus):
        model.batch(["a", "b c"])
        list(model.stream("d"))
    check(events, provider, 1)
    assert events[0].metadata["provider"] == "gateway"


def test_an_agent_over_chats_carries_no_tokens(
    model: Any,  # noqa: ANN401  # see the fixture
    provider: FakeProvider,
    bus: Bus,
    events: CapturedEvents,
) -> None:
    """Complaint 32."""

    @tool
    def ask(text: str) -> str:
        """Ask a model."""
        return str(model.invoke(text).content)

    with llm.agent("outer", bus=bus):
        agent = RunnableLambda(lambda text: ask.invoke({"text": text}))
        agent.with_config(metadata={"lc_agent_name": "inner"}).invoke("Hello you")
        model.invoke("Hello")
    check(events, provider, 2)
    for stop in events.named("llm.agent.stop"):
        assert not {key for key in stop.measurements if key.endswith("_tokens")}


def _usage(event: str) -> str:
    return (
        f'"type":"{event}","usage":{{"input_tokens":9,"cache_read_input_tokens":4,'
        f'"output_tokens":6}}'
    )


PLAIN = (
    '{"id":"msg_1","role":"assistant","model":"claude-x-1","stop_reason":"end_turn",'
    f'"content":[{{"type":"text","text":"Hello"}}],{_usage("message")}}}'
)
"""A response of Anthropic's Messages API, as anthropic 2.12's types have it."""

STREAMED = "".join(
    f"event: {event}\ndata: {data}\n\n"
    for event, data in (
        (
            "message_start",
            (
                '{"type":"message_start","message":{"id":"msg_1","role":"assistant",'
                '"model":"claude-x-1","stop_reason":null,"content":[],'
                f"{_usage('message')}}}}}"
            ),
        ),
        (
            "content_block_start",
            (
                '{"type":"content_block_start","index":0,'
                '"content_block":{"type":"text","text":""}}'
            ),
        ),
        (
            "content_block_delta",
            (
                '{"type":"content_block_delta","index":0,'
                '"delta":{"type":"text_delta","text":"Hello"}}'
            ),
        ),
        ("content_block_stop", '{"type":"content_block_stop","index":0}'),
        (
            "message_delta",
            f'{{"delta":{{"stop_reason":"end_turn"}},{_usage("message_delta")}}}',
        ),
        ("message_stop", '{"type":"message_stop"}'),
    )
)


def _exchange(*, streamed: bool) -> Exchange:
    return Exchange(
        id="anthropic",
        source="written by hand",
        model="claude-x",
        query="",
        provider="anthropic",
        operation="chat",
        path="/v1/messages",
        status=200,
        content_type="text/event-stream" if streamed else "application/json",
        stream=streamed,
        request={},
        response=(STREAMED if streamed else PLAIN).encode(),
        truth={"input": 13, "output": 6, "cache_read": 4},
    )


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_langchain_over_anthropic(
    streamed: bool,
    is_async: bool,
    provider: FakeProvider,
    bus: Bus,
    events: CapturedEvents,
) -> None:
    langchain_anthropic = pytest.importorskip(
        "langchain_anthropic", reason="langchain-anthropic is not installed"
    )
    exchange = _exchange(streamed=streamed)
    model = langchain_anthropic.ChatAnthropic(
        base_url=provider.base_url,
        api_key="test",
        model="claude-x",
        max_retries=0,
        default_headers={"Connection": "close"},
    )
    provider.script(exchange)
    if is_async:
        asyncio.run(_astream(model) if streamed else model.ainvoke("Hello"))
    elif streamed:
        list(model.stream("Hello"))
    else:
        model.invoke("Hello")
    assert outcomes(events) == ["stop success"]
    assert len(events.named("llm.chat.start")) == 1
    measured = events[-1].measurements
    truth = exchange.truth
    assert truth is not None
    assert measured["input_tokens"] == truth["input"]
    assert measured["output_tokens"] == truth["output"]
    assert events[-1].metadata["provider"] == "anthropic"
