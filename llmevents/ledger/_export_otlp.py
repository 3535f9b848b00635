"""Records as OpenTelemetry spans, to whoever takes OTLP over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime, timezone
from hashlib import sha256
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from llmevents._errors import OptionError
from llmevents._options import check_seconds
from llmevents.ledger._export import Progress, chosen
from llmevents.ledger._export_values import plain
from llmevents.ledger._query import ALL, FAILED, Engine, Filter
from llmevents.ledger._record import LARGEST, Record
from llmevents.ledger._schema import COLUMNS, TASK_EVENT


if TYPE_CHECKING:
    from llmevents.ledger._export_otlp_send import SpanSender

BATCH = 500
"""Spans of one request."""

PATIENCE = 3
"""Requests that fail one after another until no more are tried."""

TEXT_LIMIT = 4_096
"""Characters of one attribute, as in the spans of calls that are under way."""

KEY_LIMIT = 64
"""Metadata of one record that become attributes."""

TIMEOUT = 30.0

Value: TypeAlias = "str | bool | int | float | tuple[str, ...]"

NAMES: Mapping[str, str] = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "response_id": "gen_ai.response.id",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "stream": "gen_ai.request.stream",
    "temperature": "gen_ai.request.temperature",
    "max_tokens": "gen_ai.request.max_tokens",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cache_write_1h_tokens": "llmevents.usage.cache_write_1h.input_tokens",
    "tool_input_tokens": "llmevents.usage.tool.input_tokens",
    "audio_input_tokens": "llmevents.usage.audio.input_tokens",
    "audio_output_tokens": "llmevents.usage.audio.output_tokens",
    "image_input_tokens": "llmevents.usage.image.input_tokens",
    "image_output_tokens": "llmevents.usage.image.output_tokens",
    "dimensions": "gen_ai.embeddings.dimension.count",
    "time_to_first_chunk_ns": "gen_ai.response.time_to_first_chunk",
    "audio_duration_ns": "llmevents.audio_duration",
    "cost_nano_usd": "llmevents.cost.usd",
    "cost_source": "llmevents.cost.source",
    "price_date": "llmevents.cost.price_date",
    "error_type": "error.type",
    "http_status": "http.response.status_code",
    "user_id": "user.id",
    "session_id": "session.id",
    "organization_id": "organization.id",
    "id": "llmevents.span_id",
    "parent_id": "llmevents.parent_span_id",
}
"""Field -> attribute, by OpenTelemetry's GenAI conventions v1.41.0 (docs/gen-ai,
gen-ai-spans.md), with cache writes under the name that its Python packages use. What
has no name there is called ``llmevents.*``, as in the spans of calls under way."""

_TOLD_OTHERWISE = frozenset(
    {"schema_version", "timestamp", "duration_ns", "total_tokens", "error_message"}
)
_BILLIONTHS = frozenset(
    {"time_to_first_chunk_ns", "audio_duration_ns", "cost_nano_usd"}
)
_USUAL: Mapping[str, object] = {
    "status": "success",
    "stream": False,
    "cached": False,
    "batch": False,
    "usage_complete": True,
}
"""What need not be said."""

ATTRIBUTES: Mapping[str, str] = {
    column.name: NAMES.get(column.name, f"llmevents.{column.name}")
    for column in COLUMNS
    if column.name not in _TOLD_OTHERWISE and column.kind != "object"
}
"""Field -> attribute, for all that have one."""


class Sent(NamedTuple):
    """What became of the records of an export.

    Attributes:
        sent: Those that the endpoint has taken.
        failed: Those that it has not, by reason: ``http_400``, an error of the
            connection, ``rejected`` (of a request of which it took the rest),
            ``no_timestamp``, and ``not_tried`` after too many failures.
    """

    sent: int
    failed: dict[str, int]


class SpanData(NamedTuple):
    """What a span says.

    Attributes:
        key: What the ids of span and trace are made of: 24 bytes.
        name: Its name.
        begin: Unix nanoseconds.
        end: Likewise.
        is_call: Whether it went to somebody else.
        error: Why it failed; None if it did not.
        attributes: By name.
    """

    key: bytes
    name: str
    begin: int
    end: int
    is_call: bool
    error: str | None
    attributes: dict[str, Value]


def export_otlp(
    engine: Engine,
    endpoint: str,
    where: Filter = ALL,
    *,
    headers: Mapping[str, str] | None = None,
    service_name: str | None = None,
    tasks: bool = False,
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> Sent:
    """Send the records that are meant as spans, the oldest first.

    Each is a trace of its own, whose ids are made of the record's: who sends a record
    twice sends the same span. OpenTelemetry's exporter tries again what failed for a
    while; it also reads the ``OTEL_EXPORTER_OTLP_*`` variables for TLS, compression and
    headers. After 3 requests that failed in succession no more are tried. Redirects
    are not followed.

    Args:
        engine: Of the store.
        endpoint: The base URL, such as ``"http://localhost:4318"``, or all of it with
            ``/v1/traces``.
        where: Which records.
        headers: Sent with every request. They are secrets.
        service_name: Of the resource; None leaves it to ``OTEL_SERVICE_NAME``.
        tasks: Whether the records of tasks are among them.
        timeout: Seconds for a request and all attempts to repeat it.
        progress: Called with the number of records that were dealt with since.

    Raises:
        OptionError: *endpoint* is no such URL, or *timeout* no time.
        ImportError: OpenTelemetry is not installed.
        OSError: The store cannot be read.
    """
    url = _checked(endpoint)
    seconds = check_seconds(timeout, "timeout", least=0.001)
    with (
        closing(_sender(url, headers, service_name, seconds)) as sender,
        closing(chosen(engine, where, tasks=tasks)) as records,
    ):
        return _send(records, sender, progress)


def span_of(record: Record) -> SpanData | None:
    """Return what a span says of a record; None if nobody knows when it was."""
    begin = _nanoseconds(record.get("timestamp"))
    if begin is None:
        return None
    duration = record.get("duration_ns")
    known = type(duration) is int and 0 <= duration <= LARGEST - begin
    event = str(record.get("event", ""))
    operation = record.get("operation") or event.rpartition(".")[2]
    error = None
    if record.get("status") in FAILED:
        error = _text(record.get("error_message") or record.get("status"))
    return SpanData(
        key=sha256(plain(record["id"]).encode()).digest()[:24],
        name=_text(f"{operation} {record.get('model') or ''}".strip() or "call"),
        begin=begin,
        end=begin + duration if known else begin,  # type: ignore[operator]  # an integer then
        is_call=event != TASK_EVENT,
        error=error,
        attributes=_attributes(record),
    )


def _send(
    records: Iterator[Record], sender: SpanSender, progress: Progress | None
) -> Sent:
    sent, failures = 0, 0
    failed: dict[str, int] = {}
    while batch := list(islice(records, BATCH)):
        spans = [span for span in map(span_of, batch) if span is not None]
        lost = {"no_timestamp": len(batch) - len(spans)}
        if failures >= PATIENCE:
            lost["not_tried"] = len(spans)
        elif spans:
            reason, count = sender.send(spans)
            lost[reason] = count
            failures = failures + 1 if count == len(spans) else 0
        for reason, count in lost.items():
            if count:
                failed[reason] = failed.get(reason, 0) + count
        sent += len(batch) - sum(lost.values())
        if progress is not None:
            progress(len(batch))
    return Sent(sent, failed)


def _attributes(record: Record) -> dict[str, Value]:
    metadata = record.get("metadata")
    found: dict[str, Value] = {}
    if isinstance(metadata, dict):
        for key, value in islice(metadata.items(), KEY_LIMIT):
            _put(found, _text(key), value)
    for name, attribute in ATTRIBUTES.items():
        value = record.get(name)
        if value == "" or (name in _USUAL and value == _USUAL[name]):
            continue
        if name in _BILLIONTHS and type(value) is int:
            value = value / 1_000_000_000
        _put(found, attribute, value)
    return found


def _put(into: dict[str, Value], name: str, value: object) -> None:
    attribute = _value(value)
    if name and attribute is not None:
        into[name] = attribute


def _value(value: object) -> Value | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -LARGEST <= value <= LARGEST:
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(map(_text, value))
    return _text(json.dumps(value) if isinstance(value, (list, dict)) else value)


def _text(value: object) -> str:
    """Return text as UTF-8 and every server can take it: PostgreSQL refuses NUL."""
    return plain(str(value)[:TEXT_LIMIT]).replace("\0", "\ufffd")


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _nanoseconds(timestamp: object) -> int | None:
    try:
        moment = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
        since = moment - _EPOCH
    except (TypeError, ValueError):
        return None
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000
    nanoseconds = (microseconds + since.microseconds) * 1_000
    return nanoseconds if nanoseconds >= 0 else None


def _checked(endpoint: object) -> str:
    """Return the URL that spans are sent to."""
    expected = (
        "the base URL of an OTLP/HTTP endpoint, such as 'http://localhost:4318', "
        "without user and query; credentials belong into headers"
    )
    if not isinstance(endpoint, str):
        raise OptionError(endpoint, "endpoint", expected)
    try:
        parts = urlsplit(endpoint)
        is_fine = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_fine = is_fine and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or re.search(r"[@?#]|[^\x21-\x7e]", endpoint):
        # Only what cannot be a secret is shown.
        head, separator, rest = re.split(r"[?#]", endpoint)[0].rpartition("://")
        shown = f"{head}{separator}{rest.rpartition('@')[2]}"
        raise OptionError(shown, "endpoint", expected)
    base = endpoint.rstrip("/").removesuffix("/v1/traces")
    return f"{base.rstrip('/')}/v1/traces"


def _sender(
    url: str, headers: Mapping[str, str] | None, service: str | None, timeout: float
) -> SpanSender:
    try:
        from llmevents.ledger._export_otlp_send import SpanSender
    except ModuleNotFoundError as error:
        msg = (
            f"OTLP needs {error.name!r}, which is not installed; run: "
            'pip install "llmevents[otel]"'
        )
        raise ModuleNotFoundError(msg, name=error.name) from error
    return SpanSender(url, headers=headers, service_name=service, timeout=timeout)
