"""Records in a database: each once, with exact totals, and there after a crash."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from datetime import date, datetime

from sqlalchemy import URL, Connection

from llmevents import _forksafe
from llmevents._errors import OptionError
from llmevents._tally import Tally
from llmevents.ledger import _fork, _retention
from llmevents.ledger._database import Database, SqlCounts, reason_of
from llmevents.ledger._gate import Gate, NestedError
from llmevents.ledger._jsonl import DURABILITIES, Durability
from llmevents.ledger._migrations import NewerLedgerError
from llmevents.ledger._record import Record
from llmevents.ledger._rows import Row, row_of


__all__ = ["SqlCounts", "SqlStore"]

GRACE = 1.0
"""Seconds beyond the patience, in which a server tells that it was a lock."""

PASSING = frozenset({"locked", "unreachable"})
"""Reasons that go away by themselves."""


class SqlStore:
    """A database of usage records, for any number of threads and processes.

    When `add` returns, the record and what it adds to the roll-ups are committed: they
    are there whatever becomes of the process, and with ``"power"`` whatever becomes of
    the machine. Only where the database cannot be reached or written they are not;
    that is counted, and the next record is tried anew. A record whose id is there
    already changes nothing.

    Threads that add at the same time share a transaction. An event that is emitted in
    the middle of a write by the same thread is written as soon as that one is. A child
    that is forked gets a connection of its own; a fork waits for a write under way, for
    at most 2 seconds.

    With SQLite the file is made if need be, for its owner alone (mode 0600), with its
    log beside it (WAL), on a local disk. Do not fork while `reading` is open. With
    PostgreSQL a commit is as durable as the server makes it.

    Args:
        url: ``sqlite:///usage.db`` or ``postgresql://user@host/name``.
        durability: ``"process"`` or ``"power"``; ``"batch"`` is as ``"process"``: to be
            told later, in batches, give the store to a background writer.
        patience: Seconds to wait for a lock that another process has, and for a server:
            to accept a connection, and to answer.
        connect: Whether to open the database now, and make it if need be; otherwise
            `open` does, or the first record.

    Raises:
        OptionError: *url* or *durability* is unknown.
        NewerLedgerError: The database is of a later version of llmevents; it was not
            changed. One that cannot be reached raises nothing.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        durability: Durability = "process",
        patience: float = 5.0,
        connect: bool = True,
    ) -> None:
        if durability not in DURABILITIES:
            expected = " or ".join(map(repr, DURABILITIES))
            raise OptionError(durability, "durability", expected)
        self._database = Database(url, full=durability == "power", patience=patience)
        self.url = self._database.url
        self._patience = patience
        self._connection: Connection | None = None
        self._retry_at = 0.0
        self._begin()
        _forksafe.registry.register(self)
        _fork.register(self)
        if connect:
            self.open()

    def __repr__(self) -> str:
        return f"SqlStore({self.url.render_as_string()!r})"

    def open(self) -> None:
        """Open the database, and make it if need be. One that is open stays so.

        Raises:
            NewerLedgerError: It is of a later version of llmevents; it was not changed.
                One that cannot be reached raises nothing.
            RuntimeError: A signal handler is in the middle of a write of its thread.
        """
        with self._gate.alone():
            try:
                self._connected()
            except NewerLedgerError:
                raise
            except Exception:  # noqa: BLE001  # `add` tries anew, and counts
                self._disconnect()

    def add(self, *records: Record) -> None:
        """Write records. Never raises for a database that cannot be written."""
        rows = _rows(records)
        self._leave_out(len(records) - len(rows))
        self._add(_Batch(rows))

    def try_add(self, *records: Record) -> bool:
        """Write records, unless that may be possible later.

        For a writer that can wait. It gives up by `add`, which counts them.

        Returns:
            False if the database is locked, or cannot be reached; nothing is counted.
        """
        rows = _rows(records)
        batch = _Batch(rows, can_wait=True)
        self._add(batch)
        if batch.has_to_wait:
            return False
        self._leave_out(len(records) - len(rows))
        return True

    def counts(self) -> SqlCounts:
        """Return what became of the records so far."""
        refused = dict(self._refused)
        if invalid := self._invalid.value():
            refused["invalid"] = invalid
        return SqlCounts(self._written, refused, self._repeated)

    def reading(self) -> AbstractContextManager[Connection]:
        """Give a connection that sees one state of the database, to read by.

        It is not for writing: roll-ups would not be told.

        Raises:
            sqlalchemy.exc.DBAPIError: The database cannot be reached.
        """
        return self._database.reading()

    def prune(self, *, before: datetime | date | str) -> int:
        """Delete all records of before a moment, and return how many.

        What they added to the roll-ups goes too. It is done day by day, each in one
        transaction, for which other writers wait.

        Args:
            before: A day, a moment with a time zone, or ISO 8601 text of either. A day
                begins at midnight UTC.

        Raises:
            OptionError: *before* is none of these.
            RuntimeError: A signal handler is in the middle of a write of its thread.
            sqlalchemy.exc.DBAPIError: The database cannot be reached or written.
        """
        moment = _retention.moment(before)
        return _retention.prune(self._database, self._gate.alone, moment)

    def delete_user(self, user_id: str) -> int:
        """Delete all records of a user, and return how many.

        Roll-ups of these days are made anew from the records that stay. In SQLite what
        is deleted then is overwritten, and the log emptied unless somebody is reading.

        Raises:
            RuntimeError: A signal handler is in the middle of a write of its thread.
            sqlalchemy.exc.DBAPIError: The database cannot be reached or written.
        """
        return _retention.delete_user(self._database, self._gate.alone, user_id)

    def close(self, timeout: float | None = None) -> bool:
        """Close the connection; it is opened again if more comes.

        Args:
            timeout: Seconds to wait for a write under way; None: until it has ended.

        Returns:
            False if the time was too short, or a signal handler closes in the middle of
            a write of its own thread; the connection is open still.
        """
        try:
            with self._gate.alone(timeout) as is_alone:
                if is_alone:
                    self._disconnect()
                return is_alone
        except NestedError:
            return False

    def before_fork(self, patience: float) -> None:
        """Wait until no thread writes: SQLite's locks do not survive a fork."""
        self._gate.before_fork(patience)

    def after_fork_in_parent(self) -> None:
        """Go on, with what was added meanwhile."""
        if self._gate.after_fork_in_parent():
            self._write_nested()

    def after_fork_in_child(self) -> None:
        """Begin with a connection of its own."""
        connection, self._connection = self._connection, None
        if connection is not None:
            is_idle = self._gate.is_forking and self._database.path is not None
            _fork.leave(connection, is_idle=is_idle)
        self._database.renew()
        self._retry_at = 0.0
        self._begin()

    def _begin(self) -> None:
        """Start with nothing counted, nothing waiting and nobody writing."""
        self._gate = Gate()
        self._queue: deque[_Batch] = deque()
        self._nested: deque[Row] = deque()
        self._invalid = Tally()
        self._refused: Counter[str] = Counter()
        self._written = 0
        self._repeated = 0

    def _leave_out(self, number: int) -> None:
        for _ in range(number):
            self._invalid.add()

    def _add(self, batch: _Batch) -> None:
        """Write a batch, and what signal handlers and finalizers add meanwhile."""
        if not batch.rows:
            return
        if self._gate.is_inside:
            # In the middle of a write of its own, which nobody else can end.
            self._nested.extend(batch.rows)
            return
        self._write_in_turn(batch)
        self._write_nested()

    def _write_nested(self) -> None:
        """Write what came after the last look, and before the thread was out."""
        while self._nested:
            self._write_in_turn(_Batch([]))

    def _write_in_turn(self, batch: _Batch) -> None:
        """Write a batch, with those of threads that wait, unless one of them has."""
        self._queue.append(batch)
        with self._gate.alone():
            if not batch.is_done:
                self._write_waiting(batch)

    def _write_waiting(self, mine: _Batch) -> None:
        batches = [mine]
        try:
            while self._queue:
                batch = self._queue.popleft()
                if batch is not mine:
                    batches.append(batch)
            self._write_together(batches)
            while self._nested:
                self._write(_Batch([self._nested.popleft()]))
        except BaseException:
            # The other threads, whose turn comes now, write their own batches again.
            self._refused["interrupted"] += len(mine.rows)
            self._disconnect()
            raise
        for batch in batches:
            batch.is_done = True

    def _write_together(self, batches: Sequence[_Batch]) -> None:
        """Write batches in one transaction, or each in its own if one spoils it."""
        reason = self._try([row for batch in batches for row in batch.rows])
        if reason == "error" and len(batches) > 1:
            for batch in batches:
                self._write(batch)
        elif reason is not None:
            for batch in batches:
                self._refuse(batch, reason)

    def _write(self, batch: _Batch) -> None:
        """Write one batch."""
        reason = self._try(batch.rows)
        if reason is not None:
            self._refuse(batch, reason)

    def _refuse(self, batch: _Batch, reason: str) -> None:
        """Count rows that could not be written, or have them wait."""
        if batch.can_wait and reason in PASSING:
            batch.has_to_wait = True
        else:
            self._refused[reason] += len(batch.rows)

    def _try(self, rows: Sequence[Row]) -> str | None:
        """Write rows; return the reason if that cannot be done."""
        started = time.monotonic()
        if not rows:
            return None
        if started < self._retry_at:
            return "unreachable"
        try:
            with self._database.deadline.within(self._patience + GRACE):
                new = self._stored(rows)
        except Exception as error:  # noqa: BLE001  # the host must not notice
            reason = reason_of(error)
            if reason == "unreachable":
                # At most half of the time is spent on trying.
                ended = time.monotonic()
                self._retry_at = ended + (ended - started)
            return reason
        self._written += new
        self._repeated += len(rows) - new
        return None

    def _stored(self, rows: Sequence[Row]) -> int:
        """Write rows, by a new connection if the one that was open is none any more.

        Whatever the first attempt came to, the second writes nothing twice.
        """
        was_open = self._connection is not None
        try:
            try:
                return self._database.store(self._connected(), rows)
            except Exception as error:
                if not was_open or reason_of(error) in ("locked", "disk_full"):
                    raise
                self._disconnect()
            return self._database.store(self._connected(), rows)
        except Exception:
            self._disconnect()
            raise

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and self._database.is_another(connection):
            self._disconnect()
        if self._connection is None:
            self._connection = self._database.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                # Not to be asked any more what it thinks of its transaction.
                connection.invalidate()
                connection.close()


class _Batch:
    """What one call of `SqlStore.add` writes, in one transaction.

    Attributes:
        rows: What it is.
        can_wait: Whether whoever adds them can, for what may pass.
        has_to_wait: Whether something like that has kept them out.
        is_done: Whether they are written, or counted, or have to wait.
    """

    __slots__ = ("can_wait", "has_to_wait", "is_done", "rows")

    def __init__(self, rows: list[Row], *, can_wait: bool = False) -> None:
        self.rows = rows
        self.can_wait = can_wait
        self.has_to_wait = False
        self.is_done = False


def _rows(records: Sequence[Record]) -> list[Row]:
    """Return the rows of those that are records."""
    return [row for row in map(row_of, records) if row is not None]
