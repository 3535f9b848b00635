"""The cohere SDK: what is told of each operation, and that nothing else changes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from llmevents import Bus
from llmevents.testing import capture
from tests.instrumentation import checking
from tests.instrumentation.replaying import (
    compare,
    in_loop,
    instrumented,
    phases,
    raised,
    raised_later,
)
from tests.instrumentation.wire import Wire, as_events, as_json, as_lines


cohere = pytest.importorskip("cohere", reason="the cohere SDK is missing")


MODEL = "command-a-03-2025"

MESSAGES = [{"role": "user", "content": "Hello you"}]

USAGE = {
    "billed_units": {"input_tokens": 5, "output_tokens": 3},
    "tokens": {"input_tokens": 70, "output_tokens": 4},
}

CHAT = {
    "id": "c-1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
    "usage": USAGE,
}

DELTA = {
    "type": "content-delta",
    "index": 0,
    "delta": {"message": {"content": {"text": "Hi"}}},
}

END = {
    "type": "message-end",
    "id": "c-1",
    "delta": {"finish_reason": "COMPLETE", "usage": USAGE},
}

STREAM = as_events({"type": "message-start", "id": "c-1", "delta": {}}, DELTA, END)

BROKEN = as_events(DELTA, httpx.ReadError("gone"))

REFUSED = as_json({"message": "no such model"}, 404)

OLD_CHAT = {
    "response_id": "r-1",
    "generation_id": "g-1",
    "text": "Hi",
    "finish_reason": "COMPLETE",
    "meta": USAGE,
}

OLD_STREAM = as_lines(
    {"event_type": "stream-start", "generation_id": "g-1", "is_finished": False},
    {"event_type": "text-generation", "text": "Hi", "is_finished": False},
    {
        "event_type": "stream-end",
        "finish_reason": "COMPLETE",
        "is_finished": True,
        "response": OLD_CHAT,
    },
)


def client(wire: Wire, name: str = "ClientV2") -> Any:  # noqa: ANN401  # the SDK's own
    return getattr(cohere, name)(
        api_key="test",
        base_url="http://cohere",
        httpx_client=httpx.Client(transport=wire.transport(httpx)),
    )


def async_client(wire: Wire, name: str = "AsyncClientV2") -> Any:  # noqa: ANN401  # likewise
    return getattr(cohere, name)(
        api_key="test",
        base_url="http://cohere",
        httpx_client=httpx.AsyncClient(transport=wire.transport(httpx)),
    )


OPERATIONS: dict[str, checking.Asked] = {
    "chat": (
        lambda made: made.chat(
            model=MODEL,
            messages=MESSAGES,
            temperature=0.5,
            p=0.9,
            response_format={"type": "json_object"},
        ),
        CHAT,
        "llm.chat",
        {
            "operation": "chat",
            "model": MODEL,
            "temperature": 0.5,
            "top_p": 0.9,
            "features": ["structured_output"],
            "finish_reasons": ["COMPLETE"],
            "response_id": "c-1",
        },
        {"input_tokens": 5, "output_tokens": 3},
    ),
    "embed": (
        lambda made: made.embed(
            model="embed-v4.0",
            input_type="search_query",
            texts=["a", "b"],
            embedding_types=["float"],
        ),
        {
            "id": "e-1",
            "embeddings": {"float": [[0.1, 0.2], [0.3, 0.4]]},
            "texts": ["a", "b"],
            "meta": {"billed_units": {"input_tokens": 2}},
            "response_type": "embeddings_by_type",
        },
        "llm.embedding",
        {"operation": "embeddings", "model": "embed-v4.0"},
        {"texts": 2, "dimensions": 2, "input_tokens": 2},
    ),
    "rerank": (
        lambda made: made.rerank(model="rerank-v3.5", query="q", documents=["a", "b"]),
        {
            "id": "k-1",
            "results": [{"index": 0, "relevance_score": 0.9}],
            "meta": {"billed_units": {"search_units": 1}},
        },
        "llm.rerank",
        {"operation": "rerank", "model": "rerank-v3.5"},
        {"searches": 1},
    ),
}

OLD_OPERATIONS: dict[str, checking.Asked] = {
    "chat": (
        lambda made: made.chat(message="Hello", model="command-r"),
        OLD_CHAT,
        "llm.chat",
        {"operation": "chat", "model": "command-r"},
        {"input_tokens": 5, "output_tokens": 3},
    ),
    "embed": (
        lambda made: made.embed(
            texts=["a"], model="embed-english-v3.0", batching=False
        ),
        {
            "response_type": "embeddings_floats",
            "id": "e-1",
            "embeddings": [[0.1, 0.2]],
            "texts": ["a"],
            "meta": {"billed_units": {"input_tokens": 1}},
        },
        "llm.embedding",
        {"operation": "embeddings"},
        {"input_tokens": 1, "texts": 1, "dimensions": 2},
    ),
    "classify": (
        lambda made: made.classify(inputs=["a"], model="mine"),
        {"id": "k", "classifications": [], "meta": {"billed_units": {}}},
        "llm.moderation",
        {"operation": "classification", "model": "mine"},
        {},
    ),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_says_what_was_asked_and_what_was_used(
    name: str, is_async: bool
) -> None:
    make = async_client if is_async else client
    checking.check_operation(
        "cohere", "cohere", OPERATIONS[name], make, is_async=is_async
    )


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", OLD_OPERATIONS)
def test_operations_of_the_first_version_are_calls_too(
    name: str, is_async: bool
) -> None:
    make = (
        partial(async_client, name="AsyncClient")
        if is_async
        else partial(client, name="Client")
    )
    checking.check_operation(
        "cohere", "cohere", OLD_OPERATIONS[name], make, is_async=is_async
    )


def test_clients_that_were_made_before_are_seen() -> None:
    """A client keeps methods of its own from when it is made."""
    wire = Wire(as_json(CHAT))
    made = client(wire)
    bus = Bus(strict=True)
    with instrumented("cohere", bus), capture("llm.chat.*", bus=bus) as events:
        made.chat(model=MODEL, messages=MESSAGES)
        raw = made.with_raw_response
    made.chat(model=MODEL, messages=MESSAGES)
    assert phases(events) == ["llm.chat.start", "llm.chat.stop"]
    assert not hasattr(type(getattr(raw, "_v2", raw)).chat, "__wrapped__")


def test_many_texts_of_the_first_version_are_a_call_for_each_request() -> None:
    """The SDK sends 96 at once, each batch in a thread of its own."""
    answer = {
        "response_type": "embeddings_floats",
        "id": "e-1",
        "embeddings": [[0.1]] * 96,
        "texts": ["a"] * 96,
        "meta": {"billed_units": {"input_tokens": 96}, "api_version": {"version": "1"}},
    }
    wire = Wire(as_json(answer))
    seen = compare(
        "cohere",
        lambda: checking.said(
            client(wire, "Client").embed(texts=["a"] * 192, model="e")
        ),
    )
    assert seen.watched == seen.bare
    ends = seen.events.named("llm.embedding.stop")
    assert sum(end.measurements["input_tokens"] for end in ends) == 192
    assert sum(end.measurements["texts"] for end in ends) == 192


def thrown(stream: Any) -> object:  # noqa: ANN401  # any of the streams
    """The SDK catches what is thrown into its generator, and goes on."""
    return [next(stream), raised(lambda: stream.throw(KeyError("mine"))), list(stream)]


def without_date(seen: object) -> object:
    return seen[0] if isinstance(seen, tuple) else seen


USES: dict[str, checking.Use] = {
    "read": (list, STREAM, "success"),
    "closed": (checking.closed, STREAM, "cancelled"),
    "dropped": (next, STREAM, "cancelled"),
    "never begun": (lambda _stream: None, STREAM, "cancelled"),
    "thrown into": (thrown, STREAM, "success"),
    "broken": (checking.failing, BROKEN, "error"),
    "refused": (
        lambda stream: without_date(checking.failing(stream)),
        REFUSED,
        "error",
    ),
}


def open_stream(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    return client(wire).chat_stream(model=MODEL, messages=MESSAGES)


async def open_async_stream(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    return async_client(wire).chat_stream(model=MODEL, messages=MESSAGES)


STREAMED = checking.Streamed(
    sdk="cohere",
    open=open_stream,
    open_async=open_async_stream,
    kind=inspect.isgenerator,
    async_kind=inspect.isasyncgen,
    metadata={"finish_reasons": ["COMPLETE"]},
    measured={"input_tokens": 5, "output_tokens": 3, "chunks": 3},
)


@pytest.mark.parametrize("name", USES)
def test_a_stream_ends_its_call_once_however_it_ends(name: str) -> None:
    checking.check_stream(STREAMED, USES[name])


ASYNC_USES: dict[str, checking.AsyncUse] = {
    "read": (checking.read_async, STREAM, "success"),
    "closed": (checking.closed_async, STREAM, "cancelled"),
    "broken": (checking.failing_async, BROKEN, "error"),
}


@pytest.mark.parametrize("name", ASYNC_USES)
def test_an_asynchronous_stream_ends_its_call_once(name: str) -> None:
    checking.check_async_stream(STREAMED, ASYNC_USES[name])


def test_a_function_that_streams_is_still_a_generator_function() -> None:
    def kind() -> object:
        return inspect.isgeneratorfunction(client(Wire(STREAM)).chat_stream)

    seen = compare("cohere", kind)
    assert seen.watched == seen.bare


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_stream_of_the_first_version_is_a_call_too(is_async: bool) -> None:
    wire = Wire(OLD_STREAM)

    async def main() -> object:
        made = async_client(wire, "AsyncClient")
        return [checking.said(each) async for each in made.chat_stream(message="Hello")]

    def program() -> object:
        if is_async:
            return in_loop(main)
        return checking.said(list(client(wire, "Client").chat_stream(message="Hello")))

    seen = compare("cohere", program)
    assert seen.watched == seen.bare
    end = checking.end_of(seen.events)
    assert end.measurements["input_tokens"] == 5
    assert end.measurements["output_tokens"] == 3


RAW_USES: dict[str, checking.Use] = {
    "read": (lambda response: checking.said(list(response.data)), STREAM, "success"),
    "left": (lambda response: checking.said(next(response.data)), STREAM, "cancelled"),
    "not read": (lambda response: response.status_code, STREAM, "cancelled"),
    "failed in": (
        lambda response: 1 / len(response.headers.get("no", "")),
        STREAM,
        "cancelled",
    ),
    "broken": (lambda response: checking.failing(response.data), BROKEN, "error"),
    "refused": (lambda response: response, REFUSED, "error"),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", RAW_USES)
def test_a_raw_stream_is_a_call_for_as_long_as_it_is_open(
    name: str, is_async: bool
) -> None:
    use, answer, status = RAW_USES[name]
    wire = Wire(answer)

    def program() -> object:
        def ask() -> object:
            raw = client(wire).with_raw_response
            with raw.chat_stream(model=MODEL, messages=MESSAGES) as response:
                return response.__class__.__name__, use(response)

        async def ask_later() -> object:
            raw = async_client(wire).with_raw_response
            async with raw.chat_stream(model=MODEL, messages=MESSAGES) as response:
                if name == "read":
                    return [checking.said(part) async for part in response.data]
                if name == "left":
                    return checking.said(await anext(response.data))
                if name == "broken":
                    return await checking.failing_async(response.data)
                return response.__class__.__name__, use(response)

        seen = in_loop(lambda: raised_later(ask_later())) if is_async else raised(ask)
        return without_date(seen) if name == "refused" else seen

    seen = compare("cohere", program)
    assert seen.watched == seen.bare
    assert checking.end_of(seen.events).metadata["status"] == status


def test_the_context_of_a_raw_stream_is_still_a_decorator() -> None:
    def program() -> object:
        raw = client(Wire(STREAM)).with_raw_response

        @raw.chat_stream(model=MODEL, messages=MESSAGES)  # type: ignore[untyped-decorator]  # the SDK's
        def inside() -> str:
            return "done"

        return inside()

    seen = compare("cohere", program)
    assert seen.watched == seen.bare == "done"


def test_a_raw_response_is_read_and_left_as_it_is() -> None:
    wire = Wire(as_json(CHAT))
    seen = compare(
        "cohere",
        lambda: checking.said(
            client(wire).with_raw_response.chat(model=MODEL, messages=MESSAGES).data
        ),
    )
    assert seen.watched == seen.bare
    assert checking.end_of(seen.events).measurements["input_tokens"] == 5


def test_a_stream_that_leaves_a_block_is_the_blocks_call() -> None:
    parts, events = checking.read_outside("cohere", lambda: open_stream(Wire(STREAM)))
    assert len(parts) == 3
    assert checking.end_of(events).measurements["input_tokens"] == 5


def test_a_version_without_an_operation_has_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cohere.v2 import raw_client

    monkeypatch.delattr(raw_client.RawV2Client, "parse", raising=False)
    seen = compare(
        "cohere",
        lambda: checking.said(
            client(Wire(as_json(CHAT))).chat(model=MODEL, messages=MESSAGES)
        ),
    )
    assert seen.watched == seen.bare
    assert checking.end_of(seen.events).metadata["status"] == "success"


def test_a_stream_of_an_unknown_kind_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cohere.v2 import raw_client

    @contextmanager
    def chat_stream(_self: object, **_asked: object) -> Iterator[object]:
        yield SimpleNamespace(data=[1, 2])

    monkeypatch.setattr(raw_client.RawV2Client, "chat_stream", chat_stream)

    def program() -> object:
        made = client(Wire(as_json(CHAT)))
        return list(made.chat_stream(model=MODEL, messages=MESSAGES))

    seen = compare("cohere", program)
    assert seen.watched == seen.bare == [1, 2]
    assert checking.end_of(seen.events).metadata["status"] == "success"


def test_without_a_listener_callers_get_the_sdks_own() -> None:
    bus = Bus()
    with instrumented("cohere", bus):
        raw = client(Wire(STREAM)).with_raw_response
        context = raw.chat_stream(model=MODEL, messages=MESSAGES)
    assert type(context).__name__ == "_GeneratorContextManager"


def test_another_version_is_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cohere, "__version__", "4.57")
    expected = r"cohere 4\.57 is not instrumented: llmevents supports cohere 5\.x"
    checking.check_left_alone("cohere", expected)


def test_a_version_without_raw_clients_is_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "llmevents.instrumentation._cohere.find_spec", lambda _name: None
    )
    checking.check_left_alone("cohere", r"cohere is not instrumented: .* 5\.16")
