"""A ledger in a database of PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from llmevents.ledger._rollups import COLUMN_NAMES, Cells, known_rows
from llmevents.ledger._rows import NAMES, Row
from llmevents.ledger._tables import KEY


LOCK = 0x6C6C_6D65_7665_6E74
"""Of the transaction that writes ("llmevent"): all of them change the roll-up of the
whole day, so that they could not run beside each other anyway, but could deadlock."""

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Whatever the default is: who has waited for a lock has to see what was written."""

CHUNK = 5_000
"""Rows in one statement."""


class PostgreSQL:
    """What is particular to PostgreSQL.

    Rows go over as one parameter, a document of JSON, which takes one statement for
    any number of them and one round trip.
    """

    begin: tuple[str, ...] = (BEGIN, f"SELECT pg_advisory_xact_lock({LOCK})")
    snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def prepare(self, connection: Connection) -> None:
        """Make no settings: the defaults of the server are what is wanted."""

    def shred(self, connection: Connection) -> None:
        """Leave it to the server's VACUUM to overwrite what is deleted."""

    def tidy(self, connection: Connection) -> None:
        """Leave it to the server."""

    def insert(self, cursor: DBAPICursor, rows: Sequence[Row]) -> list[Row]:
        """Insert rows of calls, each of another id, and return those that are new."""
        new: set[str] = set()
        for chunk in _chunks(rows):
            cursor.execute(_INSERT, (_document(chunk),))
            new.update(one for (one,) in cursor.fetchall())
        return [row for row in rows if row["id"] in new]

    def merge(self, cursor: DBAPICursor, cells: Cells) -> None:
        """Add cells to the table of roll-ups."""
        cursor.execute(_FOUND, [list(part) for part in zip(*cells, strict=True)])
        before = known_rows(cursor.fetchall())
        rows = [cells[key].row(key, before.get(key)) for key in sorted(cells)]
        for chunk in _chunks(rows):
            cursor.execute(_UPSERT, (_document(chunk),))


def _chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _document(rows: Sequence[Row]) -> str:
    return json.dumps(rows, default=_bytea, ensure_ascii=False)


def _bytea(value: Any) -> str:  # noqa: ANN401  # bytes; whatever else has no hex()
    return f"\\x{value.hex()}"


def _insert(table: str, names: Sequence[str]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f"""
        INSERT INTO {table} ({columns})
        SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s::json)
    """  # noqa: S608  # of constants


_INSERT = f"{_insert('calls', NAMES)} ON CONFLICT (id) DO NOTHING RETURNING id"

_FOUND = f"""
    SELECT {", ".join(COLUMN_NAMES)} FROM rollups
    JOIN unnest(%s::text[], %s::text[], %s::text[]) AS sought (dimension, day, value)
    USING (dimension, day, value)
"""  # noqa: S608  # of constants

_UPSERT = f"""
    {_insert("rollups", COLUMN_NAMES)}
    ON CONFLICT (dimension, day, value) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in COLUMN_NAMES[len(KEY) :])}
"""
