"""Records from the master file of trackers that write a line of JSON for each call.

Their fields: id (a UUID), timestamp, source_function, api_provider, api_type, model,
operation, input_tokens, output_tokens, total_tokens, latency_ms, status, error_message,
user_id, session_id, source_id, temperature, max_tokens, additional_params (JSON) and
cost_estimate (US dollars).
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
    nano_usd,
    nanoseconds,
    number,
    parsed,
    stated,
    text,
    with_total,
)
from llmevents.ledger._record import Record, timestamp
from llmevents.ledger._schema import SCHEMA_VERSION


TYPES: Mapping[str, tuple[str, str]] = {
    "generative": ("llm.chat", "chat"),
    "chat": ("llm.chat", "chat"),
    "completion": ("llm.completion", "text_completion"),
    "embedding": ("llm.embedding", "embeddings"),
    "embeddings": ("llm.embedding", "embeddings"),
    "speech_to_text": ("llm.transcription", "transcription"),
    "transcription": ("llm.transcription", "transcription"),
    "text_to_speech": ("llm.speech", "speech"),
    "translation": ("llm.translation", "translation"),
    "ocr": ("llm.ocr", "ocr"),
    "search": ("llm.search", "search"),
    "rerank": ("llm.rerank", "rerank"),
    "image": ("llm.image", "image"),
    "moderation": ("llm.moderation", "moderation"),
}
"""``api_type`` -> event and operation. Any other is an operation of ``llm.chat``."""

PROVIDERS: Mapping[str, str] = {
    "gemini": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "google_speech": "gcp.speech",
    "google_translate": "gcp.translate",
    "google_vision": "gcp.vision",
    "discovery_engine": "gcp.discovery_engine",
}
"""``api_provider`` -> OpenTelemetry's name; others stay."""

STATUSES = frozenset({"success", "error", "timeout", "cancelled"})


def of_tracker(row: Mapping[str, Any]) -> Record:
    """Return the record of a line of a tracker's master file.

    ``operation`` becomes ``use_case``, and ``additional_params`` becomes metadata. A
    timestamp without a time zone is UTC. Costs are exactly what is written.

    Raises:
        RowError: It does not say when it was.
    """
    begin = nanoseconds(row.get("timestamp"))
    if begin is None:
        msg = "timestamp is no moment"
        raise RowError(msg)
    api_type = text(row.get("api_type")) or "generative"
    event, operation = TYPES.get(api_type, ("llm.chat", api_type))
    provider = text(row.get("api_provider"))
    status = text(row.get("status")) or "success"
    message = text(row.get("error_message"))
    cost = nano_usd(row.get("cost_estimate"))
    parameters = parsed(row.get("additional_params"))
    return stated(
        {
            "schema_version": SCHEMA_VERSION,
            "id": _id(row),
            "event": event,
            "timestamp": timestamp(begin),
            "status": status if status in STATUSES else "error",
            "operation": operation,
            "use_case": text(row.get("operation")),
            "provider": PROVIDERS.get(provider or "", provider),
            "model": text(row.get("model")),
            "cost_source": None if cost is None else IMPORTED,
            "temperature": number(row.get("temperature")),
            "max_tokens": integer(row.get("max_tokens")),
            "error_message": None if message is None else clean_text(message),
            **{name: text(row.get(name)) for name in _CONTEXT},
            "duration_ns": from_milliseconds(row.get("latency_ms")),
            **with_total(event, {name: integer(row.get(name)) for name in _TOKENS}),
            "cost_nano_usd": cost,
            "metadata": clean_metadata({"additional_params": parameters})
            if parameters
            else None,
        }
    )


def _id(row: Mapping[str, Any]) -> str:
    """Return the id of a row, or one made of it where it is none or a mere number.

    Numbers are those of rows in one file: in others they are of other calls.
    """
    found = row.get("id")
    if isinstance(found, str) and found.strip() and not found.strip().isdigit():
        return found
    return id_of(row)


_CONTEXT = (
    "user_id",
    "session_id",
    "organization_id",
    "task_id",
    "source_id",
    "source_function",
)
_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
