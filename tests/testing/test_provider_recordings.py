"""Recorded exchanges are answered byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.testing._provider_payloads import split_events
from llmevents.testing.provider import Exchange, FakeProvider, read_exchanges
from tests.data import EXCHANGES, needs_data
from tests.testing.wire import connect, send


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def exchange(**changes: Any) -> Exchange:  # noqa: ANN401  # fields of Exchange
    known: dict[str, Any] = {
        "id": "1",
        "source": "test",
        "provider": "anthropic",
        "operation": "messages",
        "stream": False,
        "model": "claude",
        "path": "/v1/messages",
        "query": "",
        "request": {"model": "claude", "max_tokens": 1},
        "status": 200,
        "content_type": "application/json",
        "response": b'{"one": 1}',
        "truth": None,
    }
    return Exchange(**{**known, **changes})


def test_a_recording_answers_any_path_with_its_bytes(provider: FakeProvider) -> None:
    recorded = exchange(truth={"input": 5, "output": 2, "cache_read": 1})
    provider.script(recorded)

    response, body = send(provider, b"{}", path="/model/x/converse?beta=true")

    assert (response.status, body) == (200, recorded.response)
    assert response.getheader("content-type") == "application/json"
    (call,) = provider.calls
    assert (call.operation, call.path) == ("messages", "/model/x/converse")
    assert (call.input_tokens, call.output_tokens) == (5, 2)
    assert (call.cache_read_tokens, call.reasoning_tokens) == (1, None)


def test_a_served_recording_is_withdrawn_with_its_block(
    provider: FakeProvider,
) -> None:
    """An equal one that somebody else queued stays."""
    recorded = exchange()
    with provider.serve(recorded):
        assert send(provider)[1] == recorded.response
        provider.serve(recorded)
    with provider.serve(exchange(status=418)):
        assert send(provider)[1] == recorded.response

    assert send(provider)[0].status == 200
    assert provider.calls[-1].operation == "chat"


def test_recordings_are_found_by_what_they_answer() -> None:
    """Of two answers to the same request each is given in turn."""
    first, second = exchange(), exchange(response=b"{}")
    asked = {"max_tokens": 1, "model": "claude"}
    with FakeProvider(exchanges=[first, second]) as provider:
        bodies = [send(provider, asked, path="/v1/messages")[1] for _ in range(3)]
        other, _ = send(provider, {**asked, "max_tokens": 2}, path="/v1/messages")

    assert bodies == [first.response, second.response, first.response]
    assert other.status == 404


def test_the_queue_comes_before_recordings_but_not_on_unknown_paths() -> None:
    recorded = exchange()
    with FakeProvider(exchanges=[recorded]) as provider:
        provider.script("fault-500")
        body = dict(recorded.request)
        assert send(provider, body, path="/v1/messages")[0].status == 200
        assert send(provider)[0].status == 500


def test_a_recorded_error_is_not_to_be_retried(provider: FakeProvider) -> None:
    provider.script(exchange(status=503), exchange())

    assert send(provider)[0].getheader("x-should-retry") == "false"
    assert send(provider)[0].getheader("x-should-retry") is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"data: 1\n\n", "text/event-stream; charset=utf-8", id="data"),
        pytest.param(b"event: a\n\n", "text/event-stream; charset=utf-8", id="event"),
        pytest.param(b"\n {}", "application/json", id="object"),
        pytest.param(b"[]", "application/json", id="array"),
        pytest.param(b"\0\0", "application/octet-stream", id="binary"),
        pytest.param(b"", "application/octet-stream", id="empty"),
    ],
)
def test_a_content_type_that_was_not_recorded_is_told_from_the_body(
    provider: FakeProvider, body: bytes, content_type: str
) -> None:
    """SDKs decode by it."""
    provider.script(exchange(content_type="", response=body))

    response, answer = send(provider)

    assert answer == body
    assert response.getheader("content-type") == content_type


def test_an_empty_recorded_stream_is_a_whole_body(provider: FakeProvider) -> None:
    provider.script(exchange(content_type="text/event-stream", response=b""))

    assert send(provider)[1] == b""
    assert provider.calls[0].completed


@given(st.text("\r\nda: ").map(str.encode))
def test_split_events_loses_nothing(body: bytes) -> None:
    events = split_events(body)

    assert b"".join(events) == body
    assert all(events) or body == b""


@given(st.lists(st.sampled_from([b"data: 1", b"event: x\ndata: 2"]), min_size=1))
def test_each_event_is_a_piece(events: list[bytes]) -> None:
    for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        ended = tuple(event + end for event in events)
        assert split_events(b"".join(ended)) == ended


@needs_data
def test_every_recording_is_served_byte_for_byte() -> None:
    """Found by path and body alone, and stating exactly the recorded tokens."""
    recorded = [
        known
        for known in read_exchanges(EXCHANGES)
        if known.provider == "openai" and known.operation in ("chat", "embeddings")
    ]
    assert len(recorded) == 143
    with FakeProvider(exchanges=recorded) as provider, connect(provider) as connection:
        for known in recorded:
            connection.request("POST", known.path, json.dumps(dict(known.request)))
            response = connection.getresponse()
            assert response.status == known.status
            assert response.read() == known.response
            content_type = response.getheader("content-type", "")
            assert content_type == known.content_type or not known.content_type

    truths = [known.truth or {} for known in recorded]
    total = provider.totals()
    assert total.calls == 143
    assert total.errors == sum(known.status >= 400 for known in recorded)
    assert total.input_tokens == sum(truth.get("input") or 0 for truth in truths)
    assert total.output_tokens == sum(truth.get("output") or 0 for truth in truths)
    assert total.usage_stated == sum(any(truth.values()) for truth in truths)
