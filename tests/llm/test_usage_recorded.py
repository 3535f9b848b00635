"""Recorded bodies of providers, read as bytes and part by part, against the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from llmevents.llm import Usage
from llmevents.llm._response import Reading
from llmevents.llm._wire import decode
from llmevents.llm.usage import read_usage
from llmevents.testing.provider import Exchange, read_exchanges
from tests.data import EXCHANGES, needs_data


pytestmark = needs_data

FIELDS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}
"""Key of the truth -> field of the usage."""

ZERO_IS_UNKNOWN = {"cache_read", "cache_write", "reasoning"}
"""Counts of which 0 and "not stated" are equal; see the data's README."""


@cache
def exchanges() -> list[Exchange]:
    return list(read_exchanges(EXCHANGES))


def complaints(exchange: Exchange, usage: Usage | None) -> list[str]:
    """Return what *usage* says wrongly about *exchange*; one line each."""
    if exchange.truth is None or usage is None:
        same = exchange.truth is None and usage is None
        return [] if same else [f"{exchange.id}: {exchange.truth}, read {usage}"]
    found = []
    for key, field in FIELDS.items():
        stated, read = exchange.truth.get(key), getattr(usage, field)
        unknown = key in ZERO_IS_UNKNOWN and not stated and not read
        if stated != read and not unknown:
            found.append(f"{exchange.id}: {key} is {stated}, read {read}")
    return found


def from_bytes(exchange: Exchange) -> Usage | None:
    return read_usage(exchange.response)


def from_parts(exchange: Exchange) -> Usage | None:
    reading = Reading()
    for part in decode(exchange.response):
        reading.read(part)
    return reading.usage


def from_a_list_of_parts(exchange: Exchange) -> Usage | None:
    return read_usage(list(decode(exchange.response)))


def from_parts_that_come_twice(exchange: Exchange) -> Usage | None:
    """Read as by a helper that gives each event again: counts are not added up."""
    return read_usage([part for part in decode(exchange.response) for _ in range(2)])


@pytest.mark.parametrize(
    "read",
    [from_bytes, from_parts, from_a_list_of_parts, from_parts_that_come_twice],
    ids=lambda read: read.__name__,
)
def test_every_body_states_exactly_the_truth(
    read: Callable[[Exchange], Usage | None],
) -> None:
    """396 of 396."""
    wrong = [line for each in exchanges() for line in complaints(each, read(each))]
    assert wrong == []
    assert len(exchanges()) == 396


def test_a_total_is_never_less_than_its_parts() -> None:
    for exchange in exchanges():
        usage = read_usage(exchange.response)
        known = {} if usage is None else usage.measurements()
        parts = known.get("input_tokens", 0) + known.get("output_tokens", 0)
        assert known.get("total_tokens", parts) >= parts, exchange.id


def test_a_stream_that_is_cut_short_states_no_more_than_the_whole() -> None:
    """Wherever it is cut: what was stated by then, and nothing made up."""
    for exchange in exchanges():
        body, whole = exchange.response, read_usage(exchange.response)
        limits = {} if whole is None else whole.measurements()
        for cut in (len(body) // 3, len(body) // 2, len(body) - 3):
            usage = read_usage(body[:cut])
            if usage is not None:
                assert (usage.output_tokens or 0) <= limits["output_tokens"], (
                    exchange.id
                )


def test_successful_responses_say_why_they_ended_and_who_answered() -> None:
    ended: Counter[str] = Counter()
    for exchange in exchanges():
        reading = Reading()
        reading.read(exchange.response)
        key = f"{exchange.provider} {exchange.operation}"
        if exchange.status >= 400:
            assert reading.finish_reasons == {}
            assert reading.facts == {}
            continue
        ended[f"{key} reason"] += bool(reading.finish_reasons)
        ended[f"{key} model"] += "response_model" in reading.facts
        ended[f"{key} total"] += 1
    for key in (
        "anthropic messages",
        "google generate_content",
        "groq chat",
        "mistral chat",
        "ollama chat",
        "openai chat",
        "openai responses",
        "together chat",
    ):
        assert ended[f"{key} reason"] == ended[f"{key} total"] > 0
        assert ended[f"{key} model"] == ended[f"{key} total"]


def test_who_ends_with_a_call_of_a_tool_names_it() -> None:
    asked = 0
    for exchange in exchanges():
        reading = Reading()
        reading.read(exchange.response)
        reasons = {reason.lower() for reason in reading.finish_reasons.values()}
        if reasons & {"tool_calls", "tool_use"}:
            assert reading.tool_calls == len(reading.tool_names) > 0, exchange.id
            asked += 1
    assert asked > 30


def test_the_raw_usage_holds_no_content() -> None:
    """What it has is short: counts, and names of tiers, modalities, regions."""
    for exchange in exchanges():
        reading = Reading()
        reading.read(exchange.response)
        assert bool(reading.raw) == (exchange.truth is not None), exchange.id
        for raw in reading.raw:
            assert len(repr(raw)) < 700, exchange.id
