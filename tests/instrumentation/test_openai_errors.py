"""Errors and cancelled requests of openai: told as they are, and passed on unchanged."""

from __future__ import annotations

import asyncio
import inspect
import traceback
import types
from collections.abc import Iterator

import openai
import pytest

import llmevents
from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, Reply, capture
from tests.instrumentation.sdk import (
    MESSAGES,
    WITHOUT_REQUESTS,
    described,
    in_async,
    instrumented,
)
from tests.outcomes import outcomes, until


NEVER = Reply(delay_seconds=120)
"""What comes later than any test waits; the provider's end interrupts it."""


def test_a_rate_limit_is_an_event_of_its_own(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(Reply.rate_limited(retry_after_seconds=2.5))
    with pytest.raises(openai.RateLimitError, match="Rate limit reached"):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert events.names() == [
        "llm.chat.start",
        "llm.provider.rate_limit",
        "llm.chat.exception",
    ]
    assert events[1].measurements == {
        "retry_after": 2_500_000_000,
        "remaining_requests": 0,
        "remaining_tokens": 9000,
    }
    assert events[1].metadata == {
        "provider": "openai",
        "model": "gpt-4o",
        "span_id": events[0].metadata["span_id"],
        "http_status": 429,
    }
    assert events[2].metadata["http_status"] == 429


def test_a_rate_limit_is_heard_by_who_listens_to_nothing_else(
    client: openai.OpenAI,
) -> None:
    bus = Bus()
    with instrumented(bus), capture("llm.provider.rate_limit", bus=bus) as events:
        for _ in range(2):
            with pytest.raises(openai.RateLimitError, match="Rate limit reached"):
                client.embeddings.create(model="fault-429", input="one")
    assert [event.metadata for event in events] == [
        {"provider": "openai", "model": "fault-429", "http_status": 429}
    ] * 2


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param(
            "fault-401", ("openai.AuthenticationError", "error", 401), id="401"
        ),
        pytest.param("fault-429", ("openai.RateLimitError", "error", 429), id="429"),
        pytest.param(
            "fault-500", ("openai.InternalServerError", "error", 500), id="500"
        ),
        pytest.param(
            "fault-slow", ("openai.APITimeoutError", "timeout", None), id="slow"
        ),
        pytest.param(
            "fault-disconnect", ("openai.APIConnectionError", "error", None), id="gone"
        ),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_errors_reach_the_caller_as_they_are(
    model: str,
    said: tuple[str, str, int | None],
    asynchronous: bool,
    provider: FakeProvider,
    client: openai.OpenAI,
) -> None:
    """The same class, text, cause and context, and one terminal event that says so."""
    error_type, status, http_status = said
    timeout = None
    if model == "fault-slow":
        # On a busy machine connecting may take long, and reading what came may too.
        timeout = openai.Timeout(60, read=0.5)
        provider.script(*[NEVER] * 2)

    def ask() -> object:
        try:
            client.chat.completions.create(
                model=model, messages=MESSAGES, timeout=timeout
            )
        except openai.OpenAIError as error:
            return error
        return None

    async def ask_later(client: openai.AsyncOpenAI) -> object:
        try:
            await client.chat.completions.create(
                model=model, messages=MESSAGES, timeout=timeout
            )
        except openai.OpenAIError as error:
            return error
        return None

    def seen() -> object:
        return described(in_async(provider, ask_later) if asynchronous else ask())

    bus = Bus(strict=True)
    bare = seen()
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = seen()
    assert watched == bare
    assert events.names()[0] == "llm.chat.start"
    assert outcomes(events) == [f"exception {status} error"]
    end = events[-1].metadata
    assert end["error_type"] == error_type
    assert end.get("http_status") == http_status


def test_an_error_keeps_its_traceback(client: openai.OpenAI, bus: Bus) -> None:
    """Ours are frames more, none less, and the SDK's are where they were."""

    def frames() -> list[str]:
        with pytest.raises(openai.AuthenticationError, match="API key") as caught:
            client.chat.completions.create(model="fault-401", messages=MESSAGES)
        return [
            frame.name for frame in traceback.extract_tb(caught.value.__traceback__)
        ]

    with capture(bus=bus):
        watched = frames()
    llmevents.uninstrument("openai")
    bare = frames()
    assert watched[0] == bare[0] == "frames"
    assert watched[-len(bare) + 1 :] == bare[1:]


def test_arguments_that_the_sdk_refuses_are_refused_alike(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    with pytest.raises(TypeError, match="Missing required arguments"):
        client.chat.completions.create(messages=MESSAGES)  # type: ignore[call-overload]  # wrong on purpose
    assert "model" not in events[0].metadata

    async def forget(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(TypeError, match="Missing required arguments"):
            await client.chat.completions.create(model="gpt-4o")  # type: ignore[call-overload]  # wrong on purpose

    in_async(provider, forget)
    assert outcomes(events) == ["exception error error"] * 2
    assert provider.calls == ()


class _TouchyError(RuntimeError):
    """An exception that cannot be asked for anything."""

    @property
    def status_code(self) -> int:
        msg = "no status"
        raise ZeroDivisionError(msg)

    @property
    def completion(self) -> object:
        msg = "no completion"
        raise ZeroDivisionError(msg)


def test_an_error_whose_attributes_raise_reaches_the_caller(
    client: openai.OpenAI, events: CapturedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A custom transport may raise anything."""

    def refuse(*args: object, **kwargs: object) -> object:
        msg = "touchy"
        raise _TouchyError(msg)

    monkeypatch.setattr(client.chat.completions, "_post", refuse)
    with pytest.raises(_TouchyError, match="touchy"):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert outcomes(events) == ["exception error error"]
    assert "http_status" not in events[-1].metadata


def test_a_refusal_without_headers_is_a_rate_limit_all_the_same(
    client: openai.OpenAI, events: CapturedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RefusedError(RuntimeError):
        status_code = 429

    def refuse(*args: object, **kwargs: object) -> object:
        msg = "refused"
        raise RefusedError(msg)

    monkeypatch.setattr(client.chat.completions, "_post", refuse)
    with pytest.raises(RefusedError, match="refused"):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert events.named("llm.provider.rate_limit")[0].measurements == {}


def test_a_handler_that_raises_costs_the_caller_nothing(
    client: openai.OpenAI, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        msg = "handler"
        raise RuntimeError(msg)

    with bus.attach("fails", "llm.**", fail):
        answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert answer.choices[0].message.content
    # Of the call and of its request each a start and an end, and the price.
    assert bus.stats()["handler_failures"] == 5


def test_an_interrupt_in_a_handler_ends_the_call_and_the_program(
    client: openai.OpenAI, provider: FakeProvider, bus: Bus, events: CapturedEvents
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with (
        bus.attach("interrupts", "llm.chat.start", interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert outcomes(events) == ["exception error exit"]
    assert provider.calls == ()
    with (
        bus.attach("interrupts", "llm.provider.rate_limit", interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        client.chat.completions.create(model="fault-429", messages=MESSAGES)
    assert outcomes(events) == ["exception error exit"] * 2


def test_a_cancelled_task_is_told_so(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(NEVER)

    async def cancel(client: openai.AsyncOpenAI) -> None:
        task = asyncio.create_task(
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        )
        await until(lambda: len(provider.calls) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_async(provider, cancel)
    assert outcomes(events) == ["exception cancelled cancelled"]


def test_a_caller_that_stops_waiting_is_told_as_cancelled(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(NEVER)

    async def give_up(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(
                client.chat.completions.create(model="gpt-4o", messages=MESSAGES),
                timeout=0.2,
            )

    in_async(provider, give_up)
    assert outcomes(events) == ["exception cancelled cancelled"]


def test_a_request_that_is_never_awaited_never_was(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    """Neither events nor warnings beside those that the SDK causes by itself."""

    async def forget(client: openai.AsyncOpenAI) -> None:
        request = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert inspect.iscoroutine(request)
        request.close()
        task = asyncio.create_task(
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_async(provider, forget)
    assert events == []
    assert provider.calls == ()


def test_a_request_that_is_closed_on_its_way_was_cancelled(
    provider: FakeProvider, events: CapturedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event loop that is shut down closes what is still running."""

    @types.coroutine
    def wait() -> Iterator[None]:
        yield

    async def never(*args: object, **kwargs: object) -> None:
        await wait()

    async def close(client: openai.AsyncOpenAI) -> None:
        monkeypatch.setattr(client.chat.completions, "_post", never)
        request = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        request.send(None)
        assert outcomes(events) == []
        request.close()

    in_async(provider, close)
    assert outcomes(events) == ["stop cancelled"]


def test_many_requests_at_once_are_all_counted(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    async def ask_many(client: openai.AsyncOpenAI) -> None:
        await asyncio.gather(
            *(
                client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
                for _ in range(20)
            )
        )

    in_async(provider, ask_many)
    stops = events.named("llm.chat.stop")
    assert len(stops) == 20
    assert len({stop.metadata["span_id"] for stop in stops}) == 20
    served = provider.totals("chat")
    for measurement in ("input_tokens", "output_tokens"):
        told = sum(stop.measurements[measurement] for stop in stops)
        assert told == getattr(served, measurement)
