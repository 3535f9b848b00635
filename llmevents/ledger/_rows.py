"""From a record to a row of SQL, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import orjson

from llmevents._redact import clean_metadata
from llmevents.ledger._record import _CONVERTERS, LARGEST, Record
from llmevents.ledger._schema import COLUMNS, Kind
from llmevents.ledger._tables import DIMENSIONS, INDEXED, REQUIRED


Row: TypeAlias = dict[str, Any]
"""A row by its columns, without those that are null.

A record has some 60 columns and states a third of them, and Python's sqlite3 takes
longer to bind a null than a text: nearly a microsecond (3.11, which asks for an
adapter of whatever is no text or number).
"""

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)

LONGEST = 400
"""Characters of text that is indexed. PostgreSQL 15 refuses index entries of more than
2,704 bytes (documentation, section 64.4.2: a third of a page)."""

REPLACEMENT = "\ufffd"

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def plain(text: str) -> str:
    """Return *text* with what SQL cannot keep, NUL and lone surrogates, replaced."""
    if not text.isascii():
        pairs = text.encode("utf-16-le", "surrogatepass")
        text = pairs.decode("utf-16-le", "replace")
    return text.replace("\0", REPLACEMENT) if "\0" in text else text


def key(text: str) -> str:
    """Return *text* as it is kept where there is an index.

    What is too long for one is cut, and ends with a hash, so that two texts are equal
    only if they were.
    """
    text = plain(text)
    if len(text) <= LONGEST:
        return text
    digest = sha256(text.encode()).hexdigest()[:32]
    return f"{text[: LONGEST - 33]}~{digest}"


def row_of(record: Record) -> Row | None:
    """Return a record as a row, or None if it lacks what every record has.

    A value of another kind than its column's is made to fit or left out, and so is
    what has no column.
    """
    row: Row = {}
    for name, value in record.items():
        kind = type(value)
        if kind is str and name in _TEXTS:
            if len(value) <= LONGEST and value.isascii() and "\0" not in value:
                row[name] = value
                continue
        elif kind is int and name in _INTEGERS and 0 <= value <= LARGEST:
            row[name] = value
            continue
        fit = _FIT.get(name)
        if fit and value is not None and (fitted := fit(value)) is not None:
            row[name] = fitted
    return row if row.keys() >= REQUIRED else None


def record_of_row(row: Sequence[Any]) -> Record:
    """Return the record that a row of all `NAMES` is of."""
    record: Record = {}
    for name, value in zip(NAMES, row, strict=True):
        if value is not None:
            load = _LOAD.get(name)
            record[name] = value if load is None else load(value)
    return record


def _text(value: object) -> str | None:
    converted: object = value if type(value) is str else _CONVERTERS["text"](value)
    return plain(converted) if isinstance(converted, str) else None


def _key(value: object) -> str | None:
    text = _text(value)
    return None if text is None else key(text)


def _moment(value: object) -> str | None:
    is_moment = type(value) is str and _MOMENT.fullmatch(value)
    return value if is_moment else None  # type: ignore[return-value]  # a str, says its type


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):  # a lone surrogate, or an integer beyond 64 bits
        cleaned = clean_metadata({"value": value})["value"]
        return json.dumps(cleaned, separators=(",", ":"))


def _texts(value: object) -> str | None:
    texts = _CONVERTERS["texts"](value)
    return None if texts is None else _json(texts)


def _flag(value: object) -> int | None:
    return int(value) if isinstance(value, bool) else None


def _object(value: object) -> str | None:
    return _json(value) if isinstance(value, Mapping) else None


_OF_KIND: dict[Kind, Callable[[Any], object]] = {
    **_CONVERTERS,
    "text": _text,
    "texts": _texts,
    "timestamp": _moment,
    "object": _object,
    "boolean": _flag,
}

_TEXTS = frozenset(column.name for column in COLUMNS if column.kind == "text")
_INTEGERS = frozenset(column.name for column in COLUMNS if column.kind == "integer")
"""Columns of which most values are kept as they are."""

_FIT: dict[str, Callable[[Any], object]] = {
    column.name: _key
    if column.name in ("id", *DIMENSIONS, *INDEXED)
    else _OF_KIND[column.kind]
    for column in COLUMNS
}
"""Name -> what makes any other value fit."""

_LOAD: dict[str, Callable[[Any], object]] = {
    **{
        column.name: json.loads
        for column in COLUMNS
        if column.kind in ("texts", "object")
    },
    **{column.name: bool for column in COLUMNS if column.kind == "boolean"},
}
