"""Recorded traffic of Anthropic, through the real SDK, against what its bodies state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, capture
from llmevents.testing.provider import Exchange, read_exchanges
from tests.data import EXCHANGES, needs_data
from tests.instrumentation.sdk import described
from tests.instrumentation.truth import complaints


pytest.importorskip("anthropic", reason="the anthropic SDK is missing")

import anthropic  # see above

from tests.instrumentation.anthropic_sdk import (  # needs the SDK
    in_loop,
    instrumented,
    root,
    send,
)


pytestmark = needs_data


class Answer(NamedTuple):
    """What one exchange came to."""

    # As `described`: of any type.
    seen: Any
    events: CapturedEvents


Replay = Callable[[FakeProvider, Bus, bool], list[Answer]]


@pytest.fixture(autouse=True)
def _old_models() -> Iterator[None]:
    """The SDK warns of models that were recorded long ago."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The model", category=DeprecationWarning
        )
        yield


@cache
def recorded() -> list[Exchange]:
    return [
        exchange
        for exchange in read_exchanges(EXCHANGES)
        if exchange.provider == "anthropic"
    ]


def replay(provider: FakeProvider, bus: Bus, raw: bool) -> list[Answer]:
    """Send every request through the SDK and read the whole answer."""

    def ask(client: anthropic.Anthropic, exchange: Exchange) -> object:
        result = send(client, exchange, raw=raw)
        result = result.parse() if raw else result
        return list(result) if exchange.request.get("stream") else result

    answers = []
    with anthropic.Anthropic(
        base_url=root(provider), api_key="test", max_retries=0
    ) as client:
        for exchange in recorded():
            with provider.serve(exchange), capture(bus=bus, scope="process") as events:
                seen = described(ask(client, exchange))
            answers.append(Answer(seen, events))
    return answers


def replay_async(provider: FakeProvider, bus: Bus, raw: bool) -> list[Answer]:
    """Do the same with the asynchronous client."""

    async def ask(client: anthropic.AsyncAnthropic, exchange: Exchange) -> object:
        result = await send(client, exchange, raw=raw)
        result = await result.parse() if raw else result
        if exchange.request.get("stream"):
            return [chunk async for chunk in result]
        return result

    async def main() -> list[Answer]:
        answers = []
        async with anthropic.AsyncAnthropic(
            base_url=root(provider), api_key="test", max_retries=0
        ) as client:
            for exchange in recorded():
                with (
                    provider.serve(exchange),
                    capture(bus=bus, scope="process") as events,
                ):
                    seen = described(await ask(client, exchange))
                answers.append(Answer(seen, events))
        return answers

    return in_loop(main)


@pytest.mark.parametrize("ask_all", [replay, replay_async], ids=["sync", "async"])
@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
def test_every_exchange_of_anthropic_is_measured_as_stated_and_passed_through(
    ask_all: Replay, raw: bool, provider: FakeProvider
) -> None:
    """25 of 25: what the events say is true, and the caller notices nothing."""
    bus = Bus(strict=True)
    bare = ask_all(provider, bus, raw)
    with instrumented(bus):
        watched = ask_all(provider, bus, raw)
    pairs = zip(recorded(), watched, strict=True)
    assert [
        line
        for exchange, answer in pairs
        for line in complaints(exchange, answer.events, "llm.chat")
    ] == []
    assert not any(answer.events for answer in bare)
    assert [answer.seen for answer in watched] == [answer.seen for answer in bare]
    ends = [answer.events[-1].metadata for answer in watched]
    assert len(ends) == 25
    assert {end["status"] for end in ends} == {"success"}
    assert {end["provider"] for end in ends} == {"anthropic"}
    assert [end["model"] for end in ends] == [
        each.request["model"] for each in recorded()
    ]
    assert sum("stream" in end for end in ends) == 7
    assert all(end["finish_reasons"] and end["response_model"] for end in ends)
    assert set(bus.stats().values()) == {0}
