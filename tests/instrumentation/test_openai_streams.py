"""Streams of openai: the SDK's own to their callers, and one terminal event each."""

from __future__ import annotations

import collections.abc
import copy
import gc
from contextlib import aclosing, closing
from typing import Any

import openai
import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, Reply, capture
from tests.instrumentation.sdk import (
    CHUNKS,
    MESSAGES,
    WITH_USAGE,
    WITHOUT_REQUESTS,
    AsyncUse,
    Use,
    in_async,
    instrumented,
    refused,
    refused_later,
    without_id,
)
from tests.outcomes import outcomes


def read_all(stream: Any) -> object:  # noqa: ANN401
    return without_id(list(stream))


def step_to_the_end(stream: Any) -> object:  # noqa: ANN401
    seen = [next(stream) for _ in range(CHUNKS)]
    return without_id(seen), [refused(lambda: next(stream)) for _ in range(3)]


def read_in_two_loops(stream: Any) -> object:  # noqa: ANN401
    seen = []
    for chunk in stream:
        seen.append(chunk)
        if len(seen) == 3:
            break
    seen.append(next(stream))
    # In place: wrapt's own proxy is asked first here, because it can be added.
    seen += stream
    return without_id(seen), without_id(list(stream))


def read_in_a_block(stream: Any) -> object:  # noqa: ANN401
    with stream as entered:
        seen = without_id(list(entered))
    return seen, entered is stream, stream.response.is_closed


def leave_a_block_early(stream: Any) -> object:  # noqa: ANN401
    with stream as entered:
        seen = without_id([next(iter(entered))])
    return seen, stream.response.is_closed


def raise_in_a_block(stream: Any) -> object:  # noqa: ANN401
    def use() -> None:
        msg = "the caller's own"
        with stream:
            next(stream)
            raise ValueError(msg)

    return refused(use), stream.response.is_closed


def close_early(stream: Any) -> object:  # noqa: ANN401
    seen = without_id([next(stream)])
    returned = stream.close()
    again = stream.close()
    return seen, returned, again, stream.response.is_closed


def close_by_contextlib(stream: Any) -> object:  # noqa: ANN401
    with closing(stream) as entered:
        seen = without_id([next(entered)])
    return seen, stream.response.is_closed


def close_without_reading(stream: Any) -> object:  # noqa: ANN401
    stream.close()
    return stream.response.is_closed, refused(lambda: next(stream))


def break_and_forget(stream: Any) -> object:  # noqa: ANN401
    for chunk in stream:
        return without_id([chunk])
    return None


def forget(stream: Any) -> object:  # noqa: ANN401
    return stream.response.status_code


ABSTRACT = (
    "AsyncIterable",
    "AsyncIterator",
    "Awaitable",
    "Callable",
    "Collection",
    "Container",
    "Hashable",
    "Iterable",
    "Iterator",
    "Mapping",
    "Reversible",
    "Sequence",
    "Sized",
)


def is_a(stream: object, name: str) -> bool:
    return isinstance(stream, getattr(collections.abc, name))


SYNC_USES: dict[str, tuple[Use, str]] = {
    "read": (read_all, "stop success"),
    "stepped": (step_to_the_end, "stop success"),
    "two loops": (read_in_two_loops, "stop success"),
    "block": (read_in_a_block, "stop success"),
    "block left": (leave_a_block_early, "stop cancelled"),
    "block raises": (raise_in_a_block, "stop cancelled"),
    "closed": (close_early, "stop cancelled"),
    "closing": (close_by_contextlib, "stop cancelled"),
    "closed unread": (close_without_reading, "stop cancelled"),
    "break": (break_and_forget, "stop cancelled"),
    "never read": (forget, "stop cancelled"),
}


@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
@pytest.mark.parametrize(("use", "end"), SYNC_USES.values(), ids=SYNC_USES)
def test_a_stream_is_the_sdks_to_its_caller_and_ends_once(
    use: Use, end: str, raw: bool, provider: FakeProvider
) -> None:
    def seen() -> object:
        # A client of its own, because with_raw_response keeps the method it saw first.
        with openai.OpenAI(base_url=provider.base_url, api_key="test") as client:
            if raw:
                return use(
                    client.chat.completions.with_raw_response.create(
                        model="m", messages=MESSAGES, stream=True
                    ).parse()
                )
            return use(
                client.chat.completions.create(
                    model="m", messages=MESSAGES, stream=True
                )
            )

    bus = Bus(strict=True)
    bare = seen()
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = seen()
        gc.collect()
    assert watched == bare
    assert events.names()[0] == "llm.chat.start"
    assert outcomes(events) == [end]
    chunks = len(events.named("llm.chat.chunk"))
    assert events[-1].measurements.get("chunks", 0) == chunks
    if end == "stop cancelled":
        assert events[-1].metadata["usage_complete"] is False


async def read_all_later(stream: Any) -> object:  # noqa: ANN401
    return without_id([chunk async for chunk in stream])


async def step_to_the_end_later(stream: Any) -> object:  # noqa: ANN401
    seen = [await anext(stream) for _ in range(CHUNKS)]
    return without_id(seen), [await refused_later(anext(stream)) for _ in range(3)]


async def read_in_a_block_later(stream: Any) -> object:  # noqa: ANN401
    async with stream as entered:
        seen = without_id([chunk async for chunk in entered])
    return seen, entered is stream, stream.response.is_closed


async def leave_a_block_early_later(stream: Any) -> object:  # noqa: ANN401
    async with stream as entered:
        seen = without_id([await anext(entered)])
    return seen, stream.response.is_closed


async def close_early_later(stream: Any) -> object:  # noqa: ANN401
    seen = without_id([await anext(stream)])
    return seen, await stream.close(), await stream.close(), stream.response.is_closed


async def close_without_reading_later(stream: Any) -> object:  # noqa: ANN401
    return await stream.close(), stream.response.is_closed


async def aclose_later(stream: Any) -> object:  # noqa: ANN401
    """Openai 3 has this name too, so that `contextlib.aclosing` works; openai 2 not."""

    async def use() -> object:
        async with aclosing(stream):
            return without_id([await anext(stream)])

    seen = await refused_later(use())
    had = hasattr(stream, "aclose")
    await stream.close()
    return had, seen, stream.response.is_closed


async def break_and_forget_later(stream: Any) -> object:  # noqa: ANN401
    async for chunk in stream:
        return without_id([chunk])
    return None


async def look_at_it_later(stream: Any) -> object:  # noqa: ANN401
    seen = (
        stream.__class__,
        isinstance(stream, openai.AsyncStream),
        isinstance(stream, openai.Stream),
        [name for name in ABSTRACT if is_a(stream, name)],
        hasattr(stream, "__iter__"),
        stream.response.status_code,
    )
    await stream.close()
    return seen


ASYNC_USES: dict[str, tuple[AsyncUse, str]] = {
    "read": (read_all_later, "stop success"),
    "stepped": (step_to_the_end_later, "stop success"),
    "block": (read_in_a_block_later, "stop success"),
    "block left": (leave_a_block_early_later, "stop cancelled"),
    "closed": (close_early_later, "stop cancelled"),
    "closed unread": (close_without_reading_later, "stop cancelled"),
    "aclose": (aclose_later, "stop cancelled"),
    "break": (break_and_forget_later, "stop cancelled"),
    "looked at": (look_at_it_later, "stop cancelled"),
}


@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
@pytest.mark.parametrize(("use", "end"), ASYNC_USES.values(), ids=ASYNC_USES)
def test_an_async_stream_is_the_sdks_to_its_caller_and_ends_once(
    use: AsyncUse, end: str, raw: bool, provider: FakeProvider
) -> None:
    async def look(client: openai.AsyncOpenAI) -> object:
        completions = client.chat.completions
        if raw:
            response = await completions.with_raw_response.create(
                model="m", messages=MESSAGES, stream=True
            )
            return await use(response.parse())
        return await use(
            await completions.create(model="m", messages=MESSAGES, stream=True)
        )

    def seen() -> object:
        found = in_async(provider, look)
        gc.collect()
        return found

    bus = Bus(strict=True)
    bare = seen()
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = seen()
    assert watched == bare
    assert events.names()[0] == "llm.chat.start"
    assert outcomes(events) == [end]
    if end == "stop cancelled":
        assert events[-1].metadata["usage_complete"] is False


def test_a_stream_looks_like_the_sdks(client: openai.OpenAI) -> None:
    def look() -> object:
        with client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        ) as stream:
            stream.note = "kept"  # type: ignore[attr-defined]  # the caller may
            stream.other = "dropped"  # type: ignore[attr-defined]  # likewise
            del stream.other  # type: ignore[attr-defined]  # likewise
            return (
                stream.__class__,
                isinstance(stream, openai.Stream),
                isinstance(stream, openai.AsyncStream),
                [name for name in ABSTRACT if is_a(stream, name)],
                bool(stream),
                callable(stream),
                stream.note,  # type: ignore[attr-defined]  # see above
                repr(stream).split(" object at ")[0],
                set(vars(stream.__class__)) - set(dir(stream)),
                refused(lambda: stream.nothing),  # type: ignore[attr-defined]  # wrong on purpose
                [hasattr(stream, name) for name in ("aclose", "__len__", "__add__")],
                "_iterator" in dir(stream),
                list(vars(stream)),
                type(copy.copy(stream)),
            )

    bare = look()
    bus = Bus(strict=True)
    with instrumented(bus), capture(bus=bus):
        assert look() == bare


def test_a_stream_with_usage_states_it(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(
        Reply(
            input_tokens=9,
            output_tokens=8,
            cache_read_tokens=5,
            reasoning_tokens=4,
            response_model="m-1",
        )
    )
    chunks = list(
        client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
        )
    )
    assert len(chunks) == CHUNKS + 1
    assert len(events.named("llm.chat.first_chunk")) == 1
    stop = events[-1]
    assert stop.metadata["stream"] is True
    assert stop.metadata["finish_reasons"] == ["stop"]
    assert stop.metadata["response_model"] == "m-1"
    assert stop.metadata["usage_complete"] is True
    assert stop.measurements["chunks"] == CHUNKS + 1
    assert stop.measurements["input_tokens"] == 9
    assert stop.measurements["output_tokens"] == 8
    assert stop.measurements["cache_read_tokens"] == 5
    assert stop.measurements["reasoning_tokens"] == 4
    first = stop.measurements["time_to_first_chunk"]
    assert 0 < first <= stop.measurements["duration"]


def test_a_stream_that_was_not_asked_for_usage_states_none(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    assert "input_tokens" not in events[-1].measurements
    assert "usage_complete" not in events[-1].metadata


def test_a_stream_ends_where_it_is_read_and_not_before(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    parsed = raw.parse()
    del raw
    gc.collect()
    assert outcomes(events) == []
    list(stream)
    list(parsed)
    assert outcomes(events) == ["stop success"] * 2


def test_the_helper_over_streams_is_one_call(
    client: openai.OpenAI, provider: FakeProvider, events: CapturedEvents
) -> None:
    provider.script(Reply(input_tokens=5, output_tokens=6))
    with client.chat.completions.stream(
        model="m", messages=MESSAGES, stream_options=WITH_USAGE
    ) as stream:
        final = stream.get_final_completion()
    assert final.usage is not None
    assert final.usage.total_tokens == 11
    assert outcomes(events) == ["stop success"]
    assert events[-1].measurements["total_tokens"] == 11


def test_the_async_helper_over_streams_is_one_call(
    provider: FakeProvider, events: CapturedEvents
) -> None:
    async def use(client: openai.AsyncOpenAI) -> str | None:
        async with client.chat.completions.stream(
            model="m", messages=MESSAGES, stream_options=WITH_USAGE
        ) as stream:
            final = await stream.get_final_completion()
        return final.choices[0].message.content

    assert in_async(provider, use) == "This is a reply from the fake provider."
    assert outcomes(events) == ["stop success"]
    assert events[-1].metadata["usage_complete"] is True


def test_the_helper_over_streams_that_is_left_early_was_cancelled(
    client: openai.OpenAI, events: CapturedEvents
) -> None:
    """It closes the response past the stream; the end is told when both are dropped."""
    with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        next(stream)
    del stream
    gc.collect()
    assert outcomes(events) == ["stop cancelled"]
