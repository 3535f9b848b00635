"""Periodic measurements of the process, and of whatever else you can measure.

    with Poller(period=10):
        serve()

Emits ``process.memory``, ``process.cpu``, ``process.gc`` and ``process.threads``, and
``asyncio.lag`` for the event loops that it is told to watch.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

from llmevents import _forksafe
from llmevents._bus import Bus, default_bus
from llmevents._clock import SYSTEM_CLOCK, Clock
from llmevents._errors import LLMEventsError, OptionError
from llmevents._options import check_seconds
from llmevents._process import BUILT_IN
from llmevents._schedule import Schedule
from llmevents._tally import Tally
from llmevents._throttle import FailureLog


if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from types import TracebackType

    from typing_extensions import Self  # typing has it from 3.11 on

    from llmevents._types import Measurements, Metadata, Name

__all__ = ["Measurement", "Poller"]

Measurement: TypeAlias = Callable[[], object]
"""Called without arguments, in the poller's thread.

Returns None, having emitted what it has to say, or ``(event, measurements)`` or
``(event, measurements, metadata)``.
"""

DEFAULT = tuple(BUILT_IN)
DEFAULT_PERIOD = 10.0
SHORTEST_PERIOD = 0.001


class Poller:
    """Calls measurements at a fixed rate, in a daemon thread of its own.

    Tick *n* is due at ``start + n * period`` on the monotonic clock; what a round
    takes does not shift the next one. A round that outlasts the period makes the
    ticks it covers be left out and counted. A measurement that raises is logged, at
    most once a second, and counted, and is called again the next time.

    In a forked child the poller is stopped; call `start` there if it is wanted.

    Args:
        measurements: Names (``"memory"``, ``"cpu"``, ``"gc"``, ``"threads"``) and
            functions of your own; by default those four. Memory is measured on
            Linux only; elsewhere there is no ``process.memory``.
        period: Seconds from one round to the next, 0.001 or more.
        bus: Where to emit; the default bus unless given.
        clock: For durations; the system's unless given.

    Raises:
        OptionError: A name is unknown, something is no function, or *period* is no
            number of seconds.
    """

    def __init__(
        self,
        measurements: Iterable[str | Measurement] | None = None,
        *,
        period: float = DEFAULT_PERIOD,
        bus: Bus | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        chosen = DEFAULT if measurements is None else _listed(measurements)
        self._measurements = [_Measured(each, clock) for each in chosen]
        seconds = check_seconds(period, "period", least=SHORTEST_PERIOD)
        self._period_ns = round(seconds * 1e9)
        self._bus = default_bus if bus is None else bus
        self._clock = clock
        self._loops: list[_Loop] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = FailureLog(clock)
        self._polls = Tally()
        self._failures = Tally()
        self._missed = 0
        _forksafe.registry.register(self)

    def list_measurements(self) -> list[str | Measurement]:
        """Return what is measured, in order, as it was given."""
        return [measured.given for measured in self._measurements]

    def watch_loop(self, loop: AbstractEventLoop) -> None:
        """Also measure how late an event loop is: ``asyncio.lag``.

        In each round the loop is asked to call back as soon as it can, and emits
        the event itself when it does; the poller never waits for it. A loop that is
        closed or gone is forgotten.
        """
        self._loops.append(_Loop(loop))

    def start(self) -> None:
        """Begin to poll, with a first round at once.

        Raises:
            LLMEventsError: It is polling already.
        """
        if self._thread is not None and self._thread.is_alive():
            msg = "this poller is running already; call stop() first"
            raise LLMEventsError(msg)
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run,
            args=(self._stopping,),
            name="llmevents-poller",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> bool:
        """Stop polling; return whether the round under way ended within *timeout*.

        Args:
            timeout: Seconds. A measurement that takes longer goes on in its daemon
                thread, and is the last one. Called by a measurement itself, this
                does not wait.
        """
        seconds = check_seconds(timeout, "timeout")
        thread = self._thread
        self._stopping.set()
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(seconds)
        return not thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def poll(self) -> None:
        """Make one round now, in the calling thread. Raises no `Exception`."""
        self._polls.add()
        pid = os.getpid()
        for measured in self._measurements:
            try:
                _emit(self._bus, measured.take(), pid)
            except Exception as error:  # noqa: BLE001  # it costs its own event only
                self._failures.add()
                measured.log.report(f"measurement {measured.name!r}", error)
        self._loops = [
            loop for loop in self._loops if loop.ask(self._bus, self._clock, pid)
        ]

    def stats(self) -> dict[str, int]:
        """Return rounds made, measurements that failed, and ticks left out."""
        return {
            "polls": self._polls.value(),
            "failures": self._failures.value(),
            "missed": self._missed,
        }

    def after_fork_in_child(self) -> None:
        """Forget the thread and the event loops, which are the parent's."""
        self._thread = None
        self._loops = []
        self._stopping = threading.Event()

    def _run(self, stopping: threading.Event) -> None:
        schedule = Schedule(self._clock.monotonic_ns(), self._period_ns)
        while not stopping.wait(schedule.wait_ns(self._clock.monotonic_ns()) / 1e9):
            try:
                self.poll()
            except BaseException as error:  # noqa: BLE001  # sys.exit() in a measurement
                self._failures.add()
                self._log.report("a round of measurements", error)
            self._missed += schedule.advance(self._clock.monotonic_ns())


class _Measured:
    """One measurement, as it was given and as it is called."""

    __slots__ = ("given", "log", "name", "take")

    def __init__(self, given: str | Measurement, clock: Clock) -> None:
        self.given = given
        self.log = FailureLog(clock)
        if isinstance(given, str):
            self.name = given
            self.take: Measurement = _built_in(given)
        elif _is_function(given):
            self.name = getattr(given, "__qualname__", type(given).__qualname__)
            self.take = given
        else:
            expected = "a name, or a plain function without parameters"
            raise OptionError(given, "a measurement", expected)


class _Loop:
    """An event loop whose lag is measured."""

    __slots__ = ("_asked", "_reference")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._reference = weakref.ref(loop)
        self._asked = False

    def ask(self, bus: Bus, clock: Clock, pid: int) -> bool:
        """Ask the loop to report; return whether it is still to be watched.

        A loop that has not answered yet is not asked again: it would answer all at
        once, and say nothing more.
        """
        loop = self._reference()
        if loop is None or loop.is_closed():
            return False
        if self._asked:
            return True
        asked_ns = clock.monotonic_ns()

        def report() -> None:
            self._asked = False
            lag = clock.monotonic_ns() - asked_ns
            bus.execute("asyncio.lag", {"lag": lag}, {"pid": pid})

        self._asked = True
        try:
            loop.call_soon_threadsafe(report)
        except RuntimeError:
            return False  # it was closed since
        return True


def _listed(measurements: Iterable[str | Measurement]) -> list[str | Measurement]:
    if isinstance(measurements, str):
        expected = f"a list of names and functions; write [{measurements!r}]"
        raise OptionError(measurements, "measurements", expected)
    return list(measurements)


def _is_function(given: object) -> TypeGuard[Measurement]:
    """Whether *given* can be called without arguments, and does its work then."""
    import inspect

    if not callable(given) or inspect.iscoroutinefunction(given):
        return False
    try:
        inspect.signature(given, follow_wrapped=False).bind()
    except TypeError:
        return False
    except ValueError:
        return True  # a built-in that has no signature
    return True


def _built_in(name: str) -> Measurement:
    if name not in BUILT_IN:
        known = ", ".join(map(repr, BUILT_IN))
        close = get_close_matches(name, BUILT_IN, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise OptionError(name, "a measurement", f"one of {known}{hint}")
    return BUILT_IN[name]


def _emit(bus: Bus, result: object, pid: int) -> None:
    """Emit what a measurement returned.

    Raises:
        OptionError: It is nothing that can be emitted.
    """
    if result is None:
        return
    if not isinstance(result, tuple) or not 2 <= len(result) <= 3:  # noqa: PLR2004  # see Measurement
        expected = "None, (event, measurements) or (event, measurements, metadata)"
        raise OptionError(result, "a measurement's result", expected)
    event, measurements, *rest = cast("tuple[Name, Measurements, Metadata]", result)
    bus.execute(event, measurements, {**(rest[0] if rest else {}), "pid": pid})
