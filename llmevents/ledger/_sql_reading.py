"""Connections that read a ledger in SQL, and change nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    NullPool,
    StaticPool,
    cast,
    create_engine,
    event,
    func,
    literal,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from llmevents.ledger import _migrations
from llmevents.ledger._database import Database, transaction
from llmevents.ledger._query import NewerRecordsError
from llmevents.ledger._record import LARGEST
from llmevents.ledger._tables import METADATA, NEWER, calls
from llmevents.metrics._histogram import OFFSET, ZERO, key_of


PATIENCE = 5.0
"""Seconds to wait for a lock, and for a server to accept a connection."""

BUCKET = "llmevents_bucket"
"""What SQLite is told to call `key_of`."""


class Source:
    """A database that is read. For any number of threads and processes.

    Each question has a connection of its own, so that nothing is held between them.

    Args:
        url: As for `SqlStore`.

    Raises:
        OptionError: *url* is none, or of another kind of database.
    """

    def __init__(self, url: str | URL) -> None:
        self._database = Database(url, full=False, patience=PATIENCE)
        self.url = self._database.url
        path = self._database.path
        self.path = None if path is None else Path(os.path.abspath(path))
        self._engine = self._database.engine
        if self.path is not None:
            self._engine = create_engine(
                "sqlite://",
                creator=self._opened,
                poolclass=NullPool,
                isolation_level="AUTOCOMMIT",
                hide_parameters=True,
            )

    @property
    def name(self) -> str:
        """What people call it; without a password."""
        if self.path is not None:
            return str(self.path)
        return self.url.render_as_string()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database.

        One that has no tables yet is as one without records.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It cannot be reached or read, or its tables are of an older
                version.
            NewerLedgerError: Its tables are of a later version.
            NewerRecordsError: It has records of a later version.
        """
        if self.path is not None and not self.path.exists():
            msg = "there is no ledger here yet; check the path, or record a call"
            raise FileNotFoundError(ENOENT, msg, str(self.path))
        try:
            with (
                self._engine.connect() as connection,
                transaction(
                    connection.exec_driver_sql, (self._database.kind.snapshot,)
                ),
            ):
                if self._is_made(connection):
                    self._check_records(connection)
                    yield connection
                    return
            with _nothing() as connection:
                yield connection
        except SQLAlchemyError as error:
            original = getattr(error, "orig", None) or error
            reason = " ".join(str(original).split())
            msg = f"{self.name} cannot be read: {reason}"
            raise OSError(msg) from error

    def _is_made(self, connection: Connection) -> bool:
        found = _migrations.version(connection)
        if found and not _migrations.check(connection, _migrations.STEPS):
            msg = (
                f"{self.name} has tables of version {found}, and this version of "
                f"llmevents reads those of version {len(_migrations.STEPS)}; record a "
                f"call in it, which brings them up to date"
            )
            raise OSError(msg)
        return bool(found)

    def _check_records(self, connection: Connection) -> None:
        newest = select(func.max(calls.c.schema_version)).where(NEWER)
        found = connection.scalar(newest)
        if found is not None:
            raise NewerRecordsError(found, self.name)

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(str(self.path)))}?mode=ro",
            uri=True,
            timeout=PATIENCE,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA cache_size=-16384")
            _teach(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def bucket(connection: Connection) -> ColumnElement[int]:
    """Return the bucket of a call's duration in the database's words.

    It is the key in the exponential histogram, as `key_of` says, exactly: of SQLite
    it is asked through Python, and PostgreSQL looks it up among the buckets' bounds,
    because logarithms in SQL are rounded in other ways.
    """
    if connection.dialect.name == "sqlite":
        return getattr(func, BUCKET)(calls.c.duration_ns)  # type: ignore[no-any-return]  # whatever is called is a column
    bounds = cast(literal(_bounds(), ARRAY(BigInteger)), ARRAY(BigInteger))
    return func.width_bucket(calls.c.duration_ns, bounds)


def key_of_bucket(connection: Connection, found: int) -> int:
    """Return the key that is meant by what `bucket` found."""
    if connection.dialect.name == "sqlite":
        return found
    return found - 1 + OFFSET if found else ZERO


@lru_cache(maxsize=1)
def _bounds() -> list[int]:
    """Return the least duration of each bucket for 1 nanosecond and more.

    Where a bucket has none, because it is narrower than a nanosecond, it is that of
    the next one, so that the bucket before is found for what lies below.
    """
    bounds = [1]
    for key in range(OFFSET + 1, key_of(LARGEST) + 1):
        bounds.append(_least(key, bounds[-1]))
    return bounds


def _least(key: int, lower: int) -> int:
    """Return the least integer from *lower* whose key is *key* or more."""
    upper = lower
    while key_of(upper) < key:
        lower, upper = upper + 1, upper * 2
    while lower < upper:
        middle = (lower + upper) // 2
        if key_of(middle) < key:
            lower = middle + 1
        else:
            upper = middle
    return upper


def _teach(connection: sqlite3.Connection) -> None:
    connection.create_function(BUCKET, 1, _key_of, deterministic=True)


def _key_of(duration: int | None) -> int | None:
    return None if duration is None else key_of(duration)


@contextmanager
def _nothing() -> Iterator[Connection]:
    """Give a database with the tables of a ledger and nothing in them."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda connection, _: _teach(connection))
    try:
        METADATA.create_all(engine)
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
