"""Streams of openai within calls, which end with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import openai
import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, FakeProvider
from tests.instrumentation.sdk import (
    CHUNKS,
    MESSAGES,
    WITH_USAGE,
    Use,
    in_async,
)
from tests.outcomes import outcomes, until


if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk


def test_a_call_whose_block_returned_a_stream_ends_with_the_stream(
    client: openai.OpenAI, bus: Bus, events: CapturedEvents
) -> None:
    """Or its usage would come when there is nobody left to state it."""

    @llm.chat(model="m", bus=bus)
    def ask() -> openai.Stream[ChatCompletionChunk]:
        return client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
        )

    stream = ask()
    assert outcomes(events) == []
    client.chat.completions.create(model="m", messages=MESSAGES)
    assert outcomes(events) == ["stop success"], "a call of its own: the block is left"
    list(stream)
    assert outcomes(events) == ["stop success"] * 2
    assert events[-1].name == "llm.chat.stop"
    assert events[-1].measurements["input_tokens"] == 2
    assert events[-1].metadata["usage_complete"] is True


def close(stream: openai.Stream[ChatCompletionChunk]) -> None:
    stream.close()


def read_all(stream: openai.Stream[ChatCompletionChunk]) -> None:
    # Which error a dropped stream raises depends on the SDK's version.
    with suppress(Exception):
        list(stream)


@pytest.mark.parametrize(
    ("use", "end"),
    [
        pytest.param(close, "stop cancelled", id="closed"),
        pytest.param(
            read_all,
            "exception error error",
            id="dropped",
        ),
    ],
)
def test_a_call_that_ends_with_its_stream_ends_like_it(
    use: Use, end: str, client: openai.OpenAI, bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        stream = client.chat.completions.create(
            model="fault-drop", messages=MESSAGES, stream=True
        )
    use(stream)
    assert outcomes(events) == [end]
    assert events[-1].name.startswith("llm.chat.")
    assert events[-1].metadata["usage_complete"] is False


def test_a_call_waits_for_the_last_of_its_streams(
    client: openai.OpenAI, bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        streams = [
            client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
            )
            for _ in range(3)
        ]
    for stream in streams:
        assert events.named("llm.chat.stop") == []
        list(stream)
    assert events.named("llm.chat.stop")[0].measurements["input_tokens"] == 6


def test_a_call_that_fails_does_not_wait_for_its_streams(
    client: openai.OpenAI, bus: Bus, events: CapturedEvents
) -> None:
    msg = "the caller's own"
    kept = []

    @llm.chat(bus=bus)
    def fail() -> None:
        stream = client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
        )
        kept.append(stream)
        raise ValueError(msg)

    with pytest.raises(ValueError, match=msg):
        fail()
    assert events[-1].name == "llm.chat.exception"
    assert events[-1].metadata["usage_complete"] is False
    list(kept[0])
    assert outcomes(events) == ["exception error error"]


def test_an_observed_stream_of_the_sdk_is_counted_once(
    client: openai.OpenAI, bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        stream = client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
        )
        assert len(list(call.observe(stream))) == CHUNKS + 1
    stop = events.named("llm.chat.stop")[0]
    assert stop.measurements["input_tokens"] == 2
    assert stop.measurements["chunks"] == CHUNKS + 1
    assert stop.metadata["status"] == "success"


def test_an_observed_async_stream_of_the_sdk_is_counted_once(
    provider: FakeProvider, bus: Bus, events: CapturedEvents
) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        @llm.chat(bus=bus)
        async def answer() -> AsyncIterator[ChatCompletionChunk]:
            stream = await client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
            )
            async for chunk in stream:
                yield chunk

        assert len([chunk async for chunk in answer()]) == CHUNKS + 1

    in_async(provider, use)
    stop = events.named("llm.chat.stop")[0]
    assert stop.measurements["input_tokens"] == 2
    assert stop.measurements["chunks"] == CHUNKS + 1


def test_a_stream_may_outlive_the_instrumentation(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    stream = client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
    )
    llmevents.uninstrument("openai")
    list(stream)
    assert outcomes(events) == ["stop success"]
    assert events[-1].measurements["input_tokens"] == 2


def test_what_the_reader_changes_in_a_chunk_is_its_own(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    """Usage is read before the caller gets the chunk."""
    for chunk in client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
    ):
        chunk.usage = None
    assert events[-1].measurements["input_tokens"] == 2


def test_tasks_wait_for_streams_side_by_side(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        async def read() -> int:
            stream = await client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
            )
            return len([chunk async for chunk in stream])

        tasks = [asyncio.create_task(read()) for _ in range(5)]
        await until(lambda: all(task.done() for task in tasks))
        assert {task.result() for task in tasks} == {CHUNKS + 1}

    in_async(provider, use)
    stops = events.named("llm.chat.stop")
    assert [stop.measurements["chunks"] for stop in stops] == [CHUNKS + 1] * 5
    told = sum(stop.measurements["output_tokens"] for stop in stops)
    assert told == provider.totals("chat").output_tokens
