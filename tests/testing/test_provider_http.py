"""The wire of the fake provider, seen through http.client and plain sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from llmevents.testing.provider import FakeProvider, Reply
from tests.testing.wire import (
    CHAT,
    HELLO,
    chunks_of,
    connect,
    error_of,
    raw,
    read_all,
    send,
)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def test_a_connection_is_kept_alive(provider: FakeProvider) -> None:
    with connect(provider) as connection:
        for _ in range(3):
            connection.request("POST", CHAT, json.dumps(HELLO))
            response = connection.getresponse()
            assert response.status == 200
            assert json.loads(response.read())["object"] == "chat.completion"
            assert not response.will_close

    assert provider.totals().calls == 3


def test_a_stream_is_sent_one_event_a_chunk(provider: FakeProvider) -> None:
    provider.script(Reply(content="two words"))
    body = json.dumps({**HELLO, "stream": True})
    with raw(provider) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        chunks = chunks_of(read_all(connection))

    assert chunks[-2:] == [b"data: [DONE]\n\n", b""]
    events = [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks[:-2]]
    assert [event["choices"][0]["delta"].get("content") for event in events] == [
        "",
        "two ",
        "words",
        None,
    ]
    assert all("usage" not in event for event in events)


def test_http_1_0_gets_a_stream_with_its_length(provider: FakeProvider) -> None:
    """It has no chunks, and would take their sizes for content."""
    body = json.dumps({**HELLO, "stream": True})
    with raw(provider) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head, events = read_all(connection).split(b"\r\n\r\n", 1)

    assert f"Content-Length: {len(events)}".encode() in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


def test_an_expected_continue_is_given(provider: FakeProvider) -> None:
    """Curl waits for it before it sends a large body."""
    with raw(provider) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(json.dumps(HELLO))}\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(json.dumps(HELLO).encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/v1/responses", id="post"),
        pytest.param("GET", CHAT, id="wrong-method"),
        pytest.param("GET", "/", id="root"),
    ],
)
def test_an_unknown_route_is_not_found(
    provider: FakeProvider, method: str, path: str
) -> None:
    response, body = send(provider, method=method, path=path)

    assert response.status == 404
    assert error_of(body)["code"] == "unknown_url"
    assert provider.calls[0].operation == "unknown"
    assert provider.totals("unknown").errors == 1


@pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE"])
def test_an_unknown_method_is_refused(provider: FakeProvider, method: str) -> None:
    response, body = send(provider, b"", method=method)

    assert response.status == 501
    assert response.will_close
    assert method == "HEAD" or error_of(body)["type"] == "invalid_request_error"


def test_what_is_not_http_is_refused_in_the_same_shape(provider: FakeProvider) -> None:
    with raw(provider) as connection:
        connection.sendall(b"GET / HTTP/9.9\r\n\r\n")
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 505 ")
    assert "HTTP" in error_of(answer.split(b"\r\n\r\n", 1)[1])["message"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff\xfe{", id="encoding"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b"[" * 100_000, id="nested-too-deeply"),
    ],
)
def test_malformed_json_is_a_bad_request(provider: FakeProvider, body: bytes) -> None:
    """It takes no reply from the queue: that one is for the request that was meant."""
    provider.script("fault-500")

    response, answer = send(provider, body)

    assert response.status == 400
    assert "JSON" in error_of(answer)["message"]
    assert provider.calls[0].request == {}
    assert send(provider)[0].status == 500


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        pytest.param(CHAT, {**HELLO, "model": None}, "model", id="model"),
        pytest.param(CHAT, {**HELLO, "model": ""}, "model", id="empty-model"),
        pytest.param(CHAT, {"model": "m"}, "messages", id="messages"),
        pytest.param(CHAT, {"model": "m", "messages": []}, "messages", id="empty"),
        pytest.param(CHAT, {"model": "m", "messages": [1]}, "messages", id="message"),
        pytest.param("/v1/embeddings", {"input": "a"}, "model", id="no-model"),
        pytest.param("/v1/embeddings", {"model": "m"}, "input", id="no-input"),
        pytest.param(
            "/v1/embeddings", {"model": "m", "input": ["a", 1]}, "input", id="mixed"
        ),
        pytest.param(
            "/v1/embeddings", {"model": "m", "input": ["a"] * 2049}, "input", id="many"
        ),
        pytest.param(
            "/v1/embeddings",
            {"model": "m", "input": "a", "dimensions": 10**9},
            "dimensions",
            id="dimensions",
        ),
        pytest.param(
            "/v1/embeddings",
            {"model": "m", "input": "a", "encoding_format": ["float"]},
            "encoding_format",
            id="encoding",
        ),
    ],
)
def test_an_invalid_request_names_its_parameter(
    provider: FakeProvider, path: str, body: object, param: str
) -> None:
    response, answer = send(provider, body, path=path)

    assert response.status == 400
    assert error_of(answer)["param"] == param
    assert provider.totals().errors == 1
    assert not provider.calls[0].usage_stated


def test_a_body_beyond_the_limit_is_refused_and_not_kept(
    provider: FakeProvider,
) -> None:
    response, body = send(provider, b" " * (4 * 1024 * 1024 + 1))

    assert response.status == 413
    assert response.will_close
    assert "4194304 bytes" in error_of(body)["message"]
    assert provider.calls[0].status == 413


def test_a_body_at_the_limit_is_read(provider: FakeProvider) -> None:
    body = json.dumps(HELLO).encode()

    assert send(provider, body.ljust(4 * 1024 * 1024))[0].status == 200


def test_a_lone_surrogate_is_a_text_like_any_other(provider: FakeProvider) -> None:
    asked = {"model": "\ud800", "input": "\ud800", "dimensions": 1}

    response, body = send(provider, asked, path="/v1/embeddings")

    assert response.status == 200
    assert json.loads(body)["model"] == "\ud800"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param("Content-Length: -1", 400, id="negative"),
        pytest.param("Content-Length: 1_0", 400, id="underscore"),
        pytest.param("Content-Length: " + "9" * 5000, 400, id="long"),
        pytest.param("Transfer-Encoding: chunked", 411, id="chunked"),
    ],
)
def test_a_body_of_unknown_length_is_refused(
    provider: FakeProvider, header: str, status: int
) -> None:
    with raw(provider) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\n{header}\r\n\r\n".encode())
        answer = read_all(connection)

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert error_of(answer.split(b"\r\n\r\n", 1)[1])["type"] == "invalid_request_error"


def test_a_client_that_leaves_within_its_body_is_no_call(
    provider: FakeProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    with raw(provider) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""

    assert provider.calls == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="missing"),
        pytest.param({"Authorization": "Bearer wrong"}, id="wrong"),
        pytest.param({"Authorization": "right"}, id="not-bearer"),
        pytest.param({"Authorization": "Bearer \xe9"}, id="latin-1"),
    ],
)
def test_a_wrong_key_is_unauthorized(headers: dict[str, str]) -> None:
    """The answer never repeats the key."""
    with FakeProvider(api_key="right") as provider:
        response, body = send(provider, headers=headers)
        allowed, _ = send(provider, headers={"Authorization": "Bearer right"})

    assert response.status == 401
    assert error_of(body)["code"] == "invalid_api_key"
    assert b"right" not in body
    assert allowed.status == 200


def test_nothing_is_logged_and_the_host_is_not_described(
    provider: FakeProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    response, _ = send(provider, path=f"{CHAT}?key=secret")
    send(provider, path="/nowhere?key=secret")

    assert response.getheader("Server") == "llmevents-fake-provider"
    assert capfd.readouterr() == ("", "")
    assert "secret" not in repr(provider.calls)


def test_only_loopback_is_bound(provider: FakeProvider) -> None:
    url = urlsplit(provider.base_url)

    assert (url.scheme, url.hostname, url.path) == ("http", "127.0.0.1", "/v1")
    with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
        socket.create_connection(("127.0.0.2", url.port or 0), timeout=1).close()
