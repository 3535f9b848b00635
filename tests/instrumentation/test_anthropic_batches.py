"""Results of message batches: calls whose usage is known afterwards."""

# ruff: noqa: ANN401  # clients, parameters and results are the SDK's own, of any type

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from llmevents import Bus
from llmevents.llm.pricing import Pricer, set_default_pricer
from llmevents.testing import CapturedEvents, capture


anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is missing")

import httpx2  # noqa: E402  # comes with the SDK

from llmevents.instrumentation import _anthropic_batches  # noqa: E402  # likewise
from tests.instrumentation.anthropic_sdk import (  # noqa: E402  # needs the SDK
    ASKED,
    MESSAGE,
    USED,
    Wire,
    in_loop,
    instrumented,
    message,
)


def result(number: int, kind: str = "succeeded") -> dict[str, Any]:
    stated: dict[str, Any] = {"type": kind}
    if kind == "succeeded":
        stated["message"] = {**MESSAGE, "id": f"msg_{number}"}
    return {"custom_id": f"c{number}", "result": stated}


RESULTS = [result(1), result(2, "errored"), result(3, "expired"), result(4)]


def batch(name: str = "msgbatch_1") -> httpx2.Response:
    about = {
        "id": name,
        "type": "message_batch",
        "processing_status": "ended",
        "results_url": f"https://api.anthropic.com/v1/messages/batches/{name}/results",
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00Z",
        "request_counts": {},
    }
    return httpx2.Response(200, json=about)


def lines(results: list[Any] = RESULTS) -> httpx2.Response:
    body = "".join(json.dumps(each) + "\n" for each in results)
    headers = {"content-type": "application/x-jsonl"}
    return httpx2.Response(200, headers=headers, content=body.encode())


def twice(results: list[Any] = RESULTS) -> Wire:
    return Wire(batch, lambda: lines(results), batch, lambda: lines(results))


def ids(results: Any) -> list[str]:
    return [each.custom_id for each in results]


@pytest.fixture
def bus() -> Iterator[Bus]:
    strict = Bus(strict=True)
    with instrumented(strict):
        yield strict


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    with capture("llm.chat.*", bus=bus, scope="process") as seen:
        yield seen


def test_each_result_that_succeeded_is_a_call_of_a_batch(
    events: CapturedEvents,
) -> None:
    """What failed is not billed, and is no call."""
    found = twice().client().messages.batches.results("msgbatch_1")
    assert type(found).__name__ == "ResultsProxy"
    assert isinstance(found, anthropic._decoders.jsonl.JSONLDecoder)
    assert ids(found) == ["c1", "c2", "c3", "c4"]
    assert [each.name for each in events] == ["llm.chat.start", "llm.chat.stop"] * 2
    for event, response_id in zip(events[1::2], ("msg_1", "msg_4"), strict=True):
        assert {key: event.measurements[key] for key in USED} == USED
        assert event.metadata["batch"] is True
        assert event.metadata["response_id"] == response_id
        assert event.metadata["provider"] == "anthropic"
        assert event.metadata["status"] == "success"


@pytest.fixture
def prices() -> Iterator[None]:
    """Those of Anthropic's pricing page: half of the base price in a batch."""
    alone = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}
    in_batch = {unit: price / 2 for unit, price in alone.items()}
    model = {**alone, "service_tiers": {"batch": in_batch}}
    pricer = Pricer({"anthropic/claude-sonnet-4-6": model}, built_in=False)
    former = set_default_pricer(pricer)
    yield
    set_default_pricer(former)


@pytest.mark.usefixtures("prices")
def test_results_are_priced_as_those_of_a_batch(bus: Bus) -> None:
    with capture("llm.chat.stop", bus=bus, scope="process") as events:
        client = Wire(message, batch, lines).client()
        client.messages.create(**ASKED)
        list(client.messages.batches.results("msgbatch_1"))
    alone, *batched = (each.measurements["cost_nano_usd"] for each in events)
    assert [2 * cost for cost in batched] == [alone, alone]


def test_results_that_are_read_again_are_not_counted_again(
    events: CapturedEvents,
) -> None:
    """Nor where the first reader stopped half-way: the second one goes on there."""
    client = twice().client()
    first = client.messages.batches.results("msgbatch_1")
    assert next(first).custom_id == "c1"
    assert len(events) == 2
    assert ids(client.beta.messages.batches.results("msgbatch_1")) == [
        "c1",
        "c2",
        "c3",
        "c4",
    ]
    assert [each.metadata["response_id"] for each in events[1::2]] == ["msg_1", "msg_4"]


def test_of_too_many_batches_the_oldest_is_forgotten(
    events: CapturedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_anthropic_batches, "MOST_BATCHES", 1)
    wire = Wire(
        *(
            reply
            for name in ("msgbatch_1", "msgbatch_2", "msgbatch_1")
            for reply in (lambda name=name: batch(name), lambda: lines([result(1)]))
        )
    )
    client = wire.client()
    for name in ("msgbatch_1", "msgbatch_2", "msgbatch_1"):
        list(client.messages.batches.results(name))
    assert len(events) == 6


def test_asynchronous_results_are_counted_too(events: CapturedEvents) -> None:
    async def main() -> list[str]:
        async with twice().async_client() as client:
            found = await client.messages.batches.results("msgbatch_1")
            first = await anext(found)
            again = await client.messages.batches.results("msgbatch_1")
            return [first.custom_id, *[each.custom_id async for each in again]]

    assert in_loop(main) == ["c1", "c1", "c2", "c3", "c4"]
    assert len(events) == 4


def test_results_of_a_raw_response_are_counted_when_it_is_parsed(
    events: CapturedEvents,
) -> None:
    response = twice().client().messages.batches.with_raw_response.results("msgbatch_1")
    assert response.status_code == 200
    parsed = response.parse()
    assert response.parse() is parsed
    assert ids(parsed) == ["c1", "c2", "c3", "c4"]
    assert len(events) == 4


def test_asynchronous_results_of_a_raw_response_are_counted_too(
    events: CapturedEvents,
) -> None:
    async def main() -> list[str]:
        async with twice().async_client() as client:
            batches = client.messages.batches.with_raw_response
            response = await batches.results("msgbatch_1")
            return [each.custom_id async for each in await response.parse()]

    assert in_loop(main) == ["c1", "c2", "c3", "c4"]
    assert len(events) == 4


def test_a_result_that_cannot_be_read_is_counted_as_refused(
    bus: Bus, events: CapturedEvents
) -> None:
    """The caller gets it all the same."""
    odd = {"custom_id": "odd", "result": None}
    wire = twice([odd, result(1)])
    assert ids(wire.client().messages.batches.results("msgbatch_1")) == ["odd", "c1"]
    assert len(events) == 2
    assert bus.stats()["refused_values"] == 1


def test_what_is_no_list_of_results_is_passed_on(events: CapturedEvents) -> None:
    """As for the response that the client's own ``get`` can be asked for."""
    path = "/v1/messages/batches/msgbatch_1/results"
    found = Wire(lines).client().get(path, cast_to=httpx2.Response)
    assert type(found) is httpx2.Response
    assert events == []


def test_where_nobody_listens_results_are_not_touched() -> None:
    with instrumented(Bus()):
        found = twice().client().messages.batches.results("msgbatch_1")
    assert type(found).__name__ == "JSONLDecoder"
    assert ids(found) == ["c1", "c2", "c3", "c4"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_wait_for_its_parents_lock() -> None:
    batches = _anthropic_batches.Batches(Bus(), lambda _client: "anthropic")
    with batches._lock:
        batches.after_fork_in_child()
        assert batches.is_new("msgbatch_1", 1)
