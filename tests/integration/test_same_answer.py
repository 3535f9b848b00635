"""A production trace through four reporters at once: every system has the same totals.

The trace is that of a conversation service of 2023: 19,366 calls, with the tokens that
they are known to have used. Prometheus, the StatsD daemon and the OTLP receiver know
nothing of each other.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import llmevents
from llmevents import Bus, configure, span
from tests.data import TRACE, needs_data
from tests.integration.servers import Prometheus, StatsD, needs_prometheus, needs_statsd
from tests.reporters.otlp_server import OTLPServer


SECONDS = 120.0

CALLS = 19_366
INPUT = 22_361_870
OUTPUT = 4_088_665

INPUT_PRICE, OUTPUT_PRICE = 2_500, 10_000
"""Nano-dollars per token: $2.50 and $10.00 per million."""

COST = INPUT * INPUT_PRICE + OUTPUT * OUTPUT_PRICE

MODELS = ("gpt-4o", "gpt-4o-mini", "o3")

METRICS = MappingProxyType(
    {
        "llm.chat.requests.total": CALLS,
        "llm.tokens.input.total": INPUT,
        "llm.tokens.output.total": OUTPUT,
        "llm.cost.nano_usd.total": COST,
    }
)


class Totals(NamedTuple):
    """What a system says, in the order of METRICS."""

    calls: float
    input_tokens: float
    output_tokens: float
    cost_nano_usd: float


EXPECTED = Totals(*METRICS.values())


def trace() -> Iterator[tuple[datetime, int, int]]:
    with gzip.open(TRACE, "rt") as lines:
        for row in csv.DictReader(lines):
            when = datetime.fromisoformat(row["TIMESTAMP"][:26] + "+00:00")
            yield when, int(row["ContextTokens"]), int(row["GeneratedTokens"])


def replay(bus: Bus) -> None:
    """Emit every call of the trace, as a span that took as long as its output."""
    for number, (_, input_tokens, output_tokens) in enumerate(trace()):
        metadata = {"provider": "openai", "model": MODELS[number % len(MODELS)]}
        with span("llm.chat", {**metadata, "operation": "chat"}, bus=bus) as call:
            call.measure(
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cost_nano_usd=input_tokens * INPUT_PRICE + output_tokens * OUTPUT_PRICE,
            )


@needs_data
@needs_prometheus
@needs_statsd
def test_a_trace_has_the_same_totals_in_every_system(tmp_path: Path) -> None:
    bus = Bus(strict=True)
    console = io.StringIO()
    receiver = OTLPServer()
    receiver.start()
    try:
        with StatsD(tmp_path) as statsd, Prometheus(tmp_path) as prometheus:
            telemetry = configure(
                bus=bus,
                logger=False,
                metrics=["basic", "cost", cost_in_nano_usd()],
                shutdown_timeout=60.0,
                reporters={
                    "console": {"stream": console, "live": False, "interval": 60.0},
                    "statsd": {"port": statsd.port, "interval": 1.0},
                    "prometheus": {"port": prometheus.target_port},
                    "otel": {"endpoint": receiver.url, "queue_size": CALLS},
                },
            )
            with telemetry:
                replay(bus)
                assert telemetry.flush(SECONDS)
                check_status(telemetry)
                assert prometheus.wait_for(prometheus_totals, EXPECTED) == EXPECTED
            delivered = telemetry.reporters["statsd"].status().delivered
            statsd.wait_for_lines(delivered)
            assert statsd_totals(statsd) == EXPECTED
    finally:
        receiver.stop()
    assert console_totals(console.getvalue()) == EXPECTED
    assert otlp_totals(receiver) == EXPECTED
    assert span_totals(receiver) == EXPECTED
    assert telemetry.usage().input_tokens == INPUT


def cost_in_nano_usd() -> Any:  # noqa: ANN401  # a metric of the caller's list
    """A cost in integers; that in cents is what a float has room for."""
    return llmevents.metrics.Sum(
        "llm.cost.nano_usd.total",
        event="llm.chat.stop",
        measurement="cost_nano_usd",
        tags=("provider", "model"),
        unit="nano_usd",
    )


def check_status(telemetry: llmevents.Telemetry) -> None:
    status = telemetry.status()
    assert status.store == {"refused": 0, "skipped": 0, "overflowing": 0}
    assert status.bus["handler_failures"] == 0
    for each in status.reporters.values():
        assert each.is_balanced
        assert not any(each.dropped.values())


def prometheus_totals(prometheus: Prometheus) -> Totals:
    return Totals(
        *(prometheus.value(f"sum({name.replace('.', '_')})") for name in METRICS)
    )


def statsd_totals(statsd: StatsD) -> Totals:
    """Tags are segments of the name: there is a counter for each model."""
    counters = statsd.read("counters")
    return Totals(
        *(
            sum(
                counters[f"{name}.openai.{model.replace('.', '_')}"] for model in MODELS
            )
            for name in METRICS
        )
    )


def console_totals(text: str) -> Totals:
    """Add up the last line of each series."""
    last = dict(re.findall(r"^([a-z._]+\{[^}]*\}) ([0-9]+)", text, re.MULTILINE))
    return Totals(
        *(
            sum(int(last[key]) for key in last if key.startswith(f"{name}{{"))
            for name in METRICS
        )
    )


def otlp_totals(receiver: OTLPServer) -> Totals:
    """Totals are cumulative: the last one of each series counts."""
    last: dict[str, Any] = {
        metric.name: metric for metric in receiver.taken["/v1/metrics"]
    }
    return Totals(
        *(sum(point.as_int for point in last[name].sum.data_points) for name in METRICS)
    )


def span_totals(receiver: OTLPServer) -> Totals:
    totals = [0, 0, 0, 0]
    ids = set()
    for each in receiver.spans:
        ids.add(each.span_id)
        attributes = {pair.key: pair.value for pair in each.attributes}
        totals[1] += attributes["gen_ai.usage.input_tokens"].int_value
        totals[2] += attributes["gen_ai.usage.output_tokens"].int_value
        totals[3] += round(attributes["llmevents.cost.usd"].double_value * 1e9)
    totals[0] = len(ids)
    return Totals(*totals)


def test_the_comparison_can_tell_a_lost_call() -> None:
    assert Totals(CALLS - 1, INPUT, OUTPUT, COST) != EXPECTED
