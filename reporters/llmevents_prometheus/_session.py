"""The part that one process takes in the totals of all."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from llmevents.metrics import LastValue, Snapshot, Value
from llmevents_prometheus._files import SharedDirectory, new_name, release
from llmevents_prometheus._format import Contents, encode
from llmevents_prometheus._merge import Tags, families_of, merge, shape_of, tags_key
from llmevents_prometheus._pool import Problems, Reader, fold


if TYPE_CHECKING:
    from llmevents.metrics import MetricStore


class _Record:
    """What a process has written, most recently, of a store that it may go on with.

    It must not be written once more under another name, after a stop and a start.
    """

    def __init__(self, pid: int, before: _Record | None) -> None:
        self.pid = pid
        self.written: Snapshot | None = None if before is None else before.written
        self.changes: _Changes = _Changes() if before is None else before.changes


_records: WeakKeyDictionary[MetricStore, dict[str, _Record]] = WeakKeyDictionary()
"""By store and directory."""


class Session:
    """What one process does between a start and a stop.

    Attributes:
        pid: The process' id; another one asks in a forked child.
        is_explicit: Whether somebody called for it, other than a fork.
    """

    def __init__(
        self,
        directory: SharedDirectory,
        store: MetricStore,
        interval: float,
        *,
        is_explicit: bool,
    ) -> None:
        self.pid = os.getpid()
        self.store = store
        self.is_explicit = is_explicit
        self.is_stopped = False
        self.problems = Problems()
        self._directory = directory
        self._interval = interval
        self._name = new_name()
        self._reader = Reader(directory, self.problems)
        before = _records.get(store, {}).get(directory.path)
        # A forked child starts at 0.
        self._before = None if before is None or before.pid != self.pid else before
        self._record = _Record(self.pid, self._before)
        # The descriptor that keeps the lock on what was written.
        self._held: list[tuple[int, os.stat_result]] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def abandon(self) -> None:
        """Close what a forked child has inherited; the parent keeps its locks."""
        with suppress(IndexError):
            while True:
                _close(*self._held.pop())

    def start_thread(self) -> None:
        """Start the thread, once."""
        if self._thread is None and self._starting.acquire(blocking=False):
            name = "llmevents-prometheus-processes"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            # No threads are started any more while the interpreter shuts down.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def exchange(self, own: Snapshot) -> Snapshot:
        """Write what this process has, and return it with what the others have.

        It is written first: the next who is asked may be another process, which must
        not know less.
        """
        with self._lock:
            shown = self._mine(self._write(own))
            others = self._reader.others("" if self._is_closed else self._name)
            self._note_misfits(shown, others)
            families = [contents.families for contents in others.values()]
            merged = merge(shown, self._record.changes.time_ns, families)
        starts = [each.start_ns for each in others.values() if each.start_ns]
        return replace(merged, start_ns=min((shown.start_ns, *starts)))

    def look(self) -> None:
        """Write what has changed, and tidy up after processes that have ended."""
        with self._lock:
            self._write()
            self._fold()

    def stop(self, timeout: float) -> None:
        """Write for the last time and let go, within *timeout* seconds."""
        deadline = monotonic() + timeout
        self.is_stopped = True
        self._quit.set()
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic())):
            return  # what was written before remains, and its lock with this process
        try:
            self._write()
            self._close()
            self._fold()
        finally:
            self._lock.release()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # noqa: BLE001  # as in _write()
                self.problems.count("write_error")
            if self._quit.wait(self._interval):
                return

    def _close(self) -> None:
        self._is_closed = True
        self._before = self._record
        while self._held:
            _close(*self._held.pop(), unlock=True)

    def _fold(self) -> None:
        try:
            fold(self._directory, self.problems)
        except OSError:
            self.problems.count("write_error")

    def _write(self, own: Snapshot | None = None) -> Snapshot:
        """Write the numbers if they have changed; return what can be shown.

        That is not *own*, if it was taken before what was written last.
        """
        if own is not None and self._is_settled(own):
            return own
        current = self.store.snapshot()
        if not self._is_settled(current):
            try:
                self._replace(current)
            except Exception:  # noqa: BLE001  # nothing in here is worth the program's life
                self.problems.count("write_error")
        return current

    def _is_settled(self, current: Snapshot) -> bool:
        self._record.changes.note(current)
        return self._is_closed or self._is_written(current)

    def _is_written(self, current: Snapshot) -> bool:
        if self._record.written is None:
            return not any(family.series for family in current.families.values())
        return self._record.written.families == current.families and any(
            self._directory.is_current(self._name, descriptor)
            for descriptor, _ in self._held
        )

    def _replace(self, current: Snapshot) -> None:
        mine = self._mine(current)
        families = families_of(mine, self._record.changes.time_ns)
        data = encode(families, mine.start_ns, frozenset())
        descriptor = self._directory.replace(self._name, data)
        # In this order: a child that is forked now finds open descriptors only.
        self._held.append((descriptor, os.fstat(descriptor)))
        while len(self._held) > 1:
            _close(*self._held.pop(0), unlock=True)
        self._record.written = current
        _records.setdefault(self.store, {})[self._directory.path] = self._record

    def _mine(self, current: Snapshot) -> Snapshot:
        """Return *current* without what was written under another name."""
        if self._before is None or self._before.written is None:
            return current
        since = current.since(self._before.written).families
        families = {
            name: family if shape_of(family.definition).is_level else since[name]
            for name, family in current.families.items()
        }
        return replace(current, families=MappingProxyType(families))

    def _note_misfits(self, own: Snapshot, others: Mapping[str, Contents]) -> None:
        shapes = {shape_of(family.definition) for family in own.families.values()}
        for file, contents in others.items():
            for shape in contents.families:
                if shape not in shapes:
                    self.problems.note(file, "other_definition", repr(shape))


def _close(descriptor: int, status: os.stat_result, *, unlock: bool = False) -> None:
    """Close what we opened, but not what somebody else has opened under its number.

    Who becomes a daemon closes all descriptors, and opens others.
    """
    with suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), status):
            if unlock:
                release(descriptor)
            else:
                os.close(descriptor)


class _Changes:
    """When last values changed, as far as that was noticed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Tags], tuple[Value | None, int]] = {}

    def note(self, snapshot: Snapshot) -> None:
        """Look at the newest snapshot."""
        known, self._known = self._known, {}
        for name, family in snapshot.families.items():
            if isinstance(family.definition, LastValue):
                for series in family.series:
                    key = (name, tags_key(series))
                    value = known.get(key, (None, 0))
                    if value[0] != series.raw:
                        value = (series.raw, snapshot.time_ns)
                    self._known[key] = value

    def time_ns(self, name: str, tags: Tags) -> int:
        """Return when a value changed, in Unix nanoseconds."""
        return self._known[name, tags][1]
