"""Records in formats that others read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from heapq import merge
from typing import IO, Literal, TypeAlias, get_args

from llmevents._errors import OptionError
from llmevents.ledger._export_file import Target, opened
from llmevents.ledger._export_parquet import write_parquet
from llmevents.ledger._export_values import harmless, harmless_json, row_of
from llmevents.ledger._query import ALL, Engine, Filter
from llmevents.ledger._record import Record, encode
from llmevents.ledger._schema import COLUMNS, TASK_EVENT


Format: TypeAlias = Literal["json", "jsonl", "csv", "parquet"]

FORMATS: tuple[Format, ...] = get_args(Format)

AS_JSON = frozenset(
    column.name for column in COLUMNS if column.kind in ("texts", "object")
)
"""Columns that are JSON where every value is of one type."""

Progress: TypeAlias = "Callable[[int], object]"
"""Is told of how many records more."""

STEP = 1_000
"""Records between two reports of progress."""


def export(
    engine: Engine,
    format: Format,  # noqa: A002  # as the command's option is called
    target: Target,
    where: Filter = ALL,
    *,
    overwrite: bool = False,
    tasks: bool = False,
    progress: Progress | None = None,
) -> int:
    r"""Write the records that are meant, the oldest first, and return their number.

    - ``"jsonl"``: a line for each, exactly as it is kept; what `import_file` reads.
    - ``"json"``: the same records as one array.
    - ``"csv"``: a line for each, with the columns of ``COLUMNS``. For people and their
      spreadsheets: texts that could be formulas get an apostrophe before them, also
      inside of a text after ``;`` and ``|``, which some take for the end of a cell;
      what cannot be printed is escaped (a newline is ``\n``). Unknown is empty;
      lists and metadata are JSON.
    - ``"parquet"``: the same columns, integers as BIGINT, times as TIMESTAMP in UTC.

    Memory does not grow with their number. What is written to a file is complete or
    not there at all.

    Args:
        engine: Of the store.
        format: One of the above.
        target: A file's name; ``"-"``, which is standard output; or a stream of bytes,
            which stays open.
        where: Which records.
        overwrite: Whether a file that is there may be replaced.
        tasks: Whether the records of tasks are among them, as in a copy of all that
            there is. They are no calls.
        progress: Called with the number of records that were written since.

    Raises:
        OptionError: The format is unknown.
        FileExistsError: The file is there, and may not be replaced.
        ImportError: DuckDB is not installed, which writes Parquet.
        OSError: The store cannot be read, or the file not be written.
    """
    if format not in FORMATS:
        expected = " or ".join(map(repr, FORMATS))
        raise OptionError(format, "format", expected)
    count = 0

    def counted() -> Generator[Record, None, None]:
        nonlocal count
        for record in chosen(engine, where, tasks=tasks):
            yield record
            count += 1
            if progress is not None and count % STEP == 0:
                progress(STEP)

    with opened(target, overwrite=overwrite) as file, closing(counted()) as records:
        _WRITERS[format](records, file)
    if progress is not None and count % STEP:
        progress(count % STEP)
    return count


def chosen(
    engine: Engine, where: Filter, *, tasks: bool
) -> Generator[Record, None, None]:
    """Yield the records that are meant, those of tasks in their places among them."""
    calls = engine.each(where)
    if tasks and where.event is None:
        of_tasks = engine.each(replace(where, event=TASK_EVENT))
        calls = merge(calls, of_tasks, key=_rank)
    yield from calls


def _rank(record: Record) -> tuple[str, str]:
    return str(record.get("timestamp") or ""), record["id"]


def write_jsonl(records: Iterable[Record], file: IO[bytes]) -> None:
    """Write records as lines of JSON."""
    for record in records:
        file.write(encode(record))


def write_json(records: Iterable[Record], file: IO[bytes]) -> None:
    """Write records as an array in JSON, one on each line."""
    before = b"["
    for record in records:
        file.write(before + b"\n" + encode(record)[:-1])
        before = b","
    file.write(b"[]\n" if before == b"[" else b"\n]\n")


def write_csv(records: Iterable[Record], file: IO[bytes]) -> None:
    """Write records as CSV (RFC 4180) in UTF-8, with a line of names."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text)
        names = [column.name for column in COLUMNS]
        writer.writerow(names)
        for record in records:
            row = row_of(record).items()
            cells = {name: _cell(name, value) for name, value in row}
            writer.writerow([cells.get(name, "") for name in names])
    finally:
        text.detach()


def _cell(name: str, value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    return harmless_json(value) if name in AS_JSON else harmless(value)


_WRITERS: Mapping[Format, Callable[[Iterable[Record], IO[bytes]], None]] = {
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
}
