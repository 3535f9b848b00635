"""Bodies as bytes: JSON, JSON lines, server-sent events, AWS event streams."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.llm import Usage
from llmevents.llm._wire import decode
from llmevents.llm.usage import read_usage
from tests.llm.calls import UNHURRIED


USAGE = {"usage": {"prompt_tokens": 3}}
LINE = json.dumps(USAGE).encode()


def message(payload: object, event: str = "metadata", **headers: str) -> bytes:
    """Return one message of an AWS event stream."""
    named = {":message-type": "event", ":event-type": event, **headers}
    block = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in named.items()
    )
    return framed(block, json.dumps(payload).encode())


def framed(headers: bytes, body: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return whole + struct.pack(">I", zlib.crc32(whole))


BODIES: dict[str, tuple[bytes, list[Any]]] = {
    "json": (LINE, [USAGE]),
    "json with a mark and space": (b"\xef\xbb\xbf\r\n " + LINE + b"\n", [USAGE]),
    "json array": (b"[" + LINE + b"," + LINE + b"]", [USAGE, USAGE]),
    "json lines": (LINE + b"\n\n" + LINE + b"\r\n", [USAGE, USAGE]),
    "json lines, cut": (LINE + b"\n" + LINE[:10], [USAGE]),
    "events": (
        b"event: x\ndata: " + LINE + b"\n\n: ping\ndata:" + LINE + b"\n\n",
        [USAGE] * 2,
    ),
    "events, carriage returns": (b"data: " + LINE + b"\r\n\r\n", [USAGE]),
    "events, several lines of data": (b'data: {"a":\ndata: 1}\n\n', [{"a": 1}]),
    "events, no blank line at the end": (b"data: " + LINE, [USAGE]),
    "events, done": (b"data: " + LINE + b"\n\ndata: [DONE]\n\n", [USAGE]),
    "events, cut": (b"data: " + LINE + b"\n\ndata: {", [USAGE]),
    "event stream": (
        message({"usage": 1}) + message({"a": 1}, "messageStop"),
        [{"metadata": {"usage": 1}}, {"messageStop": {"a": 1}}],
    ),
    "event stream of chunks": (
        message({"bytes": base64.b64encode(LINE).decode()}, "chunk"),
        [USAGE],
    ),
    "event stream, no base64": (message({"bytes": "A"}, "chunk"), []),
    "event stream, cut": (
        message({"usage": 1}) + message({})[:20],
        [{"metadata": {"usage": 1}}],
    ),
    "event stream, no object": (message([1]), []),
    "event stream, no headers": (framed(b"", b"{}"), [{"": {}}]),
    "event stream, a header of another type": (
        framed(b"\x01a\x00\x00\x00", b"{}"),
        [{"": {}}],
    ),
    "event stream, a header that is cut": (framed(b"\x09ab", b"{}"), [{"": {}}]),
    "nothing": (b"", []),
    "null": (b"null", []),
    "text": (b"Internal Server Error", []),
    "deep": (b"[" * 100_000, []),
    "a number too long": (b'{"usage": ' + b"9" * 5000 + b"}", []),
    "no text": (b"{\xff\xfe}", []),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_is_taken_apart(case: str) -> None:
    body, parts = BODIES[case]
    assert list(decode(body)) == parts


def test_a_damaged_message_ends_an_event_stream() -> None:
    """What follows it cannot be found."""
    good, bad = message({"usage": 1}), bytearray(message({"usage": 2}))
    bad[-6] ^= 1
    assert list(decode(good + bytes(bad) + good)) == [{"metadata": {"usage": 1}}]


def test_a_message_that_claims_to_be_shorter_than_its_headers_is_damaged() -> None:
    prelude = struct.pack(">II", 20, 100)
    assert (
        list(decode(prelude + struct.pack(">I", zlib.crc32(prelude)) + bytes(8))) == []
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind_are_bodies(kind: Callable[[bytes], object]) -> None:
    assert read_usage(kind(LINE)) == Usage(input_tokens=3)


@UNHURRIED
@given(st.binary(max_size=300), st.sampled_from(sorted(BODIES)), st.data())
def test_no_bytes_do_any_harm(junk: bytes, case: str, data: st.DataObject) -> None:
    body, _ = BODIES[case]
    cut = data.draw(st.integers(min_value=0, max_value=min(len(body), 200)))
    for each in (junk, body[:cut] + junk, body[:cut]):
        assert isinstance(list(decode(each)), list)
