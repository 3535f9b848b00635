"""Bodies of responses, as bytes, taken apart into the parts that they consist of.

Which of the four encodings a body has is seen from its first bytes: servers state
content types wrongly, and recordings often not at all.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from json import loads
from struct import Struct
from zlib import crc32


_PRELUDE = Struct(">III")
"""Length of the message, length of its headers, checksum of these two.

Amazon Transcribe developer guide, "Event stream encoding"; botocore 1.44,
``eventstream.py``.
"""

_CHECKSUM = Struct(">I")
_TEXT_HEADER = 7
_TEXT_LENGTH = Struct(">H")

_BOM = b"\xef\xbb\xbf"


def decode(body: bytes) -> Iterator[object]:
    """Yield the decoded parts of *body* in their order.

    JSON is one part, or one for each item if it is an array; JSON lines one a line;
    server-sent events one for each ``data``; an AWS event stream one a message, as
    ``{event type: payload}`` or, for ``InvokeModelWithResponseStream``, the payload of
    the chunk. What cannot be decoded is left out: a body that was cut short gives
    what came before.
    """
    if _starts_event_stream(body):
        yield from _event_stream(body)
        return
    text = body.removeprefix(_BOM).strip()
    if text[:1] not in (b"{", b"["):
        yield from _server_sent_events(text)
        return
    whole = _json(text)
    if whole is None:
        yield from _json_lines(text)
    elif isinstance(whole, list):
        yield from whole
    else:
        yield whole


def _json(text: bytes) -> object:
    """Return *text* decoded; None where it is no JSON, too deep, or ``null``."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return None


def _json_lines(text: bytes) -> Iterator[object]:
    for line in text.splitlines():
        part = _json(line)
        if part is not None:
            yield part


def _server_sent_events(text: bytes) -> Iterator[object]:
    """Yield the data of each event; several lines of one are joined.

    WHATWG HTML, "Server-sent events", section 9.2.6. Unlike there, an event counts
    without the blank line after it: the last one of a body often lacks it.
    """
    data: list[bytes] = []
    for line in (*text.splitlines(), b""):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            part = _json(b"\n".join(data))
            if part is not None:
                yield part
            data.clear()


def _starts_event_stream(body: bytes) -> bool:
    if len(body) < _PRELUDE.size:
        return False
    checksum: int = _PRELUDE.unpack_from(body)[2]
    return checksum == crc32(body[: _PRELUDE.size - _CHECKSUM.size])


def _event_stream(body: bytes) -> Iterator[object]:
    """Yield the messages up to the first one that is damaged or cut short."""
    start = 0
    while _starts_event_stream(body[start : start + _PRELUDE.size]):
        length, headers_length, _ = _PRELUDE.unpack_from(body, start)
        message = body[start : start + length]
        last = length - _CHECKSUM.size
        headers_end = _PRELUDE.size + headers_length
        if len(message) < length or headers_end > last:
            return
        if _CHECKSUM.unpack_from(message, last)[0] != crc32(message[:last]):
            return
        part = _message(
            message[_PRELUDE.size : headers_end], _json(message[headers_end:last])
        )
        if part is not None:
            yield part
        start += length


def _message(headers: bytes, payload: object) -> object:
    """Return a message as boto3 would, chunks of a model's own body decoded."""
    if not isinstance(payload, dict):
        return None
    if isinstance(payload.get("bytes"), str):
        return decode_chunk(payload["bytes"])
    return {_event_type(headers): payload}


def decode_chunk(encoded: object) -> object:
    """Return the JSON in a chunk of ``InvokeModelWithResponseStream``, or None.

    On the wire it is base64, from boto3 it comes as bytes.
    """
    if isinstance(encoded, bytes):
        return _json(encoded)
    if not isinstance(encoded, str):
        return None
    try:
        return _json(b64decode(encoded))
    except ValueError:  # also what says that it is no base64
        return None


def _event_type(headers: bytes) -> str:
    """Return the header ``:event-type``, or ``""``; messages have text headers only."""
    at = 0
    while at < len(headers):
        name_end = at + 1 + headers[at]
        value_at = name_end + 1 + _TEXT_LENGTH.size
        if len(headers) < value_at or headers[name_end] != _TEXT_HEADER:
            break
        value_end = value_at + _TEXT_LENGTH.unpack_from(headers, name_end + 1)[0]
        if headers[at + 1 : name_end] == b":event-type":
            return headers[value_at:value_end].decode(errors="replace")
        at = value_end
    return ""
