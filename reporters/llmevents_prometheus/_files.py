"""The directory that processes share: one file each, and one for those that ended.

``process-<pid>-<random>.json``
    The numbers of one process. It is replaced as a whole, and there is a lock on it
    (``flock``) for as long as the process lives. The kernel drops the lock however
    the process ends, so nobody guesses from process ids, which are used again and
    are the same in several containers.
``ended-v1.json``
    The numbers of all processes that have ended, and whose they are.
``lock``
    Held by whoever moves numbers from the former to the latter.

Nothing is ever read that is half written, and no file is ever written to that
others may be reading: what is new is written aside and renamed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import time
from typing import NamedTuple

from llmevents import OptionError
from llmevents_prometheus._format import (
    FOREIGN,
    FUTURE_VERSION,
    SCHEMA,
    UNREADABLE,
    UnusableError,
)


ENDED = f"ended-v{SCHEMA}.json"
ENDED_ASIDE = f"ended-v{SCHEMA}.damaged"
LOCK = "lock"

TEMPORARY = ".tmp"
TEMPORARY_SECONDS = 60.0
"""Age at which a temporary file is the rest of a write that was cut off."""

_PROCESS = re.compile(r"process-\d+-[0-9a-f]{16}\.json")
_FUTURE_ENDED = re.compile(r"ended-v\d+\.json")
_ASIDE = re.compile(r"lock|(process-\d+-\w+|ended-v\d+)\.(json\.tmp|damaged)")

_CHUNK = 1 << 20

_REFUSALS = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO}
"""Errors that concern one file: permissions, a symbolic link, a socket."""


def new_name() -> str:
    """Return a name that no file has had."""
    return f"process-{os.getpid()}-{os.urandom(8).hex()}.json"


def kind_of(name: str) -> str:
    """Return "process", "aside" (nothing to read), or why a file is skipped."""
    if _PROCESS.fullmatch(name):
        return "process"
    if name == ENDED or _ASIDE.fullmatch(name):
        return "aside"
    return FUTURE_VERSION if _FUTURE_ENDED.fullmatch(name) else FOREIGN


class Found(NamedTuple):
    """A file as it was found."""

    data: bytes
    is_alive: bool


class SharedDirectory:
    """The files in one directory. Failures are `OSError` unless said otherwise."""

    def __init__(self, path: str) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the directory, for this user only, if it is not there.

        Raises:
            OptionError: It cannot be made, written, or locked.
        """
        try:
            self._make()
            with self.exclusive():
                pass
            mode = os.stat(self.path).st_mode
        except OSError as error:
            reason = error.strerror or type(error).__name__
            expected = f"a directory where files can be written and locked ({reason})"
            raise OptionError(self.path, "directory", expected) from error
        if mode & stat.S_IWOTH:
            msg = (
                f"everybody can write to the directory {self.path!r} and so change "
                "what is counted; run: chmod o-w"
            )
            warnings.warn(msg, RuntimeWarning, stacklevel=2)

    def names(self) -> list[str]:
        """Return the names of all files, in a fixed order."""
        try:
            return sorted(os.listdir(self.path))
        except FileNotFoundError:
            return []

    def read(self, name: str, *, also_alive: bool = True) -> Found | None:
        """Return a file, or None if there is none.

        Args:
            name: Its name.
            also_alive: Whether to return it as well if its process lives.

        Raises:
            UnusableError: It is not readable for us, or no regular file.
        """
        while True:
            descriptor = self._open(name)
            if descriptor is None:
                return None
            try:
                is_alive = not _try_lock(descriptor, shared=True)
                if is_alive and not also_alive:
                    return None
                # Without a lock it may be one that was replaced just now.
                if is_alive or self._is(name, descriptor):
                    return Found(_read(descriptor), is_alive)
            finally:
                release(descriptor)

    def header(self, name: str) -> bytes:
        """Return the first line of a file, empty if there is none to read."""
        try:
            descriptor = self._open(name)
        except UnusableError:
            return b""
        if descriptor is None:
            return b""
        with open(descriptor, "rb") as file:
            return file.readline().removesuffix(b"\n")

    def replace(self, name: str, data: bytes) -> int:
        """Put *data* in place of a file, in one step.

        Returns:
            A descriptor that holds the lock on the file for as long as it is open.
        """
        temporary = name + TEMPORARY
        try:
            descriptor = self._create(temporary)
        except FileNotFoundError:
            self._make()
            descriptor = self._create(temporary)
        try:
            # Before others can see it: what has no lock is moved to those that ended.
            _lock(descriptor)
            _write(descriptor, data)
            os.rename(self._path(temporary), self._path(name))
        except BaseException:
            release(descriptor)
            self.remove(temporary)
            raise
        return descriptor

    def is_current(self, name: str, descriptor: int) -> bool:
        """Whether what *descriptor* was opened for is still what *name* shows."""
        try:
            return self._is(name, descriptor)
        except OSError:
            return False

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def set_aside(self, name: str, new_name: str) -> None:
        """Rename a file."""
        os.rename(self._path(name), self._path(new_name))

    def remove_leftovers(self, names: list[str]) -> None:
        """Remove temporary files that are too old to be in use."""
        for name in names:
            if name.endswith(TEMPORARY) and kind_of(name) == "aside":
                with suppress(FileNotFoundError):
                    age = time() - os.stat(self._path(name)).st_mtime
                    if age > TEMPORARY_SECONDS:
                        self.remove(name)

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Hold the lock of the directory; yield whether it could be had at once."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path(LOCK), flags, 0o600)
        try:
            yield _try_lock(descriptor, shared=False)
        finally:
            release(descriptor)

    def _make(self) -> None:
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    def _create(self, name: str) -> int:
        self.remove(name)  # of whoever was cut off; nobody else writes it now
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._path(name), flags, 0o600)

    def _open(self, name: str) -> int | None:
        # A pipe that somebody has put there must not keep us waiting.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path(name), flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _REFUSALS:
                raise UnusableError(UNREADABLE) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnusableError(UNREADABLE)
        return descriptor

    def _is(self, name: str, descriptor: int) -> bool:
        try:
            shown = os.stat(self._path(name), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(shown, os.fstat(descriptor))

    def _path(self, name: str) -> str:
        return os.path.join(self.path, name)


def _lock(descriptor: int, *, shared: bool = False) -> None:
    import fcntl  # is not there on Windows, where `SharedSnapshots` refuses to be made

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)


def _try_lock(descriptor: int, *, shared: bool) -> bool:
    try:
        _lock(descriptor, shared=shared)
    except BlockingIOError:
        return False
    return True


def release(descriptor: int) -> None:
    """Drop the lock and close."""
    import fcntl

    # Closing is not enough: a child that was forked meanwhile has it open as well.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _read(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, _CHUNK):
        parts.append(part)
    return b"".join(parts)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
