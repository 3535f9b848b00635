"""What is done with calls and streams of any SDK, and what has to come of it."""

# ruff: noqa: ANN401  # streams and results are the SDKs' own, of any type

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, capture
from tests.instrumentation.replaying import (
    Compared,
    compare,
    in_loop,
    instrumented,
    phases,
    raised,
    raised_later,
)
from tests.instrumentation.wire import Answer, Wire, as_json


# The call for a client, what is answered, the prefix of the events, and what the end of
# the call says in its metadata and in its measurements.
Asked = tuple[Callable[[Any], Any], object, str, dict[str, object], dict[str, int]]

# What is done with a stream, what is answered, and the status of the call then.
Use = tuple[Callable[[Any], object], Answer, str]
AsyncUse = tuple[Callable[[Any], Awaitable[object]], Answer, str]


class Streamed(NamedTuple):
    """A streamed chat of an SDK, and what its end says if it is a success."""

    sdk: str

    open: Callable[[Wire], Any]
    """Asks, and returns the stream."""

    open_async: Callable[[Wire], Awaitable[Any]]

    kind: Callable[[Any], object]
    """Tells what can be told of the stream by looking at it."""

    async_kind: Callable[[Any], object]

    metadata: Mapping[str, object]

    measured: Mapping[str, int]


def said(seen: Any) -> object:
    """Return what the SDK's models say, in lists or alone; all else is as it is."""
    if isinstance(seen, (list, tuple)):
        return [said(each) for each in seen]
    return seen.model_dump() if hasattr(seen, "model_dump") else seen


def failing(stream: Any) -> object:
    """Return what is raised by a stream that is read to its end."""
    return raised(lambda: list(stream))


async def failing_async(stream: Any) -> object:
    return await raised_later(read_async(stream))


def closed(stream: Any) -> object:
    """Return what is seen of a stream that is closed after its first part."""
    return [next(stream), stream.close(), raised(lambda: next(stream))]


async def closed_async(stream: Any) -> object:
    return [
        await anext(stream),
        await stream.aclose(),
        await raised_later(anext(stream)),
    ]


async def read_async(stream: Any) -> list[object]:
    return [part async for part in stream]


def read_outside(
    sdk: str, open_stream: Callable[[], Any]
) -> tuple[list[object], CapturedEvents]:
    """Return what a stream gives that a block returned, and what is emitted."""
    bus = Bus(strict=True)
    ask = llm.chat(bus=bus)(open_stream)
    with instrumented(sdk, bus), capture("llm.**", bus=bus) as events:
        parts = list(ask())
    return parts, events


def end_of(events: CapturedEvents, prefix: str = "llm.chat") -> Any:
    """Return the event that ends the only call of that kind, which ends once."""
    (start,) = events.named(f"{prefix}.start")
    ends = [*events.named(f"{prefix}.stop"), *events.named(f"{prefix}.exception")]
    assert [end.metadata["span_id"] for end in ends] == [start.metadata["span_id"]]
    return ends[0]


def check_operation(
    sdk: str,
    provider: str,
    asked: Asked,
    make: Callable[[Wire], Any],
    *,
    is_async: bool,
) -> None:
    """Check that nobody noticed a call of one request, and what its end says.

    Args:
        sdk: As it is instrumented.
        provider: As it is named in events.
        asked: The call, and what has to come of it.
        make: Returns a client.
        is_async: The call has to be awaited.
    """
    call, answer, prefix, metadata, measured = asked
    wire = Wire(as_json(answer))

    def program() -> object:
        made = make(wire)
        return said(in_loop(lambda: call(made)) if is_async else call(made))

    seen = compare(sdk, wire.and_sent(program))
    check_success(seen, prefix, {"provider": provider, **metadata}, measured)


def check_success(
    seen: Compared,
    prefix: str,
    metadata: Mapping[str, object],
    measured: Mapping[str, int],
) -> None:
    """Check that nobody noticed a call of one request, and what its end says."""
    assert seen.watched == seen.bare
    assert phases(seen.events) == [
        f"{prefix}.start",
        "llm.provider.request.start",
        "llm.provider.request.stop",
        f"{prefix}.stop",
    ]
    end = end_of(seen.events, prefix)
    assert seen.events[-1] is end
    wanted = {"status": "success", **metadata}
    assert {key: end.metadata.get(key) for key in wanted} == wanted
    assert {key: end.measurements.get(key) for key in measured} == measured


def check_stream(streamed: Streamed, used: Use) -> None:
    """Check that nobody noticed a streamed chat, and that it ended once, as it should."""
    use, answer, status = used
    wire = Wire(answer)

    def program() -> object:
        stream = streamed.open(wire)
        return streamed.kind(stream), use(stream)

    check_end(compare(streamed.sdk, wire.and_sent(program)), streamed, answer, status)


def check_async_stream(streamed: Streamed, used: AsyncUse) -> None:
    use, answer, status = used
    wire = Wire(answer)

    async def main() -> object:
        stream = await streamed.open_async(wire)
        return streamed.async_kind(stream), await use(stream)

    seen = compare(streamed.sdk, wire.and_sent(lambda: in_loop(main)))
    check_end(seen, streamed, answer, status)


def check_end(seen: Compared, streamed: Streamed, answer: Answer, status: str) -> None:
    assert seen.watched == seen.bare
    assert len(phases(seen.events, "llm.chat")) == 2
    end = end_of(seen.events)
    assert end.metadata["status"] == status
    assert end.metadata["stream"] is True
    refusal = answer.status if answer.status >= 400 else None
    assert end.metadata.get("http_status") == refusal
    if status == "success":
        stated = {key: end.metadata.get(key) for key in streamed.metadata}
        assert stated == streamed.metadata
        measured = {key: end.measurements.get(key) for key in streamed.measured}
        assert measured == streamed.measured


def check_left_alone(sdk: str, warning: str) -> None:
    """Check that an SDK is not instrumented, and that a warning says why."""
    with pytest.warns(RuntimeWarning, match=warning):
        llmevents.instrument(sdk, bus=Bus(strict=True))
    llmevents.uninstrument(sdk)
