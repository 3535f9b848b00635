"""Recorded traffic of Gemini and Vertex AI, through the google-genai SDK.

Some exchanges were recorded with another SDK, which asks for enumerations as numbers.
This one does not, and cannot read them, so that it is answered with the names that a
server gives to who does not ask for numbers; and with a stream of events where the
other had asked for an array.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import httpx
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange
from tests.instrumentation.replaying import Ask, AskLater, root


NAMES: Mapping[str, Mapping[int, str]] = {
    "finishReason": {1: "STOP", 2: "MAX_TOKENS"},
    "modality": {1: "TEXT", 2: "IMAGE"},
    "trafficType": {1: "ON_DEMAND"},
}
"""Field -> name of a number (Vertex AI, ``content.proto``, v1)."""


def as_answered(exchange: Exchange) -> Exchange:
    """Return what the server would have answered to this SDK."""
    if "enum-encoding" not in exchange.query or exchange.status >= 400:
        return exchange
    body = _named(json.loads(exchange.response))
    if exchange.stream:
        events = "".join(f"data: {json.dumps(part)}\n\n" for part in body)
        return replace(
            exchange, response=events.encode(), content_type="text/event-stream"
        )
    return replace(exchange, response=json.dumps(body).encode())


# Of JSON: any type.
def _named(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_named(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: NAMES[key][item]
        if key in NAMES and isinstance(item, int)
        else _named(item)
        for key, item in value.items()
    }


def client_for(exchange: Exchange, url: str, **options: Any) -> genai.Client:  # noqa: ANN401  # the SDK's own
    """Return a client of the API that was asked, with a server at *url*."""
    if exchange.provider == "google":
        known = types.HttpOptions(base_url=url, **options)
        return genai.Client(api_key="test", http_options=known)
    _, version, _, project, _, location, *_ = exchange.path.split("/")
    return genai.Client(
        enterprise=True,
        project=project,
        location=location,
        credentials=Credentials("test"),  # type: ignore[no-untyped-call]  # google-auth's
        http_options=types.HttpOptions(base_url=url, api_version=version, **options),
    )


def kind_of_client(exchange: Exchange) -> str:
    """Return what clients for two exchanges have in common if one will do."""
    before, _, _ = exchange.path.partition("/models/")
    return before


class _Clients:
    """One client for each kind, as making one takes long."""

    def __init__(self, provider: FakeProvider, **options: Any) -> None:  # noqa: ANN401  # the SDK's own
        self._url = root(provider)
        self._options = options
        self._made: dict[str, genai.Client] = {}

    def get(self, exchange: Exchange) -> genai.Client:
        kind = kind_of_client(exchange)
        if kind not in self._made:
            self._made[kind] = client_for(exchange, self._url, **self._options)
        return self._made[kind]

    def close(self) -> None:
        for client in self._made.values():
            client.close()

    async def aclose(self) -> None:
        for client in self._made.values():
            await client.aio.aclose()
            client.close()


@contextmanager
def asking(provider: FakeProvider) -> Iterator[Ask]:
    clients = _Clients(provider)
    try:
        yield lambda exchange: replay_google_genai(clients.get(exchange), exchange)
    finally:
        clients.close()


@asynccontextmanager
async def asking_by_aiohttp(
    provider: FakeProvider,
    **options: Any,  # noqa: ANN401  # the SDK's own
) -> AsyncIterator[AskLater]:
    """Send as the SDK does by default, if aiohttp is there."""
    clients = _Clients(provider, **options)
    try:
        yield lambda each: replay_google_genai_async(clients.get(each), each)
    finally:
        await clients.aclose()


@asynccontextmanager
async def asking_later(provider: FakeProvider) -> AsyncIterator[AskLater]:
    """Send by httpx, which the SDK does only if there is a reason to."""
    arguments = {"transport": httpx.AsyncHTTPTransport()}
    async with asking_by_aiohttp(provider, async_client_args=arguments) as ask:
        yield ask


def replay_google_genai(client: genai.Client, exchange: Exchange) -> object:
    """Ask for what was recorded; returns the whole answer described, or its error."""
    asked = _asked(exchange)
    try:
        if exchange.operation == "embeddings":
            return described(client.models.embed_content(**asked))
        if exchange.stream:
            chunks = client.models.generate_content_stream(**asked)
            return [described(chunk) for chunk in chunks]
        return described(client.models.generate_content(**asked))
    except errors.APIError as error:
        return (type(error), error.code, str(error))


async def replay_google_genai_async(client: genai.Client, exchange: Exchange) -> object:
    asked = _asked(exchange)
    models = client.aio.models
    try:
        if exchange.operation == "embeddings":
            return described(await models.embed_content(**asked))
        if exchange.stream:
            chunks = await models.generate_content_stream(**asked)
            return [described(chunk) async for chunk in chunks]
        return described(await models.generate_content(**asked))
    except errors.APIError as error:
        return (type(error), error.code, str(error))


def _asked(exchange: Exchange) -> dict[str, Any]:
    model = exchange.path.rpartition("/")[2].partition(":")[0]
    if exchange.operation == "embeddings":
        texts = [each["content"]["parts"] for each in exchange.request["requests"]]
        return {"model": model, "contents": [parts[0]["text"] for parts in texts]}
    config = types.GenerateContentConfig(temperature=0.5)
    return {"model": model, "contents": "Hello you", "config": config}


def described(response: Any) -> dict[str, Any]:  # noqa: ANN401  # any of the SDK's
    """Return what a response says, but not when it was sent."""
    said: dict[str, Any] = response.model_dump(exclude={"sdk_http_response"})
    return said
