"""Totals over several processes, as seen in one: what is added up, and what is not.

Instances in one process are to each other what processes are: each has a file with a
lock of its own. Real processes are in test_prometheus_processes_real.py.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import Bus, LLMEventsError, OptionError
from llmevents.metrics import (
    Counter,
    Distribution,
    ExponentialHistogram,
    Histogram,
    LastValue,
    Metric,
    MetricStore,
    Snapshot,
    Sum,
    Summary,
    Value,
)
from llmevents_prometheus._files import SharedDirectory
from llmevents_prometheus._merge import exact_parts, total
from llmevents_prometheus._processes import SharedSnapshots
from llmevents_prometheus._session import Session


NEVER = 3600.0
SECONDS = 30.0

CALLS = Counter("a.b.calls", event="a.b", tags=("model",))
TOKENS = Sum("a.b.tokens", unit="token")
COST = Sum("a.b.cost")
ACTIVE = Sum("a.b.active", monotonic=False)
SIZE = LastValue("a.b.size")
TOOK = Distribution("a.b.took", buckets=(1, 5), unit=("nanosecond", "second"))
LENGTH = Summary("a.b.length")
ALL = (CALLS, TOKENS, COST, ACTIVE, SIZE, TOOK, LENGTH)


class Process:
    """What one process has of it: a bus, a store, and its part in the totals."""

    def __init__(
        self,
        directory: Path,
        *definitions: Metric,
        interval: float = NEVER,
        start: bool = True,
    ) -> None:
        self.bus = Bus()
        self.store = MetricStore(definitions or ALL)
        self.store.attach(self.bus)
        self.shared = SharedSnapshots(str(directory), interval)
        if start:
            self.shared.start(self.store)
            # Its thread looks once before it waits. From here on nothing is written
            # unless it is asked for, or the interval has passed.
            session = session_of(self.shared)
            wait_for(lambda: session._thread is None or is_waiting(session))

    def emit(self, model: str = "x", **measurements: float) -> None:
        self.bus.execute("a.b", measurements, {"model": model})

    def merged(self) -> Snapshot:
        return self.shared.merged(self.store.snapshot())

    def value(self, definition: Metric, **tags: str) -> Value | None:
        """Return one series of the totals, or None if it is not there."""
        for series in self.merged().families[definition.name].series:
            if dict(series.tags) == tags:
                return series.value
        return None

    def stop(self) -> None:
        self.shared.stop(SECONDS)

    def kill(self) -> None:
        """Let go of the lock without a word, as the kernel does for the dead."""
        session = session_of(self.shared)
        session.is_stopped = True
        session._quit.set()
        if session._thread is not None:
            session._thread.join(SECONDS)
        with session._lock:
            session._is_closed = True
            while session._held:
                os.close(session._held.pop()[0])


def session_of(shared: SharedSnapshots) -> Session:
    return shared._sessions[os.getpid()]


def is_waiting(session: Session) -> bool:
    """Whether a thread waits for the end of the session."""
    return bool(session._quit._cond._waiters)  # type: ignore[attr-defined]  # of CPython


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Make processes that share a directory, and end when the test does."""
    made: list[Process] = []

    def make(*definitions: Metric, interval: float = NEVER) -> Process:
        process = Process(tmp_path / "shared", *definitions, interval=interval)
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()
    assert "llmevents-prometheus-processes" not in {
        thread.name for thread in threading.enumerate()
    }


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- What is added up ------------------------------------------------------------


def test_what_adds_up_is_added_up(make: Callable[..., Process]) -> None:
    one, other = make(), make()
    one.emit(tokens=2**62, cost=0.1, took=1_000_000_000, length=7)
    other.emit("y", tokens=2**62 + 1, cost=0.2, took=9_000_000_000, length=7)
    other.emit(tokens=2**62)
    other.shared.publish()

    assert one.value(CALLS, model="x") == 2
    assert one.value(CALLS, model="y") == 1
    assert one.value(TOKENS) == 3 * 2**62 + 1
    assert one.value(COST) == math.fsum((0.1, 0.2))
    assert one.value(TOOK) == Histogram((1, 5), (1, 0, 1), 10)
    length = one.value(LENGTH)
    assert isinstance(length, ExponentialHistogram)
    assert (length.count, length.sum) == (2, 14)
    for definition in ALL:
        for model in ({}, {"model": "x"}, {"model": "y"}):
            assert other.value(definition, **model) == one.value(definition, **model)


def test_only_what_has_changed_is_read_again(make: Callable[..., Process]) -> None:
    """Lines that are the same may belong to several metrics."""
    definitions = [
        Counter(f"a.b.{name}", event="a.b", tags=("model",)) for name in "nm"
    ]
    one, other = make(*definitions), make(*definitions)
    for model in ("x", "y", "x", "x"):
        other.emit(model)
        other.shared.publish()
        one.merged()

    for definition in definitions:
        assert one.value(definition, model="x") == 3
        assert one.value(definition, model="y") == 1


def test_the_totals_keep_what_the_own_snapshot_has(
    make: Callable[..., Process],
) -> None:
    """Order, definitions, times; and since when: the first of all processes."""
    first, second = make(), make()
    first.emit()
    first.merged()
    own = second.store.snapshot()
    merged = second.shared.merged(own)

    assert list(merged.families) == [each.name for each in ALL]
    assert merged.families["a.b.calls"].definition is second.store.definitions[0]
    assert merged.start_ns == first.store.snapshot().start_ns
    assert merged.time_ns == own.time_ns
    assert merged.families["a.b.tokens"].series == ()


def test_what_has_ended_is_still_counted(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    first, second = make(), make()
    for _ in range(3):
        first.emit(tokens=2**62, cost=0.1, took=1, length=2)
    first.stop()
    second.emit(tokens=1, cost=0.1, took=1, length=2)

    assert files(tmp_path / "shared")[0] == "ended-v1.json"
    assert second.value(TOKENS) == 3 * 2**62 + 1
    assert second.value(CALLS, model="x") == 4
    assert second.value(COST) == math.fsum((first_sum(0.1, 3), 0.1))
    took = second.value(TOOK)
    assert isinstance(took, Histogram)
    assert took.counts == (4, 0, 0)


def first_sum(value: float, times: int) -> float:
    return math.fsum([value] * times)


def test_of_last_values_the_newest_is_shown(make: Callable[..., Process]) -> None:
    one, other = make(), make()
    other.emit(size=1)
    other.shared.publish()
    one.emit(size=2)
    assert one.value(SIZE) == 2
    other.emit(size=3)
    other.shared.publish()
    one.emit(tokens=1)

    assert one.value(SIZE) == 3
    other.stop()
    assert one.value(SIZE) == 3
    one.emit(size=4)
    assert one.value(SIZE) == 4


def test_a_level_is_that_of_the_living(make: Callable[..., Process]) -> None:
    """What was under way in a process ended with it, moved or not."""
    one, stopped, killed = make(), make(), make()
    for process in (one, stopped, killed):
        process.emit(active=1)
        process.shared.publish()
    assert one.value(ACTIVE) == 3

    killed.kill()
    assert one.value(ACTIVE) == 2
    stopped.stop()
    assert one.value(ACTIVE) == 1
    one.emit(active=-1)
    assert one.value(ACTIVE) == 0


def test_the_newest_exemplar_of_each_bucket_is_shown(
    make: Callable[..., Process],
) -> None:
    one, other = make(), make()
    for number, process in enumerate((one, other), 1):
        trace = {"trace_id": str(number) * 32, "span_id": str(number) * 16}
        process.store.exemplify(lambda _, trace=trace: trace)  # type: ignore[misc]  # a default
        process.emit(took=1)
    other.emit(took=9_000_000_000)
    other.shared.publish()
    (series,) = one.merged().families["a.b.took"].series

    traces = {
        bucket: exemplar.attributes["trace_id"][0]
        for bucket, exemplar in series.exemplars.items()
    }
    assert traces == {0: "2", 2: "2"}
    other.stop()
    assert one.merged().families["a.b.took"].series == (series,)


@given(
    st.lists(
        st.one_of(
            st.integers(-(2**63), 2**63),
            st.floats(-1e290, 1e290, allow_nan=False),
        ),
        min_size=1,
    )
)
def test_sums_do_not_depend_on_who_adds_them_up(numbers: list[float]) -> None:
    """A total that goes back by a rounding error looks like a restart."""
    half = len(numbers) // 2
    parts = exact_parts((*exact_parts(numbers[:half]), *exact_parts(numbers[half:])))

    exact = sum(map(Fraction, numbers))
    assert total(parts) == total(numbers)
    assert Fraction(total(parts)) == (
        exact if all(isinstance(each, int) for each in numbers) else float(exact)
    )


def test_a_total_that_was_shown_is_not_less_wherever_it_is_shown_next(
    make: Callable[..., Process],
) -> None:
    """A web server asks any of its workers, and not always the same."""
    processes = [make() for _ in range(3)]
    shown = 0
    for turn in range(30):
        processes[turn % 3].emit(tokens=1)
        processes[turn * 7 % 3].emit(tokens=1)
        now = processes[turn * 2 % 3].value(TOKENS)
        assert isinstance(now, int)
        assert now >= shown
        shown = now
    for process in processes:
        process.merged()

    assert {process.value(TOKENS) for process in processes} == {60}


def test_what_was_shown_survives_a_kill(make: Callable[..., Process]) -> None:
    one, other = make(), make()
    other.emit(tokens=5)
    assert other.value(TOKENS) == 5
    other.emit(tokens=3)
    other.kill()

    assert one.value(TOKENS) == 5
    one.shared.publish()
    assert one.value(TOKENS) == 5


def test_other_definitions_are_skipped_and_counted(
    make: Callable[..., Process],
) -> None:
    """As during a deployment: the old and the new run at the same time."""
    old, new = (
        make(),
        make(
            CALLS,
            Sum("a.b.tokens"),
            Distribution("a.b.took", buckets=(1, 2), unit=("nanosecond", "second")),
            Sum("a.b.cost", tags=("model",)),
            Sum("a.b.active"),
            Counter("a.b.length", event="a.b"),
        ),
    )
    for process in (old, new):
        process.emit(tokens=1, took=1, cost=1, active=1, length=1, size=1)
    old.shared.publish()

    assert new.value(CALLS, model="x") == 2
    assert new.value(Sum("a.b.tokens")) == 1
    assert new.value(TOOK) == Histogram((1, 2), (1, 0, 0), 1e-9)
    assert new.value(COST, model="x") == 1
    assert new.value(ACTIVE) == 1
    assert new.shared.problems() == {"other_definition": 6}
    new.merged()
    assert new.shared.problems() == {"other_definition": 6}
    old.stop()
    assert new.value(CALLS, model="x") == 2
    again = make()
    assert again.value(TOKENS) == 1
    assert again.value(TOOK) == Histogram((1, 5), (1, 0, 0), 1e-9)


def test_tags_may_be_made_by_a_function(make: Callable[..., Process]) -> None:
    definition = Counter("a.b.n", event="a.b", tags=lambda _, metadata: metadata)
    one, other = make(definition), make(definition)
    one.emit("x")
    other.emit("y")
    other.stop()

    assert one.value(definition, model="x") == 1
    assert one.value(definition, model="y") == 1


@pytest.mark.parametrize(
    "tags", [("model",), lambda _, metadata: metadata], ids=["keys", "function"]
)
def test_what_ended_processes_leave_is_bounded(
    make: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
    tags: tuple[str, ...],
) -> None:
    monkeypatch.setattr("llmevents_prometheus._pool.MOST_ENDED_SERIES", 5)
    definition = Counter("a.b.n", event="a.b", tags=tags)
    for number in range(4):
        process = make(definition)
        for model in range(3):
            process.emit(f"{number}.{model}")
        process.stop()
    family = make(definition).merged().families["a.b.n"]

    counted = {series.tags["model"]: series.value for series in family.series}
    assert len(counted) == 6
    assert counted["__overflow__"] == 7
    assert (
        sum(series.raw for series in family.series if isinstance(series.raw, int)) == 12
    )


# --- Life ------------------------------------------------------------------------


def test_the_thread_writes_what_has_changed(make: Callable[..., Process]) -> None:
    one, other = make(), make(interval=0.05)
    other.emit(tokens=1)
    wait_for(lambda: one.value(TOKENS) == 1)
    other.emit(tokens=1)
    wait_for(lambda: one.value(TOKENS) == 2)


def test_the_thread_moves_what_has_ended(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    killed = make()
    killed.emit(tokens=1)
    killed.shared.publish()
    (name,) = (each for each in files(tmp_path / "shared") if each != "lock")
    make(interval=0.05)
    killed.kill()

    wait_for(lambda: name not in files(tmp_path / "shared"))
    assert make().value(TOKENS) == 1


def test_what_has_not_changed_is_not_written(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    process = make()
    process.shared.publish()
    process.merged()
    assert files(tmp_path / "shared") == ["lock"]
    process.emit(tokens=1)
    process.merged()
    (path,) = (tmp_path / "shared").glob("process-*")
    written = path.stat()
    for _ in range(3):
        process.shared.publish()
        process.merged()

    assert os.path.samestat(path.stat(), written)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        process = Process(tmp_path / "deep" / "shared")
        process.emit(tokens=1)
        process.shared.publish()
        other = Process(tmp_path / "deep" / "shared")
        other.emit(tokens=1)
        other.stop()
    finally:
        os.umask(mask)
    shared = tmp_path / "deep" / "shared"

    assert shared.stat().st_mode & 0o777 == 0o700
    assert {name.split("-")[0] for name in files(shared)} == {
        "ended",
        "lock",
        "process",
    }
    assert {path.stat().st_mode & 0o777 for path in shared.iterdir()} == {0o600}
    process.stop()


def test_stopping_ends_the_thread_and_closes_everything(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    before = len(os.listdir("/dev/fd"))
    process = make(interval=0.05)
    process.emit(tokens=1)
    process.merged()
    process.stop()
    process.stop()

    assert len(os.listdir("/dev/fd")) == before
    assert process.value(TOKENS) == 1
    process.shared.publish()
    assert make().value(TOKENS) == 1


def test_writing_many_times_opens_no_more_files(make: Callable[..., Process]) -> None:
    process, other = make(), make()
    for each in (process, other):
        each.emit(tokens=1)
        each.merged()
    before = len(os.listdir("/dev/fd"))
    for _ in range(10):
        process.emit(tokens=1)
        process.merged()

    assert len(os.listdir("/dev/fd")) == before


def test_a_second_start_is_refused(make: Callable[..., Process]) -> None:
    process = make()
    with pytest.raises(LLMEventsError, match=r"added up already; stop\(\) it first"):
        process.shared.start(process.store)


def test_before_the_start_there_are_only_the_own_numbers(tmp_path: Path) -> None:
    process = Process(tmp_path / "shared", start=False)
    process.emit(tokens=1)
    process.shared.publish()
    process.stop()

    assert process.value(TOKENS) == 1
    assert process.shared.problems() == {}
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize("same", [True, False], ids=["same", "new"])
def test_what_starts_again_is_not_counted_again(
    make: Callable[..., Process], tmp_path: Path, *, same: bool
) -> None:
    """The store goes on where it was; what it had is in the totals already."""
    process = make()
    for round_ in range(1, 4):
        process.emit(tokens=10, active=1, size=round_, cost=0.1, took=1, length=5)
        process.merged()
        process.stop()
        if not same:
            process.shared = SharedSnapshots(str(tmp_path / "shared"), NEVER)
        process.shared.start(process.store)
        witness = make()
        for each in (process, witness):
            each.merged()
        for each in (process, witness):
            assert each.value(TOKENS) == 10 * round_
            assert each.value(CALLS, model="x") == round_
            assert each.value(ACTIVE) == round_
            assert each.value(SIZE) == round_
            took = each.value(TOOK)
            assert isinstance(took, Histogram)
            assert took.counts == (round_, 0, 0)
            length = each.value(LENGTH)
            assert isinstance(length, ExponentialHistogram)
            assert length.count == round_
    process.stop()
    assert make().value(TOKENS) == 30


def test_a_scrape_during_the_stop_counts_nothing_twice(
    make: Callable[..., Process],
) -> None:
    """It has got the session already when the process lets go."""
    process = make()
    process.emit(tokens=1)
    session = session_of(process.shared)
    process.stop()
    (series,) = session.exchange(process.store.snapshot()).families["a.b.tokens"].series

    assert series.value == 1


def test_stopping_keeps_nobody_waiting_longer_than_asked(
    make: Callable[..., Process],
) -> None:
    process = make()
    process.emit(tokens=1)
    process.shared.publish()
    session = session_of(process.shared)
    with session._lock:
        begun = time.monotonic()
        process.shared.stop(0.05)
        assert time.monotonic() - begun < SECONDS / 2
    # Its thread goes on until it has seen the end, and might write once more.
    assert session._thread is not None
    session._thread.join(SECONDS)
    witness = make()
    assert witness.value(TOKENS) == 1
    process.shared.start(process.store)
    process.emit(tokens=1)

    assert process.value(TOKENS) == 2
    assert witness.value(TOKENS) == 2
    session._close()


def test_a_program_that_is_ending_needs_no_thread(
    make: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python 3.12 on none can be started during shutdown."""

    def refuse(_: threading.Thread) -> None:
        msg = "can't create new thread at interpreter shutdown"
        raise RuntimeError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        process = make()
        process.emit(tokens=1)
        process.shared._at_exit()

    assert make().value(TOKENS) == 1


def test_the_end_of_a_program_shows_no_traceback(
    make: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = make()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "stop", None)
        process.shared._at_exit()


def test_a_thread_survives_what_nobody_expects(
    make: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = make(interval=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "look", None)
        wait_for(lambda: "write_error" in process.shared.problems())
    process.emit(tokens=1)
    witness = make()
    wait_for(lambda: witness.value(TOKENS) == 1)


@pytest.mark.parametrize("directory", [None, "", "a\0b", 1, b"x"])
def test_a_directory_that_is_none_is_refused(directory: object) -> None:
    with pytest.raises(OptionError, match="directory to be the path of a directory"):
        SharedSnapshots(directory)  # type: ignore[arg-type]  # what is being tested


@pytest.mark.parametrize("interval", [0, -1, float("nan"), 1e9, True, "1", None])
def test_an_interval_that_is_none_is_refused(interval: object, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"interval to be seconds between 0\.05"):
        SharedSnapshots(str(tmp_path), interval)  # type: ignore[arg-type]  # what is being tested


def test_a_system_without_such_locks_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        with pytest.raises(OptionError, match="this system has no file locks"):
            SharedSnapshots(path)


@pytest.mark.parametrize("is_reused", [False, True])
def test_a_program_that_closes_what_it_does_not_know_is_survived(
    make: Callable[..., Process], *, is_reused: bool
) -> None:
    """As those do that become daemons; what they open next is theirs."""
    process = make()
    process.emit(tokens=1)
    process.merged()
    session = session_of(process.shared)
    ((descriptor, _),) = session._held
    with open(os.devnull, "rb") as file:
        os.close(descriptor)
        if is_reused:
            os.dup2(file.fileno(), descriptor)
        process.shared.publish()
        process.emit(tokens=1)
        process.shared.publish()
        if is_reused:
            assert os.path.samestat(os.fstat(descriptor), os.fstat(file.fileno()))
            os.close(descriptor)

    witness = make()
    assert witness.value(TOKENS) == 2
    witness.shared.publish()
    assert witness.value(TOKENS) == 2
    assert process.shared.problems() == {}


# --- Forks -----------------------------------------------------------------------


def in_child(steps: Callable[[], bool]) -> None:
    """Run *steps* in a forked child, which must return True."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            signal.alarm(60)
            status = 0 if steps() else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@forks
def test_a_forked_child_takes_part_with_its_own_numbers(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    parent = make()
    parent.emit(tokens=1)
    parent.merged()

    def child() -> bool:
        parent.emit(tokens=10)
        total = parent.value(TOKENS)
        thread = session_of(parent.shared)._thread
        parent.emit(tokens=100)
        parent.shared.stop(SECONDS)
        return total == 11 and thread is not None and len(parent.shared._sessions) == 1

    in_child(child)
    assert parent.value(TOKENS) == 111
    parent.emit(tokens=1)
    assert parent.value(TOKENS) == 112


@forks
def test_a_forked_child_may_start_it_again(make: Callable[..., Process]) -> None:
    """A hook such as gunicorn's post_fork does, before or after the first scrape."""
    parent = make()
    parent.emit(tokens=1)
    parent.merged()

    def started_first() -> bool:
        parent.shared.start(parent.store)
        parent.emit(tokens=10)
        return parent.value(TOKENS) == 11

    def scraped_first() -> bool:
        parent.emit(tokens=10)
        shown = parent.value(TOKENS)
        parent.shared.start(parent.store)
        parent.emit(tokens=100)
        return shown == 21 and parent.value(TOKENS) == 121

    in_child(started_first)
    in_child(scraped_first)
    assert parent.value(TOKENS) == 121


@forks
def test_a_forked_child_that_ends_writes_what_it_has(
    make: Callable[..., Process],
) -> None:
    """Without a thread: it may be too late for one."""
    parent = make()
    parent.emit(tokens=1)
    parent.merged()

    def child() -> bool:
        parent.emit(tokens=10)
        parent.shared._at_exit()
        return session_of(parent.shared)._thread is None

    in_child(child)
    assert parent.value(TOKENS) == 11


@forks
def test_a_child_of_a_stopped_process_does_nothing(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    parent = make()
    parent.stop()

    def child() -> bool:
        parent.emit(tokens=10)
        parent.shared.publish()
        parent.stop()
        return parent.value(TOKENS) == 10

    in_child(child)
    assert files(tmp_path / "shared") == ["lock"]


@forks
def test_a_fork_in_the_middle_of_a_write_stops_nobody(
    make: Callable[..., Process],
) -> None:
    """The child has a copy of the lock as it was: held, by a thread it lacks."""
    parent = make()
    parent.emit(tokens=1)
    parent.merged()

    def child() -> bool:
        parent.emit(tokens=10)
        return parent.value(TOKENS) == 11

    with session_of(parent.shared)._lock:
        in_child(child)


@forks
def test_a_child_keeps_no_locks_of_its_parent(make: Callable[..., Process]) -> None:
    """And closes nothing that was opened under the same number meanwhile."""
    parent = make()
    parent.emit(active=1)
    parent.merged()

    def child() -> bool:
        (descriptor, _) = session_of_parent._held[0]
        os.close(descriptor)
        with open(os.devnull, "rb") as file:
            if file.fileno() != descriptor:
                os.dup2(file.fileno(), descriptor)
            parent.merged()
            os.fstat(descriptor)
        return parent.value(ACTIVE) == 1

    session_of_parent = session_of(parent.shared)
    in_child(child)
    parent.kill()
    assert make().value(ACTIVE) is None


@forks
def test_a_child_that_lives_on_keeps_nobody_from_anything(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    """It has a copy of whatever was open in its parent when it was forked."""
    parent = make()
    parent.emit(tokens=1, active=1)
    parent.merged()
    waiting, telling = os.pipe()
    with SharedDirectory(str(tmp_path / "shared")).exclusive() as is_acquired:
        assert is_acquired
        pid = os.fork()
        if pid == 0:
            os.close(telling)
            os.read(waiting, 1)
            os._exit(0)
    try:
        parent.stop()
        assert files(tmp_path / "shared") == ["ended-v1.json", "lock"]
    finally:
        os.close(telling)
        os.close(waiting)
        os.waitpid(pid, 0)


def test_threads_of_a_forked_child_agree(
    make: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They all find the session of the parent, and make one together."""
    parent = make()
    parent.emit(tokens=1)
    parent.merged()
    session_of(parent.shared)._quit.set()
    inherited = dict(parent.shared._sessions)
    pid = os.getpid() + 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        first = parent.shared._after_fork(pid)
        assert first is not None
        assert parent.shared._sessions == {pid: first}
        assert parent.shared._after_fork(pid) is first
        parent.shared._sessions.update(inherited)
        assert parent.shared._after_fork(pid) is first
        assert inherited[pid - 1]._held == []

        assert parent.value(TOKENS) == 2  # there was no fork: the store goes on
        parent.shared.start(parent.store)
        assert session_of(parent.shared) is not first
        with pytest.raises(LLMEventsError, match="added up already"):
            parent.shared.start(parent.store)
        parent.shared._sessions.update(inherited)
        parent.stop()
        parent.shared.start(parent.store)
        parent.stop()


def test_a_process_without_a_parent_that_takes_part_does_nothing(
    make: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = make()
    parent.stop()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        parent.shared.publish()
        assert parent.shared._sessions.keys() != {-1}
