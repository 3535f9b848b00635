"""What tests of the anthropic SDK have in common."""

# ruff: noqa: ANN401  # clients, parameters and results are the SDK's own, of any type

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import anthropic
import httpx2

import llmevents
from llmevents import Bus
from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange


T = TypeVar("T")

ASKED: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello"}],
}

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 20,
    "cache_creation_input_tokens": 5,
    "output_tokens": 7,
    "service_tier": "standard",
}
"""Of Anthropic: the input excludes what was cached."""

USED = {
    "input_tokens": 35,
    "output_tokens": 7,
    "cache_read_tokens": 20,
    "cache_write_tokens": 5,
}

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6-20260101",
    "content": [{"type": "text", "text": '{"city": "Bern"}'}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}

EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            **MESSAGE,
            "content": [],
            "stop_reason": None,
            "usage": {**USAGE, "output_tokens": 1},
        },
    },
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    },
    *(
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": text},
        }
        for text in ('{"city"', ': "Bern"}')
    ),
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 7},
    },
    {"type": "message_stop"},
]

ERROR_EVENT = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "Overloaded"},
}


class Sent(NamedTuple):
    """A request as it was on the wire."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


Reply = httpx2.Response | Exception


def message(**changes: Any) -> httpx2.Response:
    """Return the answer to ``messages.create``."""
    return httpx2.Response(200, json={**MESSAGE, **changes})


def server_sent(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        for event in events
    )


def stream(events: list[dict[str, Any]] = EVENTS) -> httpx2.Response:
    """Return a stream of these events."""
    return httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        stream=Body(server_sent(events)),
    )


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes one event at a time; *error* is raised at its end."""

    def __init__(self, body: bytes, error: Exception | None = None) -> None:
        self._pieces = body.split(b"\n\n")
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            yield piece + b"\n\n"
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> Any:
        for piece in self:
            yield piece


def refusal(
    status: int, kind: str, headers: Mapping[str, str] | None = None
) -> httpx2.Response:
    body = {"type": "error", "error": {"type": kind, "message": "No."}}
    return httpx2.Response(status, headers=headers, json=body)


class Wire:
    """Answers requests in process, and keeps them."""

    def __init__(self, *replies: Callable[[], Reply]) -> None:
        self.replies = list(replies)
        self.sent: list[Sent] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(
            Sent(
                request.method,
                str(request.url),
                dict(request.headers),
                request.content,
            )
        )
        reply = self.replies.pop(0)() if self.replies else message()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def answer_async(self, request: httpx2.Request) -> httpx2.Response:
        return self.answer(request)

    def client(self, **options: Any) -> anthropic.Anthropic:
        """Return a client that asks here."""
        transport = httpx2.MockTransport(self.answer)
        return anthropic.Anthropic(
            api_key="test",
            http_client=httpx2.Client(transport=transport),
            **{"max_retries": 0, **options},
        )

    def async_client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Return an asynchronous client that asks here."""
        transport = httpx2.MockTransport(self.answer_async)
        return anthropic.AsyncAnthropic(
            api_key="test",
            http_client=httpx2.AsyncClient(transport=transport),
            **{"max_retries": 0, **options},
        )


@contextmanager
def instrumented(bus: Bus) -> Iterator[None]:
    """Emit what the SDK does in a block on *bus*."""
    llmevents.instrument("anthropic", bus=bus)
    try:
        yield
    finally:
        llmevents.uninstrument("anthropic")


def root(provider: FakeProvider) -> str:
    """Return the address that the SDK adds ``/v1/messages`` to."""
    return provider.base_url.removesuffix("/v1")


def asked_by(create: Any, exchange: Exchange) -> dict[str, Any]:
    """Return the recorded request as parameters; unknown ones as ``extra_body``."""
    known = signature(create).parameters
    given = {key: each for key, each in exchange.request.items() if key in known}
    others = {key: each for key, each in exchange.request.items() if key not in known}
    return {**given, "extra_body": others or None}


def send(client: Any, exchange: Exchange, *, raw: bool = False) -> Any:
    """Send a request like the recorded one; it may have to be awaited."""
    beta = "beta" in exchange.query
    resource = client.beta.messages if beta else client.messages
    asked = asked_by(resource.create, exchange)
    return (resource.with_raw_response if raw else resource).create(**asked)


def replay_anthropic(provider: FakeProvider, exchange: Exchange) -> object:
    """Send one recorded exchange through the SDK and read the whole answer."""
    with (
        provider.serve(exchange),
        anthropic.Anthropic(
            base_url=root(provider), api_key="test", max_retries=0
        ) as client,
    ):
        try:
            result = send(client, exchange)
            return list(result) if exchange.request.get("stream") else result
        except anthropic.APIError as error:
            return error


def in_loop(main: Callable[[], Awaitable[T]]) -> T:
    """Return what *main* returns in an event loop of its own."""

    async def limited() -> T:
        return await asyncio.wait_for(main(), 30.0)

    return asyncio.run(limited())
