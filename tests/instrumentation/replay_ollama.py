"""Recorded traffic of Ollama, through its SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import ollama

from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange
from tests.instrumentation.replaying import Ask, AskLater, root


@contextmanager
def asking(provider: FakeProvider) -> Iterator[Ask]:
    client = ollama.Client(root(provider))
    with client._client:
        yield partial(replay_ollama, client)


@asynccontextmanager
async def asking_later(provider: FakeProvider) -> AsyncIterator[AskLater]:
    client = ollama.AsyncClient(root(provider))
    async with client._client:
        yield partial(replay_ollama_async, client)


def replay_ollama(client: ollama.Client, exchange: Exchange) -> object:
    """Ask like the recorded request; returns the whole answer, or its error."""
    asked = {**exchange.request, "stream": exchange.stream}
    try:
        answer = client.chat(**asked)
        return [part.model_dump() for part in answer] if exchange.stream else answer
    except ollama.ResponseError as error:
        return (str(error), error.status_code)


async def replay_ollama_async(client: ollama.AsyncClient, exchange: Exchange) -> object:
    asked = {**exchange.request, "stream": exchange.stream}
    try:
        answer = await client.chat(**asked)
        if exchange.stream:
            return [part.model_dump() async for part in answer]
    except ollama.ResponseError as error:
        return (str(error), error.status_code)
    return answer
