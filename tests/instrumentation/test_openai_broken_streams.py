"""Streams of openai that fail, stall, are closed by others or cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import openai
import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, Reply, capture
from tests.instrumentation.sdk import (
    MESSAGES,
    TIMEOUT_SECONDS,
    WITHOUT_REQUESTS,
    described,
    in_async,
    instrumented,
    refused,
    refused_later,
    without_id,
)
from tests.outcomes import outcomes


if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_dropped_stream_ends_once_in_the_error_that_the_caller_gets(
    asynchronous: bool, provider: FakeProvider, client: openai.OpenAI
) -> None:
    """Which error that is depends on the SDK's version, not on us."""

    def read() -> object:
        stream = client.chat.completions.create(
            model="fault-drop", messages=MESSAGES, stream=True
        )
        return without_id([next(stream) for _ in range(3)]), refused(
            lambda: next(stream)
        )

    async def read_later(client: openai.AsyncOpenAI) -> object:
        stream = await client.chat.completions.create(
            model="fault-drop", messages=MESSAGES, stream=True
        )
        seen = without_id([await anext(stream) for _ in range(3)])
        return seen, await refused_later(anext(stream))

    def seen() -> object:
        return in_async(provider, read_later) if asynchronous else read()

    bus = Bus(strict=True)
    bare = seen()
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = seen()
    assert watched == bare
    assert outcomes(events) == ["exception error error"]
    assert events[-1].measurements["chunks"] == 3
    assert events[-1].metadata["usage_complete"] is False


def test_a_stream_that_stalls_times_out(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(Reply(chunk_delay_seconds=120))
    stream = client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, timeout=60
    )
    # From here on: on a busy machine the response itself may take longer to begin.
    stream.response.request.extensions["timeout"]["read"] = 0.5
    # openai 3 says APITimeoutError here, openai 2 lets the HTTP library's through.
    with pytest.raises(Exception, match="timed out"):
        list(stream)
    assert outcomes(events) == ["exception timeout error"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("model", ["fault-401", "fault-429", "fault-500"])
def test_a_stream_that_is_refused_is_an_error_before_it_begins(
    model: str, asynchronous: bool, provider: FakeProvider, events: CapturedEvents
) -> None:
    if asynchronous:

        async def ask(client: openai.AsyncOpenAI) -> None:
            with pytest.raises(openai.APIStatusError, match="Error code"):
                await client.chat.completions.create(
                    model=model, messages=MESSAGES, stream=True
                )

        in_async(provider, ask)
    else:
        with (
            openai.OpenAI(
                base_url=provider.base_url, api_key="test", max_retries=0
            ) as client,
            pytest.raises(openai.APIStatusError, match="Error code"),
        ):
            client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    assert outcomes(events) == ["exception error error"]
    assert events[-1].metadata["http_status"] == int(model[-3:])


def test_an_error_within_a_stream_is_the_calls(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    """OpenAI sends some errors as an event of a stream that began with 200."""
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    original = stream.response.iter_bytes

    def iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:  # noqa: ANN401
        yield next(original(*args, **kwargs))
        yield b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'

    stream.response.iter_bytes = iter_bytes  # type: ignore[method-assign]  # the server's part
    with pytest.raises(openai.APIError, match="overloaded"):
        list(stream)
    assert outcomes(events) == ["exception error error"]


def test_another_thread_may_close_a_stream_that_is_being_read(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    """A stop button: the SDK closes the response, whatever its generators do."""
    # Many short waits: who reads is soon woken up, and the end is far away.
    provider.script(*[Reply(chunk_delay_seconds=0.05, content="word " * 2_000)] * 2)

    def seen() -> object:
        closed: list[object] = []
        stream = client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        )
        next(stream)
        reading = threading.Event()

        def close() -> None:
            reading.wait(TIMEOUT_SECONDS)
            closed.append(refused(stream.close))

        closer = threading.Thread(target=close)
        closer.start()
        reading.set()
        with suppress(Exception):
            list(stream)
        closer.join(TIMEOUT_SECONDS)
        assert not closer.is_alive()
        return closed

    bus = Bus(strict=True)
    bare = seen()
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = seen()
    assert watched == bare == [described(None)]
    # Whoever is first: the one who closes, or the read that this breaks off.
    assert outcomes(events) in (["stop cancelled"], ["exception error error"])


def test_another_task_may_close_a_stream_that_is_being_read(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(Reply(chunk_delay_seconds=0.05, content="word " * 100))

    async def use(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        )
        await anext(stream)
        reader = asyncio.ensure_future(_next_of(stream))
        await asyncio.sleep(0)
        await stream.close()
        reader.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await reader

    in_async(provider, use)
    assert outcomes(events) == ["stop cancelled"]


async def _next_of(
    stream: openai.AsyncStream[ChatCompletionChunk],
) -> ChatCompletionChunk:
    return await anext(stream)


def test_a_cancelled_reader_is_told_so(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(Reply(chunk_delay_seconds=60))

    async def use(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        )
        await anext(stream)
        reader = asyncio.create_task(_next_of(stream))
        await asyncio.sleep(0.01)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await stream.close()

    in_async(provider, use)
    assert outcomes(events) == ["exception cancelled cancelled"]
