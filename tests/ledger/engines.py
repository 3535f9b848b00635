"""One ledger of each kind, to be filled with records and asked about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import delete

from llmevents.ledger import Record, encode
from llmevents.ledger._query import ALL, GROUPINGS, Engine, Filter, Grouping, Order
from llmevents.ledger._sql import SqlStore
from llmevents.ledger._sql_query import SqlEngine
from llmevents.ledger._tables import calls, rollups
from tests.ledger.plain_engine import PlainEngine
from tests.ledger.sqlstores import needed_server


class Ledger(Protocol):
    """A store with an engine."""

    def fill(self, records: Sequence[Record]) -> Engine:
        """Let it have these records and no others; return what answers."""


class Plain:
    """A list of records."""

    def fill(self, records: Sequence[Record]) -> Engine:
        return PlainEngine(records)


class Jsonl:
    """A file of records."""

    def __init__(self, path: Path) -> None:
        pytest.importorskip("duckdb", reason="needs DuckDB")
        from llmevents.ledger._duck import JsonlEngine

        self.path = path
        self.engine = JsonlEngine(path, threads=1)

    def fill(self, records: Sequence[Record]) -> Engine:
        self.path.write_bytes(b"".join(map(encode, records)))
        return self.engine


class Sql:
    """A database of records."""

    def __init__(self, url: str) -> None:
        self.store = SqlStore(url)
        self.engine = SqlEngine(url)

    def fill(self, records: Sequence[Record]) -> Engine:
        database = self.store._database
        with database.connect() as connection, database.writing(connection):
            connection.execute(delete(calls))
            connection.execute(delete(rollups))
        # In two batches, so that roll-ups are added to.
        middle = len(records) // 2
        self.store.add(*records[:middle])
        self.store.add(*records[middle:])
        return self.engine


@contextmanager
def ledger(kind: str, directory: Path) -> Iterator[Ledger]:
    """Give an empty ledger; skip the test if one cannot be had here."""
    if kind == "plain":
        yield Plain()
    elif kind == "jsonl":
        file = Jsonl(directory / "calls.jsonl")
        yield file
        file.engine.close()
    elif kind == "sqlite":
        yield from _closing(Sql(f"sqlite:///{directory}/usage.db"))
    else:
        with needed_server() as running:
            yield from _closing(Sql(running.new_url()))


def _closing(database: Sql) -> Iterator[Ledger]:
    yield database
    database.store.close()
    database.engine.close()


def assert_equal_answers(
    engine: Engine,
    plain: Engine,
    where: Filter = ALL,
    *,
    groupings: Iterable[Grouping] = GROUPINGS,
    order: Order = "cost_nano_usd",
    limit: int | None = None,
) -> None:
    """Check that two engines give the same answers."""
    assert engine.summary(where) == plain.summary(where)
    for grouping in groupings:
        expected = plain.by(grouping, where, order=order, limit=limit)
        assert engine.by(grouping, where, order=order, limit=limit) == expected
    assert engine.errors(where, limit=limit) == plain.errors(where, limit=limit)
    assert engine.unique(where) == plain.unique(where)
    assert engine.sessions(where, limit=limit) == plain.sessions(where, limit=limit)
    most = limit or 100
    assert engine.records(where, limit=most) == plain.records(where, limit=most)
    assert list(engine.each(where)) == list(plain.each(where))
