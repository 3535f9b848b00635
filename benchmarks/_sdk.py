"""What instrumentation adds to one call of the openai SDK, ours and the peers'."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._timing import Claim
from benchmarks._workers import State, take_turns


if TYPE_CHECKING:
    from openai import OpenAI
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

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
    """Return the best nanoseconds per call of each, and what each adds."""
    best = take_turns(STATES, _make_call, max(5, rounds // 10))
    best[f"added by {BEST_PEER}"] = min(best[f"added by {peer}"] for peer in PEERS)
    return best


def _make_call() -> Callable[[], object]:
    create = _client().chat.completions.create
    return partial(
        create, model="gpt-4o", messages=[{"role": "user", "content": "Good morning?"}]
    )


def _client() -> OpenAI:
    """Return a client whose requests are answered in the process."""
    import httpx2
    import openai

    logging.disable(logging.WARNING)
    body = json.dumps(ANSWER).encode()

    def answer(_request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "application/json"}
        return httpx2.Response(200, content=body, headers=headers)

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="none", http_client=openai.DefaultHttpxClient(transport=transport)
    )


@contextmanager
def instrumented(*sdks: str, spans: bool = False) -> Iterator[None]:
    """Instrument as users do: with prices, the default metrics and Prometheus."""
    from llmevents import Bus, configure
    from llmevents.llm.pricing import warm_up

    warm_up(wait=True)
    bus = Bus()
    options: dict[str, Any] = {"prometheus": {"port": 0}}
    tracers = _tracer_provider() if spans else None
    if spans:
        options["otel"] = {"metrics": False, "tracer_provider": tracers}
    with configure(bus=bus, instrument=[*sdks], logger=False, reporters=options):
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


STATES: dict[str, State] = {
    BARE: nullcontext,
    METRICS: partial(instrumented, "openai"),
    SPANS: partial(instrumented, "openai", spans=True),
    PEERS[0]: _openllmetry,
    PEERS[1]: _openinference,
    PEERS[2]: _opentelemetry_genai,
}
