"""Records as Parquet, which DuckDB writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import IO

import orjson

from llmevents.ledger._export_values import plain, row_of
from llmevents.ledger._record import Record
from llmevents.ledger._schema import COLUMNS, Kind


MEMORY = "256MB"
"""What DuckDB may use; a row group needs less."""

ROW_GROUP = 50_000
"""Rows that are in memory at once."""

LONGEST = 1 << 24
"""Bytes of a row that DuckDB is told to expect at least."""

TYPES: Mapping[Kind, str] = {
    "text": "VARCHAR",
    "texts": "VARCHAR",
    "object": "VARCHAR",
    "timestamp": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
}


def write_parquet(records: Iterable[Record], file: IO[bytes]) -> None:
    """Write records as Parquet with all columns, compressed with zstd.

    Text is UTF-8: lone surrogates become U+FFFD. Times are timestamps in UTC.

    Raises:
        ImportError: DuckDB is not installed.
        OSError: There is no room for it.
    """
    duckdb = _duckdb()
    with TemporaryDirectory(prefix="llmevents-") as name:
        directory = Path(name)
        rows, written = directory / "rows.jsonl", directory / "rows.parquet"
        longest = _write_rows(records, rows)
        config = {
            "memory_limit": MEMORY,
            "threads": 1,
            "temp_directory": str(directory / "spilled"),
            # Nothing is fetched from anywhere.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            with duckdb.connect(":memory:", config=config) as connection:
                connection.execute(_query(written, longest), [str(rows)])
        except duckdb.Error as error:
            msg = f"Parquet cannot be written: {str(error).splitlines()[0]}"
            raise OSError(msg) from error
        with written.open("rb") as parquet:
            shutil.copyfileobj(parquet, file)


def _write_rows(records: Iterable[Record], path: Path) -> int:
    """Write rows as lines of JSON, and return how long the longest is."""
    longest = LONGEST
    with path.open("wb") as file:
        for record in records:
            row = {
                name: plain(value) if type(value) is str else value
                for name, value in row_of(record).items()
            }
            longest = max(longest, file.write(orjson.dumps(row) + b"\n"))
    return longest


def _query(path: Path, longest: int) -> str:
    types = ", ".join(f"'{column.name}': '{TYPES[column.kind]}'" for column in COLUMNS)
    selected = ", ".join(
        f"try_cast({column.name} AS TIMESTAMP) AS {column.name}"
        if column.kind == "timestamp"
        else column.name
        for column in COLUMNS
    )
    quoted = str(path).replace("'", "''")
    return " ".join(
        (
            "COPY (SELECT",
            selected,
            "FROM read_json(?, format = 'newline_delimited',",
            f"maximum_object_size = {longest},",
            f"columns = {{{types}}})) TO '{quoted}'",
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})",
        )
    )


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ModuleNotFoundError as error:
        msg = (
            f"Parquet needs {error.name!r}, which is not installed; run: "
            'pip install "llmevents[ledger]"'
        )
        raise ModuleNotFoundError(msg, name=error.name) from error
    return duckdb
