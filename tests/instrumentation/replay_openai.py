"""Recorded traffic of OpenAI, and of servers that speak its language, through openai."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import openai

from llmevents.testing.provider import Exchange
from tests.instrumentation.sdk import described


RESOURCES: Mapping[str, str] = {
    "chat": "chat.completions",
    "responses": "responses",
    "text_completion": "completions",
    "embeddings": "embeddings",
}


def replay_openai(
    client: openai.OpenAI, exchange: Exchange, *, raw: bool = False
) -> object:
    """Ask like the recorded request; returns the whole answer, or the error."""
    try:
        result = _send(client, exchange, raw=raw)
        result = result.parse() if raw else result
        return described(list(result) if exchange.request.get("stream") else result)
    except openai.APIError as error:
        return described(error)


async def replay_openai_async(
    client: openai.AsyncOpenAI, exchange: Exchange, *, raw: bool = False
) -> object:
    try:
        result = await _send(client, exchange, raw=raw)
        result = result.parse() if raw else result
        if exchange.request.get("stream"):
            return described([chunk async for chunk in result])
    except openai.APIError as error:
        return described(error)
    return described(result)


# The requests are recorded: their parameters are whatever somebody once asked.
def _send(client: Any, exchange: Exchange, *, raw: bool) -> Any:  # noqa: ANN401
    """Send a request like the recorded one; what it returns may have to be awaited."""
    resource = client
    for part in RESOURCES[exchange.operation].split("."):
        resource = getattr(resource, part)
    known = signature(resource.create).parameters
    given = {key: value for key, value in exchange.request.items() if key in known}
    others = {key: value for key, value in exchange.request.items() if key not in known}
    create = (resource.with_raw_response if raw else resource).create
    return create(**given, extra_body=others or None)
