"""Raw and streaming responses of openai, whose bodies their callers read themselves."""

from __future__ import annotations

import gc
from typing import Any

import openai
import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, Reply, capture
from tests.instrumentation.sdk import (
    CHUNKS,
    MESSAGES,
    WITH_USAGE,
    WITHOUT_REQUESTS,
    AsyncUse,
    Use,
    in_async,
    instrumented,
    refused,
    refused_later,
)
from tests.outcomes import outcomes


def test_a_raw_response_is_the_sdks_own(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert outcomes(events) == ["stop success"]
    assert events[-1].measurements["input_tokens"] == 2
    assert type(raw).__name__ == "LegacyAPIResponse"
    assert raw.headers["x-request-id"] == raw.request_id
    assert raw.parse() is raw.parse()
    assert len(events) == 2


def test_a_raw_embedding_states_its_dimensions_from_base64(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    raw = client.embeddings.with_raw_response.create(
        model="m", input=["one", "two"], dimensions=7
    )
    assert events[-1].measurements["dimensions"] == 7
    assert events[-1].measurements["texts"] == 2
    assert len(raw.parse().data[0].embedding) == 7


def test_a_raw_response_that_cannot_be_parsed_is_still_delivered(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    """Parsing is the caller's to do, and its errors the caller's to get."""
    provider.script(Reply(finish_reason="length", input_tokens=3, output_tokens=4))
    raw = client.chat.completions.with_raw_response.parse(model="m", messages=MESSAGES)
    assert raw.status_code == 200
    assert outcomes(events) == ["stop success"]
    assert events[-1].measurements["total_tokens"] == 7


def test_a_raw_stream_that_is_dropped_unparsed_was_cancelled(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    assert type(raw.http_response).__name__ == "Response"
    assert not hasattr(raw, "close")
    raw.http_response.close()
    del raw
    gc.collect()
    assert outcomes(events) == ["stop cancelled"]
    assert events[-1].metadata["usage_complete"] is False


class Loose(openai.BaseModel):
    """A type of the caller's own, that names no field of the response."""


def parse_twice(response: Any) -> object:  # noqa: ANN401
    parsed = response.parse()
    assert parsed is response.parse()
    return parsed.choices


def parse_to_a_type(response: Any) -> object:  # noqa: ANN401
    return response.parse(to=Loose).model_dump()["usage"]


def parse_to_text(response: Any) -> object:  # noqa: ANN401
    return len(response.parse(to=str))


def read_json(response: Any) -> object:  # noqa: ANN401
    return response.json()["usage"]


def read_bytes(response: Any) -> object:  # noqa: ANN401
    return len(response.read()), len(response.text())


def read_lines(response: Any) -> object:  # noqa: ANN401
    return len(list(response.iter_lines()))


def read_half(response: Any) -> object:  # noqa: ANN401
    chunks = response.iter_bytes(10)
    response.kept = chunks  # as soon as it is dropped, it closes the response
    return len(next(chunks))


def read_nothing(response: Any) -> object:  # noqa: ANN401
    return response.status_code, response.headers["content-type"]


def parse_wrongly(response: Any) -> object:  # noqa: ANN401
    return refused(lambda: response.parse(to=frozenset))


def close_by_hand(response: Any) -> object:  # noqa: ANN401
    response.read()
    return response.close(), response.close(), response.is_closed


BODY_USES: dict[str, tuple[Use, str, bool]] = {
    "parsed": (parse_twice, "stop success", True),
    "own type": (parse_to_a_type, "stop success", True),
    "text": (parse_to_text, "stop success", True),
    "json": (read_json, "stop success", True),
    "bytes": (read_bytes, "stop success", True),
    "lines": (read_lines, "stop success", False),
    "half": (read_half, "stop cancelled", False),
    "nothing": (read_nothing, "stop cancelled", False),
    "wrongly": (parse_wrongly, "exception error error", False),
    "by hand": (close_by_hand, "stop success", True),
}


@pytest.mark.parametrize(
    ("use", "end", "states_usage"), BODY_USES.values(), ids=BODY_USES
)
def test_a_response_that_the_caller_reads_itself_ends_as_it_was_read(
    use: Use, end: str, states_usage: bool, provider: FakeProvider
) -> None:
    def seen() -> object:
        with (
            openai.OpenAI(base_url=provider.base_url, api_key="test") as client,
            client.chat.completions.with_streaming_response.create(
                model="m", messages=MESSAGES
            ) as response,
        ):
            return use(response)

    bus = Bus(strict=True)
    bare = seen()
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = seen()
    assert watched == bare
    assert outcomes(events) == [end]
    assert ("input_tokens" in events[-1].measurements) is states_usage
    if end == "stop cancelled":
        assert events[-1].metadata["usage_complete"] is False


async def parse_twice_later(response: Any) -> object:  # noqa: ANN401
    parsed = await response.parse()
    assert parsed is await response.parse()
    return parsed.choices


async def parse_wrongly_later(response: Any) -> object:  # noqa: ANN401
    return await refused_later(response.parse(to=frozenset))


async def read_json_later(response: Any) -> object:  # noqa: ANN401
    return (await response.json())["usage"]


async def read_nothing_later(response: Any) -> object:  # noqa: ANN401
    return response.status_code


ASYNC_BODY_USES: dict[str, tuple[AsyncUse, str]] = {
    "parsed": (parse_twice_later, "stop success"),
    "json": (read_json_later, "stop success"),
    "wrongly": (parse_wrongly_later, "exception error error"),
    "nothing": (read_nothing_later, "stop cancelled"),
}


@pytest.mark.parametrize(("use", "end"), ASYNC_BODY_USES.values(), ids=ASYNC_BODY_USES)
def test_an_async_response_that_the_caller_reads_itself_ends_as_it_was_read(
    use: AsyncUse, end: str, provider: FakeProvider
) -> None:
    async def look(client: openai.AsyncOpenAI) -> object:
        async with client.chat.completions.with_streaming_response.create(
            model="m", messages=MESSAGES
        ) as response:
            return await use(response)

    bus = Bus(strict=True)
    bare = in_async(provider, look)
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = in_async(provider, look)
    assert watched == bare
    assert outcomes(events) == [end]


@pytest.mark.parametrize("early", [False, True], ids=["read", "left early"])
def test_a_stream_of_a_streaming_response_ends_with_it(
    early: bool, client: openai.OpenAI, events: CapturedEvents
) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
    ) as response:
        stream = response.parse()
        assert stream is response.parse()
        assert isinstance(stream, openai.Stream)
        if early:
            next(stream)
        else:
            assert len(list(stream)) == CHUNKS + 1
    assert outcomes(events) == ["stop cancelled" if early else "stop success"]
    assert ("input_tokens" in events[-1].measurements) is not early


def test_an_async_stream_of_a_streaming_response_ends_with_it(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        async with client.chat.completions.with_streaming_response.create(
            model="m", messages=MESSAGES, stream=True
        ) as response:
            stream = await response.parse()
            assert isinstance(stream, openai.AsyncStream)
            async for _ in stream:
                pass

    in_async(provider, use)
    assert outcomes(events) == ["stop success"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_response_that_cannot_be_closed_ends_all_the_same(
    asynchronous: bool, provider: FakeProvider, events: CapturedEvents
) -> None:
    msg = "cannot be closed"

    def fail() -> None:
        raise OSError(msg)

    async def fail_later() -> None:
        fail()

    async def use_later(client: openai.AsyncOpenAI) -> None:
        async with client.chat.completions.with_streaming_response.create(
            model="m", messages=MESSAGES
        ) as response:
            await response.read()
            response.http_response.aclose = fail_later  # type: ignore[method-assign]  # the network's part

    def use() -> None:
        with (
            openai.OpenAI(base_url=provider.base_url, api_key="test") as client,
            client.chat.completions.with_streaming_response.create(
                model="m", messages=MESSAGES
            ) as response,
        ):
            response.read()
            response.http_response.close = fail  # type: ignore[method-assign]  # the network's part

    with pytest.raises(OSError, match=msg):
        in_async(provider, use_later) if asynchronous else use()
    assert outcomes(events) == ["stop success"]
