"""Fills a ledger with as many records as asked for, and asks what they come to.

``python -m benchmarks ledger-scale --records 10000000``
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any


TOGETHER = 5_000
"""Records that are written at once."""

MODELS = tuple(f"model-{number}" for number in range(40))
USERS = 5_000
BEGIN = 1_760_000_000_000_000_000
DAYS = 60
DAY = 86_400 * 10**9

Record = dict[str, Any]
Answer = dict[str | None, tuple[int, int, int]]
"""Calls, input tokens and nano-dollars by what the calls have in common."""


def records(total: int) -> Iterator[list[Record]]:
    """Yield the same records each time, in the order of time, many at once."""
    from llmevents.ledger import record_of

    numbers = random.Random(20_261_122)  # noqa: S311  # they keep no secret
    batch: list[Record] = []
    for number in range(total):
        failed = not number % 50
        measurements = {
            "duration": int(numbers.lognormvariate(20, 1)),
            "input_tokens": numbers.randrange(4_000),
            "output_tokens": numbers.randrange(1_000),
            "cost_nano_usd": numbers.randrange(10**8),
        }
        metadata = {
            "span_id": f"{number:024x}",
            "operation": "chat",
            "provider": "acme",
            "model": numbers.choice(MODELS),
            "user_id": f"user-{int(numbers.paretovariate(0.5)) % USERS}",
            "session_id": f"session-{number // 7}",
            "status": "error" if failed else "success",
        }
        event = ("llm", "chat", "exception" if failed else "stop")
        now = BEGIN + number * DAYS * DAY // total + measurements["duration"]
        batch.append(record_of(event, measurements, metadata, now))
        if len(batch) == TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def fill(total: int, path: Path, url: str) -> dict[str, float]:
    """Write records to both stores; return the seconds that each took."""
    from llmevents.ledger import JsonlStore, SqlStore

    file, database = JsonlStore(path), SqlStore(url, durability="batch")

    def one_by_one(batch: list[Record]) -> None:
        for record in batch:
            file.add(record)

    def together(batch: list[Record]) -> None:
        database.add(*batch)

    stores = {"JSONL, one by one": one_by_one, "SQLite, in batches": together}
    took = dict.fromkeys(stores, 0.0)
    for batch in records(total):
        for name, add in stores.items():
            started = perf_counter()
            add(batch)
            took[name] += perf_counter() - started
    for counts in (file.counts(), database.counts()):
        if counts.written != total:
            msg = f"not all were written: {counts}"
            raise SystemExit(msg)
    file.close()
    database.close()
    return took


def by_hand(path: Path, key: str | None) -> Answer:
    """Answer as a plain loop does."""
    found: dict[str | None, list[int]] = {}
    with path.open("rb") as file:
        for line in file:
            record = json.loads(line)
            sums = found.setdefault(record.get(key) if key else None, [0, 0, 0])
            sums[0] += 1
            sums[1] += record.get("input_tokens", 0)
            sums[2] += record.get("cost_nano_usd", 0)
    return {one: (a, b, c) for one, (a, b, c) in found.items()}


def asked(engine: Any, grouping: str | None) -> Answer:  # noqa: ANN401  # of either kind
    """Answer as an engine does."""

    def sums(totals: Any) -> tuple[int, int, int]:  # noqa: ANN401  # of the engine
        return (totals.calls, totals.input_tokens or 0, totals.cost_nano_usd or 0)

    if grouping is None:
        return {None: sums(engine.summary())}
    return {group.key: sums(group.totals) for group in engine.by(grouping)}


def timed(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """Return how many seconds it took, and the answer."""
    started = perf_counter()
    answer = work()
    return perf_counter() - started, answer


def measure(total: int, directory: Path) -> bool:
    """Fill, ask, print; return whether all answers were the same."""
    from llmevents.ledger import JsonlEngine, SqlEngine

    path, database = directory / "calls.jsonl", directory / "usage.db"
    url = f"sqlite:///{database}"
    for name, seconds in fill(total, path, url).items():
        print(f"{total / seconds:14,.0f} records/s  {name}")
    for file in (path, database):
        print(f"{file.stat().st_size / 2**20:14,.1f} MiB        {file.name}")
    same = True
    print(f"\n{'':12}{'json.loads':>12}{'JSONL':>12}{'SQLite':>12}   seconds")
    for name, key, grouping in (
        ("summary", None, None),
        ("by model", "model", "model"),
        ("by user", "user_id", "user"),
    ):
        plain = timed(lambda key=key: by_hand(path, key))  # type: ignore[misc]  # bound now
        # Each question by an engine that has not seen the file yet.
        with closing(JsonlEngine(path)) as file_engine:
            lines = timed(lambda g=grouping, e=file_engine: asked(e, g))  # type: ignore[misc]  # likewise
        with closing(SqlEngine(url)) as sql_engine:
            rows = timed(lambda g=grouping, e=sql_engine: asked(e, g))  # type: ignore[misc]  # likewise
        same &= plain[1] == lines[1] == rows[1]
        print(f"{name:12}{plain[0]:12.3f}{lines[0]:12.3f}{rows[0]:12.3f}")
    print("\nall answers are equal" if same else "\nthe answers DIFFER")
    return same


def main(arguments: Sequence[str]) -> int:
    """Run it; returns 1 if the answers differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ledger-scale")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--directory", type=Path, help="kept; a temporary one if none")
    options = parser.parse_args(arguments)
    if options.directory is not None:
        options.directory.mkdir(parents=True)
        return 0 if measure(options.records, options.directory) else 1
    with TemporaryDirectory(prefix="ledger-") as directory:
        return 0 if measure(options.records, Path(directory)) else 1
