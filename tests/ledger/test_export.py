"""Records in formats that others read: nothing is lost, and nothing gets out."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmevents import OptionError
from llmevents.ledger import COLUMNS, Record, encode
from llmevents.ledger._export import FORMATS, STEP, Format, export
from llmevents.ledger._export_values import FORMULA, harmless, plain
from llmevents.ledger._query import Filter
from llmevents.ledger._record import narrowed, timestamp
from tests.ledger.corpus import CORPUS, FORMULAS, records
from tests.ledger.plain_engine import PlainEngine


pytest.importorskip("duckdb", reason="needs DuckDB")

import duckdb

from llmevents.ledger._duck import JsonlEngine


TEXTS = [column.name for column in COLUMNS if column.kind == "text"]
WRITTEN = ["json", "jsonl", "csv"]


@pytest.fixture
def engine() -> PlainEngine:
    return PlainEngine(
        [
            {"id": "2", "timestamp": timestamp(2_000), "event": "llm.chat"},
            {"id": "1", "timestamp": timestamp(1_000), "event": "llm.chat"},
            {"id": "t", "timestamp": timestamp(1_000), "event": "llm.task"},
        ]
    )


def exported(engine: PlainEngine, format: Format, **options: Any) -> bytes:  # noqa: A002, ANN401  # as it is called; passed on
    stream = io.BytesIO()
    export(engine, format, stream, **options)
    return stream.getvalue()


def cells(data: bytes) -> list[dict[str, str]]:
    csv.field_size_limit(10**7)
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def parquet(path: Path, query: str = "SELECT * FROM rows") -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW rows AS FROM read_parquet('{path}')")
        found = connection.execute(query)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def ids_of(format: Format, path: Path) -> list[str]:  # noqa: A002  # as it is called
    data = path.read_bytes()
    if format == "json":
        return [record["id"] for record in json.loads(data)]
    if format == "jsonl":
        return [json.loads(line)["id"] for line in data.splitlines()]
    rows = cells(data) if format == "csv" else parquet(path)
    return [row["id"] for row in rows]


@pytest.mark.parametrize("format", FORMATS)
def test_calls_are_written_the_oldest_first_and_tasks_if_asked_for(
    engine: PlainEngine,
    format: Format,  # noqa: A002  # as it is called
    tmp_path: Path,
) -> None:
    path = tmp_path / "calls"
    assert export(engine, format, path) == 2
    assert ids_of(format, path) == ["1", "2"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert export(engine, format, path, overwrite=True, tasks=True) == 3
    assert ids_of(format, path) == ["1", "t", "2"]
    tasks = Filter(event="llm.task")
    assert export(engine, format, path, tasks, overwrite=True, tasks=True) == 1
    assert ids_of(format, path) == ["t"]
    assert os.listdir(tmp_path) == ["calls"]


@pytest.mark.parametrize("format", FORMATS)
def test_without_a_record_there_is_a_file_that_says_so(
    format: Format,  # noqa: A002  # as it is called
    tmp_path: Path,
) -> None:
    path = tmp_path / "calls"
    assert export(PlainEngine([]), format, path) == 0
    assert ids_of(format, path) == []
    if format == "csv":
        assert path.read_text().strip() == ",".join(c.name for c in COLUMNS)


# --- The injection corpus -----------------------------------------------------------


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_json_says_exactly_what_is_kept(format: Format) -> None:  # noqa: A002  # as it is called
    kept = records()
    data = exported(PlainEngine(kept), format)
    assert data.isascii()
    assert not any(character < 0x20 and character != 0x0A for character in data)
    lines = data.decode().splitlines()
    if format == "jsonl":
        found = [json.loads(line) for line in lines]
    else:
        assert len(lines) == len(kept) + 2
        found = json.loads(data)
    assert found == [narrowed(record) for record in kept]


def test_no_text_becomes_a_formula_a_row_or_a_control_sequence_in_csv() -> None:
    kept = records()
    data = exported(PlainEngine(kept), "csv")
    assert len(data.decode().splitlines()) == len(kept) + 1
    rows = cells(data)
    assert len(rows) == len(kept)
    for row, record in zip(rows, kept, strict=True):
        assert list(row) == [column.name for column in COLUMNS]
        for column in COLUMNS:
            cell = row[column.name]
            assert cell.isprintable()
            if column.kind in ("integer", "number"):
                assert cell == str(record[column.name])  # a number stays one
            elif column.kind in ("texts", "object"):
                assert json.loads(cell) == narrowed(record[column.name])
            else:
                assert cell.lstrip()[:1] not in FORMULA
    for text in FORMULAS:
        assert harmless(text).startswith("'")


@pytest.mark.parametrize("separator", [";", "|", "\t"])
@pytest.mark.parametrize("quoted", ["", ", and, 'more'", '"', '" "'])
@pytest.mark.parametrize("formula", FORMULAS)
def test_no_text_becomes_a_formula_where_cells_are_separated_otherwise(
    formula: str, quoted: str, separator: str
) -> None:
    """By semicolons, say, as where the comma is of decimals."""
    text = f"a{quoted}{separator} {quoted}{formula}{separator}{formula}"
    record: Record = {
        "id": "1",
        "timestamp": timestamp(0),
        "event": text,
        "model": f'"{text}"',
        "features": [text, f'"{text}"'],
        "metadata": {text: text},
    }
    data = exported(PlainEngine([record]), "csv")
    read = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=separator)
    found = [cell for row in read for cell in row]
    assert found
    assert not [cell for cell in found if cell.lstrip(' "')[:1] in FORMULA]
    (row,) = cells(data)
    assert json.loads(row["metadata"]) == record["metadata"]
    assert json.loads(row["features"]) == record["features"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("gpt-4o", "gpt-4o"),
        ("a; b | c;-d|e", "a; b | c;'-d|e"),
        ('a;" =1|\uff1d', "a;\" '=1|'\uff1d"),
        ("a=b", "a=b"),
        ("-5", "'-5"),
        ("\t=1", "'\\t=1"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202ex", "\\u202ex"),
        ("\ud800", "\\ud800"),
        ("caf\u00e9 \u65e5\u672c \U0001f600", "caf\u00e9 \u65e5\u672c \U0001f600"),
        ("", ""),
    ],
)
def test_a_cell_says_what_it_can_of_a_text(text: str, cell: str) -> None:
    assert harmless(text) == cell


def test_parquet_says_what_is_kept_in_the_right_types(tmp_path: Path) -> None:
    kept = records()
    path = tmp_path / "it's \u65e5.parquet"
    assert export(PlainEngine(kept), "parquet", path) == len(kept)
    path = path.rename(tmp_path / "calls.parquet")
    rows = parquet(path)
    assert len(rows) == len(kept)
    for row, record in zip(rows, kept, strict=True):
        for name in TEXTS:
            assert row[name] == plain(record[name])
        assert json.loads(row["metadata"]) == narrowed(record["metadata"])
        assert json.loads(row["features"]) == record["features"]
        moment = row["timestamp"].isoformat(timespec="microseconds")
        assert f"{moment}Z" == record["timestamp"]
        assert (row["stream"], row["temperature"]) == (False, -0.5)
    types = {
        row["column_name"]: row["column_type"]
        for row in parquet(path, "DESCRIBE SELECT * FROM rows")
    }
    of_kinds = {
        "integer": "BIGINT",
        "number": "DOUBLE",
        "boolean": "BOOLEAN",
        "timestamp": "TIMESTAMP",
    }
    assert types == {c.name: of_kinds.get(c.kind, "VARCHAR") for c in COLUMNS}


def test_parquet_sums_are_exact(tmp_path: Path) -> None:
    most = 2**63 - 1
    kept: list[Record] = [
        {"id": "1", "cost_nano_usd": most},
        {"id": "2", "cost_nano_usd": 1},
        {"id": "3"},
    ]
    export(PlainEngine(kept), "parquet", tmp_path / "calls")
    query = "SELECT sum(cost_nano_usd) AS cost, count(cost_nano_usd) AS n FROM rows"
    assert parquet(tmp_path / "calls", query) == [{"cost": 2**63, "n": 2}]


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_value_of_another_kind_costs_that_value_alone(
    format: Format,  # noqa: A002  # as it is called
    tmp_path: Path,
) -> None:
    """A file that others have written holds anything."""
    wrong: Record = {
        "id": "1",
        "timestamp": "yesterday",
        "duration_ns": 2**64,
        "input_tokens": "7",
        "output_tokens": True,
        "temperature": float("inf"),
        "stream": 1,
        "model": 5,
        "provider": {"a": 1},
        "features": "tools",
        "metadata": ["x"],
        "later": "a field of no column",
    }
    path = tmp_path / "calls"
    export(
        PlainEngine([wrong, {"id": "2", "timestamp": "z", "temperature": 1}]),
        format,
        path,
    )
    if format == "csv":
        row, other = list[dict[str, Any]](cells(path.read_bytes()))
        assert row["timestamp"] == "yesterday"
        empty: object = ""
    else:
        row, other = parquet(path)
        assert row["timestamp"] is None
        empty = None
    for name in ("duration_ns", "input_tokens", "output_tokens", "temperature"):
        assert row[name] == empty
    assert row["stream"] == row["provider"] == empty
    assert (row["model"], row["features"], row["metadata"]) == ("5", '"tools"', '["x"]')
    assert float(other["temperature"]) == 1
    assert "later" not in row


def test_a_row_of_more_than_16_mib_is_written(tmp_path: Path) -> None:
    text = "x" * (1 << 25)
    export(PlainEngine([{"id": "1", "model": text}]), "parquet", tmp_path / "calls")
    query = "SELECT length(model) AS n FROM rows"
    assert parquet(tmp_path / "calls", query) == [{"n": 1 << 25}]


# --- Files --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "link", "dangling"])
def test_what_is_there_is_not_overwritten_unless_told(
    engine: PlainEngine, tmp_path: Path, what: str
) -> None:
    path, other = tmp_path / "calls.json", tmp_path / "other"
    if what == "file":
        path.write_text("mine")
    else:
        path.symlink_to(other)
        if what == "link":
            other.write_text("theirs")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileExistsError, match=r"calls\.json' is there already"):
        export(engine, "json", path)
    assert sorted(os.listdir(tmp_path)) == before
    export(engine, "json", path, overwrite=True)
    assert ids_of("json", path) == ["1", "2"]
    assert not path.is_symlink()
    assert not other.exists() or other.read_text() == "theirs"


def test_a_directory_is_no_file(engine: PlainEngine, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="directory"):
        export(engine, "json", tmp_path, overwrite=True)


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path) -> None:
    class Failing(PlainEngine):
        def each(self, where: Filter = Filter()) -> Iterator[Record]:  # noqa: B008  # frozen
            yield from super().each(where)
            raise OSError(5, "it broke")

    engine = Failing([{"id": "1"}])
    path = tmp_path / "calls"
    for format in FORMATS:  # noqa: A001  # as it is called
        with pytest.raises(OSError, match="it broke"):
            export(engine, format, path)
        assert os.listdir(tmp_path) == []
    path.write_text("mine")
    with pytest.raises(OSError, match="it broke"):
        export(engine, "csv", path, overwrite=True)
    assert path.read_text() == "mine"


def test_a_file_that_cannot_be_made_is_called_as_it_was_given(
    engine: PlainEngine, tmp_path: Path
) -> None:
    path = tmp_path / "nowhere" / "calls.json"
    with pytest.raises(FileNotFoundError, match="No such file") as raised:
        export(engine, "json", path)
    assert raised.value.filename == str(path)
    with pytest.raises(OptionError, match="expected target to be a file's name"):
        export(engine, "json", "")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    path = tmp_path / "calls"

    class Slow(PlainEngine):
        def each(self, where: Filter = Filter()) -> Iterator[Record]:  # noqa: B008  # frozen
            yield from super().each(where)
            path.write_text("mine")

    def refuse(*paths: object) -> None:
        raise PermissionError(1, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(FileExistsError, match="is there already"):
        export(Slow([{"id": "1"}]), "json", path)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["calls"]


def test_a_file_system_without_links_will_do(
    engine: PlainEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    export(engine, "json", tmp_path / "calls")
    assert ids_of("json", tmp_path / "calls") == ["1", "2"]
    assert os.listdir(tmp_path) == ["calls"]


def test_names_from_the_corpus_stay_in_their_directory(
    engine: PlainEngine, tmp_path: Path
) -> None:
    """What the caller gives is the name; texts of records are never part of one."""
    inside = tmp_path / "inside"
    inside.mkdir()
    export(PlainEngine(records()), "parquet", inside / "calls")
    assert os.listdir(tmp_path) == ["inside"]
    assert os.listdir(inside) == ["calls"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_dash_is_standard_output(
    engine: PlainEngine,
    format: Format,  # noqa: A002  # as it is called
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with open(1, "w", closefd=False) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert export(engine, format, "-") == 2
    (tmp_path / "out").write_bytes(capfdbinary.readouterr().out)
    assert ids_of(format, tmp_path / "out") == ["1", "2"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_stream_stays_open(engine: PlainEngine) -> None:
    for format in FORMATS:  # noqa: A001  # as it is called
        stream = io.BytesIO()
        assert export(engine, format, stream) == 2
        assert stream.getvalue()


# --- The rest -----------------------------------------------------------------------


def test_progress_is_told_in_steps_that_come_to_all() -> None:
    engine = PlainEngine({"id": f"{n:05}"} for n in range(2 * STEP + 7))
    steps: list[int] = []
    assert export(engine, "jsonl", io.BytesIO(), progress=steps.append) == 2 * STEP + 7
    assert steps == [STEP, STEP, 7]
    steps.clear()
    export(PlainEngine([]), "jsonl", io.BytesIO(), progress=steps.append)
    assert steps == []


def test_an_unknown_format_is_refused(engine: PlainEngine) -> None:
    with pytest.raises(OptionError, match="'json' or 'jsonl' or 'csv' or 'parquet'"):
        export(engine, "xlsx", "-")  # type: ignore[arg-type]  # that is what is tested


def test_without_duckdb_it_is_said_how_to_get_it(
    engine: PlainEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match=r"pip install \"llmevents\[ledger\]\""):
        export(engine, "parquet", tmp_path / "calls")
    assert os.listdir(tmp_path) == []


def test_what_duckdb_cannot_do_is_an_error_of_the_file(
    engine: PlainEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmevents.ledger import _export_parquet

    monkeypatch.setattr(
        _export_parquet, "TYPES", {**_export_parquet.TYPES, "text": "?"}
    )
    with pytest.raises(OSError, match="Parquet cannot be written: "):
        export(engine, "parquet", tmp_path / "calls")


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with path.open("wb") as file:
        for number in range(4_000):
            file.write(encode({"id": f"{number:06}", "model": "x" * 1_000}))
    with closing(JsonlEngine(path, threads=1)) as engine:
        engine.summary()  # DuckDB's own imports
        tracemalloc.start()
        try:
            for format in FORMATS:  # noqa: A001  # as it is called
                assert export(engine, format, tmp_path / format) == 4_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3_500_000 < path.stat().st_size


def test_the_corpus_has_each_text_once() -> None:
    assert len(set(CORPUS)) == len(CORPUS)
