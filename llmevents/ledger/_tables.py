"""The tables and views of a ledger in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeEngine

from llmevents.ledger._schema import (
    COLUMNS,
    IDENTITY,
    NUMBERS,
    SCHEMA_VERSION,
    TASK_EVENT,
    Kind,
)


METADATA = MetaData()


class SortedText(Text):
    """Text that sorts by its code points everywhere, as times do."""


@compiles(SortedText, "postgresql")
def _sorted_text(*_: object, **__: object) -> str:
    return 'TEXT COLLATE "C"'


TEXT = SortedText()

TYPES: dict[Kind, TypeEngine[Any]] = {
    "text": TEXT,
    "timestamp": TEXT,
    "texts": TEXT,
    "object": TEXT,
    "integer": BigInteger(),
    "number": Double(),
    "boolean": Boolean(),
}
"""Kind of a column -> its type. Lists and metadata are JSON text."""

REQUIRED = frozenset(column.name for column in IDENTITY[:5])
"""Every record has these."""

calls = Table(
    "calls",
    METADATA,
    *(
        Column(
            column.name,
            TYPES[column.kind],
            primary_key=column.name == "id",
            nullable=column.name not in REQUIRED,
            autoincrement=False,
            comment=column.description,
        )
        for column in COLUMNS
    ),
)
"""One row for each record."""

DIMENSIONS: tuple[str, ...] = (
    "total",
    "model",
    "provider",
    "operation",
    "use_case",
    "status",
    "event",
    "organization_id",
    "user_id",
    "source_id",
)
"""What calls are rolled up by. ``total`` has one value, the empty one.

Sessions and tasks are of a few calls each: rolled up, they would be nearly as many rows
again, written with each call, where their index finds the calls as fast.
"""

INDEXED = ("user_id", "session_id", "task_id", "source_id", "organization_id")
"""What records are asked for by, beside the time.

Their indexes have the event too: how many values calls have, without tasks, is counted
there, and no record is looked up.
"""

STATUSES: dict[str, str] = {
    "success": "successes",
    "error": "errors",
    "timeout": "timeouts",
    "cancelled": "cancelled",
}
"""Status of a record -> the column of roll-ups that counts it."""

KNOWN: dict[str, str] = {
    "duration_ns": "duration_count",
    "time_to_first_chunk_ns": "time_to_first_chunk_count",
    "cost_nano_usd": "cost_count",
}
"""Column of a record -> the column of roll-ups that counts who states it."""

KEY = ("dimension", "day", "value")

COUNTS: tuple[str, ...] = ("calls", *STATUSES.values(), *KNOWN.values())

STATED: tuple[str, ...] = tuple(column.name for column in NUMBERS)
"""What calls state, and roll-ups add up under the same names."""

RATED: dict[str, str] = {
    "rated_output_tokens": "output_tokens",
    "rated_duration_ns": "duration_ns",
}
"""Sum of those calls alone that state both of these -> what of them is added up."""

SUMS: tuple[str, ...] = (*STATED, *RATED)

rollups = Table(
    "rollups",
    METADATA,
    *(Column(name, TEXT, primary_key=True, nullable=False) for name in KEY),
    *(Column(name, BigInteger, nullable=False, autoincrement=False) for name in COUNTS),
    *(Column(name, BigInteger, autoincrement=False) for name in SUMS),
    Column("duration_sketch", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""What the calls of a UTC day with one value of a dimension come to.

The value of calls that state none is empty. A sum is null if no call states the
number, and 2**63 - 1 if it is at least that. `llmevents.ledger._rollups.add_sketch`
reads ``duration_sketch``. Ordered by day, they answer for all values of some days; of
one source the records themselves tell as fast, by their index.
"""

ledger_schema = Table(
    "ledger_schema",
    METADATA,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
)
"""One row: the version of all these tables."""


def _index(name: str) -> None:
    known = calls.c[name].is_not(None)
    Index(
        f"calls_{name}",
        calls.c[name],
        calls.c.timestamp,
        calls.c.event,
        sqlite_where=known,
        postgresql_where=known,
    )


Index("calls_timestamp", calls.c.timestamp)
for _name in INDEXED:
    _index(_name)
FAILED: ColumnElement[bool] = calls.c.status != text("'success'")
"""Which calls have an index of their own; a question states it in the same words."""

NEWER: ColumnElement[bool] = calls.c.schema_version > text(str(SCHEMA_VERSION))
"""Likewise: records that this version does not know."""

for _name, _column, _which in (
    ("calls_failed", calls.c.timestamp, FAILED),
    ("calls_newer", calls.c.schema_version, NEWER),
):
    Index(_name, _column, sqlite_where=_which, postgresql_where=_which)

_MOMENTS = {
    "sqlite": "replace(substr(\"timestamp\", 1, 26), 'T', ' ')",
    "postgresql": "(\"timestamp\"::timestamptz AT TIME ZONE 'UTC')",
}
"""How a timestamp is written where a column is a DATETIME: in UTC."""


def _float(integer: str, divisor: str) -> str:
    return f"CAST({integer} AS DOUBLE PRECISION) / {divisor}"


def views(dialect: str) -> tuple[str, ...]:
    """Return the statements that create the views.

    ``llm_usage`` and ``task_metrics`` have the columns of the tables of the same
    names in a common layout: tokens as prompt and completion, money in US dollars,
    times in milliseconds. A call without a model has the empty one there. A task has
    two metrics, ``duration_seconds`` and ``success``, which is 1 or 0.
    """
    moment = _MOMENTS[dialect]
    metric = f"""
        SELECT id || ':{{name}}' AS id, task_id, '{{name}}' AS metric_name,
            {{value}} AS metric_value, {moment} AS "timestamp"
        FROM calls WHERE event = '{TASK_EVENT}'"""  # noqa: S608  # of constants
    seconds = metric.format(name="duration_seconds", value=_float("duration_ns", "1e9"))
    success = _float("CASE WHEN status = 'success' THEN 1 ELSE 0 END", "1")
    return (
        f"""CREATE VIEW llm_usage AS
        SELECT id, task_id, user_id, COALESCE(model, response_model, '') AS model,
            input_tokens AS prompt_tokens, output_tokens AS completion_tokens,
            total_tokens, {_float("cost_nano_usd", "1e9")} AS cost_usd,
            {_float("duration_ns", "1e6")} AS latency_ms, status, error_message,
            {moment} AS "timestamp"
        FROM calls WHERE event <> '{TASK_EVENT}'""",  # noqa: S608  # of constants
        f"""CREATE VIEW task_metrics AS {seconds} AND duration_ns IS NOT NULL
        UNION ALL {metric.format(name="success", value=success)}""",
    )
