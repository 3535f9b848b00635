"""Recorded traffic of Mistral, through the real SDK, against what its bodies state."""

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


client_module = pytest.importorskip(
    "mistralai.client", reason="the mistralai SDK is missing, or of another major"
)

from tests.instrumentation.replay_mistral import (  # noqa: E402  # needs the SDK
    PREFIXES,
    replay_mistral,
    replay_mistral_async,
)


pytestmark = needs_data

Replay = Callable[[FakeProvider, Bus], list[Replayed]]


def in_sync(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    url = provider.base_url.removesuffix("/v1")
    with client_module.Mistral(api_key="test", server_url=url) as client:
        return replay(
            provider,
            recorded("mistral"),
            bus,
            lambda exchange: replay_mistral(client, exchange),
        )


def in_async(provider: FakeProvider, bus: Bus) -> list[Replayed]:
    url = provider.base_url.removesuffix("/v1")

    async def main() -> list[Replayed]:
        async with client_module.Mistral(api_key="test", server_url=url) as client:
            return await replay_async(
                provider,
                recorded("mistral"),
                bus,
                lambda exchange: replay_mistral_async(client, exchange),
            )

    return in_loop(main)


@pytest.mark.parametrize("ask_all", [in_sync, in_async], ids=["sync", "async"])
def test_every_exchange_of_mistral_is_measured_as_stated_and_passed_through(
    ask_all: Replay, provider: FakeProvider
) -> None:
    """6 of 6: what the events say is true, and the caller notices nothing."""
    bus = Bus(strict=True)
    bare = ask_all(provider, bus)
    with instrumented("mistral", bus):
        watched = ask_all(provider, bus)
    assert wrongs(watched, PREFIXES) == []
    assert [each.seen for each in watched] == [each.seen for each in bare]
    assert not any(each.events for each in bare)
    ends = [each.events[-1].metadata for each in watched]
    assert len(ends) == 6
    assert {end["provider"] for end in ends} == {"mistral_ai"}
    assert {end["status"] for end in ends} == {"success"}
    assert {end["model"] for end in ends} == {"mistral-small-latest"}
    assert all(end["stream"] and end["finish_reasons"] for end in ends)
    assert set(bus.stats().values()) == {0}
