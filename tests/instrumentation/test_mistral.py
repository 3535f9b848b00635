"""The mistralai SDK: what is told of each operation, and that nothing else changes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from typing import Any

import httpx2
import pytest

from llmevents import Bus
from llmevents.testing import capture
from tests.instrumentation import checking
from tests.instrumentation.replaying import (
    compare,
    in_loop,
    instrumented,
    raised,
    raised_later,
)
from tests.instrumentation.wire import Wire, as_events, as_json


mistral = pytest.importorskip(
    "mistralai.client", reason="the mistralai SDK is missing, or of another major"
)

# What the SDK parses JSON paths with, from Python 3.12 on.
pytestmark = pytest.mark.filterwarnings("ignore:ast\\.:DeprecationWarning")

streaming = import_module("mistralai.client.utils.eventstreaming")

MODEL = "mistral-small-latest"

MESSAGES = [{"role": "user", "content": "Hello you"}]

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}

USED = {"input_tokens": 12, "output_tokens": 3}

COMPLETION = {
    "id": "m-1",
    "object": "chat.completion",
    "created": 1764000000,
    "model": MODEL,
    "usage": USAGE,
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hi"},
        }
    ],
}


def chunk(text: str, **more: object) -> dict[str, object]:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": text},
        "finish_reason": more.pop("finish_reason", None),
    }
    return {
        "id": "m-1",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": MODEL,
        "choices": [choice],
        **more,
    }


STREAM = as_events(
    chunk(""), chunk("Hi"), chunk("", finish_reason="stop", usage=USAGE), "[DONE]"
)

BROKEN = as_events(chunk(""), httpx2.ReadError("gone"))

REFUSED = as_json({"message": "no such model"}, 404)

CONVERSATION = {
    "object": "conversation.response",
    "conversation_id": "conv-1",
    "outputs": [],
    "usage": USAGE,
}

MODERATED = {"id": "d-1", "model": "mistral-moderation", "results": []}

OCR = {
    "model": "mistral-ocr-2505",
    "pages": [
        {"index": 0, "markdown": "Hi", "images": [], "dimensions": None},
        {"index": 1, "markdown": "you", "images": [], "dimensions": None},
    ],
    "usage_info": {"pages_processed": 2, "doc_size_bytes": 9},
}

TRANSCRIPT = {
    "model": "voxtral-mini",
    "text": "Hi",
    "language": "en",
    "segments": [],
    "usage": {**USAGE, "prompt_audio_seconds": 7},
}

DOCUMENT = {"type": "document_url", "document_url": "https://example.com/a.pdf"}


def client(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    return mistral.Mistral(
        api_key="test",
        server_url="http://mistral",
        client=httpx2.Client(transport=wire.transport(httpx2)),
        async_client=httpx2.AsyncClient(transport=wire.transport(httpx2)),
    )


# The path of a method, what it is given, what is answered, and what events say.
MethodAsked = tuple[str, dict[str, Any], object, str, dict[str, object], dict[str, int]]

OPERATIONS: dict[str, MethodAsked] = {
    "chat": (
        "chat.complete",
        {
            "model": MODEL,
            "messages": MESSAGES,
            "temperature": 0.5,
            "random_seed": 7,
            "n": 2,
            "response_format": {"type": "json_object"},
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {}}}
            ],
        },
        COMPLETION,
        "llm.chat",
        {
            "operation": "chat",
            "model": MODEL,
            "temperature": 0.5,
            "seed": 7,
            "choice_count": 2,
            "features": ["tools", "structured_output"],
            "finish_reasons": ["stop"],
            "response_id": "m-1",
        },
        USED,
    ),
    "agent": (
        "agents.complete",
        {"agent_id": "ag-1", "messages": MESSAGES},
        COMPLETION,
        "llm.chat",
        {"operation": "chat", "response_model": MODEL},
        USED,
    ),
    "conversation": (
        "beta.conversations.start",
        {"model": MODEL, "inputs": "Hello"},
        CONVERSATION,
        "llm.chat",
        {"operation": "chat", "model": MODEL},
        USED,
    ),
    "fim": (
        "fim.complete",
        {"model": "codestral", "prompt": "def f"},
        COMPLETION,
        "llm.completion",
        {"operation": "text_completion", "model": "codestral"},
        USED,
    ),
    "embedding": (
        "embeddings.create",
        {"model": "mistral-embed", "inputs": ["a", "b"]},
        {
            "id": "e-1",
            "object": "list",
            "model": "mistral-embed",
            "usage": {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4},
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]},
                {"object": "embedding", "index": 1, "embedding": [0.3, 0.4]},
            ],
        },
        "llm.embedding",
        {"operation": "embeddings", "model": "mistral-embed"},
        {"texts": 2, "dimensions": 2, "input_tokens": 4},
    ),
    "ocr": (
        "ocr.process",
        {"model": "mistral-ocr-latest", "document": DOCUMENT},
        OCR,
        "llm.ocr",
        {"operation": "ocr", "model": "mistral-ocr-latest"},
        {"pages": 2},
    ),
    "transcription": (
        "audio.transcriptions.complete",
        {"model": "voxtral-mini", "file_url": "https://example.com/a.mp3"},
        TRANSCRIPT,
        "llm.transcription",
        {"operation": "transcription", "model": "voxtral-mini"},
        {**USED, "audio_duration": 7_000_000_000},
    ),
    "moderation": (
        "classifiers.moderate",
        {"model": "mistral-moderation", "inputs": ["a"]},
        MODERATED,
        "llm.moderation",
        {"operation": "moderation", "model": "mistral-moderation"},
        {},
    ),
    "classification": (
        "classifiers.classify",
        {"model": "mine", "inputs": ["a"]},
        MODERATED,
        "llm.moderation",
        {"operation": "classification", "model": "mine"},
        {},
    ),
}


def method_of(made: Any, path: str) -> Any:  # noqa: ANN401  # the SDK's own
    for name in path.split("."):
        made = getattr(made, name)
    return made


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_says_what_was_asked_and_what_was_used(
    name: str, is_async: bool
) -> None:
    path, given, answer, prefix, metadata, measured = OPERATIONS[name]

    def call(made: Any) -> Any:  # noqa: ANN401  # the SDK's own
        return method_of(made, f"{path}_async" if is_async else path)(**given)

    asked = (call, answer, prefix, metadata, measured)
    checking.check_operation("mistral", "mistral_ai", asked, client, is_async=is_async)


def left(stream: Any) -> object:  # noqa: ANN401  # any of the streams
    with stream as events:
        return next(events)


def within(stream: Any) -> object:  # noqa: ANN401  # likewise
    with stream as events:
        return list(events)


USES: dict[str, checking.Use] = {
    "read": (list, STREAM, "success"),
    "read within": (within, STREAM, "success"),
    "left": (left, STREAM, "cancelled"),
    "closed": (checking.closed, STREAM, "cancelled"),
    "dropped": (next, STREAM, "cancelled"),
    "broken": (checking.failing, BROKEN, "error"),
}


def open_stream(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    return client(wire).chat.stream(model=MODEL, messages=MESSAGES)


def is_event_stream(stream: object) -> bool:
    return isinstance(stream, streaming.EventStream)


async def open_async_stream(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    return await client(wire).chat.stream_async(model=MODEL, messages=MESSAGES)


def is_async_event_stream(stream: object) -> bool:
    return isinstance(stream, streaming.EventStreamAsync)


STREAMED = checking.Streamed(
    sdk="mistral",
    open=open_stream,
    open_async=open_async_stream,
    kind=is_event_stream,
    async_kind=is_async_event_stream,
    metadata={"finish_reasons": ["stop"]},
    measured={**USED, "chunks": 3},
)


@pytest.mark.parametrize("name", USES)
def test_a_stream_ends_its_call_once_however_it_ends(name: str) -> None:
    if name == "closed" and not hasattr(streaming.EventStream, "close"):
        pytest.skip("streams of this version of the SDK cannot be closed")
    checking.check_stream(STREAMED, USES[name])


async def left_async(stream: Any) -> object:  # noqa: ANN401  # any of the streams
    async with stream as events:
        return await anext(events)


ASYNC_USES: dict[str, checking.AsyncUse] = {
    "read": (checking.read_async, STREAM, "success"),
    "left": (left_async, STREAM, "cancelled"),
    "broken": (checking.failing_async, BROKEN, "error"),
}


@pytest.mark.parametrize("name", ASYNC_USES)
def test_an_asynchronous_stream_ends_its_call_once(name: str) -> None:
    checking.check_async_stream(STREAMED, ASYNC_USES[name])


def test_a_streamed_conversation_states_its_usage_at_its_end() -> None:
    done = {"type": "conversation.response.done", "usage": USAGE}
    started = {"type": "conversation.response.started", "conversation_id": "conv-1"}
    wire = Wire(as_events(started, done))
    seen = compare(
        "mistral",
        lambda: checking.said(
            list(client(wire).beta.conversations.start_stream(model=MODEL, inputs="Hi"))
        ),
    )
    assert seen.watched == seen.bare
    end = checking.end_of(seen.events)
    assert end.measurements["input_tokens"] == 12
    assert end.metadata["stream"] is True


def test_a_parsed_completion_is_one_call() -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    answered = {"role": "assistant", "content": '{"name": "Bern"}'}
    choice = {"index": 0, "finish_reason": "stop", "message": answered}
    wire = Wire(as_json({**COMPLETION, "choices": [choice]}))
    seen = compare(
        "mistral",
        lambda: checking.said(
            client(wire).chat.parse(City, model=MODEL, messages=MESSAGES)
        ),
    )
    assert seen.watched == seen.bare
    assert checking.end_of(seen.events).metadata["features"] == ["structured_output"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_refusal_is_the_callers_and_the_calls(is_async: bool) -> None:
    wire = Wire(REFUSED)
    asked = {"model": MODEL, "messages": MESSAGES}

    def program() -> object:
        made = client(wire)
        if is_async:
            return in_loop(lambda: raised_later(made.chat.complete_async(**asked)))
        return raised(lambda: made.chat.complete(**asked))

    seen = compare("mistral", program)
    assert seen.watched == seen.bare
    end = checking.end_of(seen.events)
    assert end.metadata["status"] == "error"
    assert end.metadata["http_status"] == 404


def test_retries_are_one_call_of_several_requests() -> None:
    from mistralai.client.utils import BackoffStrategy, RetryConfig

    retries = RetryConfig("backoff", BackoffStrategy(1, 1, 1.0, 1000), False)
    busy = as_json({"message": "busy"}, 503)
    wire = Wire(busy, busy, as_json(COMPLETION))
    bus = Bus(strict=True)
    with instrumented("mistral", bus), capture("llm.**", bus=bus) as events:
        client(wire).chat.complete(model=MODEL, messages=MESSAGES, retries=retries)
    assert checking.end_of(events).measurements["input_tokens"] == 12
    assert len(events.named("llm.provider.request.stop")) == 3
    attempts = [
        each.measurements["attempt"] for each in events.named("llm.provider.retry")
    ]
    assert attempts == [2, 3]


def test_a_stream_that_leaves_a_block_is_the_blocks_call() -> None:
    parts, events = checking.read_outside("mistral", lambda: open_stream(Wire(STREAM)))
    assert len(parts) == 3
    assert checking.end_of(events).measurements["input_tokens"] == 12


def test_methods_are_still_what_they_were() -> None:
    def kinds() -> object:
        chat = client(Wire(STREAM)).chat
        return (
            inspect.iscoroutinefunction(chat.complete_async),
            inspect.signature(chat.complete),
            inspect.signature(chat.stream_async),
        )

    seen = compare("mistral", kinds)
    assert seen.watched == seen.bare


LAZILY = """
import sys
import mistralai.client
import llmevents

module = "mistralai.client.embeddings"
before = set(sys.modules)
llmevents.instrument("mistral")
assert module not in before and module not in sys.modules
client = mistralai.client.Mistral(api_key="test")
client.embeddings
assert hasattr(sys.modules[module].Embeddings.create, "__wrapped__")
llmevents.uninstrument("mistral")
assert not hasattr(sys.modules[module].Embeddings.create, "__wrapped__")
client.ocr
assert not hasattr(sys.modules["mistralai.client.ocr"].Ocr.process, "__wrapped__")
"""


def test_what_the_sdk_imports_later_is_instrumented_then() -> None:
    """Importing all of it takes longer than the rest of the program may."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LAZILY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_another_version_is_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mistral, "__version__", "1.9.0")
    expected = r"mistralai 1\.9\.0 is not instrumented: .* 2\.x and 3\.x"
    checking.check_left_alone("mistral", expected)
