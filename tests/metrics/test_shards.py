from __future__ import annotations

import dis
import gc
import math
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest

from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    MetricStore,
    Sum,
    Summary,
)
from llmevents.metrics._cells import Total
from llmevents.metrics._shards import SWEEP_AT_LEAST, Shard
from tests.metrics.readings import (
    JOIN_SECONDS,
    attached,
    frequent_switches,
    in_threads,
    plain,
    value,
    values,
)


# --- Threads -------------------------------------------------------------------------


def test_totals_are_exact_for_64_threads() -> None:
    threads, events, models = 64, 2000, 5
    bus, store = attached(
        Counter("calls", event="llm.*.stop", tags=("model",)),
        Sum("llm.chat.stop.input_tokens", tags=("model",)),
        LastValue("llm.chat.stop.number"),
        Counter("users", event="llm.chat.stop", tags=("user",)),
        max_series=40,
    )

    def emit(number: int) -> None:
        for event in range(events):
            bus.execute(
                ("llm", "chat", "stop"),
                {"input_tokens": event, "number": number},
                {"model": f"m{event % models}", "user": number},
            )

    with frequent_switches(1e-3):
        in_threads(threads, emit)

    for model in range(models):
        tags = (("model", f"m{model}"),)
        tokens = threads * sum(range(model, events, models))
        assert values(store, "calls")[tags] == threads * events // models
        assert values(store, "llm.chat.stop.input_tokens")[tags] == tokens
    assert value(store, "llm.chat.stop.number") in range(threads)
    users = values(store, "users")
    assert sum(users.values()) == threads * events
    assert len(users) == 41
    assert store.refused == 0
    assert bus.stats()["handler_failures"] == 0


def test_refused_values_are_counted_exactly_in_threads() -> None:
    bus, store = attached(Sum("a.b.n"))

    def emit(number: int) -> None:
        for _ in range(500):
            bus.execute("a.b", {"n": math.nan})

    with frequent_switches():
        in_threads(8, emit)

    assert store.refused == 8 * 500


def test_totals_never_go_back_while_threads_write_and_end() -> None:
    bus, store = attached(
        Counter("calls", event="a.b", tags=("t",)),
        Sum("a.b.n", tags=("t",)),
        Sum("a.b.f", tags=("t",)),
    )
    stopped = threading.Event()
    seen: list[list[float]] = []

    def watch() -> None:
        while not stopped.is_set():
            families = store.snapshot().families.values()
            totals = [
                {tuple(each.tags.items()): plain(each) for each in family.series}
                for family in families
            ]
            seen.append(
                [total.get((("t", tag),), 0) for total in totals for tag in "01"]
            )

    def emit(number: int) -> None:
        for event in range(50):
            bus.execute("a.b", {"n": event, "f": 0.1 * number}, {"t": str(event % 2)})

    watcher = threading.Thread(target=watch, daemon=True)
    with frequent_switches():
        watcher.start()
        for _ in range(40):
            in_threads(4, emit)
        stopped.set()
        watcher.join(JOIN_SECONDS)

    assert not watcher.is_alive()
    assert len(seen) > 2
    for earlier, later in pairwise(seen):
        assert all(map(float.__le__, map(float, earlier), map(float, later)))
    assert sum(values(store, "calls").values()) == 40 * 4 * 50


def test_what_ended_threads_counted_stays_and_their_shards_go() -> None:
    bus, store = attached(
        Counter("calls", event="a.b"),
        Sum("a.b.n"),
        Sum("f", event="a.b", measurement=lambda m, d: 0.25),
        LastValue("last", event="a.b", measurement="n"),
    )

    for number in range(100):
        in_threads(1, lambda _, n=number: bus.execute("a.b", {"n": n}))  # type: ignore[misc]  # a default in a lambda
        assert len(store._shards._live) <= 2 * SWEEP_AT_LEAST

    assert value(store, "calls") == 100
    assert value(store, "a.b.n") == sum(range(100))
    assert value(store, "f") == 25.0
    assert value(store, "last") == 99
    assert len(store._shards._live) == 0


def test_the_newest_value_wins_whichever_thread_set_it() -> None:
    bus, store = attached(LastValue("a.b.n"))
    turn = threading.Barrier(2)

    def emit(number: int) -> None:
        for round_number in range(10):
            if round_number % 2 == number:
                bus.execute("a.b", {"n": round_number})
            turn.wait(JOIN_SECONDS)
            assert value(store, "a.b.n") == round_number
            turn.wait(JOIN_SECONDS)

    in_threads(2, emit)

    assert value(store, "a.b.n") == 9


def test_a_reader_sees_a_fold_as_a_whole_or_not_at_all() -> None:
    """A shard must not be taken from the list and from the base at once."""
    bus, store = attached(Counter("a.b.n"))
    in_threads(1, lambda number: bus.execute("a.b", {}))
    shards = store._shards

    class Meanwhile(dict[Shard, None]):
        """Somebody folds after the reader has read the base."""

        folding = True

        def __iter__(self) -> Iterator[Shard]:
            if Meanwhile.folding:
                Meanwhile.folding = False
                shards.fold()
            return super().__iter__()

    shards._live = Meanwhile(shards._live)
    base, live = shards._consistent()

    assert live == []
    assert [Total().value(state) for state in base.states.values()] == [1]


def test_an_interrupted_fold_counts_nothing_twice() -> None:
    bus, store = attached(Counter("a.b.n"))
    in_threads(3, lambda number: bus.execute("a.b", {}))

    class Interrupted(dict[Shard, None]):
        armed = True

        def __delitem__(self, key: Shard) -> None:
            if Interrupted.armed:
                Interrupted.armed = False
                raise KeyboardInterrupt
            super().__delitem__(key)

    store._shards._live = Interrupted(store._shards._live)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        store.snapshot()

    assert len(store._shards._live) == 3
    assert value(store, "a.b.n") == 3
    assert len(store._shards._live) == 0
    assert value(store, "a.b.n") == 3


def test_a_fold_under_way_keeps_nobody_waiting() -> None:
    bus, store = attached(Counter("a.b.n"))
    in_threads(1, lambda number: bus.execute("a.b", {}))

    with store._shards._folding:
        assert value(store, "a.b.n") == 1


def test_a_dropped_store_is_freed() -> None:
    bus, store = attached(Counter("a.b.n"))
    bus.execute("a.b", {})
    store.detach()
    gone = weakref.ref(store)

    del store
    gc.collect()

    assert gone() is None


# --- Interruptions -------------------------------------------------------------------


def test_nothing_can_come_between_the_look_up_of_a_row_and_the_additions() -> None:
    """The interpreter lets others in at calls and at backward jumps only."""
    store = MetricStore(
        [
            Counter("calls", event="a.b", tags=("t",)),
            Sum("a.b.n", tags=("t",)),
            LastValue("last", event="a.b", measurement="n", tags=("t",)),
            Distribution("d", event="a.b", measurement="n", tags=("t",)),
            Summary("s", event="a.b", measurement="n", tags=("t",)),
        ]
    )
    source = store.source("a.b")
    code = compile(source, "plan", "exec").co_consts[0]
    lines = source.splitlines()
    first = next(n for n, line in enumerate(lines, 1) if line.strip() == "row[0] += 1")
    last = next(n for n, line in enumerate(lines) if "runtime.exemplars" in line)
    # The look-up itself and `break`, four lines that run for a new row only, the rest.
    adding = {first - 6, first - 5, *range(first, last + 1)}
    starts = dict(dis.findlinestarts(code))
    line = 0
    calls = []
    for instruction in dis.get_instructions(code):
        line = starts.get(instruction.offset) or line
        if line in adding and re.search("CALL|JUMP_BACKWARD", instruction.opname):
            calls.append((line, instruction.opname))

    assert "row = local." in lines[first - 7]
    assert calls == []


def test_users_functions_may_emit_events() -> None:
    def tag(
        measurements: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> dict[str, str]:
        bus.execute("tag.made", {"n": 1})
        return {}

    bus, store = attached(Counter("a.b.n", tags=tag), Sum("tag.made.n"))

    for _ in range(10):
        bus.execute("a.b", {})

    assert value(store, "a.b.n") == 10
    assert value(store, "tag.made.n") == 10


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_events_of_signal_handlers_are_exact() -> None:
    """One signal at a time: the bus refuses events that are nested too deeply."""
    bus, store = attached(Sum("a.b.n", tags=("t",)), Counter("calls", event="a.*"))
    handled = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal handled
        bus.execute("a.b", {"n": 1}, {"t": "x"})
        handled += 1

    before = signal.signal(signal.SIGALRM, handle)
    armed = emitted = 0
    try:
        while handled < 300:
            if handled == armed:
                armed += 1
                signal.setitimer(signal.ITIMER_REAL, 0.0001)
            bus.execute("a.b", {"n": 1}, {"t": "x"})
            emitted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert value(store, "a.b.n") == emitted + handled
    assert value(store, "calls") == emitted + handled
    assert bus.stats()["recursion_stops"] == 0


def test_events_of_finalizers_are_exact() -> None:
    bus, store = attached(Sum("a.b.n"))
    finalized = 0

    class Cyclic:
        def __init__(self) -> None:
            self.me = self

    def emit() -> None:
        nonlocal finalized
        finalized += 1
        bus.execute("a.b", {"n": 1})

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(500):
            weakref.finalize(Cyclic(), emit)
            bus.execute("a.b", {"n": 1})
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()

    assert finalized == 500
    assert value(store, "a.b.n") == 1000


# --- Processes -----------------------------------------------------------------------


def in_child(check: Callable[[], bool]) -> int:
    """Fork, and return the exit status of a child that runs *check*."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_the_fork_hook_does_leaves_an_empty_store() -> None:
    bus, store = attached(Sum("a.b.n"))
    bus.execute("a.b", {"n": 1})
    bus.execute("a.b", {"n": math.nan})

    store.after_fork_in_child()

    assert values(store, "a.b.n") == {}
    assert store.refused == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_at_0_and_the_parent_goes_on() -> None:
    bus, store = attached(Sum("a.b.n", tags=("t",)), max_series=1)
    bus.execute("a.b", {"n": 1}, {"t": "x"})
    bus.execute("a.b", {"n": math.nan}, {"t": "x"})

    def check() -> bool:
        before = values(store, "a.b.n"), store.refused
        bus.execute("a.b", {"n": 5}, {"t": "y"})
        after = values(store, "a.b.n"), store.refused
        return before == ({}, 0) and after == ({(("t", "y"),): 5}, 0)

    assert in_child(check) == 0
    bus.execute("a.b", {"n": 2}, {"t": "x"})
    assert value(store, "a.b.n") == 3
    assert store.refused == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_everything_leaves_nothing_locked() -> None:
    bus, store = attached(Counter("a.b.n"))
    bus.execute("a.b", {})
    locked = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with store._shards._folding:
            bus.execute("a.b", {})
            locked.set()
            release.wait(JOIN_SECONDS)

    def check() -> bool:
        signal.alarm(20)
        bus.execute("a.b", {})
        return value(store, "a.b.n") == 1 and store.refused == 0

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert locked.wait(JOIN_SECONDS)
    try:
        status = in_child(check)
    finally:
        release.set()
        thread.join(JOIN_SECONDS)

    assert status == 0
    assert value(store, "a.b.n") == 2


def test_a_program_ends_quietly_with_a_store_attached() -> None:
    program = """
import threading
import llmevents
from llmevents.metrics import Counter, MetricStore
store = MetricStore([Counter("a.b.n")])
store.attach(llmevents.default_bus)
thread = threading.Thread(target=llmevents.execute, args=("a.b", {}))
thread.start()
thread.join()
llmevents.execute("a.b", {})
print(store.snapshot().families["a.b.n"].series[0].value)
"""

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        capture_output=True,
        check=True,
        text=True,
        timeout=JOIN_SECONDS,
    )

    assert (done.stdout, done.stderr) == ("2\n", "")
