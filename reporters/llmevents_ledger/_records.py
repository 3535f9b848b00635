"""From the end of a call to a record in every store, at once or in batches."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Protocol

from llmevents import background
from llmevents.ledger import Record, record_of
from llmevents.reporting import ReporterStatus, reset_after_fork


if TYPE_CHECKING:
    from llmevents import Bus, EventName, Measurements, Metadata

MOST_TOGETHER = 1_000
"""Records that are written at once in batches."""

QUEUE_EVENTS = 100_000
QUEUE_BYTES = 64 * 1024 * 1024

PAUSE = 0.1
"""Seconds until a store that could not keep records is tried again."""

NO_SPAN_ID = "no_span_id"
ERROR = "error"
SHUTDOWN = "shutdown"


class Counted(Protocol):
    """What became of a store's records, in this process."""

    @property
    def kept(self) -> int:
        """How many it has."""

    @property
    def refused(self) -> Mapping[str, int]:
        """How many it has not, by reason."""


class Store(Protocol):
    """What keeps records, and never raises for what it cannot keep."""

    def add(self, *records: Record) -> None:
        """Keep them."""

    def try_add(self, *records: Record) -> bool:
        """Keep them, unless that may be possible later; False, and uncounted, then."""

    def counts(self) -> Counted:
        """Return what became of the records so far."""

    def close(self, timeout: float | None = None) -> object:
        """Let go of what is open, unless *timeout* seconds are not enough."""


class Recorder:
    """Makes records of events, and gives each to every store.

    Counts, as everything here does, each record once for each store.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores
        self._begin()
        reset_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Count anew, as the stores do."""
        self._begin()

    def _begin(self) -> None:
        # Events come from any thread, and from finalizers in the middle of one: a
        # step of a count is neither torn nor blocked.
        self._missing: dict[str, itertools.count[int]] = {}

    def write(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,  # noqa: ARG002  # a handler's signature
    ) -> None:
        """Write the record of an event."""
        record = self.record(event, measurements, metadata)
        if record is not None:
            self.add((record,))

    def record(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> Record | None:
        """Return the record of an event, or None if it says not which call it is of."""
        try:
            return record_of(event, measurements, metadata, time.time_ns())
        except BaseException as error:
            is_known = isinstance(error, KeyError)
            self.miss(NO_SPAN_ID if is_known else ERROR, len(self.stores))
            if not is_known:
                raise
            return None

    def add(
        self, records: Sequence[Record], may_wait: Callable[[], bool] | None = None
    ) -> None:
        """Give records to every store, whatever one of them raises.

        Args:
            records: What to keep.
            may_wait: Waits until a store that cannot keep them now is to be tried
                again; False if it is not to be. None: none is.
        """
        first: Exception | None = None
        for store in self.stores:
            try:
                if may_wait is None or not _is_kept(store, records, may_wait):
                    store.add(*records)
            except Exception as error:  # noqa: BLE001  # raised when all have had theirs
                self.miss(ERROR, len(records))
                first = first or error
        if first is not None:
            raise first

    def miss(self, reason: str, times: int = 1) -> None:
        """Count records that no store was given, or that one could not take."""
        steps = self._missing.setdefault(reason, itertools.count())
        for _ in range(times):
            next(steps)

    def resolved(self) -> tuple[int, Counter[str]]:
        """Return how many records are kept, and how many are not by reason."""
        kept = 0
        dropped: Counter[str] = Counter()
        for reason, steps in list(self._missing.items()):
            # Its repr() tells the count without taking a step.
            dropped[reason] += int(repr(steps)[len("count(") : -1])
        for counts in [store.counts() for store in self.stores]:
            kept += counts.kept
            dropped.update(counts.refused)
        return kept, +dropped

    def status(self) -> ReporterStatus:
        """Return the counts so far."""
        kept, dropped = self.resolved()
        accepted = kept + sum(dropped.values())
        return ReporterStatus(accepted=accepted, delivered=kept, dropped=dropped)


def _is_kept(
    store: Store, records: Sequence[Record], may_wait: Callable[[], bool]
) -> bool:
    while not store.try_add(*records):
        if not may_wait():
            return False
    return True


class Batches:
    """Has records written by a thread, as many at once as have come meanwhile.

    Emitters only put an event into the queue of a background handler. The handler
    collects records until no event waits, or there are enough of them. The lock is
    taken by who collects and writes, never by who emits. A store that is locked or
    cannot be reached is tried again and again until it can, or `stop` has no more time.

    Args:
        recorder: Has what writes.
        bus: Where failures are announced.
        accepted: Records that came before.
    """

    def __init__(self, recorder: Recorder, bus: Bus, accepted: int) -> None:
        self._recorder = recorder
        self._begin()
        self._before = accepted
        self.handler = background(
            self._collect,
            max_events=QUEUE_EVENTS,
            max_bytes=QUEUE_BYTES,
            name="llmevents.ledger",
            bus=bus,
        )
        reset_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget what was collected: the parent writes it."""
        self._begin()

    def _begin(self) -> None:
        self._lock = Lock()
        self._gives_up = Event()
        self._collected: list[Record] = []
        self._before = 0

    def hand_over(self) -> None:
        """Have the recorder count what was dropped here: others follow this one."""
        for reason, count in self._refused().items():
            self._recorder.miss(reason, count)

    def flush(self, timeout: float) -> bool:
        """Write what was offered before; return whether there was time enough."""
        deadline = time.monotonic() + timeout
        return self.handler.flush(timeout) and self._write_rest(deadline)

    def stop(self, timeout: float) -> None:
        """Write what waits, and end; what there is no time for is dropped."""
        deadline = time.monotonic() + timeout
        self.handler.shutdown(timeout)
        self._gives_up.set()
        if not self._write_rest(deadline) and self._lock.acquire(blocking=False):
            rest, self._collected = self._collected, []
            self._lock.release()
            self._recorder.miss(SHUTDOWN, len(rest) * len(self._recorder.stores))

    def status(self) -> ReporterStatus:
        """Return the counts so far. What is collected or being written is queued."""
        # Before the queue is asked: nothing is resolved that was not accepted.
        kept, dropped = self._recorder.resolved()
        dropped += self._refused()
        times = len(self._recorder.stores)
        accepted = self._before + self.handler.stats().accepted * times
        return ReporterStatus(
            accepted=accepted,
            delivered=kept,
            dropped=dropped,
            queued=accepted - kept - sum(dropped.values()),
        )

    def _refused(self) -> Counter[str]:
        """Return how many records the queue has dropped, by reason."""
        dropped = Counter(self.handler.stats().dropped)
        # Where our handler raises, the records are counted already.
        del dropped["handler_error"]
        return Counter({k: n * len(self._recorder.stores) for k, n in dropped.items()})

    def _collect(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,  # noqa: ARG002  # a handler's signature
    ) -> None:
        try:
            record = self._recorder.record(event, measurements, metadata)
        except BaseException:
            self._write_if_due(None)
            raise
        self._write_if_due(record)

    def _write_if_due(self, record: Record | None) -> None:
        with self._lock:
            if record is not None:
                self._collected.append(record)
            is_full = len(self._collected) >= MOST_TOGETHER
            if is_full or self.handler.stats().queued <= 1:
                self._write()

    def _write(self) -> None:
        """Write what is collected. The lock is held."""
        records, self._collected = self._collected, []
        if records:
            self._recorder.add(records, self._may_wait)

    def _may_wait(self) -> bool:
        return not self._gives_up.wait(PAUSE)

    def _write_rest(self, deadline: float) -> bool:
        """Write what is collected while more events come; False if it takes too long."""
        lock = self._lock
        if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        has_rest = bool(self._collected)
        lock.release()
        if not has_rest:
            return True
        # A database may take longer than there is time for.
        writer = Thread(target=self._write_alone, name="llmevents.ledger", daemon=True)
        try:
            writer.start()
        except RuntimeError:  # at the end of the process, from Python 3.12 on
            self._write_alone()
            return True
        writer.join(max(0.0, deadline - time.monotonic()))
        return not writer.is_alive()

    def _write_alone(self) -> None:
        # What a store raises is counted, and nobody is there to be told.
        with self._lock, suppress(Exception):
            self._write()
