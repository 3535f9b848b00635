"""Recorded traffic of Google, through the real SDK, against what its bodies state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from llmevents import Bus
from llmevents.testing import FakeProvider
from tests.data import needs_data
from tests.instrumentation.replaying import (
    Replayed,
    in_loop,
    instrumented,
    recorded,
    replay,
    replay_async,
    wrongs,
)


genai = pytest.importorskip("google.genai", reason="the google-genai SDK is missing")

import httpx  # noqa: E402  # comes with the SDK

from tests.instrumentation.replay_google_genai import (  # noqa: E402  # needs the SDK
    PREFIXES,
    as_answered,
    client_for,
    kind_of_client,
    replay_google_genai,
    replay_google_genai_async,
)


pytestmark = [
    needs_data,
    # The SDK makes a subclass of the session of aiohttp.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]

Replay = Callable[[FakeProvider, Bus], list[Replayed]]

PROVIDERS = {"google": "gcp.gemini", "vertex": "gcp.vertex_ai"}


class _Clients:
    """One client for each kind, as making one takes long."""

    def __init__(self, provider: FakeProvider, **options: Any) -> None:  # noqa: ANN401  # the SDK's own
        self._url = provider.base_url.removesuffix("/v1")
        self._options = options
        self._made: dict[str, Any] = {}

    # The SDK's client, which may not be installed.
    def get(self, exchange: Any) -> Any:  # noqa: ANN401
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


def exchanges() -> list[Any]:
    return [as_answered(each) for each in recorded("google", "vertex")]


def in_sync(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    clients = _Clients(provider)
    try:
        return replay(
            provider,
            exchanges(),
            bus,
            lambda exchange: replay_google_genai(clients.get(exchange), exchange),
        )
    finally:
        clients.close()


def in_async(provider: FakeProvider, bus: Bus, **options: Any) -> list[Replayed]:  # noqa: ANN401  # the SDK's own
    async def main() -> list[Replayed]:
        clients = _Clients(provider, **options)
        try:
            return await replay_async(
                provider,
                exchanges(),
                bus,
                lambda exchange: replay_google_genai_async(
                    clients.get(exchange), exchange
                ),
            )
        finally:
            await clients.aclose()

    return in_loop(main)


def by_httpx(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    """Send by httpx, which the SDK does only if there is a reason to."""
    transport = httpx.AsyncHTTPTransport()
    return in_async(provider, bus, async_client_args={"transport": transport})


@pytest.mark.parametrize("ask_all", [in_sync, by_httpx], ids=["sync", "async"])
def test_every_exchange_of_google_is_measured_as_stated_and_passed_through(
    ask_all: Replay, provider: FakeProvider
) -> None:
    """74 of 74: what the events say is true, and the caller notices nothing."""
    bus = Bus(strict=True)
    bare = ask_all(provider, bus)
    with instrumented("google_genai", bus):
        watched = ask_all(provider, bus)
    assert wrongs(watched, PREFIXES) == []
    assert [each.seen for each in watched] == [each.seen for each in bare]
    assert not any(each.events for each in bare)
    ends = [each.events[-1].metadata for each in watched]
    assert len(ends) == 74
    assert [end["provider"] for end in ends] == [
        PROVIDERS[each.exchange.provider] for each in watched
    ]
    assert Counter(end["status"] for end in ends) == {"success": 71, "error": 3}
    assert [end["http_status"] for end in ends if end["status"] == "error"] == [
        400,
        400,
        404,
    ]
    assert sum("stream" in end for end in ends) == 14
    assert sum("response_model" in end for end in ends) == 69
    assert set(bus.stats().values()) == {0}


def test_what_aiohttp_sends_is_one_request_for_each_call(
    provider: FakeProvider,
) -> None:
    """By default the SDK sends by aiohttp, of which no attempt is seen."""
    pytest.importorskip("aiohttp", reason="the SDK uses aiohttp only if it is there")
    bus = Bus(strict=True)
    bare = in_async(provider, bus)
    with instrumented("google_genai", bus):
        watched = in_async(provider, bus)
    failed = {each.exchange.id for each in watched if each.exchange.status >= 400}
    lines = [line for line in wrongs(watched, PREFIXES) if "attempts" not in line]
    assert lines == []
    assert [each.seen for each in watched] == [each.seen for each in bare]
    for each in watched:
        phases = [
            event.event[-1]
            for event in each.events
            if event.event[2] == "request" and "chunk" not in event.event[-1]
        ]
        ending = "exception" if each.exchange.id in failed else "stop"
        assert phases == ["start", ending]
    assert set(bus.stats().values()) == {0}
