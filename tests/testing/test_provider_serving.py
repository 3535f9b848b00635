"""Faults, life cycle, and exact facts about what was served."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from llmevents.testing.provider import FAULTS, FakeProvider, Reply, ServedCall
from tests.testing.wire import (
    CHAT,
    HELLO,
    TIMEOUT_SECONDS,
    connect,
    error_of,
    raw,
    send,
)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def test_a_rate_limit_says_when_to_come_back(provider: FakeProvider) -> None:
    provider.script("fault-429", Reply.rate_limited(retry_after_seconds=0.25))

    first, body = send(provider)
    second, _ = send(provider)

    assert (first.status, first.getheader("retry-after")) == (429, "1")
    assert (second.status, second.getheader("retry-after")) == (429, "0.25")
    assert second.getheader("x-ratelimit-remaining-requests") == "0"
    assert second.getheader("x-ratelimit-reset-requests") == "0.25s"
    assert error_of(body)["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("model", "status"), [("fault-401", 401), ("fault-429", 429), ("fault-500", 500)]
)
def test_a_model_name_chooses_a_fault(
    provider: FakeProvider, model: str, status: int
) -> None:
    """Whoever can only choose a model, such as curl or a demo, gets every fault."""
    response, body = send(provider, {**HELLO, "model": model})

    assert response.status == status
    assert error_of(body)["message"] == FAULTS[model].error_message
    assert provider.totals("chat").errors == 1


def test_a_response_can_be_dropped_before_it_begins(provider: FakeProvider) -> None:
    with pytest.raises(http.client.RemoteDisconnected, match="without response"):
        send(provider, {**HELLO, "model": "fault-disconnect"})

    (call,) = provider.calls
    assert (call.status, call.completed, call.dropped) == (None, False, True)
    assert call.failed


def test_a_body_can_be_dropped_halfway(provider: FakeProvider) -> None:
    """What was never said is not counted as stated."""
    with pytest.raises(http.client.IncompleteRead, match="more expected"):
        send(provider, {**HELLO, "model": "fault-drop"})

    (call,) = provider.calls
    assert (call.status, call.completed, call.dropped) == (200, False, True)
    assert not call.usage_stated
    assert provider.totals().errors == 1


def test_a_stream_can_be_dropped_between_events(provider: FakeProvider) -> None:
    body = {**HELLO, "stream": True, "model": "fault-drop"}
    with connect(provider) as connection:
        connection.request("POST", CHAT, json.dumps(body))
        response = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead, match="bytes read") as caught:
            response.read()

    assert caught.value.partial.count(b"\n\n") == 3
    assert b"[DONE]" not in caught.value.partial


def test_a_drop_never_leaves_a_whole_body(provider: FakeProvider) -> None:
    provider.script(Reply(drop_after=99))

    with pytest.raises(http.client.IncompleteRead, match="more expected"):
        send(provider)


def test_a_delay_holds_back_the_first_byte() -> None:
    slow = Reply(delay_seconds=float("inf"))
    with (
        FakeProvider(models={"fault-slow": slow}) as provider,
        connect(provider) as connection,
    ):
        connection.timeout = 0.05
        connection.request("POST", CHAT, json.dumps({**HELLO, "model": "fault-slow"}))
        with pytest.raises(TimeoutError, match="timed out"):
            connection.getresponse()
        assert provider.wait_for(bool)[0].status is None


def test_short_delays_end_in_an_answer(provider: FakeProvider) -> None:
    provider.script(Reply(delay_seconds=0.001, chunk_delay_seconds=0.001))

    _, body = send(provider, {**HELLO, "stream": True})

    assert body.endswith(b"data: [DONE]\n\n")
    assert provider.calls[0].completed


def test_stop_interrupts_what_is_slow_and_leaves_nothing_behind() -> None:
    """One call waits for its first byte, one for its next event, one is idle."""
    before = set(threading.enumerate())
    provider = FakeProvider().start()
    provider.script(
        Reply(delay_seconds=float("inf")), Reply(chunk_delay_seconds=float("inf"))
    )
    with connect(provider) as slow, connect(provider) as halting, raw(provider) as idle:
        slow.request("POST", CHAT, json.dumps(HELLO))
        provider.wait_for(lambda calls: len(calls) == 1)
        halting.request("POST", CHAT, json.dumps({**HELLO, "stream": True}))
        response = halting.getresponse()

        stopping = threading.Thread(target=provider.stop)
        stopping.start()
        stopping.join(TIMEOUT_SECONDS)

        assert not stopping.is_alive()
        assert set(threading.enumerate()) <= before
        with pytest.raises(http.client.RemoteDisconnected, match="without response"):
            slow.getresponse()
        with pytest.raises(http.client.IncompleteRead, match="bytes read"):
            response.read()
        assert idle.recv(1) == b""

    assert [call.dropped for call in provider.calls] == [True, True]
    provider.stop()


def test_a_client_that_hangs_up_leaves_the_call_incomplete() -> None:
    """The body is larger than what the sockets of both sides can hold."""
    many = Reply(content=("x" * 99_999 + " ") * 200)
    with FakeProvider(reply=many) as provider:
        asked = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
        with connect(provider) as connection:
            connection.request("POST", CHAT, json.dumps(asked))
            connection.getresponse().close()
        assert send(provider, path="/v1/models", method="GET")[0].status == 200

    call = provider.calls[0]
    assert (call.status, call.completed) == (200, False)
    assert not call.usage_stated


def test_totals_are_exact_under_concurrency() -> None:
    """32 clients; streams, errors, and drops among plain calls."""
    usage = Reply(
        input_tokens=11, output_tokens=7, cache_read_tokens=5, reasoning_tokens=3
    )
    rounds: list[tuple[str, dict[str, object]]] = [
        (CHAT, dict(HELLO)),
        (CHAT, {**HELLO, "stream": True, "stream_options": {"include_usage": True}}),
        (CHAT, {**HELLO, "stream": True}),
        (CHAT, {**HELLO, "model": "fault-429"}),
        (CHAT, {**HELLO, "model": "fault-drop"}),
        ("/v1/embeddings", {"model": "e", "input": ["a", "b"], "dimensions": 2}),
    ]

    def client(provider: FakeProvider) -> None:
        for path, body in rounds * 2:
            try:
                send(provider, body, path=path)
            except http.client.IncompleteRead:
                assert body["model"] == "fault-drop"

    with FakeProvider(reply=usage) as provider, ThreadPoolExecutor(32) as pool:
        clients = [pool.submit(client, provider) for _ in range(32)]
        for done in clients:
            done.result(timeout=60)

    served = 32 * 2
    chat, embeddings = provider.totals("chat"), provider.totals("embeddings")
    everything = provider.totals()
    assert (chat.calls, chat.errors, chat.usage_stated) == (
        5 * served,
        2 * served,
        2 * served,
    )
    assert (chat.input_tokens, chat.output_tokens) == (22 * served, 14 * served)
    assert (chat.cache_read_tokens, chat.reasoning_tokens) == (10 * served, 6 * served)
    assert (embeddings.calls, embeddings.input_tokens) == (served, 11 * served)
    assert everything.calls == len(provider.calls) == 6 * served
    assert everything.input_tokens == 33 * served


def test_a_call_is_known_before_its_answer_has_been_read(
    provider: FakeProvider,
) -> None:
    """Totals can be compared as soon as a client has its answer."""
    for number in range(1, 51):
        send(provider, {**HELLO, "stream": True})
        assert sum(call.completed for call in provider.calls) == number


def test_calls_are_a_snapshot(provider: FakeProvider) -> None:
    before = provider.calls
    send(provider)

    assert before == ()
    assert isinstance(provider.calls[0], ServedCall)


def test_waiting_gives_up_with_what_there_is(provider: FakeProvider) -> None:
    send(provider)

    assert len(provider.wait_for(bool)) == 1
    with pytest.raises(TimeoutError, match=r"within 0\.01 s; the calls are \[Served"):
        provider.wait_for(lambda calls: len(calls) == 2, timeout_seconds=0.01)


def test_it_can_be_started_again_but_not_twice() -> None:
    provider = FakeProvider()
    with pytest.raises(RuntimeError, match=r"no address before start\(\)"):
        _ = provider.base_url
    for _ in range(2):
        with provider:
            with pytest.raises(RuntimeError, match=r"running already; call stop\(\)"):
                provider.start()
            send(provider)

    assert provider.totals().calls == 2


def test_a_port_can_be_chosen(provider: FakeProvider) -> None:
    taken = urlsplit(provider.base_url).port or 0

    with pytest.raises(OSError, match="in use"):
        FakeProvider(port=taken).start()
    provider.stop()
    with FakeProvider(port=taken) as other:
        assert urlsplit(other.base_url).port == taken
