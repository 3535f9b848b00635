"""A handler that fails hurts neither the emitter nor the other handlers."""

from __future__ import annotations

import asyncio
import builtins
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmevents import Bus, FailurePolicy, context
from llmevents._tally import Tally


FAILURE_EVENT = ("llmevents", "handler", "failure")

SECOND = 1_000_000_000
"""In nanoseconds; a handler is in the log at most once in this time."""

Call = tuple[Any, ...]
"""The four arguments that a handler got."""


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.now


def raising(error: BaseException | type[BaseException]) -> Callable[..., None]:
    def handler(*call: object) -> None:
        raise error

    return handler


def failing(*call: object) -> None:
    msg = "no good"
    raise ValueError(msg)


def listen(bus: Bus, *events: str | tuple[str, ...]) -> list[Call]:
    """Collect the calls of a handler on *events* from now on."""
    calls: list[Call] = []
    bus.attach(object(), list(events), lambda *call: calls.append(call))
    return calls


@pytest.fixture(autouse=True)
def quiet_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let logging be as it is in production: its own troubles are not raised."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(params=[False, True], ids=["no context", "in context"])
def any_context(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test on the fast path of `execute` and on the careful one."""
    if request.param:
        with context(ambient="yes"):
            yield
    else:
        yield


both_paths = pytest.mark.usefixtures("any_context")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The messages in the log of llmevents."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    with added(Collector()):
        yield messages


class added:  # noqa: N801  # reads as a statement
    """Add a handler to the log of llmevents for a block."""

    def __init__(self, handler: logging.Handler) -> None:
        self.handler = handler

    def __enter__(self) -> None:
        logging.getLogger("llmevents").addHandler(self.handler)

    def __exit__(self, *exception: object) -> None:
        logging.getLogger("llmevents").removeHandler(self.handler)


class Hostile(Exception):  # noqa: N818  # it is hostile, and an error too
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        msg = "no text"
        raise RuntimeError(msg)

    __repr__ = __str__


class Quitting(Exception):  # noqa: N818  # it quits, and is an error too
    """An exception that ends the program when it is shown."""

    def __str__(self) -> str:
        raise SystemExit


def recurse(*call: object) -> None:
    deeper()


def deeper() -> None:
    """Without parameters: CPython 3.13.0 crashes where ``f(*args)`` calls itself."""
    deeper()


ERRORS: list[Any] = [
    pytest.param(raising(ValueError("no good")), "ValueError", id="ValueError"),
    pytest.param(raising(RuntimeError), "RuntimeError", id="class"),
    pytest.param(raising(MemoryError()), "MemoryError", id="MemoryError"),
    pytest.param(raising(RecursionError()), "RecursionError", id="RecursionError"),
    pytest.param(recurse, "RecursionError", id="real recursion"),
    pytest.param(raising(StopIteration()), "StopIteration", id="StopIteration"),
    pytest.param(raising(Hostile()), f"{__name__}.Hostile", id="hostile"),
    pytest.param(raising(UnicodeError("\ud800\0")), "UnicodeError", id="surrogate"),
    pytest.param(raising(OSError("x" * 1_000_000)), "OSError", id="1 MB"),
    pytest.param(map, "TypeError", id="built-in called wrongly"),
]
CONTROL: list[Any] = [
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
]
if sys.version_info >= (3, 11):
    _groups: Any = vars(builtins)
    ERRORS.append(
        pytest.param(
            raising(_groups["ExceptionGroup"]("group", [ValueError(), OSError()])),
            "ExceptionGroup",
            id="ExceptionGroup",
        )
    )
    CONTROL.append(_groups["BaseExceptionGroup"]("group", [KeyboardInterrupt()]))


# --- What is contained -----------------------------------------------------------


@both_paths
@pytest.mark.parametrize("policy", ["keep", "detach"])
@pytest.mark.parametrize(("handler", "error_type"), ERRORS)
def test_an_exception_is_contained_counted_logged_and_announced(
    handler: Callable[..., object],
    error_type: str,
    policy: FailurePolicy,
    log: list[str],
) -> None:
    bus = Bus()
    announced = listen(bus, FAILURE_EVENT)
    before = listen(bus, "a.b")
    bus.attach("bad", "a.b", handler, on_failure=policy)
    after = listen(bus, "a.b")
    bus.execute("a.b", {"count": 1})
    assert (len(before), len(after)) == (1, 1)
    assert bus.stats()["handler_failures"] == 1
    assert [call[2]["error_type"] for call in announced] == [error_type]
    assert announced[0][2]["kind"] == "error"
    assert len(announced[0][2]["error_message"]) < 5_000
    assert len(log) == 1
    assert error_type in log[0]
    kept = "bad" in {info.handler_id for info in bus.list_handlers()}
    assert kept == (policy == "keep")


@both_paths
def test_a_lone_failing_handler_is_contained() -> None:
    """The only handler of an event is called without the loop around it."""
    bus = Bus()
    bus.attach("bad", "a.b", failing)
    for _ in range(3):
        bus.execute("a.b", {})
    assert bus.stats()["handler_failures"] == 3


@both_paths
def test_the_emitter_sees_no_trace_of_a_contained_exception() -> None:
    """An emission in an ``except`` block must not change what is being handled."""
    bus = Bus()
    bus.attach("bad", "a.b", failing)
    listen(bus, "a.b")
    bus.execute("a.b", {})
    handled, seen = None, None
    try:
        raise KeyError(1)  # noqa: TRY301  # it is what is being handled
    except KeyError as error:
        bus.execute("a.b", {})
        handled, seen = error, sys.exc_info()[1]
    assert seen is handled
    assert handled.__context__ is None
    assert sys.exc_info() == (None, None, None)


# --- Policies --------------------------------------------------------------------


@both_paths
@pytest.mark.parametrize("listeners", [0, 1])
def test_keep_keeps_the_handler(listeners: int) -> None:
    bus = Bus()
    for _ in range(listeners):
        listen(bus, "a.b")
    bus.attach("bad", "a.b", failing)
    for _ in range(3):
        bus.execute("a.b", {})
    assert bus.stats()["handler_failures"] == 3


@both_paths
@pytest.mark.parametrize("listeners", [0, 1])
def test_detach_detaches_the_handler_before_the_failure_is_announced(
    listeners: int,
) -> None:
    bus = Bus()
    for _ in range(listeners):
        listen(bus, "a.b")
    attached: list[bool] = []
    bus.attach(
        "watch",
        FAILURE_EVENT,
        lambda *call: attached.append(
            "bad" in {info.handler_id for info in bus.list_handlers()}
        ),
    )
    bus.attach("bad", ["a.b", "c.*"], failing, on_failure="detach")
    for _ in range(3):
        bus.execute("a.b", {})
    assert attached == [False]
    assert bus.stats()["handler_failures"] == 1
    assert not bus.has_handlers("c.d")


@both_paths
def test_detach_spares_a_later_handler_of_the_same_id() -> None:
    """The failing one may replace itself before it fails."""
    bus = Bus()

    def replace_and_fail(*call: object) -> None:
        bus.detach("id")
        bus.attach("id", "a.b", lambda *call: None)
        failing()

    bus.attach("id", "a.b", replace_and_fail, on_failure="detach")
    bus.execute("a.b", {})
    assert bus.has_handlers("a.b")


@both_paths
@pytest.mark.parametrize("listeners", [0, 2])
def test_raise_raises_in_the_emitter_after_the_rest_ran(
    listeners: int, log: list[str]
) -> None:
    bus = Bus()
    error = ValueError("no good")
    bus.attach("bad", "a.b", raising(error), on_failure="raise")
    rest = [listen(bus, "a.b") for _ in range(listeners)]
    announced = listen(bus, FAILURE_EVENT)
    with pytest.raises(ValueError, match="no good") as caught:
        bus.execute("a.b", {})
    assert caught.value is error
    assert [len(calls) for calls in rest] == [1] * listeners
    assert bus.stats()["handler_failures"] == len(announced) == len(log) == 1
    assert bus.has_handlers("a.b")


@both_paths
def test_the_first_of_several_raised_errors_wins() -> None:
    bus = Bus()
    for number in range(3):
        bus.attach(number, "a.b", raising(ValueError(number)), on_failure="raise")
    with pytest.raises(ValueError, match="0"):
        bus.execute("a.b", {})
    assert bus.stats()["handler_failures"] == 3


class Weak(Exception):  # noqa: N818  # it is an error
    """An exception that can be referred to weakly."""


@both_paths
@pytest.mark.parametrize("policy", ["keep", "raise"])
@pytest.mark.parametrize("listeners", [0, 2])
def test_an_exception_is_freed_as_soon_as_it_is_dealt_with(
    policy: FailurePolicy, listeners: int
) -> None:
    """Its traceback holds the frames of the emitter, with all that is in them."""
    bus = Bus()
    raised: list[weakref.ref[Weak]] = []

    def fail(*call: object) -> None:
        error = Weak("no good")
        raised.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    bus.attach("bad", "a.b", fail, on_failure=policy)
    for _ in range(listeners):
        listen(bus, "a.b")
    bus.execute("other", {})
    gc.disable()
    try:
        with suppress(Weak):
            bus.execute("a.b", {})
        assert [reference() for reference in raised] == [None]
    finally:
        gc.enable()


# --- Control flow ----------------------------------------------------------------


@both_paths
@pytest.mark.parametrize("control", CONTROL, ids=str)
@pytest.mark.parametrize("policy", ["keep", "detach", "raise"])
@pytest.mark.parametrize("listeners", [0, 2])
def test_control_flow_reaches_the_emitter_after_the_rest_ran(
    control: Any,  # noqa: ANN401  # a class or an instance
    policy: FailurePolicy,
    listeners: int,
) -> None:
    bus = Bus()
    bus.attach("stop", "a.b", raising(control), on_failure=policy)
    rest = [listen(bus, "a.b") for _ in range(listeners)]
    announced = listen(bus, FAILURE_EVENT)
    expected = control if isinstance(control, type) else type(control)
    with pytest.raises(expected, match=r".*"):
        bus.execute("a.b", {})
    assert [len(calls) for calls in rest] == [1] * listeners
    assert announced == []
    assert bus.stats()["handler_failures"] == 0
    assert "stop" in {info.handler_id for info in bus.list_handlers()}
    with pytest.raises(expected, match=r".*"):
        bus.execute("a.b", {})


@both_paths
def test_the_first_control_flow_exception_wins() -> None:
    bus = Bus()
    bus.attach("bad", "a.b", failing)
    bus.attach("exit", "a.b", raising(SystemExit(3)))
    bus.attach("interrupt", "a.b", raising(KeyboardInterrupt))
    calls = listen(bus, "a.b")
    with pytest.raises(SystemExit, match="3"):
        bus.execute("a.b", {})
    assert len(calls) == 1


@both_paths
def test_control_flow_beats_an_error_that_is_to_be_raised() -> None:
    """``on_failure="raise"`` must not swallow a Ctrl-C."""
    bus = Bus()
    bus.attach("bad", "a.b", failing, on_failure="raise")
    bus.attach("interrupt", "a.b", raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt, match=r".*"):
        bus.execute("a.b", {})


@both_paths
@pytest.mark.parametrize("config", [None, "config"])
def test_handlers_fail_alike_with_and_without_a_config(config: str | None) -> None:
    """They are called in two different loops."""
    bus = Bus()
    calls: list[object] = []
    bus.attach("kept", "a.b", failing, config)
    bus.attach("good", "a.b", lambda *call: calls.append(call[3]), config)
    bus.execute("a.b", {})
    assert (calls, bus.stats()["handler_failures"]) == ([config], 1)
    bus.attach("bad", "a.b", failing, config, on_failure="raise")
    with pytest.raises(ValueError, match="no good"):
        bus.execute("a.b", {})
    assert (calls, bus.stats()["handler_failures"]) == ([config] * 2, 3)


@both_paths
def test_the_rest_runs_when_the_failure_event_brings_control_flow() -> None:
    """Ctrl-C while a failure is being announced or logged."""
    bus = Bus()
    bus.attach("bad", "a.b", failing)
    calls = listen(bus, "a.b")
    bus.attach("interrupt", FAILURE_EVENT, raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt, match=r".*"):
        bus.execute("a.b", {})
    assert len(calls) == 1


@both_paths
def test_the_rest_runs_when_an_exceptions_text_brings_control_flow() -> None:
    bus = Bus()
    bus.attach("bad", "a.b", raising(Quitting()))
    calls = listen(bus, "a.b")
    with pytest.raises(SystemExit, match=r".*"):
        bus.execute("a.b", {})
    assert len(calls) == 1


@both_paths
def test_the_rest_runs_when_a_failure_handler_raises_for_a_test() -> None:
    bus = Bus()
    bus.attach("bad", "a.b", failing)
    calls = listen(bus, "a.b")
    bus.attach("strict", FAILURE_EVENT, raising(OSError("mine")), on_failure="raise")
    with pytest.raises(OSError, match="mine"):
        bus.execute("a.b", {})
    assert len(calls) == 1


@both_paths
def test_the_bus_goes_on_after_control_flow() -> None:
    bus = Bus()
    with (
        bus.attach("stop", "a.b", raising(KeyboardInterrupt)),
        pytest.raises(KeyboardInterrupt, match=r".*"),
    ):
        bus.execute("a.b", {})
    calls = listen(bus, "a.b")
    bus.execute("a.b", {})
    assert len(calls) == 1
    assert not bus._dispatching


# --- The failure event -----------------------------------------------------------


@both_paths
def test_the_failure_event_says_all_it_may_and_nothing_more() -> None:
    clock = Clock()
    clock.now = 5
    bus = Bus(strict=True, clock=clock)
    announced = listen(bus, FAILURE_EVENT)
    bus.attach(
        ("my", 1), "llm.**", raising(ValueError("key sk-proj-" + "a1B2" * 12)), "config"
    )
    bus.execute("llm.cache.hit", {"count": 1}, {"password": "hunter2"})
    ((event, measurements, metadata, _),) = announced
    assert event == ("llmevents", "handler", "failure")
    assert measurements == {"monotonic_time": 5, "system_time": clock.time_ns()}
    message = metadata["error_message"]
    assert "a1B2a1B2" not in message
    assert {**metadata, "error_message": ""} == {
        **({"ambient": "yes"} if "ambient" in metadata else {}),
        "event": "llm.cache.hit",
        "handler_id": ("my", 1),
        "kind": "error",
        "error_type": "ValueError",
        "error_message": "",
    }


def test_a_failing_failure_handler_is_counted_and_logged_only(log: list[str]) -> None:
    bus = Bus()
    bus.attach("bad", FAILURE_EVENT, failing)
    bus.attach("bad everywhere", "**", failing)
    announced = listen(bus, FAILURE_EVENT)
    bus.execute("a.b", {})
    assert [call[2]["handler_id"] for call in announced] == ["bad everywhere"]
    assert bus.stats()["handler_failures"] == 3
    assert len(log) == 2


def test_emitting_the_failure_event_by_hand_is_possible() -> None:
    """A reporter may forward the failures of another process."""
    bus = Bus()
    announced = listen(bus, FAILURE_EVENT)
    bus.execute("llmevents.handler.failure", {}, {"event": "elsewhere"})
    assert announced[0][2]["event"] == "elsewhere"


# --- The log ---------------------------------------------------------------------


def test_a_handler_is_logged_once_a_second_with_the_number_of_failures(
    log: list[str],
) -> None:
    clock = Clock()
    bus = Bus(clock=clock)
    bus.attach("bad", "a.b", failing)
    for step in (0, 1, SECOND - 2, 1, 5, SECOND - 5):
        clock.now += step
        bus.execute("a.b", {})
    counts = [re.findall(r"(\d+) since the last report", line) for line in log]
    assert counts == [["1"], ["3"], ["2"]]


def test_each_handler_has_its_own_second(log: list[str]) -> None:
    bus = Bus(clock=Clock())
    for handler_id in ("one", "two"):
        bus.attach(handler_id, "a.b", failing)
    for _ in range(5):
        bus.execute("a.b", {})
    assert [line.split()[1] for line in log] == ["'one'", "'two'"]


def test_the_log_names_handler_event_error_and_place(log: list[str]) -> None:
    bus = Bus()
    bus.attach("bad", "a.*", failing)
    bus.execute("a.b", {})
    line = failing.__code__.co_firstlineno + 2
    place = f"({__file__}:{line}, 1 since the last report)"
    assert log == [f"handler 'bad' failed on a.b: ValueError: no good {place}"]


class Uprooted(Exception):  # noqa: N818  # it is an error
    """An exception that does not say where it comes from."""

    __traceback__ = None


def test_an_error_without_traceback_is_logged_without_place(log: list[str]) -> None:
    bus = Bus()
    bus.attach("bad", "a.b", raising(Uprooted("no good")))
    bus.execute("a.b", {})
    assert "no good (raised elsewhere, 1 since" in log[0]


def test_the_log_holds_no_secret(log: list[str]) -> None:
    bus = Bus()
    secret = "sk-proj-" + "a1B2" * 12
    bus.attach("bad", "a.b", raising(ValueError(f"key {secret} refused")), secret)
    bus.execute("a.b", {}, {"authorization": secret})
    assert len(log) == 1
    assert "a1B2a1B2" not in log[0]


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\rb", "a\x1b[2Jb", "a\x9b2Jb", "a\x7fb", "a\u2028b", "a\u202eb"],
    ids=ascii,
)
@pytest.mark.parametrize("where", ["message", "id", "class"])
def test_a_failure_is_one_printable_line_of_log(
    text: str, where: str, log: list[str]
) -> None:
    """Nobody may forge lines of the log, or write to the terminal, by an error."""

    class Named:
        def __repr__(self) -> str:
            return text

    error = type(text, (Exception,), {}) if where == "class" else ValueError
    bus = Bus()
    handler = raising(error(text if where == "message" else "no good"))
    bus.attach(Named() if where == "id" else "bad", "a.b", handler)
    bus.execute("a.b", {})
    (line,) = log
    assert line.isprintable(), ascii(line)


class Refusing(logging.Handler):
    """A log whose disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        msg = "disk full"
        raise OSError(msg)


def test_a_broken_log_hurts_nobody() -> None:
    bus = Bus()
    bus.attach("bad", "a.b", failing)
    calls = listen(bus, "a.b")
    with added(Refusing()):
        bus.execute("a.b", {})
    assert len(calls) == bus.stats()["handler_failures"] == 1


class UnprintableId:
    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)


def test_an_id_that_cannot_be_shown_hurts_nobody() -> None:
    bus = Bus()
    bus.attach(UnprintableId(), "a.b", failing)
    calls = listen(bus, "a.b")
    bus.execute("a.b", {})
    assert len(calls) == bus.stats()["handler_failures"] == 1


def test_a_log_that_emits_events_ends(log: list[str]) -> None:
    """A log handler that reports to the bus whose failures it is told."""
    bus = Bus(clock=Clock())

    class Emitting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bus.execute("log.line", {"count": 1})

    bus.attach("bad", ["a.b", "log.line"], failing)
    with added(Emitting()):
        bus.execute("a.b", {})
    assert bus.stats()["handler_failures"] == 2
    assert len(log) == 1


def test_a_failure_is_logged_although_another_is_being_logged() -> None:
    """A handler that is detached has no second chance to appear in the log."""
    bus = Bus(clock=Clock())
    logged: list[str] = []
    blocked, go_on = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def createLock(self) -> None:  # noqa: N802  # logging's name
            self.lock = threading.Semaphore(100)  # type: ignore[assignment]  # which nobody waits for

        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage().split()[1])
            if len(logged) == 1:
                blocked.set()
                go_on.wait(10)

    bus.attach("one", "a.one", failing, on_failure="detach")
    bus.attach("two", "a.two", failing, on_failure="detach")
    first = threading.Thread(target=bus.execute, args=("a.one", {}), daemon=True)
    with added(Slow()):
        first.start()
        assert blocked.wait(10)
        bus.execute("a.two", {})
        go_on.set()
        first.join(10)
    assert logged == ["'one'", "'two'"]


def test_threads_that_fail_at_once_are_logged_once_a_second(log: list[str]) -> None:
    bus = Bus(clock=Clock())
    bus.attach("bad", "a.b", failing)
    together = threading.Barrier(8)

    def emit() -> None:
        together.wait(10)
        for _ in range(200):
            bus.execute("a.b", {})

    threads = [threading.Thread(target=emit, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert bus.stats()["handler_failures"] == 1_600
    assert len(log) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_log_handler_may_fork() -> None:
    """Parent and child both come back from the emission that led there."""
    bus = Bus()
    bus.attach("bad", "a.b", failing)

    class Forking(logging.Handler):
        child = -1

        def emit(self, record: logging.LogRecord) -> None:
            self.child = os.fork()

    forking = Forking()
    outcome = 1
    try:
        with added(forking):
            bus.execute("a.b", {})
        outcome = 0
    finally:
        if forking.child == 0:
            os._exit(outcome)
    status = os.waitpid(forking.child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_logs_although_its_parent_was_logging() -> None:
    """The thread that would open the lock does not exist in the child."""
    bus = Bus(clock=Clock())
    blocked, go_on = threading.Event(), threading.Event()
    logged: list[str] = []

    class Slow(logging.Handler):
        def createLock(self) -> None:  # noqa: N802  # logging's name
            self.lock = threading.Semaphore(100)  # type: ignore[assignment]  # which nobody waits for

        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())
            if threading.current_thread() is first:
                blocked.set()
                go_on.wait(10)

    bus.attach("one", "a.one", failing)
    bus.attach("two", "a.two", failing)
    first = threading.Thread(target=bus.execute, args=("a.one", {}), daemon=True)
    with added(Slow()):
        first.start()
        assert blocked.wait(10)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            bus.execute("a.two", {})
            os._exit(len(logged))
        go_on.set()
        first.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


# --- Signals, finalizers and exit -------------------------------------------------


def output_of(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run(  # our own interpreter and program
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("watched", [False, True])
def test_nothing_is_imported_while_a_failure_is_dealt_with(*, watched: bool) -> None:
    """A signal handler that fails may have interrupted that very import.

    It would find half a module, and the ImportError would reach the emitter.
    """
    done = output_of(f"""
        import sys
        from llmevents import Bus

        def fail(*call):
            raise ValueError("no good")

        bus = Bus()
        bus.attach("bad", "a.b", fail)
        if {watched}:
            bus.attach("watch", "llmevents.handler.failure", lambda *call: None)
        before = set(sys.modules)
        bus.execute("a.b", {{}})
        print(sorted(set(sys.modules) - before))
    """)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("watched", [False, True])
def test_a_failure_while_the_interpreter_goes_down_is_contained(
    *, watched: bool
) -> None:
    """Nothing can be imported any more, and there may be no log to write to."""
    done = output_of(f"""
        from llmevents import Bus

        def fail(*call):
            raise ValueError("late")

        class Late:
            def __init__(self):
                self.bus = Bus()
                self.bus.attach("bad", "a.b", fail)
                if {watched}:
                    self.bus.attach("watch", "**", lambda *call: None)

            def __del__(self):
                self.bus.execute("a.b", {{}})

        late = Late()
    """)
    assert "Traceback" not in done.stderr


# --- Many failures ---------------------------------------------------------------


def test_a_million_failures_cost_no_memory_and_few_lines(log: list[str]) -> None:
    """Others exact, a line a second, 5 MB at most."""
    clock = Clock()
    bus = Bus(clock=clock)
    good = Tally()
    bus.attach("bad", "a.b", failing)
    bus.attach("good", "a.b", lambda *call: good.add())
    bus.execute("a.b", {})
    gc.collect()
    before = resident_bytes()
    for _ in range(100):
        clock.now += SECOND // 50
        for _ in range(10_000):
            bus.execute("a.b", {})
    gc.collect()
    assert bus.stats()["handler_failures"] == good.value() == 1_000_001
    assert resident_bytes() - before <= 5_000_000
    assert len(log) == 3


def resident_bytes() -> int:
    """Return what the process has in memory, as proc(5) says."""
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_an_exception_that_is_raised_again_and_again_does_not_grow() -> None:
    """A failed future raises the same object each time it is asked for its result.

    Python adds to its traceback with each raise, and the traceback keeps the frames
    with all that the emitter passed.
    """
    bus = Bus(clock=Clock())
    bus.attach("bad", "a.b", raising(ConnectionError("gone")))
    other = bus.attach("other", "a.b", lambda *call: None)
    bus.execute("a.b", {})
    tracemalloc.start()
    try:
        for _ in range(2_000):
            bus.execute("a.b", {})
        other.detach()
        for _ in range(2_000):
            bus.execute("a.b", {})
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000
