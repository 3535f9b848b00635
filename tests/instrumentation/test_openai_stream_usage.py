"""``include_stream_usage``: streams state their usage, and nobody else notices."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest

import llmevents
from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, capture
from tests.instrumentation.sdk import (
    CHUNKS,
    MESSAGES,
    WITH_USAGE,
    WITHOUT_REQUESTS,
    answer,
    client_of,
    in_async,
    server_sent,
    without_id,
)
from tests.outcomes import outcomes


@pytest.fixture
def bus() -> Iterator[Bus]:
    strict = Bus(strict=True)
    llmevents.instrument("openai", bus=strict, include_stream_usage=True)
    yield strict
    llmevents.uninstrument("openai")


def read(client: openai.OpenAI) -> list[Any]:
    return list(
        client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    )


def read_raw(client: openai.OpenAI) -> list[Any]:
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    assert raw.parse() is raw.parse()
    return list(raw.parse())


def read_by_helper(client: openai.OpenAI) -> list[Any]:
    with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        return [event.chunk for event in stream if event.type == "chunk"]


def step(client: openai.OpenAI) -> list[Any]:
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return [next(stream) for _ in range(CHUNKS)] + list(stream)


@pytest.mark.parametrize("use", [read, read_raw, read_by_helper, step])
def test_a_stream_states_its_usage_and_gives_what_it_gave(
    use: Callable[[openai.OpenAI], list[Any]],
    client: openai.OpenAI,
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    watched = without_id(use(client))
    stop = events[-1]
    assert outcomes(events) == ["stop success"]
    assert stop.measurements["input_tokens"] == 2
    assert stop.measurements["chunks"] == CHUNKS
    assert stop.metadata["usage_complete"] is True
    assert provider.calls[-1].request["stream_options"] == {"include_usage": True}
    llmevents.uninstrument("openai")
    assert without_id(use(client)) == watched
    assert len(watched) == CHUNKS


def test_an_async_stream_does_likewise(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    async def use(client: openai.AsyncOpenAI) -> list[Any]:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        )
        return [chunk async for chunk in stream]

    watched = without_id(in_async(provider, use))
    assert events[-1].measurements["input_tokens"] == 2
    assert events[-1].measurements["chunks"] == CHUNKS
    llmevents.uninstrument("openai")
    assert without_id(in_async(provider, use)) == watched


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        pytest.param(
            {"stream_options": {"include_usage": False}},
            {"include_usage": False},
            id="no",
        ),
        pytest.param({"stream_options": WITH_USAGE}, {"include_usage": True}, id="yes"),
        pytest.param(
            {"extra_body": {"stream_options": {"include_usage": False}}},
            {"include_usage": False},
            id="no, in the body",
        ),
    ],
)
def test_what_the_caller_has_said_stands(
    asked: dict[str, Any],
    sent: dict[str, bool],
    client: openai.OpenAI,
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    stream: Any = client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, **asked
    )
    chunks = list(stream)
    assert provider.calls[0].request["stream_options"] == sent
    assert len(chunks) == CHUNKS + sent["include_usage"], "theirs is not hidden"
    assert ("input_tokens" in events[-1].measurements) is sent["include_usage"]


@pytest.mark.parametrize("given", [{"include_obfuscation": False}, {}, None])
def test_what_the_caller_gives_is_never_changed(
    given: Any,  # noqa: ANN401  # None is no value that the SDK's type allows
    client: openai.OpenAI,
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    asked = {
        "model": "m",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": given,
        "extra_body": {"further": 1},
        "extra_headers": {"x-further": "1"},
    }
    before = copy.deepcopy(asked)
    stream: Any = client.chat.completions.create(**asked)
    assert len(list(stream)) == CHUNKS
    assert asked == before
    sent = provider.calls[0].request["stream_options"]
    assert sent == {**(given or {}), "include_usage": True}
    assert events[-1].metadata["usage_complete"] is True


def test_calls_that_are_no_streams_are_sent_as_they_are(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    client.chat.completions.create(model="m", messages=MESSAGES)
    client.chat.completions.create(model="m", messages=MESSAGES, stream=False)
    client.embeddings.create(model="m", input="one")
    assert not any("stream_options" in call.request for call in provider.calls)
    assert len(events) == 6


def test_a_body_that_is_read_by_hand_is_not_added_to(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    """The chunk could not be kept from who reads lines."""
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES, stream=True
    ) as response:
        lines = list(response.iter_lines())
    assert "stream_options" not in provider.calls[0].request
    assert not any('"usage"' in line for line in lines)
    assert outcomes(events) == ["stop success"]
    assert "input_tokens" not in events[-1].measurements


def test_nothing_is_added_where_nobody_listens(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    llmevents.instrument("openai", bus=Bus(), include_stream_usage=True)
    read(client)
    llmevents.uninstrument("openai")
    assert "stream_options" not in provider.calls[0].request


def test_chunks_without_choices_that_have_no_usage_are_the_callers(
    events: CapturedEvents,
) -> None:
    """Azure begins its streams with the results of its filter."""
    first = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
    filtered = {**first, "choices": [], "prompt_filter_results": []}
    word = {
        **first,
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}],
    }
    used = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    body = server_sent(filtered, word, {**first, "choices": [], "usage": used})
    chunks = read(client_of(lambda _request: answer(body)))
    assert [len(chunk.choices) for chunk in chunks] == [0, 1]
    assert events[-1].measurements["total_tokens"] == 3


def test_a_stream_that_is_left_early_has_no_usage_and_is_closed(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    next(stream)
    stream.close()
    assert stream.response.is_closed
    assert outcomes(events) == ["stop cancelled"]
    assert events[-1].metadata["usage_complete"] is False


def test_an_async_stream_that_is_cancelled_says_so(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    async def leave(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        )

        async def use(items: AsyncIterator[Any]) -> None:
            async for _item in items:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await use(stream)
        await stream.close()

    in_async(provider, leave)
    assert outcomes(events) == ["stop cancelled"]


def test_text_completions_are_asked_too() -> None:
    sent = []
    part = {"id": "c", "object": "text_completion", "created": 0, "model": "m"}
    used = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    text = {"text": "Hi", "index": 0, "finish_reason": "stop"}
    body = server_sent(
        {**part, "choices": [text]}, {**part, "choices": [], "usage": used}
    )

    def serve(request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        sent.append(json.loads(request.content))
        return answer(body)

    bus = Bus(strict=True)
    llmevents.instrument("openai", bus=bus, include_stream_usage=True)
    with capture(*WITHOUT_REQUESTS, bus=bus) as events:
        parts = list(
            client_of(serve).completions.create(model="m", prompt="Hi", stream=True)
        )
    llmevents.uninstrument("openai")
    assert len(parts) == 1
    assert sent[0]["stream_options"] == {"include_usage": True}
    assert events[-1].measurements["total_tokens"] == 3
