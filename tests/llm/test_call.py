"""A call: what is recorded and stated of it, and how it says that it ended."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import Bus, llm
from llmevents.llm import Usage
from llmevents.testing import CapturedEvents, ManualClock, capture
from tests.llm.calls import RESPONSE, UNHURRIED, chunks, handle, numbers
from tests.outcomes import outcomes


# --- recording ------------------------------------------------------------------------


def test_what_is_recorded_is_stated_at_the_end(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
        call.record(RESPONSE)
    assert numbers(events) == [
        {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    ]
    end = events[-1].metadata
    assert end["response_model"] == "tiny-1-2026"
    assert end["response_id"] == "chatcmpl-1"
    assert end["finish_reasons"] == ["stop"]
    assert end["usage_complete"] is True
    assert end["status"] == "success"


def test_finish_reasons_are_in_the_order_of_the_choices(
    bus: Bus, events: CapturedEvents
) -> None:
    choices = [
        {"index": 2, "finish_reason": "length"},
        {"index": 0, "finish_reason": "stop"},
        {"index": 1, "finish_reason": "tool_calls"},
    ]
    with llm.chat(bus=bus) as call:
        call.record({"choices": choices})
    assert events[-1].metadata["finish_reasons"] == ["stop", "tool_calls", "length"]


def test_a_call_that_nothing_is_known_of_states_nothing(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        pass
    assert numbers(events) == [{}]
    assert not {"usage_complete", "finish_reasons"} & set(events[-1].metadata)


class _Hostile:
    """An object of which every attribute raises."""

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError(name)


class _HostileItems(list[object]):
    def __iter__(self) -> Iterator[object]:
        raise ZeroDivisionError


class _Endless:
    """An object, like a mock, that has every attribute."""

    def __getattr__(self, name: str) -> _Endless:
        return self


@pytest.mark.parametrize(
    ("response", "refused"),
    [
        pytest.param(_Hostile(), 0, id="raises"),
        pytest.param({"choices": [_Hostile()]}, 0, id="raises within"),
        pytest.param({"choices": _HostileItems([1])}, 1, id="cannot be iterated"),
        pytest.param(_Endless(), 0, id="endless"),
        pytest.param(None, 0, id="none"),
        pytest.param("text", 0, id="text"),
        pytest.param(object(), 0, id="object"),
    ],
)
def test_any_object_may_be_recorded_and_none_raises(
    response: object, refused: int, bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        call.record(response)
    assert numbers(events) == [{}]
    assert bus.stats()["refused_values"] == refused


def test_of_each_count_the_last_one_recorded_wins(
    bus: Bus, events: CapturedEvents
) -> None:
    """As in streams whose later parts correct some counts and leave out others."""
    with llm.chat(bus=bus) as call:
        call.record(RESPONSE)
        call.record({"choices": [], "usage": {"prompt_tokens": 30}})
    assert numbers(events) == [
        {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}
    ]


def test_an_embedding_states_texts_and_dimensions_and_a_chat_does_not(
    bus: Bus, events: CapturedEvents
) -> None:
    response = {
        "data": [{"embedding": [0.0] * 8}, {"embedding": [0.0] * 8}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
        "model": "embed-1",
    }
    with llm.embedding(bus=bus) as call:
        call.record(response)
    with llm.chat(bus=bus) as call:
        call.record(response)
    tokens = {"input_tokens": 5, "total_tokens": 5}
    assert numbers(events, "llm.embedding.stop") == [
        {**tokens, "texts": 2, "dimensions": 8}
    ]
    assert numbers(events) == [tokens]


# --- stating usage --------------------------------------------------------------------


def test_usage_is_stated_field_by_field(bus: Bus, events: CapturedEvents) -> None:
    with llm.chat(bus=bus) as call:
        call.usage(input_tokens=1, cache_read_tokens=1)
        call.usage(input_tokens=1000)
        call.usage(output_tokens=500, reasoning_tokens=None)
    assert numbers(events) == [
        {
            "input_tokens": 1000,
            "output_tokens": 500,
            "total_tokens": 1500,
            "cache_read_tokens": 1,
        }
    ]
    assert events[-1].metadata["usage_complete"] is True
    assert bus.stats()["refused_values"] == 0


def test_stated_usage_corrects_what_was_recorded(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        call.record(RESPONSE)
        call.usage(input_tokens=5, total_tokens=9)
    assert numbers(events) == [
        {"input_tokens": 5, "output_tokens": 4, "total_tokens": 9}
    ]


@pytest.mark.parametrize(
    "junk", ["5", 5.5, 5.0, -1, True, float("nan"), float("inf"), [1], object()]
)
def test_what_is_no_count_is_dropped_and_counted(
    junk: Any,  # noqa: ANN401  # wrong on purpose
    bus: Bus,
    events: CapturedEvents,
) -> None:
    with llm.chat(bus=bus) as call:
        call.usage(input_tokens=junk, output_tokens=3)
    assert numbers(events) == [{"output_tokens": 3}]
    assert bus.stats()["refused_values"] == 1


@pytest.mark.parametrize("listens", [True, False], ids=["heard", "quiet"])
def test_an_unknown_field_is_refused_whoever_listens(listens: bool) -> None:
    bus = Bus()
    with (
        capture("llm.**" if listens else "app.**", bus=bus),
        llm.chat(bus=bus) as call,
        pytest.raises(TypeError, match="prompt_tokens"),
    ):
        call.usage(prompt_tokens=3)


@UNHURRIED
@given(
    st.dictionaries(
        st.sampled_from(sorted(Usage.__dataclass_fields__)),
        st.integers() | st.floats() | st.none() | st.just("5") | st.booleans(),
    )
)
def test_whatever_is_stated_the_call_ends_with_counts(stated: dict[str, Any]) -> None:
    bus = Bus(strict=True)
    with capture(bus=bus) as events:
        with llm.chat(bus=bus) as call:
            call.usage(**stated)
        (measured,) = numbers(events)
    assert all(type(value) is int and value >= 0 for value in measured.values())
    kept = {k for k, v in stated.items() if type(v) is int and v >= 0}
    assert set(measured) - {"total_tokens"} == kept - {"total_tokens"}


# --- how it ends ----------------------------------------------------------------------


class ReadTimeoutError(Exception):
    """Timed out, and no `TimeoutError`: told by its name."""


class HttpError(Exception):
    def __init__(self, status_code: object) -> None:
        super().__init__("http")
        self.status_code = status_code


class TouchyError(Exception):
    @property
    def status_code(self) -> int:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "outcome", "http_status"),
    [
        pytest.param(ValueError("x"), "exception error error", None, id="error"),
        pytest.param(TimeoutError("x"), "exception timeout error", None, id="timeout"),
        pytest.param(
            asyncio.TimeoutError("x"), "exception timeout error", None, id="asyncio"
        ),
        pytest.param(
            ReadTimeoutError("x"), "exception timeout error", None, id="named"
        ),
        pytest.param(HttpError(503), "exception error error", 503, id="http"),
        pytest.param(HttpError("503"), "exception error error", None, id="text"),
        pytest.param(TouchyError(), "exception error error", None, id="touchy"),
        pytest.param(
            asyncio.CancelledError(),
            "exception cancelled cancelled",
            None,
            id="cancelled",
        ),
        pytest.param(KeyboardInterrupt(), "exception error exit", None, id="interrupt"),
        pytest.param(GeneratorExit(), "stop cancelled", None, id="closed"),
    ],
)
def test_the_status_says_how_a_call_ended(
    error: BaseException,
    outcome: str,
    http_status: int | None,
    bus: Bus,
    events: CapturedEvents,
) -> None:
    def fail() -> None:
        with llm.chat(bus=bus) as call:
            call.usage(input_tokens=3)
            raise error

    with pytest.raises(type(error)) as raised:  # the very object is looked at
        fail()
    assert raised.value is error
    assert outcomes(events) == [outcome]
    assert events[-1].metadata.get("http_status") == http_status
    assert events[-1].measurements["input_tokens"] == 3, "known usage is stated"


async def chunks_later() -> AsyncIterator[dict[str, object]]:
    for chunk in chunks():
        yield chunk


def test_an_observed_stream_is_recorded_chunk_by_chunk(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        assert list(call.observe(chunks())) == list(chunks())
    (measured,) = numbers(events)
    assert measured.pop("time_to_first_chunk") > 0
    assert measured == {
        "chunks": 3,
        "input_tokens": 3,
        "output_tokens": 4,
        "total_tokens": 7,
    }
    assert events[-1].metadata["usage_complete"] is True


def test_an_observed_async_stream_is_too(bus: Bus, events: CapturedEvents) -> None:
    async def use() -> None:
        with llm.chat(bus=bus) as call:
            assert [c async for c in call.observe(chunks_later())] == list(chunks())

    asyncio.run(use())
    assert numbers(events)[0]["total_tokens"] == 7
    assert events[-1].metadata["usage_complete"] is True


def test_a_stream_left_early_has_no_complete_usage(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        next(call.observe(chunks()))
    stream = handle(bus).observe(chunks())
    next(stream)
    stream.close()
    assert outcomes(events) == ["stop cancelled"] * 2
    for stop in events.named("llm.chat.stop"):
        assert stop.metadata["usage_complete"] is False


def test_of_two_streams_one_left_early_is_enough(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        call.observe(chunks()).close()
        assert len(list(call.observe(chunks()))) == 3
    assert events[-1].metadata["usage_complete"] is False
    assert numbers(events)[0]["total_tokens"] == 7


def test_a_stream_that_fails_states_what_had_come(
    bus: Bus, events: CapturedEvents
) -> None:
    def fail() -> Iterator[object]:
        yield {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
        msg = "dropped"
        raise ConnectionError(msg)

    stream = handle(bus).observe(fail())
    with pytest.raises(ConnectionError, match="dropped"):
        list(stream)
    assert outcomes(events) == ["exception error error"]
    assert events[-1].measurements["input_tokens"] == 3
    assert events[-1].metadata["usage_complete"] is False


def test_a_stream_that_goes_on_after_its_call_changes_nothing(
    bus: Bus, events: CapturedEvents
) -> None:
    call = handle(bus)
    stream = call.observe(chunks())
    next(stream)
    call.stop()
    list(stream)
    stream.close()
    assert outcomes(events) == ["stop success"]
    assert numbers(events)[0]["chunks"] == 1


def test_a_chunk_that_cannot_be_read_does_not_cost_the_stream(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(bus=bus) as call:
        assert len(list(call.observe([_Hostile(), RESPONSE]))) == 2
    assert numbers(events)[0]["total_tokens"] == 7


def test_time_is_that_of_the_bus() -> None:
    clock = ManualClock()
    bus = Bus(strict=True, clock=clock)
    with capture(bus=bus) as events, llm.chat(bus=bus) as call:
        for _ in call.observe(chunks()):
            clock.advance(1000)
    assert events[-1].measurements["time_to_first_chunk"] == 0
    assert events[-1].measurements["duration"] == 3000


def test_a_call_that_has_ended_is_freed_at_once(
    bus: Bus, events: CapturedEvents
) -> None:
    """Without the help of the collector, which would run more often for it."""
    gc.disable()
    try:
        for heard_on in (bus, Bus()):
            call = handle(heard_on)
            call.record(RESPONSE)
            call.stop()
            gone = weakref.ref(call)
            del call
            assert gone() is None
    finally:
        gc.enable()


# --- quiet buses ----------------------------------------------------------------------


def test_what_nobody_hears_does_nothing() -> None:
    bus = Bus()
    for _ in range(2):
        with llm.chat(bus=bus) as call:
            call.record(_Hostile())
            call.usage(input_tokens=True)
            assert list(call.observe(chunks())) == list(chunks())
    call = handle(bus)
    call.record(_Hostile())
    call.stop()
    assert call.metadata == {}
    assert not call.is_open
    assert set(bus.stats().values()) == {0}


def test_what_a_response_calls_itself_is_cleaned_like_all_metadata(
    bus: Bus, events: CapturedEvents
) -> None:
    secret = "sk-proj-" + "a1B2" * 12
    with llm.chat(bus=bus) as call:
        call.record({**RESPONSE, "id": secret, "model": f"tiny {secret}"})
    said = events[-1].metadata
    assert said["response_model"] == "tiny [REDACTED]"
    assert secret not in repr(said)
