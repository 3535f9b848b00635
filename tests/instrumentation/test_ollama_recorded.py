"""Recorded traffic of Ollama, through the real SDK, against what its bodies state."""

from __future__ import annotations

from collections.abc import Callable

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


ollama = pytest.importorskip("ollama", reason="the ollama SDK is missing")

from tests.instrumentation.replay_ollama import (  # noqa: E402  # needs the SDK
    PREFIXES,
    replay_ollama,
    replay_ollama_async,
    root,
)


pytestmark = needs_data

Replay = Callable[[FakeProvider, Bus], list[Replayed]]


def in_sync(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    client = ollama.Client(root(provider))
    with client._client:
        return replay(
            provider,
            recorded("ollama"),
            bus,
            lambda exchange: replay_ollama(client, exchange),
        )


def in_async(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    async def main() -> list[Replayed]:
        client = ollama.AsyncClient(root(provider))
        async with client._client:
            return await replay_async(
                provider,
                recorded("ollama"),
                bus,
                lambda exchange: replay_ollama_async(client, exchange),
            )

    return in_loop(main)


@pytest.mark.parametrize("ask_all", [in_sync, in_async], ids=["sync", "async"])
def test_every_exchange_of_ollama_is_measured_as_stated_and_passed_through(
    ask_all: Replay, provider: FakeProvider
) -> None:
    """10 of 10: what the events say is true, and the caller notices nothing."""
    bus = Bus(strict=True)
    bare = ask_all(provider, bus)
    with instrumented("ollama", bus):
        watched = ask_all(provider, bus)
    assert wrongs(watched, PREFIXES) == []
    assert [each.seen for each in watched] == [each.seen for each in bare]
    assert not any(each.events for each in bare)
    ends = [each.events[-1].metadata for each in watched]
    assert len(ends) == 10
    assert {end["provider"] for end in ends} == {"ollama"}
    assert [end["status"] for end in ends].count("error") == 1
    assert [end.get("http_status") for end in ends if end["status"] == "error"] == [404]
    assert [end["model"] for end in ends] == [
        each.exchange.request["model"] for each in watched
    ]
    assert sum("stream" in end for end in ends) == 2
    assert set(bus.stats().values()) == {0}
