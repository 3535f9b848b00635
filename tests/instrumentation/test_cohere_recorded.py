"""Recorded traffic of Cohere, through the real SDK, against what its body states."""

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


cohere = pytest.importorskip("cohere", reason="the cohere SDK is missing")

from tests.instrumentation.replay_cohere import (  # noqa: E402  # needs the SDK
    PREFIXES,
    replay_cohere,
    replay_cohere_async,
)


pytestmark = needs_data

Replay = Callable[[FakeProvider, Bus], list[Replayed]]


def in_sync(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    url = provider.base_url.removesuffix("/v1")
    with cohere.ClientV2(api_key="test", base_url=url) as client:
        return replay(
            provider,
            recorded("cohere"),
            bus,
            lambda exchange: replay_cohere(client, exchange),
        )


def in_async(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    url = provider.base_url.removesuffix("/v1")

    async def main() -> list[Replayed]:
        async with cohere.AsyncClientV2(api_key="test", base_url=url) as client:
            return await replay_async(
                provider,
                recorded("cohere"),
                bus,
                lambda exchange: replay_cohere_async(client, exchange),
            )

    return in_loop(main)


@pytest.mark.parametrize("ask_all", [in_sync, in_async], ids=["sync", "async"])
def test_the_exchange_of_cohere_is_measured_as_stated_and_passed_through(
    ask_all: Replay, provider: FakeProvider
) -> None:
    """1 of 1, of which the body states a search and no tokens."""
    bus = Bus(strict=True)
    bare = ask_all(provider, bus)
    with instrumented("cohere", bus):
        watched = ask_all(provider, bus)
    assert wrongs(watched, PREFIXES) == []
    assert [each.seen for each in watched] == [each.seen for each in bare]
    (end,) = [each.events[-1] for each in watched]
    assert end.measurements["searches"] == 1
    assert end.metadata["provider"] == "cohere"
    assert end.metadata["model"] == "rerank-english-v2.0"
    assert end.metadata["status"] == "success"
    assert set(bus.stats().values()) == {0}
