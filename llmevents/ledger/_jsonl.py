"""Records in a file: one line each, written once, and there after a crash."""

from __future__ import annotations

import errno
import os
from collections import Counter, deque
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from threading import Lock, get_ident
from typing import Literal, NamedTuple, TypeAlias

from llmevents import _forksafe
from llmevents._errors import OptionError
from llmevents.ledger._append import AppendFile, LockedError, Rotation
from llmevents.ledger._record import Record, decode, encode


Durability: TypeAlias = Literal["process", "batch", "power"]

DURABILITIES: tuple[Durability, ...] = ("process", "batch", "power")

REASONS = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
    errno.EROFS: "read_only",
    errno.EACCES: "read_only",
    errno.EPERM: "read_only",
}
"""Why a file cannot be written -> the reason under which records are counted."""


class Counts(NamedTuple):
    """What became of the records so far, in this process.

    Attributes:
        written: In the file, and on the disk if that was asked for.
        refused: Not in the file, by reason: ``disk_full``, ``read_only``, ``locked``,
            ``interrupted`` or ``error``. With ``"power"``, those are counted here too
            that are in the file, while waiting for the disk has failed.
        repaired: Bytes of unfinished lines that were cut off.
    """

    written: int
    refused: dict[str, int]
    repaired: int

    @property
    def kept(self) -> int:
        """How many of this process's records are in the file."""
        return self.written


class JsonlStore:
    """A file of usage records, for any number of threads and processes.

    When `add` returns, the record is in the file, whatever becomes of the process
    (``"process"``), or on the disk, whatever becomes of the machine (``"power"``).
    Only where the file cannot be written it is not; that is counted, and the next
    record is tried anew. Threads that add at the same time share a write. An event that
    is emitted in the middle of a write by the same thread, from a finalizer say, is
    written as soon as that one is.

    Args:
        path: The file. One that is relative belongs to the directory that is the
            current one now, wherever the process goes later.
        durability: ``"process"`` or ``"power"``. To be told later, in batches, give
            the store to a background writer.
        rotation: When to set the file aside; None: never.

    Raises:
        OptionError: *durability* is unknown.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        durability: Durability = "process",
        rotation: Rotation | None = None,
    ) -> None:
        if durability not in DURABILITIES:
            expected = " or ".join(map(repr, DURABILITIES))
            raise OptionError(durability, "durability", expected)
        self.path = Path(os.path.abspath(path))
        self._sync = durability == "power"
        self._rotation = rotation
        self._file = AppendFile(self.path, rotation)
        self._refused: Counter[str] = Counter()
        self._written = 0
        self._pending: deque[bytes] = deque()
        self._waiting: deque[_Turn] = deque()
        self._inside: set[int] = set()
        self._lock = Lock()
        _forksafe.registry.register(self)

    def add(self, *records: Record) -> None:
        """Write records. Never raises for a file that cannot be written."""
        if not records:
            return
        lines = list(map(encode, records))
        me = get_ident()
        if me in self._inside:
            # In the middle of a write of its own, which nobody else can end.
            self._pending.extend(lines)
            return
        self._add(me, lines)
        while self._pending:
            # Those that came after the last look, and before the thread was out.
            self._add(me, [])

    def try_add(self, *records: Record) -> bool:
        """Write records; what keeps them out is nothing that a writer waits for."""
        self.add(*records)
        return True

    def _add(self, me: int, lines: list[bytes]) -> None:
        """Write lines, with those of threads that wait, unless one of them has."""
        turn = _Turn(lines)
        self._waiting.append(turn)
        inside = self._inside
        try:
            # Before it waits: a finalizer that runs once it has the lock must not.
            inside.add(me)
            with self._lock:
                if not turn.is_done:
                    self._write_waiting(turn)
                while self._pending:
                    turn = _Turn([self._pending.popleft()])
                    self._waiting.append(turn)
                    self._write_waiting(turn)
        finally:
            inside.discard(me)

    def _write_waiting(self, mine: _Turn) -> None:
        """Write the lines of all that wait. Who is interrupted gives up its own only.

        A turn waits until nothing can happen to its lines any more: the other threads,
        whose turn comes then, write what is left of theirs.
        """
        waiting, share = self._waiting, _Share()
        turns = len(waiting)
        try:
            for number in range(turns):
                share.take(waiting[number])
            self._write(share)
        except BaseException:  # of a signal handler
            if left := len(mine.left()):
                self._refused["interrupted"] += left
            waiting.remove(mine)
            raise
        for _ in range(turns):
            waiting.popleft()

    def counts(self) -> Counts:
        """Return what became of the records so far."""
        return Counts(self._written, dict(self._refused), self._file.repaired)

    def close(self, timeout: float | None = None) -> bool:
        """Close the file; it is opened again if more comes.

        Args:
            timeout: Seconds to wait for a write under way; None: until it has ended.

        Returns:
            False if the time was too short, or a signal handler closes in the middle of
            a write of its own thread; the file is open still.
        """
        me, lock = get_ident(), self._lock
        if me in self._inside:
            return False
        try:
            self._inside.add(me)
            if not lock.acquire(timeout=-1 if timeout is None else max(0, timeout)):
                return False
            try:
                self._file.close()
            finally:
                lock.release()
        finally:
            self._inside.discard(me)
        return True

    def after_fork_in_child(self) -> None:
        """Begin with a descriptor of its own: locks belong to descriptors."""
        self._lock = Lock()
        self._inside = set()
        self._waiting = deque()
        self._pending = deque()
        self._refused = Counter()
        self._written = 0
        self._file.close()

    def _write(self, share: _Share) -> None:
        """Write lines at once, or as many at once as a file may have."""
        lines = share.lines
        for piece in [lines] if len(lines) == 1 else self._pieces(lines):
            self._append(piece, share)

    def _append(self, lines: list[bytes], share: _Share) -> None:
        """Write lines at once; they are settled in one step, or not at all."""
        file, number = self._file, len(lines)
        before, written = file.appended, self._written + number
        settled = share.settled + number
        try:
            file.append(b"".join(lines), sync=self._sync)
            self._written = written
            share.settled = settled
        except OSError as error:
            self._refused[_reason(error)] += number
            share.settled = settled
        except BaseException:
            # Those that are in the file already must not be written again.
            if file.appended != before:
                if self._sync:
                    self._refused["interrupted"] += number
                else:
                    self._written = written
                share.settled = settled
            raise

    def _pieces(self, lines: list[bytes]) -> Iterator[list[bytes]]:
        most = None if self._rotation is None else self._rotation.size
        piece: list[bytes] = []
        size = 0
        for line in lines:
            size += len(line)
            if piece and most is not None and size > most:
                yield piece
                piece, size = [], len(line)
            piece.append(line)
        if piece:
            yield piece


class _Share:
    """Lines of several threads that one of them writes."""

    __slots__ = ("lines", "settled")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.settled = 0
        """How many of them, from the first, are written, or counted as refused."""

    def take(self, turn: _Turn) -> None:
        """Add what is left of a turn's lines."""
        if turn.place is not None:
            turn.lines = turn.left()
        self.lines += turn.lines
        turn.place = (self, len(self.lines))


class _Turn:
    """Lines that a thread waits for to be written, by itself or by another one."""

    __slots__ = ("lines", "place")

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.place: tuple[_Share, int] | None = None
        """What the lines are written with, and how many those are up to the last."""

    @property
    def is_done(self) -> bool:
        """Whether all lines are written, or counted as refused."""
        return self.place is not None and self.place[0].settled >= self.place[1]

    def left(self) -> list[bytes]:
        """Return the lines that nothing has become of yet."""
        if self.place is None:
            return self.lines
        share, end = self.place
        return self.lines[max(0, len(self.lines) - max(0, end - share.settled)) :]


def _reason(error: OSError) -> str:
    if isinstance(error, LockedError):
        return "locked"
    return REASONS.get(error.errno or 0, "error")


class Line(NamedTuple):
    """A line of a file that was read.

    Attributes:
        offset: Where it begins.
        record: What it says; None if it is damaged.
    """

    offset: int
    record: Record | None


def read(path: str | PathLike[str]) -> Iterator[Line]:
    """Yield the lines of a file, damaged ones too.

    The last line is left out as long as it has no end: somebody may be writing it.

    Raises:
        OSError: The file cannot be read.
    """
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            if line.strip():
                yield Line(offset, decode(line))
            offset += len(line)
