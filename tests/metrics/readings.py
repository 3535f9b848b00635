"""A store on a bus, and ways to read and to load it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from llmevents import Bus
from llmevents.metrics import Metric, MetricStore, Series


JOIN_SECONDS = 300.0
"""Long enough for a busy machine; it only runs out in a deadlock."""
MODEL = {"model": "gpt-4o"}

Totals: TypeAlias = dict[tuple[tuple[str, str], ...], float]


def attached(*definitions: Metric, max_series: int = 2000) -> tuple[Bus, MetricStore]:
    bus = Bus()
    store = MetricStore(definitions, max_series=max_series)
    store.attach(bus)
    return bus, store


def values(store: MetricStore, name: str) -> Totals:
    """Return the series of one metric: tags -> value."""
    series = store.snapshot().families[name].series
    return {tuple(each.tags.items()): plain(each) for each in series}


def plain(series: Series) -> float:
    """Return the value of a series that is no histogram."""
    assert isinstance(series.value, (int, float))
    return series.value


def value(store: MetricStore, name: str) -> float:
    """Return the value of a metric's only series."""
    (only,) = values(store, name).values()
    return only


def in_threads(count: int, target: Callable[[int], None]) -> None:
    """Run *target* in *count* threads at once; a deadlock fails instead of hanging."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            target(number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [
        threading.Thread(target=run, args=(number,), daemon=True)
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_SECONDS)
        assert not thread.is_alive(), "deadlock"
    assert errors == []


@contextmanager
def frequent_switches(seconds: float = 1e-6) -> Iterator[None]:
    """Make the interpreter change threads after *seconds* instead of 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
