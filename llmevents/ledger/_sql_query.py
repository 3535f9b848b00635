"""Answers from a database of `SqlStore`, by SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Executable,
    and_,
    false,
    func,
    select,
    text,
    union,
)

from llmevents._options import check_count
from llmevents.ledger._query import (
    ALL,
    FAILED,
    UNIQUE,
    Damage,
    Failure,
    Filter,
    Group,
    Grouping,
    Order,
    Session,
    Totals,
    Unique,
    check_choice,
)
from llmevents.ledger._record import Record
from llmevents.ledger._rows import NAMES, record_of_row
from llmevents.ledger._sql_parts import (
    COUNTED,
    meant,
    of_days,
    parts,
    rolled_up_as,
    split,
    stated,
)
from llmevents.ledger._sql_reading import Source
from llmevents.ledger._sql_totals import FEW, by, exact, rows_of, summary
from llmevents.ledger._tables import DIMENSIONS, calls, rollups
from llmevents.ledger._tables import FAILED as NOT_SUCCESSFUL


class SqlEngine:
    """Answers questions about a database of records; it changes nothing there.

    Roll-ups answer what they can: what all calls, or those of one model, one user, ...
    come to, or those of each, over all time or a window; of a window's first and last
    day, if they are meant in part, the records tell. Other questions go to the
    records.

    Texts are as the database keeps them: without NUL and lone surrogates, and those
    that are grouped by are cut beyond 400 characters. A filter's are taken alike.

    For any number of threads and processes; but a fork in the middle of a question by
    another thread may leave SQLite unusable in the child. Each question has a
    connection of its own and sees one state of the database. One that has no tables
    yet has no records.

    Args:
        url: ``sqlite:///usage.db`` or ``postgresql://user@host/name``.

    Raises:
        OptionError: *url* is none, or of another kind of database.
        FileNotFoundError: There is no such file; with each question.
        NewerLedgerError: The database is of a later version of llmevents; likewise.
        OSError: It cannot be reached or read; likewise.
    """

    def __init__(self, url: str | URL) -> None:
        self._source = Source(url)

    def __repr__(self) -> str:
        return f"SqlEngine({self._source.url.render_as_string()!r})"

    @property
    def url(self) -> URL:
        """The database."""
        return self._source.url

    def summary(self, where: Filter = ALL) -> Totals:
        """Return what all calls come to."""
        with self._source.reading() as connection:
            return summary(connection, parts(connection, None, where))

    def by(
        self,
        grouping: Grouping,
        where: Filter = ALL,
        *,
        order: Order = "cost_nano_usd",
        limit: int | None = None,
    ) -> list[Group]:
        """Return what the calls of each group come to; at most *limit* groups."""
        check_choice(grouping, "grouping", Grouping)
        check_choice(order, "order", Order)
        most = _limited(limit)
        with self._source.reading() as connection:
            return by(connection, parts(connection, grouping, where), order, most)

    def errors(self, where: Filter = ALL, *, limit: int | None = None) -> list[Failure]:
        """Return how many calls failed in which way; the most frequent first."""
        most = _limited(limit)
        with self._source.reading() as connection:
            found = rows_of(connection, failures_of(where))
            failures = [Failure._make(row) for row in found]
        failures.sort(key=lambda one: (-one.calls, *map(_unknown_last, one[:4])))
        return failures[:most]

    def unique(self, where: Filter = ALL) -> Unique:
        """Return how many users, sessions, ... there are."""
        with self._source.reading() as connection:
            if not where.matches:
                return Unique(
                    *(
                        connection.execute(_values(n, where)).scalar_one()
                        for n in UNIQUE
                    )
                )
            counted = (func.count(stated(name).distinct()) for name in UNIQUE)
            row = connection.execute(select(*counted).where(_meant(where))).one()
            return Unique._make(row)

    def sessions(
        self, where: Filter = ALL, *, limit: int | None = None
    ) -> list[Session]:
        """Return the sessions, the one with the latest call first."""
        most = _limited(limit)
        condition = and_(_meant(where), calls.c.session_id != "")
        with self._source.reading() as connection:
            if most is not None and most <= FEW:
                latest = _latest(connection, condition, most)
                condition = and_(condition, calls.c.session_id.in_(latest))
            sessions = _sessions(connection, condition)
        sessions.sort(key=lambda one: one.session)
        sessions.sort(key=lambda one: one.last or "", reverse=True)
        return sessions[:most]

    def records(self, where: Filter = ALL, *, limit: int = 100) -> list[Record]:
        """Return the records, the latest first, and the greater id of equal ones."""
        asked = _records(where).order_by(calls.c.timestamp.desc(), calls.c.id.desc())
        asked = asked.limit(check_count(limit, "limit"))
        with self._source.reading() as connection:
            return [record_of_row(row) for row in rows_of(connection, asked)]

    def each(self, where: Filter = ALL) -> Iterator[Record]:
        """Yield the records, the oldest first, and the lesser id of equal ones.

        They are those of the moment when the first one is asked for, a few at a time
        in memory. Until the last one is taken, or the iterator closed, it has a
        connection of its own.
        """
        asked = _records(where).order_by(calls.c.timestamp, calls.c.id)
        with self._source.reading() as connection:
            yield from map(record_of_row, rows_of(connection, asked))

    def damage(self) -> Damage:
        """Return that there is none: a database says itself if it is damaged."""
        with self._source.reading():
            return Damage()

    def close(self) -> None:
        """Do nothing: between questions there is nothing to be released."""


def _limited(limit: int | None) -> int | None:
    return None if limit is None else check_count(limit, "limit")


def _unknown_last(value: str | int | None) -> tuple[bool, str | int]:
    return value is None, "" if value is None else value


def _meant(where: Filter) -> ColumnElement[bool]:
    return meant(where, where.window)


def _records(where: Filter) -> Any:  # noqa: ANN401  # a select of all columns
    return select(*(calls.c[name] for name in NAMES)).where(_meant(where))


def failures_of(where: Filter) -> Any:  # noqa: ANN401  # a select of five columns
    """Return the question how many calls failed in which way."""
    names = ("provider", "operation", "error_type")
    asked = select(*map(stated, names), calls.c.http_status, func.count())
    asked = asked.where(_meant(where), NOT_SUCCESSFUL, calls.c.status.in_(FAILED))
    return asked.group_by(*map(text, "1234"))


def _values(name: str, where: Filter) -> Executable:
    """Return the question how many values of a column calls have in a window."""
    kept = calls.c[name]
    if name not in DIMENSIONS:
        # By the order of the index; count(DISTINCT ...) would sort them once more.
        ordered = select(kept).where(_meant(where), kept != "").distinct()
        return select(func.count()).select_from(ordered.subquery())
    days, rest = split(where.window)
    found = [select(kept).where(meant(where, window), kept != "") for window in rest]
    if days is not None:
        rolled_up = select(rollups.c.value)
        rolled_up = rolled_up.where(rolled_up_as(name), of_days(days))
        found.append(rolled_up.where(rollups.c.value != ""))
    nothing = select(kept).where(false())
    values = union(nothing, *found).subquery()
    return select(func.count()).select_from(values)


def _latest(
    connection: Connection, condition: ColumnElement[bool], limit: int
) -> Collection[str]:
    """Return the sessions with the latest calls, which the index of times finds."""
    session, timestamp = calls.c.session_id, calls.c.timestamp
    asked = select(session).where(condition).order_by(timestamp.desc(), session)
    found: set[str] = set()
    for (one,) in rows_of(connection, asked):
        found.add(one)
        if len(found) == limit:
            break
    return found


def _sessions(connection: Connection, condition: ColumnElement[bool]) -> list[Session]:
    session = calls.c.session_id
    moments = (func.min(calls.c.timestamp), func.max(calls.c.timestamp))
    counts = [COUNTED[name] for name in ("calls", "errors", "timeouts")]

    def ask(sums: Sequence[ColumnElement[Any]]) -> Executable:
        asked = select(session, *moments, *counts, *sums).where(condition)
        return asked.group_by(session)

    known: dict[str, tuple[set[str], set[str]]] = {}
    asked = select(session, stated("provider"), stated("model")).where(condition)
    for one, *asked_for in rows_of(connection, asked.distinct()):
        for names, name in zip(
            known.setdefault(one, (set(), set())), asked_for, strict=True
        ):
            if name is not None:
                names.add(name)
    return [
        Session(
            session=one,
            calls=count,
            failures=errors + timeouts,
            total_tokens=tokens,
            cost_nano_usd=cost,
            first=first,
            last=last,
            providers=tuple(sorted(known[one][0])),
            models=tuple(sorted(known[one][1])),
        )
        for one, first, last, count, errors, timeouts, tokens, cost in exact(
            connection, ask, [calls.c.total_tokens, calls.c.cost_nano_usd]
        )
    ]
