"""From an event to a record, and from a record to a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from llmevents._redact import clean_metadata, clean_text
from llmevents.ledger._schema import (
    CONTEXT,
    FACTS,
    IDENTITY,
    NUMBERS,
    SCHEMA_VERSION,
    Kind,
)


if TYPE_CHECKING:
    from llmevents._types import EventName, Measurements, Metadata

Record: TypeAlias = dict[str, Any]
"""What is stored of one call: `llmevents.ledger.COLUMNS` by name; unknown is absent."""

SPANS = "scoped"
"""Metadata that the events of spans have, and that nobody else may give them."""

HANDLED = frozenset({SPANS, "kind"})
"""Metadata of events that say nothing of the call."""

LARGEST = 2**63 - 1
"""What SQL's integers, and Parquet's, can state."""

INPUT_ALONE = frozenset({"llm.embedding", "llm.rerank", "llm.moderation"})
"""Events of calls that put out no tokens: their input is all there is."""


def record_of(  # noqa: C901  # functions for its parts would cost the caller more
    event: EventName, measurements: Measurements, metadata: Metadata, now_ns: int
) -> Record:
    """Return the record of a call or task that has ended.

    Args:
        event: Its terminal event.
        measurements: Of the event.
        metadata: Of the event.
        now_ns: Wall-clock nanoseconds, as near to the end as can be.

    Raises:
        KeyError: The event has no ``span_id``: nothing says which call it is of.
    """
    # The loops have no calls for what most values are: it is the caller who waits.
    duration = _integer(measurements.get("duration")) or 0
    record: Record = {
        "schema_version": SCHEMA_VERSION,
        "id": metadata["span_id"],
        "event": ".".join(event[:-1]),
        "timestamp": timestamp(now_ns - duration),
        "status": "success" if event[-1] == "stop" else "error",
    }
    rest: dict[str, object] = {}
    for key, value in metadata.items():
        known = _OF_METADATA.get(key)
        if known is None:
            if key not in HANDLED:
                rest[key] = value
            continue
        name, usual, convert = known
        if type(value) is usual:
            record[name] = value
        elif (converted := convert(value)) is not None:
            record[name] = converted
    for key, number in measurements.items():
        column = _OF_MEASUREMENTS.get(key)
        if column is None:
            continue
        if type(number) is int and 0 <= number <= LARGEST:
            record[column] = number
        elif (count := _integer(number)) is not None:
            record[column] = count
    if "total_tokens" not in record and record["event"] in INPUT_ALONE:
        _add_total(record)
    if rest:
        # Those of spans are clean already; `Bus.execute` passes on anything.
        record["metadata"] = rest if SPANS in metadata else clean_metadata(rest)
    return record


def total_tokens(event: str, entered: int | None, left: int | None) -> int | None:
    """Return what input and output come to; None if that is unknown.

    Args:
        event: Of the call: some put out no tokens, so that the input is all.
        entered: Input.
        left: Output.
    """
    if entered is None:
        return None
    if left is None:
        return entered if event in INPUT_ALONE else None
    return entered + left if entered + left <= LARGEST else None


def _add_total(record: Record) -> None:
    entered, left = record.get("input_tokens"), record.get("output_tokens")
    total = total_tokens(record["event"], entered, left)
    if total is not None:
        record["total_tokens"] = total


def timestamp(ns: int) -> str:
    """Return Unix nanoseconds as ISO 8601 in UTC, cut to microseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000:06d}Z"


@lru_cache(maxsize=256)
def _second(unix: int) -> str:
    return f"{datetime.fromtimestamp(unix, timezone.utc):%Y-%m-%dT%H:%M:%S}"


def encode(record: Record) -> bytes:
    r"""Return a record as one line of JSON, with its newline.

    Beyond ASCII everything is escaped where a reader might take it for the end of a
    line: U+2028 and U+0085, of which `str.splitlines` makes one, are no exception to
    "one record, one line".
    """
    try:
        line = orjson.dumps(record)
    except (TypeError, ValueError):  # a lone surrogate, or an integer beyond 64 bits
        record = narrowed(record)
        line = b""
    if not line.isascii() or not line:
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return line + b"\n"


def narrowed(value: Any) -> Any:  # noqa: ANN401  # any part of a record
    """Return *value* as all readers of JSON know it.

    Integers beyond 64 bits are text, as readers make floats of them; floats that are no
    numbers are null, as orjson has it.
    """
    if type(value) is int:
        return value if -(2**63) <= value < 2**64 else _digits(value)
    if type(value) is float:
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: narrowed(item) for key, item in value.items()}
    return list(map(narrowed, value)) if isinstance(value, list) else value


def decode(line: bytes) -> Record | None:
    """Return the record that a line is, or None if it is none."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            record = json.loads(line)  # which reads lone surrogates
        except (ValueError, RecursionError):
            return None
    is_record = type(record) is dict and type(record.get("id")) is str
    return record if is_record else None


def _text(value: object) -> str | None:
    if type(value) is str:
        return value
    if value is None or isinstance(value, (bool, float)):
        return None if value is None else repr(value)
    if isinstance(value, int):
        return _digits(value)
    cleaned = clean_metadata({"value": value})["value"]
    return cleaned if isinstance(cleaned, str) else clean_text(json.dumps(cleaned))


def _digits(value: int) -> str:
    """Return an integer as text, or how long it is if it is too long to print."""
    if int.bit_length(value) <= 64:  # noqa: PLR2004  # of integers of any size, most
        return int.__repr__(value)
    cleaned = clean_metadata({"value": value})["value"]
    return cleaned if isinstance(cleaned, str) else int.__repr__(cleaned)


def _integer(value: object) -> int | None:
    if type(value) is int and 0 <= value <= LARGEST:
        return value
    if type(value) is float and value.is_integer():
        return _integer(int(value))
    return None


def _number(value: object) -> float | None:
    is_number = type(value) in (int, float) and abs(value) <= LARGEST  # type: ignore[arg-type]  # a number, says its type
    return value if is_number else None  # type: ignore[return-value]  # likewise


def _boolean(value: object) -> bool | None:
    return value if type(value) is bool else None


def _texts(value: object) -> list[str] | None:
    items = value if isinstance(value, (list, tuple)) else (value,)
    return [text for text in map(_text, items) if text is not None] or None


_CONVERTERS: Mapping[Kind, Callable[[Any], object]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "texts": _texts,
}


_USUAL: Mapping[Kind, type] = {"text": str, "boolean": bool}

_OF_METADATA: Mapping[str, tuple[str, type | None, Callable[[Any], object]]] = {
    column.key: (column.name, _USUAL.get(column.kind), _CONVERTERS[column.kind])
    for column in (*IDENTITY, *FACTS, *CONTEXT)
    if column.key
}
"""Key -> the name of the field, the type of which values stay as they are, and what
makes others fit. Plain tuples, which are unpacked the fastest."""

_OF_MEASUREMENTS: Mapping[str, str] = {column.key: column.name for column in NUMBERS}
