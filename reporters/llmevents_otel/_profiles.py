"""Profiles: the names that OpenTelemetry spans and log records use, as data.

OpenTelemetry's GenAI conventions are in development and get renamed, so every name
is written down here and nowhere else. A *profile* is one set of names:

- ``genai-1.41``: GenAI semantic conventions v1.41.0, with cache writes under the
  name that OpenTelemetry's own Python packages (util-genai 1.3b0) already use.
- ``genai-next``: the unreleased main branch of semantic-conventions-genai.
- ``seed-compat``: ``genai-1.41`` and the names of older trackers: ``gen_ai.system``,
  ``llm.*``, ``service.*``, ``tokens.*``, ``cost_usd``, ``latency_ms``.

What no convention names is called ``llmevents.*``, and keys that are not ours keep
their names.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmevents import OptionError
from llmevents_otel._tables import (
    NOTHING,
    Operation,
    Profile,
    Rate,
    Table,
    UsageLine,
    to,
    under,
)


OPERATIONS: Mapping[str, Operation] = {
    "llm.chat": Operation("chat", "model", is_inference=True),
    "llm.completion": Operation("text_completion", "model", is_inference=True),
    "llm.embedding": Operation("embeddings", "model", is_inference=True),
    "llm.ocr": Operation("ocr", "model", is_inference=True),
    "llm.transcription": Operation("transcription", "model", is_inference=True),
    "llm.speech": Operation("speech", "model", is_inference=True),
    "llm.translation": Operation("translation", "model", is_inference=True),
    "llm.image": Operation("image", "model", is_inference=True),
    "llm.rerank": Operation("rerank", "model", is_inference=True),
    "llm.search": Operation("search", "model", is_inference=True),
    "llm.moderation": Operation("moderation", "model", is_inference=True),
    "llm.tool": Operation("execute_tool", "tool_name"),
    "llm.agent": Operation("invoke_agent", "agent_name"),
    "llm.task": Operation("invoke_workflow", "workflow_name"),
    "http.server.request": Operation(
        "HTTP", "http_route", label="http_method", is_server=True
    ),
}
"""Prefix -> operation. Where the conventions have no name, any other is allowed."""

INFERENCE: tuple[str, ...] = tuple(
    prefix for prefix, operation in OPERATIONS.items() if operation.is_inference
)

# --- What every span has -----------------------------------------------------------

CONTEXT = {
    "user_id": to("user.id"),
    "session_id": to("session.id"),
    "organization_id": to("organization.id"),
    **under("llmevents", "task_id", "source_id", "source_function"),
}

COMMON = Table(
    metadata={
        **CONTEXT,
        "span_id": to("llmevents.span_id"),
        "parent_span_id": NOTHING,
        "scoped": NOTHING,
        # The span's status and its exception event tell these.
        "kind": NOTHING,
        "error_message": NOTHING,
        "error_type": to("error.type"),
        "http_status": to("http.response.status_code", "integer"),
        "status": to("llmevents.status", "if_no_success"),
    },
    measurements={
        "duration": NOTHING,
        "monotonic_time": NOTHING,
        "system_time": NOTHING,
        "time_to_first_chunk": to("llmevents.time_to_first_chunk", "seconds"),
        "chunks": to("llmevents.chunks", "integer"),
    },
)

# --- GenAI conventions v1.41.0: docs/gen-ai/gen-ai-spans.md, openai.md -------------

SERVER = {
    "provider": to("gen_ai.provider.name"),
    "server_address": to("server.address"),
    "server_port": to("server.port", "integer"),
}

GENAI = Table(
    metadata={
        **SERVER,
        "operation": to("gen_ai.operation.name"),
        "model": to("gen_ai.request.model"),
        "response_model": to("gen_ai.response.model"),
        "response_id": to("gen_ai.response.id"),
        "finish_reasons": to("gen_ai.response.finish_reasons", "texts"),
        "conversation_id": to("gen_ai.conversation.id"),
        "output_type": to("gen_ai.output.type"),
        "stream": to("gen_ai.request.stream", "if_true"),
        "choice_count": to("gen_ai.request.choice.count", "if_not_one"),
        **under("gen_ai.request", "max_tokens", "seed", conversion="integer"),
        **under(
            "gen_ai.request",
            "temperature",
            "top_p",
            "top_k",
            "frequency_penalty",
            "presence_penalty",
            conversion="number",
        ),
        **under(
            "gen_ai.request", "stop_sequences", "encoding_formats", conversion="texts"
        ),
        **under("llmevents", "use_case", "service_tier"),
        "features": to("llmevents.features", "texts"),
        "tool_calls": to("llmevents.tool_calls", "texts"),
        "cached": to("llmevents.cached", "if_true"),
        "batch": to("llmevents.batch", "if_true"),
        "usage_complete": to("llmevents.usage_complete", "if_false"),
        "cost_source": to("llmevents.cost.source"),
        "price_date": to("llmevents.cost.price_date"),
    },
    measurements={
        "input_tokens": to("gen_ai.usage.input_tokens", "integer"),
        "output_tokens": to("gen_ai.usage.output_tokens", "integer"),
        # The sum of the two, for which the conventions have no name.
        "total_tokens": NOTHING,
        "cache_read_tokens": to("gen_ai.usage.cache_read.input_tokens", "integer"),
        "cache_write_tokens": to("gen_ai.usage.cache_write.input_tokens", "integer"),
        "cache_write_1h_tokens": to(
            "llmevents.usage.cache_write_1h.input_tokens", "integer"
        ),
        "tool_input_tokens": to("llmevents.usage.tool.input_tokens", "integer"),
        "reasoning_tokens": to("gen_ai.usage.reasoning.output_tokens", "integer"),
        "audio_input_tokens": to("llmevents.usage.audio.input_tokens", "integer"),
        "audio_output_tokens": to("llmevents.usage.audio.output_tokens", "integer"),
        "image_input_tokens": to("llmevents.usage.image.input_tokens", "integer"),
        "image_output_tokens": to("llmevents.usage.image.output_tokens", "integer"),
        "time_to_first_chunk": to("gen_ai.response.time_to_first_chunk", "seconds"),
        "dimensions": to("gen_ai.embeddings.dimension.count", "integer"),
        "cost_nano_usd": to("llmevents.cost.usd", "dollars"),
        "audio_duration": to("llmevents.audio_duration", "seconds"),
        **under(
            "llmevents",
            "texts",
            "pages",
            "images",
            "searches",
            "characters",
            conversion="integer",
        ),
    },
)

OPENAI = Table(
    metadata={
        "service_tier": to("openai.response.service_tier"),
        "system_fingerprint": to("openai.response.system_fingerprint"),
        "api_type": to("openai.api.type"),
    }
)

INNER = COMMON.but(Table(metadata={**SERVER, "operation": to("gen_ai.operation.name")}))
TOOL = Table(
    metadata={
        "tool_name": to("gen_ai.tool.name"),
        "tool_type": to("gen_ai.tool.type"),
        "tool_description": to("gen_ai.tool.description"),
        "tool_call_id": to("gen_ai.tool.call.id"),
    }
)
AGENT = Table(
    metadata={
        "model": to("gen_ai.request.model"),
        "agent_name": to("gen_ai.agent.name"),
        "agent_description": to("gen_ai.agent.description"),
        "agent_id": to("gen_ai.agent.id"),
        "agent_version": to("gen_ai.agent.version"),
    }
)
WORKFLOW = Table(metadata={"workflow_name": to("gen_ai.workflow.name")})
REQUEST = Table(
    metadata={
        **SERVER,
        # Back ends take whatever has an operation and a model for one more call, and
        # a request is part of one.
        **under("llmevents.request", "operation", "model"),
    }
)

# --- HTTP conventions v1.41.0: docs/http/http-spans.md, "HTTP server span" ---------

WEB = Table(
    metadata={
        "http_method": to("http.request.method"),
        "http_route": to("http.route"),
        "url_path": to("url.path"),
        "url_scheme": to("url.scheme"),
    }
)

# --- Events that belong to a span --------------------------------------------------

POINTS = Table(
    metadata={
        **CONTEXT,
        **SERVER,
        "span_id": NOTHING,
        "parent_span_id": NOTHING,
        "model": to("gen_ai.request.model"),
        "http_status": to("http.response.status_code", "integer"),
    },
    measurements={"monotonic_time": NOTHING, "system_time": NOTHING},
)

OWN_POINTS: Mapping[tuple[str, ...], Table] = {
    ("llm", "provider"): Table(
        measurements={
            "retry_after": to("llmevents.retry_after", "seconds"),
            **under(
                "llmevents",
                "attempt",
                "remaining_requests",
                "remaining_tokens",
                conversion="integer",
            ),
        }
    ),
    ("llm", "cache"): Table(
        metadata={
            "cache": to("llmevents.cache.name"),
            "key": to("llmevents.cache.key"),
        },
        measurements=under(
            "llmevents.cache", "count", "size", "entry_size", conversion="integer"
        ),
    ),
    ("llm", "cost"): Table(
        metadata={
            "cost_source": to("llmevents.cost.source"),
            "price_date": to("llmevents.cost.price_date"),
            **under("llmevents.cost", "scope", "key"),
        },
        measurements={
            "cost_nano_usd": to("llmevents.cost.usd", "dollars"),
            "threshold_nano_usd": to("llmevents.cost.threshold_usd", "dollars"),
        },
    ),
    ("llm", "budget"): Table(
        metadata={
            "budget": to("llmevents.budget.name"),
            "level": to("llmevents.budget.level", "number"),
            **under("llmevents.budget", "unit", "key", "window"),
        },
        measurements={
            "ratio": to("llmevents.budget.ratio", "number"),
            **under(
                "llmevents.budget", "amount", "spent", "limit", conversion="integer"
            ),
        },
    ),
}
"""What events of ours say beside that. ``key`` is another thing in each of them."""


def _spans(inference: Mapping[str, Table]) -> Mapping[str, Table]:
    return {
        **inference,
        "llm.tool": INNER.but(TOOL),
        "llm.agent": INNER.but(AGENT),
        "llm.task": INNER.but(WORKFLOW),
        "llm.provider.request": COMMON.but(REQUEST),
        "http.server.request": COMMON.but(WEB),
    }


def _profile(name: str, inference: Table) -> Profile:
    tables = dict.fromkeys(INFERENCE, COMMON.but(inference))
    return Profile(
        name=name,
        spans=_spans(tables),
        other_spans=COMMON,
        points=POINTS,
        own_points={event: POINTS.but(own) for event, own in OWN_POINTS.items()},
        logs=tables,
        by_provider={"openai": OPENAI, "azure.ai.openai": OPENAI},
    )


# --- semantic-conventions-genai, main; cost as proposed there in pull request 443 --

NEXT = Table(
    metadata={
        "top_k": to("gen_ai.request.top_k", "integer"),
        "reasoning_level": to("gen_ai.request.reasoning.level"),
        "previous_response_id": to("gen_ai.request.previous_response.id"),
        "prompt_name": to("gen_ai.prompt.name"),
        "prompt_version": to("gen_ai.prompt.version"),
        "compacted": to("gen_ai.conversation.compacted", "if_true"),
        "cost_source": to("gen_ai.usage.cost.source"),
    },
    measurements={
        "audio_input_tokens": to("gen_ai.usage.audio.input_tokens", "integer"),
        "audio_output_tokens": to("gen_ai.usage.audio.output_tokens", "integer"),
        "image_input_tokens": to("gen_ai.usage.image.input_tokens", "integer"),
        "image_output_tokens": to("gen_ai.usage.image.output_tokens", "integer"),
        "cost_nano_usd": (
            *to("gen_ai.usage.cost.amount", "dollars"),
            *to("gen_ai.usage.cost.currency", "currency"),
        ),
    },
    on_error={"gen_ai.response.finish_reasons": ("error",)},
)

# --- Older trackers ----------------------------------------------------------------

TRACKED = Table(
    metadata={
        "provider": (*to("service.provider"), *to("gen_ai.system", "former_system")),
        "model": to("service.model"),
        "status": to("status"),
        "company_id": to("organization.id"),
    },
    measurements={
        "input_tokens": to("tokens.input", "integer"),
        "duration": to("latency_ms", "milliseconds"),
    },
)
"""Every call's names in log records."""

TRACKED_SPANS = Table(
    metadata={
        "model": to("llm.model"),
        "status": to("llm.status"),
        "task_id": to("llm.task_id"),
        "user_id": to("llm.user_id"),
    },
    measurements={
        "input_tokens": to("llm.prompt_tokens", "integer"),
        "output_tokens": to("llm.completion_tokens", "integer"),
        "total_tokens": to("llm.total_tokens", "integer"),
        "duration": to("llm.latency_ms", "milliseconds"),
        "cost_nano_usd": to("llm.cost_usd", "dollars"),
    },
)
"""Every call's names on spans, beside those of log records."""

LLM = Table(
    constants={"service.type": "llm"},
    measurements={
        "output_tokens": to("tokens.output", "integer"),
        "total_tokens": to("tokens.total", "integer"),
    },
    rates=(Rate("tokens_per_second", "total_tokens"),),
    features={
        f"features.{feature}": feature
        for feature in ("structured_output", "tools", "search_grounding")
    },
)

OWN: Mapping[str, Table] = {
    "llm.chat": LLM,
    "llm.completion": LLM,
    "llm.embedding": Table(
        measurements={
            "texts": to("embedding.num_texts", "integer"),
            "dimensions": to("embedding.dimension", "integer"),
        },
        rates=(Rate("texts_per_second", "texts"),),
    ),
    "llm.ocr": Table(
        measurements={"pages": to("ocr.num_pages", "integer")},
        rates=(Rate("pages_per_second", "pages"),),
    ),
}
"""Names of single operations."""

TOKENS = (("total_tokens", "tokens"),)

LINES: Mapping[str, UsageLine] = {
    "llm.chat": UsageLine("LLM", TOKENS),
    "llm.completion": UsageLine("LLM", TOKENS),
    "llm.embedding": UsageLine(
        "Embedding", (("texts", "texts"), ("input_tokens", "tokens"))
    ),
    "llm.ocr": UsageLine("OCR", (("pages", "pages"),)),
    "llm.transcription": UsageLine("Transcription", TOKENS),
    "llm.speech": UsageLine("Speech", TOKENS),
    "llm.translation": UsageLine("Translation", TOKENS),
    "llm.image": UsageLine("Image", (("images", "images"), *TOKENS)),
    "llm.rerank": UsageLine("Rerank", (("searches", "searches"),)),
    "llm.search": UsageLine("Search", (("searches", "searches"),)),
    "llm.moderation": UsageLine("Moderation", TOKENS),
}


def _tracked(prefix: str) -> Table:
    own = OWN.get(prefix, Table())
    instead = Table(
        constants={"service.type": prefix.removeprefix("llm.")},
        metadata={"features": NOTHING} if own.features else {},
        measurements={"cost_nano_usd": to("cost_usd", "dollars")},
    )
    return COMMON.but(GENAI).but(instead).also(TRACKED).also(own)


def _seed_compat() -> Profile:
    base = _profile("seed-compat", GENAI)
    logs = {prefix: _tracked(prefix) for prefix in INFERENCE}
    spans = {prefix: table.also(TRACKED_SPANS) for prefix, table in logs.items()}
    return Profile(
        name=base.name,
        spans=_spans(spans),
        other_spans=base.other_spans,
        points=base.points,
        own_points=base.own_points,
        logs=logs,
        by_provider=base.by_provider,
        lines=LINES,
    )


DEFAULT_PROFILE = "genai-1.41"

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        _profile(DEFAULT_PROFILE, GENAI),
        _profile("genai-next", GENAI.but(NEXT)),
        _seed_compat(),
    )
}


def profile_named(name: object) -> Profile:
    """Return a profile.

    Raises:
        OptionError: There is no profile of this name.
    """
    profile = PROFILES.get(name) if isinstance(name, str) else None
    if profile is None:
        raise OptionError(name, "profile", " or ".join(map(repr, PROFILES)))
    return profile
