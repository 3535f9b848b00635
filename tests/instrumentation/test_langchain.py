"""LangChain's runs as events, whatever the model, without an SDK."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, capture
from tests.outcomes import JOIN_TIMEOUT, in_threads, outcomes


pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManager, UsageMetadataCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool

from llmevents._errors import BudgetExceededError
from llmevents.instrumentation import _langchain_runs
from llmevents.instrumentation._langchain import _is_supported
from llmevents.instrumentation._langchain_models import Models
from llmevents.instrumentation._langchain_read import usage_metadata
from llmevents.instrumentation._langchain_runs import Current, around, runs
from llmevents.instrumentation.langchain import LLMEventsCallbackHandler
from llmevents.llm import Usage
from tests.instrumentation.langchain_models import (
    STATED,
    Scripted,
    Streaming,
    answer,
    chunk,
)


if TYPE_CHECKING:
    from llmevents.testing import CapturedEvent

CALLS = (
    "llm.chat.*",
    "llm.completion.*",
    "llm.tool.*",
    "llm.agent.*",
    "llm.provider.*",
)


@pytest.fixture(params=["instrument", "callbacks"])
def how(request: pytest.FixtureRequest) -> str:
    """Whether every run is seen, or those that are given a handler."""
    return str(request.param)


@pytest.fixture
def bus() -> Bus:
    return Bus(strict=True)


@pytest.fixture
def config(how: str, bus: Bus) -> Iterator[RunnableConfig]:
    """What runs are given so that they are seen."""
    if how == "instrument":
        llmevents.instrument("langchain", bus=bus)
        yield {}
        llmevents.uninstrument("langchain")
    else:
        yield {"callbacks": [LLMEventsCallbackHandler(bus=bus)]}
    assert len(runs) == 0, "a run is remembered for ever"


@pytest.fixture
def instrumented(bus: Bus) -> Iterator[None]:
    llmevents.instrument("langchain", bus=bus)
    yield
    llmevents.uninstrument("langchain")


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    with capture(*CALLS, bus=bus, scope="process") as captured:
        yield captured


def tokens(event: CapturedEvent) -> tuple[object, object]:
    measured = event.measurements
    return measured.get("input_tokens"), measured.get("output_tokens")


def test_a_chat_is_one_call(config: RunnableConfig, events: CapturedEvents) -> None:
    model = Scripted(
        answers=[
            [
                answer(
                    response_metadata={
                        "model_name": "tiny-1-2026",
                        "id": "r-1",
                        "finish_reason": "stop",
                    }
                )
            ]
        ]
    )
    assert model.invoke("Hello", config=config).content == "Hello"
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]
    start, stop = events
    expected = {
        "operation": "chat",
        "provider": "mistral_ai",
        "model": "tiny-1",
        "temperature": 0.5,
    }
    assert {key: start.metadata[key] for key in expected} == expected
    assert tokens(stop) == (10, 5)
    said = {
        "response_model": "tiny-1-2026",
        "response_id": "r-1",
        "finish_reasons": ["stop"],
        "status": "success",
        "usage_complete": True,
    }
    assert {key: stop.metadata[key] for key in said} == said


def test_an_id_that_langchain_made_up_is_no_response_id(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    Scripted(answers=[[answer()]]).invoke("Hello", config=config)
    assert "response_id" not in events[-1].metadata


@pytest.mark.parametrize("key", ["model_name", "model", "model_id"])
def test_usage_without_a_model_name_is_not_lost(
    key: str, config: RunnableConfig, events: CapturedEvents
) -> None:
    """Complaint 7: LangChain's own handler drops it without a warning."""
    model = Scripted(answers=[[answer(response_metadata={key: "m-2"})]])
    model.invoke("Hello", config=config)
    assert tokens(events[-1]) == (10, 5)
    assert events[-1].metadata["response_model"] == "m-2"


def test_an_async_chat_is_one_call_and_leaves_nothing_current(
    config: RunnableConfig, bus: Bus, events: CapturedEvents
) -> None:
    """LangChain tells of the end in a task of its own: complaint 37."""

    async def main() -> None:
        model = Scripted(answers=[[answer()]])
        for _ in range(3):
            await model.ainvoke("Hello", config=config)
            with llmevents.span("myapp.after", bus=Bus()):
                pass
        with llm.chat(bus=bus):
            pass

    asyncio.run(main())
    stops = events.named("llm.chat.stop")
    assert [tokens(stop) for stop in stops] == [(10, 5)] * 3 + [(None, None)]
    assert all("parent_span_id" not in stop.metadata for stop in stops)


def test_candidates_of_one_response_state_its_usage_once(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    """Integrations put the response's usage into each candidate."""
    model = Scripted(
        answers=[
            [
                answer("a", response_metadata={"finish_reason": "stop"}),
                answer("b", response_metadata={"finish_reason": "length"}),
            ]
        ]
    )
    model.invoke("Hello", config=config)
    assert tokens(events[-1]) == (10, 5)
    assert events[-1].metadata["finish_reasons"] == ["stop", "length"]


def test_candidates_that_were_asked_for_one_by_one_add_up(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    """Langchain's own handler reads the first alone."""
    other = {"input_tokens": 10, "output_tokens": 7, "total_tokens": 17}
    model = Scripted(answers=[[answer("a"), answer("b", usage_metadata=other)]])
    model.invoke("Hello", config=config)
    assert tokens(events[-1]) == (20, 12)


def test_usage_that_only_the_response_states_is_read(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    model = Scripted(
        answers=[[AIMessage("Hello")]],
        llm_output={"token_usage": usage, "model_name": "m-3"},
    )
    model.invoke("Hello", config=config)
    assert tokens(events[-1]) == (3, 4)
    assert events[-1].metadata["response_model"] == "m-3"


def test_every_run_of_a_batch_is_a_call(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    model = Scripted(answers=[[answer()]])
    model.generate(
        [[HumanMessage("a")], [HumanMessage("b")]], callbacks=config.get("callbacks")
    )
    model.batch(["c", "d"], config=config)
    asyncio.run(
        model.agenerate(
            [[HumanMessage("e")], [HumanMessage("f")]],
            callbacks=config.get("callbacks"),
        )
    )
    assert [tokens(each) for each in events.named("llm.chat.stop")] == [(10, 5)] * 6


def test_a_batch_that_fails_in_the_middle_ends_all_its_runs(
    instrumented: None, events: CapturedEvents
) -> None:
    """LangChain tells of the failed one alone; the first has been paid for."""
    model = Scripted(answers=[[answer()]])
    with pytest.raises(ValueError, match="asked to fail"):
        model.generate(
            [[HumanMessage("a")], [HumanMessage("fail")], [HumanMessage("c")]]
        )
    assert sorted(outcomes(events)) == [
        "exception error error",
        "stop cancelled",
        "stop success",
    ]
    assert sum(event.measurements.get("input_tokens", 0) for event in events) == 10
    assert len(runs) == 0


def test_an_error_ends_the_call_with_it(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    with pytest.raises(ValueError, match="asked to fail"):
        Scripted().invoke("fail", config=config)
    assert outcomes(events) == ["exception error error"]
    assert events[-1].metadata["error_type"] == "ValueError"


def test_a_cancelled_task_ends_its_call(
    instrumented: None, events: CapturedEvents
) -> None:
    """LangChain tells nobody of that end."""

    class Waiting(Scripted):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # LangChain's
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()

    async def main() -> None:
        task = asyncio.create_task(Waiting().ainvoke("Hello"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert outcomes(events) == ["exception cancelled cancelled"]
    assert len(runs) == 0


def test_a_stream_counts_its_chunks_and_adds_up_its_parts(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    """Parts that state each what they add: input once, output in each."""
    model = Streaming(
        chunks=[
            chunk("a", usage_metadata=used(10, 1)),
            chunk("b", usage_metadata=used(0, 2)),
            chunk("c", usage_metadata=used(0, 3)),
        ]
    )
    assert len(list(model.stream("Hello", config=config))) >= 3
    stop = events.named("llm.chat.stop")[0]
    assert tokens(stop) == (10, 6)
    assert stop.measurements["chunks"] == 3
    assert stop.measurements["time_to_first_chunk"] > 0
    assert stop.metadata["stream"] is True


def used(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def test_cumulative_chunks_are_not_added_up(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    """Complaint 6: LangChain's sum says 30 input tokens here."""
    model = Streaming(
        chunks=[
            chunk("a", usage_metadata=used(10, 1)),
            chunk("b", usage_metadata=used(10, 3)),
            chunk("c", usage_metadata=used(10, 6)),
        ]
    )
    handler = LLMEventsCallbackHandler(bus=Bus())
    list(model.stream("Hello", config={**config}))
    list(model.stream("Hello", config={"callbacks": [handler]}))
    assert tokens(events.named("llm.chat.stop")[0]) == (10, 6)
    assert handler.usage_metadata["tiny-1"] == used(10, 6)


def test_an_async_stream_is_one_call(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    """Complaint 4: no tokens for ``astream``."""
    model = Streaming(chunks=[chunk("a"), chunk("b", usage_metadata=STATED)])

    async def main() -> None:
        async for _ in model.astream("Hello", config=config):
            pass

    asyncio.run(main())
    assert [tokens(each) for each in events.named("llm.chat.stop")] == [(10, 5)]


def test_a_stream_that_is_left_early_is_cancelled_with_what_it_had(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    model = Streaming(chunks=[chunk("a", usage_metadata=used(10, 1)), chunk("b")])
    stream = model.stream("Hello", config=config)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert outcomes(events) == ["stop cancelled"]
    assert tokens(events[-1]) == (10, 1)
    assert events[-1].metadata["usage_complete"] is False


def test_a_stream_that_is_dropped_is_cancelled(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    stream = Streaming(chunks=[chunk("a"), chunk("b")]).stream("Hello", config=config)
    next(stream)
    del stream
    gc.collect()
    assert outcomes(events) == ["stop cancelled"]


def test_an_async_stream_that_is_left_early_is_cancelled(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    model = Streaming(chunks=[chunk("a"), chunk("b")])

    async def main() -> None:
        stream = model.astream("Hello", config=config)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(main())
    assert outcomes(events) == ["stop cancelled"]


def test_a_stream_that_fails_states_what_it_had(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    model = Streaming(
        chunks=[chunk("a", usage_metadata=used(10, 1))], failure=TimeoutError("late")
    )
    with pytest.raises(TimeoutError, match="late"):
        list(model.stream("Hello", config=config))
    assert outcomes(events) == ["exception timeout error"]
    assert tokens(events[-1]) == (10, 1)
    assert events[-1].metadata["usage_complete"] is False


def test_what_the_consumer_of_a_stream_does_is_none_of_the_calls(
    config: RunnableConfig, bus: Bus, events: CapturedEvents
) -> None:
    """Complaint 33: calls beside a chain must not become part of it, or vanish."""
    model = Streaming(chunks=[chunk("a"), chunk("b"), chunk("c")])
    for _ in model.stream("Hello", config=config):
        with llm.chat(bus=bus, model="other") as call:
            call.usage(input_tokens=1)
    stops = events.named("llm.chat.stop")
    others = [stop for stop in stops if stop.metadata["model"] == "other"]
    assert [tokens(stop)[0] for stop in others] == [1] * (len(stops) - 1)
    assert all("parent_span_id" not in stop.metadata for stop in stops)


def test_answers_from_langchains_cache_are_not_billed(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    """Complaint 22."""
    model = Scripted(answers=[[answer()]], cache=InMemoryCache())
    for _ in range(2):
        model.invoke("Hello", config=config)
    asyncio.run(model.ainvoke("Hello", config=config))
    stops = events.named("llm.chat.stop")
    assert [tokens(stop) for stop in stops] == [(10, 5), (None, None), (None, None)]
    assert [stop.metadata.get("cached") for stop in stops] == [None, True, True]


def test_a_text_model_is_a_completion(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    model = FakeListLLM(responses=["one", "two"])
    model.generate(["a", "b"], callbacks=config.get("callbacks"))
    asyncio.run(model.ainvoke("c", config=config))
    list(model.stream("d", config=config))
    stops = events.named("llm.completion.stop")
    assert len(stops) == 4
    assert {stop.metadata["operation"] for stop in stops} == {"text_completion"}


def test_usage_of_a_batch_in_one_request_counts_once(
    bus: Bus, events: CapturedEvents
) -> None:
    """LangChain attributes it to the first prompt (``LLMResult.flatten``)."""
    result = LLMResult(
        generations=[[Generation(text="a")], [Generation(text="b")]],
        llm_output={"token_usage": {"prompt_tokens": 6, "completion_tokens": 2}},
    )
    handler = LLMEventsCallbackHandler(bus=bus)
    for each in result.flatten():
        run_id = uuid4()
        handler.on_llm_start({}, ["p"], run_id=run_id)
        handler.on_llm_end(each, run_id=run_id)
    assert [tokens(each) for each in events.named("llm.completion.stop")] == [
        (6, 2),
        (None, None),
    ]


def test_the_same_handler_twice_counts_once(bus: Bus, events: CapturedEvents) -> None:
    """Complaint 30: given to the chain and to the call."""
    handler = LLMEventsCallbackHandler(bus=bus)
    model = Scripted(answers=[[answer()]], callbacks=[handler])
    chain: RunnableLambda[str, object] = RunnableLambda(
        lambda text: model.invoke(text, config={"callbacks": [handler, handler]})
    )
    chain.invoke("Hello", config={"callbacks": [handler]})
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]
    assert handler.usage_metadata == {"tiny-1": STATED}


def test_two_handlers_of_one_bus_count_once(
    instrumented: None, bus: Bus, events: CapturedEvents
) -> None:
    """Each has the totals of what it has heard of."""
    first, second = (LLMEventsCallbackHandler(bus=bus) for _ in range(2))
    Scripted(answers=[[answer()]]).invoke(
        "Hello", config={"callbacks": [first, second]}
    )
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]
    assert first.usage_metadata == second.usage_metadata == {"tiny-1": STATED}


def test_handlers_of_two_buses_each_emit(bus: Bus, events: CapturedEvents) -> None:
    other = Bus(strict=True)
    handlers = [LLMEventsCallbackHandler(bus=each) for each in (bus, other)]
    with capture("llm.chat.stop", bus=other) as elsewhere:
        Scripted(answers=[[answer()]]).invoke(
            "Hello", config={"callbacks": [*handlers]}
        )
    assert [tokens(each) for each in (events[-1], elsewhere[-1])] == [(10, 5)] * 2


def test_totals_are_those_of_langchains_own_handler_and_nothing_is_lost() -> None:
    theirs, ours = UsageMetadataCallbackHandler(), LLMEventsCallbackHandler(bus=Bus())
    details = {
        **STATED,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 2},
    }
    named = {"model_name": "m-1"}
    model = Scripted(
        answers=[
            [answer(usage_metadata=details, response_metadata=named)],
            [answer(response_metadata=named)],
        ]
    )
    for _ in range(2):
        model.invoke("Hello", config={"callbacks": [theirs, ours]})
    assert ours.usage_metadata == dict(theirs.usage_metadata)
    Scripted(answers=[[answer()]]).invoke("Hello", config={"callbacks": [theirs, ours]})
    Scripted(answers=[[AIMessage("?")]]).invoke("Hello", config={"callbacks": [ours]})
    assert list(theirs.usage_metadata) == ["m-1"]
    assert ours.usage_metadata["tiny-1"] == STATED
    assert ours.get_usage_summary() == {
        "calls": 4,
        "calls_without_usage": 1,
        "input_tokens": 30,
        "output_tokens": 15,
        "total_tokens": 45,
        "models": ours.usage_metadata,
    }


def test_totals_need_no_listener(bus: Bus) -> None:
    handler = LLMEventsCallbackHandler(bus=bus)
    model = Scripted(answers=[[answer()]])
    in_threads(
        *(
            lambda: model.invoke("Hello", config={"callbacks": [handler]})
            for _ in range(4)
        )
    )
    assert handler.usage_metadata["tiny-1"]["input_tokens"] == 40


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    if a < 0:
        msg = "negative"
        raise ValueError(msg)
    return a + b


def test_a_tool_is_a_span_without_tokens(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    add.invoke({"a": 1, "b": 2}, config=config)
    asyncio.run(add.ainvoke({"a": 1, "b": 2}, config=config))
    with pytest.raises(ValueError, match="negative"):
        add.invoke({"a": -1, "b": 2}, config=config)
    assert outcomes(events) == ["stop", "stop", "exception error"]
    assert events[0].metadata["tool_name"] == "add"
    assert events[0].metadata["operation"] == "execute_tool"


def test_calls_in_a_tool_are_its_children_and_state_their_own_usage(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    """Complaint 32: parent and child both carry tokens."""
    model = Scripted(answers=[[answer()]])

    @tool
    def ask(text: str) -> str:
        """Ask a model."""
        return str(model.invoke(text, config=config).content)

    ask.invoke({"text": "Hello"}, config=config)
    assert events.names() == [
        "llm.tool.start",
        "llm.chat.start",
        "llm.chat.stop",
        "llm.tool.stop",
    ]
    assert events[1].metadata["parent_span_id"] == events[0].metadata["span_id"]
    assert tokens(events[2]) == (10, 5)
    assert "input_tokens" not in events[3].measurements


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:  # noqa: ANN401  # LangChain's
        if query == "fail":
            msg = "no shelf"
            raise LookupError(msg)
        return [Document(page_content=query)]


def test_a_retriever_is_a_tool_that_finds_documents(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    Shelf().invoke("books", config=config)
    with pytest.raises(LookupError, match="no shelf"):
        asyncio.run(Shelf().ainvoke("fail", config=config))
    assert outcomes(events) == ["stop", "exception error"]
    known = ("operation", "tool_type", "tool_name")
    assert [events[0].metadata[key] for key in known] == [
        "retrieval",
        "datastore",
        "Shelf",
    ]


def test_an_agent_is_a_span_and_the_chains_in_it_are_not(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    model = Scripted(answers=[[answer()]])
    steps = RunnableLambda(lambda text: text) | model
    agent = steps.with_config(metadata={"lc_agent_name": "clerk"})
    agent.invoke("Hello", config=config)
    assert events.names() == [
        "llm.agent.start",
        "llm.chat.start",
        "llm.chat.stop",
        "llm.agent.stop",
    ]
    assert events[0].metadata["agent_name"] == "clerk"
    assert events[1].metadata["parent_span_id"] == events[0].metadata["span_id"]
    assert "input_tokens" not in events[3].measurements


def test_an_agent_that_fails_ends_with_the_error(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    failing = (RunnableLambda(lambda text: text) | Scripted()).with_config(
        run_name="AgentExecutor"
    )
    with pytest.raises(ValueError, match="asked to fail"):
        failing.invoke("fail", config=config)
    assert outcomes(events) == ["exception error error", "exception error"]


def test_two_handlers_tell_of_a_tool_and_an_agent_once(
    bus: Bus, events: CapturedEvents
) -> None:
    both: RunnableConfig = {
        "callbacks": [LLMEventsCallbackHandler(bus=bus) for _ in range(2)]
    }
    agent = RunnableLambda(lambda text: add.invoke({"a": 1, "b": 2}))
    agent.with_config(metadata={"lc_agent_name": "clerk"}).invoke("Hello", config=both)
    assert sorted(events.names()) == [
        "llm.agent.start",
        "llm.agent.stop",
        "llm.tool.start",
        "llm.tool.stop",
    ]


def test_a_tool_that_nobody_listens_to_is_no_parent() -> None:
    loose = Bus()
    config: RunnableConfig = {"callbacks": [LLMEventsCallbackHandler(bus=loose)]}
    model = Scripted(answers=[[answer()]])

    @tool
    def ask(text: str) -> str:
        """Ask a model."""
        return str(model.invoke(text).content)

    agent = RunnableLambda(lambda text: ask.invoke({"text": text}))
    with capture("llm.chat.*", "llm.agent.*", bus=loose) as events:
        agent.with_config(metadata={"lc_agent_name": "clerk"}).invoke(
            "Hello", config=config
        )
    first, second = events.named("llm.*.start")
    assert second.metadata["parent_span_id"] == first.metadata["span_id"]
    with capture("llm.chat.*", bus=loose) as events:
        ask.invoke({"text": "Hello"}, config=config)
    assert "parent_span_id" not in events[0].metadata


def test_an_agent_within_an_agent_is_told_apart_from_its_own_steps(
    bus: Bus, events: CapturedEvents
) -> None:
    """Every chain in an agent has the agent's name in its metadata."""
    handler = LLMEventsCallbackHandler(bus=bus)
    ids = [uuid4() for _ in range(3)]
    for run_id, parent, name in zip(
        ids, [None, *ids], ["boss", "boss", "clerk"], strict=False
    ):
        handler.on_chain_start(
            {},
            {},
            run_id=run_id,
            parent_run_id=parent,
            metadata={"lc_agent_name": name},
        )
    for run_id in reversed(ids):
        handler.on_chain_end({}, run_id=run_id)
    boss, clerk = events.named("llm.agent.start")
    assert [each.metadata["agent_name"] for each in (boss, clerk)] == ["boss", "clerk"]
    assert clerk.metadata["parent_span_id"] == boss.metadata["span_id"]


def test_features_and_parameters_of_the_request_are_stated(
    bus: Bus, events: CapturedEvents
) -> None:
    handler, run_id = LLMEventsCallbackHandler(bus=bus), uuid4()
    asked = {
        "model": "m-1",
        "tools": [{"name": "add"}],
        "response_format": {"type": "json_object"},
        "top_p": 0.5,
        "seed": True,
    }
    handler.on_chat_model_start({}, [], run_id=run_id, invocation_params=asked)
    handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    known = {key: events[0].metadata.get(key) for key in (*asked, "features")}
    assert known == {
        "model": "m-1",
        "features": ["tools", "structured_output"],
        "top_p": 0.5,
        "tools": None,
        "response_format": None,
        "seed": None,
    }


def test_odd_results_cost_the_call_nothing(bus: Bus, events: CapturedEvents) -> None:
    handler = LLMEventsCallbackHandler(bus=bus)
    for odd in (None, [None], [[None]], [[SimpleNamespace(message=None)]]):
        run_id = uuid4()
        handler.on_chat_model_start({}, [], run_id=run_id)
        odd_chunk = SimpleNamespace(message=SimpleNamespace(usage_metadata={"x": 1}))
        handler.on_llm_new_token("x", chunk=odd_chunk, run_id=run_id)
        result = SimpleNamespace(generations=odd, llm_output=odd)
        handler.on_llm_end(result, run_id=run_id)
    assert outcomes(events) == ["stop success"] * 4


def test_a_total_is_stated_where_the_model_states_none() -> None:
    assert usage_metadata(Usage(input_tokens=3)) == {
        "input_tokens": 3,
        "output_tokens": 0,
        "total_tokens": 3,
    }


def test_what_is_current_becomes_so_once() -> None:
    call = llm.Call(Bus(), "llm.chat", scoped=False)
    first, second = Current(call), Current(call)
    assert first.enter()
    assert second.enter()
    assert not first.enter()
    first.leave()
    assert around() is second
    second.leave()
    assert around() is None


def test_a_call_within_a_model_may_not_know_whom_it_asks(
    config: RunnableConfig, bus: Bus, events: CapturedEvents
) -> None:
    def ask() -> None:
        with llm.chat(bus=bus) as call:
            call.usage(input_tokens=7)

    Scripted(answers=[[answer()]], before=ask).invoke("Hello", config=config)
    stop = events.named("llm.chat.stop")[0]
    assert tokens(stop) == (7, None)
    assert stop.metadata["provider"] == "mistral_ai"


def test_runs_that_nobody_hears_of_are_as_without_us(bus: Bus) -> None:
    """The models are wrapped, for the handler that one run is given."""
    cached = Scripted(answers=[[answer()]], cache=InMemoryCache())
    streaming = Streaming(chunks=[chunk("a"), chunk("b")])
    LLMEventsCallbackHandler(bus=bus)

    async def main() -> None:
        assert (await cached.ainvoke("Hello")).content == "Hello"
        assert (
            "".join([str(each.content) async for each in streaming.astream("")]) == "ab"
        )

    with capture(bus=bus, scope="process") as everything:
        asyncio.run(main())
        assert cached.invoke("Hello").content == "Hello"
        assert "".join(str(each.content) for each in streaming.stream("")) == "ab"
    assert everything == []


def test_without_wrapt_a_handler_does_without_the_wrappers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No SDK is instrumented then either."""
    monkeypatch.setitem(sys.modules, "wrapt", None)
    watched = Models()
    watched.watch()
    watched.release()


def test_models_get_their_methods_back() -> None:
    original = BaseChatModel.__dict__["generate"]
    watched = Models()
    watched.acquire()
    watched.acquire()
    watched.release()
    assert BaseChatModel.__dict__["generate"] is not original
    watched.release()
    assert BaseChatModel.__dict__["generate"] is original


def test_a_plain_chain_emits_nothing_itself(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    (RunnableLambda(lambda text: text) | Scripted(answers=[[answer()]])).invoke(
        "Hello", config=config
    )
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]


def test_a_span_opened_within_a_chain_is_nearer_than_the_chain(
    config: RunnableConfig, bus: Bus
) -> None:
    model = Scripted(answers=[[answer()]])

    def work(text: str) -> object:
        with llmevents.span("myapp.step", bus=loose):
            return model.invoke(text, config=inner)

    loose = Bus()
    inner: RunnableConfig = {"callbacks": [LLMEventsCallbackHandler(bus=loose)]}
    agent = RunnableLambda(work).with_config(metadata={"lc_agent_name": "clerk"})
    with capture(bus=loose) as events:
        agent.invoke("Hello", config=inner)
    step = events.named("myapp.step.start")[0]
    chat = events.named("llm.chat.start")[0]
    assert chat.metadata["parent_span_id"] == step.metadata["span_id"]


def test_retries_are_points(bus: Bus, events: CapturedEvents) -> None:
    handler, run_id = LLMEventsCallbackHandler(bus=bus), uuid4()
    handler.on_retry(SimpleNamespace(attempt_number=1), run_id=run_id)
    handler.on_chat_model_start({}, [], run_id=run_id, metadata={"ls_provider": "xai"})
    handler.on_retry(SimpleNamespace(attempt_number=1), run_id=run_id)
    handler.on_retry(SimpleNamespace(), run_id=run_id)
    handler.on_llm_error(RuntimeError("out"), run_id=run_id)
    first, second = events.named("llm.provider.retry")
    assert first.measurements == {"attempt": 2}
    assert first.metadata["provider"] == "x_ai"
    assert second.measurements == {}


def test_start_and_end_may_come_from_anywhere(bus: Bus, events: CapturedEvents) -> None:
    """Complaint 37: in LangGraph they come in different tasks and contexts."""
    handler, run_id = LLMEventsCallbackHandler(bus=bus), uuid4()
    handler.on_chat_model_start({}, [], run_id=run_id)
    result = LLMResult(generations=[])
    ending = threading.Thread(
        target=handler.on_llm_end, args=(result,), kwargs={"run_id": run_id}
    )
    ending.start()
    ending.join(JOIN_TIMEOUT)
    with llm.chat(bus=bus):
        pass
    assert outcomes(events) == ["stop success", "stop success"]
    assert "parent_span_id" not in events[-1].metadata


def test_ends_of_unknown_runs_are_ignored(bus: Bus, events: CapturedEvents) -> None:
    handler, run_id = LLMEventsCallbackHandler(bus=bus), uuid4()
    handler.on_llm_new_token("x", run_id=run_id)
    handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    handler.on_llm_error(RuntimeError("x"), run_id=run_id)
    handler.on_tool_end("x", run_id=run_id)
    handler.on_chain_end("x", run_id=run_id)
    assert events == []


def test_runs_that_never_end_are_given_up(
    bus: Bus, events: CapturedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complaint 40: a handler that keeps every run runs out of memory."""
    monkeypatch.setattr(runs, "most", 3)
    handler = LLMEventsCallbackHandler(bus=bus)
    first = uuid4()
    handler.on_chat_model_start({}, [], run_id=first)
    handler.on_llm_new_token(
        "x",
        chunk=SimpleNamespace(message=chunk("x", usage_metadata=STATED)),
        run_id=first,
    )
    ids = [uuid4() for _ in range(3)]
    for each in ids:
        handler.on_tool_start({"name": "t"}, "", run_id=each)
    assert len(runs) == 3
    assert outcomes(events) == ["stop cancelled"]
    assert tokens(events.named("llm.chat.stop")[0]) == (10, 5)
    handler.on_chat_model_start({}, [], run_id=uuid4())
    assert outcomes(events)[1:] == ["stop cancelled"]
    for run_id in list(runs._runs):
        handler.on_tool_end("", run_id=run_id)
    assert len(runs) == 0


def test_metadata_that_raises_costs_the_call_nothing(
    bus: Bus, events: CapturedEvents
) -> None:
    class Hostile(dict[str, Any]):
        def get(self, *_: object) -> object:
            raise RuntimeError

    handler, run_id = LLMEventsCallbackHandler(bus=bus), uuid4()
    handler.on_chat_model_start({}, [], run_id=run_id, metadata=Hostile(a=1))
    handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    assert outcomes(events) == ["stop success"]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_the_newer_form_of_streams_is_one_call(
    config: RunnableConfig, events: CapturedEvents
) -> None:
    model = Streaming(chunks=[chunk("a"), chunk("b", usage_metadata=STATED)])
    if not hasattr(model, "_iter_v2_events"):
        pytest.skip("this langchain-core has no stream_events for models")
    for _ in model.stream_events("Hello", config=config, version="v3"):
        pass

    async def main() -> None:
        stream = await model.astream_events("Hello", config=config, version="v3")
        async for _ in stream:
            pass

    asyncio.run(main())
    assert [tokens(each) for each in events.named("llm.chat.stop")] == [(10, 5)] * 2
    assert all(each.metadata["stream"] for each in events.named("llm.chat.stop"))


def test_instrumenting_twice_is_instrumenting_once(bus: Bus) -> None:
    original = CallbackManager.__dict__["configure"]
    for _ in range(2):
        llmevents.instrument("langchain", bus=bus)
    with capture("llm.chat.stop", bus=bus) as events:
        Scripted(answers=[[answer()]]).invoke("Hello")
    llmevents.uninstrument("langchain")
    assert len(events) == 1
    assert CallbackManager.__dict__["configure"] is original
    with capture("llm.chat.stop", bus=bus) as events:
        Scripted(answers=[[answer()]]).invoke("Hello")
    assert len(events) == 0


def test_nobody_is_told_of_runs_that_nobody_listens_to() -> None:
    loose = Bus()
    llmevents.instrument("langchain", bus=loose)
    unheard = CallbackManager.configure()
    with capture("llm.chat.stop", bus=loose):
        heard = CallbackManager.configure()
        again = CallbackManager.configure(heard)
    llmevents.uninstrument("langchain")
    assert unheard.handlers == []
    assert len(heard.handlers) == len(again.handlers) == 1


def test_other_versions_are_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("langchain_core.__version__", "2.0.0")
    with pytest.warns(RuntimeWarning, match="langchain-core 2.0.0 is not instr"):
        llmevents.instrument("langchain", bus=Bus())
    llmevents.uninstrument("langchain")
    with pytest.warns(
        RuntimeWarning, match=r"langchain-core 0\.2\.9 .* 0\.3\.x and 1\.x"
    ):
        assert not _is_supported("0.2.9")
    assert _is_supported("0.3.86")
    assert _is_supported("1.7.2")


def test_a_budget_without_room_is_not_raised_into_langchain(
    bus: Bus, events: CapturedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangChain swallows what callbacks raise; an SDK underneath refuses by itself."""

    def refuse(*_: object, **__: object) -> None:
        raise BudgetExceededError.__new__(BudgetExceededError)

    monkeypatch.setattr(_langchain_runs.RunCall, "begin", refuse)
    handler = LLMEventsCallbackHandler(bus=bus)
    model = Scripted(answers=[[answer()]])
    assert model.invoke("Hello", config={"callbacks": [handler]}).content == "Hello"
    assert events == []
