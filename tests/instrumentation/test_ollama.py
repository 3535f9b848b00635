"""The ollama SDK: what is told of each operation, and that nothing else changes."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from importlib import metadata
from typing import Any

import httpx
import pytest

from llmevents import Bus, llm
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
from tests.instrumentation.wire import Wire, as_json, as_lines


ollama = pytest.importorskip("ollama", reason="the ollama SDK is missing")

ASKED: dict[str, Any] = {
    "model": "llama3.2",
    "messages": [{"role": "user", "content": "Hello you"}],
}

DONE = {
    "model": "llama3.2:3b",
    "message": {"role": "assistant", "content": "Hi"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 12,
    "eval_count": 3,
}

USED = {"input_tokens": 12, "output_tokens": 3}

PART = {"model": "llama3.2:3b", "message": {"role": "assistant", "content": "H"}}

STREAM = as_lines(PART, PART, DONE)

BROKEN = as_lines(PART, PART, httpx.ReadError("gone"))

REFUSED = as_json({"error": "no such model"}, 404)

EMBEDDED = {
    "model": "nomic",
    "embeddings": [[0.1, 0.2], [0.3, 0.4]],
    "prompt_eval_count": 4,
}


def client(wire: Wire) -> Any:  # noqa: ANN401  # the SDK may be missing
    return ollama.Client("http://ollama", transport=wire.transport(httpx))


def async_client(wire: Wire) -> Any:  # noqa: ANN401  # likewise
    return ollama.AsyncClient("http://ollama", transport=wire.transport(httpx))


OPERATIONS: dict[str, checking.Asked] = {
    "chat": (
        lambda made: made.chat(**ASKED, options={"temperature": 0.5, "num_predict": 9}),
        DONE,
        "llm.chat",
        {
            "operation": "chat",
            "model": "llama3.2",
            "temperature": 0.5,
            "max_tokens": 9,
            "finish_reasons": ["stop"],
            "response_model": "llama3.2:3b",
        },
        USED,
    ),
    "positional": (
        lambda made: made.chat("llama3.2", ASKED["messages"], format="json"),
        DONE,
        "llm.chat",
        {"model": "llama3.2", "features": ["structured_output"]},
        USED,
    ),
    "generate": (
        lambda made: made.generate("llama3.2", "Hello"),
        {"model": "llama3.2", "response": "Hi", "done": True, "eval_count": 3},
        "llm.completion",
        {"operation": "text_completion", "model": "llama3.2"},
        {"output_tokens": 3},
    ),
    "embed": (
        lambda made: made.embed("nomic", ["a", "b"]),
        EMBEDDED,
        "llm.embedding",
        {"operation": "embeddings", "model": "nomic"},
        {"texts": 2, "dimensions": 2, "input_tokens": 4},
    ),
    "embeddings": (
        lambda made: made.embeddings("nomic", "a"),
        {"embedding": [0.1, 0.2, 0.3]},
        "llm.embedding",
        {"operation": "embeddings", "model": "nomic"},
        {"texts": 1},
    ),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_says_what_was_asked_and_what_was_used(
    name: str, is_async: bool
) -> None:
    make = async_client if is_async else client
    checking.check_operation(
        "ollama", "ollama", OPERATIONS[name], make, is_async=is_async
    )


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_refusal_is_the_callers_and_the_calls(is_async: bool) -> None:
    wire = Wire(REFUSED)

    def program() -> object:
        if is_async:
            return in_loop(lambda: raised_later(async_client(wire).chat(**ASKED)))
        return raised(lambda: client(wire).chat(**ASKED))

    seen = compare("ollama", program)
    assert seen.watched == seen.bare
    assert len(phases(seen.events, "llm.chat")) == 2
    assert seen.events[-1].metadata["http_status"] == 404


def test_embeddings_state_texts_and_dimensions() -> None:
    bus = Bus(strict=True)
    with instrumented("ollama", bus), capture("llm.**", bus=bus) as events:
        client(Wire(as_json(EMBEDDED))).embed("nomic", ["a", "b"])
        client(Wire(as_json({"embedding": [0.1, 0.2, 0.3]}))).embeddings("nomic", "a")
    first, second = events.named("llm.embedding.stop")
    assert first.measurements["texts"] == 2
    assert first.measurements["dimensions"] == 2
    assert first.measurements["input_tokens"] == 4
    assert second.measurements["texts"] == 1


def test_functions_that_were_imported_before_are_seen() -> None:
    """``from ollama import chat`` is a method that the SDK bound at its own import."""
    kept = client(Wire(as_json(DONE))).chat
    bus = Bus(strict=True)
    with instrumented("ollama", bus), capture("llm.chat.*", bus=bus) as events:
        kept(**ASKED)
    kept(**ASKED)
    assert phases(events) == ["llm.chat.start", "llm.chat.stop"]
    assert not hasattr(ollama.Client._request, "__wrapped__")


def test_what_runs_no_model_is_no_call() -> None:
    seen = compare("ollama", lambda: client(Wire(as_json({"models": []}))).list())
    assert seen.watched == seen.bare
    assert not seen.events


def thrown(stream: Any) -> object:  # noqa: ANN401  # any of the streams
    error = LookupError("mine")
    return [
        next(stream),
        raised(lambda: stream.throw(error)),
        raised(lambda: next(stream)),
    ]


USES: dict[str, checking.Use] = {
    "read": (list, STREAM, "success"),
    "read, then asked again": (
        lambda stream: [*stream, raised(lambda: next(stream))],
        STREAM,
        "success",
    ),
    "sent into": (
        lambda stream: [next(stream), stream.send("x"), list(stream)],
        STREAM,
        "success",
    ),
    "closed": (checking.closed, STREAM, "cancelled"),
    "closed at once": (lambda stream: stream.close(), STREAM, "cancelled"),
    "dropped": (next, STREAM, "cancelled"),
    "never begun": (lambda _stream: None, STREAM, "cancelled"),
    "thrown into": (thrown, STREAM, "error"),
    "broken": (checking.failing, BROKEN, "error"),
    "error in the stream": (
        checking.failing,
        as_lines(PART, {"error": "out of memory"}),
        "error",
    ),
    "refused": (checking.failing, REFUSED, "error"),
}


def open_stream(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    return client(wire).chat(**ASKED, stream=True)


def state_of_generator(stream: Any) -> object:  # noqa: ANN401  # likewise
    return inspect.isgenerator(stream), inspect.getgeneratorstate(stream)


async def open_async_stream(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    return await async_client(wire).chat(**ASKED, stream=True)


STREAMED = checking.Streamed(
    sdk="ollama",
    open=open_stream,
    open_async=open_async_stream,
    kind=state_of_generator,
    async_kind=inspect.isasyncgen,
    metadata={"usage_complete": True},
    measured={**USED, "chunks": 3},
)


@pytest.mark.parametrize("name", USES)
def test_a_stream_ends_its_call_once_however_it_ends(name: str) -> None:
    checking.check_stream(STREAMED, USES[name])


async def thrown_async(stream: Any) -> object:  # noqa: ANN401  # any of the streams
    first = await anext(stream)
    return [first, await raised_later(stream.athrow(LookupError("mine")))]


async def sent_async(stream: Any) -> object:  # noqa: ANN401  # likewise
    return [
        await anext(stream),
        await stream.asend("x"),
        await checking.read_async(stream),
    ]


async def dropped_async(stream: Any) -> object:  # noqa: ANN401  # likewise
    return await anext(stream)


ASYNC_USES: dict[str, checking.AsyncUse] = {
    "read": (checking.read_async, STREAM, "success"),
    "sent into": (sent_async, STREAM, "success"),
    "closed": (checking.closed_async, STREAM, "cancelled"),
    "dropped": (dropped_async, STREAM, "cancelled"),
    "thrown into": (thrown_async, STREAM, "error"),
    "broken": (checking.failing_async, BROKEN, "error"),
    "refused": (checking.failing_async, REFUSED, "error"),
}


@pytest.mark.parametrize("name", ASYNC_USES)
def test_an_asynchronous_stream_ends_its_call_once(name: str) -> None:
    checking.check_async_stream(STREAMED, ASYNC_USES[name])


def test_a_stream_that_cannot_be_closed_now_goes_on() -> None:
    """Closing a generator while it runs is an error, and ends nothing."""
    bus = Bus(strict=True)
    seen: list[object] = []

    class Closing(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            seen.append(raised(stream.close))
            yield from (part for part in STREAM.parts if isinstance(part, bytes))

    made = ollama.Client(
        "http://ollama",
        transport=httpx.MockTransport(
            lambda _request: httpx.Response(200, stream=Closing())
        ),
    )
    with instrumented("ollama", bus), capture("llm.chat.*", bus=bus) as events:
        stream = made.chat(**ASKED, stream=True)
        assert len(list(stream)) == 3
    assert seen == [(ValueError, "generator already executing", type(None))]
    assert events[-1].metadata["status"] == "success"


def test_an_asynchronous_stream_that_cannot_be_closed_now_goes_on() -> None:
    bus = Bus(strict=True)
    seen: list[object] = []

    class Closing(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            seen.append(await raised_later(streams[0].aclose()))
            for part in STREAM.parts:
                if isinstance(part, bytes):
                    yield part

    made = ollama.AsyncClient(
        "http://ollama",
        transport=httpx.MockTransport(
            lambda _request: httpx.Response(200, stream=Closing())
        ),
    )
    streams: list[Any] = []

    async def main() -> None:
        streams.append(await made.chat(**ASKED, stream=True))
        assert len([part async for part in streams[0]]) == 3

    with instrumented("ollama", bus), capture("llm.chat.*", bus=bus) as events:
        in_loop(main)
    assert seen[0][0] is RuntimeError  # type: ignore[index]  # what raised() returns
    assert events[-1].metadata["status"] == "success"


def test_a_stream_that_leaves_a_block_is_the_blocks_call() -> None:
    """It has sent nothing yet, but it has been asked for there."""
    bus = Bus(strict=True)

    @llm.chat(bus=bus)
    def ask() -> Any:  # noqa: ANN401  # a stream of the SDK
        return open_stream(Wire(STREAM))

    with instrumented("ollama", bus), capture("llm.**", bus=bus) as events:
        stream = ask()
        assert phases(events) == ["llm.chat.start"]
        assert len(list(stream)) == 3
    assert phases(events, "llm.chat") == ["llm.chat.start", "llm.chat.stop"]
    (end,) = events.named("llm.chat.stop")
    assert end.measurements["input_tokens"] == 12
    assert end.metadata["provider"] == "ollama"


def test_an_attempt_belongs_to_the_call_though_it_comes_later() -> None:
    bus = Bus(strict=True)
    limited = as_json({"error": "slow down"}, 429)
    with instrumented("ollama", bus), capture("llm.**", bus=bus) as events:
        stream = client(Wire(limited)).chat(**ASKED, stream=True)
        with pytest.raises(ollama.ResponseError, match="slow down"):
            list(stream)
    assert phases(events) == [
        "llm.chat.start",
        "llm.provider.request.start",
        "llm.provider.request.stop",
        "llm.chat.exception",
    ]
    call = events.named("llm.chat.start")[0].metadata["span_id"]
    request = events.named("llm.provider.request.start")[0]
    assert request.metadata["parent_span_id"] == call
    assert len(events.named("llm.provider.rate_limit")) == 1


def test_without_a_listener_callers_get_the_sdks_own_generator() -> None:
    bus = Bus()
    with instrumented("ollama", bus):
        stream = open_stream(Wire(STREAM))
        assert type(stream).__name__ == "generator"
        assert len(list(stream)) == 3

        async def main() -> str:
            stream = await open_async_stream(Wire(STREAM))
            return type(stream).__name__

        assert in_loop(main) == "async_generator"


def test_parameters_that_cannot_be_read_are_the_sdks_business() -> None:
    seen = compare(
        "ollama",
        lambda: [
            raised(lambda: client(Wire(as_json(DONE)))._request()),
            raised(lambda: client(Wire(as_json(DONE))).chat(messages=[{"no": "role"}])),
        ],
    )
    assert seen.watched == seen.bare
    assert not seen.events


def test_another_version_is_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = metadata.version
    monkeypatch.setattr(
        "llmevents.instrumentation._ollama.version",
        lambda name: "0.4.9" if name == "ollama" else real(name),
    )
    expected = r"ollama 0\.4\.9 is not instrumented: llmevents supports ollama 0\.5\.x"
    checking.check_left_alone("ollama", expected)
    assert not hasattr(ollama.Client._request, "__wrapped__")
