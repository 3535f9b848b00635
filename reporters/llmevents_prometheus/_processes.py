"""Totals over several processes that serve one application, such as gunicorn's."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from llmevents import LLMEventsError, OptionError
from llmevents_prometheus._files import SharedDirectory
from llmevents_prometheus._session import Session


if TYPE_CHECKING:
    from llmevents.metrics import MetricStore, Snapshot

SHORTEST_INTERVAL = 0.05
LONGEST_INTERVAL = 86_400.0

EXIT_SECONDS = 2.0
"""How long the end of the process may be held up."""


class SharedSnapshots:
    """The numbers of all processes that name the same directory.

    Each process that runs this has one file there. A thread writes it when something
    has changed, at most every *interval* seconds; it is written as well before the
    process shows its numbers to anybody (`merged`), and when it ends. So whatever
    was shown is kept, and no total that was shown goes down, whichever process is
    asked next. A process that is killed (``SIGKILL``, ``os._exit``, a signal without
    handler) loses what it had neither shown nor written, *interval* seconds at most.

    What processes that have ended left behind is moved into one file. Give each
    application a directory of its own on a local disk, and empty it before the
    application starts if its totals should start at 0.

    Over several processes

    - counters, monotonic sums, distributions and summaries are added up;
    - sums with ``monotonic=False`` are added up over the processes that live: what
      was under way in a process ended with it;
    - of last values the newest is taken, also of a process that has ended. When a
      value changed is known from when it was looked at, *interval* seconds too late
      at most.

    A process that was forked while this was started takes part with a file of its
    own from the first time that it calls `start`, `publish` or `merged`; its thread
    starts then. Call `publish` in gunicorn's ``post_fork`` if the application is
    preloaded. A process that never does so writes its numbers when it exits.

    Args:
        directory: Where; made for this user only if it is not there.
        interval: Seconds between two looks at the store, 0.05 to 86,400.

    Raises:
        OptionError: An option has a value that it cannot have, or the system has no
            file locks of the kind that is needed (it is Windows).
    """

    def __init__(self, directory: str, interval: float = 1.0) -> None:
        _check(directory, interval)
        self._directory = SharedDirectory(os.path.abspath(directory))
        self._interval = float(interval)
        # By process id, so that two threads of a new process agree without a lock,
        # which might be one that was being held when the process was forked.
        self._sessions: dict[int, Session] = {}

    def start(self, store: MetricStore) -> None:
        """Begin to take part, with the numbers of *store*.

        If it was started with *store* before, and stopped, it goes on from there.

        Raises:
            LLMEventsError: It was started already, and not stopped.
            OptionError: The directory cannot be used.
        """
        before = self._sessions.get(os.getpid())
        if before is not None and not before.is_stopped:
            if before.is_explicit:
                msg = "processes are being added up already; stop() it first"
                raise LLMEventsError(msg)
            before.stop(EXIT_SECONDS)
        self._directory.prepare()
        session = self._new_session(store, is_explicit=True)
        for inherited in self._sessions.values():
            if inherited.pid != session.pid:
                inherited.abandon()
        self._sessions = {session.pid: session}
        atexit.unregister(self._at_exit)  # the parent's, in a child
        atexit.register(self._at_exit)
        session.start_thread()

    def merged(self, own: Snapshot) -> Snapshot:
        """Return the totals over all processes.

        Never raises on account of a file, and disturbs nobody who emits.

        Args:
            own: What the store of this process knows now. It is written before this
                returns, unless it was.
        """
        session = self._here()
        return own if session is None else session.exchange(own)

    def publish(self) -> None:
        """Write what has changed, if anything has; failures are counted."""
        session = self._here()
        if session is not None:
            session.look()

    def stop(self, timeout: float) -> None:
        """Write for the last time, and end the thread, within *timeout* seconds.

        What this process has counted stays in the totals.
        """
        session = self._here(start_thread=False)
        if session is not None:
            session.stop(timeout)
            atexit.unregister(self._at_exit)

    def problems(self) -> Mapping[str, int]:
        """Return what was skipped or failed since the start, by reason.

        ``damaged``, ``foreign``, ``future_version``, ``unreadable``: files, each of
        them once. ``other_definition``: metrics in a file that are not ours, or are
        defined in another way, each once. ``read_error``, ``write_error``: attempts;
        after a failure to read the numbers of the time before are shown.
        """
        session = self._sessions.get(os.getpid())
        return {} if session is None else session.problems.counts()

    def _here(self, *, start_thread: bool = True) -> Session | None:
        """Return the session of this process, unless it has been stopped."""
        pid = os.getpid()
        session = self._sessions.get(pid)
        if session is None:
            session = self._after_fork(pid)
        if session is None or session.is_stopped:
            return None
        if start_thread:
            session.start_thread()
        return session

    def _after_fork(self, pid: int) -> Session | None:
        for parent in list(self._sessions.values()):
            if parent.pid == pid:
                return parent  # another thread was faster
            if not parent.is_stopped:
                parent.abandon()
                new = self._new_session(parent.store, is_explicit=False)
                session = self._sessions.setdefault(pid, new)
                self._sessions.pop(parent.pid, None)
                return session
        return None

    def _new_session(self, store: MetricStore, *, is_explicit: bool) -> Session:
        return Session(self._directory, store, self._interval, is_explicit=is_explicit)

    def _at_exit(self) -> None:
        with suppress(Exception):  # nothing in here is worth a traceback at the end
            self.stop(EXIT_SECONDS)


def _check(directory: object, interval: object) -> None:
    if not isinstance(directory, str) or not directory or "\0" in directory:
        raise OptionError(directory, "directory", "the path of a directory")
    if os.name != "posix":
        expected = "left out, for this system has no file locks that end with a process"
        raise OptionError(directory, "directory", expected)
    if (
        not isinstance(interval, (int, float))
        or isinstance(interval, bool)
        or not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL
    ):
        expected = f"seconds between {SHORTEST_INTERVAL} and {LONGEST_INTERVAL:,.0f}"
        raise OptionError(interval, "interval", expected)
