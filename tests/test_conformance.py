"""The facts about Elixir's telemetry, T-01 to T-64, one after the other.

Each docstring begins with the number of its fact. A number followed by "differs" is a
fact that llmevents departs from on purpose: the test asserts what it does instead, and
docs/elixir.md has a row that says why.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

import llmevents
from llmevents import (
    Bus,
    EventNameError,
    EventPayloadError,
    HandlerError,
    HandlerExistsError,
    HandlerNotFoundError,
    span,
    start_span,
)


Call = tuple[Any, ...]
"""The four arguments that a handler got."""

DOCUMENT = Path(__file__).parents[1] / "docs" / "elixir.md"

FAILURE = ("llmevents", "handler", "failure")


def module_level(*call: object) -> None:
    """Stand for a handler that is defined at the top of a module."""


def anything(value: object) -> Any:  # noqa: ANN401  # it is there to get past types
    """Pass a value where its type does not belong."""
    return value


def fail(*call: object) -> None:
    """Be a handler that fails, or the reason that a block does."""
    msg = "no good"
    raise ValueError(msg)


# --- Attach and names ------------------------------------------------------------


def test_a_segment_that_is_not_text_is_refused() -> None:
    """T-01: an argument error when attaching."""
    with pytest.raises(EventNameError, match=r"segment 1 is int, not text"):
        Bus().attach("id", anything(("a", 1)), module_level)


def test_a_name_is_dotted_text_or_a_tuple() -> None:
    """T-02 differs: text is a name as well, a list is several names."""
    bus = Bus()
    forms: tuple[Any, ...] = ("a.b", ("a", "b"), ["a.b"], [("a", "b")])
    for handler_id, events in enumerate(forms):
        bus.attach(handler_id, events, module_level)
    assert {info.event for info in bus.list_handlers()} == {("a", "b")}
    with pytest.raises(EventNameError, match="expected dotted text or a tuple"):
        bus.attach("id", anything(7), module_level)


@pytest.mark.parametrize("empty", ["", ()], ids=["text", "tuple"])
def test_an_empty_name_is_refused(empty: str | tuple[str, ...]) -> None:
    """T-03: an argument error when attaching."""
    with pytest.raises(EventNameError, match="it is empty"):
        Bus().attach("id", empty, module_level)


def test_a_handler_that_does_not_take_four_arguments_is_refused() -> None:
    """T-04: when it is attached, not when its event is emitted."""
    with pytest.raises(HandlerError, match="has the signature"):
        Bus().attach("id", "a.b", anything(lambda event, measurements: None))


def test_attaching_a_taken_id_to_the_same_event_raises() -> None:
    """T-05 differs: Elixir returns an error, which is easily ignored."""
    bus = Bus()
    first: list[Call] = []
    bus.attach("id", "a.b", lambda *call: first.append(call))
    with pytest.raises(HandlerExistsError, match="'id' is already attached"):
        bus.attach("id", "a.b", module_level)
    bus.execute("a.b", {})
    assert len(first) == 1


def test_attaching_a_taken_id_to_another_event_raises() -> None:
    """T-06 differs: as before, raised and not returned."""
    bus = Bus()
    bus.attach("id", "a.b", module_level)
    with pytest.raises(HandlerExistsError, match="'id' is already attached"):
        bus.attach("id", "c.d", module_level)


def test_attaching_a_taken_id_to_several_events_attaches_to_none() -> None:
    """T-07 differs: as before, raised and not returned."""
    bus = Bus()
    bus.attach("id", "a.b", module_level)
    with pytest.raises(HandlerExistsError, match="'id' is already attached"):
        bus.attach("id", ["c.d", "a.b", "e.f"], module_level)
    assert [info.event for info in bus.list_handlers()] == [("a", "b")]


def test_an_empty_list_of_events_is_refused() -> None:
    """T-08 differs: a handler that nothing can reach is a mistake."""
    bus = Bus()
    with pytest.raises(EventNameError, match="at least one name or pattern"):
        bus.attach("id", [], module_level)
    with pytest.raises(HandlerNotFoundError, match="no handler with id 'id'"):
        bus.detach("id")


def test_a_local_function_is_attached_without_a_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """T-09 differs: closures cost nothing here, so there is nothing to warn of."""
    bus = Bus()
    calls: list[Call] = []
    with caplog.at_level(logging.DEBUG):
        bus.attach("id", "a.b", lambda *call: calls.append(call))
    bus.execute("a.b", {})
    assert len(calls) == 1
    assert caplog.records == []


def test_a_module_level_function_is_attached_without_a_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """T-10: no log."""
    with caplog.at_level(logging.DEBUG):
        Bus().attach("id", "a.b", module_level)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("handler_id", "equal"),
    [
        pytest.param("text", "te" + "xt", id="text"),
        pytest.param(("a", 1), ("a", 1), id="tuple"),
        pytest.param(uuid.UUID(int=1), uuid.UUID(int=1), id="uuid"),
        pytest.param(module_level, module_level, id="function"),
        pytest.param(None, None, id="none"),
    ],
)
def test_any_hashable_value_is_an_id(handler_id: object, equal: object) -> None:
    """T-11: ids are compared by value."""
    bus = Bus()
    bus.attach(handler_id, "a.b", module_level)
    with pytest.raises(HandlerExistsError, match="is already attached"):
        bus.attach(equal, "a.b", module_level)
    bus.detach(equal)
    assert bus.list_handlers() == []


# --- Dispatch --------------------------------------------------------------------


def test_a_handler_gets_name_measurements_metadata_and_its_config() -> None:
    """T-12: all four, as they were given."""
    bus = Bus()
    calls: list[Call] = []
    config = object()
    bus.attach("id", "a.b", lambda *call: calls.append(call), config)
    bus.execute("a.b", {"count": 1}, {"user": "u"})
    assert calls == [(("a", "b"), {"count": 1}, {"user": "u"}, config)]


def test_metadata_is_an_empty_mapping_by_default() -> None:
    """T-13: handlers need not look for None."""
    bus = Bus()
    calls: list[Call] = []
    bus.attach("id", "a.b", lambda *call: calls.append(call))
    bus.execute("a.b", {})
    assert calls == [(("a", "b"), {}, {}, None)]


@pytest.mark.parametrize("strict", [False, True], ids=["first time", "strict"])
def test_a_bare_number_as_measurements_is_an_error(*, strict: bool) -> None:
    """T-14 differs: an error the first time of a name, each time if strict."""
    bus = Bus(strict=strict)
    for _ in range(2 if strict else 1):
        with pytest.raises(EventPayloadError, match="measurements to be a mapping"):
            bus.execute("llm.cache.hit", anything(5))


def test_a_handler_on_a_longer_name_is_not_called() -> None:
    """T-15: `a.b` does not reach `a.b.c`."""
    bus = Bus()
    calls: list[Call] = []
    bus.attach("id", "a.b.c", lambda *call: calls.append(call))
    bus.execute("a.b", {})
    assert calls == []


def test_a_handler_on_a_shorter_name_is_called_only_if_it_is_a_pattern() -> None:
    """T-16 differs: a plain name matches itself alone, a pattern matches more."""
    bus = Bus()
    called: list[object] = []
    for events in ("a.b", "a.b.*", "a.b.**", "a.*.c.d", "**"):
        bus.attach(events, events, lambda *call: called.append(call[3]), events)
    bus.execute("a.b.c.d", {})
    assert called == ["a.b.**", "a.*.c.d", "**"]


def test_one_handler_on_three_events_is_called_once_for_each() -> None:
    """T-17: with the right name."""
    bus = Bus()
    names: list[object] = []
    bus.attach("id", ["a.a", "a.b", "a.c"], lambda *call: names.append(call[0]))
    for event in ("a.a", "a.b", "a.c"):
        bus.execute(event, {})
    assert names == [("a", "a"), ("a", "b"), ("a", "c")]


def test_handlers_are_called_in_the_order_they_were_attached() -> None:
    """T-18 differs: the order is promised."""
    bus = Bus()
    order: list[object] = []
    for events in ("a.b", "**", "a.*", "a.b", "a.**"):
        position = len(bus.list_handlers())
        bus.attach(position, events, lambda *call: order.append(call[3]), position)
    bus.detach(1)
    bus.attach(1, "a.b", lambda *call: order.append(call[3]), 1)
    bus.execute("a.b", {})
    assert order == [0, 2, 3, 4, 1]


def test_an_event_without_handlers_has_no_effect() -> None:
    """T-19: nothing is returned, raised, logged or counted."""
    bus = Bus()
    anything(bus.execute)("a.b", {})
    assert set(bus.stats().values()) == {0}


def test_what_a_handler_returns_is_discarded() -> None:
    """T-20: also an error value."""
    bus = Bus()
    bus.attach("id", "a.b", lambda *call: ValueError("returned, not raised"))
    assert anything(bus.execute)("a.b", {}) is None
    assert bus.stats()["handler_failures"] == 0


def test_an_empty_event_name_is_the_emitters_error() -> None:
    """T-21: also if nobody listens."""
    with pytest.raises(EventNameError, match="it is empty"):
        Bus().execute((), {})


@pytest.mark.parametrize("strict", [False, True], ids=["first time", "strict"])
def test_metadata_that_is_no_mapping_is_the_emitters_error(*, strict: bool) -> None:
    """T-22 differs: the first time of a name, each time if strict; never later."""
    bus = Bus(strict=strict)
    for _ in range(2 if strict else 1):
        with pytest.raises(EventPayloadError, match="metadata to be a mapping"):
            bus.execute("llm.cache.hit", {}, anything(["no", "mapping"]))


def test_a_handler_that_detaches_itself_completes() -> None:
    """T-23: later dispatches skip it."""
    bus = Bus()
    calls: list[str] = []

    def once(*call: object) -> None:
        bus.detach("once")
        calls.append("after the detach")

    bus.attach("once", "a.b", once)
    bus.execute("a.b", {})
    bus.execute("a.b", {})
    assert calls == ["after the detach"]


def test_a_handler_detached_during_dispatch_still_runs_this_once() -> None:
    """T-24: a dispatch under way goes on with what it started with."""
    bus = Bus()
    calls: list[Call] = []
    bus.attach("a", "a.b", lambda *call: bus.detach("b"))
    bus.attach("b", "a.b", lambda *call: calls.append(call))
    bus.execute("a.b", {})
    assert len(calls) == 1
    bus.detach("a")
    bus.execute("a.b", {})
    assert len(calls) == 1


def test_a_nested_event_completes_before_the_outer_one_goes_on() -> None:
    """T-25 differs: so it is, but only eight deep, then it is refused and counted."""
    bus = Bus()
    order: list[str] = []
    bus.attach("nest", "outer", lambda *call: bus.execute("inner", {}))
    bus.attach("inner", "inner", lambda *call: order.append("inner"))
    bus.attach("outer", "outer", lambda *call: order.append("outer"))
    bus.execute("outer", {})
    assert order == ["inner", "outer"]

    bus.attach("endless", "again", lambda *call: bus.execute("again", {}))
    bus.execute("again", {})
    assert bus.stats()["recursion_stops"] == 1


def test_an_empty_bus_is_a_silent_no_op() -> None:
    """T-26 differs: there is no application to start; a bus is always there."""
    bus = Bus()
    bus.execute("a.b", {"count": 1})
    bus.attach("id", "a.b", module_level)
    assert bus.has_handlers("a.b")
    assert llmevents.execute == llmevents.default_bus.execute


def test_an_empty_bus_lists_no_handlers() -> None:
    """T-27 differs: nothing is ever not started, so it is empty or it is not."""
    assert Bus().list_handlers() == []


# --- Detach and list -------------------------------------------------------------


def test_a_detached_handler_is_not_called() -> None:
    """T-28: from the next event on."""
    bus = Bus()
    calls: list[Call] = []
    bus.attach("id", "a.b", lambda *call: calls.append(call))
    bus.detach("id")
    bus.execute("a.b", {})
    assert calls == []


def test_detaching_an_unknown_id_raises() -> None:
    """T-29 differs: raised and not returned; a Subscription's detach never does."""
    bus = Bus()
    with pytest.raises(HandlerNotFoundError, match="no handler with id 'id'"):
        bus.detach("id")
    subscription = bus.attach("id", "a.b", module_level)
    subscription.detach()
    subscription.detach()


def test_detaching_removes_an_id_from_every_event() -> None:
    """T-30: patterns included."""
    bus = Bus()
    bus.attach("id", ["a.b", "c.d", "e.**"], module_level)
    bus.detach("id")
    assert bus.list_handlers() == []
    assert not any(map(bus.has_handlers, ("a.b", "c.d", "e.f")))


@pytest.mark.parametrize("prefix", [(), "", "a", "a.test", ("a", "test", "event")])
def test_a_handler_is_listed_under_each_prefix(prefix: str | tuple[str, ...]) -> None:
    """T-31: from none to its full name."""
    bus = Bus()
    bus.attach("id", "a.test.event", module_level)
    assert [info.handler_id for info in bus.list_handlers(prefix)] == ["id"]


@pytest.mark.parametrize("prefix", ["a.test.event.more", "a.tes", "b"])
def test_a_handler_is_not_listed_under_another_prefix(prefix: str) -> None:
    """T-32: a longer one, or one that ends within a segment."""
    bus = Bus()
    bus.attach("id", "a.test.event", module_level)
    assert bus.list_handlers(prefix) == []


def test_a_handler_on_several_events_is_listed_once_for_each() -> None:
    """T-33: names and patterns as they were given."""
    bus = Bus()
    bus.attach("id", ["a.b", "c.*", "e.**"], module_level)
    listed = [info.event for info in bus.list_handlers()]
    assert listed == [("a", "b"), ("c", "*"), ("e", "**")]


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        pytest.param(("a", 1), "segment 1 is int, not text", id="segment"),
        pytest.param(7, "expected dotted text or a tuple", id="number"),
        pytest.param(["a"], "expected dotted text or a tuple", id="list"),
    ],
)
def test_a_malformed_prefix_is_refused(prefix: object, complaint: str) -> None:
    """T-34 differs: as for names, text is a prefix and a list is not."""
    bus = Bus()
    bus.attach("id", "a.b", module_level)
    assert len(bus.list_handlers("a")) == 1
    with pytest.raises(EventNameError, match=complaint):
        bus.list_handlers(anything(prefix))


def test_a_listed_handler_shows_what_it_was_attached_with() -> None:
    """T-35 differs: Python's names for the fields, and the failure policy."""
    bus = Bus()
    config = object()
    bus.attach("id", "a.b", module_level, config, on_failure="detach")
    (info,) = bus.list_handlers()
    assert info._asdict() == {
        "handler_id": "id",
        "event": ("a", "b"),
        "handler": module_level,
        "config": config,
        "on_failure": "detach",
    }


# --- Handler failure -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "calls_of_three"),
    [
        pytest.param({}, 3, id="by default"),
        pytest.param({"on_failure": "keep"}, 3, id="keep"),
        pytest.param({"on_failure": "detach"}, 1, id="detach"),
    ],
)
def test_a_failing_handler_stays_attached_unless_told_otherwise(
    options: dict[str, Any], calls_of_three: int
) -> None:
    """T-36 differs: Elixir always detaches; here it is one of three policies."""
    bus = Bus()
    bus.attach("id", "a.b", fail, **options)
    for _ in range(3):
        bus.execute("a.b", {})
    assert bus.stats()["handler_failures"] == calls_of_three
    assert bus.has_handlers("a.b") == (calls_of_three == 3)


@pytest.mark.parametrize("control", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_control_flow_exception_reaches_the_emitter_after_the_rest_ran(
    control: type[BaseException],
) -> None:
    """T-37 differs: Ctrl-C and sys.exit() must work in the middle of a handler."""
    bus = Bus()
    calls: list[Call] = []

    def stop(*call: object) -> None:
        raise control

    bus.attach("stop", "a.b", stop, on_failure="detach")
    bus.attach("rest", "a.b", lambda *call: calls.append(call))
    with pytest.raises(control, match=r"^$"):
        bus.execute("a.b", {})
    assert len(calls) == 1
    assert len(bus.list_handlers()) == 2
    assert bus.stats()["handler_failures"] == 0


def test_a_failure_event_says_what_failed_without_config_and_stack() -> None:
    """T-38 differs: a config or a stack trace may hold secrets."""
    bus = Bus()
    failures: list[Call] = []
    bus.attach("watch", FAILURE, lambda *call: failures.append(call))
    bus.attach(("my", "id"), "a.b", fail, {"password": "hunter2"})
    bus.execute("a.b", {"count": 1}, {"user": "u"})
    ((event, _, metadata, _),) = failures
    assert event == FAILURE
    assert metadata == {
        "event": "a.b",
        "handler_id": ("my", "id"),
        "kind": "error",
        "error_type": "ValueError",
        "error_message": "no good",
    }


def test_a_failure_event_measures_monotonic_and_system_time() -> None:
    """T-39: exactly these two, in nanoseconds."""
    bus = Bus()
    failures: list[Call] = []
    bus.attach("watch", FAILURE, lambda *call: failures.append(call))
    bus.attach("id", "a.b", fail)
    bus.execute("a.b", {})
    measurements = failures[0][1]
    assert set(measurements) == {"monotonic_time", "system_time"}
    assert {type(value) for value in measurements.values()} == {int}


def test_a_handler_that_fails_on_one_event_is_detached_from_all() -> None:
    """T-40 differs: with the policy "detach" only."""
    bus = Bus()
    events: list[str | tuple[str, ...]] = ["a.b", "c.d", "e.**"]
    bus.attach("kept", events, fail)
    bus.attach("detached", events, fail, on_failure="detach")
    bus.execute("c.d", {})
    assert {info.handler_id for info in bus.list_handlers()} == {"kept"}


def test_a_good_handler_between_two_failing_ones_runs() -> None:
    """T-41: and there are two failure events."""
    bus = Bus()
    calls: list[object] = []
    failed: list[object] = []
    bus.attach("watch", FAILURE, lambda *call: failed.append(call[2]["handler_id"]))
    bus.attach("first", "a.b", fail)
    bus.attach("good", "a.b", lambda *call: calls.append(call))
    bus.attach("last", "a.b", fail)
    bus.execute("a.b", {})
    assert len(calls) == 1
    assert failed == ["first", "last"]


def test_a_failing_handler_of_the_failure_event_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """T-42 differs: it is counted and logged, and not announced by the same event."""
    bus = Bus()
    announced: list[object] = []
    bus.attach("broken", FAILURE, fail)
    bus.attach("watch", FAILURE, lambda *call: announced.append(call[2]["handler_id"]))
    bus.attach("id", "a.b", fail)
    bus.execute("a.b", {})
    assert announced == ["id"]
    assert bus.stats()["handler_failures"] == 2
    assert len(bus.list_handlers()) == 3
    assert [record.getMessage().split()[1] for record in caplog.records] == [
        "'broken'",
        "'id'",
    ]


def test_an_id_detached_by_a_failure_may_be_attached_again() -> None:
    """T-43: it is free."""
    bus = Bus()
    bus.attach("id", "a.b", fail, on_failure="detach")
    bus.execute("a.b", {})
    bus.attach("id", "a.b", module_level)


def test_a_failure_is_logged_after_its_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """T-44 differs: the place instead of the stack trace, and once a second at most."""
    bus = Bus()
    logged_before: list[int] = []
    bus.attach(
        "watch", FAILURE, lambda *call: logged_before.append(len(caplog.records))
    )
    bus.attach("my-id", "a.b", fail)
    for _ in range(3):
        bus.execute("a.b", {})
    assert logged_before == [0, 1, 1]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    for part in ("'my-id'", "a.b", "ValueError: no good", __file__):
        assert part in record.getMessage()


# --- Span ------------------------------------------------------------------------


def test_a_span_emits_start_and_stop_and_returns_the_result() -> None:
    """T-45 differs: a block or a decorator, so the result need not be wrapped."""
    bus = Bus()
    names: list[object] = []
    bus.attach("id", "a.**", lambda *call: names.append(call[0]))

    @span("a.work", bus=bus)
    def work() -> str:
        with span("a.part", bus=bus):
            return "result"

    assert work() == "result"
    assert names == [
        ("a", "work", "start"),
        ("a", "part", "start"),
        ("a", "part", "stop"),
        ("a", "work", "stop"),
    ]


def spans(bus: Bus) -> list[Call]:
    """Collect what the spans of *bus* emit from now on."""
    calls: list[Call] = []
    bus.attach("spans", "a.work.*", lambda *call: calls.append(call))
    return calls


def test_a_start_event_measures_monotonic_and_system_time() -> None:
    """T-46: exactly these two."""
    bus = Bus()
    calls = spans(bus)
    with span("a.work", bus=bus):
        pass
    assert set(calls[0][1]) == {"monotonic_time", "system_time"}


class SteppingClock:
    """A clock that goes on by 1 ns with each look at it, and more when told to."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        self.now += 1
        return self.now

    def time_ns(self) -> int:
        return 0


def test_a_stop_event_measures_duration_after_the_start_handlers() -> None:
    """T-47 differs: exactly duration and monotonic_time, but start handlers are out.

    A slow reporter must not make the model look slow.
    """
    clock = SteppingClock()
    bus = Bus(clock=clock)
    calls = spans(bus)

    def slow(*call: object) -> None:
        clock.now += 1_000_000

    bus.attach("slow", "a.work.start", slow)
    with span("a.work", bus=bus):
        clock.now += 100
    assert set(calls[1][1]) == {"duration", "monotonic_time"}
    assert calls[1][1]["duration"] == 101


def test_extra_measurements_are_merged_into_stop() -> None:
    """T-48: by `measure`, or given to a handle's `stop`."""
    bus = Bus()
    calls = spans(bus)
    with span("a.work", bus=bus) as block:
        block.measure(pages=3)
    start_span("a.work", bus=bus).stop({"pages": 4})
    assert [call[1].get("pages") for call in calls] == [None, 3, None, 4]


def test_the_real_duration_beats_a_measurement_of_that_name() -> None:
    """T-49: and the refused values are counted."""
    bus = Bus()
    calls = spans(bus)
    with span("a.work", bus=bus) as block:
        block.measure(duration=-1, monotonic_time=-1)
    assert calls[1][1]["duration"] >= 0
    assert calls[1][1]["monotonic_time"] >= 0
    assert bus.stats()["refused_values"] == 2


def test_a_raising_block_emits_exception_and_the_same_error_propagates() -> None:
    """T-50 differs: kind, error_type, error_message for kind, reason, stacktrace."""
    bus = Bus()
    calls = spans(bus)
    error = ValueError("no good")
    with (
        pytest.raises(ValueError, match="no good") as caught,
        span("a.work", {"user": "u"}, bus=bus),
    ):
        raise error
    assert caught.value is error
    start, ended = calls
    assert ended[0] == ("a", "work", "exception")
    assert ended[2] == {
        **start[2],
        "kind": "error",
        "error_type": "ValueError",
        "error_message": "no good",
    }


# --- Persisted store -------------------------------------------------------------


def test_handlers_keep_firing_whatever_is_attached_later() -> None:
    """T-51 differs: there is no `persist`, because there is nothing it would speed up."""
    assert not hasattr(llmevents, "persist")
    bus = Bus()
    calls: list[Call] = []
    bus.attach("id", "a.b", lambda *call: calls.append(call))
    for position in range(100):
        bus.attach(position, "c.d", module_level)
        bus.execute("a.b", {})
    assert len(calls) == 100


def test_an_id_stays_unique_however_often_the_bus_was_used() -> None:
    """T-52 differs: one store, so ids are unique on a bus at any time."""
    bus = Bus()
    bus.attach("id", "a.b", module_level)
    bus.execute("a.b", {})
    with pytest.raises(HandlerExistsError, match="'id' is already attached"):
        bus.attach("id", "c.d", module_level)


@pytest.mark.parametrize(
    "events", [["a.b", ("a", "b")], ["a.b", "a.*", "**"]], ids=["names", "patterns"]
)
def test_an_event_named_twice_calls_the_handler_once(events: list[Any]) -> None:
    """T-53 differs: never an error, never two calls."""
    bus = Bus()
    calls: list[Call] = []
    bus.attach("id", events, lambda *call: calls.append(call))
    bus.execute("a.b", {})
    assert len(calls) == 1


def test_the_order_does_not_change_when_handlers_are_attached_later() -> None:
    """T-54 differs: attach order, at any time."""
    bus = Bus()
    order: list[object] = []
    for position in range(4):
        bus.attach(position, "a.b", lambda *call: order.append(call[3]), position)
        bus.execute("a.b", {})
    assert order == [0, 0, 1, 0, 1, 2, 0, 1, 2, 3]


def test_a_span_is_the_same_on_a_new_bus_and_on_a_much_used_one() -> None:
    """T-55 differs: with one store there is no second group of tests to go wrong."""
    used = Bus()
    for _ in range(50):
        used.attach("id", "**", module_level).detach()
    outcomes = []
    for bus in (Bus(), used):
        calls = spans(bus)
        with span("a.work", bus=bus):
            pass
        outcomes.append([(call[0], set(call[1]), set(call[2])) for call in calls])
    assert outcomes[0] == outcomes[1]


# --- Span, continued -------------------------------------------------------------


def test_a_span_has_an_id_of_its_own_on_both_events() -> None:
    """T-56: equal within the span, different between spans."""
    bus = Bus()
    calls = spans(bus)
    for _ in range(2):
        with span("a.work", bus=bus):
            pass
    first, first_end, second, second_end = (call[2]["span_id"] for call in calls)
    assert first == first_end
    assert second == second_end
    assert first != second


def test_the_span_id_is_always_the_librarys() -> None:
    """T-57 differs: a user's key of this name is refused and counted."""
    bus = Bus()
    calls = spans(bus)
    with span("a.work", {"span_id": "mine"}, bus=bus) as block:
        block.annotate(span_id="mine")
    assert {call[2]["span_id"] for call in calls} == {block.span_id}
    assert block.span_id != "mine"
    assert bus.stats()["refused_values"] == 2


def test_start_and_stop_always_have_the_same_span_id() -> None:
    """T-58 differs: a key in the start metadata alone cannot break the pair."""
    bus = Bus()
    calls = spans(bus)
    with span("a.work", {"span_id": "mine"}, bus=bus):
        pass
    start, stop = calls
    assert start[2]["span_id"] == stop[2]["span_id"] != "mine"


def test_the_librarys_error_metadata_beats_the_users() -> None:
    """T-59 differs: the keys are others, so `reason` and `stacktrace` are the user's."""
    bus = Bus()
    calls = spans(bus)
    mine = dict.fromkeys(
        ("kind", "error_type", "error_message", "reason", "stacktrace"), "mine"
    )
    with pytest.raises(ValueError, match="no good"), span("a.work", mine, bus=bus):
        fail()
    told = {key: calls[1][2][key] for key in mine}
    assert told == {
        "kind": "error",
        "error_type": "ValueError",
        "error_message": "no good",
        "reason": "mine",
        "stacktrace": "mine",
    }


@pytest.mark.parametrize("result", [None, 7, ("result",), ("a", {}, {}, {})])
def test_a_function_in_a_span_may_return_anything(result: object) -> None:
    """T-60 differs: no shape is asked for, so none can be wrong."""
    bus = Bus()
    calls = spans(bus)
    assert span("a.work", bus=bus)(lambda: result)() is result
    assert [call[0][-1] for call in calls] == ["start", "stop"]


def test_start_metadata_is_merged_into_the_terminal_event() -> None:
    """T-61 differs: so that a stop event can be counted by what the start said."""
    bus = Bus()
    calls = spans(bus)
    with span("a.work", {"user": "u", "language": "de"}, bus=bus) as block:
        block.annotate(language="en")
    stop = calls[1][2]
    assert (stop["user"], stop["language"]) == ("u", "en")


# --- Test helper -----------------------------------------------------------------


def test_capture_collects_event_measurements_and_metadata() -> None:
    """T-62 differs: a list in a `with` block for messages to a process."""
    from llmevents.testing import capture

    bus = Bus()
    with capture("a.**", bus=bus) as events:
        bus.execute("a.b", {"count": 1}, {"user": "u"})
        bus.execute("c.d", {"count": 1})
    (record,) = events
    assert record.event == ("a", "b")
    assert record.measurements == {"count": 1}
    assert record.metadata == {"user": "u"}


def test_capture_ends_with_its_block() -> None:
    """T-63 differs: nobody has to detach anything, whatever the test does."""
    from llmevents.testing import capture

    bus = Bus()
    with pytest.raises(ValueError, match="no good"), capture("a.**", bus=bus) as events:
        fail(anything(bus.execute)("a.b", {}))
    bus.execute("a.b", {})
    assert len(events) == 1
    assert bus.list_handlers() == []


def test_capture_leaves_out_what_others_emit() -> None:
    """T-64 differs: only the block's own context, so that absence can be asserted."""
    from llmevents.testing import capture

    bus = Bus()
    with capture("a.**", bus=bus) as events:
        stranger = threading.Thread(target=bus.execute, args=("a.stranger", {}))
        stranger.start()
        stranger.join(10)
        relative = threading.Thread(
            target=llmevents.propagate(bus.execute), args=("a.relative", {})
        )
        relative.start()
        relative.join(10)
        bus.execute("a.own", {})
    assert [record.event for record in events] == [("a", "relative"), ("a", "own")]


# --- The list itself -------------------------------------------------------------


def facts() -> list[tuple[int, bool]]:
    """Return number and "differs" of each test here, in the order of the file."""
    tests = [
        found
        for name, found in vars(sys.modules[__name__]).items()
        if name.startswith("test_")
    ]
    marks = [re.match(r"T-(\d\d)( differs)?: ", test.__doc__ or "") for test in tests]
    return [(int(mark[1]), mark[2] is not None) for mark in marks if mark]


def test_every_fact_is_tested_in_its_order() -> None:
    assert [number for number, _ in facts()] == list(range(1, 65))


def test_every_difference_is_documented_and_nothing_else() -> None:
    """Who comes from Elixir reads docs/elixir.md, and it must be complete."""
    rows = [
        line for line in DOCUMENT.read_text("utf-8").splitlines() if line[:3] == "| T"
    ]
    numbers = " ".join(row.split("|")[1] for row in rows)
    documented = [int(number) for number in re.findall(r"T-(\d\d)", numbers)]
    assert sorted(documented) == [number for number, differs in facts() if differs]
