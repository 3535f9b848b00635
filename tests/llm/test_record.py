"""`llm.record`: calls that are told of afterwards."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from llmevents import Bus, OptionError, llm
from llmevents.llm import Usage
from llmevents.testing import CapturedEvents, ManualClock, capture
from tests.llm.calls import RESPONSE, SPANS, numbers
from tests.outcomes import outcomes


def test_a_call_is_told_in_one_line(bus: Bus, events: CapturedEvents) -> None:
    llm.record(
        provider="acme",
        model="tiny-1",
        input_tokens=1000,
        output_tokens=500,
        use_case="chat_answer",
        bus=bus,
    )
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]
    stop = events[1].metadata
    assert (stop["provider"], stop["model"]) == ("acme", "tiny-1")
    assert stop["use_case"] == "chat_answer"
    assert numbers(events) == [
        {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
    ]


@pytest.mark.parametrize(
    ("given", "nanoseconds"),
    [
        pytest.param(1_200_000_000, 1_200_000_000, id="nanoseconds"),
        pytest.param(timedelta(milliseconds=1200), 1_200_000_000, id="timedelta"),
        pytest.param(0, 0, id="unknown"),
    ],
)
def test_it_began_as_long_ago_as_it_took(
    given: int | timedelta, nanoseconds: int
) -> None:
    clock = ManualClock()
    bus = Bus(strict=True, clock=clock)
    now = clock.time_ns()
    with capture(*SPANS, bus=bus) as events:
        llm.record(model="tiny-1", duration=given, bus=bus)
    start, stop = events
    assert start.measurements["system_time"] == now - nanoseconds
    assert stop.measurements["duration"] == nanoseconds


def test_a_response_is_read_and_usage_adds_what_it_lacks(
    bus: Bus, events: CapturedEvents
) -> None:
    llm.record(RESPONSE, bus=bus)
    llm.record(usage=Usage(input_tokens=3), output_tokens=1, bus=bus)
    assert [found["total_tokens"] for found in numbers(events)] == [7, 4]
    assert events[1].metadata["response_model"] == "tiny-1-2026"


def test_an_embedding_states_its_texts_and_their_length(
    bus: Bus, events: CapturedEvents
) -> None:
    llm.record(operation="embedding", input_tokens=9, texts=3, dimensions=8, bus=bus)
    assert numbers(events, "llm.embedding.stop") == [
        {"input_tokens": 9, "texts": 3, "dimensions": 8}
    ]
    assert events[0].metadata["operation"] == "embeddings"


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        pytest.param(TimeoutError("slow"), "exception timeout error", id="exception"),
        pytest.param("quota", "exception error error", id="text"),
        pytest.param(None, "stop success", id="none"),
    ],
)
def test_it_ends_as_it_is_told(
    error: BaseException | str | None, ended: str, bus: Bus, events: CapturedEvents
) -> None:
    llm.record(model="tiny-1", error=error, bus=bus)
    assert outcomes(events) == [ended]
    if error is not None:
        assert events[1].metadata["error_message"] == str(error)


@pytest.mark.parametrize("cost", [0.0021, "0.0021", Decimal("0.0021")], ids=repr)
def test_a_cost_that_is_known_beats_every_price(
    cost: float | str | Decimal, bus: Bus, events: CapturedEvents
) -> None:
    llm.record(provider="openai", model="gpt-4o", input_tokens=1, cost=cost, bus=bus)
    stop = events.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 2_100_000
    assert stop.metadata["cost_source"] == "override"


def test_within_a_call_it_is_a_request_of_that_call(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        llm.record(input_tokens=3, output_tokens=4, bus=bus)
    assert "llm.provider.request.stop" in events.names()
    assert [found["total_tokens"] for found in numbers(events)] == [7]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param(
            {"operation": "chats"}, r"\('chat'\?\), got 'chats'", id="near operation"
        ),
        pytest.param({"operation": "x"}, "'moderation', got 'x'", id="operation"),
        pytest.param({"duration": -1}, "0 or more, got -1", id="negative"),
        pytest.param({"duration": 1.5}, "an int, or a timedelta.*got 1.5", id="float"),
        pytest.param({"duration": True}, "an int.*got True", id="bool"),
        pytest.param({"cost": "much"}, "much", id="cost"),
        pytest.param({"cost": -1}, "-1", id="negative cost"),
    ],
)
def test_what_cannot_be_is_refused(
    wrong: dict[str, Any], message: str, bus: Bus, events: CapturedEvents
) -> None:
    with pytest.raises(OptionError, match=message):
        llm.record(bus=bus, **wrong)
    assert not events
