"""A reporter under test: on a bus of its own, with traffic, deadlines and a child."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from llmevents import Bus, llm, span
from llmevents._types import EventName, Measurements, Metadata
from llmevents.metrics import Metric, MetricStore, presets
from llmevents.reporting import Reporter, ReporterStatus


T = TypeVar("T")

GRACE_SECONDS = 2.0
"""How much longer than its deadline something may take, on a busy machine."""

DESCRIPTORS = ("/proc/self/fd", "/dev/fd")
"""Where Linux and other Unixes list the open files of a process."""


def expect(condition: object, message: str) -> None:
    """Fail the test with *message*, unless *condition* is true."""
    __tracebackhide__ = True  # pytest shows the claim instead
    if not condition:
        raise AssertionError(message)


def within(seconds: float, what: str, work: Callable[[], T]) -> T:
    """Return what *work* returns; fail if it raises or takes longer than *seconds*.

    It runs in a thread, so that what hangs fails the test and not the whole run.
    """
    __tracebackhide__ = True
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as error:  # noqa: BLE001  # said by the test, see below
            raised.append(error)

    thread = threading.Thread(target=run, name="llmevents-conformance", daemon=True)
    thread.start()
    thread.join(seconds + GRACE_SECONDS)
    for error in raised:
        if isinstance(error, AssertionError):
            raise error
        msg = f"{what} raised {error!r}; a reporter raises nothing once it is made"
        raise AssertionError(msg) from error
    expect(
        returned,
        f"{what} did not return within {seconds:g} s (and {GRACE_SECONDS:g} s of "
        "grace); wait with the time that is left only, whatever the other side does",
    )
    return returned[0]


def eventually(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether *condition* comes to hold within *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def frequent_switches() -> Iterator[None]:
    """Let threads take turns often, so that they meet where they should not."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Run:
    """A reporter and what it reports: a bus, and a store that listens to it."""

    def __init__(
        self,
        reporter: Reporter,
        seconds: float,
        definitions: Iterable[Metric] | None = None,
    ) -> None:
        self.reporter = reporter
        self.seconds = seconds
        self.bus = Bus()
        self.store = MetricStore(
            presets.default() if definitions is None else definitions
        )
        self.store.attach(self.bus)
        self._failures: list[Metadata] = []
        failure = "llmevents.handler.failure"
        self.bus.attach("llmevents conformance", failure, self._failed)
        self._handlers = self.handlers()

    def handlers(self) -> set[object]:
        """Return the ids of all handlers."""
        return {each.handler_id for each in self.bus.list_handlers()}

    @property
    def left_handlers(self) -> set[object]:
        """Handlers on the bus that are neither the store's nor the test's."""
        return self.handlers() - self._handlers

    def start(self) -> None:
        """Start the reporter; what it raises is the caller's."""
        self.reporter.start(self.bus, self.store)

    def flush(self) -> bool:
        """Flush; fail unless that returns yes or no in time, and raises nothing."""
        flushed = self._within("flush", self.reporter.flush)
        expect(
            isinstance(flushed, bool),
            f"flush() returned {flushed!r}; return True once all is handed over, "
            "or False if there was not enough time",
        )
        return flushed

    def stop(self) -> None:
        """Stop; fail unless that returns in time and raises nothing."""
        self._within("stop", self.reporter.stop)

    def status(self, when: str) -> ReporterStatus:
        """Return the status; fail unless it is one, and adds up."""
        return self.check(within(0.0, f"status(), {when},", self.reporter.status), when)

    def check(self, status: ReporterStatus, when: str) -> ReporterStatus:
        """Return *status*; fail unless it is one, and adds up."""
        expect(
            isinstance(status, ReporterStatus),
            f"status(), {when}, returned {status!r}; return an "
            "llmevents.reporting.ReporterStatus",
        )
        counts = (status.accepted, status.delivered, status.queued)
        expect(
            all(type(n) is int and n >= 0 for n in (*counts, *status.dropped.values()))
            and all(isinstance(reason, str) for reason in status.dropped),
            f"{when}, the counts are {status}; all are integers from 0 on, and the "
            "reasons of what was dropped are text",
        )
        expect(
            status.is_balanced,
            f"{when}, accepted = {status.accepted} is not delivered + dropped + queued "
            f"= {status.delivered} + {dict(status.dropped)} + {status.queued}; count "
            "each thing once where it comes in and once where it ends, and read all "
            "counts at one moment",
        )
        return status

    def emit(self, calls: int = 10) -> None:
        """Emit what programs do: calls that succeed and fail, tasks, cache hits."""
        for number in range(calls):
            with (
                suppress(ConnectionError),
                llm.chat(
                    provider="acme", model=f"tiny-{number % 3}", bus=self.bus
                ) as c,
            ):
                c.usage(input_tokens=100, output_tokens=number)
                c.measure(cost_nano_usd=1_500)
                if number % 5 == 4:  # noqa: PLR2004  # one in five
                    raise ConnectionError
        with span("llm.task", bus=self.bus):
            self.bus.execute("llm.cache.hit", {"count": 1}, {"cache": "answers"})

    def expect_no_failures(self, after: str) -> None:
        """Fail if one of the reporter's handlers has raised."""
        failed = [
            each for each in self._failures if each["handler_id"] not in self._handlers
        ]
        expect(
            not failed,
            f"after {after}, a handler of the reporter has raised: "
            f"{failed[0]['error_type']}: {failed[0]['error_message']} at "
            f"{failed[0]['event']}; take whatever events bring, or count it as dropped"
            if failed
            else "",
        )

    def _within(self, name: str, method: Callable[[float], T]) -> T:
        what = f"{name}({self.seconds:g})"
        return within(self.seconds, what, lambda: method(self.seconds))

    def _failed(
        self,
        _event: EventName,
        _measurements: Measurements,
        metadata: Metadata,
        _config: object,
    ) -> None:
        self._failures.append(dict(metadata))


class Resources(NamedTuple):
    """What a process has that a reporter could leave behind."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[int]

    @classmethod
    def now(cls) -> Resources:
        """Return what there is at the moment."""
        found: set[int] = set()
        for folder in DESCRIPTORS:
            if os.path.isdir(folder):
                found.update(int(name) for name in os.listdir(folder))
                break
        # The listing has needed one itself, which is gone by now.
        return cls(frozenset(threading.enumerate()), frozenset(filter(_is_open, found)))

    def since(self, earlier: Resources) -> str:
        """Return in words what is there now and was not *earlier*."""
        threads = [each.name for each in self.threads - earlier.threads]
        descriptors = {
            each: _description(each) for each in self.descriptors - earlier.descriptors
        }
        parts = (
            f"threads {threads}" if threads else "",
            f"file descriptors {descriptors}" if descriptors else "",
        )
        return " and ".join(filter(None, parts))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _description(descriptor: int) -> str:
    try:
        return os.readlink(f"{DESCRIPTORS[0]}/{descriptor}")
    except OSError:
        return "?"


SEPARATOR = "\x1e"
"""Between the parts of a child's report."""

END = "the end"
"""The last part, if all went well."""


@contextmanager
def exit_functions() -> Iterator[list[Callable[[], object]]]:
    """Yield a list of what is registered with `atexit` during the block."""
    import atexit

    registered: list[Callable[[], object]] = []
    register = atexit.register

    def noting(
        function: Callable[..., object], *args: object, **more: object
    ) -> object:
        registered.append(lambda: function(*args, **more))
        return register(function, *args, **more)

    atexit.register = noting  # type: ignore[assignment]  # its type is of any function
    try:
        yield registered
    finally:
        atexit.register = register


def child_complaint(
    seconds: float, steps: Iterable[tuple[str, Callable[[], object]]]
) -> str:
    """Take *steps* in a forked child; return what was wrong, or nothing.

    Args:
        seconds: How long the child may live.
        steps: What each is called, and what it does; what it raises is wrong.
    """
    reader, writer = os.pipe()
    child = _fork()
    if child == 0:
        _take(steps, writer)
    os.close(writer)
    hung = not eventually(seconds + GRACE_SECONDS, lambda: _has_ended(child))
    if hung:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe:
        *_, last = ["its first step", *pipe.read().split(SEPARATOR)]
    if hung:
        return f"it hung in {last}"
    return "" if last == END else last


def _fork() -> int:
    """Fork. What measures coverage has a lock that could be copied as it is held."""
    trace = sys.gettrace()
    sys.settrace(None)
    with warnings.catch_warnings():
        # Python 3.12 and later warn of forks while other threads run.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        sys.settrace(trace)
    else:
        threading.settrace(None)
    return child


def _take(steps: Iterable[tuple[str, Callable[[], object]]], pipe: int) -> None:
    """Take *steps* and end the process, which is a copy of the test run."""
    try:
        for said in progress(steps):
            os.write(pipe, f"{SEPARATOR}{said}".encode("utf-8", "replace"))
    finally:
        os._exit(0)


def progress(steps: Iterable[tuple[str, Callable[[], object]]]) -> Iterator[str]:
    """Take *steps*; yield the name of each before it, then the end or what was wrong."""
    for name, work in steps:
        yield name
        try:
            work()
        except AssertionError as error:
            yield str(error)
            return
        except BaseException as error:  # noqa: BLE001  # nothing may leave the child
            yield f"{name} raised {error!r}"
            return
    yield END


def _has_ended(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG)[0] == child
