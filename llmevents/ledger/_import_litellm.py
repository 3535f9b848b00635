"""Records from what LiteLLM's proxy has logged of spending.

Read of the table ``LiteLLM_SpendLogs`` (BerriAI/litellm, schema.prisma at commit
029f645f): request_id, call_type, spend (US dollars), total_tokens, prompt_tokens,
completion_tokens, startTime, endTime, request_duration_ms, completionStartTime, model,
model_group, custom_llm_provider, user, metadata, cache_hit, request_tags, team_id,
organization_id, end_user, session_id and status. ``prompt_tokens`` is all input, cached
included: LiteLLM counts as OpenAI does, and adds cache reads and writes to Anthropic's
``input_tokens`` (litellm/llms/anthropic/chat/transformation.py, ``calculate_usage``).

Not taken over: hashed keys, addresses, and ``messages``, ``response`` and
``proxy_server_request``, which hold content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmevents._redact import clean_metadata, clean_text
from llmevents.ledger._import_values import (
    IMPORTED,
    RowError,
    from_milliseconds,
    id_of,
    integer,
    mapping,
    nano_usd,
    nanoseconds,
    parsed,
    stated,
    text,
    with_total,
)
from llmevents.ledger._record import Record, timestamp
from llmevents.ledger._schema import SCHEMA_VERSION
from llmevents.llm._litellm import named


CALLS: Mapping[str, tuple[str, str]] = {
    "completion": ("llm.chat", "chat"),
    "responses": ("llm.chat", "chat"),
    "anthropic_messages": ("llm.chat", "chat"),
    "generate_content": ("llm.chat", "generate_content"),
    "text_completion": ("llm.completion", "text_completion"),
    "embedding": ("llm.embedding", "embeddings"),
    "image_generation": ("llm.image", "image"),
    "image_edit": ("llm.image", "image"),
    "image_variation": ("llm.image", "image"),
    "transcription": ("llm.transcription", "transcription"),
    "speech": ("llm.speech", "speech"),
    "rerank": ("llm.rerank", "rerank"),
    "moderation": ("llm.moderation", "moderation"),
    "ocr": ("llm.ocr", "ocr"),
    "search": ("llm.search", "search"),
}
"""``call_type``, without the ``a`` of coroutines -> event and operation. Any other is an
operation of ``llm.chat``."""

KEPT = ("user_api_key_alias", "user_api_key_team_alias", "spend_logs_metadata")
"""What of LiteLLM's own metadata is taken over."""


def of_litellm(row: Mapping[str, Any]) -> Record:
    """Return the record of a row of LiteLLM's spend logs.

    The user is ``end_user``, and ``user``, who owns the key, if there is none. A spend
    of 0 is what LiteLLM also writes if it knows no price: it is taken for a cost only
    of answers from its cache. Numbers of failed calls that are 0 are unknown. A time
    without a zone is UTC.

    Raises:
        RowError: It does not say when it was.
    """
    begin = nanoseconds(row.get("startTime"))
    if begin is None:
        msg = "startTime is no moment"
        raise RowError(msg)
    details = mapping(row.get("metadata"))
    event, operation = _call(text(row.get("call_type")) or "completion")
    has_failed = row.get("status") == "failure" or details.get("status") == "failure"
    is_cached = str(row.get("cache_hit")).lower() == "true"
    cost = nano_usd(row.get("spend"))
    if not cost and not is_cached:
        cost = None
    provider = text(row.get("custom_llm_provider"))
    return stated(
        {
            "schema_version": SCHEMA_VERSION,
            "id": text(row.get("request_id")) or id_of(row),
            "event": event,
            "timestamp": timestamp(begin),
            "status": "error" if has_failed else "success",
            "operation": operation,
            "provider": named(provider) if provider else None,
            "model": text(row.get("model")) or text(row.get("model_group")),
            "cached": True if is_cached else None,
            "cost_source": None if cost is None else IMPORTED,
            **_error(mapping(details.get("error_information"))),
            "user_id": text(row.get("end_user")) or text(row.get("user")),
            "session_id": text(row.get("session_id")),
            "organization_id": text(row.get("organization_id")),
            **_times(row, begin),
            **with_total(event, _tokens(row, details, has_failed=has_failed)),
            "cost_nano_usd": cost,
            "metadata": _metadata(row, details),
        }
    )


def _call(call_type: str) -> tuple[str, str]:
    known = CALLS.get(call_type) or CALLS.get(call_type.removeprefix("a"))
    return known or ("llm.chat", call_type)


def _error(information: Mapping[str, Any]) -> dict[str, Any]:
    message = text(information.get("error_message"))
    return {
        "http_status": integer(information.get("error_code")) or None,
        "error_type": text(information.get("error_class")),
        "error_message": None if message is None else clean_text(message),
    }


def _times(row: Mapping[str, Any], begin: int) -> dict[str, int | None]:
    end, first = (nanoseconds(row.get(name)) for name in ("endTime", _FIRST))
    duration = from_milliseconds(row.get("request_duration_ms"))
    if end is not None and end >= begin:
        duration = end - begin
    # LiteLLM states the end here if the answer was no stream.
    is_stream = first is not None and end is not None and begin <= first < end
    return {
        "duration_ns": duration,
        "time_to_first_chunk_ns": first - begin if is_stream else None,  # type: ignore[operator]  # not None then
    }


_FIRST = "completionStartTime"


def _tokens(
    row: Mapping[str, Any], details: Mapping[str, Any], *, has_failed: bool
) -> dict[str, int | None]:
    usage = mapping(details.get("usage_object")) or mapping(
        details.get("additional_usage_values")
    )
    read = mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
    reasoned = mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")
    found = {
        "input_tokens": integer(row.get("prompt_tokens")),
        "output_tokens": integer(row.get("completion_tokens")),
        "total_tokens": integer(row.get("total_tokens")),
        "cache_read_tokens": integer(usage.get("cache_read_input_tokens", read)),
        "cache_write_tokens": integer(usage.get("cache_creation_input_tokens")),
        "reasoning_tokens": integer(reasoned),
    }
    if has_failed:
        return {name: count or None for name, count in found.items()}
    return found


def _metadata(
    row: Mapping[str, Any], details: Mapping[str, Any]
) -> dict[str, Any] | None:
    kept: dict[str, Any] = {name: details.get(name) for name in KEPT}
    owner, group = text(row.get("user")), text(row.get("model_group"))
    kept |= {
        "request_tags": parsed(row.get("request_tags")) or None,
        "team_id": text(row.get("team_id")),
        "litellm_user": owner if text(row.get("end_user")) else None,
        "model_group": group if group != row.get("model") else None,
    }
    return clean_metadata(stated(kept)) or None
