"""Records as they come into a store, each once, whoever writes them."""

from __future__ import annotations

import gzip
import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from llmevents.ledger._files import BROKEN
from llmevents.ledger._open import StoreNotFoundError, find
from llmevents.ledger._record import Record, decode
from llmevents.ledger._rotation import PACKED, set_aside


if TYPE_CHECKING:
    from sqlalchemy import URL

    from llmevents.ledger._query import Filter

GRACE = 2.0
"""Seconds for which a file is read on that was set aside: a writer that has not noticed
goes on for a tenth of one."""

LOOKBACK = timedelta(minutes=15)
"""Where rows have no order of arrival: how long before its end a call may have begun."""

BATCH = 500
"""Rows that are read at once."""


class Follower(Protocol):
    """Gives what has come since it was made, or was asked last."""

    def poll(self) -> Iterator[Record]:
        """Yield the new records."""

    def close(self) -> None:
        """Let go of what is open."""


def follow(store: str) -> Follower:
    """Return what follows a store from now on.

    Raises:
        StoreError: It is none.
        StoreNotFoundError: There is no such file.
        OSError: It cannot be read.
    """
    place = find(store)
    if place.url is not None:
        return SqlFollower(place.url)
    path = Path(os.path.abspath(place.path or ""))
    if not path.exists():
        raise StoreNotFoundError(place.name)
    return JsonlFollower(path)


def is_meant(where: Filter, record: Record) -> bool:
    """Whether a record is one of those that a filter means."""
    from llmevents.ledger._schema import TASK_EVENT

    since, until = where.window
    began = record.get("timestamp")
    if since is not None and (not isinstance(began, str) or began < since):
        return False
    if until is not None and (not isinstance(began, str) or began >= until):
        return False
    if where.event is None and record.get("event") == TASK_EVENT:
        return False
    return all(record.get(column) == text for column, text in where.matches.items())


class JsonlFollower:
    """Follows a file of JSON lines, also when it is set aside and begun anew.

    Args:
        path: The file.
        clock: Seconds that only grow.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._clock = clock
        self._aside = set(map(_plain, set_aside(path)))
        self._leaving: deque[tuple[float, _Lines]] = deque()
        self._lines = _Lines(path.open("rb"), at_end=True)

    def poll(self) -> Iterator[Record]:
        """Yield the records of lines that have their end."""
        for _, lines in self._leaving:
            yield from lines
        self._lines.begin_again_if_cut()
        yield from self._lines
        if self._lines.is_at(self._path):
            self._retire()
            return
        yield from self._between()
        self._leaving.append((self._clock() + GRACE, self._lines))
        self._lines = _Lines(self._path.open("rb"))
        yield from self._lines

    def close(self) -> None:
        """Close the files."""
        for _, lines in self._leaving:
            lines.close()
        self._lines.close()

    def _retire(self) -> None:
        while self._leaving and self._leaving[0][0] < self._clock():
            self._leaving.popleft()[1].close()

    def _between(self) -> Iterator[Record]:
        """Yield the records of files that came and went since the last look."""
        now = set(map(_plain, set_aside(self._path)))
        # Names begin alike and go on with the time, except for a second one of it.
        new = sorted(now - self._aside, key=lambda file: file.name.replace(".", "\0"))
        self._aside = now
        # The first one is the file that was followed so far, under its new name.
        for file in new[1:]:
            with _opened(file) as raw:
                yield from _Lines(raw)


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == PACKED else path


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return io.BufferedReader(gzip.open(path.with_name(f"{path.name}{PACKED}")))


class _Lines:
    """The lines of an open file, as they get their ends."""

    def __init__(self, file: BinaryIO, *, at_end: bool = False) -> None:
        self._file = file
        if at_end:
            # From a line's beginning: half of the last one may be there.
            file.seek(_last_end(file, file.seek(0, os.SEEK_END)))

    def __iter__(self) -> Iterator[Record]:
        while True:
            begin = self._file.tell()
            try:
                line = self._file.readline()
            except BROKEN:
                return
            if not line.endswith(b"\n"):
                # What has no end yet may be cut off and written anew.
                self._file.seek(begin)
                return
            record = decode(line)
            if record is not None:
                yield record

    def begin_again_if_cut(self) -> None:
        """Follow a file that was emptied from its beginning."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)

    def is_at(self, path: Path) -> bool:
        """Whether the path still leads to this file, or to none yet."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return True
        own = os.fstat(self._file.fileno())
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _last_end(file: BinaryIO, size: int) -> int:
    """Return where the last line that has its end is over."""
    position = size
    while position:
        start = max(0, position - 65_536)
        file.seek(start)
        end = file.read(position - start).rfind(b"\n")
        if end >= 0:
            return start + end + 1
        position = start
    return 0


class SqlFollower:
    """Follows a database.

    Args:
        url: The database.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, url: URL) -> None:
        from llmevents.ledger._sql_reading import Source

        self._source = Source(url)
        self._new = self._arrived if self._source.path else self._unseen
        self._last = 0
        self._seen: dict[str, str] = {}
        with self._source.reading() as connection:
            self._start(connection)

    def poll(self) -> Iterator[Record]:
        """Yield the records that were committed."""
        while True:
            # Read as a whole first: nobody waits for whoever takes the records.
            with self._source.reading() as connection:
                found = self._new(connection)
            yield from found
            if len(found) < BATCH:
                return

    def close(self) -> None:
        """Nothing is open between two questions."""

    def _start(self, connection: Any) -> None:  # noqa: ANN401  # SQLAlchemy is optional
        from sqlalchemy import func, literal_column, select

        from llmevents.ledger._tables import calls

        if self._source.path:
            number: Any = literal_column("rowid")
            latest = select(func.max(number)).select_from(calls)
            self._last = connection.scalar(latest) or 0
        else:
            self._seen = dict(self._recent(connection))

    def _arrived(self, connection: Any) -> list[Record]:  # noqa: ANN401  # likewise
        """Return rows of SQLite, which numbers them as they come."""
        from sqlalchemy import literal_column, select

        from llmevents.ledger._rows import record_of_row
        from llmevents.ledger._tables import calls

        number: Any = literal_column("rowid")
        asked = (
            select(number, calls)
            .where(number > self._last)
            .order_by(number)
            .limit(BATCH)
        )
        rows = connection.execute(asked).all()
        if rows:
            self._last = rows[-1][0]
        return [record_of_row(tuple(row)[1:]) for row in rows]

    def _recent(self, connection: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  # likewise
        """Yield ids and times of the calls that began lately."""
        from sqlalchemy import select

        from llmevents.ledger._tables import calls

        begin = datetime.now(timezone.utc) - LOOKBACK
        asked = (
            select(calls.c.id, calls.c.timestamp)
            .where(calls.c.timestamp >= f"{begin:%Y-%m-%dT%H:%M:%S}")
            .order_by(calls.c.timestamp)
        )
        for row in connection.execute(asked):
            yield row[0], row[1]

    def _unseen(self, connection: Any) -> list[Record]:  # noqa: ANN401  # likewise
        """Return rows of a server, which does not say in which order they came."""
        from sqlalchemy import select

        from llmevents.ledger._rows import record_of_row
        from llmevents.ledger._tables import calls

        recent = dict(self._recent(connection))
        new = [one for one in recent if one not in self._seen][:BATCH]
        self._seen = {one: recent[one] for one in recent if one in self._seen}
        self._seen.update((one, recent[one]) for one in new)
        rows = connection.execute(
            select(calls).where(calls.c.id.in_(new)).order_by(calls.c.timestamp)
        )
        return [record_of_row(tuple(row)) for row in rows]
