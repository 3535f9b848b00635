"""Recorded traffic of Mistral, through its SDK."""

from __future__ import annotations

from inspect import signature
from typing import Any

from mistralai.client import Mistral

from llmevents.testing.provider import Exchange


PREFIXES = {"chat": "llm.chat"}


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
