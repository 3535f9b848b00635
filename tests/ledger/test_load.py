"""The ledger under load: 64 threads, forks in between, and totals that are exact.

``LLMEVENTS_LOAD_CALLS=10000 pytest -n0 tests/ledger/test_load.py -k 64`` makes 640,000
calls, which takes minutes.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llmevents import Bus
from llmevents.ledger import (
    Engine,
    Filter,
    Grouping,
    JsonlEngine,
    SqlEngine,
    SqlStore,
    read,
)
from llmevents.metrics import MetricStore
from llmevents_ledger import LedgerReporter
from tests.ledger.sqlstores import brute_force, ids, rolled_up, stored
from tests.outcomes import JOIN_TIMEOUT, in_child


pytest.importorskip("duckdb", reason="needs DuckDB")

pytestmark = pytest.mark.long

THREADS = 64
CALLS = int(os.environ.get("LLMEVENTS_LOAD_CALLS", "500"))
"""Of each thread."""

MODELS = 5
USERS = 3
FAILING = 10
"""One call of so many fails."""

TOGETHER = 200
"""Calls of a thread between two looks at what waits."""

WAITING = 30_000
"""Records that may wait for the database until a thread waits for it too."""


@dataclass
class Sums:
    """What calls come to."""

    calls: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0
    duration_ns: int = 0

    def add(self, number: int) -> None:
        self.calls += 1
        self.failures += is_failing(number)
        self.input_tokens += number % 100
        self.output_tokens += number % 50
        self.cost_nano_usd += number % 1_000
        self.duration_ns += (number % 100 + 1) * 1_000_000


def is_failing(number: int) -> bool:
    return number % FAILING == 0


def emit(bus: Bus, thread: int, number: int) -> None:
    """Emit the end of a call. Calls themselves would take most of the time."""
    failed = is_failing(number)
    bus.execute(
        ("llm", "chat", "exception" if failed else "stop"),
        {
            "duration": (number % 100 + 1) * 1_000_000,
            "input_tokens": number % 100,
            "output_tokens": number % 50,
            "cost_nano_usd": number % 1_000,
        },
        {
            "span_id": f"{thread}-{number}",
            "operation": "chat",
            "provider": "acme",
            "model": f"m{(thread + number) % MODELS}",
            "user_id": f"u{number % USERS}",
            "session_id": f"s{thread}",
            "status": "error" if failed else "success",
        },
    )


@dataclass
class Expected:
    """The sums of all, and of those that have something in common."""

    all: Sums = field(default_factory=Sums)
    by: dict[str, dict[str, Sums]] = field(default_factory=dict)

    @classmethod
    def of(cls, calls: int) -> Expected:
        expected = cls()
        for thread in range(THREADS):
            for number in range(calls):
                expected.all.add(number)
                for grouping, key in (
                    ("model", f"m{(thread + number) % MODELS}"),
                    ("user", f"u{number % USERS}"),
                    ("session", f"s{thread}"),
                    ("provider", "acme"),
                ):
                    groups = expected.by.setdefault(grouping, {})
                    groups.setdefault(key, Sums()).add(number)
        return expected


def sums_of(totals: object) -> Sums:
    return Sums(**{name: getattr(totals, name) or 0 for name in vars(Sums())})


def found_by(engine: Engine) -> Expected:
    """Return the same, as an engine answers."""
    expected = Expected(sums_of(engine.summary()))
    groupings: tuple[Grouping, ...] = ("model", "user", "session", "provider")
    for grouping in groupings:
        expected.by[grouping] = {
            str(group.key): sums_of(group.totals) for group in engine.by(grouping)
        }
    return expected


def test_64_threads_write_a_file_and_a_database_and_all_totals_are_exact(
    tmp_path: Path,
) -> None:
    path, url = tmp_path / "calls.jsonl", f"sqlite:///{tmp_path}/usage.db"
    total = THREADS * CALLS
    assert _write(path, url) == [
        [total, total, {}, 0],
        [total, total, {}, 0],
    ]
    expected = Expected.of(CALLS)
    lines = list(read(path))
    assert len({line.record["id"] for line in lines if line.record}) == total
    assert len(lines) == total
    file, database = JsonlEngine(path), SqlEngine(url)
    try:
        assert found_by(file) == expected
        assert found_by(database) == expected
        half = Filter(model="m1", user="u2")
        assert sums_of(file.summary(half)) == sums_of(database.summary(half))
    finally:
        file.close()
        database.close()


def _write(path: Path, url: str) -> object:
    """Return both reporters' counts; each call waits for the file, not the database."""
    bus = Bus()
    reporters = [
        LedgerReporter(jsonl=path),
        LedgerReporter(url=url, durability="batch"),
    ]
    for reporter in reporters:
        reporter.start(bus, MetricStore([]))

    def work(thread: int) -> None:
        for number in range(CALLS):
            emit(bus, thread, number)
            if not number % TOGETHER and reporters[1].status().queued > WAITING:
                reporters[1].flush(60)

    threads = [threading.Thread(target=work, args=(one,)) for one in range(THREADS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for reporter in reporters:
        reporter.flush(120)
        reporter.stop(120)
    found = [reporter.status() for reporter in reporters]
    return [[s.accepted, s.delivered, dict(s.dropped), s.queued] for s in found]


FORKS = 50


@pytest.mark.parametrize("durability", ["process", "batch"])
def test_forks_in_the_middle_of_it_lose_nothing_and_write_nothing_twice(
    durability: str, tmp_path: Path
) -> None:
    """Row 20: each child writes a record of its own, and none of its parent's."""
    path, url = tmp_path / "calls.jsonl", f"sqlite:///{tmp_path}/usage.db"
    bus, is_over = Bus(), threading.Event()
    reporter = LedgerReporter(jsonl=path, url=url, durability=durability)  # type: ignore[arg-type]  # one of them
    # As long as one of them waits for its turn on a busy machine nothing is refused.
    assert reporter._file is not None
    assert reporter._database is not None
    reporter._file._file._patience = JOIN_TIMEOUT
    reporter._database._database._patience = JOIN_TIMEOUT
    reporter._database._database.renew()
    reporter.start(bus, MetricStore([]))
    numbers = [0] * 4

    def work(thread: int) -> None:
        while not is_over.is_set():
            emit(bus, thread, numbers[thread])
            numbers[thread] += 1
            is_over.wait(0.001)

    def child(number: int) -> object:
        emit(bus, 100, number)
        flushed = reporter.flush(JOIN_TIMEOUT)
        status = reporter.status()
        return [flushed, status.accepted, status.delivered, status.queued]

    threads = [threading.Thread(target=work, args=(one,)) for one in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(FORKS):
            told = in_child(lambda number=number: child(number))  # type: ignore[misc]  # bound now
            assert told == [True, 2, 2, 0]
    finally:
        is_over.set()
        for thread in threads:
            thread.join(JOIN_TIMEOUT)
    reporter.stop(JOIN_TIMEOUT)
    expected = sorted(
        [f"{thread}-{n}" for thread in range(4) for n in range(numbers[thread])]
        + [f"100-{number}" for number in range(FORKS)]
    )
    status = reporter.status()
    assert (status.accepted, status.queued) == (2 * sum(numbers), 0)
    assert status.dropped == {}
    assert sorted(line.record["id"] for line in read(path) if line.record) == expected
    store = SqlStore(url)
    assert ids(store) == expected
    assert rolled_up(store) == brute_force(stored(store))
    store.close()
