"""What instrumentation adds to one call of the openai SDK, ours and the peers'."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from benchmarks._timing import Claim


if TYPE_CHECKING:
    from openai import OpenAI
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

CALLS = 8
"""In one block; of a millisecond each, so that a block is short."""

BLOCKS = 8
"""Before the next one is put on: that takes longer than a block."""

BARE = "openai, not instrumented"
METRICS = "llmevents: prices, default metrics, Prometheus"
SPANS = "llmevents: the same and OpenTelemetry spans"
PEERS = ("OpenLLMetry", "OpenInference", "OpenTelemetry GenAI")
BEST_PEER = "the best peer"

CLAIMS = (
    Claim(f"added by {METRICS}", "", 60_000),
    Claim(f"added by {METRICS}", f"added by {BEST_PEER}", 0.2),
    Claim(f"added by {SPANS}", f"added by {BEST_PEER}", 0.5),
)

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Good morning."},
        }
    ],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 300,
        "total_tokens": 1500,
        "prompt_tokens_details": {"cached_tokens": 1024},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}


def measure(rounds: int) -> dict[str, float]:
    """Return the best nanoseconds per call of each, and what each adds.

    All patch the same functions, so they are put on and taken off in turns, and the
    minimum over the blocks counts.
    """
    logging.disable(logging.WARNING)
    client = _client()
    states: dict[str, Callable[[], Any]] = {
        BARE: _nothing,
        METRICS: lambda: _llmevents({"prometheus": {"port": 0}}),
        SPANS: lambda: _llmevents({"prometheus": {"port": 0}}, spans=True),
        PEERS[0]: _openllmetry,
        PEERS[1]: _openinference,
        PEERS[2]: _opentelemetry_genai,
    }
    best = dict.fromkeys(states, float("inf"))
    for _ in range(max(5, min(rounds // 20, 25))):
        for name, state in states.items():
            with state():
                times = [_block(client) for _ in range(BLOCKS)]
            best[name] = min(best[name], *times)
    for name in states:
        if name != BARE:
            best[f"added by {name}"] = best[name] - best[BARE]
    best[f"added by {BEST_PEER}"] = min(best[f"added by {peer}"] for peer in PEERS)
    return best


def _block(client: OpenAI) -> float:
    create: Any = client.chat.completions.create
    messages = [{"role": "user", "content": "Good morning?"}]
    create(model="gpt-4o", messages=messages)
    gc.collect(0)
    gc.disable()
    try:
        begin = perf_counter_ns()
        for _ in range(CALLS):
            create(model="gpt-4o", messages=messages)
        return (perf_counter_ns() - begin) / CALLS
    finally:
        gc.enable()


def _client() -> OpenAI:
    """Return a client whose requests are answered in the process."""
    import httpx2
    import openai

    body = json.dumps(ANSWER).encode()

    def answer(_request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "application/json"}
        return httpx2.Response(200, content=body, headers=headers)

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="none", http_client=openai.DefaultHttpxClient(transport=transport)
    )


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _llmevents(reporters: dict[str, Any], *, spans: bool = False) -> Iterator[None]:
    from llmevents import Bus, configure
    from llmevents.llm.pricing import warm_up

    warm_up(wait=True)
    bus = Bus()
    options: dict[str, Any] = dict(reporters)
    tracers = _tracer_provider() if spans else None
    if spans:
        options["otel"] = {"metrics": False, "tracer_provider": tracers}
    with configure(bus=bus, instrument=["openai"], logger=False, reporters=options):
        yield
    if tracers is not None:
        tracers.shutdown()


@contextmanager
def _openllmetry() -> Iterator[None]:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    with _peer(OpenAIInstrumentor()):
        yield


@contextmanager
def _openinference() -> Iterator[None]:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    with _peer(OpenAIInstrumentor()):
        yield


@contextmanager
def _opentelemetry_genai() -> Iterator[None]:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    with _peer(OpenAIInstrumentor()):
        yield


@contextmanager
def _peer(instrumentor: Any) -> Iterator[None]:  # noqa: ANN401  # three packages', untyped
    """A peer as its users have it: spans to a batch processor, metrics in memory."""
    tracers, meters = _tracer_provider(), _meter_provider()
    instrumentor.instrument(tracer_provider=tracers, meter_provider=meters)
    try:
        yield
    finally:
        instrumentor.uninstrument()
        tracers.shutdown()
        meters.shutdown()


def _tracer_provider() -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
        InMemorySpanExporter,
    )

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return provider


def _meter_provider() -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider(metric_readers=[InMemoryMetricReader()])
