"""`llm.chat` and `llm.embedding` as blocks and on the four kinds of functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import llmevents
from llmevents import Bus, LLMEventsError, llm
from llmevents.llm import Call, CallScope
from llmevents.llm._operations import OPERATIONS
from llmevents.testing import CapturedEvents, capture
from tests.llm.calls import SPANS
from tests.outcomes import outcomes


RESPONSE: dict[str, Any] = {
    "choices": [{"index": 0, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    "model": "tiny-1",
}
VECTORS: dict[str, Any] = {
    "data": [{"embedding": [0.5, 0.5]}],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}

bus = Bus(strict=True)
"""Decorators are applied when this module is imported, and take this one."""


@pytest.fixture
def events() -> Iterator[CapturedEvents]:
    with capture(*SPANS, bus=bus, scope="process") as captured:
        yield captured


@pytest.mark.parametrize(
    ("make", "prefix", "operation"),
    [
        pytest.param(llm.chat, "llm.chat", "chat", id="chat"),
        pytest.param(llm.embedding, "llm.embedding", "embeddings", id="embedding"),
    ],
)
def test_a_block_is_a_call_with_the_metadata_that_it_is_given(
    make: Callable[..., CallScope], prefix: str, operation: str, events: CapturedEvents
) -> None:
    with make(
        provider="acme",
        model="tiny-1",
        use_case="chat_answer",
        temperature=0.5,
        bus=bus,
    ) as call:
        assert isinstance(call, Call)
        assert call.scoped
        call.annotate(language="en")
    assert events.names() == [f"{prefix}.start", f"{prefix}.stop"]
    start = dict(events[0].metadata)
    assert start.pop("span_id") == call.span_id
    assert start == {
        "operation": operation,
        "provider": "acme",
        "model": "tiny-1",
        "use_case": "chat_answer",
        "temperature": 0.5,
        "scoped": True,
    }
    assert events[1].metadata["language"] == "en"


def test_what_is_not_given_is_absent(events: CapturedEvents) -> None:
    with llm.chat(bus=bus):
        pass
    assert set(events[0].metadata) == {"operation", "scoped", "span_id"}


def test_the_operation_is_not_the_callers_to_change(events: CapturedEvents) -> None:
    with llm.chat(operation="embeddings", bus=bus):
        pass
    assert events[0].metadata["operation"] == "chat"


def test_secrets_are_taken_out_and_library_keys_refused(events: CapturedEvents) -> None:
    before = bus.stats()["refused_values"]
    with llm.chat(model="m", api_key="sk-1234567890abcdef", span_id="mine", bus=bus):
        pass
    assert "sk-1234567890abcdef" not in repr(events)
    assert events[0].metadata["span_id"] != "mine"
    assert bus.stats()["refused_values"] == before + 1


def test_without_a_bus_it_is_the_default_one() -> None:
    with capture("llm.chat.*") as events, llm.chat(model="m"):
        pass
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]


def test_a_scope_is_for_one_block_at_a_time(events: CapturedEvents) -> None:
    scope = llm.chat(bus=bus)
    with scope, pytest.raises(LLMEventsError, match="entered already"), scope:
        pass
    with scope as again:
        again.record(RESPONSE)
    assert outcomes(events) == ["stop success"] * 2


# --- decorated functions --------------------------------------------------------------


@llm.chat(model="tiny-1", bus=bus)
def answer(text: str = "") -> object:
    """Answer."""
    return RESPONSE


@llm.chat(model="tiny-1", bus=bus)
async def answer_later(text: str = "") -> object:
    """Answer, later."""
    await asyncio.sleep(0)
    return RESPONSE


@llm.chat(model="tiny-1", bus=bus)
def stream(text: str = "") -> Iterator[object]:
    """Answer in pieces."""
    yield {"choices": [{"index": 0}]}
    yield RESPONSE


@llm.chat(model="tiny-1", bus=bus)
async def stream_later(text: str = "") -> AsyncIterator[object]:
    """Answer in pieces, later."""
    yield {"choices": [{"index": 0}]}
    await asyncio.sleep(0)
    yield RESPONSE


async def _collect(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


CALLS: dict[str, tuple[Callable[..., Any], Callable[[], object]]] = {
    "function": (answer, answer),
    "coroutine": (answer_later, lambda: asyncio.run(answer_later())),
    "generator": (stream, lambda: list(stream())),
    "async generator": (stream_later, lambda: asyncio.run(_collect(stream_later()))),
}


@pytest.mark.parametrize(("function", "call"), CALLS.values(), ids=CALLS)
def test_each_call_of_a_function_is_a_call(
    function: Callable[..., Any], call: Callable[[], object], events: CapturedEvents
) -> None:
    for _ in range(2):
        seen = call()
        assert seen in (RESPONSE, [{"choices": [{"index": 0}]}, RESPONSE])
    assert outcomes(events) == ["stop success"] * 2
    for stop in events.named("llm.chat.stop"):
        assert stop.measurements["total_tokens"] == 7
        assert stop.metadata["model"] == "tiny-1"
        assert stop.metadata["finish_reasons"] == ["stop"]
        chunks = 2 if "stream" in function.__name__ else None
        assert stop.measurements.get("chunks") == chunks


@pytest.mark.parametrize(("function", "call"), CALLS.values(), ids=CALLS)
def test_a_decorated_function_stays_what_it_was(
    function: Callable[..., Any], call: Callable[[], object]
) -> None:
    """Quiet as well: nobody listens here."""
    kinds = [
        inspect.iscoroutinefunction(function),
        inspect.isgeneratorfunction(function),
        inspect.isasyncgenfunction(function),
    ]
    expected = {
        "answer": [False, False, False],
        "answer_later": [True, False, False],
        "stream": [False, True, False],
        "stream_later": [False, False, True],
    }
    assert kinds == expected[function.__name__]
    assert list(inspect.signature(function).parameters) == ["text"]
    assert call()
    assert call()


def test_a_decorated_embedding_states_its_vectors(events: CapturedEvents) -> None:
    @llm.embedding(model="embed-1", bus=bus)
    def embed() -> object:
        return VECTORS

    assert embed() is VECTORS
    measured = events[-1].measurements
    assert (measured["texts"], measured["dimensions"], measured["input_tokens"]) == (
        1,
        2,
        2,
    )


def test_decorated_functions_that_call_one_another_are_one_call(
    events: CapturedEvents,
) -> None:
    """Each records what it returns; the usage is counted once."""

    @llm.chat(bus=bus)
    def outer() -> object:
        return answer()

    @llm.chat(bus=bus)
    async def outermost() -> object:
        return [outer(), await answer_later()]

    asyncio.run(outermost())
    (stop,) = events.named("llm.chat.stop")
    assert stop.measurements["total_tokens"] == 14
    assert len(events.named("llm.provider.request.stop")) == 3


def test_a_call_in_a_decorated_generator_is_its_request(events: CapturedEvents) -> None:
    @llm.chat(bus=bus)
    def pieces() -> Iterator[object]:
        yield 1
        yield answer()

    steps = pieces()
    next(steps)
    assert answer() is RESPONSE, "between two steps it is no concern of the generator"
    list(steps)
    own, generators = events.named("llm.chat.stop")
    assert own.measurements["total_tokens"] == 7
    assert generators.measurements["total_tokens"] == 7
    assert len(events.named("llm.provider.request.stop")) == 1


def test_a_decorated_function_that_fails_ends_in_its_error(
    events: CapturedEvents,
) -> None:
    msg = "mine"

    @llm.chat(bus=bus)
    def fail() -> None:
        answer()
        raise ValueError(msg)

    with pytest.raises(ValueError, match=msg):
        fail()
    assert outcomes(events) == ["stop success", "exception error error"]
    assert events[-1].measurements["total_tokens"] == 7, "what was used was used"


def test_what_a_function_returns_is_not_touched(events: CapturedEvents) -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> object:
            raise ZeroDivisionError(name)

    result = Untouchable()

    @llm.chat(bus=bus)
    def get() -> Untouchable:
        return result

    assert get() is result
    assert outcomes(events) == ["stop success"]


def test_switched_off_it_is_the_very_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMEVENTS_DISABLED", "1")

    def ask() -> None:
        """Ask."""

    assert llm.chat(bus=bus)(ask) is ask


def test_ambient_metadata_is_part_of_a_call(events: CapturedEvents) -> None:
    with (
        llmevents.context(user_id="u-1", model="ambient"),
        llm.chat(model="m", bus=bus),
    ):
        pass
    for event in events:
        assert event.metadata["user_id"] == "u-1"
        assert event.metadata["model"] == "m"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_has_a_function_of_its_name(
    name: str, events: CapturedEvents
) -> None:
    prefix, operation = OPERATIONS[name]
    with getattr(llm, name)(provider="acme", bus=bus):
        pass
    assert events.names() == [f"{prefix}.start", f"{prefix}.stop"]
    assert events[0].metadata["operation"] == operation
