"""The two kinds of database that a ledger is kept in, and what they say goes wrong."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from llmevents._errors import OptionError
from llmevents.ledger import _migrations
from llmevents.ledger._append import DIRECTORY_MODE, MODE
from llmevents.ledger._jsonl import REASONS
from llmevents.ledger._migrations import NewerLedgerError
from llmevents.ledger._patience import Deadline
from llmevents.ledger._postgresql import PostgreSQL
from llmevents.ledger._rollups import Cells, roll_up
from llmevents.ledger._rows import Row
from llmevents.ledger._sqlite import SQLite


PAUSE = 0.01
"""Seconds between two attempts to open a database that another process is creating."""


class SqlCounts(NamedTuple):
    """What became of the records so far, in this process.

    Attributes:
        written: In the database, by this process.
        refused: Not in the database, by reason: ``locked``, ``disk_full``,
            ``read_only``, ``unreachable``, ``newer_ledger``, ``invalid`` (without id,
            event, time or status), ``interrupted`` or ``error``. Of those that were
            interrupted a few may be there.
        repeated: There already, under the same id.
    """

    written: int
    refused: dict[str, int]
    repeated: int

    @property
    def kept(self) -> int:
        """How many of this process's records are in the database."""
        return self.written + self.repeated


class Kind(Protocol):
    """What differs from one kind of database to the other."""

    begin: tuple[str, ...]
    """Statements that begin a transaction which nobody else writes beside."""

    snapshot: str
    """Statement that begins a transaction which sees one state only."""

    def prepare(self, connection: Connection) -> None:
        """Make the settings that a connection which writes needs."""

    def shred(self, connection: Connection) -> None:
        """Have what this connection deletes overwritten, if that can be had."""

    def tidy(self, connection: Connection) -> None:
        """Empty what beside the tables still has what was deleted."""

    def insert(self, cursor: DBAPICursor, rows: Sequence[Row]) -> list[Row]:
        """Insert rows of calls, each of another id, and return those that are new."""

    def merge(self, cursor: DBAPICursor, cells: Cells) -> None:
        """Add cells to the table of roll-ups."""


class Database:
    """Where a ledger is kept: makes connections and writes records through them.

    Args:
        url: Of SQLAlchemy: ``sqlite:///usage.db`` or ``postgresql://user@host/name``.
        full: Whether a commit waits until it is on the disk.
        patience: Seconds to wait for a lock, and for a server to accept.

    Raises:
        OptionError: *url* is none, or of another kind of database.
    """

    def __init__(self, url: str | URL, *, full: bool, patience: float) -> None:
        self.url = _url(url)
        self._full = full
        self._patience = patience
        self.path = _path(self.url)
        self.kind: Kind = SQLite(full=full) if self.path else PostgreSQL()
        self.deadline = Deadline()
        self.engine = self._engine()

    def renew(self) -> None:
        """Forget the engine, as a process has to that was forked."""
        self.engine = self._engine()

    def connect(self) -> Connection:
        """Return a connection to write by; tables are created or migrated if need be.

        Raises:
            OSError: The file cannot be made.
            sqlalchemy.exc.DBAPIError: The database cannot be reached or written.
            NewerLedgerError: Its tables are of a later version.
        """
        self._make_file()
        connection = self.engine.connect()
        # Whoever forgets to close it leaves nothing open, of which Python 3.13 and
        # SQLAlchemy would complain in the middle of the host's garbage collection.
        weakref.finalize(connection, _drop, connection.connection).atexit = False
        try:
            self._prepare(connection)
            if self.path is not None:
                connection.info["inode"] = _inode(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def is_another(self, connection: Connection) -> bool:
        """Whether the path leads to another file than when it was opened."""
        return self.path is not None and _inode(self.path) != connection.info["inode"]

    def store(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Write rows that are not there yet, and their roll-ups; return how many."""
        unique = {row["id"]: row for row in reversed(rows)}
        ordered = [unique[one] for one in sorted(unique)]
        # Not by SQLAlchemy: what it adds to each statement is more than all the rest.
        cursor = connection.connection.cursor()
        with closing(cursor), transaction(cursor.execute, self.kind.begin):
            new = self.kind.insert(cursor, ordered)
            if new:
                self.kind.merge(cursor, roll_up(new))
        return len(new)

    def writing(self, connection: Connection) -> AbstractContextManager[None]:
        """Hold a transaction that nobody else writes beside."""
        return transaction(connection.exec_driver_sql, self.kind.begin)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database, to read by."""
        with (
            self.engine.connect() as connection,
            transaction(connection.exec_driver_sql, (self.kind.snapshot,)),
        ):
            yield connection

    def is_newest(self, connection: Connection) -> bool:
        """Whether the tables are there, in the newest version.

        Raises:
            NewerLedgerError: They have a later one.
        """
        return _migrations.check(connection, _migrations.STEPS)

    def migrate(self, connection: Connection) -> None:
        """Bring the tables to the newest version, in the transaction that is open."""
        _migrations.migrate(connection, _migrations.STEPS)

    def _engine(self) -> Engine:
        # Transactions are begun and ended by statements of ours: SQLite's driver
        # knows none that locks from its beginning.
        engine = create_engine(
            self.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=self._connect_args(),
            hide_parameters=True,
        )
        if self.path is None:
            self.deadline.watch(engine)
        return engine

    def _connect_args(self) -> dict[str, Any]:
        if self.path is not None:
            return {"timeout": self._patience, "check_same_thread": False}
        given = self.url.query
        own = f"-c lock_timeout={max(1, round(self._patience * 1000))}"
        # libpq takes whole seconds, and 1 for 2 (PostgreSQL 15, section 34.1.2).
        defaults = {
            "connect_timeout": str(max(2, round(self._patience))),
            "application_name": "llmevents",
        }
        return {**defaults, **given, "options": f"{own} {given.get('options', '')}"}

    def _make_file(self) -> None:
        """Make the file and its directory, for the owner alone."""
        if self.path is None or self.path.exists():
            return
        self.path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE))

    def _prepare(self, connection: Connection) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                is_newest = self.is_newest(connection)
                self.kind.prepare(connection)
                if not is_newest:
                    with self.writing(connection):
                        self.migrate(connection)
            except DBAPIError as error:
                # A change to WAL does not wait for a lock by itself.
                if reason_of(error) != "locked" or time.monotonic() >= deadline:
                    raise
                time.sleep(PAUSE)
            else:
                return


@contextmanager
def transaction(
    execute: Callable[[str], object], begin: Sequence[str]
) -> Iterator[None]:
    """Execute what begins a transaction, and in the end commit it or roll it back."""
    for statement in begin:
        execute(statement)
    try:
        yield
        execute("COMMIT")
    except BaseException:
        # The error that is raised says more than another one of the way back.
        with suppress(Exception):
            execute("ROLLBACK")
        raise


def _url(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        # What was given is not shown: it may hold a password.
        hidden = "..."
        raise OptionError(hidden, "url", _EXPECTED) from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    backend, is_memory = parsed.drivername, parsed.database in (None, "", ":memory:")
    if backend != "postgresql+psycopg" and (backend != "sqlite" or is_memory):
        raise OptionError(parsed.render_as_string(), "url", _EXPECTED)
    if backend == "sqlite":
        # The same file wherever the process goes.
        parsed = parsed.set(database=os.path.abspath(str(parsed.database)))
    return parsed


_EXPECTED = "'sqlite:///' and the path of a file, or 'postgresql://user@host/name'"


def _path(url: URL) -> Path | None:
    return Path(url.database or "") if url.drivername == "sqlite" else None


def _inode(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def reason_of(error: BaseException) -> str:
    """Return the reason under which records are counted that an error kept out."""
    if isinstance(error, OSError):
        return REASONS.get(error.errno or 0, "error")
    if isinstance(error, NewerLedgerError):
        return "newer_ledger"
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        text = str(original)
        return next((why for what, why in _OF_SQLITE.items() if what in text), "error")
    return _of_postgresql(original)


def _of_postgresql(error: BaseException | None) -> str:
    state = getattr(error, "sqlstate", None)
    if state is None:
        # It does not come from the server, which cannot be reached then.
        is_connection = type(error).__name__ in ("OperationalError", "InterfaceError")
        is_connection |= "Timeout" in type(error).__name__
        return "unreachable" if is_connection else "error"
    known = _OF_SQLSTATE.get(state)
    return known or ("unreachable" if state.startswith(("08", "57P")) else "error")


_OF_SQLITE = {
    "is locked": "locked",
    "is full": "disk_full",
    "readonly database": "read_only",
    "unable to open": "unreachable",
}
"""Part of SQLite's message (3.40, ``sqlite3ErrStr``) -> reason. Before Python 3.11
errors have no code."""

_OF_SQLSTATE = {
    "55P03": "locked",
    "40P01": "locked",
    "53100": "disk_full",
    "25006": "read_only",
    "42501": "read_only",
    "53300": "unreachable",
}
"""SQLSTATE (PostgreSQL 15, appendix A) -> reason."""


def _drop(connection: PoolProxiedConnection) -> None:
    """Close what nobody can ask any more what it thinks of its transaction."""
    if connection.is_valid:
        connection.invalidate()
