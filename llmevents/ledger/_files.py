"""The files of a store of JSON lines, to be read while others write."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from llmevents.ledger._query import Place
from llmevents.ledger._rotation import PACKED, set_aside


LOST = b"\0\n"
"""Stands for what is missing of a packed file: a damaged line."""


BROKEN = (EOFError, gzip.BadGzipFile, zlib.error)
"""What says that a packed file is damaged."""


class File(NamedTuple):
    """A file as it was found.

    Attributes:
        path: Its name.
        inode: Its device and number, which stay when it is renamed.
        size: Its bytes.
        changed: When it was written last.
    """

    path: Path
    inode: tuple[int, int]
    size: int
    changed: int


class Text(NamedTuple):
    """Where the lines of a file are to be read, if not from the file itself."""

    path: Path
    source: Path


def files_of(path: Path) -> list[File]:
    """Return the file, and what was set aside of it: the oldest first.

    A file that is being packed is there twice; it is returned once. One without a
    byte is left out.

    Raises:
        OSError: They cannot be looked at, or *path* is no file.
    """
    try:
        aside = set(set_aside(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    twice = {file for file in aside if file.suffix == PACKED} & {
        file.with_name(f"{file.name}{PACKED}") for file in aside
    }
    # A stamp ends in "Z", and what tells files of one moment apart follows it.
    ordered = sorted(aside - twice, key=lambda file: file.name.replace(".", "\0"))
    found = map(_look_at, (*ordered, path))
    return [file for file in found if file is not None and file.size]


def _look_at(path: Path) -> File | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    inode = (found.st_dev, found.st_ino)
    return File(path, inode, found.st_size, found.st_mtime_ns)


def are_same(some: Iterable[File], others: Iterable[File]) -> bool:
    """Whether nothing was renamed, deleted or made anew, whatever was appended."""
    return [file[:2] for file in some] == [file[:2] for file in others]


def unpack(source: Path, target: Path) -> None:
    """Unpack what can be unpacked of a damaged file, and mark what cannot."""
    with gzip.open(source) as packed, target.open("wb") as plain:
        try:
            shutil.copyfileobj(packed, plain)
        except BROKEN:
            plain.write(LOST)


def lines_at(
    texts: Iterable[Text], ordinals: Iterable[int]
) -> Iterator[tuple[int, Place, bytes]]:
    """Yield the lines that are the *ordinals*-th of all that are not blank.

    Args:
        texts: The files.
        ordinals: In ascending order, from 0.
    """
    wanted = iter(ordinals)
    next_one = next(wanted, None)
    ordinal = 0
    for text in texts:
        if next_one is None:
            return
        offset = 0
        packed = text.path.suffix == PACKED
        with gzip.open(text.path) if packed else text.path.open("rb") as file:
            for line in file:
                if line.strip():
                    if ordinal == next_one:
                        yield ordinal, Place(text.source, offset), line
                        next_one = next(wanted, None)
                        if next_one is None:
                            return
                    ordinal += 1
                offset += len(line)
