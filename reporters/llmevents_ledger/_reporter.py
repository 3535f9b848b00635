"""`LedgerReporter`: from the end of a call to a record in every store."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from os import PathLike
from typing import TYPE_CHECKING

from llmevents import LLMEventsError
from llmevents.ledger import (
    EVENTS,
    Durability,
    JsonlStore,
    Rotation,
    SqlStore,
)
from llmevents.reporting import ReporterStatus
from llmevents_ledger._records import Batches, Recorder, Store


if TYPE_CHECKING:
    from llmevents import Bus, Handler
    from llmevents.ledger import Engine, Period
    from llmevents.metrics import MetricStore

DEFAULT_URL = "sqlite:///llmevents.db"
"""Where records go if nobody says where: a file in the working directory."""


class LedgerReporter:
    """Keeps one usage record of every call and task, exactly once.

    What is kept is told by `llmevents.ledger.COLUMNS`. Any number of processes may use
    the same file or database, forked children too.

    Args:
        jsonl: A file that a line of JSON is appended to for each record.
        url: A database: ``"sqlite:///usage.db"``, or one of PostgreSQL. By default
            ``"sqlite:///llmevents.db"``, unless there is a *jsonl*.
        durability: When a record is safe. ``"process"``: when the call has ended, even
            if the process is killed then. ``"power"``: even if the machine fails.
            ``"batch"``: when `flush` has returned; a thread for each store writes
            many at once, and the call itself waits for nothing. Records wait there, up
            to 100,000 or 64 MiB of events, for a database that is locked or gone.
        rotate_bytes: Set the file aside before it is larger.
        rotate_every: ``"hour"``, ``"day"`` or ``"month"``, of the calendar in UTC: set
            the file aside when the period of its first record is over.
        pack: Whether files that are set aside are packed with gzip.
        keep_files: How many of them to keep; all by default.
        keep_days: For how many days; for ever by default.

    Raises:
        OptionError: An option has a value that it cannot have.
    """

    def __init__(
        self,
        *,
        jsonl: str | PathLike[str] | None = None,
        url: str | None = None,
        durability: Durability = "process",
        rotate_bytes: int | None = None,
        rotate_every: Period | None = None,
        pack: bool = True,
        keep_files: int | None = None,
        keep_days: int | None = None,
    ) -> None:
        rotation = Rotation(
            size=rotate_bytes,
            period=rotate_every,
            pack=pack,
            keep=keep_files,
            max_age=None if keep_days is None else timedelta(days=keep_days),
        )
        self._file: JsonlStore | None = None
        self._database: SqlStore | None = None
        if jsonl is not None:
            is_rotated = rotate_bytes is not None or rotate_every is not None
            self._file = JsonlStore(
                jsonl,
                durability=durability,
                rotation=rotation if is_rotated else None,
            )
        if url is not None or jsonl is None:
            self._database = SqlStore(
                url or DEFAULT_URL, durability=durability, connect=False
            )
        stores = (self._file, self._database)
        self._stores: list[Store] = [each for each in stores if each is not None]
        self._in_batches = durability == "batch"
        # Stores that are written to in batches do not wait for each other.
        apart = (
            [[each] for each in self._stores] if self._in_batches else [self._stores]
        )
        self._recorders = [Recorder(each) for each in apart]
        self._batches: list[Batches] = []
        self._bus: Bus | None = None

    def start(self, bus: Bus, metrics: MetricStore) -> None:  # noqa: ARG002  # the protocol's
        """Begin to record what ends on *bus*; *metrics* is not used.

        Raises:
            LLMEventsError: It was started already, and not stopped.
            NewerLedgerError: The database is of a later version of llmevents.
        """
        if self._bus is not None:
            msg = "this reporter is started already; stop() it first"
            raise LLMEventsError(msg)
        if self._database is not None:
            self._database.open()
        handlers: list[Handler] = [each.write for each in self._recorders]
        if self._in_batches:
            self._batches = self._new_batches(bus)
            handlers = [each.handler for each in self._batches]
        self._bus = bus
        for number, handler in enumerate(handlers):
            bus.attach(("llmevents.ledger", id(self), number), EVENTS, handler)

    def _new_batches(self, bus: Bus) -> list[Batches]:
        """Return what goes on where the batches of before have ended."""
        accepted = [each.status().accepted for each in self._batches or self._recorders]
        for each in self._batches:
            each.hand_over()
        return [
            Batches(recorder, bus, before)
            for recorder, before in zip(self._recorders, accepted, strict=True)
        ]

    def engine(self) -> Engine:
        """Return what answers questions about the records: in the database, if any.

        It does not see records that wait; `flush` writes them.
        """
        if self._database is not None:
            from llmevents.ledger import SqlEngine

            return SqlEngine(self._database.url)
        from llmevents.ledger import JsonlEngine

        assert self._file is not None  # noqa: S101  # there is one of them
        return JsonlEngine(self._file.path)

    def flush(self, timeout: float) -> bool:
        """Write what waits; return whether that was done in *timeout* seconds."""
        deadline = time.monotonic() + timeout
        # Each of them, also if there was no time for the first.
        written = [
            each.flush(max(0.0, deadline - time.monotonic())) for each in self._batches
        ]
        return all(written)

    def stop(self, timeout: float) -> None:
        """Write what waits, and end; a second time does nothing.

        A store that is busy for longer ends what it is doing later on, by itself.
        """
        if self._bus is None:
            return
        deadline = time.monotonic() + timeout
        for number in range(len(self._recorders)):
            self._bus.detach(("llmevents.ledger", id(self), number))
        self._bus = None
        for number, batches in enumerate(self._batches):
            # One that takes all of its share leaves the others theirs.
            left = max(0.0, deadline - time.monotonic())
            batches.stop(left / (len(self._batches) - number))
        for store in self._stores:
            store.close(max(0.0, deadline - time.monotonic()))

    def status(self) -> ReporterStatus:
        """Return the counts so far, of records, once for each store."""
        counts = [each.status() for each in self._batches or self._recorders]
        dropped: Counter[str] = Counter()
        for each in counts:
            dropped.update(each.dropped)
        return ReporterStatus(
            accepted=sum(each.accepted for each in counts),
            delivered=sum(each.delivered for each in counts),
            dropped=dropped,
            queued=sum(each.queued for each in counts),
        )
