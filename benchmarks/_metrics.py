"""What metrics cost: per event, per scrape and per series."""

from __future__ import annotations

import gc
import tracemalloc
from bisect import bisect_left
from collections.abc import Callable

from benchmarks._suites import Suite
from benchmarks._timing import Candidate, Claim


EVENT = ("llm", "chat", "stop")
TAGS = ("provider", "model")
BOUNDS = tuple(0.01 * 2**step for step in range(14))
MEASUREMENTS = {
    "duration": 1_234_567_890,
    "monotonic_time": 1,
    "input_tokens": 1_200,
    "output_tokens": 300,
    "cost_nano_usd": 12_345,
}
METADATA = {
    "provider": "openai",
    "model": "gpt-4o",
    "span_id": "1",
    "status": "success",
}
SERIES = 10_000

FACTS = {"provider": "openai", "model": "gpt-4o", "operation": "chat"}

SUMS = {"input_tokens": "input", "output_tokens": "output", "cost_nano_usd": "cost"}


def _definitions() -> list[object]:
    from llmevents.metrics import Counter, Distribution, Sum

    return [
        Counter("calls", event=EVENT, tags=TAGS),
        *(
            Sum(name, event=EVENT, measurement=measurement, tags=TAGS)
            for measurement, name in SUMS.items()
        ),
        Distribution(
            "duration",
            event=EVENT,
            measurement="duration",
            tags=TAGS,
            unit=("nanosecond", "second"),
            buckets=BOUNDS,
        ),
    ]


def _store(name: str) -> Candidate:
    from llmevents import Bus
    from llmevents.metrics import MetricStore

    bus = Bus()
    MetricStore(_definitions()).attach(bus)  # type: ignore[arg-type]  # a list of any metrics
    return _execute(name, bus)


def _execute(name: str, bus: object) -> Candidate:
    names = {"bus": bus, "e": EVENT, "m": MEASUREMENTS, "d": METADATA}
    return Candidate(name, "bus.execute(e, m, d)", names)


def _hand_written() -> Candidate:
    """Five dict updates, as one would write them for one thread without any checks."""
    from llmevents import Bus

    calls: dict[tuple[str, str], int] = {}
    inputs: dict[tuple[str, str], int] = {}
    outputs: dict[tuple[str, str], int] = {}
    costs: dict[tuple[str, str], int] = {}
    buckets: dict[tuple[str, str], list[float]] = {}

    def handle(
        event: object, measurements: object, metadata: object, _: object
    ) -> None:
        found: dict[str, int] = measurements  # type: ignore[assignment]  # it is one
        facts: dict[str, str] = metadata  # type: ignore[assignment]  # likewise
        key = (facts["provider"], facts["model"])
        calls[key] = calls.get(key, 0) + 1
        inputs[key] = inputs.get(key, 0) + found["input_tokens"]
        outputs[key] = outputs.get(key, 0) + found["output_tokens"]
        costs[key] = costs.get(key, 0) + found["cost_nano_usd"]
        counts = buckets.get(key)
        if counts is None:
            counts = buckets[key] = [0.0] * (len(BOUNDS) + 2)
        seconds = found["duration"] / 1e9
        counts[bisect_left(BOUNDS, seconds)] += 1
        counts[-1] += seconds

    bus = Bus()
    bus.attach("by hand", "llm.chat.stop", handle)
    return _execute("five updates by hand", bus)


def _prometheus_client() -> Candidate:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    names: dict[str, object] = {
        name: Counter(name, name, TAGS, registry=registry)
        for name in ("calls", *SUMS.values())
    }
    histogram = Histogram("duration", "s", TAGS, buckets=BOUNDS, registry=registry)
    statement = """
calls.labels(d["provider"], d["model"]).inc()
input.labels(d["provider"], d["model"]).inc(m["input_tokens"])
output.labels(d["provider"], d["model"]).inc(m["output_tokens"])
cost.labels(d["provider"], d["model"]).inc(m["cost_nano_usd"])
duration.labels(d["provider"], d["model"]).observe(m["duration"] / 1e9)"""
    names |= {"duration": histogram, "m": MEASUREMENTS, "d": METADATA}
    return Candidate("prometheus_client", statement, names)


def _opentelemetry() -> Candidate:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    meter = MeterProvider([InMemoryMetricReader()]).get_meter("benchmarks")
    names: dict[str, object] = {
        name: meter.create_counter(name) for name in ("calls", *SUMS.values())
    }
    names["duration"] = meter.create_histogram(
        "duration", explicit_bucket_boundaries_advisory=BOUNDS
    )
    statement = """
a = {"provider": d["provider"], "model": d["model"]}
calls.add(1, a)
input.add(m["input_tokens"], a)
output.add(m["output_tokens"], a)
cost.add(m["cost_nano_usd"], a)
duration.record(m["duration"] / 1e9, a)"""
    names |= {"m": MEASUREMENTS, "d": METADATA}
    return Candidate("OpenTelemetry SDK instruments", statement, names)


def metrics() -> Suite:
    """One event that feeds five metrics, against the same five updates elsewhere."""
    ours = "store, 5 metrics"
    return Suite(
        (
            _store(ours),
            _hand_written(),
            _prometheus_client(),
            _opentelemetry(),
        ),
        (
            Claim(ours, "prometheus_client", 1 / 8),
            Claim(ours, "OpenTelemetry SDK instruments", 1 / 40),
            Claim(ours, "five updates by hand", 1.25),
        ),
    )


def reporters() -> Suite:
    """The same event with one reporter that reads the store, and with four."""
    import io

    from llmevents import Bus
    from llmevents.metrics import MetricStore
    from llmevents_console import ConsoleReporter
    from llmevents_otel import OTelReporter
    from llmevents_prometheus import PrometheusReporter
    from llmevents_statsd import StatsDReporter

    def started(count: int) -> Candidate:
        bus = Bus()
        store = MetricStore(_definitions())  # type: ignore[arg-type]  # as above
        store.attach(bus)
        every = (
            lambda: PrometheusReporter(port=0),
            StatsDReporter,
            lambda: OTelReporter(spans=False, endpoint="http://127.0.0.1:9"),
            lambda: ConsoleReporter(stream=io.StringIO(), live=False, interval=10.0),
        )
        for make in every[:count]:
            make().start(bus, store)
        return _execute(f"{count} reporters", bus)

    return Suite((started(1), started(4)), (Claim("4 reporters", "1 reporters", 1.1),))


def otel_spans() -> Suite:
    """The two events of a span through the OpenTelemetry reporter, against the SDK.

    And the whole of it: our span, the bus and the reporter.
    """
    from opentelemetry.sdk.trace import TracerProvider

    from llmevents import Bus, span
    from llmevents.metrics import MetricStore
    from llmevents_otel import OTelReporter

    provider = TracerProvider()
    bus = Bus()
    reporter = OTelReporter(metrics=False, tracer_provider=provider)
    reporter.start(bus, MetricStore([]))
    tracer = provider.get_tracer("benchmarks")
    ours, theirs = "start and stop, OpenTelemetry reporter", "OpenTelemetry SDK span"
    # An id as the library makes them, the same each time: one that was never open.
    metadata = {**FACTS, "span_id": "18ea1bb08e6e7460b770acb300000000", "scoped": True}
    names = {
        "execute": bus.execute,
        "start": ("myapp", "analyze", "start"),
        "stop": ("myapp", "analyze", "stop"),
        "began": {"monotonic_time": 1, "system_time": 1_700_000_000_000_000_000},
        "ended": {"monotonic_time": 2, "duration": 1_000_000},
        "d": metadata,
    }
    return Suite(
        (
            Candidate(ours, "execute(start, began, d); execute(stop, ended, d)", names),
            Candidate(
                "span, OpenTelemetry reporter",
                "with span('myapp.analyze', d, bus=bus): pass",
                {"span": span, "d": FACTS, "bus": bus},
            ),
            Candidate(
                theirs,
                "with start('myapp.analyze', attributes=d): pass",
                {
                    "start": tracer.start_as_current_span,
                    "d": {**FACTS, "llmevents.span_id": metadata["span_id"]},
                },
            ),
        ),
        (Claim(ours, theirs, 1.3),),
    )


def scrape() -> Suite:
    """A scrape of many series, against prometheus_client's own."""
    from prometheus_client import generate_latest

    collector, _ = _filled_store(SERIES)
    registry, _ = _filled_registry(SERIES)
    ours = f"scrape of {SERIES:,} series"
    theirs = "prometheus_client"
    return Suite(
        (
            Candidate(ours, "g(r)", {"g": generate_latest, "r": collector}),
            Candidate(theirs, "g(r)", {"g": generate_latest, "r": registry}),
        ),
        (Claim(ours, theirs, 1.0),),
    )


def _filled_store(series: int) -> tuple[object, object]:
    from prometheus_client import CollectorRegistry

    from llmevents import Bus
    from llmevents.metrics import Counter, MetricStore
    from llmevents_prometheus import PrometheusReporter

    bus = Bus()
    registry = CollectorRegistry()
    store = MetricStore([Counter("calls", event="a.b", tags=TAGS)], max_series=series)
    store.attach(bus)
    for number in range(series):
        bus.execute(("a", "b"), {}, {"provider": "p", "model": f"model-{number}"})
    reporter = PrometheusReporter(port=None, registry=registry)
    reporter.start(bus, store)
    return registry, reporter


def _filled_registry(series: int) -> tuple[object, object]:
    from prometheus_client import CollectorRegistry, Counter

    registry = CollectorRegistry()
    counter = Counter("calls", "calls", TAGS, registry=registry)
    for number in range(series):
        counter.labels("p", f"model-{number}").inc()
    return registry, counter


def memory() -> dict[str, float]:
    """Return bytes per series of a counter, in a store and in prometheus_client."""
    measured = {}
    fillers: dict[str, Callable[[int], tuple[object, object]]] = {
        OURS: _filled_store,
        THEIRS: _filled_registry,
    }
    for name, fill in fillers.items():
        fill(10)
        gc.collect()
        tracemalloc.start()
        kept = fill(SERIES)
        gc.collect()
        measured[name] = tracemalloc.get_traced_memory()[0] / SERIES
        tracemalloc.stop()
        del kept
    return measured


OURS = "bytes per series, store"
THEIRS = "bytes per series, prometheus_client"
MEMORY_CLAIMS = (Claim(OURS, THEIRS, 1.0),)
