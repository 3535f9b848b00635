"""Bedrock's runtime through boto3: bodies, event streams, errors and attempts."""

# ruff: noqa: ANN401  # clients, parameters and results are the SDK's own, of any type

from __future__ import annotations

import gc
import io
import json
import types
from base64 import b64encode
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, capture


pytest.importorskip("boto3", reason="boto3 is missing")

from urllib3.exceptions import (  # comes with boto3
    ProtocolError,
    ReadTimeoutError,
)

from llmevents.instrumentation import _bedrock, _bedrock_bodies  # likewise
from tests.instrumentation.bedrock_sdk import (  # likewise
    CLAUDE,
    TOKENS,
    Raw,
    Wire,
    answer,
    conversed,
    event,
    instrumented,
    make_client,
    refusal,
)
from tests.instrumentation.bedrock_sdk import (  # likewise
    events as event_stream,
)


# They have no types.
botocore_client: Any = import_module("botocore.client")
exceptions: Any = import_module("botocore.exceptions")
Endpoint: Any = import_module("botocore.endpoint").Endpoint
EventStream: Any = import_module("botocore.eventstream").EventStream
StreamingBody: Any = import_module("botocore.response").StreamingBody
Stubber: Any = import_module("botocore.stub").Stubber

SAID = {"role": "user", "content": [{"text": "Hello"}]}

CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8},
    "metrics": {"latencyMs": 7},
}

INVOKED = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-3-haiku-20240307",
    "content": [{"type": "text", "text": "Hi\n" * 20}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 3},
}


@pytest.fixture
def bus() -> Iterator[Bus]:
    strict = Bus(strict=True)
    with instrumented(strict):
        yield strict


@pytest.fixture
def seen(bus: Bus) -> Iterator[CapturedEvents]:
    """The calls' own events, without those of chunks and of attempts on the wire."""
    with capture(
        "llm.*.start", "llm.*.stop", "llm.*.exception", bus=bus, scope="process"
    ) as captured:
        yield captured


def invoke(client: Any, model: str = CLAUDE, body: object = "{}") -> Any:
    return client.invoke_model(modelId=model, body=body)["body"]


def converse_stream(client: Any) -> Any:
    return client.converse_stream(
        modelId=CLAUDE, messages=[SAID], inferenceConfig={"maxTokens": 9}
    )["stream"]


def invoke_stream(client: Any) -> Any:
    found = client.invoke_model_with_response_stream(modelId=CLAUDE, body="{}")
    return found["body"]


def ended(events: CapturedEvents, status: str = "success") -> dict[str, Any]:
    """Return the metadata of the only call's end, once it is seen to be right."""
    ending = "exception" if status in {"error", "timeout"} else "stop"
    assert [each.name for each in events] == ["llm.chat.start", f"llm.chat.{ending}"]
    assert events[-1].metadata["status"] == status
    return dict(events[-1].metadata)


def tokens(events: CapturedEvents) -> tuple[int | None, int | None]:
    counts = events[-1].measurements
    return counts.get("input_tokens"), counts.get("output_tokens")  # type: ignore[return-value]  # tokens are whole


# --- Converse -------------------------------------------------------------------------


def test_converse_is_a_chat_with_its_parameters(seen: CapturedEvents) -> None:
    client = Wire(answer(CONVERSED)).client()
    found = client.converse(
        modelId=CLAUDE,
        messages=[SAID],
        inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.25},
        toolConfig={
            "tools": [
                {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}
            ]
        },
    )
    assert found["usage"] == CONVERSED["usage"]
    end = ended(seen)
    assert tokens(seen) == (5, 3)
    told = {
        "operation": "chat",
        "provider": "aws.bedrock",
        "model": CLAUDE,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "features": ["tools"],
        "finish_reasons": ["end_turn"],
    }
    assert {key: end.get(key) for key in told} == told
    assert "Hello" not in repr(seen)


def test_a_stream_of_events_ends_its_call_when_it_is_read(seen: CapturedEvents) -> None:
    client = Wire(event_stream(*conversed())).client()
    stream = converse_stream(client)
    assert isinstance(stream, EventStream)
    assert len(seen) == 1
    assert [next(iter(each)) for each in stream] == [
        "messageStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    end = ended(seen)
    assert tokens(seen) == (5, 3)
    assert end["stream"] is True
    assert end["usage_complete"] is True
    assert seen[-1].measurements["chunks"] == 5


def test_a_stream_may_be_gone_on_with(seen: CapturedEvents) -> None:
    """As without us: each loop takes up where the last one stopped."""
    stream = converse_stream(Wire(event_stream(*conversed())).client())
    for _ in stream:
        break
    assert len(list(stream)) == 4
    ended(seen)


def test_an_event_stream_is_no_iterator_with_us_either(seen: CapturedEvents) -> None:
    stream = converse_stream(Wire(event_stream(*conversed())).client())
    with pytest.raises(TypeError, match="not an iterator"):
        next(stream)
    stream.close()
    assert ended(seen, "cancelled")["usage_complete"] is False


def test_a_stream_that_is_dropped_is_cancelled(seen: CapturedEvents) -> None:
    stream = converse_stream(Wire(event_stream(*conversed())).client())
    next(iter(stream))
    del stream
    gc.collect()
    assert ended(seen, "cancelled")["usage_complete"] is False


def test_a_stream_that_is_cut_short_ends_as_it_does_without_us(
    seen: CapturedEvents,
) -> None:
    assert len(list(converse_stream(Wire(event_stream(*conversed(2))).client()))) == 2
    ended(seen)
    assert tokens(seen) == (None, None)


@pytest.mark.parametrize(
    ("kind", "is_limit"),
    [
        pytest.param("throttlingException", True, id="throttled"),
        pytest.param("modelStreamErrorException", False, id="model"),
    ],
)
def test_an_error_within_a_stream_ends_the_call(
    kind: str, is_limit: bool, bus: Bus, seen: CapturedEvents
) -> None:
    broken = event(kind, {"message": "No."}, is_error=True)
    stream = converse_stream(Wire(event_stream(*conversed(2), broken)).client())
    with (
        capture("llm.provider.rate_limit", bus=bus) as limits,
        pytest.raises(exceptions.EventStreamError, match=kind),
    ):
        list(stream)
    end = ended(seen, "error")
    assert end["error_type"].endswith("EventStreamError")
    assert [each.metadata["model"] for each in limits] == [CLAUDE] * is_limit


def test_an_error_of_another_kind_within_a_stream_ends_the_call(
    seen: CapturedEvents,
) -> None:
    body = Raw(b"", ProtocolError("gone"))
    stream = converse_stream(Wire((200, {}, body)).client())
    with pytest.raises(ProtocolError, match="gone"):
        list(stream)
    ended(seen, "error")


def test_an_invocations_stream_states_its_usage_in_a_chunk(
    seen: CapturedEvents,
) -> None:
    """Bedrock's metrics come at the end, in a chunk of the vendor's."""
    metrics = {"inputTokenCount": 5, "outputTokenCount": 3}
    body = {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}
    chunk = event("chunk", {"bytes": b64encode(json.dumps(body).encode()).decode()})
    (found,) = invoke_stream(Wire(event_stream(chunk)).client())
    assert json.loads(found["chunk"]["bytes"]) == body
    ended(seen)
    assert tokens(seen) == (5, 3)


# --- Bodies of InvokeModel ------------------------------------------------------------

Read = Callable[[Any], bytes]


def read_all(body: Any) -> bytes:
    found: bytes = body.read()
    return found


def read_pieces(body: Any) -> bytes:
    return b"".join(iter(lambda: body.read(16), b""))


def read_exactly(body: Any) -> bytes:
    found: bytes = body.read(len(json.dumps(INVOKED)))
    return found


def read_into(body: Any) -> bytes:
    buffer = bytearray(32)
    pieces = iter(lambda: body.readinto(buffer), 0)
    return b"".join(bytes(buffer[:count]) for count in pieces)


def read_chunks(body: Any) -> bytes:
    return b"".join(body.iter_chunks(16))


def read_lines(body: Any) -> bytes:
    return b"".join(body.iter_lines(16, keepends=True))


def read_raw_lines(body: Any) -> bytes:
    return b"".join(body.readlines())


def read_items(body: Any) -> bytes:
    return b"".join(body)


def read_within(body: Any) -> bytes:
    with body as raw:
        found: bytes = raw.read()
        return found


def read_raw_stream(body: Any) -> bytes:
    with body as raw:
        return b"".join(raw.stream(16))


def read_raw_items(body: Any) -> bytes:
    with body as raw, raw:
        return b"".join(raw)


def read_raw_next(body: Any) -> bytes:
    with body as raw:
        return b"".join(iter(lambda: next(raw, b""), b""))


def read_raw_readline(body: Any) -> bytes:
    with body as raw:
        return b"".join(iter(raw.readline, b""))


def read_raw_read1(body: Any) -> bytes:
    with body as raw:
        return b"".join(iter(lambda: raw.read1(16), b""))


READS: list[Read] = [
    read_all,
    read_pieces,
    read_into,
    read_chunks,
    read_lines,
    read_raw_lines,
    read_items,
    read_within,
    read_raw_stream,
    read_raw_items,
    read_raw_next,
    read_raw_readline,
    read_raw_read1,
]


def test_a_body_of_known_length_is_over_with_its_last_byte(
    seen: CapturedEvents,
) -> None:
    """A caller need not read on until there is nothing left."""
    body = invoke(Wire(answer(INVOKED)).client())
    assert json.loads(read_exactly(body)) == INVOKED
    ended(seen)


def test_a_body_of_unknown_length_is_read_for_usage_when_it_is_given_up(
    seen: CapturedEvents,
) -> None:
    body = invoke(Wire(answer(INVOKED, sized=False)).client())
    assert json.loads(read_exactly(body)) == INVOKED
    assert len(seen) == 1
    body.close()
    ended(seen, "cancelled")
    assert tokens(seen) == (5, 3)


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__)
def test_however_a_body_is_read_it_is_read_as_before_and_counted_once(
    read: Read, sized: bool
) -> None:
    """Nothing of it is read for us, and the real StreamingBody stays in place."""
    bus = Bus(strict=True)
    bare = read(invoke(Wire(answer(INVOKED, sized=sized)).client()))
    with instrumented(bus), capture("llm.chat.*", bus=bus, scope="process") as events:
        body = invoke(Wire(answer(INVOKED, sized=sized)).client())
        assert type(body) is StreamingBody
        assert len(events) == 1
        assert read(body) == bare
        end = ended(events)
    assert tokens(events) == (5, 3)
    assert end["response_model"] == "claude-3-haiku-20240307"
    assert json.loads(bare) == INVOKED


def test_what_a_body_does_not_state_the_headers_do(seen: CapturedEvents) -> None:
    reply = answer({"generations": []}, headers=TOKENS)
    invoke(Wire(reply).client()).read()
    ended(seen)
    assert tokens(seen) == (11, 13)


def test_a_body_that_states_tokens_beats_the_headers(seen: CapturedEvents) -> None:
    invoke(Wire(answer(INVOKED, headers=TOKENS)).client()).read()
    assert tokens(seen) == (5, 3)


@pytest.mark.parametrize("headers", [TOKENS, {}], ids=["known", "unknown"])
@pytest.mark.parametrize("way", ["closed", "dropped", "left"])
def test_a_body_that_is_not_read_is_cancelled_with_what_the_headers_state(
    way: str, headers: dict[str, str], seen: CapturedEvents
) -> None:
    body = invoke(Wire(answer(INVOKED, headers=headers)).client())
    assert len(seen) == 1
    if way == "closed":
        body.close()
        body.close()
    elif way == "left":
        with body as raw, raw:
            pass
    del body
    gc.collect()
    end = ended(seen, "cancelled")
    assert tokens(seen) == ((11, 13) if headers else (None, None))
    assert end["usage_complete"] is bool(headers)


def test_reading_on_after_the_end_changes_nothing(seen: CapturedEvents) -> None:
    body = invoke(Wire(answer(INVOKED)).client())
    body.read()
    assert body.read() == b""
    body.close()
    ended(seen)


@pytest.mark.parametrize(
    ("error", "seen_by_caller", "status"),
    [
        pytest.param(
            ReadTimeoutError(None, "http://x", "late"),  # type: ignore[arg-type]  # as botocore has it
            exceptions.ReadTimeoutError,
            "timeout",
            id="timeout",
        ),
        pytest.param(
            ProtocolError("gone"),
            exceptions.ResponseStreamingError,
            "error",
            id="broken",
        ),
    ],
)
def test_a_body_that_breaks_ends_the_call(
    error: Exception,
    seen_by_caller: type[Exception],
    status: str,
    seen: CapturedEvents,
) -> None:
    body = invoke(Wire((200, TOKENS, Raw(b"", error))).client())
    with pytest.raises(seen_by_caller, match=r".+"):
        body.read()
    ended(seen, status)


def test_a_body_that_is_shorter_than_announced_ends_the_call(
    seen: CapturedEvents,
) -> None:
    body = invoke(Wire((200, {"content-length": "9"}, b"{}")).client())
    with pytest.raises(exceptions.IncompleteReadError, match="expected is 9"):
        body.read()
    assert ended(seen, "error")["error_type"].endswith("IncompleteReadError")


def test_a_body_that_is_too_long_to_keep_is_passed_on(
    seen: CapturedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bedrock_bodies, "LONGEST_BODY", 20)
    body = invoke(Wire(answer(INVOKED, headers=TOKENS)).client())
    assert json.loads(read_pieces(body)) == INVOKED
    ended(seen)
    assert tokens(seen) == (11, 13)


def test_a_stubbed_answer_is_passed_on(seen: CapturedEvents) -> None:
    """Whatever it is: a test's stub need not have a body that can be watched."""
    client = make_client()
    with Stubber(client) as stub:
        body = StreamingBody(io.BytesIO(b"{}"), 2)
        stub.add_response("invoke_model", {"body": body, "contentType": "x"})
        stub.add_response("converse", CONVERSED)
        assert client.invoke_model(modelId=CLAUDE, body="{}")["body"].read() == b"{}"
        assert client.converse(modelId=CLAUDE, messages=[SAID]) == CONVERSED
    assert len(seen) == 4
    assert tokens(seen) == (5, 3)


def test_an_answer_without_a_body_or_a_stream_ends_the_call(
    seen: CapturedEvents,
) -> None:
    """As other tools that replace botocore's answers may give it."""
    client = make_client()

    def given(**_: object) -> Any:
        return types.SimpleNamespace(status_code=200), {"body": b"{}", "stream": []}

    client.meta.events.register("before-call.bedrock-runtime.*", given)
    assert client.invoke_model(modelId=CLAUDE, body="{}")["body"] == b"{}"
    assert client.converse_stream(modelId=CLAUDE, messages=[SAID])["stream"] == []
    names = [each.name for each in seen]
    assert names == ["llm.chat.start", "llm.chat.stop"] * 2


# --- Models and operations ------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "model"),
    [
        pytest.param(CLAUDE, CLAUDE, id="id"),
        pytest.param(f"us.{CLAUDE}", f"us.{CLAUDE}", id="profile"),
        pytest.param(
            f"arn:aws:bedrock:us-east-1::foundation-model/{CLAUDE}", CLAUDE, id="arn"
        ),
        pytest.param(
            f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{CLAUDE}",
            f"us.{CLAUDE}",
            id="profile-arn",
        ),
        pytest.param(
            "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2",
            "application-inference-profile/a1b2",
            id="application",
        ),
        pytest.param("arn:odd", "odd", id="odd"),
    ],
)
def test_the_model_is_what_an_arn_names_without_the_account(
    model_id: str, model: str
) -> None:
    assert _bedrock.model_of(model_id) == model


@pytest.mark.parametrize(
    ("model", "asked", "answered", "prefix", "stated"),
    [
        pytest.param(
            "amazon.titan-embed-text-v2:0",
            {"inputText": "Hello"},
            {"embedding": [0.5, 0.25], "inputTextTokenCount": 3},
            "llm.embedding",
            {"texts": 1, "dimensions": 2, "input_tokens": 3},
            id="titan-embedding",
        ),
        pytest.param(
            "cohere.embed-english-v3",
            {"texts": ["a", "b", "c"]},
            {"embeddings": [[0.5, 0.25]] * 3, "response_type": "embeddings_floats"},
            "llm.embedding",
            {"texts": 3, "dimensions": 2, "input_tokens": 11},
            id="cohere-embedding",
        ),
        pytest.param(
            "amazon.nova-2-multimodal-embeddings-v1:0",
            {"singleEmbeddingParams": {}},
            {},
            "llm.embedding",
            {"texts": None, "input_tokens": 11},
            id="nova-embedding",
        ),
        pytest.param(
            "amazon.titan-text-lite-v1",
            {"inputText": "Hello"},
            {"inputTextTokenCount": 3, "results": [{"tokenCount": 2}]},
            "llm.completion",
            {"input_tokens": 3, "output_tokens": 2},
            id="titan-text",
        ),
        pytest.param(
            "amazon.rerank-v1:0", {}, {"results": []}, "llm.rerank", {}, id="rerank"
        ),
        pytest.param(
            "amazon.nova-canvas-v1:0", {}, {"images": []}, "llm.image", {}, id="image"
        ),
        pytest.param("meta.llama3-8b", {}, {}, "llm.chat", {}, id="chat"),
    ],
)
def test_what_an_invocation_does_is_told_by_the_model(
    *,
    model: str,
    asked: dict[str, Any],
    answered: dict[str, Any],
    prefix: str,
    stated: dict[str, int],
    seen: CapturedEvents,
) -> None:
    client = Wire(answer(answered, headers=TOKENS)).client()
    assert json.loads(invoke(client, model, json.dumps(asked)).read()) == answered
    assert [each.name for each in seen] == [f"{prefix}.start", f"{prefix}.stop"]
    found = seen[-1].measurements
    assert {key: found.get(key) for key in stated} == stated


def test_a_body_that_is_no_json_is_the_callers_business(seen: CapturedEvents) -> None:
    client = Wire(answer({})).client()
    invoke(client, "amazon.titan-embed-text-v2:0", b"\xff").read()
    assert [each.name for each in seen] == ["llm.embedding.start", "llm.embedding.stop"]


def test_other_operations_and_services_are_no_calls(
    bus: Bus, seen: CapturedEvents
) -> None:
    client = Wire(answer({"inputTokens": 3})).client()
    client.count_tokens(modelId=CLAUDE, input={"converse": {"messages": [SAID]}})
    with Stubber(make_client(service="sts")) as stub:
        stub.add_response("get_caller_identity", {"Account": "1"})
        assert stub.client.get_caller_identity()["Account"] == "1"
    assert seen == []


# --- Errors and attempts --------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "status", "http_status"),
    [
        pytest.param(
            refusal(400, "ValidationException"),
            "ValidationException",
            "error",
            400,
            id="400",
        ),
        pytest.param(
            refusal(408, "ModelTimeoutException"),
            "ModelTimeoutException",
            "timeout",
            408,
            id="408",
        ),
        pytest.param(
            refusal(429, "ThrottlingException"),
            "ThrottlingException",
            "error",
            429,
            id="429",
        ),
        pytest.param(
            (200, {}, exceptions.ReadTimeoutError(endpoint_url="x")),
            "ReadTimeoutError",
            "timeout",
            None,
            id="timeout",
        ),
        pytest.param(
            (200, {}, exceptions.EndpointConnectionError(endpoint_url="x")),
            "EndpointConnectionError",
            "error",
            None,
            id="no-route",
        ),
    ],
)
def test_a_refusal_ends_the_call_and_reaches_the_caller(
    reply: Any, error: str, status: str, http_status: int | None, seen: CapturedEvents
) -> None:
    with pytest.raises(Exception, match=r".") as raised:
        Wire(reply).client().converse(modelId=CLAUDE, messages=[SAID])
    assert type(raised.value).__name__ == error
    end = ended(seen, status)
    assert end["error_type"].endswith(error)
    assert end.get("http_status") == http_status


def test_a_request_that_is_never_sent_has_failed_too(seen: CapturedEvents) -> None:
    with pytest.raises(exceptions.ParamValidationError, match="messages"):
        make_client().converse(modelId=7, messages="none")
    assert "model" not in ended(seen, "error")


def test_attempts_are_requests_of_one_call(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Botocore tries again by itself, the same request with the same body."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    wire = Wire(
        refusal(429, "ThrottlingException", {"retry-after": "2"}),
        (200, {}, exceptions.ReadTimeoutError(endpoint_url="x")),
        answer(CONVERSED),
    )
    with capture("llm.chat.*", "llm.provider.**", bus=bus) as events:
        wire.client(attempts=3).converse(modelId=CLAUDE, messages=[SAID])
    request = "llm.provider.request"
    assert [each.name for each in events] == [
        "llm.chat.start",
        f"{request}.start",
        "llm.provider.rate_limit",
        f"{request}.stop",
        "llm.provider.retry",
        f"{request}.start",
        f"{request}.exception",
        "llm.provider.retry",
        f"{request}.start",
        f"{request}.stop",
        "llm.chat.stop",
    ]
    assert len(set(wire.sent)) == 1
    assert events[2].measurements == {"retry_after": 2_000_000_000}
    assert dict(events[4].measurements) == {"attempt": 2, "retry_after": 2_000_000_000}
    assert events[7].measurements == {"attempt": 3}
    assert events[3].metadata["http_status"] == 429
    assert events[6].metadata["status"] == "timeout"
    assert events[1].metadata["server_address"] == "127.0.0.1"
    assert events[1].metadata["server_port"] == 9


def test_an_attempt_that_is_interrupted_is_over(bus: Bus) -> None:
    """Botocore catches errors, but neither Ctrl-C nor the end of the program."""

    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    client = make_client()
    client.meta.events.register("before-send.bedrock-runtime.*", interrupt)
    with (
        capture("llm.*.exception", "llm.provider.request.exception", bus=bus) as events,
        pytest.raises(KeyboardInterrupt),
    ):
        client.converse(modelId=CLAUDE, messages=[SAID])
    assert [each.metadata["kind"] for each in events] == ["exit", "exit"]


def test_requests_without_a_call_are_no_attempts(bus: Bus) -> None:
    client = Wire(answer({"inputTokens": 3})).client()
    with capture("llm.provider.**", bus=bus) as events:
        client.count_tokens(modelId=CLAUDE, input={"converse": {"messages": [SAID]}})
    assert events == []


# --- Owners and versions --------------------------------------------------------------


def test_a_call_around_the_sdk_owns_what_it_used(
    bus: Bus, seen: CapturedEvents
) -> None:
    wire = Wire(answer(INVOKED), event_stream(*conversed()))
    client = wire.client()
    with llm.chat(provider="gateway", model="best", bus=bus):
        invoke(client).read()
        list(converse_stream(client))
    assert ended(seen)["provider"] == "gateway"
    assert tokens(seen) == (10, 6)


def test_where_nobody_listens_the_sdk_gives_its_own() -> None:
    with instrumented(Bus()):
        stream = converse_stream(Wire(event_stream(*conversed())).client())
    assert type(stream) is EventStream


def test_a_version_that_is_not_supported_is_named_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches

    monkeypatch.setattr("botocore.__version__", "2.0.1")
    with pytest.warns(RuntimeWarning, match=r"botocore 2\.0\.1 .* botocore 1\.x"):
        assert not _bedrock.patch(botocore_client, Choice(Bus()), Patches())


def test_uninstrument_gives_the_sdk_its_own_functions_back() -> None:
    base = vars(botocore_client.BaseClient)
    before = (base["_make_api_call"], vars(Endpoint)["_get_response"])
    llmevents.instrument("bedrock", bus=Bus())
    llmevents.uninstrument("bedrock")
    assert (base["_make_api_call"], vars(Endpoint)["_get_response"]) == before
