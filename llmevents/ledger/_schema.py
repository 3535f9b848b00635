"""What a usage record says: one table for every store, query and export."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from llmevents._catalogue import CALL, INFERENCE, USAGE


SCHEMA_VERSION = 1
"""Stated by each record. Readers know all versions up to their own."""

Kind: TypeAlias = Literal[
    "text", "integer", "number", "boolean", "texts", "timestamp", "object"
]
"""What a value is. A timestamp is text, ISO 8601 in UTC with microseconds:
``"2026-11-21T09:30:00.000001Z"``, which sorts as time does. An object is metadata."""


class Column(NamedTuple):
    """One field of a record.

    Attributes:
        name: Of the field, and of the column in SQL.
        kind: What its value is. Every field but the first five may be absent.
        description: For people.
        key: The key of the event's metadata or measurements; empty for what is from
            neither.
    """

    name: str
    kind: Kind
    description: str
    key: str = ""


IDENTITY: tuple[Column, ...] = (
    Column("schema_version", "integer", "Version of this table."),
    Column("id", "text", "Of the call: unique, made once.", "span_id"),
    Column("event", "text", "The span's prefix: `llm.chat`, `llm.task`, ..."),
    Column("timestamp", "timestamp", "When it began."),
    Column("status", "text", CALL["status"].removeprefix("Terminal: "), "status"),
    Column("parent_id", "text", "The span that it is part of.", "parent_span_id"),
)

_CALL_FACTS: tuple[tuple[str, Kind], ...] = (
    ("operation", "text"),
    ("use_case", "text"),
    ("provider", "text"),
    ("model", "text"),
    ("response_model", "text"),
    ("response_id", "text"),
    ("service_tier", "text"),
    ("stream", "boolean"),
    ("cached", "boolean"),
    ("batch", "boolean"),
    ("usage_complete", "boolean"),
    ("cost_source", "text"),
    ("price_date", "text"),
    ("http_status", "integer"),
    ("features", "texts"),
    ("finish_reasons", "texts"),
    ("tool_calls", "texts"),
    ("temperature", "number"),
    ("max_tokens", "integer"),
)

FACTS: tuple[Column, ...] = (
    *(Column(name, kind, CALL[name], name) for name, kind in _CALL_FACTS),
    Column("error_type", "text", "Class of the error that ended it.", "error_type"),
    Column("error_message", "text", "Its text, without secrets.", "error_message"),
)

CONTEXT: tuple[Column, ...] = (
    Column("user_id", "text", "For whom it was made.", "user_id"),
    Column("session_id", "text", "In which session.", "session_id"),
    Column("organization_id", "text", "For which organization.", "organization_id"),
    Column("task_id", "text", "In which task.", "task_id"),
    Column("source_id", "text", "For which document or other source.", "source_id"),
    Column("source_function", "text", "By which function.", "source_function"),
)

TOKENS: tuple[str, ...] = tuple(
    name for name, (unit, _) in USAGE.items() if unit == "token"
)
"""The columns that count tokens. All but three are parts of input or output."""

_TIMES = {
    "duration": ("duration_ns", "How long it took."),
    "time_to_first_chunk": ("time_to_first_chunk_ns", "Until the answer began."),
    "audio_duration": ("audio_duration_ns", USAGE["audio_duration"][1]),
}
"""Measurement in nanoseconds -> column: without an event's catalogue, the name says it."""

_NUMBERS: dict[str, str] = {
    "duration": "",
    "time_to_first_chunk": "",
    **{name: description for name, (_, description) in USAGE.items()},
    **{
        name: description
        for name, (_, description) in INFERENCE["embedding"][0].items()
    },
    "chunks": "Parts that a stream came in.",
}

NUMBERS: tuple[Column, ...] = tuple(
    Column(*_TIMES[key][:1], "integer", _TIMES[key][1], key)
    if key in _TIMES
    else Column(key, "integer", description, key)
    for key, description in _NUMBERS.items()
)

METADATA = Column("metadata", "object", "Everything else that is known of it.")

COLUMNS: tuple[Column, ...] = (*IDENTITY, *FACTS, *CONTEXT, *NUMBERS, METADATA)
"""Every field, in the order in which records state them."""

TASK_EVENT = "llm.task"

EVENTS: list[str] = [
    f"{prefix}.{phase}"
    for prefix in (*(f"llm.{operation}" for operation in INFERENCE), TASK_EVENT)
    for phase in ("stop", "exception")
]
"""The events that are recorded: the end of each call and of each task."""
