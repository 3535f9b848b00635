"""What the events of openai say, and what they do not."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai
import pytest
from pydantic import BaseModel

import llmevents
from llmevents import Bus, llm
from llmevents.instrumentation._asked import count
from llmevents.testing import CapturedEvents, FakeProvider, Reply
from tests.instrumentation.sdk import (
    MESSAGES,
    in_async,
    instrumented,
)
from tests.outcomes import outcomes


if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam


def test_a_chat_is_told_with_its_parameters(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(
        Reply(
            response_model="gpt-4o-2024-08-06",
            input_tokens=11,
            output_tokens=7,
            cache_read_tokens=5,
            reasoning_tokens=3,
            finish_reason="length",
        )
    )
    client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        temperature=0.5,
        top_p=0.9,
        max_completion_tokens=7,
        seed=42,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        n=2,
    )
    start, stop = events
    asked = {
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 42,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "choice_count": 2,
        "server_address": "127.0.0.1",
        "server_port": urlsplit(provider.base_url).port,
        "scoped": False,
        "span_id": start.metadata["span_id"],
    }
    assert start.metadata == asked
    priced = {"cost_source", "price_date"}
    assert {k: v for k, v in stop.metadata.items() if k not in priced} == {
        **asked,
        "status": "success",
        "response_model": "gpt-4o-2024-08-06",
        "response_id": "chatcmpl-fake-000000",
        "service_tier": "default",
        "finish_reasons": ["length"],
        "usage_complete": True,
    }
    others = {"duration", "monotonic_time", "cost_nano_usd"}
    numbers = {k: v for k, v in stop.measurements.items() if k not in others}
    assert numbers == {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "cache_read_tokens": 5,
        "reasoning_tokens": 3,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
    }


def test_unknown_usage_is_absent(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(Reply(states_usage=False))
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert set(events[-1].measurements) == {"duration", "monotonic_time"}
    assert "usage_complete" not in events[-1].metadata


@pytest.mark.parametrize(
    ("asked", "features"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"tools": []}, None, id="no tools"),
        pytest.param({"response_format": {"type": "text"}}, None, id="plain text"),
        pytest.param(
            {"response_format": {"type": "json_object"}},
            ["structured_output"],
            id="json",
        ),
        pytest.param({"web_search_options": {}}, ["search_grounding"], id="search"),
        pytest.param(
            {
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s"},
                },
            },
            ["tools", "structured_output"],
            id="two",
        ),
    ],
)
def test_features_are_told_by_name(
    asked: Any,  # noqa: ANN401  # parameters of many types
    features: list[str] | None,
    client: openai.OpenAI,
    events: CapturedEvents,
) -> None:
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **asked)
    assert events[-1].metadata.get("features") == features


class Person(BaseModel):
    """What the model is to answer with."""

    name: str


def test_a_parsed_chat_is_a_chat(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    """``parse`` does not go through ``create``."""
    provider.script(Reply(content='{"name": "Ada"}', input_tokens=4, output_tokens=6))
    parsed = client.chat.completions.parse(
        model="gpt-4o", messages=MESSAGES, response_format=Person
    )
    assert parsed.choices[0].message.parsed == Person(name="Ada")
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]
    assert events[0].metadata["features"] == ["structured_output"]
    assert events[1].measurements["total_tokens"] == 10


def test_a_chat_that_cannot_be_parsed_states_what_it_used(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    """The SDK raises after the tokens have been spent."""
    provider.script(Reply(finish_reason="length", input_tokens=4, output_tokens=6))

    async def parse(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.LengthFinishReasonError, match="length limit"):
            await client.chat.completions.parse(
                model="gpt-4o", messages=MESSAGES, response_format=Person
            )

    in_async(provider, parse)
    assert outcomes(events) == ["exception error error"]
    assert events[-1].measurements["total_tokens"] == 10
    assert events[-1].metadata["usage_complete"] is True


@pytest.mark.parametrize("encoding", ["float", "base64", None])
@pytest.mark.parametrize("dimensions", [1, 2, 3, 256, 1536])
def test_an_embedding_states_its_texts_and_dimensions(
    encoding: Any,  # noqa: ANN401  # None is no value that the SDK's type allows
    dimensions: int,
    client: openai.OpenAI,
    events: CapturedEvents,
) -> None:
    """The SDK asks for base64 and decodes it unless the caller asks for either."""
    format_asked = {} if encoding is None else {"encoding_format": encoding}
    client.embeddings.create(
        model="text-embedding-3-small",
        input=["one two", "three"],
        dimensions=dimensions,
        **format_asked,
    )
    stop = events[-1]
    assert stop.name == "llm.embedding.stop"
    assert stop.measurements["texts"] == 2
    assert stop.measurements["dimensions"] == dimensions
    assert stop.measurements["input_tokens"] == 3
    assert "output_tokens" not in stop.measurements
    assert stop.metadata["operation"] == "embeddings"


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        pytest.param("one", 1, id="text"),
        pytest.param(["one", "two"], 2, id="texts"),
        pytest.param([1, 2, 3], 1, id="tokens"),
        pytest.param([[1, 2], [3]], 2, id="lists of tokens"),
        pytest.param(("one",), 1, id="tuple"),
        pytest.param([], 0, id="nothing"),
        pytest.param(None, None, id="missing"),
        pytest.param(iter(["one"]), None, id="iterator"),
    ],
)
def test_texts_are_counted_without_touching_them(
    given: object, texts: int | None
) -> None:
    assert count(given) == texts


def test_a_refused_embedding_still_says_how_many_texts_it_was_for(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    with pytest.raises(openai.InternalServerError, match="had an error"):
        client.embeddings.create(model="fault-500", input=["one", "two", "three"])
    assert events[-1].measurements["texts"] == 3
    assert "dimensions" not in events[-1].measurements


def test_no_content_is_in_any_event(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    """Prompts, tools, inputs, answers and vectors stay where they are."""
    canary = "canary-7f3a"
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": canary},
        {"role": "user", "content": [{"type": "text", "text": canary}], "name": canary},
    ]
    common: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": messages,
        "stop": [canary],
        "tools": [
            {"type": "function", "function": {"name": canary, "description": canary}}
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": canary, "schema": {"title": canary}},
        },
        "metadata": {"key": canary},
        "user": canary,
        "extra_headers": {"x-canary": canary},
        "extra_query": {"canary": canary},
        "extra_body": {"canary": canary},
    }
    reply = Reply(content=f"{canary} {canary}")
    provider.script(reply, reply, reply)
    client.chat.completions.create(**common)
    list(client.chat.completions.create(**common, stream=True))
    list(
        client.chat.completions.with_raw_response.create(**common, stream=True).parse()
    )
    client.embeddings.create(model="m", input=[canary], user=canary)
    with llm.chat(model="gpt-4o") as call:
        call.record({"choices": [{"message": {"content": canary}}], "usage": None})
    assert len(events.named("llm.*.stop")) == 4
    assert canary not in repr(events)


def test_the_clients_of_azure_are_told_apart(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    with (
        openai.AzureOpenAI(
            base_url=provider.base_url, api_key="test", api_version="2024-10-21"
        ) as azure,
        # Azure has the model in the path, and this provider one path alone.
        pytest.raises(openai.NotFoundError, match="Invalid URL"),
    ):
        azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert events[-1].metadata["provider"] == "azure.ai.openai"


def test_what_is_around_is_in_the_events(
    client: openai.OpenAI, bus: Bus, events: CapturedEvents
) -> None:
    llmevents.events.declare_span("myapp.answer")
    with llmevents.context(user_id="u-1"), llmevents.span("myapp.answer", bus=bus):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    outer = events.named("myapp.answer.start")[0].metadata["span_id"]
    for event in events.named("llm.chat.*"):
        assert event.metadata["user_id"] == "u-1"
        assert event.metadata["parent_span_id"] == outer


def test_nothing_is_added_to_a_request(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    sent = {"model": "m", "messages": json.loads(json.dumps(MESSAGES)), "stream": True}
    assert provider.calls[0].request == sent


def test_calls_that_nobody_hears_are_the_sdks_own(
    client: openai.OpenAI, provider: FakeProvider
) -> None:
    """Results and coroutines come straight from the SDK."""

    async def ask(client: openai.AsyncOpenAI) -> None:
        for _ in range(2):
            stream = await client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True
            )
            async for _chunk in stream:
                pass
            assert type(stream) is openai.AsyncStream

    with instrumented(Bus()):
        for _ in range(2):
            stream = client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True
            )
            list(stream)
            assert type(stream) is openai.Stream
        in_async(provider, ask)
