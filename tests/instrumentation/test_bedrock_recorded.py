"""Recorded traffic of Bedrock, through boto3, against what its bodies state."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, capture
from llmevents.testing.provider import Exchange, read_exchanges
from tests.data import EXCHANGES, needs_data
from tests.instrumentation.truth import complaints


pytest.importorskip("boto3", reason="boto3 is missing")

from tests.instrumentation.bedrock_sdk import (  # needs boto3
    ask,
    instrumented,
    make_client,
    model_in,
    root,
)


pytestmark = needs_data

COMPLETIONS = ("titan-text", "command-light-text")
"""Models of which an invocation is a completion."""


@cache
def recorded() -> list[Exchange]:
    return [
        exchange
        for exchange in read_exchanges(EXCHANGES)
        if exchange.provider == "bedrock"
    ]


def replay(provider: FakeProvider, bus: Bus) -> list[tuple[object, CapturedEvents]]:
    client = make_client(root(provider))
    answers: list[tuple[object, CapturedEvents]] = []
    for exchange in recorded():
        with provider.serve(exchange), capture(bus=bus, scope="process") as events:
            answers.append((ask(client, exchange), events))
    return answers


def prefix_of(exchange: Exchange) -> str:
    completes = any(part in exchange.path for part in COMPLETIONS)
    return "llm.completion" if completes and "invoke" in exchange.path else "llm.chat"


def test_every_exchange_of_bedrock_is_measured_as_stated_and_passed_through(
    provider: FakeProvider,
) -> None:
    """86 of 86: what the events say is true, and the caller notices nothing."""
    bus = Bus(strict=True)
    bare = replay(provider, bus)
    paths = [(call.path, call.request) for call in provider.calls]
    with instrumented(bus):
        watched = replay(provider, bus)
    pairs = zip(recorded(), watched, strict=True)
    assert [
        line
        for exchange, (_, events) in pairs
        for line in complaints(exchange, events, prefix_of(exchange))
    ] == []
    assert not any(events for _, events in bare)
    assert [seen for seen, _ in watched] == [seen for seen, _ in bare]
    assert [(call.path, call.request) for call in provider.calls[86:]] == paths
    ends: list[Any] = [events[-1].metadata for _, events in watched]
    assert len(ends) == 86
    assert Counter(end["status"] for end in ends) == {"success": 82, "error": 4}
    assert [end["model"] for end in ends] == [model_in(each) for each in recorded()]
    assert {end["provider"] for end in ends} == {"aws.bedrock"}
    streams = [each.path.endswith("-stream") for each in recorded()]
    assert ["stream" in end for end in ends] == streams
    assert [end.get("http_status") for end in ends if "http_status" in end] == [400] * 4
    assert set(bus.stats().values()) == {0}
