"""What tests of an instrumented SDK have in common."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import openai
from pydantic import BaseModel

import llmevents
from llmevents import Bus
from llmevents._catalogue import INFERENCE
from llmevents.testing import FakeProvider


if TYPE_CHECKING:
    from openai.types.chat import (
        ChatCompletionMessageParam,
        ChatCompletionStreamOptionsParam,
    )

T = TypeVar("T")

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello you"}]
WITH_USAGE: ChatCompletionStreamOptionsParam = {"include_usage": True}

WITHOUT_REQUESTS = (
    *(f"llm.{operation}.*" for operation in INFERENCE),
    "llm.provider.*",
    "llm.provider.auth.refresh",
    "myapp.**",
)
"""Patterns of what a test emits, but for attempts on the wire, prices and audits."""

TIMEOUT_SECONDS = 300.0
"""How long a test may take before it counts as hanging, on a busy machine too."""


@contextmanager
def instrumented(bus: Bus) -> Iterator[None]:
    """Emit what the SDK does in a block on *bus*."""
    llmevents.instrument("openai", bus=bus)
    try:
        yield
    finally:
        llmevents.uninstrument("openai")


def in_async(
    provider: FakeProvider, use: Callable[[openai.AsyncOpenAI], Awaitable[T]]
) -> T:
    """Return what *use* returns for a client in an event loop of its own."""

    async def main() -> T:
        async with openai.AsyncOpenAI(
            base_url=provider.base_url, api_key="test", max_retries=0
        ) as client:
            return await asyncio.wait_for(use(client), TIMEOUT_SECONDS)

    return asyncio.run(main())


def described(seen: object) -> object:
    """Return all that a caller can tell of a result, except which request it was."""
    if isinstance(seen, BaseModel):
        return (type(seen), seen.model_dump(warnings=False), seen.model_fields_set)
    if isinstance(seen, list):
        return [described(each) for each in seen]
    if isinstance(seen, BaseException):
        facts = ("status_code", "code", "param", "body")
        return (
            type(seen),
            str(seen),
            type(seen.__cause__),
            type(seen.__context__),
            [getattr(seen, fact, None) for fact in facts],
        )
    return (type(seen), seen)


CHUNKS = 10
"""Of the provider's reply of eight words: a role, the words, the reason it ended."""

# What a caller does to a stream, and what it sees of that, is of any type.
Use = Callable[[Any], object]
AsyncUse = Callable[[Any], Awaitable[object]]


def refused(operation: Callable[[], object]) -> object:
    """Return what *operation* raises, or else what it returns."""
    try:
        return described(operation())
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the same without us
        return described(error)


async def refused_later(operation: Awaitable[object]) -> object:
    try:
        return described(await operation)
    except (Exception, StopAsyncIteration) as error:  # noqa: BLE001  # likewise
        return described(error)


def without_id(chunks: list[Any]) -> list[object]:
    """Return what chunks say, but not which request they belong to."""
    return [chunk.model_dump(exclude={"id", "created"}) for chunk in chunks]


http: Any = import_module("httpx2" if openai.__version__ >= "3" else "httpx")
"""The HTTP library that the SDK sends by."""

Handler = Callable[[Any], Any]
"""What answers a request in place of a server; both are of the HTTP library."""

URL = "https://api.openai.com/v1"


def client_of(handler: Handler, **options: Any) -> openai.OpenAI:  # noqa: ANN401  # of the SDK
    """Return a client whose requests *handler* answers, without any network."""
    sender = http.Client(transport=http.MockTransport(handler))
    made = {"base_url": URL, "api_key": "test", **options}
    return openai.OpenAI(http_client=sender, **made)


def async_client_of(handler: Handler, **options: Any) -> openai.AsyncOpenAI:  # noqa: ANN401
    """Return the same, asynchronous."""
    sender = http.AsyncClient(transport=http.MockTransport(handler))
    made = {"base_url": URL, "api_key": "test", **options}
    return openai.AsyncOpenAI(http_client=sender, **made)


def server_sent(*parts: object) -> bytes:
    """Return the body of a stream of these parts, as OpenAI ends it."""
    lines = [f"data: {json.dumps(part)}\n\n" for part in parts]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def answer(body: object, status: int = 200, headers: Any = None) -> Any:  # noqa: ANN401
    """Return a response: bytes are a stream, everything else is sent as JSON."""
    if isinstance(body, bytes):
        kind = {"content-type": "text/event-stream"}
        return http.Response(status, headers={**kind, **(headers or {})}, content=body)
    return http.Response(status, headers=headers, json=body)
