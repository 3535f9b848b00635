"""Background handlers, and what processes do: end, fork, get signals, collect garbage."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing.process
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmevents import Background, Bus, background
from llmevents._at_exit import ExitHook
from llmevents._queue import BoundedQueue, Item, Mark, OnFull
from llmevents._types import EventName, Measurements, Metadata


pytestmark = pytest.mark.long


EVENT = ("docs", "saved")
POLICIES: tuple[OnFull, ...] = ("drop_new", "drop_old", "block")

SECONDS = 60
"""Long enough for a busy machine; it only runs out where something is broken."""

NESTED = 20
"""So many signal handlers may interrupt each other in a test."""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
needs_timer = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no interval timer here"
)


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """A deadlock fails with the stacks of all threads instead of hanging."""
    faulthandler.dump_traceback_later(900, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def nothing(*_: object) -> None:
    """Handle an event by doing nothing."""


def emit(handler: Background, *numbers: int) -> None:
    for number in numbers:
        handler(EVENT, {"n": number}, {}, None)


def check_totals(handler: Background, emitted: int) -> None:
    assert handler.shutdown(300)
    stats = handler.stats()
    assert stats.accepted == emitted
    assert stats.queued == 0
    assert stats.accepted == stats.delivered + sum(stats.dropped.values())


# --- Signals ---------------------------------------------------------------------


@needs_timer
@pytest.mark.parametrize("on_full", POLICIES)
def test_a_signal_handler_may_emit_in_the_middle_of_an_emission(
    on_full: OnFull,
) -> None:
    interrupted = depth = 0
    queued = background(nothing, max_events=50, on_full=on_full, block_timeout=0.5)

    def handle(*_: object) -> None:
        nonlocal interrupted, depth
        # A handler that has to wait is interrupted in turn, by as many as there is time
        # for. On a busy machine these are more than Python lets call each other.
        if depth == NESTED:
            return
        depth += 1
        interrupted += 1
        emit(queued, 1)
        queued.stats()
        queued.flush(0)
        depth -= 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    emitted = 0
    try:
        while interrupted < 200:
            emit(queued, 1)
            emitted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    check_totals(queued, emitted + interrupted)


def test_code_that_has_interrupted_an_emission_neither_waits_nor_gets_lost() -> None:
    """Deterministically: the token is held by this very thread."""
    # If it waited, the watchdog would not.
    queued = background(
        nothing, max_events=1, on_full="block", block_timeout=20 * SECONDS
    )
    queue = queued._delivery.queue
    del queue._token[0]
    queue._holder = threading.get_ident()
    emit(queued, 1, 2, 3)
    assert not queued.flush(0) or queue.accepted == 0
    assert queued.shutdown(SECONDS), "what was emitted before is delivered"
    queue._holder = 0
    queue._token.append(None)

    stats = queued.stats()
    assert stats.accepted == 3
    assert sum(stats.dropped.values()) + stats.delivered == 3


RAISING = """
import signal

armed = False
interrupted = tried = returned = 0
handler = background(lambda *event: None, max_events=50, on_full=%r, block_timeout=0.5)
emit(handler, 1)  # threading itself does not like to be interrupted at a start
assert handler.flush(50)

def interrupt(*_):
    global armed, interrupted
    if armed:
        armed = False
        interrupted += 1
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while interrupted < 200:
    try:
        armed = True
        for _ in range(1000):
            tried += 1
            emit(handler, 1)
            returned += 1
        armed = False
    except KeyboardInterrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
assert handler.shutdown(50)
stats = handler.stats()
assert returned <= stats.accepted - 1 <= tried, (returned, stats, tried)
assert stats.accepted == stats.delivered + sum(stats.dropped.values()), stats
"""


@needs_timer
@pytest.mark.parametrize("on_full", POLICIES)
def test_a_signal_handler_may_raise_in_the_middle_of_an_emission(
    on_full: OnFull,
) -> None:
    """As Ctrl-C does. That event may not be offered at all, the others are exact.

    In a process of its own: what measures coverage hangs when this happens to it.
    """
    ended = run(RAISING % on_full)

    assert (ended.returncode, ended.stderr) == (0, "")


# --- Garbage collection ----------------------------------------------------------


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("on_full", POLICIES)
def test_a_finalizer_may_emit_in_the_middle_of_an_emission(on_full: OnFull) -> None:
    queued = background(nothing, max_events=50, on_full=on_full, block_timeout=0.5)
    finalized = Counter[str]()
    references = []

    def finalize(_: object) -> None:
        finalized["n"] += 1
        emit(queued, 1)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(2_000):
            references.append(weakref.ref(Cycle(), finalize))
            emit(queued, 1)
    finally:
        gc.set_threshold(*before)
    gc.collect()

    assert finalized["n"] == 2_000
    check_totals(queued, 4_000)


# --- The end of the process ------------------------------------------------------

PROLOGUE = """
import atexit, os, sys, threading
from llmevents import background, attach, execute

def store(event, measurements, metadata, config):
    os.write(1, b"%d\\n" % measurements["n"])

def emit(handler, *numbers):
    for number in numbers:
        handler(("docs", "saved"), {"n": number}, {}, None)
"""


PATIENCE = """
import llmevents._at_exit
llmevents._at_exit.EXIT_TIMEOUT = 50
"""


def run(script: str, patience: str = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run *script* after the prologue in a new interpreter, warnings as errors.

    Unless *patience* is empty, its end may take longer than the two seconds that a busy
    machine may need for what is to be delivered.
    """
    return subprocess.run(  # our own interpreter and script
        [sys.executable, "-W", "error", "-c", PROLOGUE + patience + script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def numbers(ended: subprocess.CompletedProcess[str]) -> list[int]:
    return [int(line) for line in ended.stdout.split()]


@pytest.mark.parametrize(
    ("ending", "code", "stderr"),
    [
        pytest.param("", 0, "", id="normal"),
        pytest.param("sys.exit(3)", 3, "", id="sys.exit"),
        pytest.param("1 / 0", 1, "ZeroDivisionError: division by zero\n", id="error"),
        pytest.param(
            "atexit.register(emit, handler, 1000)", 0, "", id="emission at exit"
        ),
        pytest.param("handler = None", 0, "", id="garbage before the end"),
    ],
)
def test_queued_events_are_delivered_when_the_process_ends(
    ending: str, code: int, stderr: str
) -> None:
    ended = run(f"handler = background(store)\nemit(handler, *range(1000))\n{ending}")

    assert ended.returncode == code
    assert ended.stderr.endswith(stderr)
    assert bool(ended.stderr) == bool(stderr), "no more than what Python says"
    emitted = 1001 if "1000" in ending else 1000
    assert numbers(ended) == list(range(emitted))


def test_coroutines_are_delivered_when_the_process_ends() -> None:
    ended = run(
        """
import asyncio

async def store_async(*event):
    await asyncio.sleep(0)
    store(*event)

handler = background(store_async)
emit(handler, *range(100))
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert numbers(ended) == list(range(100))


def test_the_first_event_may_come_when_threads_can_no_longer_be_started() -> None:
    """From Python 3.12 on, atexit callbacks cannot start any."""
    ended = run(
        """
handler = background(store)

def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")

threading.Thread.start = refuse
atexit.register(emit, handler, 1, 2)
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert numbers(ended) == [1, 2]


def test_a_handler_that_hangs_holds_the_process_up_for_two_seconds() -> None:
    """All of them together, and stderr says once what was not delivered."""
    started = time.monotonic()
    ended = run(
        """
def hang(*event):
    threading.Event().wait()

handlers = [background(hang) for _ in range(30)]
for handler in handlers:
    emit(handler, 1, 2)
good = background(store)
emit(good, *range(100))
""",
        patience="",
    )
    took = time.monotonic() - started

    assert ended.returncode == 0
    assert ended.stderr == (
        "llmevents: events not delivered at exit: 60; the background handlers that "
        "they wait for took longer than 2 s\n"
    )
    assert numbers(ended) == list(range(100))
    # One after the other they would take 60 s.
    assert 2 <= took < 2 + 8, "8 s for a slow machine to start and stop Python"


def test_what_was_shut_down_by_hand_is_not_waited_for_again() -> None:
    ended = run(
        """
def hang(*event):
    threading.Event().wait()

handler = background(hang)
emit(handler, 1, 2)
print(int(handler.shutdown(0.01)))
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert numbers(ended) == [0]


def test_threads_that_go_on_emitting_do_not_disturb_the_end() -> None:
    ended = run(
        """
handler = background(lambda *event: None)

def forever():
    while True:
        emit(handler, 1)

for _ in range(4):
    threading.Thread(target=forever, daemon=True).start()
emit(handler, *range(100))
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_child_of_multiprocessing_delivers_before_it_ends() -> None:
    """It leaves by os._exit, which passes over atexit."""
    ended = run(
        """
import multiprocessing, warnings

def work(handler):
    emit(handler, *range(100))

handler = background(store)
emit(handler, 1000)
handler.flush()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    child = multiprocessing.get_context("fork").Process(target=work, args=(handler,))
    child.start()
child.join(60)
sys.exit(child.exitcode)
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert numbers(ended) == [1000, *range(100)]


def test_the_exit_hook_counts_what_was_left(capsys: pytest.CaptureFixture[str]) -> None:
    """As in the scripts above, in this process."""
    go_on = threading.Event()
    entered = threading.Event()

    def hang(*_: object) -> None:
        entered.set()
        assert go_on.wait(2 * SECONDS)

    hook = ExitHook()
    hook._armed = True
    hanging, idle, settled = (background(handler) for handler in (hang, nothing, hang))
    for handler in (hanging, idle, settled):
        hook.add(handler._delivery)
    emit(settled, 1, 2)
    assert entered.wait(SECONDS)
    assert not settled.shutdown(0)
    emit(hanging, 1, 2, 3)
    hook.run()
    hook.run()

    assert "events not delivered at exit: 3;" in capsys.readouterr().err
    go_on.set()
    assert hanging.flush(SECONDS)
    assert settled.flush(SECONDS)


class CountingHook(ExitHook):
    runs = 0

    def run(self) -> None:
        self.runs += 1


def test_the_exit_hook_is_set_once_in_a_child_of_multiprocessing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: "parent")
    hook = CountingHook()
    hook.enter_child()
    hook.enter_child()
    multiprocessing.util._run_finalizers(100)  # type: ignore[attr-defined]  # what such a child does at its end

    assert hook.runs == 1


# --- Forks -----------------------------------------------------------------------


def fork() -> int:
    """Fork, with a limit on how long the child may live: five minutes.

    What measures coverage has a lock that another thread may hold at the fork, so the
    child goes without.
    """
    trace = sys.gettrace()
    sys.settrace(None)
    with warnings.catch_warnings():
        # Python 3.12 and later warn of forks while other threads run.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        sys.settrace(trace)
    else:
        signal.alarm(300)
        threading.settrace(None)
    return child


def status_of(child: int) -> int:
    """Wait for *child* and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_child(check: Callable[[], None]) -> int:
    """Run *check* in a forked child; return its exit status, 0 if it passed."""
    child = fork()
    if child:
        return status_of(child)
    status = 1
    try:
        check()
        status = 0
    finally:
        os._exit(status)


def line_writer(
    path: Path,
) -> Callable[[EventName, Measurements, Metadata, object], None]:
    """Return a handler that appends a line per event, in a single system call."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        os.write(file, f"{os.getpid()} {metadata['id']}\n".encode())

    return write


@needs_fork
def test_forks_in_mid_emission_neither_hang_nor_deliver_twice(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    queued = background(
        line_writer(lines), max_events=100, on_full="block", block_timeout=10 * SECONDS
    )
    bus = Bus()
    bus.attach("id", "docs.**", queued)
    stop = threading.Event()
    emitted = [0] * 4

    def go_on(thread: int) -> None:
        while not stop.is_set():
            emitted[thread] += 1
            bus.execute(EVENT, {}, {"id": f"parent-{thread}-{emitted[thread]}"})

    def check() -> None:
        assert queued.stats().accepted == 0
        for number in range(10):
            bus.execute(EVENT, {}, {"id": f"child-{os.getpid()}-{number}"})
        assert queued.flush(SECONDS)
        stats = queued.stats()
        assert (stats.accepted, stats.delivered, stats.queued) == (10, 10, 0)

    threads = [threading.Thread(target=go_on, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        statuses = [in_child(check) for _ in range(50)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(300)

    assert statuses == [0] * 50
    check_totals(queued, sum(emitted))
    assert queued.stats().delivered == sum(emitted)
    delivered = [line.split() for line in lines.read_text().splitlines()]
    ids = Counter(identifier for _, identifier in delivered)
    assert set(ids.values()) == {1}
    assert len(ids) == sum(emitted) + 50 * 10
    by_parent = {i for pid, i in delivered if pid == str(os.getpid())}
    assert by_parent == {
        f"parent-{thread}-{number}"
        for thread, last in enumerate(emitted)
        for number in range(1, last + 1)
    }


@needs_fork
def test_a_child_drops_the_queue_that_it_inherits(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    go_on, entered = threading.Event(), threading.Event()
    write = line_writer(lines)

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        entered.set()
        assert go_on.wait(2 * SECONDS)
        write(event, measurements, metadata, config)

    queued = background(handler)
    for number in range(5):
        queued(EVENT, {}, {"id": number}, None)
    assert entered.wait(SECONDS)

    def check() -> None:
        go_on.set()
        assert queued.stats().queued == 0
        assert queued.flush(SECONDS)
        assert queued.shutdown(SECONDS)

    assert in_child(check) == 0
    go_on.set()
    check_totals(queued, 5)
    assert len(lines.read_text().splitlines()) == 5


@needs_fork
def test_a_child_of_a_closed_handler_has_a_closed_one() -> None:
    queued = background(nothing)
    assert queued.shutdown(SECONDS)

    def check() -> None:
        emit(queued, 1)
        assert queued.stats().dropped == {"shutdown": 1}

    assert in_child(check) == 0


@needs_fork
@pytest.mark.parametrize("deliverer", ["worker", "caller"])
def test_a_handler_that_forks_does_not_deliver_the_rest_twice(
    deliverer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child comes back from the handler as well, in the middle of the queue."""
    lines = tmp_path / "lines"
    write = line_writer(lines)
    children: list[int] = []
    queue_is_full = threading.Event()

    def handler(
        event: EventName, measurements: Measurements, metadata: Metadata, config: object
    ) -> None:
        assert queue_is_full.wait(SECONDS)
        write(event, measurements, metadata, config)
        if metadata["id"] == 1:
            children.append(fork())

    if deliverer == "caller":

        def refuse(_: threading.Thread) -> None:
            msg = "no thread"
            raise RuntimeError(msg)

        monkeypatch.setattr(threading.Thread, "start", refuse)
    queued = background(handler)
    parent = os.getpid()
    for number in range(5):
        queued(EVENT, {}, {"id": number}, None)
    queue_is_full.set()
    if deliverer == "caller":
        flushed = False
        # The child waits in vain for as long as it is told to, hence not long at first.
        # On a busy machine the parent may need more.
        for timeout in (1, SECONDS):
            flushed = queued.flush(timeout)
            if os.getpid() != parent:
                os._exit(2 if flushed else 0)
            if flushed:
                break
        assert flushed
    assert queued.shutdown(SECONDS)
    assert status_of(children[0]) == 0
    assert [line.split()[1] for line in lines.read_text().splitlines()] == [*"01234"]


@needs_fork
def test_an_emission_that_a_fork_interrupts_goes_to_the_parent_only() -> None:
    """The child returns into code that works on the queue of before."""
    queue = BoundedQueue(10, 10_000, "drop_new")
    mark = Mark()
    queue.mark(mark)
    queue.offer(Item((EVENT, {}, {}, None), 400, 0))
    queued = background(nothing)
    delivery = queued._delivery
    before = delivery.queue

    def check() -> None:
        before.offer(Item((EVENT, {}, {}, None), 400, 0))
        assert before.accepted == 1
        assert queued.stats().accepted == 0
        emit(queued, 1)
        assert queued.flush(SECONDS)
        assert before.waiting == 1

    assert in_child(check) == 0
    assert queued.shutdown(SECONDS)
