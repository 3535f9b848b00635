"""Files that are there when they are complete, and not before."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import IO, Final, TypeAlias

from llmevents._errors import OptionError
from llmevents._show import show


Target: TypeAlias = "str | PathLike[str] | IO[bytes]"
"""A file's name; ``"-"``, which is standard output; or a stream of bytes."""

STANDARD_OUTPUT: Final = "-"

MODE: Final = 0o600
"""Records say who did what: they are for whoever exports them, unless told otherwise."""


@contextmanager
def opened(target: Target, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a target for writing; a stream stays open afterwards.

    A file is written under another name beside it, with mode 0600, and gets its own
    when the block has ended and all is on the disk. If the block raises, nothing is
    left of it.

    Raises:
        OptionError: The name is empty.
        FileExistsError: There is something of this name, if only a link, and it is not
            to be overwritten. Links are never followed.
        OSError: The file cannot be written.
    """
    if not isinstance(target, (str, PathLike)):
        yield target
        return
    if target == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not os.fspath(target):
        raise OptionError(target, "target", "a file's name, or '-', which is stdout")
    path = Path(target)
    _check(path, overwrite=overwrite)
    beside = path.with_name(f".llmevents-{secrets.token_hex(8)}.tmp")
    descriptor = _made(beside, path)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        _rename(beside, path, overwrite=overwrite)
    except BaseException:
        with suppress(FileNotFoundError):
            beside.unlink()
        raise


def _made(beside: Path, path: Path) -> int:
    """Open a new file; what is wrong is said of the name that was given."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(beside, flags, MODE)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _check(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not overwrite and os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> FileExistsError:
    msg = (
        f"{show(str(path))} is there already, and nothing was written; give another "
        f"name, or overwrite=True"
    )
    return FileExistsError(errno.EEXIST, msg)


def _rename(source: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        source.replace(path)
        return
    try:
        # Unlike a rename it leaves alone what another process has made meanwhile.
        os.link(source, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without links
        _check(path, overwrite=False)
        source.rename(path)
    else:
        source.unlink()
