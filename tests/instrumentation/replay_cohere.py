"""Recorded traffic of Cohere, through its SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import cohere

from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange
from tests.instrumentation.replaying import Ask, AskLater, root


@contextmanager
def asking(provider: FakeProvider) -> Iterator[Ask]:
    with cohere.ClientV2(api_key="test", base_url=root(provider)) as client:
        yield partial(replay_cohere, client)


@asynccontextmanager
async def asking_later(provider: FakeProvider) -> AsyncIterator[AskLater]:
    async with cohere.AsyncClientV2(api_key="test", base_url=root(provider)) as client:
        yield partial(replay_cohere_async, client)


def replay_cohere(client: cohere.ClientV2, exchange: Exchange) -> object:
    """Ask like the recorded request; returns the whole answer."""
    return client.rerank(**_asked(exchange)).model_dump()


async def replay_cohere_async(
    client: cohere.AsyncClientV2, exchange: Exchange
) -> object:
    return (await client.rerank(**_asked(exchange))).model_dump()


def _asked(exchange: Exchange) -> dict[str, Any]:
    known = ("model", "query", "documents", "top_n")
    return {key: exchange.request[key] for key in known}
