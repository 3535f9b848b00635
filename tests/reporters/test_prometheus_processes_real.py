"""Real processes that emit, end, are killed and replaced, and are scraped meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmevents.metrics import (
    Counter,
    Distribution,
    ExponentialHistogram,
    Histogram,
    MetricStore,
    Snapshot,
    Sum,
    Summary,
)
from llmevents_prometheus._processes import SharedSnapshots


pytestmark = pytest.mark.long

NEVER = 3600.0
SECONDS = 120.0
EVENTS = 2000

PROGRAM = """
import json, os, sys, time
from llmevents import Bus
from llmevents.metrics import Counter, Distribution, MetricStore, Sum, Summary
from llmevents_prometheus import _files, _pool
from llmevents_prometheus._processes import SharedSnapshots

def worker(directory, events, interval, then=""):
    bus = Bus()
    store = MetricStore([
        Counter("a.b.calls", event="a.b", tags=("model",)),
        Sum("a.b.tokens"),
        Sum("a.b.cost"),
        Distribution("a.b.took", buckets=(1, 2)),
        Summary("a.b.length"),
    ])
    store.attach(bus)
    shared = SharedSnapshots(directory, interval)
    shared.start(store)
    def emit(count):
        for number in range(count):
            bus.execute(
                "a.b",
                {"tokens": 2**53 + 1, "cost": 0.1, "took": number % 3, "length": 7},
                {"model": "even" if number % 2 == 0 else "odd"},
            )
            if number % 100 == 0:
                time.sleep(0.001)
    emit(events)
    if then == "wait":
        shared.publish()
        emit(321)
        print("ready", flush=True)
        time.sleep(600)

def recycle(directory, events, workers, at_once):
    running = set()
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            worker(directory, events, 0.05)
            sys.exit(0)
        running.add(pid)
        while len(running) >= at_once:
            running.discard(os.wait()[0])
    while running:
        running.discard(os.wait()[0])
"""

BREAKS = {
    "says nothing at the end": "SharedSnapshots._at_exit = lambda self: None",
    "forgets what has ended": (
        "_pool._encode_sum = lambda ended, new, folded: "
        "_pool.encode(ended.families, ended.start_ns, folded)"
    ),
    "does not remember whom it has moved": """
sum_up = _pool._encode_sum
_pool._encode_sum = lambda ended, new, folded: sum_up(ended, new, frozenset())
_files.SharedDirectory.remove = lambda self, name: None
""",
    "writes where others read": """
def replace(self, name, data):
    path = os.path.join(self.path, name)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    _files._lock(descriptor)
    for part in (data[:-1], data[-1:]):
        os.write(descriptor, part)
        time.sleep(0.2)
    return os.dup(descriptor)
_files.SharedDirectory.replace = replace
""",
}
"""Ways to do it wrong, each of which the test below has to see."""


@contextmanager
def program(
    broken: str, call: str, *arguments: object
) -> Iterator[subprocess.Popen[str]]:
    """Run a function of `PROGRAM` in a process of its own."""
    source = f"{PROGRAM}\n{broken}\n{call}(*json.loads(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", source, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Scraper:
    """Looks at the totals, and notes what goes wrong."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = MetricStore(
            [
                Counter("a.b.calls", event="a.b", tags=("model",)),
                Sum("a.b.tokens"),
                Sum("a.b.cost"),
                Distribution("a.b.took", buckets=(1, 2)),
                Summary("a.b.length"),
            ]
        )
        self.shared = SharedSnapshots(str(directory), NEVER)
        self.shared.start(self.store)
        self.seen: dict[tuple[str, str], float] = {}
        self.wrong: list[str] = []
        self.scrapes = 0
        self.most_files = 0

    def scrape(self) -> dict[tuple[str, str], float]:
        """Return the totals by metric and model, or what is counted in it."""
        self.scrapes += 1
        self.most_files = max(self.most_files, len(os.listdir(self.directory)))
        totals = totals_of(self.shared.merged(self.store.snapshot()))
        for key, before in self.seen.items():
            if totals.get(key, 0) < before:
                self.wrong.append(f"{key} went down from {before}")
        self.seen = totals
        return totals

    def watch(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline
            self.scrape()

    def expect(self, events: int) -> None:
        """Compare the totals with those of *events* from each of the even workers."""
        totals = self.scrape()
        expected = {
            ("a.b.calls", "even"): events / 2,
            ("a.b.calls", "odd"): events / 2,
            ("a.b.tokens", ""): events * (2**53 + 1),
            ("a.b.took", "count"): events,
            ("a.b.length", "count"): events,
            ("a.b.length", "sum"): events * 7,
        }
        for key, value in expected.items():
            if totals.get(key) != value:
                self.wrong.append(f"{key} is {totals.get(key)}, not {value}")


def totals_of(snapshot: Snapshot) -> dict[tuple[str, str], float]:
    totals: dict[tuple[str, str], float] = {}
    for name, family in snapshot.families.items():
        for series in family.series:
            raw = series.raw
            if isinstance(raw, (Histogram, ExponentialHistogram)):
                totals[name, "count"] = raw.count
                totals[name, "sum"] = raw.sum
            else:
                totals[name, series.tags.get("model", "")] = raw
    return totals


def run(directory: Path, broken: str = "") -> Scraper:
    """Let four processes emit, of which one is killed and one is replaced."""
    scraper = Scraper(directory)
    path = str(directory)
    with (
        program(broken, "worker", path, EVENTS, 0.05) as first,
        program(broken, "worker", path, EVENTS, NEVER) as second,
        program(broken, "worker", path, EVENTS, NEVER, "wait") as killed,
        program(broken, "worker", path, EVENTS, 0.05) as recycled,
    ):
        assert killed.stdout is not None
        os.set_blocking(killed.stdout.fileno(), False)
        scraper.watch(lambda: killed.stdout is None or killed.stdout.read(5) == "ready")
        killed.send_signal(signal.SIGKILL)
        scraper.watch(lambda: recycled.poll() is not None)
        with program(broken, "worker", path, EVENTS, 0.05) as successor:
            for process in (first, second, killed, successor):
                scraper.watch(lambda process=process: process.poll() is not None)  # type: ignore[misc]  # a default
        codes = [
            each.returncode for each in (first, second, killed, recycled, successor)
        ]
    scraper.expect(5 * EVENTS)
    scraper.shared.stop(SECONDS)
    assert codes == [0, 0, -signal.SIGKILL, 0, 0]
    return scraper


def test_nothing_that_was_shown_is_lost(tmp_path: Path) -> None:
    """Of the process that is killed, all but the 321 that it had shown nobody."""
    scraper = run(tmp_path)

    assert scraper.wrong == []
    assert scraper.scrapes > 20
    assert sorted(os.listdir(tmp_path)) == ["ended-v1.json", "lock"]
    assert scraper.shared.problems() == {}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=[*BREAKS])
def test_the_test_above_sees_what_is_lost(tmp_path: Path, broken: str) -> None:
    assert run(tmp_path, broken).wrong != []


def test_fifty_workers_leave_no_pile_of_files(tmp_path: Path) -> None:
    """Four at a time, each replaced by the next, as with ``--max-requests``."""
    scraper = Scraper(tmp_path)
    with program("", "recycle", str(tmp_path), 100, 50, 4) as master:
        scraper.watch(lambda: master.poll() is not None)
    scraper.expect(50 * 100)

    assert scraper.wrong == []
    assert scraper.most_files <= 2 * 4 + 2
    scraper.shared.stop(SECONDS)
    assert sorted(os.listdir(tmp_path)) == ["ended-v1.json", "lock"]
