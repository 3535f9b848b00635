"""What calls cost, and what the events say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from llmevents import Bus, OptionError, llm
from llmevents._context import current_span, take_in, take_out
from llmevents.llm import Call
from llmevents.llm.pricing import Pricer, set_default_pricer
from llmevents.testing import CapturedEvents, capture
from tests.llm.calls import handle


PRICES = {
    "acme/tiny-1": {"input": 1, "output": 2},
    "acme/big-1": {"input": 10, "output": 20},
}
"""US dollars for a million tokens, so micro-dollars for one."""


@pytest.fixture(autouse=True)
def prices() -> Iterator[None]:
    """Nobody has prices but this test."""
    former = set_default_pricer(Pricer(PRICES, built_in=False))
    yield
    set_default_pricer(former)


@pytest.fixture
def told(bus: Bus) -> Iterator[CapturedEvents]:
    """What is said of costs, and how chats end."""
    names = ("llm.cost.*", "llm.chat.stop", "llm.chat.exception")
    with capture(*names, bus=bus, scope="process") as captured:
        yield captured


def _answer(model: str, tokens: int, **more: object) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    return {"model": model, "choices": [], "usage": {**usage, **more}}


def _under_way(bus: Bus, model: str, tokens: int = 1000) -> Call:
    request = handle(bus)
    request.annotate(model=model)
    request.record(_answer(model, tokens))
    return request


@contextmanager
def _current(call: Call) -> Iterator[None]:
    take_in(current_span, call)
    yield
    take_out(current_span, call)


def test_a_cost_is_told_just_before_the_call_that_states_it(
    bus: Bus, told: CapturedEvents
) -> None:
    with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
        call.usage(input_tokens=1000, output_tokens=500)
    calculated, stop = told
    assert calculated.name == "llm.cost.calculated"
    assert calculated.measurements == {"cost_nano_usd": 2_000_000}
    assert calculated.metadata == {
        "provider": "acme",
        "model": "tiny-1",
        "cost_source": "user",
        "span_id": stop.metadata["span_id"],
    }
    assert stop.measurements["cost_nano_usd"] == 2_000_000
    assert stop.metadata["cost_source"] == "user"


def test_a_call_without_a_price_costs_nothing_known(
    bus: Bus, told: CapturedEvents
) -> None:
    """A silent 0 is the commonest of wrong bills."""
    with llm.chat(provider="acme", model="new-1", bus=bus) as call:
        call.usage(input_tokens=1000)
    unpriced, stop = told
    assert unpriced.name == "llm.cost.unpriced"
    assert (unpriced.metadata["provider"], unpriced.metadata["model"]) == (
        "acme",
        "new-1",
    )
    assert "cost_nano_usd" not in stop.measurements


def test_a_call_that_failed_and_used_nothing_known_is_neither(
    bus: Bus, told: CapturedEvents
) -> None:
    with pytest.raises(ZeroDivisionError), llm.chat(model="tiny-1", bus=bus):
        raise ZeroDivisionError
    assert told.names() == ["llm.chat.exception"]


def test_each_request_has_the_price_of_its_own_model(
    bus: Bus, told: CapturedEvents
) -> None:
    with llm.chat(provider="acme", bus=bus):
        for model in ("tiny-1", "big-1"):
            with llm.chat(model=model, bus=bus) as request:
                request.record(_answer(model, 1000))
    stop = told.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 1_000_000 + 10_000_000
    assert len(told.named("llm.cost.calculated")) == 1


def test_what_can_be_priced_is_and_the_rest_is_told(
    bus: Bus, told: CapturedEvents
) -> None:
    with llm.chat(provider="acme", bus=bus):
        for model in ("tiny-1", "new-1"):
            with llm.chat(model=model, bus=bus) as request:
                request.record(_answer(model, 1000))
    assert told.names() == ["llm.cost.calculated", "llm.cost.unpriced", "llm.chat.stop"]
    assert told[1].metadata["model"] == "new-1"
    assert told[2].measurements["cost_nano_usd"] == 1_000_000


def test_a_call_that_does_not_wait_for_its_requests_states_what_they_used_by_then(
    bus: Bus, told: CapturedEvents
) -> None:
    """Each request at its own price, however deep; what ends later adds nothing."""
    with llm.chat(provider="acme", bus=bus) as call:
        requests = [_under_way(bus, "tiny-1"), handle(bus)]
        with _current(requests[1]):
            requests.append(_under_way(bus, "big-1", 500))
        call.fail(TimeoutError())
    for request in reversed(requests):
        request.stop()
    (end,) = told.named("llm.chat.exception")
    assert end.measurements["input_tokens"] == 1000 + 500
    assert end.measurements["cost_nano_usd"] == 1_000_000 + 5_000_000
    assert end.metadata["usage_complete"] is False
    assert told.names() == ["llm.cost.calculated", "llm.chat.exception"]


def test_what_a_call_was_told_counts_more_than_a_part_of_a_request(
    bus: Bus, told: CapturedEvents
) -> None:
    """As of Anthropic's first event, which states one token of output."""
    with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
        request = _under_way(bus, "tiny-1", 10)
        call.usage(input_tokens=1000, output_tokens=500)
        call.stop()
    request.stop()
    stop = told.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 2_000_000
    assert stop.metadata["usage_complete"] is False


def test_a_request_that_has_not_answered_yet_is_not_without_a_price(
    bus: Bus, told: CapturedEvents
) -> None:
    with llm.chat(provider="acme", bus=bus) as call:
        _under_way(bus, "tiny-1", 1000).stop()
        request = handle(bus)
        call.cancel()
    request.stop()
    assert told.names() == ["llm.cost.calculated", "llm.chat.stop"]


def test_costs_of_several_sources_are_mixed(bus: Bus, told: CapturedEvents) -> None:
    with llm.chat(provider="acme", bus=bus):
        llm.record(_answer("tiny-1", 1000), model="tiny-1", bus=bus)
        llm.record(_answer("tiny-1", 1000), cost="0.5", bus=bus)
    stop = told.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 1_000_000 + 500_000_000
    assert stop.metadata["cost_source"] == "mixed"


def test_what_the_provider_states_beats_every_price_list(
    bus: Bus, told: CapturedEvents
) -> None:
    with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
        call.record(_answer("tiny-1", 1000, cost=0.25))
    stop = told.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 250_000_000
    assert stop.metadata["cost_source"] == "provider"


@pytest.mark.parametrize("how", ["method", "measure"])
def test_what_the_program_states_beats_even_that(
    how: str, bus: Bus, told: CapturedEvents
) -> None:
    with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
        call.record(_answer("tiny-1", 1000, cost=0.25))
        if how == "method":
            call.cost(Decimal("0.125"))
        else:
            call.measure(cost_nano_usd=125_000_000)
    stop = told.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 125_000_000
    assert stop.metadata["cost_source"] == "override"


def test_a_cost_that_is_no_amount_is_refused(bus: Bus) -> None:
    with llm.chat(bus=bus) as call, pytest.raises(OptionError, match="-1"):
        call.cost(-1)


def test_an_answer_from_the_programs_cache_costs_nothing(
    bus: Bus, told: CapturedEvents
) -> None:
    """It says what it once used, and that was paid for then."""
    with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
        call.record(_answer("tiny-1", 1000))
        call.cached()
    stop = told.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 0
    assert stop.metadata["cost_source"] == "cache"
    assert stop.metadata["cached"] is True
    assert "input_tokens" not in stop.measurements


def test_batches_and_the_day_of_a_price_are_told(bus: Bus) -> None:
    tiers = {"batch": {"input": 0.5}}
    dated = {"acme/tiny-1": {"input": 1, "from": "2026-01-01", "service_tiers": tiers}}
    set_default_pricer(Pricer(dated, built_in=False))
    with capture("llm.chat.stop", bus=bus) as events:
        for batch in (False, True):
            llm.record(
                provider="acme",
                model="tiny-1",
                input_tokens=1000,
                batch=batch,
                bus=bus,
            )
    costs = [event.measurements["cost_nano_usd"] for event in events]
    assert costs == [1_000_000, 500_000]
    assert events[0].metadata["price_date"] == "2026-01-01"


def test_an_error_that_the_code_catches_can_be_stated(
    bus: Bus, told: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        call.error("no capacity")
    with llm.chat(bus=bus) as call:
        call.error(TimeoutError("slow"))
    said = [(e.metadata["status"], e.metadata["error_message"]) for e in told]
    assert said == [("error", "no capacity"), ("timeout", "slow")]
    assert told[0].metadata["error_type"].endswith("ReportedError")


def test_the_error_that_leaves_the_block_is_the_one(
    bus: Bus, told: CapturedEvents
) -> None:
    def work() -> None:
        with llm.chat(bus=bus) as call:
            call.error("no capacity")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert told[0].metadata["error_type"] == "ZeroDivisionError"


def test_the_first_chunk_can_be_stated_once(bus: Bus) -> None:
    with capture("llm.chat.*", bus=bus) as events:
        with llm.chat(bus=bus) as call:
            call.first_chunk()
            call.first_chunk()
        call.first_chunk()
    assert events.names() == ["llm.chat.start", "llm.chat.first_chunk", "llm.chat.stop"]
    assert events[2].measurements["time_to_first_chunk"] > 0


def test_raw_usage_goes_to_whoever_asks(bus: Bus) -> None:
    with capture("llmevents.usage.raw", "llm.chat.stop", bus=bus) as events:
        with llm.chat(bus=bus) as call:
            call.record(_answer("tiny-1", 7, own_detail=3))
        with llm.chat(bus=bus):
            pass
    raw, stop = events[:2]
    assert raw.metadata["raw"][0]["own_detail"] == 3
    assert raw.metadata["span_id"] == stop.metadata["span_id"]
    assert events.names().count("llmevents.usage.raw") == 1


def test_the_tools_that_an_answer_asks_for_are_named(
    bus: Bus, told: CapturedEvents
) -> None:
    calls = [{"id": "c-1", "type": "function", "function": {"name": "add"}}]
    message = {"role": "assistant", "tool_calls": calls}
    with llm.chat(bus=bus) as call:
        call.record({"choices": [{"index": 0, "message": message}]})
    assert told.named("llm.chat.stop")[0].metadata["tool_calls"] == ["add"]


def test_an_owner_takes_whom_it_asked_and_when_it_answered_from_its_request(
    bus: Bus,
) -> None:
    """A block that says nothing itself, around an SDK that streams."""
    with capture("llm.chat.*", bus=bus) as events, llm.chat(bus=bus):
        request = Call(bus, "llm.chat", scoped=False, sends=True)
        request.begin({"provider": "acme", "model": "tiny-1", "stream": True})
        assert list(request.observe([_answer("tiny-1", 3)] * 2))
    start, first, stop = events
    assert first.name == "llm.chat.first_chunk"
    said = {key: stop.metadata[key] for key in ("provider", "model", "stream")}
    assert said == {"provider": "acme", "model": "tiny-1", "stream": True}
    assert stop.measurements["chunks"] == 2
    assert stop.measurements["time_to_first_chunk"] >= 0
    assert "provider" not in start.metadata


def test_an_embedding_that_nobody_hears_is_part_of_the_chat_around_it() -> None:
    bus = Bus()

    @llm.embedding(provider="acme", model="tiny-1", bus=bus)
    def embed() -> dict[str, Any]:
        return {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 5}}

    with capture("llm.chat.stop", bus=bus) as events, llm.chat(bus=bus):
        embed()
        with llm.embedding(provider="acme", model="tiny-1", bus=bus) as call:
            call.usage(input_tokens=3)
    assert events[0].measurements["input_tokens"] == 8
