"""The SDK on a fake provider, with and without instrumentation."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

import llmevents
from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, capture
from tests.instrumentation.sdk import WITHOUT_REQUESTS


# Their helpers check something too, and have to show what differed.
pytest.register_assert_rewrite(
    "tests.instrumentation.checking", "tests.instrumentation.replaying"
)


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A strict bus that the SDK emits on during the test."""
    strict = Bus(strict=True)
    llmevents.instrument("openai", bus=strict)
    yield strict
    llmevents.uninstrument("openai")


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    """What is emitted on that bus, wherever it comes from, but for requests."""
    with capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as captured:
        yield captured


@pytest.fixture
def all_events(bus: Bus) -> Iterator[CapturedEvents]:
    """The same, requests included."""
    with capture(
        *WITHOUT_REQUESTS, "llm.provider.**", bus=bus, scope="process"
    ) as captured:
        yield captured


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=provider.base_url, api_key="test", max_retries=0
    ) as made:
        yield made
