"""Background handlers: what is queued is delivered in order, or counted."""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import gc
import itertools
import logging
import random
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmevents import Background, Bus, HandlerError, OptionError, background
from llmevents import _background as background_module
from llmevents._background import BackgroundStats
from llmevents._queue import SHARE, BoundedQueue, Item, OnFull
from llmevents._types import EventName, Handler, Measurements, Metadata
from llmevents._wake import Wake
from llmevents.testing import ManualClock, capture


EVENT = ("docs", "saved")
THREADS = 32
EACH = 5_000
POLICIES: tuple[OnFull, ...] = ("drop_new", "drop_old", "block")

SECONDS = 60
"""Long enough for a busy machine; it only runs out where something is broken."""


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """A deadlock fails with the stacks of all threads instead of hanging."""
    faulthandler.dump_traceback_later(900, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)
        assert not thread.is_alive(), thread


class Collector:
    """A handler that keeps what it gets, and can be stopped at its first event."""

    def __init__(self, *, held: bool = False) -> None:
        self.events: list[tuple[EventName, Measurements, Metadata, object]] = []
        self.entered = threading.Event()
        self.go_on = threading.Event()
        if not held:
            self.go_on.set()

    def __call__(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,
    ) -> None:
        self.entered.set()
        assert self.go_on.wait(2 * SECONDS)
        self.events.append((event, measurements, metadata, config))

    @property
    def numbers(self) -> list[float]:
        return [measurements["n"] for _, measurements, _, _ in self.events]


def emit(handler: Background, *numbers: int, text: str = "") -> None:
    for number in numbers:
        handler(EVENT, {"n": number}, {"text": text}, None)


# The options are those of background(), of which each test gives another few.
def hold(**options: Any) -> tuple[Background, Collector]:  # noqa: ANN401  # see above
    """Return a background handler whose worker is inside the handler, with event 0."""
    collector = Collector(held=True)
    queued = background(collector, **options)
    emit(queued, 0)
    assert collector.entered.wait(SECONDS)
    return queued, collector


def threads_named(name: str) -> int:
    """Return how many there are; those of other tests may still be ending."""
    return sum(thread.name == name for thread in threading.enumerate())


def lost(stats: BackgroundStats) -> int:
    return stats.accepted - stats.delivered - sum(stats.dropped.values()) - stats.queued


def nothing(*_: object) -> None:
    """Handle an event by doing nothing."""


async def nothing_async(*_: object) -> None:
    """Handle an event by doing nothing, later."""


# --- Nothing is lost -------------------------------------------------------------


class LosingQueue(BoundedQueue):
    """Forgets one event in a thousand."""

    __slots__ = ()

    def take(self) -> Item | None:
        item = super().take()
        if item is not None and item.number % 1_000 == 0:
            self._delivering = 0
            item = super().take()
        return item


class RepeatingQueue(BoundedQueue):
    """Delivers one event in a thousand twice."""

    __slots__ = ()

    def take(self) -> Item | None:
        item = super().take()
        if item is not None and item.number % 1_000 == 0 and not item.expired:
            item.expired = True
            self._waiting.appendleft(item)
        return item


def check_that_nothing_is_lost(
    on_full: OnFull, max_events: int, each: int = EACH
) -> BackgroundStats:
    """Emit from many threads at once and compare every number."""
    got: list[tuple[int, float]] = []

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        got.append((metadata["thread"], measurements["n"]))

    queued = background(
        handler,
        on_full=on_full,
        max_events=max_events,
        max_bytes=1 << 30,
        block_timeout=10 * SECONDS,
    )

    def run(thread: int) -> None:
        for number in range(each):
            queued(EVENT, {"n": number}, {"thread": thread}, None)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    interval = sys.getswitchinterval()
    if on_full != "block":  # there every event changes threads anyway
        sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    assert queued.shutdown(300)
    stats = queued.stats()

    assert stats.accepted == THREADS * each
    assert stats.queued == 0
    assert lost(stats) == 0
    assert stats.delivered == len(got) == len(set(got))
    by_thread: dict[int, list[float]] = {}
    for thread_number, number in got:
        by_thread.setdefault(thread_number, []).append(number)
    assert all(numbers == sorted(numbers) for numbers in by_thread.values())
    return stats


@pytest.mark.parametrize("on_full", POLICIES)
def test_totals_are_exact_under_contention(on_full: OnFull) -> None:
    stats = check_that_nothing_is_lost(on_full, 100)

    assert set(stats.dropped) <= {"queue_full"}
    if on_full == "block":
        assert stats.delivered == stats.accepted


def test_nothing_is_dropped_while_there_is_room() -> None:
    stats = check_that_nothing_is_lost("drop_new", THREADS * EACH)

    assert stats.delivered == THREADS * EACH


@pytest.mark.parametrize("broken", [LosingQueue, RepeatingQueue])
def test_the_check_of_losses_sees_losses(
    broken: type[BoundedQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that cannot fail proves nothing."""
    monkeypatch.setattr(background_module, "BoundedQueue", broken)

    with pytest.raises(AssertionError, match="assert"):
        check_that_nothing_is_lost("drop_new", 10_000, each=200)


def test_numbers_never_count_an_event_twice_while_events_move() -> None:
    queued = background(nothing, max_events=50)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            emit(queued, *range(100))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    readings = [queued.stats() for _ in range(2_000)]
    stop.set()
    for thread in threads:
        thread.join(SECONDS)

    assert min(lost(stats) for stats in readings) >= 0
    accepted = [stats.accepted for stats in readings]
    assert accepted == sorted(accepted)
    assert queued.flush(SECONDS)
    assert lost(queued.stats()) == 0


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_in_whatever_order_the_numbers_agree(seed: int) -> None:
    """Lives of handlers, put together by chance, with a thread change anywhere."""
    chance = random.Random(seed)  # noqa: S311  # the same each time is the point
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(50):
            live_by_chance(chance)
    finally:
        sys.setswitchinterval(interval)


def live_by_chance(chance: random.Random) -> None:
    calls = late = 0
    ended = False

    def handler(*_: object) -> None:
        nonlocal calls, late
        calls += 1
        late += ended
        if chance.random() < 0.01:
            msg = "by chance"
            raise ValueError(msg)

    queued = background(
        handler,
        max_events=chance.choice([1, 2, 10, 1_000]),
        max_bytes=chance.choice([2_000, 100_000]),
        on_full=chance.choice(POLICIES),
        block_timeout=chance.choice([0, 0.001, 5]),
    )
    count, size = chance.choice([1, 20, 300]), chance.choice([1, 500, 3_000])
    threads = [
        threading.Thread(
            target=emit, args=(queued, *range(count)), kwargs={"text": "x" * size}
        )
        for _ in range(chance.choice([1, 3, 8]))
    ]
    for thread in threads:
        thread.start()
    if chance.random() < 0.5:
        queued.flush(chance.choice([0, 0.001, 10]))
    if chance.random() < 0.5:
        ended = queued.shutdown(chance.choice([0, 0.001, 10]))
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()
    assert queued.flush(300)

    stats = queued.stats()
    assert stats.accepted == count * len(threads)
    assert stats.queued == 0
    assert lost(stats) == 0
    assert calls == stats.delivered + stats.dropped.get("handler_error", 0)
    assert late == 0, "nothing is delivered once shutdown() has said that all was"


# --- Delivery --------------------------------------------------------------------


def test_an_attached_background_handler_gets_events_in_order_and_off_thread() -> None:
    bus = Bus()
    threads = set()
    collector = Collector()

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        threads.add(threading.current_thread().name)
        collector(event, measurements, metadata, config)

    queued = background(handler, name="collector", bus=bus)
    bus.attach("id", "docs.**", queued, {"my": "config"})
    for number in range(100):
        bus.execute("docs.saved", {"n": number}, {"page": 3})

    assert queued.flush(SECONDS)
    assert collector.numbers == list(range(100))
    assert collector.events[0] == (EVENT, {"n": 0}, {"page": 3}, {"my": "config"})
    assert threads == {"collector"}
    assert repr(queued) == "<Background 'collector'>"
    assert queued.shutdown(SECONDS)


def test_the_handler_gets_copies_of_both_mappings() -> None:
    """The emitter may go on using its dicts; what they hold is shared."""
    queued, collector = hold()
    measurements, metadata, inner = {"n": 1}, {"inner": [1]}, [1]
    metadata["inner"] = inner
    queued(EVENT, measurements, metadata, None)
    measurements["n"] = 2
    metadata.clear()
    inner.append(2)
    collector.go_on.set()

    assert queued.shutdown(SECONDS)
    assert collector.events[1] == (EVENT, {"n": 1}, {"inner": [1, 2]}, None)


def test_no_thread_is_started_before_the_first_event() -> None:
    queued = background(nothing, name="late")

    assert queued.flush(SECONDS)
    assert threads_named("late") == 0
    emit(queued, 1)
    assert threads_named("late") == 1
    assert queued.shutdown(SECONDS)
    assert threads_named("late") == 0


def test_coroutine_functions_run_one_at_a_time_and_in_order() -> None:
    running = 0
    got: list[float] = []
    loops = set()

    async def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        nonlocal running
        assert running == 0
        running += 1
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        got.append(measurements["n"])
        running -= 1

    queued = background(handler)
    emit(queued, *range(200))

    assert queued.shutdown(SECONDS)
    assert got == list(range(200))
    assert queued.stats().delivered == 200
    assert len(loops) == 1
    assert loops.pop().is_closed()


class AsyncCallable:
    """An object whose call is a coroutine function."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        _: object,
    ) -> None:
        await asyncio.sleep(0)
        self.count += 1


def in_a_function(handler: Handler) -> Handler:
    def call(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> object:
        return handler(event, measurements, metadata, config)

    return call


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda handler: handler, id="object"),
        pytest.param(functools.partial, id="partial"),
        pytest.param(in_a_function, id="function"),
    ],
)
def test_whatever_returns_a_coroutine_has_it_run(wrap: Callable[..., Any]) -> None:
    handler = AsyncCallable()
    queued = background(wrap(handler))
    emit(queued, 1, 2)

    assert queued.shutdown(SECONDS)
    assert handler.count == 2


def test_tasks_that_a_coroutine_leaves_behind_are_cancelled_at_the_end() -> None:
    outcome: list[str] = []
    tasks = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise

    async def handler(*_: object) -> None:
        tasks.append(asyncio.ensure_future(forever()))
        await asyncio.sleep(0)

    queued = background(handler)
    emit(queued, 1)

    assert queued.shutdown(SECONDS)
    assert outcome == ["cancelled"]


def test_a_loop_that_cannot_be_made_fails_the_event_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> asyncio.AbstractEventLoop:
        msg = "too many open files"
        raise OSError(msg)

    queued = background(nothing_async)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", refuse)
        emit(queued, 1)
        assert queued.flush(SECONDS)
    emit(queued, 2)

    assert queued.shutdown(SECONDS)
    assert queued.stats().dropped == {"handler_error": 1}
    assert queued.stats().delivered == 1


# --- Limits ----------------------------------------------------------------------


def test_a_full_queue_drops_the_new_event_by_default() -> None:
    queued, collector = hold(max_events=3)
    emit(queued, *range(1, 11))

    assert queued.stats().dropped == {"queue_full": 7}
    assert queued.stats().queued == 4
    collector.go_on.set()
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 1, 2, 3]


def test_drop_old_keeps_the_newest_events() -> None:
    queued, collector = hold(max_events=3, on_full="drop_old")
    emit(queued, *range(1, 11))

    assert queued.stats().dropped == {"queue_full": 7}
    collector.go_on.set()
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 8, 9, 10]


def test_the_queue_is_bounded_by_bytes() -> None:
    queued, collector = hold(max_bytes=10_000)
    emit(queued, *range(1, 101), text="x" * 3_000)

    stats = queued.stats()
    assert stats.queued == 3
    assert stats.dropped == {"queue_full": 98}
    collector.go_on.set()
    assert queued.flush(SECONDS)
    emit(queued, 101, text="x" * 3_000)
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 1, 2, 101]


def test_drop_old_makes_room_for_bytes() -> None:
    queued, collector = hold(max_bytes=10_000, on_full="drop_old")
    emit(queued, 1, 2, 3)
    emit(queued, 4, text="x" * 9_000)

    assert queued.stats().dropped == {"queue_full": 3}
    collector.go_on.set()
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 4]


@pytest.mark.parametrize("on_full", POLICIES)
def test_an_event_that_exceeds_all_bytes_is_too_large(on_full: OnFull) -> None:
    collector = Collector()
    queued = background(collector, max_bytes=10_000, on_full=on_full)
    emit(queued, 1, text="x" * 10_000)
    emit(queued, 2)

    assert queued.shutdown(SECONDS)
    assert queued.stats().dropped == {"too_large": 1}
    assert collector.numbers == [2]


def test_events_that_come_while_an_emitter_is_suspended_are_bounded_too() -> None:
    """Here it is suspended for good: by a finalizer that emits, in the same thread."""
    queue = BoundedQueue(10, 10_000, "drop_new")
    del queue._token[0]
    for _ in range(30):
        queue.offer(Item((EVENT, {}, {}, None), 400, 0))
    assert sum(isinstance(entry, Item) for entry in queue._inbox) == 10
    queue.offer(Item((EVENT, {}, {}, None), 9_000, 0))
    queue._token.append(None)
    queue.settle()

    assert queue.accepted == 31
    assert queue.dropped["queue_full"] == 21
    assert queue.waiting == 10


def test_bytes_that_come_while_an_emitter_is_suspended_are_bounded_too() -> None:
    queue = BoundedQueue(100, 10_000, "drop_new")
    del queue._token[0]
    for _ in range(30):
        queue.offer(Item((EVENT, {}, {}, None), 1_000, 0))
    queue._token.append(None)
    queue.settle()

    assert queue.dropped["queue_full"] == 20
    assert queue.waiting == 10


def test_one_emission_does_not_work_for_all_others() -> None:
    """It moves a share of what others left; the worker and readers do the rest."""
    queue = BoundedQueue(10_000, 10_000_000, "drop_new")
    del queue._token[0]
    for _ in range(1_000):
        queue.refuse("recursion")
    queue._token.append(None)
    queue.refuse("recursion")

    assert queue.accepted == SHARE
    queue.settle()
    assert queue.accepted == 1_001


# --- Waiting for room ------------------------------------------------------------


def test_block_waits_until_there_is_room() -> None:
    queued, collector = hold(max_events=1, on_full="block", block_timeout=10 * SECONDS)
    emit(queued, 1)
    emitter = threading.Thread(target=emit, args=(queued, 2, 3, 4))
    emitter.start()
    collector.go_on.set()
    emitter.join(SECONDS)

    assert not emitter.is_alive()
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 1, 2, 3, 4]


def test_block_gives_up_after_its_timeout_and_counts() -> None:
    queued, collector = hold(max_events=1, on_full="block", block_timeout=0.01)
    emit(queued, 1, 2, 3)

    assert queued.stats().dropped == {"queue_full": 2}
    collector.go_on.set()
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 1]


def test_a_handler_that_emits_to_itself_never_waits_for_itself() -> None:
    bus = Bus()
    emitted = threading.Event()

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        if measurements["n"] == 0:
            for number in range(1, 6):
                bus.execute(EVENT, {"n": number})
            emitted.set()

    queued = background(
        handler, max_events=2, on_full="block", block_timeout=10 * SECONDS, bus=bus
    )
    bus.attach("id", "docs.**", queued)
    bus.execute(EVENT, {"n": 0})

    assert emitted.wait(SECONDS)
    assert queued.shutdown(SECONDS)
    assert queued.stats().dropped == {"queue_full": 3}
    assert queued.stats().delivered == 3


def test_shutdown_wakes_emitters_that_wait() -> None:
    queued, collector = hold(max_events=1, on_full="block", block_timeout=10 * SECONDS)
    emit(queued, 1)
    emitter = threading.Thread(target=emit, args=(queued, 2))
    emitter.start()
    while not queued._delivery.queue._inbox:
        time.sleep(0)

    assert not queued.shutdown(0.01)
    emitter.join(SECONDS)
    assert not emitter.is_alive()
    assert queued.stats().dropped == {"shutdown": 2}
    collector.go_on.set()


# --- Recursion -------------------------------------------------------------------


def test_a_handler_that_feeds_itself_stops_after_eight_rounds() -> None:
    bus = Bus()
    depths: list[float] = []

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        depths.append(measurements["n"])
        bus.execute(EVENT, {"n": measurements["n"] + 1})

    queued = background(handler, bus=bus)
    bus.attach("id", "docs.**", queued)
    bus.execute(EVENT, {"n": 0})

    assert queued.shutdown(SECONDS)
    assert depths == list(range(8))
    assert queued.stats().dropped == {"recursion": 1}
    assert lost(queued.stats()) == 0


# --- Handlers that fail ----------------------------------------------------------


def fail(
    event: EventName, measurements: Measurements, metadata: Metadata, config: object
) -> None:
    msg = "no luck with key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
    raise ValueError(msg)


def test_failures_are_counted_and_logged_once_a_second_without_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    queued = background(fail, clock=clock, name="failing")
    with caplog.at_level(logging.ERROR, logger="llmevents"):
        emit(queued, *range(100))
        assert queued.flush(SECONDS)
        clock.advance(1_000_000_000)
        emit(queued, 100)
        assert queued.shutdown(SECONDS)

    assert queued.stats().dropped == {"handler_error": 101}
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(
        "background handler 'failing' on docs.saved failed: ValueError: no luck with"
    )
    assert "abcdefghijklmnop" not in first
    assert first.endswith(", 1 since the last report)")
    assert second.endswith(", 100 since the last report)")


def test_a_failure_becomes_an_event(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    queued = background(fail, bus=bus, name="failing", clock=ManualClock(5, 7))
    bus.attach("id", "docs.**", queued)
    with capture("llmevents.**", bus=bus, scope="process") as events:
        bus.execute(EVENT, {"n": 0})
        assert queued.shutdown(SECONDS)

    assert events.names() == ["llmevents.handler.failure"]
    assert events[0].measurements == {"monotonic_time": 5, "system_time": 7}
    assert events[0].metadata["event"] == "docs.saved"
    assert events[0].metadata["handler_id"] == "failing"
    assert events[0].metadata["error_type"] == "ValueError"
    assert "abcdefghijklmnop" not in events[0].metadata["error_message"]
    assert caplog.records


def test_a_handler_of_failures_that_fails_does_not_feed_itself() -> None:
    bus = Bus()
    queued = background(fail, bus=bus)
    bus.attach("id", "**", queued)
    bus.execute(EVENT, {"n": 0})

    assert queued.flush(SECONDS)
    assert queued.flush(SECONDS)
    assert queued.shutdown(SECONDS)
    assert queued.stats().dropped == {"handler_error": 2}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_no_exception_ends_the_worker(error: BaseException, kind: str) -> None:
    got: list[float] = []

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        if measurements["n"] == 1:
            raise error
        got.append(measurements["n"])

    async def handler_async(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        await asyncio.sleep(0)
        handler(event, measurements, metadata, config)

    queued = background(handler if kind == "sync" else handler_async)
    emit(queued, 0, 1, 2)

    assert queued.shutdown(SECONDS)
    assert got == [0, 2]
    assert queued.stats().dropped == {"handler_error": 1}


def test_a_broken_logging_handler_does_not_end_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        msg = "log is full"
        raise OSError(msg)

    monkeypatch.setattr(logging.getLogger("llmevents"), "error", refuse)
    queued = background(fail)
    emit(queued, 1, 2)

    assert queued.shutdown(SECONDS)
    assert queued.stats().dropped == {"handler_error": 2}


def test_a_bus_that_is_gone_gets_no_failure_events() -> None:
    bus = Bus()
    queued = background(fail, bus=bus)
    del bus
    emit(queued, 1)

    assert queued.shutdown(SECONDS)
    assert queued.stats().dropped == {"handler_error": 1}


# --- flush() and shutdown() ------------------------------------------------------


def test_flush_says_if_something_is_left() -> None:
    queued, collector = hold()
    emit(queued, 1)

    assert not queued.flush(0.01)
    assert not queued.flush(0)
    collector.go_on.set()
    assert queued.flush(SECONDS)
    assert collector.numbers == [0, 1]
    assert queued.shutdown(SECONDS)


def test_flush_does_not_wait_for_what_comes_after_it() -> None:
    """An emitter that never stops cannot keep it."""
    done = threading.Event()
    queued = background(nothing, max_events=100)

    def run() -> None:
        while not done.is_set():
            emit(queued, 1)

    emitter = threading.Thread(target=run)
    emitter.start()
    flushed = [queued.flush(SECONDS) for _ in range(20)]
    done.set()
    emitter.join(SECONDS)

    assert all(flushed)
    assert queued.shutdown(SECONDS)


@pytest.mark.parametrize("call", ["flush", "shutdown"])
def test_the_handler_itself_cannot_wait_for_its_own_end(call: str) -> None:
    answers: list[bool] = []
    collector = Collector()

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        answers.append(getattr(queued, call)(10 * SECONDS))
        collector(event, measurements, metadata, config)

    queued = background(handler)
    emit(queued, 0)
    assert queued.flush(SECONDS)

    assert answers == [False]
    assert collector.numbers == [0]
    assert queued.shutdown(SECONDS)


def test_shutdown_gives_up_in_time_and_counts_the_rest() -> None:
    queued, collector = hold()
    emit(queued, 1, 2, 3)
    started = time.monotonic()
    assert not queued.shutdown(0.05)
    assert time.monotonic() - started < 5

    stats = queued.stats()
    assert stats.dropped == {"shutdown": 3}
    assert stats.queued == 1, "the handler is still working on it"
    assert lost(stats) == 0
    collector.go_on.set()
    assert not queued.shutdown(SECONDS), "events were dropped"
    assert queued.stats() == BackgroundStats(
        accepted=4, delivered=1, dropped={"shutdown": 3}, queued=0
    )
    assert collector.numbers == [0]


def test_shutdown_takes_nothing_more_and_may_be_repeated() -> None:
    collector = Collector()
    queued = background(collector)
    emit(queued, 1)
    assert queued.shutdown(SECONDS)
    assert queued.shutdown(0)
    emit(queued, 2, 3)

    assert collector.numbers == [1]
    assert queued.stats().dropped == {"shutdown": 2}
    assert queued.flush(0)


def test_a_handler_that_was_never_used_shuts_down_at_once() -> None:
    queued = background(nothing)

    assert queued.shutdown(0)


# --- Without a thread ------------------------------------------------------------


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make every thread fail to start, as Python 3.12 does at interpreter shutdown."""

    def refuse(_: threading.Thread) -> None:
        msg = "can't create new thread at interpreter shutdown"
        raise RuntimeError(msg)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return monkeypatch


@pytest.mark.parametrize("call", ["flush", "shutdown"])
@pytest.mark.usefixtures("no_threads")
def test_events_are_delivered_by_the_caller_if_no_thread_can_be_had(call: str) -> None:
    threads = set()
    collector = Collector()

    async def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        threads.add(threading.current_thread())
        collector(event, measurements, metadata, config)

    queued = background(handler)
    emit(queued, 0, 1, 2)
    assert queued.stats().queued == 3
    assert getattr(queued, call)(SECONDS)

    assert collector.numbers == [0, 1, 2]
    assert threads == {threading.current_thread()}
    assert lost(queued.stats()) == 0


@pytest.mark.usefixtures("no_threads")
def test_the_caller_stops_delivering_at_its_deadline() -> None:
    collector = Collector()
    queued = background(collector)
    emit(queued, 0, 1, 2)

    assert not queued.flush(0)
    assert collector.numbers == [0]
    assert not queued.shutdown(0)
    assert collector.numbers == [0, 1]
    assert queued.stats().dropped == {"shutdown": 1}


@pytest.mark.usefixtures("no_threads")
def test_an_interrupt_of_the_caller_gets_through() -> None:
    """Ctrl-C while the caller delivers is the caller's."""
    collector = Collector()

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        if measurements["n"] == 0:
            raise KeyboardInterrupt
        collector(event, measurements, metadata, config)

    queued = background(handler)
    emit(queued, 0, 1)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        queued.flush(SECONDS)

    assert queued.flush(SECONDS)
    assert collector.numbers == [1]
    assert queued.stats().dropped == {"handler_error": 1}
    assert lost(queued.stats()) == 0


@pytest.mark.usefixtures("no_threads")
def test_block_does_not_wait_where_nobody_delivers() -> None:
    # If it waited, the watchdog would not.
    queued = background(
        nothing, max_events=1, on_full="block", block_timeout=20 * SECONDS
    )
    emit(queued, 0, 1)

    assert queued.stats().dropped == {"queue_full": 1}
    assert queued.shutdown(SECONDS)


def test_a_thread_that_could_not_be_started_is_tried_again(
    no_threads: pytest.MonkeyPatch,
) -> None:
    collector = Collector()
    queued = background(collector)
    emit(queued, 0)
    no_threads.undo()
    emit(queued, 1)
    assert not collector.entered.is_set(), "not at once"
    queued._delivery._start_due = 0.0
    emit(queued, 2)

    assert collector.entered.wait(SECONDS)
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 1, 2]


def test_an_interrupt_before_the_thread_starts_leaves_no_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    collector = Collector()
    queued = background(collector)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            emit(queued, 0)
    emit(queued, 1)

    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 1]


def test_an_interrupt_after_the_thread_has_started_makes_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    collector = Collector()

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        assert collector.entered.wait(SECONDS)
        raise KeyboardInterrupt

    queued = background(collector, name="interrupted")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_and_interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            emit(queued, 0)
    emit(queued, 1)

    assert threads_named("interrupted") == 1
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [0, 1]


def test_a_thread_whose_start_was_taken_back_does_nothing() -> None:
    queued = background(nothing)
    delivery = queued._delivery
    delivery._work(delivery.queue, [])

    assert delivery.queue.deliverer == 0
    assert delivery.queue.consumer == [None]


def test_only_one_thread_is_started_by_many_emitters() -> None:
    queued = background(nothing)
    delivery = queued._delivery
    consumer = delivery.queue.consumer
    del consumer[0]

    assert delivery._start_worker(delivery.queue), "somebody else is at it"
    assert delivery._thread is None
    delivery._deliver_here(delivery.queue, 0.0)
    consumer.append(None)
    assert queued.shutdown(SECONDS)


def test_shutdown_may_come_while_the_thread_is_being_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    answers: list[bool] = []

    def start_late(thread: threading.Thread) -> None:
        answers.append(queued.shutdown(0))
        start(thread)

    queued = background(nothing)
    monkeypatch.setattr(threading.Thread, "start", start_late)
    emit(queued, 0)

    assert answers == [False]
    assert not queued.shutdown(SECONDS)
    assert queued.stats().dropped == {"shutdown": 1}


# --- Lifetime --------------------------------------------------------------------


def test_a_handler_that_is_garbage_delivers_and_ends_its_thread() -> None:
    queued, collector = hold(name="garbage")
    (thread,) = (t for t in threading.enumerate() if t.name == "garbage")
    emit(queued, 1, 2)
    delivery = weakref.ref(queued._delivery)
    del queued
    gc.collect()
    collector.go_on.set()
    thread.join(SECONDS)

    assert not thread.is_alive()
    assert collector.numbers == [0, 1, 2]
    del thread
    gc.collect()
    assert delivery() is None


def test_a_bus_with_a_background_handler_can_be_garbage() -> None:
    bus = Bus()
    collector = Collector()
    bus.attach("id", "docs.**", background(collector, bus=bus, name="garbage"))
    bus.execute(EVENT, {"n": 1})
    (thread,) = (t for t in threading.enumerate() if t.name == "garbage")
    del bus
    gc.collect()
    thread.join(SECONDS)

    assert not thread.is_alive()
    assert collector.numbers == [1]


# --- Mistakes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_events": 0}, "max_events to be an integer of 1 or more, got 0"),
        ({"max_events": True}, "max_events to be an integer of 1 or more, got True"),
        ({"max_bytes": 1.5}, "max_bytes to be an integer of 1 or more, got 1.5"),
        ({"on_full": "wait"}, "on_full to be 'drop_new' or 'drop_old' or 'block'"),
        ({"block_timeout": None}, "block_timeout to be a finite number of seconds"),
        ({"block_timeout": float("inf")}, "0 or more, got inf"),
        ({"name": ""}, "name to be text that is not empty, got ''"),
        ({"name": 3}, "name to be text that is not empty, got 3"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        background(nothing, **options)


@pytest.mark.parametrize("timeout", [-1, True, "2", None, float("nan"), float("inf")])
@pytest.mark.parametrize("call", ["flush", "shutdown"])
def test_bad_timeouts_are_refused(call: str, timeout: object) -> None:
    queued = background(nothing)

    with pytest.raises(OptionError, match="timeout to be a finite number of seconds"):
        getattr(queued, call)(timeout)


def test_a_timeout_longer_than_python_can_wait_is_cut() -> None:
    queued = background(nothing)
    emit(queued, 1)

    assert queued.flush(10**30)
    assert queued.shutdown(1e300)


def too_few(event: EventName) -> None: ...


async def too_few_async(event: EventName) -> None: ...


def generator(*_: object) -> Iterator[int]:
    yield 1


class TooFewAsync:
    async def __call__(self, event: EventName) -> None: ...


@pytest.mark.parametrize(
    ("handler", "complaint"),
    [
        (None, "handler None is not callable"),
        (too_few, r"too_few at .* has the signature \(event"),
        (too_few_async, r"too_few_async at .* has the signature \(event"),
        (TooFewAsync(), r"has the signature \(event"),
        (generator, "is a generator function"),
    ],
    ids=["none", "function", "coroutine", "object", "generator"],
)
def test_what_cannot_be_a_handler_is_refused(handler: Handler, complaint: str) -> None:
    with pytest.raises(HandlerError, match=complaint):
        background(handler)


# --- Parts -----------------------------------------------------------------------


def test_a_flag_that_is_raised_twice_is_raised_once() -> None:
    flag = Wake()
    flag.set()
    flag.set()

    assert flag.wait(0)
    assert not flag.wait(0)


def test_a_flag_survives_that_many_raise_it() -> None:
    """Between looking and raising another thread may be faster."""
    flag = Wake()
    raised = 0

    class Down:
        def locked(self) -> bool:
            return True

        def release(self) -> None:
            nonlocal raised
            raised += 1
            msg = "release unlocked lock"
            raise RuntimeError(msg)

    flag._down = Down()  # type: ignore[assignment]  # a lock whose methods may be replaced
    flag.set()

    assert raised == 1


def test_the_deliverer_may_be_faster_than_who_drops_the_oldest() -> None:
    queue = BoundedQueue(1, 10_000, "drop_old")

    assert not queue._drop_oldest("queue_full")
    assert queue.dropped["queue_full"] == 0


def test_every_policy_counts_by_reason() -> None:
    counted: Counter[str] = Counter()
    for number, on_full in zip(itertools.count(1), POLICIES, strict=False):
        queued, collector = hold(max_events=number, on_full=on_full, block_timeout=0)
        emit(queued, *range(10))
        counted.update(queued.stats().dropped)
        collector.go_on.set()
        assert queued.shutdown(SECONDS)

    assert counted == {"queue_full": 9 + 8 + 7}


def test_the_worker_looks_for_what_emitters_had_to_leave() -> None:
    """Whoever held the token went away before looking again."""
    collector = Collector()
    queued = background(collector)
    queue = queued._delivery.queue
    del queue._token[0]
    emit(queued, 1, 2)
    queue._token.append(None)
    assert not collector.events
    assert queued._delivery._start_worker(queue)

    assert collector.entered.wait(SECONDS)
    assert queued.shutdown(SECONDS)
    assert collector.numbers == [1, 2]


def test_after_a_fork_the_queue_and_the_numbers_are_new() -> None:
    """And who was delivering from the old queue stops: that is the parent's."""
    queued, collector = hold()
    delivery = queued._delivery
    before, worker = delivery.queue, delivery._thread
    assert worker is not None
    emit(queued, 1, 2)
    delivery.after_fork_in_child()
    assert queued.stats() == BackgroundStats(
        accepted=0, delivered=0, dropped={}, queued=0
    )
    emit(queued, 3)
    collector.go_on.set()
    worker.join(SECONDS)

    assert not worker.is_alive()
    assert before.waiting == 2
    assert queued.shutdown(SECONDS)
    assert sorted(collector.numbers) == [0, 3]
