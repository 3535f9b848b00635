"""Raw HTTP for the tests of the fake provider: no SDK in between."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from llmevents.testing.provider import FakeProvider


CHAT = "/v1/chat/completions"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello there"}]}
TIMEOUT_SECONDS = 10.0


def connect(provider: FakeProvider) -> closing[http.client.HTTPConnection]:
    address = urlsplit(provider.base_url).netloc
    return closing(http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS))


def raw(provider: FakeProvider) -> socket.socket:
    port = urlsplit(provider.base_url).port
    return socket.create_connection(("127.0.0.1", port or 0), timeout=TIMEOUT_SECONDS)


def send(
    provider: FakeProvider,
    body: object = HELLO,
    *,
    path: str = CHAT,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Send one request; bytes are sent as they are, all else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with connect(provider) as connection:
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        return response, response.read()


def error_of(body: bytes) -> dict[str, Any]:
    """Return the error, which has exactly the four keys of OpenAI's."""
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def chunks_of(answer: bytes) -> list[bytes]:
    """Take a chunked body apart; the last chunk is empty."""
    _, rest = answer.split(b"\r\n\r\n", 1)
    chunks = []
    while rest:
        size, rest = rest.split(b"\r\n", 1)
        length = int(size, 16)
        chunks.append(rest[:length])
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    return chunks


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while block := connection.recv(65536):
        answer += block
    return answer
