"""Records for tests of the store in SQL, what they come to, and a server."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import select

from llmevents.ledger import Record
from llmevents.ledger._gate import Gate
from llmevents.ledger._rollups import LARGEST, add_sketch
from llmevents.ledger._rows import record_of_row
from llmevents.ledger._sql import SqlStore
from llmevents.ledger._tables import (
    DIMENSIONS,
    KEY,
    KNOWN,
    STATED,
    STATUSES,
    calls,
    rollups,
)
from llmevents.metrics._histogram import key_of


DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian has each version's programs, outside the path."""


def made(number: object, day: str = "2026-11-21", **facts: object) -> Record:
    """Return a record with all that every record has, and more."""
    return {
        "schema_version": 1,
        "id": str(number),
        "event": "llm.chat",
        "timestamp": f"{day}T09:30:00.000000Z",
        "status": "success",
        **facts,
    }


@contextmanager
def held(gate: Gate) -> Iterator[None]:
    """Have another thread inside of it."""
    is_in, is_over = Event(), Event()

    def hold() -> None:
        with gate.alone():
            is_in.set()
            is_over.wait()

    thread = Thread(target=hold)
    thread.start()
    is_in.wait()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def stored(store: SqlStore) -> list[Record]:
    """Return the records of a store, by id."""
    with store.reading() as connection:
        rows = connection.execute(select(calls).order_by(calls.c.id)).all()
    return [record_of_row(tuple(row)) for row in rows]


def ids(store: SqlStore) -> list[str]:
    """Return the ids of a store's records, in order."""
    with store.reading() as connection:
        return list(connection.scalars(select(calls.c.id).order_by(calls.c.id)))


def rolled_up(store: SqlStore) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the roll-ups of a store by their keys."""
    with store.reading() as connection:
        rows = [dict(row) for row in connection.execute(select(rollups)).mappings()]
    for row in rows:
        counts: dict[int, int] = {}
        add_sketch(row["duration_sketch"], counts)
        row["duration_sketch"] = counts
    return {tuple(row.pop(name) for name in KEY): row for row in rows}


def brute_force(records: Iterable[Record]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the roll-ups that records should have."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        day = record["timestamp"][:10]
        for name in DIMENSIONS:
            if record["event"] != "llm.task" or name == "event":
                groups.setdefault((name, day, record.get(name) or ""), []).append(
                    record
                )
    return {one: _come_to(group) for one, group in groups.items()}


def _come_to(records: list[Record]) -> dict[str, Any]:
    statuses = Counter(record["status"] for record in records)
    found: dict[str, Any] = {"calls": len(records)}
    found |= {column: statuses[status] for status, column in STATUSES.items()}
    rated = [r for r in records if "output_tokens" in r and "duration_ns" in r]
    known_by = {name: (name, records) for name in STATED}
    known_by["rated_output_tokens"] = ("output_tokens", rated)
    known_by["rated_duration_ns"] = ("duration_ns", rated)
    for column, (name, some) in known_by.items():
        known = [record[name] for record in some if name in record]
        found[column] = min(sum(known), LARGEST) if known else None
        if column in KNOWN:
            found[KNOWN[column]] = len(known)
    durations = [r["duration_ns"] for r in records if "duration_ns" in r]
    found["duration_sketch"] = Counter(map(key_of, durations))
    return found


class Server:
    """A server of PostgreSQL in a directory of its own, reached by a socket there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._schemas = 0
        owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        # PostgreSQL refuses to be run by root.
        self._as: dict[str, Any] = {}
        if owner is not None:
            os.chown(directory, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._run("initdb", "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-c fsync=off -c listen_addresses='' -k '{self.directory}'"
        log = str(self.directory / "log")
        self._run("pg_ctl", "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; ``"immediate"`` is as if it had been killed."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def new_url(self) -> str:
        """Return the URL of a ledger that is empty yet."""
        from sqlalchemy import create_engine

        self._schemas += 1
        schema = f"ledger_{self._schemas}"
        base = f"postgresql+psycopg://tester@/postgres?host={self.directory}"
        engine = create_engine(base)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        engine.dispose()
        return f"{base}&options=-csearch_path={schema}"

    def _run(self, program: str, *arguments: str) -> None:
        found = program_of_server(program)
        subprocess.run(
            [found, "-D", str(self.directory / "data"), *arguments],
            check=True,
            timeout=60,
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            **self._as,
        )


@contextmanager
def running_server() -> Iterator[Server]:
    """Run a server of PostgreSQL meanwhile."""
    directory = Path(tempfile.mkdtemp(prefix="pg"))
    server = Server(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def program_of_server(name: str) -> str:
    """Return the path of a program of PostgreSQL; empty if it is not here."""
    installed = sorted(DEBIAN.glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else "")


def why_no_server() -> str:
    """Return why no server can be run here; empty if one can."""
    if program_of_server("initdb"):
        return ""
    return "PostgreSQL is not here: apt-get install postgresql"


@contextmanager
def needed_server() -> Iterator[Server]:
    """Run a server of PostgreSQL; skip the test if there is none here."""
    why = why_no_server()
    if why and os.environ.get("CI") == "true":
        pytest.fail(why)
    if why:
        pytest.skip(why)
    pytest.importorskip("psycopg")
    with running_server() as running:
        yield running
