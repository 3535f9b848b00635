"""Recorded request and response pairs, read from JSON Lines."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any


__all__ = ["Exchange", "read_exchanges"]

_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1
_TRUTH_KEYS = ("input", "output", "cache_read", "cache_write", "reasoning")
_FIELD_TYPES: Mapping[str, tuple[type, ...]] = {
    "id": (str,),
    "source": (str,),
    "provider": (str,),
    "operation": (str,),
    "stream": (bool,),
    "model": (str, type(None)),
    "path": (str,),
    "query": (str,),
    "request": (dict,),
    "status": (int,),
    "content_type": (str,),
    "response": (str,),
    "truth": (dict, type(None)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One recorded request and the response that a provider gave to it.

    Attributes:
        id: Unique within its file.
        source: Where the recording came from.
        provider: Who answered: ``"openai"``, ``"anthropic"``, ...
        operation: What was asked: ``"chat"``, ``"embeddings"``, ...
        stream: Whether the response was streamed.
        model: The model, if the recording says which.
        path: Path of the request URL, without the query.
        query: Query of the request URL, without the question mark.
        request: JSON body of the request.
        status: HTTP status, 200 to 599.
        content_type: As recorded; empty where the recording does not say.
        response: Body of the response, byte for byte, content encoding undone.
        truth: Tokens that the body states, under ``input`` (cached included),
            ``output`` (reasoning included), ``cache_read``, ``cache_write`` and
            ``reasoning``; None for a count that it does not state. None as a
            whole where it states no usage.
    """

    id: str
    source: str
    provider: str
    operation: str
    stream: bool
    model: str | None
    path: str
    query: str
    request: Mapping[str, Any] = field(repr=False)
    status: int
    content_type: str
    response: bytes = field(repr=False)
    truth: Mapping[str, int | None] | None


def read_exchanges(path: str | os.PathLike[str]) -> Iterator[Exchange]:
    """Read recorded exchanges, one JSON object a line, one at a time.

    Args:
        path: A JSON Lines file, plain or gzip; the content decides which, not
            the name. ``response`` is base64. Blank lines are skipped, keys that
            `Exchange` does not have are ignored.

    Yields:
        The exchanges in the order of the file.

    Raises:
        OSError: The file cannot be opened.
        ValueError: A line is not an exchange, or the gzip data is damaged. The
            message names file, line and reason.
    """
    with open(path, "rb") as raw, _decompressed(raw) as lines:
        number = 0
        while True:
            number += 1
            try:
                line = lines.readline()
                exchange = _parse(line) if line.strip() else None
            except (
                ValueError,
                RecursionError,
                EOFError,
                gzip.BadGzipFile,
                zlib.error,
            ) as error:
                msg = f"{os.fspath(path)}, line {number}: {error}"
                raise ValueError(msg) from error
            if not line:
                return
            if exchange is not None:
                yield exchange


def _decompressed(raw: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
    """Undo gzip if *raw* starts like a gzip file."""
    start = raw.read(len(_GZIP_MAGIC))
    raw.seek(0)
    return gzip.open(raw) if start == _GZIP_MAGIC else raw


def _parse(line: bytes) -> Exchange:
    """Make an exchange of one line, or say in a `ValueError` why it is none."""
    row = json.loads(line)
    if not isinstance(row, dict):
        msg = f"expected a JSON object, got {type(row).__name__}"
        raise ValueError(msg)  # noqa: TRY004  # bad file content, not a bad argument
    for name, types in _FIELD_TYPES.items():
        _check_type(row, name, types)
    _check_ranges(row)
    known = {name: row[name] for name in _FIELD_TYPES}
    known["response"] = base64.b64decode(row["response"], validate=True)
    return Exchange(**known)


def _check_type(row: Mapping[str, object], name: str, types: tuple[type, ...]) -> None:
    """Refuse a field that is missing or of another type; a bool is no int."""
    if name not in row:
        msg = f"{name!r} is missing"
        raise ValueError(msg)
    if type(row[name]) not in types:
        expected = " or ".join(known.__name__ for known in types)
        msg = f"{name!r} is {row[name]!r:.80}, expected {expected}"
        raise ValueError(msg)


def _check_ranges(row: Mapping[str, Any]) -> None:
    """Refuse what could not be sent as a response, or added up as tokens."""
    if not 200 <= row["status"] <= 599:  # noqa: PLR2004  # RFC 9110, section 15
        msg = f"'status' is {row['status']}, expected 200 to 599"
        raise ValueError(msg)
    content_type = row["content_type"]
    if not (content_type.isascii() and content_type.isprintable()):
        msg = f"'content_type' is {content_type!r:.80}, expected printable ASCII"
        raise ValueError(msg)
    for name in _TRUTH_KEYS if row["truth"] is not None else ():
        count = row["truth"].get(name)
        if count is not None and (type(count) is not int or count < 0):
            msg = f"'truth' has {name} {count!r:.80}, expected 0 or more, or null"
            raise ValueError(msg)
