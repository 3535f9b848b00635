from __future__ import annotations

import asyncio
import threading

import pytest

from llmevents import Bus, EventNameError, OptionError, propagate
from llmevents.testing import CapturedEvents, ManualClock, capture


def _emit(bus: Bus, number: int = 1) -> None:
    bus.execute("docs.saved", {"count": number}, {"page": number})


def _in_thread(function: object) -> None:
    assert callable(function)
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_events_of_the_block_are_collected_in_order() -> None:
    bus = Bus()
    with capture("docs.**", bus=bus) as events:
        _emit(bus, 1)
        bus.execute("other.thing", {})
        _emit(bus, 2)
    _emit(bus, 3)
    assert events.names() == ["docs.saved", "docs.saved"]
    assert [event.metadata["page"] for event in events] == [1, 2]
    assert bus.list_handlers() == []


def test_events_can_be_picked_by_pattern() -> None:
    bus = Bus()
    with capture(bus=bus) as events:
        bus.execute("a.start", {})
        bus.execute("a.stop", {})
    assert [event.name for event in events.named("*.stop")] == ["a.stop"]


def test_mappings_are_copies() -> None:
    bus = Bus()
    metadata = {"page": 1}
    with capture(bus=bus) as events:
        bus.execute("docs.saved", {}, metadata)
        metadata["page"] = 2
    assert events[0].metadata == {"page": 1}


def test_another_threads_events_do_not_leak_in() -> None:
    bus = Bus()
    with capture(bus=bus) as events:
        _in_thread(lambda: _emit(bus))
    assert events == []


def test_a_propagated_context_is_captured() -> None:
    bus = Bus()
    with capture(bus=bus) as events:
        _in_thread(propagate(lambda: _emit(bus)))
    assert events.names() == ["docs.saved"]


def test_the_whole_process_can_be_captured() -> None:
    bus = Bus()
    with capture(bus=bus, scope="process") as events:
        _in_thread(lambda: _emit(bus))
    assert events.names() == ["docs.saved"]


def test_concurrent_captures_keep_apart() -> None:
    """Two tests in one event loop, as with an asynchronous test runner."""
    bus = Bus()

    async def one(number: int) -> CapturedEvents:
        with capture(bus=bus) as events:
            for _ in range(3):
                await asyncio.sleep(0)
                _emit(bus, number)
            await asyncio.create_task(_emit_later(number))
        return events

    async def _emit_later(number: int) -> None:
        _emit(bus, number)

    async def both() -> list[CapturedEvents]:
        return list(await asyncio.gather(one(1), one(2)))

    first, second = asyncio.run(both())
    assert [event.metadata["page"] for event in first] == [1] * 4
    assert [event.metadata["page"] for event in second] == [2] * 4


def test_captures_nest() -> None:
    bus = Bus()
    with capture(bus=bus) as outer, capture("docs.*", bus=bus) as inner:
        _emit(bus)
    _emit(bus)
    assert outer.names() == inner.names() == ["docs.saved"]


def test_captures_left_out_of_order_leave_nothing_behind() -> None:
    bus = Bus()
    first, second = capture(bus=bus), capture(bus=bus)
    first.__enter__()
    events = second.__enter__()
    first.__exit__(None, None, None)
    _emit(bus)
    second.__exit__(None, None, None)
    assert events.names() == ["docs.saved"]
    assert bus.list_handlers() == []


def test_a_capture_can_be_used_again_and_starts_empty() -> None:
    bus = Bus()
    again = capture(bus=bus)
    with again:
        _emit(bus)
    with again as events:
        _emit(bus)
    assert len(events) == 1


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(
        OptionError, match="expected scope to be 'context' or 'process'"
    ):
        capture(scope="thread")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(EventNameError, match="empty segment"), capture("a..b"):
        pass


def test_a_manual_clock_stands_still_until_told() -> None:
    clock = ManualClock(monotonic_ns=5, time_ns=1_000)
    assert (clock.monotonic_ns(), clock.time_ns()) == (5, 1_000)
    clock.advance(10)
    assert (clock.monotonic_ns(), clock.time_ns()) == (15, 1_010)


def test_a_manual_wall_clock_can_step_back_alone() -> None:
    clock = ManualClock(time_ns=1_000)
    clock.step_wall_clock(-400)
    assert (clock.monotonic_ns(), clock.time_ns()) == (0, 600)


def test_monotonic_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match=r"got -1 ns; .* use step_wall_clock\(\)"):
        ManualClock().advance(-1)


def test_the_plugin_gives_a_strict_bus(llmevents_bus: Bus) -> None:
    with pytest.raises(LookupError, match=r"'docs\.unheard' is not declared"):
        llmevents_bus.execute("docs.unheard", {})


def test_the_plugin_captures_the_default_bus(
    llmevents_capture: CapturedEvents,
) -> None:
    from llmevents import span

    with span("docs.check"):
        pass
    assert llmevents_capture.names() == ["docs.check.start", "docs.check.stop"]
