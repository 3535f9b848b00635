"""Callers who want the same answer at the same time, of whom one fetches it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

from llmevents import _forksafe
from llmevents.llm.cache._events import ABSENT


if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from types import TracebackType


class Flight:
    """One answer being fetched.

    Attributes:
        leader: The thread or task that fetches it.
        landed: What the others wait for.
        answer: The answer, once it has landed, or `ABSENT`.
        failed: Whether fetching it raised an `Exception`, or gave what cannot be
            shared. Otherwise, if there is no answer, it was given up.
    """

    __slots__ = ("_land", "answer", "failed", "landed", "leader")

    # What has landed is an event of threading, or a future of asyncio.
    def __init__(
        self,
        leader: object,
        landed: Any,  # noqa: ANN401
        land: Callable[[], object],
    ) -> None:
        self.leader = leader
        self.landed = landed
        self.answer: Any = ABSENT
        self.failed = False
        self._land = land

    def land(self) -> None:
        """Wake those who wait."""
        try:
            self._land()
        except RuntimeError:
            # Their event loop is closed, and they will not run again.
            return


class Flights:
    """All answers of one function that are being fetched.

    A forked child starts without any: their leaders are threads of the parent.
    """

    __slots__ = ("__weakref__", "_lock", "_open")

    def __init__(self) -> None:
        self._open: dict[Hashable, Flight] = {}
        # A finalizer may fetch an answer while its own thread looks up one.
        self._lock = threading.RLock()
        _forksafe.registry.register(self)

    def join(self, key: Hashable, own: Flight) -> Flight:
        """Return the flight to *key* that there is, or make *own* the one."""
        with self._lock:
            return self._open.setdefault(key, own)

    def close(self, key: Hashable, flight: Flight) -> None:
        """End *flight*: the next caller begins another one."""
        with self._lock:
            if self._open.get(key) is flight:
                del self._open[key]
        flight.land()

    def after_fork_in_child(self) -> None:
        """Forget the flights of the parent's threads."""
        self._lock = threading.RLock()
        self._open = {}


class Leading:
    """A block in which the leader of a flight fetches the answer."""

    __slots__ = ("_flight", "_flights", "_key")

    def __init__(self, flights: Flights, key: Hashable, flight: Flight) -> None:
        self._flights = flights
        self._key = key
        self._flight = flight

    def __enter__(self) -> None:
        """Nothing needs to be done: the flight is open already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self._flight.failed = True
        self._flights.close(self._key, self._flight)


def thread_flight() -> Flight:
    """Return a flight led by this thread."""
    landed = threading.Event()
    return Flight(threading.get_ident(), landed, landed.set)


def task_flight(loop: AbstractEventLoop) -> Flight:
    """Return a flight led by this task."""
    from asyncio import current_task

    landed = loop.create_future()
    return Flight(current_task() or landed, landed, partial(landed.set_result, None))


async def landing(flight: Flight) -> None:
    """Wait until *flight* of another task has landed; others may be cancelled."""
    from asyncio import shield

    await shield(flight.landed)


def running_loop() -> AbstractEventLoop | None:
    """Return asyncio's loop that runs here; None under trio, say."""
    from asyncio import get_running_loop

    try:
        return get_running_loop()
    except RuntimeError:
        return None
