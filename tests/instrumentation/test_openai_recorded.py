"""Recorded traffic of providers, through the real SDK, against what its bodies state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any, NamedTuple

import openai
import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, capture
from llmevents.testing.provider import Exchange, read_exchanges
from tests.data import EXCHANGES, needs_data
from tests.instrumentation.sdk import described, in_async, instrumented


pytestmark = needs_data

PREFIXES = {"chat": "llm.chat", "embeddings": "llm.embedding"}

MEASURED = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "reasoning": "reasoning_tokens",
}
"""Key of the truth -> measurement that states it."""

ZERO_IS_UNKNOWN = {"cache_read", "reasoning"}
"""Counts of which 0 and "not stated" are equal; see the data's README."""


class Answer(NamedTuple):
    """What one exchange came to."""

    # As `described`: of any type.
    seen: Any
    events: CapturedEvents


Replay = Callable[[FakeProvider, list[Exchange], Bus, bool], list[Answer]]


@cache
def recorded(*providers: str) -> list[Exchange]:
    """Return the chats and embeddings of these providers."""
    return [
        exchange
        for exchange in read_exchanges(EXCHANGES)
        if exchange.provider in providers and exchange.operation in PREFIXES
    ]


# The requests are recorded: their parameters are whatever somebody once asked.
def send(client: Any, exchange: Exchange, *, raw: bool) -> Any:  # noqa: ANN401
    """Send a request like the recorded one; what it returns may have to be awaited."""
    resource = (
        client.chat.completions if exchange.operation == "chat" else client.embeddings
    )
    known = signature(resource.create).parameters
    given = {key: value for key, value in exchange.request.items() if key in known}
    others = {key: value for key, value in exchange.request.items() if key not in known}
    create = (resource.with_raw_response if raw else resource).create
    return create(**given, extra_body=others or None)


def replay(
    provider: FakeProvider, exchanges: list[Exchange], bus: Bus, raw: bool
) -> list[Answer]:
    """Send every request through the SDK and read the whole answer."""

    def ask(client: openai.OpenAI, exchange: Exchange) -> object:
        try:
            result = send(client, exchange, raw=raw)
            result = result.parse() if raw else result
            return list(result) if exchange.request.get("stream") else result
        except openai.APIError as error:
            return error

    answers = []
    with openai.OpenAI(
        base_url=provider.base_url, api_key="test", max_retries=0
    ) as client:
        for exchange in exchanges:
            with (
                provider.serve(exchange),
                capture(bus=bus, scope="process") as events,
            ):
                seen = described(ask(client, exchange))
            answers.append(Answer(seen, events))
    return answers


def replay_async(
    provider: FakeProvider, exchanges: list[Exchange], bus: Bus, raw: bool
) -> list[Answer]:
    """Do the same with the asynchronous client."""

    async def ask(client: openai.AsyncOpenAI, exchange: Exchange) -> object:
        try:
            result = await send(client, exchange, raw=raw)
            result = result.parse() if raw else result
            if exchange.request.get("stream"):
                return [chunk async for chunk in result]
        except openai.APIError as error:
            return error
        return result

    async def ask_all(client: openai.AsyncOpenAI) -> list[Answer]:
        answers = []
        for exchange in exchanges:
            with (
                provider.serve(exchange),
                capture(bus=bus, scope="process") as events,
            ):
                seen = described(await ask(client, exchange))
            answers.append(Answer(seen, events))
        return answers

    return in_async(provider, ask_all)


def complaints(exchange: Exchange, events: CapturedEvents) -> list[str]:
    """Return what *events* say wrongly about *exchange*; one line each."""
    prefix = PREFIXES[exchange.operation]
    phases = ("start", "stop", "exception")
    names = [each.name for each in events if each.event[-1] in phases]
    ending = "stop" if exchange.status < 400 else "exception"
    if names != [f"{prefix}.start", f"{prefix}.{ending}"]:
        return [f"{exchange.id}: {names}"]
    truth = exchange.truth or {}
    found = []
    for key, measurement in MEASURED.items():
        stated, measured = truth.get(key), events[-1].measurements.get(measurement)
        unknown = key in ZERO_IS_UNKNOWN and not stated and not measured
        if stated != measured and not unknown:
            found.append(f"{exchange.id}: {key} is {stated}, measured {measured}")
    return found


def all_complaints(exchanges: list[Exchange], answers: list[Answer]) -> list[str]:
    pairs = zip(exchanges, answers, strict=True)
    return [
        line
        for exchange, answer in pairs
        for line in complaints(exchange, answer.events)
    ]


@pytest.mark.parametrize("ask_all", [replay, replay_async], ids=["sync", "async"])
@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
def test_every_exchange_of_openai_is_measured_as_stated_and_passed_through(
    ask_all: Replay, raw: bool, provider: FakeProvider
) -> None:
    """143 of 143: what the events say is true, and the caller notices nothing."""
    bus = Bus(strict=True)
    exchanges = recorded("openai")
    bare = ask_all(provider, exchanges, bus, raw)
    with instrumented(bus):
        watched = ask_all(provider, exchanges, bus, raw)
    assert all_complaints(exchanges, watched) == []
    assert not any(answer.events for answer in bare)
    assert [answer.seen for answer in watched] == [answer.seen for answer in bare]
    assert len(watched) == 143
    ends = [answer.events[-1].metadata for answer in watched]
    assert Counter(end["status"] for end in ends) == {"success": 136, "error": 7}
    assert sum("http_status" in end for end in ends) == 7
    assert sum("response_model" in end for end in ends) == 136
    assert sum("stream" in end for end in ends) == 21
    assert set(bus.stats().values()) == {0}


@pytest.mark.parametrize("ask_all", [replay, replay_async], ids=["sync", "async"])
def test_servers_that_speak_openais_language_are_measured_too(
    ask_all: Replay, provider: FakeProvider
) -> None:
    """15 of 15 chats of Mistral, Together and Groq, usage in ``x_groq`` included."""
    bus = Bus(strict=True)
    exchanges = recorded("mistral", "together", "groq")
    bare = ask_all(provider, exchanges, bus, False)
    with instrumented(bus):
        watched = ask_all(provider, exchanges, bus, False)
    assert all_complaints(exchanges, watched) == []
    assert [answer.seen for answer in watched] == [answer.seen for answer in bare]
    assert len(watched) == 15
