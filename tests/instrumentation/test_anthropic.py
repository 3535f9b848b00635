"""The anthropic SDK: every way to ask for a message, and every way that can end."""

# ruff: noqa: ANN401  # clients, parameters and results are the SDK's own, of any type

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, capture
from tests.instrumentation.sdk import described


anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is missing")

import httpx2  # noqa: E402  # comes with the SDK

from tests.instrumentation.anthropic_sdk import (  # noqa: E402  # needs the SDK
    ASKED,
    ERROR_EVENT,
    EVENTS,
    USED,
    Body,
    Wire,
    in_loop,
    instrumented,
    message,
    refusal,
    server_sent,
    stream,
)


class City(BaseModel):
    city: str


class Number(BaseModel):
    city: int


@pytest.fixture
def bus() -> Iterator[Bus]:
    strict = Bus(strict=True)
    with instrumented(strict):
        yield strict


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    """The calls' own events, without those of chunks and of attempts on the wire."""
    with capture(
        "llm.*.start", "llm.*.stop", "llm.*.exception", bus=bus, scope="process"
    ) as seen:
        yield seen


def ended(events: CapturedEvents, status: str = "success") -> dict[str, Any]:
    """Return the metadata of the only call's end, once it is seen to be right."""
    ending = "exception" if status in {"error", "timeout"} else "stop"
    assert [each.name for each in events] == ["llm.chat.start", f"llm.chat.{ending}"]
    end = events[-1]
    assert end.metadata["status"] == status
    assert end.metadata["provider"] == "anthropic"
    return dict(end.metadata)


def used(events: CapturedEvents) -> dict[str, Any]:
    return {key: events[-1].measurements.get(key) for key in USED}


# --- What a caller does ---------------------------------------------------------------

Use = Callable[[Any], object]


def create(client: Any) -> object:
    return client.messages.create(**ASKED)


def beta(client: Any) -> object:
    return client.beta.messages.create(**ASKED)


def parse(client: Any) -> object:
    return client.messages.parse(**ASKED, output_format=City)


def beta_parse(client: Any) -> object:
    return client.beta.messages.parse(**ASKED, output_format=City)


def raw(client: Any) -> object:
    response = client.messages.with_raw_response.create(**ASKED)
    assert isinstance(response, anthropic.APIResponse)
    return response.status_code, described(response.parse())


def raw_unparsed(client: Any) -> object:
    return client.messages.with_raw_response.create(**ASKED).http_response.content


def streaming_response(client: Any) -> object:
    with client.messages.with_streaming_response.create(**ASKED) as response:
        return described(response.parse())


def streaming_response_read(client: Any) -> object:
    with client.messages.with_streaming_response.create(**ASKED) as response:
        return response.read()


def create_stream(client: Any) -> object:
    chunks = client.messages.create(**ASKED, stream=True)
    assert isinstance(chunks, anthropic.Stream)
    return list(chunks)


def create_stream_in_block(client: Any) -> object:
    with client.messages.create(**ASKED, stream=True) as chunks:
        return list(chunks)


def beta_stream(client: Any) -> object:
    return list(client.beta.messages.create(**ASKED, stream=True))


def raw_stream(client: Any) -> object:
    response = client.messages.with_raw_response.create(**ASKED, stream=True)
    return list(response.parse())


def helper(client: Any) -> object:
    with client.messages.stream(**ASKED) as helped:
        return list(helped)


def helper_text(client: Any) -> object:
    with client.messages.stream(**ASKED) as helped:
        return list(helped.text_stream)


def helper_final(client: Any) -> object:
    with client.messages.stream(**ASKED) as helped:
        return helped.get_final_message()


def helper_parsed(client: Any) -> object:
    with client.messages.stream(**ASKED, output_format=City) as helped:
        return helped.get_final_message().parsed_output


def beta_helper(client: Any) -> object:
    with client.beta.messages.stream(**ASKED) as helped:
        return helped.get_final_text()


PLAIN: list[Use] = [
    create,
    beta,
    parse,
    beta_parse,
    raw,
    raw_unparsed,
    streaming_response,
    streaming_response_read,
]
STREAMED: list[Use] = [
    create_stream,
    create_stream_in_block,
    beta_stream,
    raw_stream,
    helper,
    helper_text,
    helper_final,
    helper_parsed,
    beta_helper,
]


async def create_async(client: Any) -> object:
    return await client.messages.create(**ASKED)


async def parse_async(client: Any) -> object:
    return await client.messages.parse(**ASKED, output_format=City)


async def raw_async(client: Any) -> object:
    response = await client.messages.with_raw_response.create(**ASKED)
    return described(await response.parse())


async def streaming_response_async(client: Any) -> object:
    async with client.messages.with_streaming_response.create(**ASKED) as response:
        return described(await response.parse())


async def create_stream_async(client: Any) -> object:
    chunks = await client.messages.create(**ASKED, stream=True)
    assert isinstance(chunks, anthropic.AsyncStream)
    return [chunk async for chunk in chunks]


async def helper_async(client: Any) -> object:
    async with client.messages.stream(**ASKED) as helped:
        return [text async for text in helped.text_stream]


async def helper_final_async(client: Any) -> object:
    async with client.beta.messages.stream(**ASKED) as helped:
        return await helped.get_final_message()


PLAIN_ASYNC = [create_async, parse_async, raw_async, streaming_response_async]
STREAMED_ASYNC = [create_stream_async, helper_async, helper_final_async]


def seen_of(use: Use, *replies: Callable[[], Any], **options: Any) -> object:
    """Return all that a caller and the provider can tell of *use*."""
    wire = Wire(*replies)
    try:
        found = described(use(wire.client(**options)))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the same without us
        found = described(error)
    return found, wire.sent


def seen_of_async(use: Callable[[Any], Any], *replies: Callable[[], Any]) -> object:
    wire = Wire(*replies)

    async def main() -> object:
        async with wire.async_client() as client:
            try:
                return described(await use(client))
            except Exception as error:  # noqa: BLE001  # likewise
                return described(error)

    return in_loop(main), wire.sent


# --- Everything that succeeds ---------------------------------------------------------


@pytest.mark.parametrize("use", PLAIN, ids=lambda use: use.__name__)
def test_every_way_to_ask_is_one_call_and_the_caller_notices_nothing(use: Use) -> None:
    """The result, and the request byte for byte, are those without us."""
    bus = Bus(strict=True)
    bare = seen_of(use)
    with instrumented(bus), capture("llm.chat.*", bus=bus, scope="process") as events:
        watched = seen_of(use)
    assert watched == bare
    end = ended(events)
    assert used(events) == USED
    assert end["model"] == ASKED["model"]
    assert end["response_model"] == "claude-sonnet-4-6-20260101"
    assert end["max_tokens"] == 64
    assert "stream" not in end


@pytest.mark.parametrize("use", STREAMED, ids=lambda use: use.__name__)
def test_every_way_to_stream_is_one_call_and_the_caller_notices_nothing(
    use: Use,
) -> None:
    bus = Bus(strict=True)
    bare = seen_of(use, stream)
    with (
        instrumented(bus),
        capture("llm.*.start", "llm.*.stop", bus=bus, scope="process") as events,
    ):
        watched = seen_of(use, stream)
    assert watched == bare
    end = ended(events)
    assert used(events) == USED
    assert end["stream"] is True
    assert end["usage_complete"] is True
    assert events[-1].measurements["chunks"] == len(EVENTS)


@pytest.mark.parametrize("use", PLAIN_ASYNC, ids=lambda use: use.__name__)
def test_every_asynchronous_way_to_ask_is_one_call(use: Callable[[Any], Any]) -> None:
    bus = Bus(strict=True)
    bare = seen_of_async(use)
    with instrumented(bus), capture("llm.chat.*", bus=bus, scope="process") as events:
        watched = seen_of_async(use)
    assert watched == bare
    ended(events)
    assert used(events) == USED


@pytest.mark.parametrize("use", STREAMED_ASYNC, ids=lambda use: use.__name__)
def test_every_asynchronous_way_to_stream_is_one_call(
    use: Callable[[Any], Any],
) -> None:
    bus = Bus(strict=True)
    bare = seen_of_async(use, stream)
    with (
        instrumented(bus),
        capture("llm.*.start", "llm.*.stop", bus=bus, scope="process") as events,
    ):
        watched = seen_of_async(use, stream)
    assert watched == bare
    ended(events)
    assert used(events) == USED


def test_counting_tokens_and_listing_models_are_no_calls(
    events: CapturedEvents,
) -> None:
    wire = Wire(
        lambda: httpx2.Response(200, json={"input_tokens": 3}),
        lambda: httpx2.Response(200, json={"data": [], "has_more": False}),
    )
    client = wire.client()
    asked = {key: value for key, value in ASKED.items() if key != "max_tokens"}
    assert client.messages.count_tokens(**asked).input_tokens == 3
    assert list(client.models.list()) == []
    assert events == []


def test_features_and_parameters_are_told_and_content_is_not(
    events: CapturedEvents,
) -> None:
    """Parameters that the SDK does not know any more come by ``extra_body``."""
    tools: list[Any] = [
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "secret", "input_schema": {"type": "object"}},
    ]
    form: Any = {"format": {"type": "json_schema", "schema": {}}}
    Wire().client().messages.create(
        **ASKED,
        tools=tools,
        output_config=form,
        extra_body={"temperature": 0.5},
    )
    start = events[0].metadata
    assert start["features"] == ["tools", "structured_output", "search_grounding"]
    assert start["temperature"] == 0.5
    assert "secret" not in repr(events)


def test_a_body_that_is_no_mapping_is_no_mistake(events: CapturedEvents) -> None:
    """The client's own ``post`` sends whatever it is given."""
    client = Wire(message, message).client()
    client.post("/v1/messages", cast_to=object)
    assert used(events) == USED
    assert "model" not in events[0].metadata
    client.post(
        "https://proxy.test/api/v1/messages?beta=true", body=ASKED, cast_to=object
    )
    assert events[-1].metadata["model"] == ASKED["model"]


def test_a_message_that_cannot_be_parsed_has_been_paid_for(
    events: CapturedEvents,
) -> None:
    with pytest.raises(ValueError, match="city"):
        Wire().client().messages.parse(**ASKED, output_format=Number)
    ended(events, "error")
    assert used(events) == USED


def test_each_step_of_the_tool_runner_is_a_call(events: CapturedEvents) -> None:
    @anthropic.beta_tool  # type: ignore[untyped-decorator]  # overloaded
    def weather(city: str) -> str:
        """Return the weather.

        Args:
            city: Where.
        """
        return f"Fog in {city}"

    asks = {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "weather",
        "input": {"city": "Bern"},
    }
    wire = Wire(lambda: message(content=[asks], stop_reason="tool_use"))
    runner = wire.client().beta.messages.tool_runner(**ASKED, tools=[weather])
    assert runner.until_done().stop_reason == "end_turn"
    assert [each.name for each in events] == ["llm.chat.start", "llm.chat.stop"] * 2
    assert events[1].metadata["finish_reasons"] == ["tool_use"]


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        pytest.param("AnthropicBedrock", "aws.bedrock", id="bedrock"),
        pytest.param("AnthropicVertex", "gcp.vertex_ai", id="vertex"),
    ],
)
def test_a_platforms_client_says_which_platform(
    name: str, provider: str, events: CapturedEvents
) -> None:
    wire = Wire()
    options: dict[str, Any] = {
        "AnthropicBedrock": {
            "aws_access_key": "x",
            "aws_secret_key": "y",
            "aws_region": "us-east-1",
        },
        "AnthropicVertex": {
            "access_token": "x",
            "project_id": "p",
            "region": "us-east5",
        },
    }
    try:
        client = getattr(anthropic, name)(
            http_client=httpx2.Client(transport=httpx2.MockTransport(wire.answer)),
            **options[name],
        )
        client.messages.create(**ASKED)
    except (ImportError, RuntimeError, anthropic.AnthropicError) as error:
        pytest.skip(f"this client needs more than the SDK itself: {error}")
    assert events[-1].metadata["provider"] == provider
    assert events[-1].metadata["model"] == ASKED["model"]
    assert used(events) == USED


# --- Everything that does not ---------------------------------------------------------


def read(events: list[dict[str, Any]], error: Exception | None = None) -> Any:
    return lambda: httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        stream=Body(server_sent(events), error),
    )


@pytest.mark.parametrize(
    "use", [create_stream, helper, helper_final], ids=lambda use: use.__name__
)
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(read([*EVENTS[:4], ERROR_EVENT]), id="error-event"),
        pytest.param(read(EVENTS[:4], httpx2.ReadError("gone")), id="broken"),
        pytest.param(read(EVENTS[:4], httpx2.ReadTimeout("late")), id="timeout"),
    ],
)
def test_a_stream_that_breaks_ends_the_call_with_its_error(
    use: Use, reply: Any, request: pytest.FixtureRequest
) -> None:
    """What was stated until then is told; the output count may be short."""
    bus = Bus(strict=True)
    bare = seen_of(use, reply)
    with (
        instrumented(bus),
        capture("llm.*.start", "llm.*.exception", bus=bus, scope="process") as events,
    ):
        watched = seen_of(use, reply)
    assert watched == bare
    timed_out = "timeout" in request.node.callspec.id
    end = ended(events, "timeout" if timed_out else "error")
    assert end["usage_complete"] is False
    assert events[-1].measurements["input_tokens"] == 35


def closed(client: Any) -> None:
    chunks = client.messages.create(**ASKED, stream=True)
    next(chunks)
    chunks.close()


def left(client: Any) -> None:
    with client.messages.create(**ASKED, stream=True) as chunks:
        next(chunks)


def dropped(client: Any) -> None:
    chunks = client.messages.create(**ASKED, stream=True)
    next(chunks)
    del chunks
    gc.collect()


def helper_left(client: Any) -> None:
    with client.messages.stream(**ASKED) as helped:
        next(helped)


def response_left(client: Any) -> None:
    with client.messages.with_streaming_response.create(**ASKED, stream=True):
        pass


@pytest.mark.parametrize(
    "use", [closed, left, dropped, helper_left], ids=lambda use: use.__name__
)
def test_a_stream_that_is_left_early_is_cancelled(
    use: Use, events: CapturedEvents
) -> None:
    use(Wire(stream).client())
    end = ended(events, "cancelled")
    assert end["usage_complete"] is False
    assert events[-1].measurements["input_tokens"] == 35


def test_a_response_of_which_nothing_is_read_is_cancelled(
    events: CapturedEvents,
) -> None:
    response_left(Wire(stream).client())
    assert ended(events, "cancelled")["usage_complete"] is False


def test_a_stream_that_the_provider_cuts_short_ends_once(
    events: CapturedEvents,
) -> None:
    list(Wire(read(EVENTS[:4])).client().messages.create(**ASKED, stream=True))
    ended(events)
    assert events[-1].measurements["input_tokens"] == 35


@pytest.mark.parametrize(
    ("reply", "status", "http_status"),
    [
        pytest.param(
            lambda: refusal(400, "invalid_request_error"), "error", 400, id="400"
        ),
        pytest.param(
            lambda: refusal(401, "authentication_error"), "error", 401, id="401"
        ),
        pytest.param(lambda: refusal(529, "overloaded_error"), "error", 529, id="529"),
        pytest.param(lambda: httpx2.ConnectError("no"), "error", None, id="no-route"),
        pytest.param(lambda: httpx2.ReadTimeout("late"), "timeout", None, id="timeout"),
    ],
)
@pytest.mark.parametrize("use", [create, helper, raw], ids=lambda use: use.__name__)
def test_a_refusal_ends_the_call_and_reaches_the_caller(
    use: Use, reply: Any, status: str, http_status: int | None
) -> None:
    bus = Bus(strict=True)
    bare = seen_of(use, reply)
    with instrumented(bus), capture("llm.chat.*", bus=bus, scope="process") as events:
        watched = seen_of(use, reply)
    assert watched == bare
    assert ended(events, status).get("http_status") == http_status


def test_attempts_are_requests_of_one_call(bus: Bus) -> None:
    """The SDK tries again by itself; the limits are Anthropic's headers."""
    limits = {
        "retry-after": "0.001",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-tokens-remaining": "12",
    }
    wire = Wire(lambda: refusal(429, "rate_limit_error", limits))
    with capture(bus=bus, scope="process") as events:
        wire.client(max_retries=1).messages.create(**ASKED)
    names = [
        each.name
        for each in events
        if each.event[0] == "llm" and each.event[1] != "cost"
    ]
    attempt = ["llm.provider.request.start", "llm.provider.request.stop"]
    assert names == [
        "llm.chat.start",
        attempt[0],
        "llm.provider.rate_limit",
        attempt[1],
        "llm.provider.retry",
        *attempt,
        "llm.chat.stop",
    ]
    assert dict(events[2].measurements) == {
        "retry_after": 1_000_000,
        "remaining_requests": 0,
        "remaining_tokens": 12,
    }


# --- Owners ---------------------------------------------------------------------------


@pytest.mark.parametrize("use", [create, helper_final], ids=lambda use: use.__name__)
def test_a_call_around_the_sdk_owns_what_it_used(use: Use, bus: Bus) -> None:
    reply = message if use is create else stream
    with (
        capture("llm.chat.*", bus=bus, scope="process") as events,
        llm.chat(provider="gateway", model="best", bus=bus),
    ):
        use(Wire(reply).client())
    names = [each.name for each in events if each.event[-1] in {"start", "stop"}]
    assert names == ["llm.chat.start", "llm.chat.stop"]
    assert events[-1].metadata["provider"] == "gateway"
    assert used(events) == USED


def test_a_stream_that_a_function_returns_ends_its_call(bus: Bus) -> None:
    @llm.chat(provider="gateway", model="best", bus=bus)
    def ask() -> Any:
        return Wire(stream).client().messages.create(**ASKED, stream=True)

    with capture("llm.chat.stop", bus=bus, scope="process") as events:
        chunks = ask()
        assert events == []
        assert len(list(chunks)) == len(EVENTS)
    assert used(events) == USED


def test_where_nobody_listens_the_sdk_gives_its_own() -> None:
    with instrumented(Bus()):
        chunks = Wire(stream).client().messages.create(**ASKED, stream=True)
        assert parse(Wire().client())
    assert type(chunks) is anthropic.Stream
    chunks.close()


# --- Versions -------------------------------------------------------------------------


def test_a_version_that_is_not_supported_is_named_and_left_alone() -> None:
    from llmevents.instrumentation import Choice, _anthropic
    from llmevents.instrumentation._patching import Patches

    module = types.ModuleType("anthropic")
    vars(module)["__version__"] = "9.1.0"
    with pytest.warns(RuntimeWarning, match=r"anthropic 9\.1\.0 .* 1\.x and 2\.x"):
        assert not _anthropic.patch(module, Choice(Bus()), Patches())


def test_a_version_without_spans_of_its_own_is_supported_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first ones of major 1 have none."""
    from anthropic import _base_client

    start = vars(_base_client)["start_api_call_span"]
    monkeypatch.delattr(_base_client, "start_api_call_span")
    bus = Bus(strict=True)
    with instrumented(bus):
        monkeypatch.setattr(_base_client, "start_api_call_span", start, raising=False)
        with capture("llm.chat.*", bus=bus) as events:
            Wire().client().messages.create(**ASKED)
    ended(events)


def test_uninstrument_gives_the_sdk_its_own_functions_back() -> None:
    from anthropic import _base_client

    owners = (_base_client.SyncAPIClient, _base_client.AsyncAPIClient, _base_client)
    names = ("request", "request", "start_api_call_span")
    before = [vars(owner)[name] for owner, name in zip(owners, names, strict=True)]
    llmevents.instrument("anthropic", bus=Bus())
    llmevents.uninstrument("anthropic")
    after = [vars(owner)[name] for owner, name in zip(owners, names, strict=True)]
    assert all(old is new for old, new in zip(before, after, strict=True))
