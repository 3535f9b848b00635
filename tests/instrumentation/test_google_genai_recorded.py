"""Recorded traffic of Google by aiohttp; by httpx it is in ``test_recorded.py``."""

from __future__ import annotations

import pytest

from llmevents.testing import FakeProvider
from tests.data import needs_data
from tests.instrumentation.replaying import (
    recorded,
    replay_async,
    replay_unnoticed,
    wrongs,
)


pytest.importorskip("google.genai", reason="the google-genai SDK is missing")

from tests.instrumentation.replay_google_genai import (  # needs the SDK
    as_answered,
    asking_by_aiohttp,
)


@needs_data
# The SDK makes a subclass of the session of aiohttp.
@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
def test_what_aiohttp_sends_is_one_request_for_each_call(
    provider: FakeProvider,
) -> None:
    """By default the SDK sends by aiohttp, of which no attempt is seen."""
    pytest.importorskip("aiohttp", reason="the SDK uses aiohttp only if it is there")
    exchanges = [as_answered(each) for each in recorded("google", "vertex")]
    watched = replay_unnoticed(
        "google_genai",
        lambda bus: replay_async(provider, exchanges, bus, asking_by_aiohttp),
    )
    assert [line for line in wrongs(watched) if "attempts" not in line] == []
    for each in watched:
        phases = [
            event.event[-1]
            for event in each.events
            if event.event[2] == "request" and "chunk" not in event.event[-1]
        ]
        ending = "exception" if each.exchange.status >= 400 else "stop"
        assert phases == ["start", ending]
