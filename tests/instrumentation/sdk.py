"""What tests of an instrumented SDK have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import openai
from pydantic import BaseModel

import llmevents
from llmevents import Bus
from llmevents.testing import FakeProvider


if TYPE_CHECKING:
    from openai.types.chat import (
        ChatCompletionMessageParam,
        ChatCompletionStreamOptionsParam,
    )

T = TypeVar("T")

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello you"}]
WITH_USAGE: ChatCompletionStreamOptionsParam = {"include_usage": True}

TIMEOUT_SECONDS = 30.0
"""How long a test may take before it counts as hanging."""


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
