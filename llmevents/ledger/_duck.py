"""Answers from files of JSON lines, by DuckDB."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any

from llmevents._options import check_count
from llmevents.ledger._duck_each import Copies, copies
from llmevents.ledger._duck_table import (
    ATTEMPTS,
    Table,
    bytes_of,
    fetched,
    restless,
    words,
)
from llmevents.ledger._files import BROKEN, lines_at
from llmevents.ledger._query import (
    ALL,
    DAY,
    FAILED,
    GROUPINGS,
    SUMS,
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
from llmevents.ledger._record import Record, decode
from llmevents.ledger._schema import TASK_EVENT
from llmevents.metrics._histogram import (
    HIGHEST,
    LOWEST,
    OFFSET,
    STEPS,
    ExponentialHistogram,
)


MEMORY = 1 << 29
"""Bytes that DuckDB may use; what is beyond goes to a temporary file."""

THREADS = 4
"""More would read no faster than most disks do."""


class JsonlEngine:
    """Answers questions about a file of records, and what was set aside of it.

    Only the fields that are asked for are read, once, into a temporary database, from
    which further questions are answered until a file has changed. It goes to the disk
    where it would take more than *memory*. Damaged lines are left out and told of, see
    `damage`; so is a last line without an end, which somebody may be writing, unless
    it is whole. A file that does not exist is one without records.

    For any number of threads, one at a time.

    Args:
        path: The file, also one that was set aside, packed or not.
        memory: Bytes that DuckDB may use at most.
        threads: Of DuckDB; None: one for each processor, at most 4.

    Raises:
        OptionError: *memory* or *threads* is below 1.
        ImportError: DuckDB is not installed; with the first question.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        memory: int = MEMORY,
        threads: int | None = None,
    ) -> None:
        if threads is None:
            threads = min(os.cpu_count() or 1, THREADS)
        self._lock = Lock()
        self._table = Table(
            Path(os.path.abspath(path)),
            memory=check_count(memory, "memory"),
            threads=check_count(threads, "threads"),
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self._table.path

    def summary(self, where: Filter = ALL) -> Totals:
        """Return what all calls come to."""
        with self._turn():
            groups = self._totals("encode('')", where, "", None)
            return groups[0].totals if groups else Totals()

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
        column = GROUPINGS[grouping]
        key = f"encode(left(timestamp, {DAY}))" if grouping == "day" else column
        by_key = "key ASC NULLS LAST"
        by = by_key if order == "key" else f"t_{order} DESC NULLS LAST, {by_key}"
        with self._turn():
            return self._totals(key, where, by, _limited(limit), column)

    def errors(self, where: Filter = ALL, *, limit: int | None = None) -> list[Failure]:
        """Return how many calls failed in which way; the most frequent first."""
        failed = ", ".join(f"encode('{status}')" for status in FAILED)
        columns = ("provider", "operation", "error_type", "http_status")
        names = ", ".join(columns)
        order = ", ".join(f"{name} ASC NULLS LAST" for name in columns)
        with self._turn():
            rows = self._rows(
                f"{names}, count(*) AS calls",
                where,
                {*columns, "status"},
                meant=f"status IN ({failed})",
                rest=f"GROUP BY {names} ORDER BY calls DESC, {order}",
                limit=_limited(limit),
            )
        return [Failure._make((*map(_text, row[:3]), *row[3:])) for row in rows]

    def unique(self, where: Filter = ALL) -> Unique:
        """Return how many users, sessions, ... there are."""
        counts = ", ".join(f"count(DISTINCT {name})" for name in UNIQUE)
        with self._turn():
            (row,) = self._rows(counts, where, UNIQUE)
        return Unique(*row)

    def sessions(
        self, where: Filter = ALL, *, limit: int | None = None
    ) -> list[Session]:
        """Return the sessions, the one with the latest call first."""
        sums = ("calls", "failures", "total_tokens", "cost_nano_usd")
        selected = (
            "session_id",
            *(_TOTALS[name] for name in sums),
            "min(timestamp)",
            "max(timestamp) AS latest",
            _different("provider"),
            _different("model"),
        )
        order = "ORDER BY latest DESC NULLS LAST, session_id ASC"
        with self._turn():
            rows = self._rows(
                ", ".join(selected),
                where,
                {"session_id", "timestamp", "status", "provider", "model", *sums[2:]},
                meant="session_id IS NOT NULL",
                rest=f"GROUP BY session_id {order}",
                limit=_limited(limit),
            )
        return [
            Session._make((_text(row[0]), *row[1:7], *map(_texts, row[7:])))
            for row in rows
        ]

    def records(self, where: Filter = ALL, *, limit: int = 100) -> list[Record]:
        """Return the records, the latest first, and the greater id of equal ones."""
        check_count(limit, "limit")
        order = "ORDER BY timestamp DESC NULLS LAST, id DESC"
        with self._turn():
            for _ in range(ATTEMPTS):
                found = self._rows(
                    "rowid",
                    where,
                    {"timestamp"},
                    rest=order,
                    limit=limit,
                    in_order=True,
                )
                with suppress(FileNotFoundError):
                    records = self._records_at(row[0] for row in found)
                    if self._table.is_current():
                        return [records[row[0]] for row in found if row[0] in records]
        raise restless(self.path)

    def each(self, where: Filter = ALL) -> Iterator[Record]:
        """Yield every record that is meant, in the opposite order: the oldest first.

        They are copied first, to a temporary file that is as large as they are.
        """
        with copies() as lines:
            with self._turn():
                self._copy(where, lines)
            yield from filter(None, map(decode, lines))

    def damage(self) -> Damage:
        """Return what could not be read of the files as they are now."""
        with self._turn():
            self._table.load(())
            return self._table.damage

    def close(self) -> None:
        """Delete the temporary database; it is made anew for the next question."""
        with self._lock:
            self._table.forget()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Take the turn of one question. What DuckDB cannot do is the file's error."""
        try:
            import duckdb
        except ModuleNotFoundError as error:
            msg = (
                f"questions to a file of records need {error.name!r}, which is not "
                'installed; run: pip install "llmevents[ledger]"'
            )
            raise ModuleNotFoundError(msg, name=error.name) from error
        with self._lock:
            try:
                yield
            except (duckdb.Error, *BROKEN) as error:
                msg = f"{self.path} cannot be read: {str(error).splitlines()[0]}"
                raise OSError(msg) from error

    def _rows(
        self,
        select: str,
        where: Filter,
        columns: Collection[str],
        *,
        meant: str = "true",
        rest: str = "",
        limit: int | None = None,
        in_order: bool = False,
    ) -> list[tuple[Any, ...]]:
        """Return what a query finds that looks at *columns*."""
        condition, values = _condition(where)
        needed = {*columns, *_filtered(where)}
        connection = self._table.load(needed, in_order=in_order)
        query = words(
            "SELECT", select, "FROM records WHERE", condition, "AND", meant, rest
        )
        found = connection.execute(f"{query} LIMIT ?", [*values, limit])
        return list(fetched(found))

    def _totals(
        self, key: str, where: Filter, order: str, limit: int | None, column: str = ""
    ) -> list[Group]:
        """Return the calls of each *key*, an expression, in the *order* of one."""
        meant, values = _condition(where)
        needed = {"status", "duration_ns", *SUMS, *_filtered(where)}
        connection = self._table.load(needed | ({column} if column else set()))
        connection.execute(
            words(
                "CREATE OR REPLACE TEMP TABLE chosen AS SELECT",
                ", ".join(
                    (f"{key} AS key", *(f"{_TOTALS[n]} AS t_{n}" for n in _TOTALS))
                ),
                f"FROM records WHERE {meant} GROUP BY 1",
                f"ORDER BY {order} LIMIT ?" if order else "LIMIT ?",
            ),
            [*values, limit],
        )
        buckets = connection.execute(
            words(
                "SELECT key, list(bucket), list(number) FROM (SELECT chosen.key AS key,",
                _BUCKET,
                "AS bucket, count(*) AS number FROM records JOIN",
                f"chosen ON chosen.key IS NOT DISTINCT FROM {key} WHERE",
                f"{meant} AND duration_ns IS NOT NULL GROUP BY ALL) GROUP BY key",
            ),
            values,
        )
        histograms = {
            key_of_group: dict(zip(keys, counts, strict=True))
            for key_of_group, keys, counts in fetched(buckets)
        }
        rows = connection.execute(f"FROM chosen ORDER BY {order or 'key'}")
        return [
            _group(key_of_group, row, histograms.pop(key_of_group, {}))
            for key_of_group, *row in fetched(rows)
        ]

    def _copy(self, where: Filter, lines: Copies) -> None:
        """Copy the lines that are meant, with their ranks by moment and id."""
        condition, values = _condition(where)
        query = words(
            "SELECT rowid, row_number() OVER",
            "(ORDER BY timestamp ASC NULLS FIRST, id ASC) - 1",
            "FROM records WHERE",
            condition,
            "ORDER BY rowid",
        )
        for _ in range(ATTEMPTS):
            needed = {"timestamp", *_filtered(where)}
            connection = self._table.load(needed, in_order=True)
            with suppress(FileNotFoundError):
                ranks = fetched(connection.execute(query, values))
                lines.fill(self._table.texts, ((row[0], row[1]) for row in ranks))
                if self._table.is_current():
                    return
        raise restless(self.path)

    def _records_at(self, places: Iterable[int]) -> dict[int, Record]:
        """Return the records of some lines, without what DuckDB alone can read."""
        lines = lines_at(self._table.texts, sorted(places))
        decoded = ((place, decode(line)) for place, _, line in lines)
        return {place: record for place, record in decoded if record is not None}


def _limited(limit: int | None) -> int | None:
    return None if limit is None else check_count(limit, "limit")


def _text(value: bytes | None) -> Any:  # noqa: ANN401  # as absent as the value
    return None if value is None else value.decode("utf-8", "surrogatepass")


def _texts(values: Iterable[bytes] | None) -> tuple[str, ...]:
    return tuple(_text(value) for value in sorted(values or ()))


def _different(column: str) -> str:
    return f"list(DISTINCT {column}) FILTER (WHERE {column} IS NOT NULL)"


def _status(*statuses: str) -> str:
    among = ", ".join(f"encode('{status}')" for status in statuses)
    return f"count(*) FILTER (WHERE status IN ({among}))"


_RATED = "output_tokens IS NOT NULL AND duration_ns IS NOT NULL"

_TOTALS: dict[str, str] = {
    "calls": "count(*)",
    "successes": _status("success"),
    "failures": _status(*FAILED),
    "timeouts": _status("timeout"),
    "cancelled": _status("cancelled"),
    "priced": "count(cost_nano_usd)",
    **{name: f"sum({name})" for name in SUMS},
    "duration_ns": "sum(duration_ns)",
    "rated_output_tokens": f"sum(output_tokens) FILTER (WHERE {_RATED})",
    "rated_duration_ns": f"sum(duration_ns) FILTER (WHERE {_RATED})",
}
"""Field of `Totals`, and the sum of durations -> how it is worked out."""

_BUCKET = (
    f"CASE WHEN duration_ns = 0 THEN 0 ELSE greatest({LOWEST}, least({HIGHEST}, "
    f"ceil(log2(duration_ns) * {STEPS})::INTEGER)) + {OFFSET} END"
)
"""As `key_of` works it out."""


def _group(key: bytes | None, row: Sequence[Any], counts: dict[int, int]) -> Group:
    numbers = dict(zip(_TOTALS, row, strict=True))
    durations = ExponentialHistogram(counts, numbers.pop("duration_ns") or 0)
    for name in ("rated_output_tokens", "rated_duration_ns"):
        numbers[name] = numbers[name] or 0
    return Group(_text(key), Totals(durations=durations, **numbers))


def _filtered(where: Filter) -> set[str]:
    """Return the columns that the filter looks at."""
    times = {"timestamp"} if where.window != (None, None) else set()
    return {"event", *where.matches, *times}


def _condition(where: Filter) -> tuple[str, list[object]]:
    """Return what SQL is to look for, and the values of its parameters."""
    conditions, values = ["id IS NOT NULL"], list[object]()
    if where.event is None:
        conditions.append("event IS DISTINCT FROM ?")
        values.append(bytes_of(TASK_EVENT))
    for column, text in where.matches.items():
        conditions.append(f"{column} = ?")
        values.append(bytes_of(text))
    for sign, moment in zip((">=", "<"), where.window, strict=True):
        if moment is not None:
            conditions.append(f"timestamp {sign} ?")
            values.append(moment)
    return " AND ".join(conditions), values
