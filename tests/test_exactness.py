"""Counts are exact whatever happens at the same time.

Every test here runs under a watchdog: a deadlock ends the run with the stacks of all
threads, instead of hanging it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FrameType

import pytest

from llmevents import Bus, Subscription
from llmevents._tally import Tally


pytestmark = [pytest.mark.long, pytest.mark.usefixtures("watchdog")]


@pytest.fixture
def watchdog(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """End the run with all stacks if a test hangs."""
    with capfd.disabled():
        stderr = os.dup(2)  # the real one, which nobody captures and then loses
    faulthandler.dump_traceback_later(600, exit=True, file=stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(stderr)


@pytest.fixture
def often() -> Iterator[None]:
    """Switch threads hundreds of times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def untraced() -> None:
    """Let this thread run as fast as it would, and fork as safely, without coverage.

    coverage.py has a lock that a fork may copy in its locked state.
    """
    sys.settrace(None)


def counting(bus: Bus, event: str) -> Tally:
    """Attach a handler that counts an event."""
    tally = Tally()
    count = tally.add
    bus.attach(("counting", event), event, lambda *call: count())
    return tally


# --- Threads ---------------------------------------------------------------------


def test_64_threads_count_exactly_while_handlers_come_and_go() -> None:
    threads, events = 64, 100_000
    bus = Bus()
    tallies = [counting(bus, f"load.t{number}") for number in range(threads)]
    done = threading.Event()
    wrong: list[tuple[int, int]] = []

    def emit(number: int) -> None:
        untraced()
        name, execute, measurements = f"load.t{number}", bus.execute, {"count": 1}
        for _ in range(events):
            execute(name, measurements)

    def change(number: int) -> None:
        untraced()
        while not done.is_set():
            mine: list[object] = []

            def note(*call: object, seen: list[object] = mine) -> None:
                seen.append(call)

            with bus.attach(("change", number), f"change.t{number}", note):
                bus.execute(f"change.t{number}", {})
                attached = len(mine)
            bus.execute(f"change.t{number}", {})
            if (attached, len(mine)) != (1, 1):
                wrong.append((attached, len(mine)))
            done.wait(0.02)

    emitters = [
        threading.Thread(target=emit, args=(number,), daemon=True)
        for number in range(threads)
    ]
    changers = [
        threading.Thread(target=change, args=(number,), daemon=True)
        for number in range(2)
    ]
    for thread in (*changers, *emitters):
        thread.start()
    for thread in emitters:
        thread.join()
    done.set()
    for thread in changers:
        thread.join()
    assert [tally.value() for tally in tallies] == [events] * threads
    assert wrong == []
    assert set(bus.stats().values()) == {0}
    assert len(bus.list_handlers()) == threads


# --- Forks -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.usefixtures("often")
def test_50_forks_while_four_threads_emit_lose_and_repeat_nothing() -> None:
    bus = Bus()
    tallies = [counting(bus, f"thread.t{number}") for number in range(4)]
    emitted = [0] * 4
    done = threading.Event()

    def emit(number: int) -> None:
        untraced()
        while not done.is_set():
            bus.execute(f"thread.t{number}", {"count": 1})
            emitted[number] += 1
            with bus.attach(("extra", number), f"thread.t{number}", lambda *call: None):
                bus.execute(f"thread.t{number}", {"count": 1})
                emitted[number] += 1

    def live_in_child() -> dict[str, object]:
        """Emit own events; return what was delivered in this process."""
        before = [tally.value() for tally in tallies]
        own = counting(bus, "child")
        for _ in range(200):
            bus.execute("child", {"count": 1})
            with bus.attach("temporary", "child", lambda *call: None):
                pass
        after = [tally.value() for tally in tallies]
        return {
            "own": own.value(),
            "others": [late - early for early, late in zip(before, after, strict=True)],
            "stops": bus.stats()["recursion_stops"],
        }

    emitters = [
        threading.Thread(target=emit, args=(number,), daemon=True)
        for number in range(4)
    ]
    for thread in emitters:
        thread.start()
    reports = []
    for _ in range(50):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            try:
                os.write(writer, json.dumps(live_in_child()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            reports.append(pipe.read())
        os.waitpid(child, 0)
    done.set()
    for thread in emitters:
        thread.join()
    expected = {"own": 200, "others": [0, 0, 0, 0], "stops": 0}
    assert [json.loads(report or "null") for report in reports] == [expected] * 50
    assert [tally.value() for tally in tallies] == emitted
    assert min(emitted) > 0


# --- Signals ---------------------------------------------------------------------


class Ticking:
    """Calls a function from a signal handler, half a millisecond after it returned."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self) -> None:
        """Do what the signal handler is to do."""

    def __enter__(self) -> None:
        self._outer = signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.ticks += 1
        self.tick()
        signal.setitimer(signal.ITIMER_REAL, 0.0005)


def test_a_signal_handler_that_emits_during_emissions_counts_exactly() -> None:
    """Also while a failure is being counted, announced and logged."""
    bus = Bus()
    work, tick = counting(bus, "work"), counting(bus, "tick")
    failures = counting(bus, "llmevents.handler.failure")

    def fail(*call: object) -> None:
        msg = "no good"
        raise ValueError(msg)

    bus.attach("bad", ["work", "tick"], fail)

    class Emitting(Ticking):
        def tick(self) -> None:
            bus.execute("tick", {"count": 1})

    ticking = Emitting()
    emissions = 0
    with ticking:
        while ticking.ticks < 500:
            bus.execute("work", {"count": 1})
            emissions += 1
            bus.stats()
    stats = bus.stats()
    assert work.value() == emissions
    assert tick.value() == ticking.ticks
    assert stats["handler_failures"] == failures.value() == emissions + ticking.ticks
    assert stats["recursion_stops"] == 0


def test_a_signal_handler_that_attaches_during_attaching_loses_nothing() -> None:
    bus = Bus()
    bus.attach("permanent", "work", lambda *call: None)
    lost: list[object] = []

    def is_attached(handler_id: object) -> bool:
        return handler_id in {info.handler_id for info in bus.list_handlers()}

    class Attaching(Ticking):
        subscription: Subscription | None = None

        def tick(self) -> None:
            if self.subscription is not None:
                if not is_attached(self.subscription.handler_id):
                    lost.append(self.subscription)
                self.subscription.detach()
            self.subscription = bus.attach(self.ticks, "tick", lambda *call: None)

    ticking = Attaching()
    with ticking:
        while ticking.ticks < 500:
            subscription = bus.attach("work", "work", lambda *call: None)
            if not is_attached("work"):
                lost.append(subscription)
            subscription.detach()
    assert lost == []
    attached = {info.handler_id for info in bus.list_handlers()}
    assert attached == {"permanent", ticking.ticks}


# --- Garbage collection ----------------------------------------------------------


class Node:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


class Dying(Node):
    """Garbage that emits as it goes."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus = bus

    def __del__(self) -> None:
        self.bus.execute("deleted", {"count": 1})


def test_finalizers_that_emit_at_any_allocation_count_exactly() -> None:
    rounds = 3_000
    bus = Bus()
    work, finalized, deleted, called_back, collections = (
        counting(bus, event)
        for event in ("work", "finalized", "deleted", "called", "collection")
    )
    bus.attach("allocating", "**", lambda *call: [[number] for number in range(5)])
    references = []
    seen = 0

    def collecting(phase: str, details: dict[str, int]) -> None:
        nonlocal seen
        seen += 1
        bus.execute("collection", {"count": 1})

    def call_back(reference: object) -> None:
        bus.execute("called", {"count": 1})

    thresholds = gc.get_threshold()
    gc.callbacks.append(collecting)
    gc.set_threshold(1)
    try:
        for _ in range(rounds):
            weakref.finalize(Node(), bus.execute, "finalized", {"count": 1})
            references.append(weakref.ref(Node(), call_back))
            Dying(bus)
            bus.execute("work", {"count": 1})
            with bus.attach("brief", "brief", lambda *call: None):
                pass
        gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collecting)
    assert work.value() == rounds
    assert finalized.value() == rounds
    assert called_back.value() == rounds
    assert deleted.value() == rounds
    assert collections.value() == seen > 0
    assert bus.stats()["recursion_stops"] == 0
