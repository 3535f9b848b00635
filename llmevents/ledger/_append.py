"""A file that several processes append to, whole lines only."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Protocol

from llmevents.ledger._record import decode


fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: one process may append
    fcntl = None

MODE = 0o600
"""Records say who has used what: they are the owner's alone."""

DIRECTORY_MODE = 0o700

BLOCK = 65_536
"""Bytes that are read at once to find the last whole line."""

PAUSE = 0.000_2
"""Seconds between two looks at a lock that another process has."""


_EXCLUSIVE = 0 if fcntl is None else fcntl.LOCK_EX | fcntl.LOCK_NB
_UNLOCK = 0 if fcntl is None else fcntl.LOCK_UN

BEGINNINGS = (b'{"schema_version":', b'{"id":')
"""How our lines begin: those of calls, and those of who states the least."""

_UNKNOWN = -1
"""Where the file ends if we cannot tell: others may have written to it."""


class LockedError(OSError):
    """Another process has kept the file locked for too long."""


class Rotation(Protocol):
    """Says when a file is to be set aside."""

    @property
    def size(self) -> int | None:
        """Bytes that a file has at most, unless by a single line; None: any number."""

    def is_due(self, begun: str | None, size: int, more: int) -> bool:
        """Whether a file of *size* bytes is to be set aside before *more* come.

        *begun* is the timestamp of its first record, if that is known.
        """

    def set_aside(self, path: Path) -> object:
        """Rename the file. Nobody else does so, or appends, meanwhile."""


class AppendFile:
    """A file of lines that is appended to by any number of processes.

    A line is written by one ``write`` to a descriptor that appends, while an advisory
    lock is held (``flock``): what a full disk has cut off can be taken back then, and
    the file renamed, without a line of somebody else's in between. A file that was
    renamed or deleted since is made anew. What a process that was killed has left
    without an end is cut off by who opens the file, or writes to it, next: nobody was
    told that it had been written. What is none of our lines is given an end instead.

    Not safe for threads; see `JsonlStore`.

    Args:
        path: The file. Its directory is made if need be.
        rotation: Sets the file aside; None: nobody does.
        patience: Seconds to wait for the lock.
        every: Seconds between two looks at whether the file was renamed or deleted.
            Whoever packs it makes it longer before, so that it is looked at at once.
    """

    def __init__(
        self,
        path: Path,
        rotation: Rotation | None = None,
        *,
        patience: float = 1.0,
        every: float = 0.01,
    ) -> None:
        self._path = path
        self._rotation = rotation
        self._patience = patience
        self._descriptor: int | None = None
        self._inode = (0, 0)
        self._begun: str | None = None
        self._every = every
        self._look_again = 0.0
        self._end = _UNKNOWN
        self._unsynced: list[Path] = []
        self.repaired = 0
        """Bytes of lines without an end that were cut off."""
        self.appended = 0
        """Bytes that were appended, also if `append` was interrupted after that."""

    def append(self, lines: bytes, *, sync: bool = False) -> None:
        """Append whole lines, all of them or none.

        Args:
            lines: Each with its newline.
            sync: Whether to wait until they are on the disk.

        Raises:
            OSError: They cannot be written; the file is as it was. Or they are in
                the file, and it cannot be told whether they are on the disk.
            LockedError: Another process has kept it locked for too long.
        """
        descriptor = self._descriptor
        try:
            while descriptor is None or not self._append_here(descriptor, lines):
                self.close()
                descriptor = self._open()
            if sync:
                self._sync()
        except OSError:
            raise
        except BaseException:
            # Of a signal handler: just before the lock was let go, perhaps.
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptor; the next line opens the file again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _open(self) -> int | None:
        """Open the file, and make it if need be; None if it was renamed since."""
        directory = self._path.parent
        # The names of what is made have to be on the disk too.
        missing = (d for d in (directory, *directory.parents) if not d.exists())
        names = (directory, *(made.parent for made in missing), *self._unsynced)
        self._unsynced = list(dict.fromkeys(names))
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(self._path, flags, MODE)
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._inode = (found.st_dev, found.st_ino)
        self._look_again = 0.0
        self._end = _UNKNOWN
        try:
            if not self._lock(descriptor):
                return None
            self.repaired += repair(descriptor)
            unlock(descriptor)
            self._begun = first_timestamp(descriptor)
        except BaseException:
            # Not to be used before it is repaired. Closing lets go of the lock.
            self.close()
            raise
        return descriptor

    def _append_here(self, descriptor: int, lines: bytes) -> bool:
        """Append to the open file; False if that is not the file any more."""
        try:
            if not try_lock(descriptor) and not self._lock(descriptor):
                return False
            size = os.lseek(descriptor, 0, os.SEEK_END)
            if size != self._end or time.monotonic() >= self._look_again:
                if self._is_renamed():
                    return False
                size = self._look(descriptor, size)
            rotation = self._rotation
            if rotation is not None and self._is_set_aside(rotation, size, len(lines)):
                return False
            self._end = _UNKNOWN
            self._write(descriptor, lines, size)
            self._end = size + len(lines)
        finally:
            unlock(descriptor)
        return True

    def _is_renamed(self) -> bool:
        """Whether the path leads to another file by now, or to none.

        Nothing gets lost until somebody looks: what is written to a file that was
        renamed is in that file.
        """
        try:
            found = os.stat(self._path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

    def _look(self, descriptor: int, size: int) -> int:
        """Make sure that the file ends with a whole line; return its size then."""
        self._look_again = time.monotonic() + self._every
        # Somebody else has written since, and may have been killed on the way.
        if size not in (0, self._end) and os.pread(descriptor, 1, size - 1) != b"\n":
            self.repaired += repair(descriptor)
            size = os.lseek(descriptor, 0, os.SEEK_END)
        return size

    def _is_set_aside(self, rotation: Rotation, size: int, more: int) -> bool:
        """Set the file aside if that is due, and return whether it was."""
        if size and self._begun is None and self._descriptor is not None:
            self._begun = first_timestamp(self._descriptor)
        if not rotation.is_due(self._begun, size, more):
            return False
        # Or the file that somebody has put in its place would be renamed.
        if self._is_renamed():
            return True
        try:
            rotation.set_aside(self._path)
        except OSError:
            # It may be written, but not renamed: better too large than without these.
            return self._is_renamed()
        return True

    def _write(self, descriptor: int, lines: bytes, size: int) -> None:
        """Write all of *lines* behind *size* bytes, or take back what was written."""
        length, before = len(lines), self.appended
        try:
            written = os.write(descriptor, lines)
            while written < length:
                written += os.write(descriptor, lines[written:])
            self.appended = before + length
        except BaseException:
            # Also if it seems that nothing was: a signal handler may have raised since.
            self.appended = before
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise

    def _sync(self) -> None:
        if self._descriptor is not None:
            os.fsync(self._descriptor)
        while self._unsynced:
            sync_directory(self._unsynced[-1])
            self._unsynced.pop()

    def _lock(self, descriptor: int) -> bool:
        """Lock the open file; False if that is not the file any more.

        Whoever packs a file keeps it locked for as long as that takes.
        """
        if lock(descriptor, self._patience, self._is_renamed):
            return True
        if self._is_renamed():
            return False
        msg = f"{self._path} was locked for {self._patience} s"
        raise LockedError(errno.EAGAIN, msg)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    if os.name == "nt":  # pragma: no cover  # where directories cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(
    descriptor: int, patience: float, is_vain: Callable[[], bool] | None = None
) -> bool:
    """Keep other processes from writing to a file; False if one has kept it too long.

    Closing the descriptor lets go. Does nothing on Windows, where one process may append.

    Args:
        descriptor: Of the file.
        patience: Seconds to wait.
        is_vain: Whether to wait no longer; asked while another process has the lock.
    """
    deadline: float | None = None
    while not try_lock(descriptor):
        now = time.monotonic()
        if deadline is None:
            deadline = now + patience
        if now >= deadline or (is_vain is not None and is_vain()):
            return False
        time.sleep(PAUSE)
    return True


def try_lock(descriptor: int) -> bool:
    """Keep other processes from writing to a file, unless one does so already."""
    if fcntl is None:  # pragma: no cover  # Windows
        return True
    try:
        fcntl.flock(descriptor, _EXCLUSIVE)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
            raise
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let others write to a file again."""
    if fcntl is not None:
        fcntl.flock(descriptor, _UNLOCK)


def first_timestamp(descriptor: int) -> str | None:
    """Return the timestamp of the first record, or None if there is none to be read."""
    line, newline, _ = os.pread(descriptor, BLOCK, 0).partition(b"\n")
    record = decode(line) if newline else None
    begun = None if record is None else record.get("timestamp")
    return begun if isinstance(begun, str) else None


def repair(descriptor: int) -> int:
    """Cut off, or complete, what stands behind the last whole line.

    It is cut off only if it is torn off a line of ours. Anything else, such as the end
    of a file that is none of ours, stays there as a line that is damaged.

    Returns:
        How many bytes were cut off.
    """
    size = os.fstat(descriptor).st_size
    start = _after_last_newline(descriptor, size)
    if start == size:
        return 0
    tail = os.pread(descriptor, size - start, start)
    head = os.pread(descriptor, BLOCK, 0)
    if _is_whole(tail) or not _is_torn(tail, start, head):
        os.write(descriptor, b"\n")
        return 0
    os.ftruncate(descriptor, start)
    return size - start


def _is_whole(line: bytes) -> bool:
    """Whether this is JSON: a record, or whatever else somebody has written."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_torn(tail: bytes, start: int, head: bytes) -> bool:
    """Whether this can be a part of a line of ours, in a file that begins with *head*.

    A file system may stand in with zeros for what a loss of power has kept from it.
    """
    if head.startswith(BEGINNINGS):
        return tail.lstrip(b"\0")[:1] in b"{"
    part = tail.rstrip(b"\0")
    return not start and any(beginning.startswith(part) for beginning in BEGINNINGS)


def _after_last_newline(descriptor: int, size: int) -> int:
    end = size
    while end > 0:
        begin = max(0, end - BLOCK)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
