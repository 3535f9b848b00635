"""Deleting records so that roll-ups stay exact.

Each day is done in a transaction of its own: its records are deleted, and its roll-ups
deleted with them, or made anew from the records that stay. So roll-ups and records
agree at every moment, and what was interrupted can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import date, datetime, time, timezone
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select

from llmevents._errors import OptionError
from llmevents.ledger._database import Database
from llmevents.ledger._rollups import USED, Cells, roll_up
from llmevents.ledger._rows import Row, key
from llmevents.ledger._tables import calls, rollups


Alone: TypeAlias = Callable[[], AbstractContextManager[object]]
"""Keeps the other threads of a store from writing."""

CHUNK = 5_000
"""Rows that are read at once."""

_day = func.substr(calls.c.timestamp, 1, 10)

_AFTER = "~"
"""Sorts after whatever a timestamp goes on with behind its day."""


def moment(before: datetime | date | str) -> str:
    """Return a moment as records state theirs.

    Raises:
        OptionError: *before* is no moment, or one without a time zone.
    """
    expected = "a day, a moment with a time zone, or ISO 8601 text of either"
    parsed: object = before
    if isinstance(before, str):
        parsed = _parsed(before)
    if isinstance(parsed, date) and not isinstance(parsed, datetime):
        parsed = datetime.combine(parsed, time(), timezone.utc)
    if not isinstance(parsed, datetime) or parsed.tzinfo is None:
        raise OptionError(before, "before", expected)
    utc = parsed.astimezone(timezone.utc)
    return f"{utc.year:04d}-{utc:%m-%dT%H:%M:%S.%f}Z"


def _parsed(text: str) -> date | None:
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            # Before Python 3.11 it does not know the letter.
            return parse(text.removesuffix("Z") + "+00:00" * text.endswith("Z"))
        except ValueError:
            continue
    return None


def prune(database: Database, alone: Alone, before: str) -> int:
    """Delete all records of before a moment; return how many."""
    return _delete(database, alone, calls.c.timestamp < before)


def delete_user(database: Database, alone: Alone, user_id: str) -> int:
    """Delete all records of a user; return how many."""
    deleted = _delete(database, alone, calls.c.user_id == key(user_id))
    with alone(), _connected(database) as connection:
        database.kind.tidy(connection)
    return deleted


def _delete(database: Database, alone: Alone, which: ColumnElement[bool]) -> int:
    deleted = 0
    with alone(), _connected(database) as connection:
        days = list(connection.scalars(select(_day).where(which).distinct()))
    for day in sorted(days):
        with alone(), _connected(database) as connection, database.writing(connection):
            deleted += _delete_of_day(database, connection, day, which)
    return deleted


@contextmanager
def _connected(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        database.kind.shred(connection)
        yield connection


def _delete_of_day(
    database: Database, connection: Connection, day: str, which: ColumnElement[bool]
) -> int:
    of_day = calls.c.timestamp.between(day, day + _AFTER)
    deleted = connection.execute(delete(calls).where(and_(of_day, which))).rowcount
    connection.execute(delete(rollups).where(rollups.c.day == day))
    rest = select(*(calls.c[name] for name in USED)).where(of_day)
    cells: Cells = {}
    with connection.execute(rest.execution_options(yield_per=CHUNK)) as result:
        for rows in result.partitions():
            roll_up(map(_row, rows), cells)
    if cells:
        with closing(connection.connection.cursor()) as cursor:
            database.kind.merge(cursor, cells)
    return deleted


def _row(values: Sequence[Any]) -> Row:
    return {n: v for n, v in zip(USED, values, strict=True) if v is not None}
