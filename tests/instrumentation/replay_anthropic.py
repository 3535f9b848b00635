"""Recorded traffic of Anthropic, through its SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anthropic

from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange
from tests.instrumentation.anthropic_sdk import send
from tests.instrumentation.replaying import Ask, AskLater, root
from tests.instrumentation.sdk import described


@contextmanager
def asking(provider: FakeProvider, *, raw: bool = False) -> Iterator[Ask]:
    with anthropic.Anthropic(
        base_url=root(provider), api_key="test", max_retries=0
    ) as client:

        def ask(exchange: Exchange) -> object:
            result = send(client, exchange, raw=raw)
            result = result.parse() if raw else result
            return described(list(result) if exchange.request.get("stream") else result)

        yield ask


@asynccontextmanager
async def asking_later(
    provider: FakeProvider, *, raw: bool = False
) -> AsyncIterator[AskLater]:
    async with anthropic.AsyncAnthropic(
        base_url=root(provider), api_key="test", max_retries=0
    ) as client:

        async def ask(exchange: Exchange) -> object:
            result = await send(client, exchange, raw=raw)
            result = await result.parse() if raw else result
            if exchange.request.get("stream"):
                result = [chunk async for chunk in result]
            return described(result)

        yield ask
