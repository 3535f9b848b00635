"""The fake provider, seen through the OpenAI SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

from llmevents.testing.provider import FAULTS, Exchange, FakeProvider, Reply


HELLO: list[ChatCompletionUserMessageParam] = [
    {"role": "user", "content": "Hello there, provider"}
]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    with connect(provider) as opened:
        yield opened


def connect(provider: FakeProvider, max_retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=provider.base_url, api_key="test", max_retries=max_retries, timeout=10
    )


def stream(client: openai.OpenAI, **options: Any) -> list[ChatCompletionChunk]:  # noqa: ANN401  # options of the SDK
    with client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, **options
    ) as chunks:
        return list(chunks)


def test_a_chat_completion_has_every_part(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    """A word is a token; cached and reasoning tokens are parts of the totals."""
    provider.script(
        Reply(content="Good day.", cache_read_tokens=100, reasoning_tokens=20)
    )

    answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert answer.id == "chatcmpl-fake-000000"
    assert answer.object == "chat.completion"
    assert answer.created > 0
    assert answer.model == "gpt-4o"
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == "Good day."
    assert choice.finish_reason == "stop"
    usage = answer.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (
        103,
        100,
    )
    assert usage.completion_tokens == 22
    assert usage.completion_tokens_details.reasoning_tokens == 20
    assert usage.total_tokens == 125


def test_a_served_call_says_what_was_asked_and_stated(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    client.chat.completions.create(model="gpt-4o", messages=HELLO)

    (call,) = provider.calls
    assert call.operation == "chat"
    assert call.path == "/v1/chat/completions"
    assert (call.model, call.stream, call.status) == ("gpt-4o", False, 200)
    assert call.request["messages"] == HELLO
    assert (call.completed, call.dropped, call.failed) == (True, False, False)
    assert (call.input_tokens, call.output_tokens) == (3, 8)
    assert (call.cache_read_tokens, call.reasoning_tokens) == (0, 0)


def test_text_parts_are_counted_and_other_parts_are_not(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    client.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:,x"}},
                ],
            },
            {"role": "assistant", "content": None},
        ],
    )

    assert provider.totals().input_tokens == 5


def test_scripted_usage_is_stated_as_it_is(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    provider.script(
        Reply(
            input_tokens=1000,
            output_tokens=500,
            cache_read_tokens=1000,
            response_model="gpt-4o-2024-08-06",
            finish_reason="length",
        ),
        Reply(states_usage=False),
    )

    scripted = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    silent = client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert scripted.usage is not None
    assert scripted.usage.total_tokens == 1500
    assert scripted.model == "gpt-4o-2024-08-06"
    assert scripted.choices[0].finish_reason == "length"
    assert silent.usage is None
    assert provider.totals().usage_stated == 1
    assert provider.calls[1].input_tokens is None


def test_a_stream_without_usage_never_mentions_it(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    chunks = stream(client)

    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "This is a reply from the fake provider."
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert provider.calls[0].completed
    assert not provider.calls[0].usage_stated


def test_a_stream_with_usage_states_it_once_at_the_end(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    """The other chunks have a null, and the last one has no choices."""
    provider.script(Reply(content=" two  words ", reasoning_tokens=4))

    *chunks, last = stream(client, stream_options={"include_usage": True})

    assert all(chunk.usage is None for chunk in chunks)
    assert all("usage" in chunk.model_fields_set for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == " two  words "
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 6)
    assert provider.totals("chat").output_tokens == 6


@pytest.mark.parametrize(
    "options", [{"include_usage": False}, {}, None], ids=["false", "empty", "null"]
)
def test_usage_that_was_not_asked_for_is_not_streamed(
    provider: FakeProvider, client: openai.OpenAI, options: object
) -> None:
    assert all(chunk.choices for chunk in stream(client, stream_options=options))
    assert provider.totals().usage_stated == 0


def test_a_provider_may_withhold_usage_that_was_asked_for(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    provider.script(Reply(states_usage=False))

    assert all(
        chunk.choices
        for chunk in stream(client, stream_options={"include_usage": True})
    )


def test_embeddings_are_unit_vectors_of_their_texts(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    """Base64 is what the SDK asks for by itself; floats are the same numbers."""
    texts = ["one two", "three", "one two"]

    packed = client.embeddings.create(model="text-embedding-3-small", input=texts)
    floats = client.embeddings.create(
        model="text-embedding-3-small", input=texts, encoding_format="float"
    )

    assert provider.calls[0].request["encoding_format"] == "base64"
    first, second, third = (datum.embedding for datum in packed.data)
    assert [datum.index for datum in packed.data] == [0, 1, 2]
    assert len(first) == 1536
    assert sum(number * number for number in first) == pytest.approx(1.0, abs=1e-5)
    assert first == third != second
    assert [datum.embedding for datum in floats.data] == [first, second, third]
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 5
    assert provider.totals("embeddings").input_tokens == 10
    assert provider.calls[0].output_tokens is None


@pytest.mark.parametrize(
    ("given", "count", "tokens"),
    [
        pytest.param("one two three", 1, 3, id="text"),
        pytest.param([5, 6, 7, 8], 1, 4, id="tokens"),
        pytest.param([[5, 6], [7]], 2, 3, id="lists-of-tokens"),
    ],
)
def test_every_form_of_input_is_embedded(
    client: openai.OpenAI,
    given: Any,  # noqa: ANN401  # one of the forms of the SDK
    count: int,
    tokens: int,
) -> None:
    answer = client.embeddings.create(
        model="m", input="x", dimensions=4, extra_body={"input": given}
    )

    assert [len(datum.embedding) for datum in answer.data] == [4] * count
    assert answer.usage.total_tokens == tokens


def test_scripted_usage_of_embeddings_is_stated(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    provider.script(Reply(input_tokens=77), Reply(states_usage=False))

    stated = client.embeddings.create(model="m", input="a", dimensions=1)
    client.embeddings.create(model="m", input="a", dimensions=1)

    assert stated.usage.prompt_tokens == 77
    assert [call.input_tokens for call in provider.calls] == [77, None]


def test_models_list_what_can_be_asked_for() -> None:
    with (
        FakeProvider(models={"mine": Reply(content="Mine.")}) as provider,
        connect(provider) as client,
    ):
        names = [model.id for model in client.models.list()]
        answer = client.chat.completions.create(model="mine", messages=HELLO)

    assert {"gpt-4o", "mine", *FAULTS} <= set(names)
    assert answer.choices[0].message.content == "Mine."
    assert provider.totals("models").calls == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param("fault-401", openai.AuthenticationError, id="401"),
        pytest.param("fault-429", openai.RateLimitError, id="429"),
        pytest.param("fault-500", openai.InternalServerError, id="500"),
    ],
)
def test_error_statuses_become_typed_errors(
    client: openai.OpenAI, fault: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error, match="Error code") as caught:
        client.chat.completions.create(model=fault, messages=HELLO)

    assert FAULTS[fault].error_message in caught.value.message
    assert caught.value.code == FAULTS[fault].error_code
    assert caught.value.type == FAULTS[fault].error_type
    assert caught.value.request_id == "req_fake_000000"


def test_a_rate_limit_carries_its_headers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError, match="Rate limit") as caught:
        client.chat.completions.create(model="fault-429", messages=HELLO)

    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.response.headers["x-ratelimit-limit-tokens"] == "10000"


@pytest.mark.parametrize("fault", ["fault-disconnect", "fault-drop"])
def test_a_dropped_connection_is_a_connection_error(
    provider: FakeProvider, client: openai.OpenAI, fault: str
) -> None:
    with pytest.raises(openai.APIConnectionError, match="Connection error"):
        client.chat.completions.create(model=fault, messages=HELLO)

    assert provider.totals().errors == 1


def test_a_dropped_stream_ends_in_an_error_after_its_first_chunks(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    """Version 2 of the SDK lets the error of its HTTP library through."""
    received: list[ChatCompletionChunk] = []
    with (
        client.chat.completions.create(
            model="fault-drop",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        ) as chunks,
        pytest.raises(Exception, match=r"Connection error|peer closed connection"),
    ):
        received.extend(chunks)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in received)
    assert text == "This is "
    (call,) = provider.calls
    assert (call.status, call.completed, call.dropped) == (200, False, True)
    assert not call.usage_stated


def test_a_slow_answer_runs_into_the_timeout_of_the_client() -> None:
    slow = Reply(delay_seconds=float("inf"))
    with (
        FakeProvider(models={"fault-slow": slow}) as provider,
        connect(provider) as client,
    ):
        with pytest.raises(openai.APITimeoutError, match="timed out"):
            client.with_options(timeout=0.05).chat.completions.create(
                model="fault-slow", messages=HELLO
            )
        (call,) = provider.wait_for(bool)

    assert (call.model, call.status) == ("fault-slow", None)


def test_each_attempt_of_a_retry_takes_the_next_reply(provider: FakeProvider) -> None:
    provider.script(
        Reply.rate_limited(retry_after_seconds=0.001), Reply(content="At last.")
    )
    with connect(provider, max_retries=1) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert answer.choices[0].message.content == "At last."
    assert [call.status for call in provider.calls] == [429, 200]
    assert provider.totals().errors == 1


def test_a_recorded_error_is_not_retried(provider: FakeProvider) -> None:
    message = "Recorded."
    recorded = Exchange(
        id="1",
        source="test",
        provider="openai",
        operation="chat",
        stream=False,
        model=None,
        path="/v1/chat/completions",
        query="",
        request={},
        status=500,
        content_type="",
        response=json.dumps({"error": {"message": message}}).encode(),
        truth=None,
    )
    with (
        connect(provider, max_retries=2) as client,
        provider.serve(recorded),
        pytest.raises(openai.InternalServerError, match=message),
    ):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert provider.totals().calls == 1


def test_a_wrong_key_is_an_authentication_error() -> None:
    with (
        FakeProvider(api_key="right") as provider,
        connect(provider) as client,
        pytest.raises(openai.AuthenticationError, match="missing or is not"),
    ):
        client.models.list()


def test_the_async_client_is_served_too() -> None:
    """Concurrently, over connections of its own."""

    async def ask(client: openai.AsyncOpenAI) -> int:
        await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        await client.embeddings.create(model="m", input="one two", dimensions=2)
        with pytest.raises(openai.RateLimitError, match="Rate limit"):
            await client.chat.completions.create(model="fault-429", messages=HELLO)
        chunks = await client.chat.completions.create(
            model="gpt-4o",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
        async with chunks:
            usages = [chunk.usage async for chunk in chunks]
        assert usages[-1] is not None
        return usages[-1].total_tokens

    async def main(provider: FakeProvider) -> list[int]:
        async with openai.AsyncOpenAI(
            base_url=provider.base_url, api_key="test", max_retries=0, timeout=10
        ) as client:
            return await asyncio.gather(*(ask(client) for _ in range(8)))

    with FakeProvider() as provider:
        assert asyncio.run(main(provider)) == [11] * 8

    chat = provider.totals("chat")
    assert (chat.calls, chat.errors, chat.usage_stated) == (24, 8, 16)
    assert (chat.input_tokens, chat.output_tokens) == (48, 128)
    assert provider.totals("embeddings").input_tokens == 16


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"input_tokens": -1}, "input_tokens is -1", id="tokens"),
        pytest.param({"delay_seconds": float("nan")}, "is nan, expected", id="nan"),
        pytest.param({"drop_after": -1}, "drop_after is -1", id="drop"),
        pytest.param({"status": 100}, "status is 100, expected 200", id="status"),
        pytest.param(
            {"input_tokens": 1, "cache_read_tokens": 2}, "more than the 1", id="cached"
        ),
        pytest.param(
            {"output_tokens": 1, "reasoning_tokens": 2}, "more than the 1", id="thought"
        ),
        pytest.param({"headers": {"a b": ""}}, "RFC 9110", id="header-name"),
        pytest.param({"headers": {"a": "b\r\nc: d"}}, "printable ASCII", id="header"),
    ],
)
def test_an_impossible_reply_is_refused_when_made(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Reply(**options)


def test_a_script_names_only_what_is_registered(provider: FakeProvider) -> None:
    with pytest.raises(ValueError, match=r"under 'fault-418'; expected .*'fault-401'"):
        provider.script("fault-401", "fault-418")

    with connect(provider) as client:
        assert client.chat.completions.create(model="gpt-4o", messages=HELLO).choices
