"""Files that are set aside: when, under which name, packed, and for how long."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, get_args

from llmevents import _forksafe
from llmevents._clock import SYSTEM_CLOCK, Clock
from llmevents._errors import OptionError
from llmevents._options import check_count
from llmevents.ledger._append import MODE, LockedError, lock
from llmevents.llm._windows import utc_datetime


Period: TypeAlias = Literal["hour", "day", "month"]

CUTS = {"hour": 13, "day": 10, "month": 7}
"""Characters of a timestamp that say in which period it is."""

PACKED = ".gz"
UNFINISHED = ".tmp"

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
"""How an unfinished file is opened: what a packer that was killed has left is reused."""

PATIENCE = 5.0
"""Seconds to wait for a writer, which needs microseconds."""

STAMP = "%Y%m%dT%H%M%S%fZ"
"""When a file was set aside, in its name."""

_STAMPED = re.compile(r"-(\d{8}T\d{12}Z)(?:-\d+)?$")


class Rotation:
    """Sets a file of records aside when it is large enough, or its period is over.

    ``calls.jsonl`` becomes ``calls-20261121T093000000000Z.jsonl``, by the moment in
    UTC. It is packed with gzip, and old ones are deleted, in a thread of its own; what
    a crash has kept from being packed is packed the next time.

    Args:
        size: Bytes; no file becomes larger, unless by a single record. None: any size.
        period: ``"hour"``, ``"day"`` or ``"month"``, of the calendar in UTC. The file
            belongs to the period of its first record.
        pack: Whether to pack what is set aside.
        keep: How many to keep at most; None: all.
        max_age: How long to keep one; None: for ever.
        clock: What time it is.

    Raises:
        OptionError: An option has a value that it cannot have.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        period: Period | None = None,
        pack: bool = True,
        keep: int | None = None,
        max_age: timedelta | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if period is not None and period not in CUTS:
            expected = " or ".join(map(repr, get_args(Period)))
            raise OptionError(period, "period", expected)
        self._size = None if size is None else check_count(size, "size")
        self._keep = None if keep is None else check_count(keep, "keep")
        if max_age is not None and max_age <= timedelta(0):
            raise OptionError(max_age, "max_age", "a timedelta above 0")
        self._max_age = max_age
        self._cut = None if period is None else CUTS[period]
        self._pack = pack
        self._clock = clock
        self._thread: threading.Thread | None = None
        _forksafe.registry.register(self)

    @property
    def size(self) -> int | None:
        """Bytes that a file has at most, unless by a single record; None: any number."""
        return self._size

    def is_due(self, begun: str | None, size: int, more: int) -> bool:
        """Whether a file is to be set aside before *more* bytes come.

        Args:
            begun: The timestamp of its first record, if that is known.
            size: Its bytes.
            more: Bytes that are to be appended.
        """
        if size == 0:
            return False
        if self._size is not None and size + more > self._size:
            return True
        if self._cut is None or begun is None:
            return False
        now = self._now().strftime("%Y-%m-%dT%H:%M:%S")
        return begun[: self._cut] < now[: self._cut]

    def set_aside(self, path: Path) -> Path:
        """Rename the file, and have the older ones looked after; returns its new name."""
        name = f"{path.stem}-{self._now().strftime(STAMP)}"
        aside = path.with_name(f"{name}{path.suffix}")
        number = 0
        while aside.exists() or Path(f"{aside}{PACKED}").exists():
            number += 1
            aside = path.with_name(f"{name}-{number}{path.suffix}")
        path.rename(aside)
        if self._pack or self._keep is not None or self._max_age is not None:
            self._look_after_in_thread(path)
        return aside

    def look_after(self, path: Path) -> None:
        """Pack what is set aside of *path*, and delete what is too old. Never raises."""
        # One that cannot be packed, or deleted, must not cost the others.
        with suppress(OSError):
            for aside in list(set_aside(path)):
                if self._pack and aside.suffix != PACKED:
                    with suppress(OSError):
                        pack(aside)
        with suppress(OSError):
            for old in [*self._too_old(path), *_left_over(path)]:
                with suppress(OSError):
                    old.unlink(missing_ok=True)

    def join(self, timeout: float | None = None) -> None:
        """Wait until nothing is being packed."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def after_fork_in_child(self) -> None:
        """Forget the thread, which is the parent's."""
        self._thread = None

    def _look_after_in_thread(self, path: Path) -> None:
        previous = self._thread

        def work() -> None:
            if previous is not None:
                previous.join()
            self.look_after(path)

        thread = threading.Thread(target=work, name="llmevents-rotation", daemon=True)
        with suppress(RuntimeError):  # the interpreter is ending; the next one packs
            thread.start()
            self._thread = thread

    def _too_old(self, path: Path) -> Iterator[Path]:
        files = sorted(set_aside(path), key=_when)
        surplus = 0 if self._keep is None else max(0, len(files) - self._keep)
        for number, file in enumerate(files):
            age = self._now() - _when(file)
            is_old = self._max_age is not None and age > self._max_age
            if number < surplus or is_old:
                yield file

    def _now(self) -> datetime:
        return utc_datetime(self._clock.time_ns())


def set_aside(path: Path) -> Iterator[Path]:
    """Yield the files that were set aside of *path*, packed ones too, in no order."""
    for file in path.parent.iterdir():
        plain = file.with_suffix("") if file.suffix == PACKED else file
        if _is_set_aside(plain, path):
            yield file


def _left_over(path: Path) -> Iterator[Path]:
    """Yield what killed packers have left of files that are not there any more."""
    for file in path.parent.iterdir():
        plain = file.with_name(file.name.removesuffix(f"{PACKED}{UNFINISHED}"))
        if plain != file and _is_set_aside(plain, path) and not plain.exists():
            yield file


def _is_set_aside(plain: Path, path: Path) -> bool:
    is_ours = plain.suffix == path.suffix and plain.stem.startswith(path.stem)
    stamp = plain.stem.removeprefix(path.stem)
    return is_ours and _STAMPED.fullmatch(stamp) is not None


def pack(path: Path) -> None:
    """Pack a file; it is there, packed or not, whenever the process ends.

    Raises:
        OSError: It cannot be packed, and stays as it is.
    """
    with path.open("rb+") as source:
        # A writer that has not noticed yet that the file was renamed would go on.
        _lock(source)
        if os.fstat(source.fileno()).st_nlink:
            _pack_locked(path, source)
        # Or another packer was faster.


def _pack_locked(path: Path, source: BinaryIO) -> None:
    # Its name is that of no packer: whoever has the source's lock is the only one.
    unfinished = Path(f"{path}{PACKED}{UNFINISHED}")
    descriptor = os.open(unfinished, FLAGS, MODE)
    try:
        with os.fdopen(descriptor, "wb") as target:
            with gzip.GzipFile(fileobj=target, mode="wb", filename="") as packed:
                shutil.copyfileobj(source, packed)
            target.flush()
            os.fsync(target.fileno())
        # While it is locked: who comes next sees that it is longer, and looks.
        source.write(b"\n")
        source.flush()
        unfinished.rename(f"{path}{PACKED}")
        path.unlink(missing_ok=True)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _lock(file: BinaryIO) -> None:
    if not lock(file.fileno(), PATIENCE):
        msg = f"{file.name} was locked for {PATIENCE} s"
        raise LockedError(errno.EAGAIN, msg)


def _when(file: Path) -> datetime:
    plain = file.with_suffix("") if file.suffix == PACKED else file
    found = _STAMPED.search(plain.stem)
    assert found is not None  # noqa: S101  # set_aside() yields no other
    return datetime.strptime(found[1], STAMP).replace(tzinfo=timezone.utc)
