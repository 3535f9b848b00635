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
    "cache_write_1h_tokens": ("token", "Written to the cache for an hour."),
    "tool_input_tokens": ("token", "Input that results of the provider's tools were."),
    "pages": ("1", "Pages that were read."),
    "images": ("1", "Images that were made."),
    "searches": ("1", "Searches that were billed."),
    "characters": ("1", "Characters that were spoken or translated."),
    "audio_duration": ("nanosecond", "Length of the audio."),
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
    "cost_source": "Who stated the price; `mixed` for requests of several sources.",
    "price_date": "The day whose price it is.",
    "cached": "True if the answer came from the program's own cache; else absent.",
    "batch": "True if it was part of a batch; absent otherwise.",
    "tool_calls": "Names of the tools that the response asks to call.",
    "conversation_id": "The provider's id of the conversation.",
    "server_address": "Host that the request went to.",
    "server_port": "Port that it went to, where it is not the scheme's own.",
    "output_type": "`text`, `json`, `image` or `speech`, where it was asked for.",
    "temperature": "Request parameter.",
    "top_p": "Request parameter.",
    "top_k": "Request parameter.",
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

INFERENCE: dict[str, tuple[Units, Stability]] = {
    "chat": ({}, "stable"),
    "completion": ({}, "stable"),
    "embedding": (
        {
            "texts": ("1", "Texts that were embedded."),
            "dimensions": ("1", "Length of one vector."),
        },
        "stable",
    ),
    "ocr": ({}, "experimental"),
    "transcription": ({}, "experimental"),
    "speech": ({}, "experimental"),
    "translation": ({}, "experimental"),
    "image": ({}, "experimental"),
    "rerank": ({}, "experimental"),
    "search": ({}, "experimental"),
    "moderation": ({}, "experimental"),
}
"""Operation -> its own measurements and its stability."""

INFERENCE_ENDS: list[str] = [
    f"llm.{operation}.{phase}"
    for operation in INFERENCE
    for phase in ("stop", "exception")
]
"""How the calls of a model end, whatever the operation; a list, to attach to. A
pattern such as ``llm.*.stop`` would take tools, agents and tasks as well."""

REQUEST: Mapping[str, str] = {
    "provider": "OpenTelemetry's name of the provider.",
    "model": "The model that was asked for.",
    "http_status": "Status code of the answer.",
    "server_address": "Host that the request went to.",
    "server_port": "Port that it went to, where it is not the scheme's own.",
    "span_id": "The call's span.",
}

ATTEMPT: Mapping[str, str] = {
    **REQUEST,
    "status": "Terminal: `success`, `error`, `timeout` or `cancelled`.",
}

OPERATION: Mapping[str, str] = {"operation": CALL["operation"]}

TOOL: Mapping[str, str] = {
    **OPERATION,
    "tool_name": "The tool.",
    "tool_call_id": "The id that the model gave to the call of it.",
    "tool_type": "`function`, `extension`, `datastore`, ...",
}

AGENT: Mapping[str, str] = {
    **OPERATION,
    "agent_name": "The agent.",
    "agent_id": "Its id.",
    "model": "The model that it works with.",
}

TASK: Mapping[str, str] = {
    **OPERATION,
    "workflow_name": "What kind of task it is.",
    "task_id": "Which task it is; ambient for all that happens in it.",
}

PLAIN_SPANS: dict[tuple[str, ...], tuple[str, Mapping[str, str]]] = {
    ("llm", "tool"): ("llmevents.llm.tool() and instrumented frameworks", TOOL),
    ("llm", "agent"): ("llmevents.llm.agent() and instrumented frameworks", AGENT),
    ("llm", "task"): ("llmevents.llm.task()", TASK),
    ("llm", "context", "truncation"): ("your code", {}),
}
"""Spans that never carry tokens: who emits them, and what they say."""

WEB: Mapping[str, str] = {
    "http_method": "Method of the request, `_OTHER` if it is not a known one.",
    "http_route": "Route that the request matched, if the framework tells; terminal.",
    "http_status": "Status code of the response; terminal.",
    "url_path": "Path of the request, without its query.",
    "url_scheme": "`http` or `https`.",
}

LIMIT: Units = {
    "retry_after": ("nanosecond", "How long the provider asks to wait."),
    "remaining_requests": ("1", "Requests left in the provider's window."),
    "remaining_tokens": ("token", "Tokens left in the provider's window."),
}

CACHE: tuple[Units, Mapping[str, str]] = (
    {
        "count": ("1", "How many, usually 1."),
        "size": ("byte", "Size of the whole cache, after it."),
        "entry_size": ("byte", "Size of the entry."),
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
        "level": "Which part of the limit was reached; of a warning.",
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
        "instrumented SDKs",
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
        "instrumented SDKs",
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
        "llmevents.llm",
    ),
    _Point(
        "llm.cost.unpriced",
        "A call has no known price.",
        {},
        COST,
        "experimental",
        "llmevents.llm",
    ),
    _Point(
        "llm.cost.threshold_exceeded",
        "Costs have passed a threshold.",
        {
            "cost_nano_usd": ("nano_usd", "The cost that passed it."),
            "threshold_nano_usd": ("nano_usd", "The threshold."),
        },
        {
            "scope": "What the threshold is for: `call`, `total` or a metadata key.",
            "key": "Which one of these: the key's value, or the call's span.",
            "provider": "Of a call: OpenTelemetry's name of the provider.",
            "model": "Of a call: the model that was asked for.",
        },
        "experimental",
        "llmevents.llm.pricing.CostThresholds",
    ),
    *(
        _Point(
            f"llm.budget.{what}",
            f"{does}.",
            *BUDGET,
            "experimental",
            "llmevents.llm.budgets",
        )
        for what, does in (
            ("reserved", "A call has reserved its upper bound"),
            ("settled", "A call's real amount has replaced its reservation"),
            ("warning", "A warn level of a budget was reached"),
            ("exceeded", "A budget's limit was reached"),
        )
    ),
    _Point(
        "llmevents.usage.raw",
        "A call is about to end; only while somebody listens, for audits.",
        COUNT,
        {
            "raw": "The provider's own usage objects, as they came.",
            "span_id": "The call's span.",
        },
        "experimental",
        "llmevents.llm",
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
        yield from span_events(
            ("llm", operation),
            {**USAGE, **measurements},
            CALL,
            stability=stability,
            emitted_by=emitter,
        )
    for prefix, (emitter, metadata) in PLAIN_SPANS.items():
        yield from span_events(
            prefix, {}, metadata, stability="experimental", emitted_by=emitter
        )
    yield from span_events(
        ("llm", "provider", "request"),
        {},
        ATTEMPT,
        stability="experimental",
        emitted_by="instrumented SDKs, one per attempt",
    )
    yield from span_events(
        ("http", "server", "request"),
        {},
        WEB,
        stability="experimental",
        emitted_by="llmevents.web",
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
