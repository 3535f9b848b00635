"""Recorded traffic of Cohere, through its SDK."""

from __future__ import annotations

from typing import Any

import cohere

from llmevents.testing.provider import Exchange


PREFIXES = {"rerank": "llm.rerank"}


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
