"""Handlers may emit; how deep that goes is bounded, counted, and nobody else's business."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from llmevents import Bus, context
from llmevents import _bus as bus_module
from llmevents._bus import TAKEOVER
from llmevents._nesting import MAX_DEPTH
from llmevents._tally import Tally
from tests.outcomes import in_child


@pytest.fixture(params=["no context", "context elsewhere", "in context"], autouse=True)
def any_context(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run each test on every path through `execute`."""
    if request.param == "in context":
        with context(ambient="yes"):
            yield
    else:
        in_use = request.param == "context elsewhere"
        monkeypatch.setattr(bus_module, "_context_in_use", in_use)
        yield


def stops(bus: Bus) -> int:
    return bus.stats()["recursion_stops"]


def endless(bus: Bus, event: str, again: str | None = None) -> Tally:
    """Attach a handler that answers *event* with *again*, and count its calls."""
    calls = Tally()

    def handler(*call: object) -> None:
        calls.add()
        bus.execute(again or event, {})

    bus.attach(object(), event, handler)
    return calls


# --- The bound -------------------------------------------------------------------


def test_a_handler_that_emits_its_own_event_is_stopped_eight_deep() -> None:
    bus = Bus()
    calls = endless(bus, "a.b")
    for emissions in range(1, 4):
        bus.execute("a.b", {})
        assert calls.value() == emissions * MAX_DEPTH == emissions * 8
        assert stops(bus) == emissions
    assert bus.stats()["handler_failures"] == 0


def test_two_handlers_that_answer_each_other_are_stopped() -> None:
    bus = Bus()
    first, second = endless(bus, "a", "b"), endless(bus, "b", "a")
    bus.execute("a", {})
    assert (first.value(), second.value(), stops(bus)) == (4, 4, 1)


def test_two_buses_that_answer_each_other_are_stopped() -> None:
    """The depth is the thread's; otherwise each bus would see only half of it."""
    one, other = Bus(), Bus()
    calls = Tally()

    def answer(bus: Bus) -> Callable[..., None]:
        def handler(*call: object) -> None:
            calls.add()
            bus.execute("a", {})

        return handler

    one.attach("id", "a", answer(other))
    other.attach("id", "a", answer(one))
    one.execute("a", {})
    assert calls.value() == 8
    assert stops(one) + stops(other) == 1


def test_a_handler_of_everything_that_emits_is_stopped() -> None:
    bus = Bus()
    calls = endless(bus, "**", "b")
    bus.execute("a", {})
    assert (calls.value(), stops(bus)) == (8, 1)


def test_every_branch_of_a_recursion_is_bounded() -> None:
    """Two handlers at each of eight levels: 2 + 4 + ... + 256 calls."""
    bus = Bus()
    first, second = endless(bus, "a"), endless(bus, "a")
    bus.execute("a", {})
    assert first.value() + second.value() == 2**9 - 2
    assert stops(bus) == 2**8


def test_a_refused_emission_hurts_nobody_else() -> None:
    bus = Bus()
    endless(bus, "a.b")
    later: list[object] = []
    bus.attach("later", "a.b", lambda *call: later.append(call))
    bus.execute("a.b", {})
    assert len(later) == 8
    bus.execute("other", {})


def test_eight_levels_are_allowed() -> None:
    bus = Bus()
    reached: list[int] = []

    def descend(*call: Any) -> None:  # noqa: ANN401  # as a handler is
        level = call[1]["level"]
        reached.append(level)
        if level < MAX_DEPTH:
            bus.execute("a.b", {"level": level + 1})

    bus.attach("id", "a.b", descend)
    bus.execute("a.b", {"level": 1})
    assert reached == list(range(1, MAX_DEPTH + 1))
    assert stops(bus) == 0


def test_a_failure_handler_that_emits_what_fails_is_stopped() -> None:
    bus = Bus()
    failures = Tally()

    def fail(*call: object) -> None:
        failures.add()
        msg = "no good"
        raise ValueError(msg)

    bus.attach("bad", "a.b", fail)
    bus.attach(
        "again", "llmevents.handler.failure", lambda *call: bus.execute("a.b", {})
    )
    bus.execute("a.b", {})
    assert failures.value() == bus.stats()["handler_failures"] == 4
    assert stops(bus) == 1


def test_spans_in_handlers_of_spans_are_stopped() -> None:
    from llmevents import span

    bus = Bus()
    calls = Tally()

    def handler(*call: object) -> None:
        calls.add()
        with span("a", bus=bus):
            pass

    bus.attach("id", "a.start", handler)
    with span("a", bus=bus):
        pass
    assert calls.value() == 8
    assert stops(bus) >= 1


# --- What is not recursion -------------------------------------------------------


def test_a_deep_stack_is_no_recursion() -> None:
    bus = Bus()
    calls = Tally()
    bus.attach("id", "a.b", lambda *call: calls.add())

    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            bus.execute("a.b", {})

    bus.attach("deep", "c.d", lambda *call: descend(300))
    bus.execute("c.d", {})
    assert (calls.value(), stops(bus)) == (1, 0)


def test_many_emissions_in_one_handler_are_no_recursion() -> None:
    bus = Bus()
    calls = Tally()
    bus.attach("id", "a.b", lambda *call: calls.add())

    def many(*call: object) -> None:
        for _ in range(100):
            bus.execute("a.b", {})

    bus.attach("many", "c.d", many)
    bus.execute("c.d", {})
    assert (calls.value(), stops(bus)) == (100, 0)


def test_a_generator_counts_where_it_is_advanced() -> None:
    """Its frame hangs below whoever asks for the next item, not where it began."""
    bus = Bus()
    calls = Tally()
    bus.attach("id", "a.b", lambda *call: calls.add())

    def emit() -> Iterator[None]:
        while True:
            bus.execute("a.b", {})
            yield

    steps = emit()
    bus.attach("step", "step", lambda *call: next(steps))
    for _ in range(20):
        bus.execute("step", {})
        next(steps)
    assert (calls.value(), stops(bus)) == (40, 0)


def test_recursion_through_generators_is_stopped() -> None:
    bus = Bus()
    calls = Tally()

    def again() -> Iterator[None]:
        bus.execute("a.b", {})
        yield

    def handler(*call: object) -> None:
        calls.add()
        next(again())

    bus.attach("id", "a.b", handler)
    bus.execute("a.b", {})
    assert (calls.value(), stops(bus)) == (8, 1)


def test_tasks_do_not_count_each_others_depth() -> None:
    bus = Bus()
    calls = endless(bus, "a.b")

    async def emit() -> None:
        for _ in range(10):
            bus.execute("a.b", {})
            await asyncio.sleep(0)

    async def run() -> None:
        await asyncio.gather(*(emit() for _ in range(10)))

    asyncio.run(run())
    assert (calls.value(), stops(bus)) == (800, 100)


# --- Threads ---------------------------------------------------------------------


def run_all(functions: list[Callable[[], None]]) -> None:
    """Run each function in a thread; one that hangs fails the test."""
    threads = [threading.Thread(target=run, daemon=True) for run in functions]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)


def test_recursions_in_parallel_are_each_stopped_once() -> None:
    """Eight deep; where another thread's dispatch has just ended, a level more."""
    bus = Bus()
    levels: set[int] = set()

    def again(*call: Any) -> None:  # noqa: ANN401  # as a handler is
        level = call[1]["level"] + 1
        levels.add(level)
        bus.execute("a.b", {"level": level})

    bus.attach("id", "a.b", again)

    def emit() -> None:
        for _ in range(500):
            bus.execute("a.b", {"level": 0})

    run_all([emit] * 8)
    assert stops(bus) == 8 * 500
    assert MAX_DEPTH <= max(levels) <= MAX_DEPTH + 4
    assert bus.stats()["handler_failures"] == 0


def test_dispatches_in_parallel_are_no_recursion() -> None:
    bus = Bus()
    calls = Tally()
    bus.attach("id", "a.b", lambda *call: calls.add())
    bus.attach("nest", "c.d", lambda *call: bus.execute("a.b", {}))

    def emit() -> None:
        for _ in range(2_000):
            bus.execute("c.d", {})

    run_all([emit] * 8)
    assert (calls.value(), stops(bus)) == (16_000, 0)


def test_dispatches_that_meet_never_hang_where_threads_start_and_garbage_goes() -> None:
    """A look at other threads' stacks would: before Python 3.12 it takes a lock that a
    starting thread needs, and a collection in the middle of it lets that thread run
    (python/cpython#106883).
    """
    assert in_child(_meet_while_threads_start) == "all have ended"


def _meet_while_threads_start() -> str:
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5, 1, 1)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            dead = [weakref.ref(each, lambda _: repr(Cycle)) for each in [Cycle()]]
            meet(Bus())
            dead.clear()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(300):
        starting = threading.Thread(target=int)
        starting.start()
        starting.join()
    done.set()
    for worker in workers:
        worker.join()
    return "all have ended"


class Cycle:
    """Only the garbage collection takes it away."""

    def __init__(self) -> None:
        self.itself = self


def meet(bus: Bus) -> None:
    """Emit in a thread while a dispatch of another one is under way."""

    def emit() -> None:
        for _ in range(4):
            bus.execute("c.d", {})

    def handler(*call: object) -> None:
        emitting = threading.Thread(target=emit)
        emitting.start()
        emitting.join()

    bus.attach("meet", "a.b", handler)
    bus.attach("id", "c.d", lambda *call: None)
    bus.execute("a.b", {})


def test_a_recursion_is_stopped_although_other_threads_emit_meanwhile() -> None:
    """A handler that waits for another thread, a writer for example, which emits."""
    bus = Bus()
    bus.attach("written", "written", lambda *call: None)
    calls = Tally()

    def write_and_emit(*call: object) -> None:
        calls.add()
        for _ in range(3):
            writer = threading.Thread(target=bus.execute, args=("written", {}))
            writer.start()
            writer.join(10)
        if calls.value() < 50:  # the test must not crash where the bus does not stop
            bus.execute("a.b", {})

    bus.attach("id", "a.b", write_and_emit)
    bus.execute("a.b", {})
    assert (calls.value(), stops(bus)) == (8, 1)


def test_a_recursion_is_stopped_although_other_threads_stop_dispatching() -> None:
    """The other way round: the dispatch that was first ends while this one goes on."""
    bus = Bus()
    calls = Tally()
    begun, end = threading.Event(), threading.Event()

    def wait(*call: object) -> None:
        begun.set()
        end.wait(10)

    first = threading.Thread(target=bus.execute, args=("long", {}), daemon=True)

    def let_first_end_and_emit(*call: object) -> None:
        calls.add()
        end.set()
        first.join(10)
        if calls.value() < 50:  # as above
            bus.execute("a.b", {})

    bus.attach("long", "long", wait)
    bus.attach("id", "a.b", let_first_end_and_emit)
    first.start()
    assert begun.wait(10)
    bus.execute("a.b", {})
    assert (calls.value(), stops(bus)) == (8, 1)


# --- After an exception out of nowhere -------------------------------------------


def emit_interrupted(bus: Bus, place: int) -> bool:
    """Emit, interrupted before the n-th line of the bus; return if there is one."""
    lines = itertools.count()
    done = False

    def trace(frame: FrameType, what: str, argument: object) -> Any:  # noqa: ANN401  # a trace function, as the protocol has it
        nonlocal done
        if frame.f_code.co_filename != bus_module.__file__:
            return None
        if what == "line" and next(lines) == place:
            done = True
            raise KeyboardInterrupt
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        bus.execute("a.b", {})
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(outer)
    return done


def interrupted_buses(*, in_handler: bool) -> Iterator[Bus]:
    """Make a bus for each line that an exception can hit, and hit it there."""
    for place in itertools.count():
        bus = Bus()
        bus.attach("one", "a.b", lambda *call: None)
        if in_handler:
            bus.attach(
                "nest", "c.d", lambda *call, bus=bus, place=place: hit(bus, place)
            )
            bus.execute("c.d", {})
            bus.detach("nest")
        elif not emit_interrupted(bus, place):
            assert place > 5
            return
        yield bus
        if in_handler and place > 40:  # more lines than an emission has
            return


def hit(bus: Bus, place: int) -> None:
    emit_interrupted(bus, place)


@pytest.mark.parametrize("in_handler", [False, True])
def test_an_exception_between_any_two_lines_leaves_the_bus_working(
    *, in_handler: bool
) -> None:
    """Ctrl-C, or what `PyThreadState_SetAsyncExc` throws, asks nobody."""
    for bus in interrupted_buses(in_handler=in_handler):
        received = Tally()
        bus.attach("id", "c.d", lambda *call, add=received.add: add())
        bus.execute("c.d", {})
        assert received.value() == 1
        calls = endless(bus, "e.f")
        bus.execute("e.f", {})
        assert (calls.value(), stops(bus)) == (8, 1)


def is_careful(bus: Bus) -> bool:
    """Whether an emission takes the slow path, as nested ones do."""
    careful = False

    def profile(frame: FrameType, what: str, argument: object) -> None:
        nonlocal careful
        careful = careful or frame.f_code is Bus._dispatch_guarded.__code__

    sys.setprofile(profile)
    try:
        bus.execute("a.b", {})
    finally:
        sys.setprofile(None)
    return careful


@pytest.mark.parametrize("in_handler", [False, True])
def test_the_fast_path_comes_back_after_an_exception_out_of_nowhere(
    monkeypatch: pytest.MonkeyPatch, *, in_handler: bool
) -> None:
    monkeypatch.setattr(bus_module, "_context_in_use", False)
    for bus in interrupted_buses(in_handler=in_handler):
        for _ in range(TAKEOVER):
            bus.execute("a.b", {})
        assert not is_careful(bus)


def test_a_nested_emission_takes_the_careful_path() -> None:
    """Or the tests above would prove nothing."""
    bus = Bus()
    careful: list[bool] = []
    bus.attach("id", "a.b", lambda *call: None)
    bus.attach("nest", "c.d", lambda *call: careful.append(is_careful(bus)))
    bus.execute("c.d", {})
    assert careful == [True]
