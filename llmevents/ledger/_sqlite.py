"""A ledger in a file of SQLite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from llmevents.ledger._rollups import COLUMN_NAMES, Cells, known_rows
from llmevents.ledger._rows import Row


class SQLite:
    """What is particular to SQLite.

    A transaction locks the whole file from its beginning, so that what it reads stays
    as it is until it ends.

    Args:
        full: Whether a commit waits for the disk (``synchronous=FULL``).
    """

    begin: tuple[str, ...] = ("BEGIN IMMEDIATE",)
    snapshot = "BEGIN"

    def __init__(self, *, full: bool) -> None:
        self._synchronous = "FULL" if full else "NORMAL"

    def prepare(self, connection: Connection) -> None:
        """Have a log beside the file (WAL) of 16 MB, and as much of pages in memory."""
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql(f"PRAGMA synchronous={self._synchronous}")
        connection.exec_driver_sql("PRAGMA cache_size=-16384")
        connection.exec_driver_sql("PRAGMA wal_autocheckpoint=4000")

    def shred(self, connection: Connection) -> None:
        """Have what this connection deletes overwritten in the file."""
        connection.exec_driver_sql("PRAGMA secure_delete=ON")

    def tidy(self, connection: Connection) -> None:
        """Empty the log, which has older states of the file's pages."""
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def insert(self, cursor: DBAPICursor, rows: Sequence[Row]) -> list[Row]:
        """Insert rows of calls, each of another id, and return those that are new."""
        cursor.execute(_KNOWN, (json.dumps([row["id"] for row in rows]),))
        known = {one for (one,) in cursor.fetchall()}
        new = [row for row in rows if row["id"] not in known]
        _put(cursor, "INSERT INTO calls", new)
        return new

    def merge(self, cursor: DBAPICursor, cells: Cells) -> None:
        """Add cells to the table of roll-ups."""
        cursor.execute(_FOUND, (json.dumps(list(cells)),))
        before = known_rows(cursor.fetchall())
        rows = [cells[key].row(key, before.get(key)) for key in sorted(cells)]
        _put(cursor, "INSERT OR REPLACE INTO rollups", rows)


def _put(cursor: DBAPICursor, verb: str, rows: Sequence[Row]) -> None:
    """Insert rows, those of the same columns with one statement."""
    alike: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        alike.setdefault(tuple(row), []).append(tuple(row.values()))
    for names, values in alike.items():
        marks = ", ".join("?" * len(names))
        cursor.executemany(f"{verb} ({', '.join(names)}) VALUES ({marks})", values)


_KNOWN = "SELECT id FROM calls WHERE id IN (SELECT value FROM json_each(?))"

_FOUND = f"""
    SELECT {", ".join(f"rollups.{name}" for name in COLUMN_NAMES)}
    FROM json_each(?) AS sought CROSS JOIN rollups
    ON rollups.dimension = json_extract(sought.value, '$[0]')
    AND rollups.day = json_extract(sought.value, '$[1]')
    AND rollups.value = json_extract(sought.value, '$[2]')
"""  # noqa: S608  # of constants
