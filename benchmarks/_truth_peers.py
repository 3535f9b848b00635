"""What the peers say of the recorded exchanges of OpenAI, read from their spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from llmevents.testing.provider import Exchange

PEERS: Mapping[str, str] = {
    "OpenLLMetry": "opentelemetry-instrumentation-openai",
    "OpenInference": "openinference-instrumentation-openai",
    "OpenTelemetry GenAI": "opentelemetry-instrumentation-genai-openai",
}
"""Name of a peer -> its distribution."""

_MODULES: Mapping[str, str] = {
    "OpenLLMetry": "opentelemetry.instrumentation.openai",
    "OpenInference": "openinference.instrumentation.openai",
    "OpenTelemetry GenAI": "opentelemetry.instrumentation.genai.openai",
}

ATTRIBUTES: Mapping[str, Sequence[str]] = {
    "input": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
    ),
    "output": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
    ),
    "cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
}
"""Key of the truth -> the attributes by which one peer or another states it."""


def replay_peer(
    peer: str, send: Callable[[Exchange], object]
) -> list[tuple[tuple[str, str, bool], list[bool]]]:
    """Return for each exchange of OpenAI whether it is exact, one span, right tokens.

    A peer is not asked for more than its spans have: tokens are right if any span of
    the call states every count that the body states. Of cache and reasoning 0 and
    nothing are equal.
    """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
        InMemorySpanExporter,
    )

    from llmevents.testing.provider import read_exchanges
    from tests.data import EXCHANGES

    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    import_module(_MODULES[peer]).OpenAIInstrumentor().instrument(
        tracer_provider=tracers
    )
    rows = []
    for exchange in read_exchanges(EXCHANGES):
        if exchange.provider != "openai":
            continue
        exporter.clear()
        # What a peer breaks has no right span, or none at all.
        with suppress(Exception):
            send(exchange)
        spans = exporter.get_finished_spans()
        one_span = len(spans) == 1
        tokens = any(_is_right(span, exchange) for span in spans)
        key = (exchange.provider, exchange.operation, exchange.stream)
        rows.append((key, [one_span and tokens, one_span, tokens]))
    return rows


def _is_right(span: ReadableSpan, exchange: Exchange) -> bool:
    """Tell whether a span states the tokens that the body does."""
    attributes = span.attributes or {}
    for key, count in (exchange.truth or {}).items():
        stated = next(
            (attributes[name] for name in ATTRIBUTES[key] if name in attributes), None
        )
        is_none = key not in {"input", "output"} and not count and not stated
        if count is not None and stated != count and not is_none:
            return False
    return True
