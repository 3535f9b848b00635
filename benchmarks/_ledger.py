"""What a record costs in the ledger, against plain writes of the same."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._suites import Suite
from benchmarks._timing import Candidate, Claim


EVENT = ("llm", "chat", "stop")
MEASUREMENTS = {
    "duration": 1_234_567_890,
    "monotonic_time": 1,
    "input_tokens": 1_200,
    "output_tokens": 300,
    "total_tokens": 1_500,
    "cache_read_tokens": 100,
    "cost_nano_usd": 12_345,
    "time_to_first_chunk": 123_456,
}
METADATA = {
    "span_id": "0193a1b2c3d4e5f60718293a",
    "parent_span_id": "0193a1b2c3d4e5f60718293b",
    "scoped": True,
    "operation": "chat",
    "provider": "openai",
    "model": "gpt-4o",
    "response_model": "gpt-4o-2024-08-06",
    "stream": False,
    "status": "success",
    "usage_complete": True,
    "cost_source": "built-in",
    "user_id": "u-1",
    "session_id": "s-1",
    "temperature": 0.5,
    "team": "blue",
}
NOW = 1_764_000_000_000_000_000
TOGETHER = 500
"""Records that are written at once in batches."""

Record = dict[str, Any]


def _record() -> Record:
    from llmevents.ledger import record_of

    return record_of(EVENT, MEASUREMENTS, METADATA, NOW)


def _new_records() -> Callable[[], list[Record]]:
    """Return what makes records of other ids each time."""
    record = _record()
    numbers = count()

    def make() -> list[Record]:
        return [{**record, "id": f"{next(numbers):024x}"} for _ in range(TOGETHER)]

    return make


def _reporter(directory: str) -> Candidate:
    from llmevents import Bus
    from llmevents.metrics import MetricStore
    from llmevents_ledger import LedgerReporter

    bus = Bus()
    reporter = LedgerReporter(jsonl=f"{directory}/reporter.jsonl")
    reporter.start(bus, MetricStore([]))
    names = {"bus": bus, "e": EVENT, "m": MEASUREMENTS, "d": METADATA, "r": reporter}
    return Candidate("a call's record, JSONL", "bus.execute(e, m, d)", names)


def _open(directory: str, name: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.open(f"{directory}/{name}", flags, 0o600)


def _dumped(directory: str) -> Iterator[Candidate]:
    names = {"w": os.write, "dumps": json.dumps, "r": _record()}
    statement = r'w(fd, dumps(r).encode() + b"\n")'
    yield Candidate(
        "json.dumps and os.write",
        statement,
        {**names, "fd": _open(directory, "one.jsonl")},
    )
    yield Candidate(
        f"{TOGETHER} x json.dumps and os.write",
        f"for r in new(): {statement}",
        {**names, "fd": _open(directory, "many.jsonl"), "new": _new_records()},
    )


def _stores(directory: str) -> Iterator[Candidate]:
    from llmevents.ledger import JsonlStore, SqlStore

    names = {"new": _new_records()}
    file = JsonlStore(f"{directory}/store.jsonl")
    yield Candidate(
        f"JSONL, {TOGETHER} records at once", "add(*new())", {**names, "add": file.add}
    )
    yield Candidate(
        f"JSONL, {TOGETHER} records one by one",
        "for r in new(): add(r)",
        {**names, "add": file.add},
    )
    database = SqlStore(f"sqlite:///{directory}/store.db", durability="batch")
    yield Candidate(
        f"SQLite, {TOGETHER} records at once",
        "add(*new())",
        {**names, "add": database.add},
    )


def _inserted(directory: str) -> Candidate:
    """Insert into one table with a key, and nothing else: no index, no roll-up."""
    database = sqlite3.connect(f"{directory}/plain.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    columns = [name for name in _record() if name != "metadata"]
    database.execute(f"CREATE TABLE calls ({', '.join(columns)}, PRIMARY KEY (id))")
    marks = ", ".join("?" * len(columns))
    insert = f"INSERT INTO calls VALUES ({marks})"  # noqa: S608  # of names of ours
    new = _new_records()

    def write() -> None:
        rows = [[record[name] for name in columns] for record in new()]
        database.execute("BEGIN IMMEDIATE")
        database.executemany(insert, rows)
        database.execute("COMMIT")

    return Candidate(f"sqlite3, executemany of {TOGETHER}", "write()", {"write": write})


def ledger() -> Suite:
    """A record to a file and to a database, against plain writes and inserts."""
    directory = TemporaryDirectory(prefix="ledger-")
    place = str(Path(directory.name))
    first = _reporter(place)
    # The directory goes with the suite.
    kept = Candidate(first.name, first.statement, {**first.names, "kept": directory})
    return Suite(
        (kept, *_dumped(place), *_stores(place), _inserted(place)),
        (
            Claim(kept.name, "json.dumps and os.write", 2.5),
            Claim(
                f"JSONL, {TOGETHER} records one by one",
                f"{TOGETHER} x json.dumps and os.write",
                1.0,
            ),
            Claim(
                f"SQLite, {TOGETHER} records at once",
                f"sqlite3, executemany of {TOGETHER}",
                8.0,
            ),
        ),
    )
