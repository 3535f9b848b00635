"""llmevents' own events, as data.

Names and meanings follow OpenTelemetry's GenAI conventions, v1.41.0, where these
have them. Input tokens are all input, cached ones included; output tokens are all
output, reasoning included; the other token counts are subsets of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from llmevents._declarations import (
    MONOTONIC,
    SYSTEM,
    DeclaredEvent,
    Stability,
    Units,
    event,
    span_events,
)


USAGE: Units = {
    "input_tokens": ("token", "All input, cached included."),
    "output_tokens": ("token", "All output, reasoning included."),
    "total_tokens": ("token", "Input and output together."),
    "cache_read_tokens": ("token", "Input that was read from the provider's cache."),
    "cache_write_tokens": ("token", "Input that was written to the cache."),
    "reasoning_tokens": ("token", "Output that was reasoning."),
    "audio_input_tokens": ("token", "Input that was audio."),
    "audio_output_tokens": ("token", "Output that was audio."),
    "image_input_tokens": ("token", "Input that was images."),
    "image_output_tokens": ("token", "Output that was images."),
    "cost_nano_usd": ("nano_usd", "What the call cost; absent where unpriced."),
}

CALL: Mapping[str, str] = {
    "operation": "OpenTelemetry's name of the operation: `chat`, `embeddings`, ...",
    "use_case": "The user's own name for it: `chat_answer`, `summarization`, ...",
    "provider": "OpenTelemetry's name of the provider: `openai`, `anthropic`, ...",
    "model": "The model that was asked for.",
    "response_model": "The model that answered.",
    "response_id": "The provider's id of the response.",
    "stream": "True if the response was streamed; absent otherwise.",
    "status": "Terminal: `success`, `error`, `timeout` or `cancelled`.",
    "finish_reasons": "Why each choice ended.",
    "usage_complete": "False if the stream ended before its usage could have come.",
    "cost_source": "Who stated the price.",
    "temperature": "Request parameter.",
    "top_p": "Request parameter.",
    "max_tokens": "Request parameter.",
    "seed": "Request parameter.",
    "frequency_penalty": "Request parameter.",
    "presence_penalty": "Request parameter.",
    "choice_count": "Choices asked for; absent for one.",
    "stop_sequences": "Request parameter.",
    "service_tier": "The tier that served the request.",
    "features": "Which of `tools`, `structured_output`, `search_grounding` were used.",
    "http_status": "Status code of the provider's answer; terminal, on errors.",
}

REQUEST: Mapping[str, str] = {
    "provider": "OpenTelemetry's name of the provider.",
    "model": "The model that was asked for.",
    "http_status": "Status code of the answer.",
    "span_id": "The call's span.",
}

INFERENCE: dict[str, tuple[Units, Stability]] = {
    "chat": ({}, "stable"),
    "completion": ({}, "experimental"),
    "embedding": (
        {
            "texts": ("1", "Texts that were embedded."),
            "dimensions": ("1", "Length of one vector."),
        },
        "stable",
    ),
    "ocr": ({"pages": ("1", "Pages that were read.")}, "experimental"),
    "transcription": (
        {"audio_duration": ("nanosecond", "Length of the audio.")},
        "experimental",
    ),
    "speech": (
        {"audio_duration": ("nanosecond", "Length of the audio.")},
        "experimental",
    ),
    "translation": (
        {"audio_duration": ("nanosecond", "Length of the audio.")},
        "experimental",
    ),
    "image": ({"images": ("1", "Images that were made.")}, "experimental"),
    "rerank": ({"searches": ("1", "Searches that were billed.")}, "experimental"),
    "search": ({"searches": ("1", "Searches that were billed.")}, "experimental"),
    "moderation": ({}, "experimental"),
}
"""Operation -> its own measurements and its stability."""

PLAIN_SPANS: dict[tuple[str, ...], str] = {
    ("llm", "tool"): "your code",
    ("llm", "agent"): "your code",
    ("llm", "task"): "your code",
    ("llm", "provider", "request"): "instrumented SDKs, inside another call",
    ("llm", "context", "truncation"): "your code",
}
"""Spans that never carry tokens, and who emits them."""

LIMIT: Units = {
    "retry_after": ("nanosecond", "How long the provider asks to wait."),
    "remaining_requests": ("1", "Requests left in the provider's window."),
    "remaining_tokens": ("token", "Tokens left in the provider's window."),
}

CACHE: tuple[Units, Mapping[str, str]] = (
    {
        "count": ("1", "How many, usually 1."),
        "size": ("byte", "Size of the entry, or of the cache."),
    },
    {"cache": "Which cache.", "key": "The entry's key, hashed."},
)

COST: Mapping[str, str] = {
    "provider": "OpenTelemetry's name of the provider.",
    "model": "The model that was priced.",
    "cost_source": "Who stated the price.",
    "price_date": "The day whose price it is.",
    "span_id": "The call's span.",
}

BUDGET: tuple[Units, Mapping[str, str]] = (
    {
        "amount": ("1", "What this step reserves or settles, in `unit`."),
        "spent": ("1", "What is spent so far, in `unit`."),
        "limit": ("1", "The budget's limit, in `unit`."),
        "ratio": ("1", "Spent over limit."),
    },
    {
        "budget": "The budget's name.",
        "unit": "`nano_usd`, `token` or `call`.",
        "key": "Whose budget it is.",
        "window": "The period that the limit is for.",
    },
)

PROCESS: Mapping[str, str] = {"pid": "The process."}

COUNT: Units = {"count": ("1", "How many.")}


class _Point(NamedTuple):
    """An event of its own, that belongs to no span."""

    name: str
    description: str
    measurements: Units
    metadata: Mapping[str, str]
    stability: Stability
    emitted_by: str


POINTS: tuple[_Point, ...] = (
    _Point(
        "llm.provider.retry",
        "A request is sent again.",
        {
            "attempt": ("1", "Which attempt it is, from 1."),
            "retry_after": LIMIT["retry_after"],
        },
        REQUEST,
        "experimental",
        "your code",
    ),
    _Point(
        "llm.provider.rate_limit",
        "The provider refused a request because of its rate limit.",
        LIMIT,
        REQUEST,
        "stable",
        "instrumented SDKs",
    ),
    _Point(
        "llm.provider.auth.refresh",
        "Credentials were renewed.",
        {},
        REQUEST,
        "experimental",
        "your code",
    ),
    *(
        _Point(
            f"llm.cache.{what}",
            f"A cache {does}.",
            *CACHE,
            "stable",
            "your code",
        )
        for what, does in (
            ("hit", "had the answer"),
            ("miss", "had no answer"),
            ("put", "stored an answer"),
            ("evicted", "dropped an answer"),
        )
    ),
    _Point(
        "llm.cost.calculated",
        "A call was priced. The same cost is on the call's terminal event.",
        {"cost_nano_usd": USAGE["cost_nano_usd"]},
        COST,
        "experimental",
        "your code",
    ),
    _Point(
        "llm.cost.unpriced",
        "A call has no known price.",
        {},
        COST,
        "experimental",
        "your code",
    ),
    _Point(
        "llm.cost.threshold_exceeded",
        "Costs have passed a threshold.",
        {
            "cost_nano_usd": ("nano_usd", "The cost that passed it."),
            "threshold_nano_usd": ("nano_usd", "The threshold."),
        },
        {"scope": "What the threshold is for.", "key": "Which one of these."},
        "experimental",
        "your code",
    ),
    *(
        _Point(f"llm.budget.{what}", f"{does}.", *BUDGET, "experimental", "your code")
        for what, does in (
            ("reserved", "A call has reserved its upper bound"),
            ("settled", "A call's real amount has replaced its reservation"),
            ("warning", "A warn level of a budget was reached"),
            ("exceeded", "A budget's limit was reached"),
        )
    ),
    _Point(
        "llmevents.handler.failure",
        "A handler raised.",
        {**MONOTONIC, **SYSTEM},
        {
            "event": "The event that it was handling, dotted.",
            "handler_id": "The handler's id.",
            "kind": "`error`.",
            "error_type": "Qualified name of the exception's class.",
            "error_message": "The exception's text, without secrets.",
        },
        "stable",
        "the bus",
    ),
    *(
        _Point(name, description, units, PROCESS, "stable", "llmevents.poller")
        for name, description, units in (
            (
                "process.memory",
                "The memory of the process was measured.",
                {"rss": ("byte", "Resident memory.")},
            ),
            (
                "process.cpu",
                "The processor time of the process was measured.",
                {
                    "user": ("nanosecond", "Used so far in the program."),
                    "system": ("nanosecond", "Used so far in the kernel."),
                },
            ),
            (
                "process.gc",
                "The garbage collector's counts were read.",
                {
                    "collections": ("1", "Collections so far, all generations."),
                    "collected": ("1", "Objects collected so far."),
                    "uncollectable": ("1", "Objects found uncollectable so far."),
                },
            ),
            (
                "process.threads",
                "Threads were counted.",
                {"count": ("1", "Threads alive that Python knows.")},
            ),
            (
                "asyncio.lag",
                "A watched event loop has answered.",
                {"lag": ("nanosecond", "How long its answer took.")},
            ),
        )
    ),
    *(
        _Point(
            f"llmevents.reporter.{what}",
            f"A reporter {does}.",
            COUNT,
            {
                "reporter": "The reporter's name.",
                "reason": "Why.",
                "error_type": "Qualified name of the exception's class.",
            },
            "experimental",
            "reporters",
        )
        for what, does in (("failure", "failed"), ("dropped", "dropped events"))
    ),
)
"""Those of the bus, of providers, caches, costs and budgets."""


def _built_in() -> Iterator[DeclaredEvent]:
    for operation, (measurements, stability) in INFERENCE.items():
        emitter = f"llmevents.llm.{operation}() and instrumented SDKs"
        if stability == "experimental":
            emitter = "your code"
        yield from span_events(
            ("llm", operation),
            {**USAGE, **measurements},
            CALL,
            stability=stability,
            emitted_by=emitter,
        )
    for prefix, emitter in PLAIN_SPANS.items():
        yield from span_events(
            prefix, {}, REQUEST, stability="experimental", emitted_by=emitter
        )
    for point in POINTS:
        yield event(
            tuple(point.name.split(".")),
            point.description,
            point.measurements,
            point.metadata,
            stability=point.stability,
            emitted_by=point.emitted_by,
        )


BUILT_IN: tuple[DeclaredEvent, ...] = tuple(_built_in())
"""All of them, in the order of the reference."""
