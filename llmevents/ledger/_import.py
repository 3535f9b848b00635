"""Records from files of ours and of others, into a store, each once."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from os import PathLike
from typing import IO, Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

from llmevents._errors import OptionError
from llmevents.ledger._import_litellm import of_litellm
from llmevents.ledger._import_read import Row, rows_of
from llmevents.ledger._import_tracker import of_tracker
from llmevents.ledger._import_values import Fault, RowError, nanoseconds
from llmevents.ledger._jsonl import JsonlStore
from llmevents.ledger._record import _CONVERTERS, Record, encode
from llmevents.ledger._schema import COLUMNS, SCHEMA_VERSION


ImportFormat: TypeAlias = Literal["ledger", "tracker", "litellm"]

IMPORT_FORMATS: tuple[ImportFormat, ...] = get_args(ImportFormat)

Progress: TypeAlias = "Callable[[int], object]"
"""Is told of how many rows more."""

Source: TypeAlias = "str | PathLike[str] | IO[bytes]"
"""A file's name; ``"-"``, which is standard input; or a stream of bytes."""

BATCH = 2_000
"""Records that are written at once."""

LARGEST_BATCH = 1 << 21
"""Bytes of records that are written at once, but for the last of them."""

FAULTS = 100
"""Rows that were left out of which it is told why."""

MEMORY = 1 << 28
"""Bytes that DuckDB may use to read which records there are already."""


class Imported(NamedTuple):
    """What became of the rows of a file.

    Attributes:
        read: All, without those that are blank.
        written: Those that are in the store now.
        repeated: Those that were there already, by their ids.
        damaged: Those that no record could be made of.
        refused: Those that the store could not write, by reason.
        faults: The first 100 of those that are damaged.
    """

    read: int
    written: int
    repeated: int
    damaged: int
    refused: dict[str, int]
    faults: tuple[Fault, ...]


class _Counts(Protocol):
    @property
    def written(self) -> int: ...
    @property
    def refused(self) -> dict[str, int]: ...


class Store(Protocol):
    """Where to: a `JsonlStore`, or one that knows its records by their ids."""

    def add(self, *records: Record) -> None:
        """Write records."""

    def counts(self) -> _Counts:
        """Return what became of the records so far."""


def import_file(
    source: Source,
    store: Store,
    *,
    format: ImportFormat | None = None,  # noqa: A002  # as the command's option is called
    progress: Progress | None = None,
) -> Imported:
    """Write what a file holds into a store; what is there already changes nothing.

    - ``"ledger"``: our own records, as ``export(..., "jsonl", ...)`` or ``"json"``
      writes them, or a file of a `JsonlStore`. A value of another kind than its
      column's is made to fit or left out, whatever the store.
    - ``"tracker"``: the master file of trackers with ``api_provider`` and ``api_type``.
    - ``"litellm"``: rows of ``LiteLLM_SpendLogs``, the spend logs of LiteLLM's proxy.

    They may be lines of JSON or an array, and LiteLLM's also CSV with a line of names;
    packed with gzip or not. Memory does not grow with their number. A row keeps its
    id, and gets one made of its content if it has none, so that a second import writes
    nothing. Costs are exact, and state ``"import"`` as their source.

    Args:
        source: A file's name; ``"-"``, which is standard input; or a stream of bytes.
        store: Where to. What others add meanwhile counts as written here too.
        format: None finds out by each row.
        progress: Called with the number of rows that were read since.

    Raises:
        OptionError: The format is unknown.
        NewerRecordsError: The store's file is of a later version.
        ImportError: DuckDB is not installed, which looks for what a file of JSON
            lines has already.
        OSError: The file cannot be read.
    """
    if format is not None and format not in IMPORT_FORMATS:
        expected = " or ".join(map(repr, IMPORT_FORMATS))
        raise OptionError(format, "format", expected)
    read = damaged = 0
    faults: list[Fault] = []

    def records(rows: Sequence[Row]) -> Iterator[Record]:
        nonlocal damaged
        for row in rows:
            try:
                yield _record(row, format)
            except RowError as error:
                damaged += 1
                if len(faults) < FAULTS:
                    faults.append(Fault(row.line, str(error)))

    with ExitStack() as stack:
        rows = rows_of(_opened(source, stack))
        writer = _Writer(store, stack)
        for batch in _batches(rows):
            read += len(batch)
            writer.write(list(records(batch)))
            if progress is not None:
                progress(len(batch))
        written, repeated, refused = writer.outcome()
    return Imported(read, written, repeated, damaged, refused, tuple(faults))


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch, size = list[Row](), 0
    for row in rows:
        batch.append(row)
        size += row.size
        if len(batch) >= BATCH or size >= LARGEST_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _opened(source: Source, stack: ExitStack) -> IO[bytes]:
    if not isinstance(source, (str, PathLike)):
        return source
    if source == "-":
        return sys.stdin.buffer
    return stack.enter_context(open(source, "rb"))


class _Writer:
    """Writes records to a store, each once."""

    def __init__(self, store: Store, stack: ExitStack) -> None:
        self._store = store
        self._known = None
        if isinstance(store, JsonlStore):
            self._known = stack.enter_context(closing(_Known(store)))
        self._repeated = 0
        self._before = store.counts()

    def write(self, records: Sequence[Record]) -> None:
        if self._known is not None:
            found = list(filter(self._known.is_new, records))
            self._repeated += len(records) - len(found)
            records = found
        self._store.add(*records)

    def outcome(self) -> tuple[int, int, dict[str, int]]:
        """Return how many are written, how many were there, and how many refused."""
        before, after = self._before, self._store.counts()
        refused = {
            reason: more
            for reason, count in after.refused.items()
            if (more := count - before.refused.get(reason, 0))
        }
        repeated = getattr(after, "repeated", 0) - getattr(before, "repeated", 0)
        return after.written - before.written, self._repeated + repeated, refused


class _Known:
    """Which ids a file of JSON lines has, in a temporary database on the disk."""

    def __init__(self, store: JsonlStore) -> None:
        from llmevents.ledger._duck_table import Table, fetched

        self._ids = sqlite3.connect("")  # a file without a name
        self._ids.execute("PRAGMA journal_mode = OFF")
        self._ids.execute("CREATE TABLE ids (id BLOB PRIMARY KEY) WITHOUT ROWID")
        table = Table(store.path.absolute(), memory=MEMORY, threads=2)
        try:
            found = table.load((), in_order=True).execute(
                "SELECT id FROM records WHERE id IS NOT NULL"
            )
            self._ids.executemany("INSERT INTO ids VALUES (?)", fetched(found))
        except BaseException:
            self._ids.close()
            raise
        finally:
            table.forget()

    def is_new(self, record: Record) -> bool:
        """Whether there was none of its id; from now on there is."""
        found = self._ids.execute(
            "INSERT OR IGNORE INTO ids VALUES (?)",
            (record["id"].encode("utf-8", "surrogatepass"),),
        )
        return found.rowcount > 0

    def close(self) -> None:
        """Delete the database."""
        self._ids.close()


def _record(row: Row, given: ImportFormat | None) -> Record:
    if row.value is None:
        raise RowError(row.reason)
    return _MAKERS[given or _format_of(row.value)](row.value)


def _format_of(row: Mapping[str, Any]) -> ImportFormat:
    if "schema_version" in row:
        return "ledger"
    if "api_provider" in row or "api_type" in row:
        return "tracker"
    if "request_id" in row and "startTime" in row:
        return "litellm"
    msg = (
        "it is of no known format: our own has schema_version, a tracker's has "
        "api_provider, and LiteLLM's has request_id and startTime"
    )
    raise RowError(msg)


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def _own(row: Mapping[str, Any]) -> Record:
    version = row.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        msg = (
            f"schema_version is none of those up to {SCHEMA_VERSION}; update llmevents"
        )
        raise RowError(msg)
    for name in ("id", "event", "status"):
        if not isinstance(row.get(name), str) or not row[name]:
            msg = f"{name} is no text"
            raise RowError(msg)
    moment = row.get("timestamp")
    is_written = isinstance(moment, str) and _MOMENT.fullmatch(moment)
    if not is_written or nanoseconds(moment) is None:
        msg = "timestamp is no moment"
        raise RowError(msg)
    record = {
        name: fitted
        for name, value in row.items()
        if (fitted := _FIT.get(name, _as_it_is)(value)) is not None
    }
    try:
        encode(record)
    except RecursionError:
        msg = "it is nested too deeply"
        raise RowError(msg) from None
    return record


def _as_it_is(value: object) -> object:
    return value


def _object(value: object) -> object:
    return value if isinstance(value, dict) else None


_FIT: Mapping[str, Callable[[Any], object]] = {
    **{
        column.name: _CONVERTERS[column.kind]
        for column in COLUMNS
        if column.kind in _CONVERTERS
    },
    "metadata": _object,
}
"""Name -> what makes a value fit its column. Fields of others stay as they are."""


_MAKERS: Mapping[ImportFormat, Callable[[Mapping[str, Any]], Record]] = {
    "ledger": _own,
    "tracker": of_tracker,
    "litellm": of_litellm,
}
