"""Recorded traffic of Mistral, through its SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from inspect import signature
from typing import Any

from mistralai.client import Mistral

from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange
from tests.instrumentation.replaying import Ask, AskLater, root


@contextmanager
def asking(provider: FakeProvider) -> Iterator[Ask]:
    with Mistral(api_key="test", server_url=root(provider)) as client:
        yield partial(replay_mistral, client)


@asynccontextmanager
async def asking_later(provider: FakeProvider) -> AsyncIterator[AskLater]:
    async with Mistral(api_key="test", server_url=root(provider)) as client:
        yield partial(replay_mistral_async, client)


def replay_mistral(client: Mistral, exchange: Exchange) -> object:
    """Ask like the recorded request; returns the whole answer."""
    asked = _asked(client.chat.complete, exchange)
    if not exchange.stream:
        return client.chat.complete(**asked).model_dump()
    with client.chat.stream(**asked) as events:
        return [event.model_dump() for event in events]


async def replay_mistral_async(client: Mistral, exchange: Exchange) -> object:
    asked = _asked(client.chat.complete, exchange)
    if not exchange.stream:
        return (await client.chat.complete_async(**asked)).model_dump()
    async with await client.chat.stream_async(**asked) as events:
        return [event.model_dump() async for event in events]


def _asked(method: Any, exchange: Exchange) -> dict[str, Any]:  # noqa: ANN401  # the SDK's
    known = signature(method).parameters
    return {
        key: value
        for key, value in exchange.request.items()
        if key in known and key != "stream"
    }
