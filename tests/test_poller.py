from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from llmevents import Bus, LLMEventsError, OptionError
from llmevents._schedule import Schedule
from llmevents.poller import Poller
from llmevents.testing import ManualClock, capture


DEADLINE = 60.0
"""Seconds; it only runs out where something is broken."""


class _Rounds:
    """A measurement that lets a test wait for rounds."""

    def __init__(self) -> None:
        self.count = 0
        self._condition = threading.Condition()

    def __call__(self) -> None:
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait_for(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self.count >= count, DEADLINE)


def _fails() -> None:
    msg = "no such sensor"
    raise ValueError(msg)


def test_the_process_is_measured_by_default(
    llmevents_bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a strict bus: what is emitted is what is declared."""
    # Threads of other tests may end between two looks at how many there are.
    monkeypatch.setattr(threading, "active_count", lambda: 4_321)
    with capture(bus=llmevents_bus) as events:
        Poller(bus=llmevents_bus).poll()
    assert events.names() == [
        "process.memory",
        "process.cpu",
        "process.gc",
        "process.threads",
    ]
    found = {event.name: event.measurements for event in events}
    assert found["process.memory"]["rss"] > 1_000_000
    assert found["process.cpu"]["user"] > 0
    assert found["process.threads"] == {"count": 4_321}
    assert found["process.gc"]["collections"] > 0
    assert all(event.metadata == {"pid": os.getpid()} for event in events)


def test_measurements_are_integers() -> None:
    bus = Bus()
    with capture(bus=bus) as events:
        Poller(bus=bus).poll()
    values = [value for event in events for value in event.measurements.values()]
    assert {type(value) for value in values} == {int}


def test_memory_that_cannot_be_measured_is_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llmevents._process.STATM", "/no/such/file")
    bus = Bus()
    with capture(bus=bus) as events:
        poller = Poller(["memory"], bus=bus)
        poller.poll()
    assert events == []
    assert poller.stats()["failures"] == 0


def test_functions_may_return_an_event_or_emit_their_own() -> None:
    bus = Bus()

    def queue() -> tuple[str, dict[str, int], dict[str, str]]:
        return "myapp.queue", {"length": 3}, {"queue": "jobs"}

    def own() -> None:
        bus.execute("myapp.own", {"count": 1})

    with capture(bus=bus) as events:
        Poller([queue, own, lambda: ("myapp.short", {"count": 2})], bus=bus).poll()
    assert events.names() == ["myapp.queue", "myapp.own", "myapp.short"]
    assert events[0].metadata == {"queue": "jobs", "pid": os.getpid()}


def test_a_measurement_that_fails_is_reported_and_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, rounds = Bus(), _Rounds()
    poller = Poller([_fails, rounds], bus=bus, clock=ManualClock())
    for _ in range(3):
        poller.poll()
    assert rounds.count == 3
    assert poller.stats() == {"polls": 3, "failures": 3, "missed": 0}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "measurement '_fails' failed: ValueError: no such sensor" in caplog.text


@pytest.mark.parametrize("result", [7, ("event",), ("a", {}, {}, {}), "text"])
def test_a_result_that_is_no_event_is_a_failure(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    poller = Poller([lambda: result], bus=Bus())
    poller.poll()
    assert poller.stats()["failures"] == 1
    assert "expected a measurement's result to be None, (event" in caplog.text


def test_the_thread_polls_at_once_and_again() -> None:
    rounds = _Rounds()
    with Poller([rounds], period=0.001, bus=Bus()) as poller:
        rounds.wait_for(5)
        assert poller.stop(DEADLINE)
    assert poller.stats()["polls"] == rounds.count


def test_stopping_does_not_wait_for_the_next_tick() -> None:
    rounds = _Rounds()
    poller = Poller([rounds], period=3600, bus=Bus())
    poller.start()
    rounds.wait_for(1)
    assert poller.stop(DEADLINE)
    assert poller.stop()
    assert rounds.count == 1


def test_a_measurement_that_hangs_does_not_hold_up_stopping() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hangs() -> None:
        entered.set()
        leave.wait(2 * DEADLINE)

    poller = Poller([hangs], bus=Bus())
    poller.start()
    assert entered.wait(DEADLINE)
    assert not poller.stop(0.01)
    leave.set()
    assert poller.stop(DEADLINE)


def test_a_poller_can_be_started_again_but_not_twice() -> None:
    rounds = _Rounds()
    poller = Poller([rounds], period=3600, bus=Bus())
    poller.start()
    with pytest.raises(LLMEventsError, match=r"running already; call stop\(\) first"):
        poller.start()
    rounds.wait_for(1)
    assert poller.stop(DEADLINE)
    poller.start()
    rounds.wait_for(2)
    assert poller.stop(DEADLINE)


def test_a_measurement_that_exits_does_not_end_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rounds = _Rounds()

    def leaves() -> None:
        rounds()
        raise SystemExit

    with Poller([leaves], period=0.001, bus=Bus()) as poller:
        rounds.wait_for(3)
        assert poller.stop(DEADLINE)
    assert poller.stats()["failures"] == rounds.count
    assert "a round of measurements failed: SystemExit" in caplog.text


def test_a_measurement_may_stop_its_poller() -> None:
    outcomes: list[bool] = []
    poller = Poller([lambda: outcomes.append(poller.stop())], bus=Bus())
    poller.start()
    assert poller._thread is not None
    poller._thread.join(DEADLINE)
    assert outcomes == [False]
    assert poller.stop()


def test_a_builtin_without_a_signature_can_be_a_measurement() -> None:
    poller = Poller([dict], bus=Bus())
    poller.poll()
    assert poller.stats()["failures"] == 1  # an empty dict is no event


def test_a_poller_that_never_started_can_be_stopped() -> None:
    assert Poller(bus=Bus()).stop()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param({"measurements": ["memroy"]}, "did you mean 'memory'", id="typo"),
        pytest.param({"measurements": ["xyz"]}, "expected a measurement", id="name"),
        pytest.param({"measurements": [5]}, "plain function .*, got 5", id="number"),
        pytest.param({"measurements": [asyncio.sleep]}, "plain function", id="async"),
        pytest.param({"measurements": [setattr]}, "plain function", id="parameters"),
        pytest.param({"measurements": "cpu"}, r"write \['cpu'\]", id="text"),
        pytest.param({"period": 0}, "expected period to be", id="zero"),
        pytest.param({"period": -1}, "expected period to be", id="negative"),
        pytest.param({"period": float("nan")}, "expected period to be", id="nan"),
        pytest.param({"period": True}, "expected period to be", id="bool"),
        pytest.param({"period": "10"}, "expected period to be", id="period text"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, object], complaint: str) -> None:
    make: Callable[..., Poller] = Poller
    with pytest.raises(OptionError, match=complaint):
        make(**arguments)


def test_measurements_are_listed_as_given() -> None:
    rounds = _Rounds()
    assert Poller(["gc", rounds]).list_measurements() == ["gc", rounds]


def test_ticks_do_not_drift() -> None:
    """Ten ticks, each noticed late, are due when ten periods have passed."""
    schedule = Schedule(start_ns=1_000, period_ns=100)
    now = 1_000
    for _ in range(10):
        now += schedule.wait_ns(now) + 7
        assert schedule.advance(now) == 0
    assert now + schedule.wait_ns(now) == 2_000


def test_a_slow_round_leaves_ticks_out_instead_of_bunching() -> None:
    schedule = Schedule(start_ns=0, period_ns=100)
    assert schedule.wait_ns(0) == 0
    assert schedule.advance(350) == 3
    assert schedule.wait_ns(350) == 50
    assert schedule.advance(400) == 0
    assert schedule.wait_ns(400) == 100


def test_a_clock_before_the_start_makes_no_tick_come_back() -> None:
    schedule = Schedule(start_ns=1_000, period_ns=100)
    assert schedule.advance(500) == 0
    assert schedule.wait_ns(1_000) == 100


def test_an_event_loop_says_how_late_it_is(llmevents_bus: Bus) -> None:
    clock = ManualClock()
    poller = Poller([], bus=llmevents_bus, clock=clock)

    async def run() -> None:
        poller.watch_loop(asyncio.get_running_loop())
        poller.poll()
        poller.poll()  # not asked again before it has answered
        clock.advance(5_000)
        await asyncio.sleep(0)
        poller.poll()
        await asyncio.sleep(0)

    with capture(bus=llmevents_bus, scope="process") as events:
        asyncio.run(run())
        poller.poll()  # closed by now, and forgotten
        poller.poll()
    assert events.names() == ["asyncio.lag"] * 2
    assert [event.measurements["lag"] for event in events] == [5_000, 0]


def test_a_loop_that_is_gone_is_forgotten() -> None:
    poller = Poller([], bus=Bus())
    loop = asyncio.new_event_loop()
    poller.watch_loop(loop)
    loop.close()
    del loop
    gc.collect()
    poller.poll()
    assert poller.stats()["failures"] == 0


def test_a_loop_that_closes_while_it_is_asked_is_forgotten() -> None:
    class Closing(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *arguments: object, **more: object) -> object:  # type: ignore[override]  # it only raises
            msg = "Event loop is closed"
            raise RuntimeError(msg)

    bus, loop = Bus(), Closing()
    try:
        poller = Poller([], bus=bus)
        poller.watch_loop(loop)
        poller.poll()
        assert poller.stats()["failures"] == 0
    finally:
        loop.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_poll_until_it_is_told_to() -> None:
    rounds = _Rounds()
    with Poller([rounds], period=3600, bus=Bus()) as poller:
        rounds.wait_for(1)
        # What measures coverage has a lock that another thread may hold at the fork.
        trace = sys.gettrace()
        sys.settrace(None)
        child = os.fork()
        if child == 0:
            signal.alarm(300)
            threading.settrace(None)
            try:
                poller.start()
                rounds.wait_for(2)
                os._exit(0 if poller.stop(DEADLINE) else 1)
            finally:
                os._exit(2)
        sys.settrace(trace)
        assert os.waitpid(child, 0)[1] == 0
    assert rounds.count == 1
