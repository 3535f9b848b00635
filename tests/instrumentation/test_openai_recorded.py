"""Recorded traffic of providers, through the real SDK, against what its bodies state."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from llmevents import Bus
from llmevents.testing import capture
from llmevents.testing.provider import Exchange
from tests.data import needs_data
from tests.instrumentation.replay_openai import replay_openai, replay_openai_async
from tests.instrumentation.replaying import (
    Replayed,
    recorded,
    replay_unnoticed,
    wrongs,
)
from tests.instrumentation.sdk import (
    WITHOUT_REQUESTS,
    async_client_of,
    client_of,
    http,
)


pytestmark = needs_data

HEARD = (*WITHOUT_REQUESTS, "llm.provider.**")

Replay = Callable[[tuple[str, ...], Bus, bool], list[Replayed]]


class Server:
    """Answers whatever is asked with the recording that is to be replayed next."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None

    def __call__(self, _request: object) -> Any:  # noqa: ANN401  # of the HTTP library
        assert self.exchange is not None
        return http.Response(
            self.exchange.status,
            headers={"content-type": self.exchange.content_type or "application/json"},
            content=self.exchange.response,
        )


def replay(providers: tuple[str, ...], bus: Bus, raw: bool) -> list[Replayed]:
    """Send every request through the SDK and read the whole answer."""
    replayed = []
    server = Server()
    with client_of(server, max_retries=0) as client:
        for exchange in recorded(*providers):
            server.exchange = exchange
            with capture(*HEARD, bus=bus, scope="process") as events:
                seen = replay_openai(client, exchange, raw=raw)
            replayed.append(Replayed(exchange, seen, events))
    return replayed


def replay_async(providers: tuple[str, ...], bus: Bus, raw: bool) -> list[Replayed]:
    """Do the same with the asynchronous client."""
    server = Server()

    async def ask_all() -> list[Replayed]:
        replayed = []
        async with async_client_of(server, max_retries=0) as client:
            for exchange in recorded(*providers):
                server.exchange = exchange
                with capture(*HEARD, bus=bus, scope="process") as events:
                    seen = await replay_openai_async(client, exchange, raw=raw)
                replayed.append(Replayed(exchange, seen, events))
        return replayed

    return asyncio.run(ask_all())


@pytest.mark.parametrize("ask_all", [replay, replay_async], ids=["sync", "async"])
@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
def test_every_exchange_of_openai_is_measured_as_stated_and_passed_through(
    ask_all: Replay, raw: bool
) -> None:
    """185 of 185: what the events say is true, and the caller notices nothing."""
    watched = replay_unnoticed("openai", lambda bus: ask_all(("openai",), bus, raw))
    assert wrongs(watched) == []
    assert len(watched) == 185
    ends = [each.events[-1].metadata for each in watched]
    assert Counter(end["status"] for end in ends) == {"success": 177, "error": 8}
    assert sum("http_status" in end for end in ends) == 8
    assert sum("response_model" in end for end in ends) == 177
    assert sum("stream" in end for end in ends) == 31
    assert {end["provider"] for end in ends} == {"openai"}
    asked = [each.exchange.request.get("model") for each in watched]
    assert [end.get("model") for end in ends] == asked


@pytest.mark.parametrize("ask_all", [replay, replay_async], ids=["sync", "async"])
def test_servers_that_speak_openais_language_are_measured_too(ask_all: Replay) -> None:
    """15 of 15 chats of Mistral, Together and Groq, usage in ``x_groq`` included."""
    servers = ("mistral", "together", "groq")
    watched = replay_unnoticed("openai", lambda bus: ask_all(servers, bus, False))
    assert wrongs(watched) == []
    assert len(watched) == 15
