"""Rows of files, whatever they are in: lines of JSON, an array, or CSV."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import orjson

from llmevents.ledger._files import BROKEN


LONGEST = 1 << 26
"""Bytes of a row. What is longer is left out, so that memory stays flat."""

CHUNK = 1 << 20

GZIP = b"\x1f\x8b"

MARK = b"\xef\xbb\xbf"
"""A byte order mark, which spreadsheets write."""

NO_OBJECT = "it is no object"

_TOKEN = re.compile(rb'[\\"{}\[\]\n]')
_WORD = re.compile(rb"[^,\s]+")


class Row(NamedTuple):
    """A row that was read.

    Attributes:
        line: Where it begins, from 1.
        value: What it says; None if it is damaged.
        reason: What is wrong with it.
        size: Its bytes, or about as many.
    """

    line: int
    value: dict[str, Any] | None
    reason: str = ""
    size: int = 0


def rows_of(file: IO[bytes]) -> Iterator[Row]:
    """Yield the rows of a file, which is unpacked if it is packed with gzip.

    Where a packed file is damaged the rows end with one that says so.

    Raises:
        OSError: The file cannot be read.
    """
    found: io.BufferedReader[Any] = io.BufferedReader(_Raw(file), CHUNK)
    if found.peek(2).startswith(GZIP):
        found = io.BufferedReader(_Raw(gzip.GzipFile(fileobj=found)), CHUNK)
    line = 0
    try:
        for row in _rows(found):
            line = row.line
            yield row
    except BROKEN as error:
        yield Row(line + 1, None, f"the file is damaged from here on: {error}")


class _Raw(io.RawIOBase):
    """A stream of bytes, which is not closed with what reads it."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        super().__init__()
        # Not all that was asked for at once: what is before the damage comes first.
        self._read = getattr(file, "read1", file.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any buffer of bytes
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _rows(file: io.BufferedReader) -> Iterator[Row]:
    head = file.peek(CHUNK).removeprefix(MARK).lstrip()
    if head.startswith(b"["):
        return _elements(file)
    names = head.partition(b"\n")[0]
    if b"request_id" in names and not names.startswith(b"{"):
        return _csv(file)
    return _lines(file)


def _lines(file: io.BufferedReader) -> Iterator[Row]:
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(CHUNK)
            yield Row(number, None, f"it is longer than {LONGEST:,} bytes")
            continue
        line = line.removeprefix(MARK) if number == 1 else line
        if line.strip():
            yield _row(number, line)


def _elements(file: io.BufferedReader) -> Iterator[Row]:
    """Yield the elements of an array, each of which may be on many lines."""
    if file.peek(len(MARK)).startswith(MARK):
        file.read(len(MARK))
    scan = _Scan()
    while chunk := file.read(CHUNK):
        yield from scan.feed(chunk)
    if scan.depth:
        yield Row(scan.begin, None, "it has no end")
    elif scan.is_open:
        yield Row(scan.line, None, "the array has no end")


class _Scan:
    """Finds where the elements of an array begin and end, without reading them.

    Attributes:
        depth: How many braces of the element are open; or brackets, if it is an array.
        begin: The line that the element began on.
        is_open: Whether the array has begun, and not ended.
        line: Where it is.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.begin = 1
        self.is_open = False
        self.line = 1
        self._pair = b"{}"
        self._in_text = False
        self._in_word = False
        self._skip = 0
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Row]:
        """Yield the elements that end in the *chunk*, which is the next one."""
        start = 0  # of the element, or of what is between two
        for found in _TOKEN.finditer(chunk):
            at, token = found.start(), found[0]
            is_outside = not self.depth
            if is_outside:
                yield from self._between(chunk[start:at], token, at)
                start = at if self.depth else at + 1
            elif token == b"\n":
                self.line += 1
            elif at >= self._skip and self._is_brace(token, at):
                self.depth += (token == self._pair[:1]) - (token == self._pair[1:])
                if not self.depth:
                    self._keep(chunk[start : at + 1])
                    start = at + 1
                    yield self._end()
        if self.depth:
            self._keep(chunk[start:])
        else:
            yield from self._words(chunk[start:])
        self._skip = max(0, self._skip - len(chunk))

    def _between(self, before: bytes, token: bytes, at: int) -> Iterator[Row]:
        """Go on outside of objects: begin one, or yield what is there instead."""
        yield from self._words(before)
        self._in_word = False
        if token == b"\n":
            self.line += 1
        elif at < self._skip:
            return
        elif not self._is_brace(token, at):
            if token == b'"' and not self._in_text:
                yield Row(self.line, None, NO_OBJECT)
        elif token == b"{" or (token == b"[" and self.is_open):
            self.depth, self.begin = 1, self.line
            self._pair = b"{}" if token == b"{" else b"[]"
        elif token == b"}":
            yield Row(self.line, None, NO_OBJECT)
        else:
            self.is_open = token == b"["

    def _words(self, text: bytes) -> Iterator[Row]:
        """Yield numbers and the like, of which the last may go on in the next chunk."""
        if self._in_text or not text:
            return
        goes_on, self._in_word = self._in_word, False
        for word in _WORD.finditer(text):
            if word.start() or not goes_on:
                yield Row(self.line, None, NO_OBJECT)
            self._in_word = word.end() == len(text)

    def _is_brace(self, token: bytes, at: int) -> bool:
        if token == b"\\":
            self._skip = at + 2
        elif token == b'"':
            self._in_text = not self._in_text
        else:
            return not self._in_text
        return False

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= LONGEST:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _end(self) -> Row:
        text, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        if size > LONGEST:
            return Row(self.begin, None, f"it is longer than {LONGEST:,} bytes")
        return _row(self.begin, text)


def _csv(file: io.BufferedReader) -> Iterator[Row]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    limit = csv.field_size_limit(LONGEST)
    try:
        reader = csv.DictReader(text, restkey="", strict=True)
        line = 1
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(line, None, str(error))
                continue
            if "" in row or None in row.values():
                yield Row(line, None, "it has not as many fields as there are names")
            else:
                yield Row(line, row, size=sum(map(len, row.values())))
    finally:
        csv.field_size_limit(limit)


def _row(number: int, text: bytes) -> Row:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(text)  # which reads lone surrogates
        except (ValueError, RecursionError) as error:
            return Row(number, None, f"it is no JSON: {error}")
    if not isinstance(value, dict):
        return Row(number, None, NO_OBJECT)
    return Row(number, value, size=len(text))
