"""What a server gets to read, and when."""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

import llmevents_statsd
from llmevents import Bus, LLMEventsError, OptionError
from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    MetricDefinitionError,
    MetricStore,
    Snapshot,
    Sum,
    Summary,
)
from llmevents.reporting import Reporter
from llmevents.testing import ReporterConformance
from llmevents_statsd import StatsDReporter
from tests.reporters.statsd_wire import (
    NEVER,
    SECONDS,
    Server,
    listening,
    read_dog,
    reporting,
    store_of,
    totals,
    wait_for,
)


TAGS = ("provider", "model")
GPT = {"provider": "openai", "model": "gpt-4.1"}

ALL = (
    Counter("llm.calls.total", event="llm.chat.*", tags=TAGS),
    Sum("llm.chat.stop.cost_nano_usd", tags=("model",), unit=("nano_usd", "usd")),
    Sum("llm.chat.stop.balance", monotonic=False),
    LastValue("llm.chat.stop.temperature", tags=("model",)),
    Distribution(
        "llm.chat.stop.duration", tags=("model",), unit=("nanosecond", "second")
    ),
    Summary("llm.chat.stop.output_tokens", tags=("model",)),
)

CALL = {
    "cost_nano_usd": 1_234_567,
    "balance": -7,
    "temperature": -0.5,
    "duration": 250_000_000,
    "output_tokens": 300,
}


@pytest.fixture
def server() -> Iterator[Server]:
    with listening() as made:
        yield made


# --- Both formats, in full ---------------------------------------------------------


def test_standard_lines_read_like_this(server: Server) -> None:
    bus, store = store_of(*ALL)
    with reporting(store, port=server.port, prefix="shop", tags={"env": "prod"}) as r:
        bus.execute("llm.chat.stop", CALL, GPT)
        bus.execute("llm.chat.exception", {}, {"model": "x:1|c\ny:2|c"})
        assert r.flush(SECONDS)
    assert server.lines(13)[:10] == [
        "shop.llm.calls.total.openai.gpt-4_1.prod:1|c",
        "shop.llm.calls.total.none.x_1_c_y_2_c.prod:1|c",
        "shop.llm.chat.stop.cost_nano_usd.gpt-4_1.prod:0.001234567|c",
        "shop.llm.chat.stop.balance.prod:0|g",
        "shop.llm.chat.stop.balance.prod:-7|g",
        "shop.llm.chat.stop.temperature.gpt-4_1.prod:0|g",
        "shop.llm.chat.stop.temperature.gpt-4_1.prod:-0.5|g",
        "shop.llm.chat.stop.duration.gpt-4_1.prod:250|ms",
        "shop.llm.chat.stop.output_tokens.gpt-4_1.prod:300|ms",
        # Gauges once more when stopping.
        "shop.llm.chat.stop.balance.prod:0|g",
    ]
    status = r.status()
    assert status.is_balanced
    assert status.delivered == server.received() == 13


def test_dogstatsd_lines_read_like_this(server: Server) -> None:
    bus, store = store_of(*ALL)
    options = {
        "format": "datadog",
        "prefix": "shop.",
        "tags": {"env": "prod", "model": "?"},
    }
    with reporting(store, port=server.port, **options) as r:
        bus.execute("llm.chat.stop", CALL, GPT)
        bus.execute("llm.chat.stop", CALL, GPT)
        bus.execute("llm.chat.exception", {}, {"provider": "a,b|#c:d", "model": ""})
        assert r.flush(SECONDS)
    lines = server.lines(9)
    assert lines[:7] == [
        "shop.llm.calls.total:2|c|#env:prod,model:gpt-4.1,provider:openai",
        "shop.llm.calls.total:1|c|#env:prod,provider:a_b__c_d",
        "shop.llm.chat.stop.cost_nano_usd:0.002469134|c|#env:prod,model:gpt-4.1",
        "shop.llm.chat.stop.balance:-14|g|#env:prod,model:_",
        "shop.llm.chat.stop.temperature:-0.5|g|#env:prod,model:gpt-4.1",
        "shop.llm.chat.stop.duration:0.25|d|@0.5|#env:prod,model:gpt-4.1",
        "shop.llm.chat.stop.output_tokens:300|h|@0.5|#env:prod,model:gpt-4.1",
    ]
    assert [read_dog(line).count for line in lines[5:7]] == [2, 2]
    assert r.status().delivered == len(lines) == 9


# --- Counters ----------------------------------------------------------------------


def test_a_counter_is_sent_as_what_came_in_since(server: Server) -> None:
    """And not at all if nothing did."""
    bus, store = store_of(Counter("a.b.n"))
    with reporting(store, port=server.port) as reporter:
        for count in (2, 0, 3):
            for _ in range(count):
                bus.execute("a.b", {})
            assert reporter.flush(SECONDS)
    assert server.lines(2) == ["a.b.n:2|c", "a.b.n:3|c"]


def test_float_deltas_come_to_the_total_exactly(server: Server) -> None:
    """Each delta is rounded to nothing: what is written adds up to what is shown."""
    bus, store = store_of(Sum("a.b.f"), Sum("a.b.cost", unit=("nano_usd", "cent")))
    with reporting(store, port=server.port) as reporter:
        for number in range(200):
            bus.execute("a.b", {"f": 0.1 * number + 1e-9, "cost": 10**number % 97})
            assert reporter.flush(SECONDS)
        bus.execute("a.b", {"f": 1e17})
        bus.execute("a.b", {"f": 1e-7})
    families = store.snapshot().families
    (f,) = families["a.b.f"].series
    (cost,) = families["a.b.cost"].series
    assert isinstance(cost.raw, int)
    sums = totals(server.lines(reporter.status().delivered))
    assert sums["a.b.f"] == Decimal(repr(f.value))
    assert Fraction(sums["a.b.cost"]) == cost.raw * cost.scale
    assert "e" not in b"".join(server.packets).decode().lower()


def test_a_unit_without_an_end_comes_to_what_is_shown(server: Server) -> None:
    """A seventh of something has no last digit, but a shortest float has."""
    bus, store = store_of(Sum("a.b.t", unit=("nanosecond", "minute")))
    with reporting(store, port=server.port) as reporter:
        for _ in range(3):
            bus.execute("a.b", {"t": 7_000_000_001})
            assert reporter.flush(SECONDS)
    (series,) = store.snapshot().families["a.b.t"].series
    assert totals(server.lines(3))["a.b.t"] == Decimal(repr(series.value))


def test_counts_of_many_threads_arrive_exactly(server: Server) -> None:
    """While the reporter looks all the time."""
    bus, store = store_of(Counter("a.b.n", tags=("m",)), Sum("a.b.tokens"))

    def emit(number: int) -> None:
        for _ in range(2_000):
            bus.execute("a.b", {"tokens": 3}, {"m": str(number % 3)})

    threads = [
        threading.Thread(target=emit, args=(number,), daemon=True)
        for number in range(8)
    ]
    with reporting(store, port=server.port) as reporter:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert reporter.flush(SECONDS)
            # Not more than the system keeps for a server that is late, or it is lost.
            sent = reporter.status().delivered
            wait_for(lambda sent=sent: server.received() > sent - 100)  # type: ignore[misc]  # bound now
        for thread in threads:
            thread.join(SECONDS)
    counted = totals(server.lines(reporter.status().delivered))
    assert counted.pop("a.b.tokens") == 48_000
    assert counted == {"a.b.n.0": 6_000, "a.b.n.1": 6_000, "a.b.n.2": 4_000}


def test_what_was_there_before_the_start_is_sent_once(server: Server) -> None:
    """Also by a reporter that is stopped and started again."""
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})
    reporter = StatsDReporter(port=server.port, interval=NEVER)
    for _ in range(2):
        reporter.start(bus, store)
        reporter.stop(SECONDS)
    assert server.lines(1) == ["a.b.n:1|c"]
    bus.execute("a.b", {})
    reporter.start(bus, store)
    reporter.stop(SECONDS)
    assert server.lines(2) == ["a.b.n:1|c", "a.b.n:1|c"]
    other_bus, other = store_of(Counter("a.b.n"))
    other_bus.execute("a.b", {})
    reporter.start(other_bus, other)
    reporter.stop(SECONDS)
    assert len(server.lines(3)) == 3


@pytest.mark.parametrize("forget", ["prune", "after_fork_in_child"])
def test_a_series_that_begins_again_is_sent_from_its_new_beginning(
    server: Server, forget: str
) -> None:
    """Also where it has come to as much as before by the time of the next look."""
    bus, store = store_of(
        Counter("a.b.n", constant_tags={"m": "x"}),
        Distribution("a.b.d", buckets=(1, 2), constant_tags={"m": "x"}),
    )
    with reporting(store, port=server.port) as reporter:
        for values in ([1, 1, 2], [2], []):
            for value in values:
                bus.execute("a.b", {"d": value})
            assert reporter.flush(SECONDS)
            if forget == "prune":
                assert store.prune({"m": "x"}) == 2 * bool(values)
            else:
                store.after_fork_in_child()
        bus.execute("a.b", {"d": 1})
    assert server.lines(8) == [
        "a.b.n.x:3|c", "a.b.d.x:1|ms", "a.b.d.x:1|ms", "a.b.d.x:2|ms",
        "a.b.n.x:1|c", "a.b.d.x:2|ms",
        "a.b.n.x:1|c", "a.b.d.x:1|ms",
    ]  # fmt: skip


def test_a_series_that_only_seems_unchanged_is_sent(server: Server) -> None:
    """It was forgotten between two looks, and has come to as much again."""
    bus, store = store_of(Counter("a.b.n", tags=("m",)))
    with reporting(store, port=server.port) as reporter:
        for _ in range(3):
            bus.execute("a.b", {}, {"m": "x"})
            assert reporter.flush(SECONDS)
            store.prune({"m": "x"})
    assert server.lines(3) == ["a.b.n.x:1|c"] * 3


def test_a_sum_that_went_down_is_taken_for_a_new_one(server: Server) -> None:
    bus, store = store_of(Counter("a.b.n"), Distribution("a.b.d", buckets=(1, 2)))
    reporter = StatsDReporter(port=server.port, interval=NEVER)
    earlier: Snapshot | None = None

    class Turning(MetricStore):
        def snapshot(self) -> Snapshot:
            return earlier or store.snapshot()

    reporter.start(bus, Turning(store.definitions))
    bus.execute("a.b", {"d": 1})
    first = store.snapshot()
    bus.execute("a.b", {"d": 2})
    assert reporter.flush(SECONDS)
    earlier = first
    assert reporter.flush(SECONDS)
    reporter.stop(SECONDS)
    assert server.lines(5) == [
        "a.b.n:2|c", "a.b.d:1|ms", "a.b.d:2|ms", "a.b.n:1|c", "a.b.d:1|ms",
    ]  # fmt: skip


# --- Distributions and summaries ---------------------------------------------------


def test_a_single_value_is_sent_as_it_was(server: Server) -> None:
    bus, store = store_of(
        Distribution("a.b.d", unit=("nanosecond", "second")), Summary("a.b.s")
    )
    measured = (12_345_678, 3_000_000_000, 99_000_000_000_000, 0, 81_920_000_000)
    with reporting(store, port=server.port) as reporter:
        for value in measured:
            bus.execute("a.b", {"d": value, "s": value})
            assert reporter.flush(SECONDS)
    lines = server.lines(10)
    assert lines[::2] == [f"a.b.d:{Decimal(v) / 10**6:f}|ms" for v in measured]
    assert lines[1::2] == [f"a.b.s:{v}|ms" for v in measured]


def test_count_and_sum_of_a_distribution_are_right(server: Server) -> None:
    bus, store = store_of(Distribution("a.b.d"), Summary("a.b.s"))
    values = [number**2 % 5_003 for number in range(1_000)]
    with reporting(store, port=server.port, format="datadog") as reporter:
        for value in values:
            bus.execute("a.b", {"d": value, "s": -value})
            if value % 50 == 0:
                assert reporter.flush(SECONDS)
    lines = [read_dog(line) for line in server.lines(reporter.status().delivered)]
    for name, sign in (("a.b.d", 1), ("a.b.s", -1)):
        mine = [line for line in lines if line.name == name]
        assert sum(line.count for line in mine) == 1_000
        together = sum(line.count * line.value for line in mine)
        assert float(together) == pytest.approx(sign * sum(values), rel=1e-9)


@pytest.mark.parametrize("count", [1, 49, 100, 101, 1_234, 98_765])
def test_every_line_of_a_standard_timer_stands_for_as_many_values(
    server: Server, count: int
) -> None:
    """The npm daemon weighs lines alike; a rare value is not to look frequent."""
    bus, store = store_of(Distribution("a.b.d", buckets=(1, 10)))
    with reporting(store, port=server.port) as reporter:
        for number in range(count):
            bus.execute("a.b", {"d": 5 if number else 1})
    wait_for(lambda: values_of(server) == count)
    lines = server.lines(reporter.status().delivered)
    assert min(count, 50) <= len(lines) <= 102
    rates = [line.partition("|@")[2] for line in lines]
    assert sum(each != rates[-1] for each in rates) <= 5
    values = [float(line.split(":")[1].split("|")[0]) for line in lines]
    mean = (1 + 5 * (count - 1)) / count
    assert sum(values) / len(values) == pytest.approx(mean, rel=0.01)


def values_of(server: Server) -> float:
    """Return for how many values all lines stand, as the npm daemon adds them up."""
    lines = b"\n".join(server.packets).decode().splitlines()
    rates = [line.partition("|@")[2] or "1" for line in lines]
    return sum(1 / float(rate) for rate in rates)


@pytest.mark.parametrize(
    ("own", "general", "lines"),
    [(None, None, 16), (0.25, None, 4), (None, 0.25, 4), (1, 0.25, 16)],
)
def test_a_sample_rate_says_how_many_values_have_a_line(
    server: Server, own: float | None, general: float | None, lines: int
) -> None:
    """And whichever is chosen, none is lost."""
    options = {"statsd": {"sample_rate": own}}
    bus, store = store_of(Summary("a.b.s", reporter_options=options))
    with reporting(store, port=server.port, sample_rate=general) as reporter:
        for _ in range(16):
            bus.execute("a.b", {"s": 8})
    assert reporter.status().delivered == lines
    wait_for(lambda: values_of(server) == 16)


def test_negative_values_are_no_timers(server: Server) -> None:
    """The npm daemon takes such a line for a bad one; Datadog's agent does not."""
    bus, store = store_of(Summary("a.b.s", tags=("m",)))
    bus.execute("a.b", {"s": -3}, {"m": "x"})
    bus.execute("a.b", {"s": 3}, {"m": "y"})
    with reporting(store, port=server.port) as reporter:
        assert reporter.flush(SECONDS)
    with reporting(store, port=server.port, format="datadog"):
        pass
    assert server.lines(3) == ["a.b.s.y:3|ms", "a.b.s:-3|h|#m:x", "a.b.s:3|h|#m:y"]
    status = reporter.status()
    assert (status.accepted, dict(status.dropped)) == (2, {"negative": 1})


def test_values_that_fit_no_bucket_do_not_move_later_ones(server: Server) -> None:
    """A negative value in a bucket that begins at 0 stays the first look's matter."""
    bus, store = store_of(Distribution("a.b.d", buckets=(10, 20)))
    with reporting(store, port=server.port) as reporter:
        for value in (-1_000, 4, 12):
            bus.execute("a.b", {"d": value})
            assert reporter.flush(SECONDS)
    assert server.lines(3) == ["a.b.d:0|ms", "a.b.d:4|ms", "a.b.d:12|ms"]


# --- Names and tags ----------------------------------------------------------------


def test_tags_that_a_function_makes_are_segments_by_name(server: Server) -> None:
    bus, store = store_of(
        Counter("a.b.n", tags=lambda _measurements, metadata: dict(metadata))
    )
    bus.execute("a.b", {}, {"z": "last", "c": "first"})
    with reporting(store, port=server.port, tags={"m": "global"}):
        pass
    assert server.lines(1) == ["a.b.n.first.global.last:1|c"]


def test_a_tag_of_the_metric_beats_a_global_one(server: Server) -> None:
    bus, store = store_of(Counter("a.b.n", tags=("env",)))
    bus.execute("a.b", {}, {"env": "test"})
    bus.execute("a.b", {})
    with reporting(store, port=server.port, tags={"env": "prod", "rack": 7}):
        pass
    assert server.lines(2) == ["a.b.n.test.7:1|c", "a.b.n.prod.7:1|c"]


@pytest.mark.parametrize(
    ("definitions", "complaint"),
    [
        pytest.param(
            (Counter("a.b c"), Sum("a.b:c")),
            "cannot tell it from 'a.b:c': both become 'a.b_c'",
            id="same-name",
        ),
        pytest.param(
            (Counter("a.n", tags=("model",)), Counter("a.n.total")),
            "it may become 'a.n.total'",
            id="tag-as-name",
        ),
        pytest.param(
            (Counter("a.n", tags=("x y", "x:y")),),
            "cannot tell its tags 'x y' and 'x:y' apart",
            id="same-tag",
        ),
        pytest.param(
            (Counter("a.n", reporter_options={"statsd": {"rate": 1}}),),
            "has 'rate', which is not known; nearest is 'sample_rate'",
            id="unknown-option",
        ),
        pytest.param(
            (Counter("a.n", reporter_options={"statsd": {"sample_rate": 1}}),),
            "sent as one line however many events",
            id="sampled-counter",
        ),
        pytest.param(
            (Summary("a.n", reporter_options={"statsd": {"sample_rate": 2}}),),
            "its sample_rate for statsd is 2; pass more than 0",
            id="bad-rate",
        ),
    ],
)
def test_metrics_that_statsd_cannot_have_are_refused_at_the_start(
    definitions: tuple[Metric, ...], complaint: str
) -> None:
    reporter = StatsDReporter()
    with pytest.raises(MetricDefinitionError, match=complaint):
        reporter.start(Bus(), MetricStore(definitions))
    assert reporter.flush(0.0)


@pytest.mark.parametrize(
    "definitions",
    [
        (Counter("a.n", tags=("model",)), LastValue("a.n.total")),
        (Counter("a.n", tags=("model", "user")), Counter("a.n.total")),
        (Counter("a.n", tags=lambda _m, _d: {}), Counter("a.n.total")),
        (Counter("a.n.x", tags=lambda _m, _d: {}), Counter("a.n", tags=("m",))),
        (Counter("a.n", event="x.y"), Counter("a.n", event="x.z")),
    ],
)
def test_metrics_that_only_look_alike_are_taken(
    server: Server, definitions: tuple[Metric, ...]
) -> None:
    with reporting(MetricStore(definitions), port=server.port) as reporter:
        assert reporter.flush(SECONDS)


def test_with_dogstatsd_a_tag_is_no_part_of_the_name(server: Server) -> None:
    store = MetricStore([Counter("a.n", tags=("model",)), Counter("a.n.total")])
    with reporting(store, port=server.port, format="datadog") as reporter:
        assert reporter.flush(SECONDS)


# --- Packets -----------------------------------------------------------------------


def test_packets_are_filled_across_metrics(server: Server) -> None:
    bus, store = store_of(*(Counter(f"a.b.n{number}") for number in range(40)))
    bus.execute("a.b", {})
    with reporting(store, port=server.port, mtu=64) as reporter:
        assert reporter.flush(SECONDS)
    lines = server.lines(40)
    assert len(lines) == reporter.status().delivered == 40
    assert max(map(len, server.packets)) <= 64
    for packet, following in zip(server.packets, server.packets[1:], strict=False):
        assert len(packet) + 1 + len(following.split(b"\n")[0]) > 64


def test_a_line_that_is_too_long_is_counted_and_costs_no_other(server: Server) -> None:
    bus, store = store_of(Counter("a.b.n", tags=("model",)), Counter("a.b.m"))
    bus.execute("a.b", {}, {"model": "x" * 60})
    bus.execute("a.b", {}, {"model": "y"})
    with reporting(store, port=server.port, mtu=64) as reporter:
        assert reporter.flush(SECONDS)
        assert reporter.flush(SECONDS)
    assert server.lines(2) == ["a.b.n.y:1|c", "a.b.m:2|c"]
    status = reporter.status()
    assert (status.accepted, dict(status.dropped)) == (3, {"oversize": 1})


def test_a_burst_takes_breaks_and_arrives_in_full(server: Server) -> None:
    bus, store = store_of(Counter("a.b.n", tags=("number",)))
    for number in range(2_000):
        bus.execute("a.b", {}, {"number": number})
    with reporting(store, port=server.port) as reporter:
        assert reporter.flush(SECONDS)
    assert len(set(server.lines(2_000))) == reporter.status().delivered == 2_000


# --- Life --------------------------------------------------------------------------


def test_it_looks_by_itself(server: Server) -> None:
    bus, store = store_of(Counter("a.b.n"))
    reporter = StatsDReporter(port=server.port, interval=0.05)
    reporter.start(bus, store)
    bus.execute("a.b", {})
    assert server.lines(1) == ["a.b.n:1|c"]
    reporter.stop(SECONDS)


def test_a_second_start_is_refused() -> None:
    bus, store = store_of(Counter("a.b.n"))
    with (
        reporting(store) as reporter,
        pytest.raises(LLMEventsError, match=r"started already; stop\(\) it first"),
    ):
        reporter.start(bus, store)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_sends_what_is_its_own(server: Server) -> None:
    """Nothing by itself; and if it starts the reporter anew, nothing of the parent's."""
    bus, store = store_of(Counter("a.b.n", tags=("who",)))
    with reporting(store, port=server.port) as reporter:
        bus.execute("a.b", {}, {"who": "parent"})
        assert reporter.flush(SECONDS)
        bus.execute("a.b", {}, {"who": "parent"})
        pid = os.fork()
        if pid == 0:
            status = 2
            try:
                signal.alarm(30)
                bus.execute("a.b", {}, {"who": "child"})
                done = reporter.flush(SECONDS)
                reporter.stop(SECONDS)
                reporter.start(bus, store)
                reporter.stop(SECONDS)
                balanced = (
                    reporter.status().accepted == reporter.status().delivered == 1
                )
                status = 0 if done and balanced else 1
            finally:
                os._exit(status)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert exit_code == 0
    assert sorted(server.lines(3)) == [
        "a.b.n.child:1|c", "a.b.n.parent:1|c", "a.b.n.parent:1|c",
    ]  # fmt: skip


def test_who_starts_in_a_forked_child_starts_at_zero(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, without the fork: the process has another id all of a sudden."""
    bus, store = store_of(Counter("a.b.n"))
    with reporting(store, port=server.port) as reporter:
        bus.execute("a.b", {})
        assert reporter.flush(SECONDS)
        worker = reporter._worker
        assert worker is not None
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: 1)
            store.after_fork_in_child()
            bus.execute("a.b", {})
            reporter.start(bus, store)
            assert reporter.status().accepted == 0
            reporter.stop(SECONDS)
        worker.stop(SECONDS)
    assert server.lines(2) == ["a.b.n:1|c"] * 2


def test_without_the_client_the_message_has_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "statsd", None)
    assert llmevents_statsd.__file__ is not None
    with pytest.raises(
        ModuleNotFoundError, match=r'run: pip install "llmevents\[statsd\]"'
    ) as raised:
        runpy.run_path(llmevents_statsd.__file__)
    assert raised.value.name == "statsd"


# --- Options -----------------------------------------------------------------------

WRONG: list[tuple[str, object, str]] = [
    ("host", "", "a host's name or address"),
    ("host", None, "a host's name or address"),
    ("host", "a\nb", "a host's name or address"),
    ("port", 0, "an integer from 1 to 65,535"),
    ("port", 65_536, "an integer from 1 to 65,535"),
    ("port", True, "an integer from 1 to 65,535"),
    ("port", "8125", "an integer from 1 to 65,535"),
    ("socket_path", "", "a path of 1 to"),
    ("socket_path", "a\0b", "a path of 1 to"),
    ("socket_path", "x" * 200, "a path of 1 to"),
    ("socket_path", 7, "a path or None"),
    ("format", "json", "'standard' or 'datadog'"),
    ("format", None, "'standard' or 'datadog'"),
    ("prefix", "a b", "at most 100 characters"),
    ("prefix", "a..b", "at most 100 characters"),
    ("prefix", ".", "at most 100 characters"),
    ("prefix", "x" * 101, "at most 100 characters"),
    ("prefix", None, "at most 100 characters"),
    ("tags", ["env"], "a mapping of names to text or numbers"),
    ("tags", {"": "x"}, "a mapping of names to text or numbers"),
    ("tags", {"env": ""}, "a mapping of names to text or numbers"),
    ("tags", {"env": True}, "a mapping of names to text or numbers"),
    ("tags", {1: "x"}, "a mapping of names to text or numbers"),
    ("interval", 0, "seconds between 0.05 and 86,400"),
    ("interval", float("nan"), "seconds between 0.05 and 86,400"),
    ("interval", True, "seconds between 0.05 and 86,400"),
    ("interval", "10", "seconds between 0.05 and 86,400"),
    ("mtu", 63, "an integer from 64 to 65,507"),
    ("mtu", 65_508, "an integer from 64 to 65,507"),
    ("sample_rate", 0, "more than 0 and at most 1"),
    ("sample_rate", 1.5, "more than 0 and at most 1"),
    ("sample_rate", True, "more than 0 and at most 1"),
    ("sample_rate", "1", "more than 0 and at most 1"),
]


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    WRONG,
    ids=[f"{option}-{number}" for number, (option, *_) in enumerate(WRONG)],
)
def test_a_wrong_option_is_refused(option: str, value: object, expected: str) -> None:
    with pytest.raises(OptionError, match=f"expected {option} to be {expected}"):
        StatsDReporter(**{option: value})  # type: ignore[arg-type]  # what is being tested


def test_without_unix_sockets_a_path_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(OptionError, match="there are no Unix sockets here"):
        StatsDReporter(socket_path="/tmp/statsd.sock")  # noqa: S108  # nothing is there


def test_a_path_object_and_an_empty_prefix_are_fine(tmp_path: Path) -> None:
    StatsDReporter(socket_path=tmp_path / "s", prefix="")


# --- Conformance -------------------------------------------------------------------


class TestStandard(ReporterConformance):
    """Over UDP; there is no losing a packet on loopback without a full buffer."""

    bad_options = tuple({option: value} for option, value, _ in WRONG)
    format = "standard"

    @pytest.fixture(autouse=True)
    def _serve(self) -> Iterator[None]:
        self.server = Server()
        yield
        self.server.close()

    def make(self, **options: object) -> Reporter:
        given = {"port": self.server.port, "interval": 0.05, "format": self.format}
        return StatsDReporter(**{**given, **options})  # type: ignore[arg-type]  # any

    def received(self) -> int:
        return self.server.received()

    def vanish(self) -> None:
        self.server.close()


class TestDogStatsD(TestStandard):
    format = "datadog"


class TestUnixSocket(TestStandard):
    @pytest.fixture(autouse=True)
    def _serve(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "statsd.sock"
        self.server = Server(self.path)
        yield
        self.server.close()

    def make(self, **options: object) -> Reporter:
        given = {"socket_path": self.path, "interval": 0.05}
        return StatsDReporter(**{**given, **options})  # type: ignore[arg-type]  # any
