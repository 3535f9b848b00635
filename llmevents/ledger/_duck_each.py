"""The lines of files in another order than theirs, with memory that stays flat."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from llmevents.ledger._files import Text, lines_at


PREFIX = "llmevents-"

PLACE = struct.Struct("=QQ")
"""Where a line begins, and its length."""

BATCH = 1_000
"""Places that are read at once."""


class Copies:
    """Lines that were copied to a file, and an index of them by their ranks.

    Args:
        lines: An empty file.
        index: Another one.
    """

    def __init__(self, lines: IO[bytes], index: IO[bytes]) -> None:
        self._lines = lines
        self._index = index

    def fill(self, texts: Iterable[Text], ranks: Iterable[tuple[int, int]]) -> None:
        """Copy lines, instead of those that were copied before.

        Args:
            texts: The files that they are in.
            ranks: For each, its ordinal and its rank; by ordinals.

        Raises:
            OSError: A file cannot be read, or there is no room for the copies.
        """
        for file in (self._lines, self._index):
            file.seek(0)
            file.truncate()
        rank = begin = 0

        def ordinals() -> Iterator[int]:
            nonlocal rank
            for ordinal, rank in ranks:  # noqa: B007  # used where the line is found
                yield ordinal

        for _, _, line in lines_at(texts, ordinals()):
            place = PLACE.pack(begin, len(line))
            os.pwrite(self._index.fileno(), place, rank * PLACE.size)
            begin += self._lines.write(line)
        self._lines.flush()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines by their ranks; without a byte what was not there."""
        self._index.seek(0)
        while places := self._index.read(BATCH * PLACE.size):
            for begin, length in PLACE.iter_unpack(places):
                yield os.pread(self._lines.fileno(), length, begin)


@contextmanager
def copies() -> Iterator[Copies]:
    """Open a place for copies, in files without a name: what ends deletes them.

    Raises:
        OSError: There is no room for temporary files.
    """
    with TemporaryFile(prefix=PREFIX) as lines, TemporaryFile(prefix=PREFIX) as index:
        yield Copies(lines, index)
