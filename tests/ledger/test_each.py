"""Every record of a file, the oldest first, with memory that stays flat."""

from __future__ import annotations

import gzip
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from llmevents.ledger import JsonlStore, Record, encode
from llmevents.ledger._files import Text, lines_at
from llmevents.ledger._query import Filter, Place
from llmevents.ledger._record import timestamp
from llmevents.ledger._rotation import Rotation
from tests.ledger.plain_engine import PlainEngine


pytest.importorskip("duckdb", reason="needs DuckDB")

from llmevents.ledger import _duck_each
from llmevents.ledger._duck import JsonlEngine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


@pytest.fixture
def engine(path: Path) -> Iterator[JsonlEngine]:
    with closing(JsonlEngine(path, threads=1)) as engine:
        yield engine


def write(path: Path, records: Iterable[Record]) -> None:
    path.write_bytes(b"".join(map(encode, records)))


def ids(records: Iterable[Record]) -> list[str]:
    return [record["id"] for record in records]


def test_records_come_the_oldest_first_as_they_were_encoded(
    engine: JsonlEngine, path: Path
) -> None:
    records: list[Record] = [
        {"id": "c", "timestamp": timestamp(2_000), "metadata": {"deep": [1, {}]}},
        {"id": "b", "timestamp": timestamp(2_000), "model": "\ud800\0\u2028"},
        {"id": "d", "timestamp": timestamp(1_000), "features": ["tools"]},
        {"id": "a", "model": "of no time"},
        {"id": "c", "timestamp": timestamp(0), "model": "of an id that was there"},
    ]
    write(path, records)
    assert list(engine.each()) == [records[3], records[2], records[1], records[0]]
    assert list(engine.each()) == list(PlainEngine(records).each())
    since = datetime.fromtimestamp(2e-6, timezone.utc)
    assert ids(engine.each(Filter(since=since))) == ["b", "c"]
    assert ids(engine.each(Filter(model="of no time"))) == ["a"]
    assert list(engine.each(Filter(user="nobody"))) == []


def test_a_store_without_a_file_has_none(engine: JsonlEngine) -> None:
    assert list(engine.each()) == []


def test_files_that_were_set_aside_and_packed_are_among_them(
    engine: JsonlEngine, path: Path
) -> None:
    store = JsonlStore(path, rotation=Rotation(size=200))
    for number in range(9):
        store.add(
            {"id": str(number), "timestamp": timestamp(1_000 * (9 - number))},
        )
    store.close()
    assert len(list(path.parent.iterdir())) > 1
    assert ids(engine.each()) == list("876543210")


def test_of_a_damaged_packed_file_what_is_left_is_yielded(path: Path) -> None:
    packed = path.with_name("calls.jsonl.gz")
    lines = b"".join(
        encode({"id": str(n), "model": sha256(b"%d" % n).hexdigest()})
        for n in range(2_000)
    )
    packed.write_bytes(gzip.compress(lines)[:-50_000])
    with closing(JsonlEngine(packed, threads=1)) as engine:
        found = ids(engine.each())
        assert 0 < len(found) < 2_000
        assert len(found) == engine.summary().calls


def test_other_questions_may_be_asked_and_files_may_change_meanwhile(
    engine: JsonlEngine, path: Path
) -> None:
    write(path, [{"id": str(number)} for number in range(5)])
    records = engine.each()
    assert next(records)["id"] == "0"
    with path.open("ab") as file:
        file.write(encode({"id": "5"}))
    assert engine.summary().calls == 6
    path.unlink()
    engine.close()
    assert ids(records) == ["1", "2", "3", "4"]


def test_nothing_is_left_of_it(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    write(path, [{"id": "1"}, {"id": "2"}])
    records = engine.each()
    next(records)
    records.close()  # type: ignore[attr-defined]  # a generator, which closes what it opened
    engine.close()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_record_that_duckdb_alone_can_read_is_left_out(
    engine: JsonlEngine, path: Path
) -> None:
    path.write_bytes(b'{"id": "1",}\n' + encode({"id": "2"}))
    assert ids(engine.each()) == ["2"]


Lines = Callable[[Iterable[Text], Iterable[int]], Iterator[tuple[int, Place, bytes]]]


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_file_that_is_another_by_now_is_read_anew(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    write(path, [{"id": "1"}, {"id": "2"}])
    turns = iter([True])

    def changing(
        texts: Iterable[Text], ordinals: Iterable[int]
    ) -> Iterator[tuple[int, Place, bytes]]:
        for _ in turns:
            path.rename(path.with_name("kept"))
            if change != "gone":
                write(path, [{"id": "9"}])
        return lines_at(texts, ordinals)

    monkeypatch.setattr(_duck_each, "lines_at", changing)
    assert ids(engine.each()) == {"gone": [], "another": ["9"]}[change]


def test_files_that_never_stay_are_given_up(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, [{"id": "1"}])
    monkeypatch.setattr(engine._table, "is_current", lambda: False)
    with pytest.raises(OSError, match="ask again when it is set aside less often"):
        next(engine.each())


def test_without_room_for_the_index_nothing_stays_open(
    engine: JsonlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[BytesIO] = []

    def temporary(**options: str) -> BytesIO:
        if opened:
            raise OSError(28, "No space left on device")
        opened.append(BytesIO())
        return opened[0]

    monkeypatch.setattr(_duck_each, "TemporaryFile", temporary)
    with pytest.raises(OSError, match="No space left"):
        next(engine.each())
    assert opened[0].closed


def test_memory_does_not_grow_with_their_number(
    engine: JsonlEngine, path: Path
) -> None:
    padding = "x" * 1_000
    write(path, ({"id": f"{n:06}", "model": padding} for n in range(20_000)))
    engine.summary()  # DuckDB's own imports
    tracemalloc.start()
    try:
        assert sum(1 for _ in engine.each()) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000 < path.stat().st_size
