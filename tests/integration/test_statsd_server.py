"""The npm StatsD daemon: what it has counted is what we have counted.

Counters and gauges are read through its management port, timers from what it hands to a
backend in its last flush (statsd 0.9.0). It takes DogStatsD's types ``d`` and ``h`` for
counters, so that it proves nothing about them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    MetricStore,
    Sum,
    Summary,
)
from llmevents_statsd import StatsDReporter
from tests.integration.servers import StatsD, needs_statsd
from tests.reporters.statsd_wire import SECONDS, reporting, store_of


pytestmark = needs_statsd


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StatsD]:
    with StatsD(tmp_path) as running:
        yield running


# --- Counters ----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["standard", "datadog"])
def test_the_daemons_counters_are_the_totals_of_all_threads(
    daemon: StatsD, form: str
) -> None:
    """While the reporter looks again and again."""
    bus, store = store_of(
        Counter("llm.calls.total", event="llm.chat.stop", tags=("model",)),
        Sum("llm.chat.stop.input_tokens"),
        Sum("llm.chat.stop.cost", unit=("nano_usd", "micro_usd")),
    )
    threads = [
        threading.Thread(target=_emit, args=(bus, number), daemon=True)
        for number in range(16)
    ]
    options = {"port": daemon.port, "interval": 0.05, "format": form}
    with reporting(store, **options) as reporter:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive(), "deadlock"
    daemon.wait_for_lines(reporter.status().delivered)
    models = {"standard": "llm.calls.total.m{}", "datadog": "llm.calls.total;model=m{}"}
    assert daemon.read("counters") == {
        **{models[form].format(number): 8_000 for number in range(4)},
        "llm.chat.stop.input_tokens": 16 * 2_000 * 1_999 / 2,
        "llm.chat.stop.cost": pytest.approx(16 * 2_000 * 1.5, abs=1e-6),
    }
    assert dict(reporter.status().dropped) == {}


def _emit(bus: Bus, number: int) -> None:
    for tokens in range(2_000):
        measured = {"input_tokens": tokens, "cost": 1_500}
        bus.execute("llm.chat.stop", measured, {"model": f"m{number % 4}"})


def test_no_count_is_lost_while_the_daemon_comes_and_goes(daemon: StatsD) -> None:
    """What the socket reports as refused is sent to the next daemon, and once only."""
    bus, store = store_of(Counter("a.b.n"), Sum("a.b.f"))
    n = f = 0.0
    with reporting(store, port=daemon.port) as reporter:
        for _ in range(3):
            for _ in range(10):
                bus.execute("a.b", {"f": 0.25})
                assert reporter.flush(SECONDS)
            daemon.wait_for_lines(20 + 2 * bool(n))
            counters = daemon.read("counters")
            n, f = n + counters["a.b.n"], f + counters["a.b.f"]
            daemon.stop()
            for _ in range(10):
                bus.execute("a.b", {"f": 0.25})
                assert not reporter.flush(SECONDS)
            daemon.start()
            assert reporter.flush(SECONDS)
        daemon.wait_for_lines(2)
        counters = daemon.read("counters")
    assert (n + counters["a.b.n"], f + counters["a.b.f"]) == (60, 15)
    status = reporter.status()
    assert (status.delivered, dict(status.dropped)) == (66, {"refused": 60})


# --- Gauges ------------------------------------------------------------------------


def test_a_gauge_is_what_it_was_set_to_also_below_zero(daemon: StatsD) -> None:
    """Of its own, a negative value means to the daemon: so much less than before."""
    bus, store = store_of(LastValue("a.b.g"), Sum("a.b.s", monotonic=False))
    total, lines = 0.0, 0
    with reporting(store, port=daemon.port) as reporter:
        for value in (-5, -7, 3, -1.5, 0, -1e-7, 12):
            bus.execute("a.b", {"g": value, "s": value})
            total += value
            for _ in range(2):
                assert reporter.flush(SECONDS)
                lines = reporter.status().delivered
                daemon.wait_for_lines(lines)
                gauges = daemon.read("gauges")
                assert gauges["a.b.g"] == value
                assert gauges["a.b.s"] == pytest.approx(total, abs=1e-12)
    assert daemon.read("counters") == {}


# --- Timers ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 49, 93, 100, 1_234, 50_007])
def test_the_daemon_counts_as_many_values_as_there_were(
    daemon: StatsD, count: int
) -> None:
    bus, store = store_of(
        Distribution("a.b.duration", unit=("nanosecond", "second")), Summary("a.b.size")
    )
    values = [(number * 7_919) % 1_000 + 1 for number in range(count)]
    with reporting(store, port=daemon.port) as reporter:
        for value in values:
            bus.execute("a.b", {"duration": value * 10**6, "size": value})
    daemon.wait_for_lines(reporter.status().delivered)
    timers = daemon.flushed()["timer_data"]
    ordered = sorted(values)
    true_90 = ordered[round(0.9 * count) - 1] if count > 1 else ordered[0]
    for name in ("a.b.duration", "a.b.size"):
        assert timers[name]["count"] == count
        assert timers[name]["mean"] == pytest.approx(sum(values) / count, rel=0.05)
    assert timers["a.b.size"]["upper_90"] == pytest.approx(true_90, rel=0.1)
    if count == 1:
        assert timers["a.b.duration"]["sum"] == values[0]
    elif count <= 100:
        # Each value has a line: in milliseconds, and together what they were.
        for name in ("a.b.duration", "a.b.size"):
            assert timers[name]["sum"] == pytest.approx(sum(values), rel=1e-9)


# --- What should not get through ---------------------------------------------------

HOSTILE = [
    "a:1|c",
    "x\ny.injected:1|c",
    "x\r\ny.injected:1|g",
    "|@0.001",
    "|#injected:yes,b=c",
    ";injected=yes",
    "%0Ay.injected:1|c",
    "\0",
    "\ud800",
    "\u2028y.injected:1|c",
    "..",
    "../../etc",
    "none",
    "é",
    "x" * 100_000,
    "=1+1",
    "{}",
    " ",
]


@pytest.mark.parametrize("form", ["standard", "datadog"])
def test_hostile_tags_add_no_metric(daemon: StatsD, form: str) -> None:
    """As many keys as there are series, at most; each begins with the metric's name."""
    bus, store = store_of(Counter("a.b.n", tags=("model", "user")), LastValue("a.b.g"))
    for text in HOSTILE:
        bus.execute("a.b", {"g": 1}, {"model": text, "user": "u"})
        bus.execute("a.b", {"g": 1}, {"user": text, text: text})
    _send(store, daemon, form)
    counters = daemon.read("counters")
    allowed = {
        "standard": r"a\.b\.n\.[\w-]{1,128}\.[\w-]{1,128}",
        "datadog": r"a\.b\.n(;model=[\w.-]+)?(;user=[\w.-]+)?",
    }
    assert [key for key in counters if not re.fullmatch(allowed[form], key)] == []
    assert sum(counters.values()) == 2 * len(HOSTILE)
    assert daemon.read("gauges") == {"a.b.g": 1}


@pytest.mark.parametrize("form", ["standard", "datadog"])
def test_hostile_names_add_no_metric(daemon: StatsD, form: str) -> None:
    names = [text for text in HOSTILE if text.isprintable() and "." not in text]
    definitions: list[Metric] = [
        Counter((f"m{number}", name, f"\N{SNOWMAN}{number}"), event="a.b")
        for number, name in enumerate(names)
    ]
    bus, store = store_of(*definitions)
    bus.execute("a.b", {})
    _send(store, daemon, form)
    counters = daemon.read("counters")
    assert len(counters) == len(names)
    assert set(counters.values()) == {1}
    assert [key for key in counters if not re.fullmatch(r"m\d+[\w.-]*", key)] == []


def _send(store: MetricStore, daemon: StatsD, form: str) -> None:
    options: dict[str, object] = {"port": daemon.port, "format": form}
    with reporting(store, **options) as reporter:
        assert reporter.flush(SECONDS)
    assert isinstance(reporter, StatsDReporter)
    status = reporter.status()
    assert dict(status.dropped) == {}
    daemon.wait_for_lines(status.delivered)
