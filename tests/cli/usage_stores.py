"""Stores of a few calls, for tests of ``llmevents usage``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from llmevents.cli._app import app
from llmevents.ledger import JsonlStore, Record, SqlStore


NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)

KINDS = ["jsonl", "sqlite"]


class Ran(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str


def usage(*arguments: object, text: str | None = None) -> Ran:
    """Run ``llmevents usage``; what it raises that is no exit is raised."""
    done = CliRunner().invoke(app, ["usage", *map(str, arguments)], input=text)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def call(number: int, *, hours_ago: float = 1, **facts: object) -> Record:
    """Return the record of a call."""
    began = NOW - timedelta(hours=hours_ago)
    return {
        "schema_version": 1,
        "id": f"{number:04}",
        "event": "llm.chat",
        "timestamp": f"{began:%Y-%m-%dT%H:%M:%S.%f}Z",
        "status": "success",
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "duration_ns": 2_000_000_000,
        **facts,
    }


CALLS: list[Record] = [
    call(
        1,
        hours_ago=30 * 24,
        user_id="ada",
        session_id="s-old",
        input_tokens=1_000,
        output_tokens=500,
        total_tokens=1_500,
        cost_nano_usd=7_500_000,
    ),
    call(
        2,
        hours_ago=50,
        user_id="ada",
        session_id="s-1",
        source_id="doc-1.pdf",
        use_case="summarization",
        input_tokens=2_000_000,
        output_tokens=100,
        total_tokens=2_000_100,
        cost_nano_usd=5_001_000_000,
    ),
    call(
        3,
        hours_ago=2,
        user_id="grace",
        session_id="s-2",
        task_id="t-1",
        provider="anthropic",
        model="claude-sonnet-4-5",
        input_tokens=300,
        output_tokens=30,
        total_tokens=330,
        cost_nano_usd=1_350_000,
        cache_read_tokens=100,
    ),
    call(
        4,
        hours_ago=1,
        user_id="ada",
        session_id="s-2",
        status="error",
        error_type="RateLimitError",
        http_status=429,
        error_message="slow down",
    ),
    call(5, hours_ago=0.5, model="house-model", provider="acme", status="cancelled"),
    call(6, hours_ago=0.25, event="llm.task", operation="task", task_id="t-1"),
]
"""Five calls and a task."""


def store(kind: str, directory: Path, records: Iterable[Record] = CALLS) -> str:
    """Make a store of records, and return what --store takes."""
    if kind == "jsonl":
        file = JsonlStore(directory / "usage.jsonl")
        file.add(*records)
        file.close()
        return str(directory / "usage.jsonl")
    url = f"sqlite:///{directory / 'usage.db'}"
    database = SqlStore(url)
    database.add(*records)
    database.close()
    return url


def add(where: str, *records: Record) -> None:
    """Add records to a store that is there."""
    kept = SqlStore(where) if where.startswith("sqlite:") else JsonlStore(where)
    kept.add(*records)
    kept.close()
