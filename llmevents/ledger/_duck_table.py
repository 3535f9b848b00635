"""The lines of files in a table, of which DuckDB knows more than of the files."""

from __future__ import annotations

import json
import re
import tempfile
import weakref
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from llmevents.ledger._files import (
    BROKEN,
    File,
    Text,
    are_same,
    files_of,
    lines_at,
    unpack,
)
from llmevents.ledger._query import Damage, NewerRecordsError, Place
from llmevents.ledger._record import LARGEST, Record, decode
from llmevents.ledger._rotation import PACKED
from llmevents.ledger._schema import COLUMNS, SCHEMA_VERSION


if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ATTEMPTS = 5
"""How often files are read anew that are set aside meanwhile."""

PLACES = 100
"""Damaged lines whose place is told."""

BATCH = 1_000
"""Rows that are moved at once."""

LONGEST = 1 << 22
"""Bytes of a line that DuckDB reads, with two buffers of this size for each thread.
What is longer is read line by line."""

_PLAIN = re.compile(r"[A-Za-z0-9_./ -]+")
"""Names that are no pattern for DuckDB, and no address either."""

_KINDS = {column.name: column.kind for column in COLUMNS}


class Table:
    """A table ``records`` of the lines of a file, and of what was set aside of it.

    In a temporary database in memory, which goes to the disk where that is too small.
    It has a row for each line that is not blank; without an id if the line is damaged,
    or another one before it has the same. Texts are kept as bytes, UTF-8 in which lone
    surrogates may be; empty ones are not.

    Rows are in the order of the lines if that is asked for, so that a row's number is
    the line's. Otherwise they come as they are read, which is faster, and the id is a
    hash of it; unless there is a damaged line or a double, to be told by their lines.

    Not safe for threads.

    Args:
        path: The file.
        memory: Bytes that DuckDB may use at most.
        threads: Of DuckDB.
    """

    def __init__(self, path: Path, *, memory: int, threads: int) -> None:
        self.path = path
        self.texts: list[Text] = []
        """Where the lines are."""
        self.damage = Damage()
        """What of them is none."""
        self._memory = memory
        self._threads = threads
        self._delete: weakref.finalize[Any, Table] | None = None
        self._directory = Path()
        self._connection: DuckDBPyConnection | None = None
        self._columns: frozenset[str] = frozenset()
        self._is_in_order = False
        self._files: list[File] | None = None

    def load(
        self, columns: Collection[str], *, in_order: bool = False
    ) -> DuckDBPyConnection:
        """Return a database whose table ``records`` has *columns* at least.

        Args:
            columns: Names.
            in_order: Whether the rows have to be in the order of the lines.
        """
        if in_order and not self._is_in_order:
            self._files, self._is_in_order = None, True
        wanted = self._columns.union(columns, ("id", "schema_version"))
        files = files_of(self.path)
        connection = self._connection
        if connection and wanted == self._columns and files == self._files:
            return connection
        self._files = None
        for _ in range(ATTEMPTS):
            try:
                connection = self._read(files, sorted(wanted))
                again = files_of(self.path)
            except BaseException:
                self.forget()
                raise
            if connection is not None and are_same(files, again):
                self._files, self._columns = files, wanted
                return connection
            files = again
        self.forget()
        raise restless(self.path)

    def is_current(self) -> bool:
        """Whether the files are still those that were read, whatever was appended."""
        return self._files is not None and are_same(self._files, files_of(self.path))

    def forget(self) -> None:
        """Delete the database."""
        connection, self._connection = self._connection, None
        delete, self._delete = self._delete, None
        self._files, self._columns, self.texts = None, frozenset(), []
        if connection is not None:
            connection.close()
        if delete is not None:
            delete()

    def _read(
        self, files: list[File], columns: Sequence[str]
    ) -> DuckDBPyConnection | None:
        """Return the database with the lines; None if a file is gone."""
        import duckdb

        connection, directory = self._connect()
        self.texts = [Text(file.path, file.path) for file in files]
        try:
            try:
                self._fill_and_mend(connection, directory, columns)
            except (duckdb.Error, *BROKEN):
                # A packed file is damaged, unless one was set aside just now.
                if not are_same(files, files_of(self.path)):
                    return None
                self.texts = _unpacked(self.texts, directory)
                self._fill_and_mend(connection, directory, columns)
        except FileNotFoundError:
            return None
        self._check_version(connection)
        return connection

    def _fill_and_mend(
        self, connection: DuckDBPyConnection, directory: Path, columns: Sequence[str]
    ) -> None:
        names = _harmless(self.texts, directory)
        if not self._is_in_order:
            _fill(connection, names, columns, in_order=False)
            self.damage = Damage()
            # Once it has to be in order, it will have to be again.
            self._is_in_order = not _is_clean(connection)
        if self._is_in_order:
            _fill(connection, names, columns, in_order=True)
            self.damage = _mend(connection, self.texts, columns, directory)
            _drop_doubles(connection)

    def _connect(self) -> tuple[DuckDBPyConnection, Path]:
        import duckdb

        if self._delete is None:
            self._directory = Path(tempfile.mkdtemp(prefix="llmevents-"))
            # Whoever forgets to close leaves nothing either.
            self._delete = weakref.finalize(self, rmtree, self._directory, True)  # noqa: FBT003  # positional of rmtree: without errors
        directory = self._directory
        if self._connection is None:
            self._connection = duckdb.connect(
                config={
                    "memory_limit": f"{self._memory}B",
                    "threads": self._threads,
                    "temp_directory": str(directory / "spilled"),
                    # Nothing is fetched from anywhere, whatever the files hold.
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
        return self._connection, directory

    def _check_version(self, connection: DuckDBPyConnection) -> None:
        newest = connection.execute(
            "SELECT max(schema_version) FROM records WHERE id IS NOT NULL"
        ).fetchall()[0][0]
        if newest is not None and newest > SCHEMA_VERSION:
            raise NewerRecordsError(newest, self.path)


def restless(path: Path) -> OSError:
    """Return the error of files that never stay what they are for long enough."""
    return OSError(
        f"{path} was renamed each of {ATTEMPTS} times that it was read; ask again when "
        f"it is set aside less often"
    )


def words(*parts: str) -> str:
    """Return the words of a query. Values are never among them."""
    return " ".join(parts)


def bytes_of(text: str) -> bytes:
    """Return what stands for a text in the database, which has no lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def fetched(connection: DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that were found, a few at a time."""
    while rows := connection.fetchmany(BATCH):
        yield from rows


def _harmless(texts: Iterable[Text], directory: Path) -> list[str]:
    """Return names of the files that DuckDB cannot take for patterns."""
    names = []
    for number, (path, _) in enumerate(texts):
        name = str(path)
        if not _PLAIN.fullmatch(name):
            packed = PACKED if path.suffix == PACKED else ""
            link = directory / f"{number}.jsonl{packed}"
            link.unlink(missing_ok=True)
            link.symlink_to(path)
            name = str(link)
        names.append(name)
    return names


def _unpacked(texts: Iterable[Text], directory: Path) -> list[Text]:
    """Return the files, those that are packed as far as they can be unpacked."""
    unpacked = []
    for number, text in enumerate(texts):
        path = text.path
        if path.suffix == PACKED:
            path = directory / f"unpacked-{number}.jsonl"
            unpack(text.path, path)
        unpacked.append(Text(path, text.source))
    return unpacked


def _stored(name: str, *, in_order: bool) -> tuple[str, str, str]:
    """Return a column's type in files and in the database, and how to get there."""
    if name == "id" and not in_order:
        return "VARCHAR", "UBIGINT", "CASE WHEN id IS NOT NULL THEN hash(id) END"
    if name == "timestamp":
        return "VARCHAR", "VARCHAR", f"nullif({name}, '')"
    if _KINDS[name] == "integer":
        return "UBIGINT", "UBIGINT", name
    known = name if name == "id" else f"nullif({name}, '')"
    return "VARCHAR", "BLOB", f"encode({known})"


def _fill(
    connection: DuckDBPyConnection,
    names: list[str],
    columns: Sequence[str],
    *,
    in_order: bool,
) -> None:
    """Make a table of the columns of all lines; damaged ones have no id."""
    stored = {name: _stored(name, in_order=in_order) for name in columns}
    if not names:
        types = ", ".join(f"{name} {kind}" for name, (_, kind, _) in stored.items())
        connection.execute(f"CREATE OR REPLACE TABLE records ({types})")
        return
    read = ", ".join(f"'{name}': '{kind}'" for name, (kind, _, _) in stored.items())
    selected = ", ".join(f"{how} AS {name}" for name, (*_, how) in stored.items())
    connection.execute(f"SET preserve_insertion_order = {in_order}")
    connection.execute(
        words(
            "CREATE OR REPLACE TABLE records AS SELECT",
            selected,
            "FROM read_json(?,",
            "format = 'newline_delimited', ignore_errors = true,",
            f"maximum_object_size = {LONGEST},",
            f"columns = {{{read}}})",
        ),
        [names],
    )


def _is_clean(connection: DuckDBPyConnection) -> bool:
    """Whether each line has an id of its own, as far as hashes tell."""
    found = connection.execute("SELECT count(*) = count(DISTINCT id) FROM records")
    return bool(found.fetchall()[0][0])


def _mend(
    connection: DuckDBPyConnection,
    texts: Iterable[Text],
    columns: Sequence[str],
    directory: Path,
) -> Damage:
    """Read anew what DuckDB could not read; what is lone surrogates is no damage."""
    found = connection.execute(
        "SELECT rowid FROM records WHERE id IS NULL ORDER BY rowid"
    )
    ordinals = array("Q", (row[0] for row in fetched(found)))
    if not ordinals:
        return Damage()
    damaged, places, longest = 0, list[Place](), 0
    lines = directory / "mended.jsonl"
    with lines.open("w", encoding="ascii") as mended:
        for ordinal, place, line in lines_at(texts, ordinals):
            record = decode(line)
            if record is not None:
                row = [ordinal, *(_value(record, name) for name in columns)]
                longest = max(longest, mended.write(f"{json.dumps(row)}\n"))
            elif line.endswith(b"\n"):
                damaged += 1
                if len(places) < PLACES:
                    places.append(place)
    if longest:
        _update(connection, lines, columns, longest)
    return Damage(damaged, tuple(places))


def _update(
    connection: DuckDBPyConnection, lines: Path, columns: Sequence[str], longest: int
) -> None:
    """Put in what was mended; it comes as lists, with bytes in hexadecimal digits."""
    values = []
    for number, name in enumerate(columns, 1):
        _, kind, _ = _stored(name, in_order=True)
        value = f"(line ->> {number})"
        how = f"unhex{value}" if kind == "BLOB" else f"{value}::{kind}"
        values.append(f"{name} = {how}")
    connection.execute(
        words(
            "UPDATE records SET",
            ", ".join(values),
            "FROM read_json(?, format = 'newline_delimited', records = false,",
            f"maximum_object_size = {max(longest, LONGEST)},",
            "columns = {line: 'JSON'}) WHERE records.rowid = (line ->> 0)::BIGINT",
        ),
        [str(lines)],
    )


def _value(record: Record, name: str) -> object:
    """Return what is to be kept of a field; None for what it cannot be."""
    value = record.get(name)
    if _KINDS[name] == "integer":
        return value if type(value) is int and 0 <= value <= LARGEST else None
    if not isinstance(value, str):
        return None
    if name == "timestamp":
        return value if value and value.isascii() else None
    return bytes_of(value).hex() if value or name == "id" else None


def _drop_doubles(connection: DuckDBPyConnection) -> None:
    """Leave the first record of each id. Ids that hash alike are told apart."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE suspects AS SELECT hash(id) AS hashed FROM "
        "records WHERE id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
    )
    if not connection.execute("SELECT 1 FROM suspects LIMIT 1").fetchall():
        return
    connection.execute(
        "UPDATE records SET id = NULL WHERE rowid IN (SELECT line FROM (SELECT rowid "
        "AS line, row_number() OVER (PARTITION BY id ORDER BY rowid) AS number FROM "
        "records WHERE id IS NOT NULL AND hash(id) IN (SELECT hashed FROM suspects)) "
        "WHERE number > 1)"
    )
