"""Calls of openai within other calls: one owner, and nothing counted twice."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import openai
import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, FakeProvider, capture
from tests.instrumentation.sdk import (
    MESSAGES,
    TIMEOUT_SECONDS,
    WITHOUT_REQUESTS,
    in_async,
    instrumented,
)
from tests.outcomes import outcomes


def test_the_sdk_in_a_block_is_one_call_with_one_request(
    client: openai.OpenAI, bus: Bus, all_events: CapturedEvents
) -> None:
    with llm.chat(provider="openai", model="gpt-4o", bus=bus) as call:
        answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        call.record(answer)
    assert all_events.names() == [
        "llm.chat.start",
        "llm.provider.request.start",
        "llm.provider.request.stop",
        "llm.chat.stop",
    ]
    assert answer.usage is not None
    assert all_events[3].measurements["total_tokens"] == answer.usage.total_tokens
    assert set(all_events[2].measurements) == {"duration", "monotonic_time"}
    ids = [event.metadata["span_id"] for event in all_events]
    assert [ids[0], ids[1]] == [ids[3], ids[2]]
    assert all_events[1].metadata["parent_span_id"] == ids[0]


def test_an_embedding_in_a_chat_is_part_of_it(
    client: openai.OpenAI, bus: Bus, all_events: CapturedEvents
) -> None:
    """Its tokens are the chat's; texts and dimensions are no facts about a chat."""
    with llm.chat(bus=bus):
        client.embeddings.create(model="m", input=["one two", "three"])
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    stop = all_events.named("llm.chat.stop")[0]
    assert stop.measurements["input_tokens"] == 3 + 2
    assert not {"texts", "dimensions"} & set(stop.measurements)


def test_embeddings_in_an_embedding_add_up(
    client: openai.OpenAI, bus: Bus, all_events: CapturedEvents
) -> None:
    with llm.embedding(bus=bus):
        client.embeddings.create(model="m", input=["one two", "three"], dimensions=8)
        client.embeddings.create(model="m", input="four", dimensions=8)
    stop = all_events.named("llm.embedding.stop")[0]
    assert stop.measurements["texts"] == 3
    assert stop.measurements["dimensions"] == 8
    assert stop.measurements["input_tokens"] == 4


def test_what_is_counted_does_not_depend_on_who_else_listens(
    client: openai.OpenAI,
) -> None:
    """Nobody hears requests or embeddings here, and yet they belong to the chat."""
    bus = Bus()
    with instrumented(bus), capture("llm.chat.stop", bus=bus) as all_events:
        for _ in range(2):
            with llm.chat(bus=bus), llm.chat(bus=bus) as inner:
                client.embeddings.create(model="m", input=["one two", "three"])
                inner.record(
                    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
                )
    assert [event.measurements["input_tokens"] for event in all_events] == [5, 5]


def test_the_requests_of_threads_and_tasks_add_up(
    client: openai.OpenAI, provider: FakeProvider, bus: Bus, all_events: CapturedEvents
) -> None:
    def ask() -> None:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    with llm.chat(bus=bus):
        threads = [threading.Thread(target=llmevents.propagate(ask)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_SECONDS)

    async def ask_both(client: openai.AsyncOpenAI) -> None:
        async with _async_block(bus):
            await asyncio.gather(
                *(
                    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
                    for _ in range(2)
                )
            )

    in_async(provider, ask_both)
    stops = all_events.named("llm.chat.stop")
    assert [stop.measurements["input_tokens"] for stop in stops] == [4, 4]
    assert len(all_events.named("llm.provider.request.stop")) == 4
    assert provider.totals().input_tokens == 8


class _async_block:  # noqa: N801  # as the block that it is
    """A call as an ``async with`` block, which `contextlib` would make of it."""

    def __init__(self, bus: Bus) -> None:
        self._scope = llm.chat(bus=bus)

    async def __aenter__(self) -> None:
        self._scope.__enter__()

    async def __aexit__(self, *exception: Any) -> None:  # noqa: ANN401, PYI036  # three types
        self._scope.__exit__(*exception)


def test_a_request_that_fails_is_the_requests_error_and_not_the_calls(
    client: openai.OpenAI, bus: Bus, all_events: CapturedEvents
) -> None:
    """A retry by hand: one call, two requests, and the usage of the one that worked."""
    with llm.chat(bus=bus):
        with pytest.raises(openai.InternalServerError, match="had an error"):
            client.chat.completions.create(model="fault-500", messages=MESSAGES)
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert outcomes(all_events) == ["stop error", "stop success", "stop success"]
    assert all_events[2].metadata["http_status"] == 500
    assert all_events[-1].name == "llm.chat.stop"
    assert all_events[-1].measurements["input_tokens"] == 2
    assert all_events[-1].metadata["usage_complete"] is True


def test_a_call_of_another_bus_owns_nothing_here(
    client: openai.OpenAI, all_events: CapturedEvents
) -> None:
    """Buses are independent: who listens on this one must not miss a call."""
    other = Bus(strict=True)
    with capture(*WITHOUT_REQUESTS, bus=other) as elsewhere, llm.chat(bus=other):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert all_events.names() == [
        "llm.chat.start",
        "llm.provider.request.start",
        "llm.provider.request.stop",
        "llm.chat.stop",
    ]
    assert all_events[-1].measurements["input_tokens"] == 2
    assert elsewhere.names() == ["llm.chat.start", "llm.chat.stop"]
    assert "input_tokens" not in elsewhere[-1].measurements
