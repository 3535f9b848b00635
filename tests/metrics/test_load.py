"""Metrics under load: exact, and bounded.

Kept apart because it says nothing under a tracer, which makes every event slow.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Distribution,
    Histogram,
    LastValue,
    MetricStore,
    Sum,
    Summary,
)
from tests.metrics.readings import in_threads


pytestmark = pytest.mark.long


THREADS = 64
EVENTS = 100_000
MODELS = 5

MEGABYTE = 1 << 20


def test_64_threads_feed_five_metrics_exactly_while_they_are_read_all_the_time() -> (
    None
):
    bus = Bus()
    store = MetricStore(
        [
            Counter("calls", event="llm.*.stop", tags=("model",)),
            Sum("tokens", event="llm.*.stop", measurement="tokens", tags=("model",)),
            LastValue("last", event="llm.*.stop", measurement="tokens"),
            Distribution(
                "duration",
                event="llm.*.stop",
                measurement="duration",
                tags=("model",),
                unit=("nanosecond", "second"),
            ),
            Summary("sizes", event="llm.*.stop", measurement="tokens"),
        ]
    )
    store.attach(bus)
    names = [{"model": f"m{number}"} for number in range(MODELS)]
    measured = [{"tokens": n, "duration": n * 10_000_000} for n in range(100)]
    done = threading.Event()
    seen: list[dict[str, int]] = []

    def read() -> None:
        while not done.is_set():
            seen.append(totals(store))

    def emit(_: int) -> None:
        for number in range(EVENTS):
            bus.execute(
                ("llm", "chat", "stop"), measured[number % 100], names[number % MODELS]
            )

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    in_threads(THREADS, emit)
    done.set()
    reader.join(60)

    total = THREADS * EVENTS
    assert not reader.is_alive()
    assert totals(store) == {
        "calls": total,
        "tokens": total // 100 * sum(range(100)),
        "duration": total,
        "duration sum": total // 100 * sum(range(100)) * 10_000_000,
        "sizes": total,
        "sizes sum": total // 100 * sum(range(100)),
    }
    assert len(seen) > 10
    for earlier, later in pairwise(seen):
        assert all(later[name] >= count for name, count in earlier.items())
    # What one event feeds is seen together.
    assert all(each.get("calls") == each.get("duration") for each in seen)
    assert store.refused == 0
    assert bus.stats()["handler_failures"] == 0


def totals(store: MetricStore) -> dict[str, int]:
    """Return what each metric came to, over all series."""
    found: dict[str, int] = {}
    for name, family in store.snapshot().families.items():
        for series in family.series:
            if isinstance(series.raw, (int, float)):
                if name != "last":
                    found[name] = found.get(name, 0) + int(series.raw)
                continue
            assert isinstance(series.raw, Histogram) or name == "sizes"
            found[name] = found.get(name, 0) + series.raw.count
            key = f"{name} sum"
            found[key] = found.get(key, 0) + int(series.raw.sum)
    return found


PROGRAM = f"""
import resource, sys
from time import perf_counter
from llmevents import Bus
from llmevents.metrics import Counter, Distribution, MetricStore, Sum

bus = Bus()
store = MetricStore([
    Counter("calls", event="a.b", tags=("user",)),
    Sum("tokens", event="a.b", measurement="tokens", tags=("user",)),
    Distribution("size", event="a.b", measurement="tokens", tags=("user",)),
])
store.attach(bus)
bus.execute("a.b", {{"tokens": 1}}, {{"user": "before"}})
store.snapshot()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(1_000_000):
    bus.execute(("a", "b"), {{"tokens": number}}, {{"user": f"user-{{number}}"}})
start = perf_counter()
snapshot = store.snapshot()
took = perf_counter() - start
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
families = snapshot.families
assert len(families["calls"].series) == 2001
assert sum(each.raw for each in families["calls"].series) == 1_000_001
assert sum(each.raw for each in families["tokens"].series) == 499_999_500_001
assert sum(each.raw.count for each in families["size"].series) == 1_000_001
assert grown <= {64 * MEGABYTE}, grown
assert took <= 5, took
print("bounded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes there")
def test_a_million_users_are_two_thousand_series_and_64_megabytes_at_most() -> None:
    """A process of its own, whose peak is that of nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
    )

    assert (done.stdout, done.stderr) == ("bounded\n", "")
