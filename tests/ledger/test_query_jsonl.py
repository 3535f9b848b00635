"""Questions to a file of records, compared with answers worked out the long way."""

from __future__ import annotations

import gc
import gzip
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmevents import OptionError
from llmevents.ledger import SCHEMA_VERSION, JsonlStore, Record, encode
from llmevents.ledger import _duck_table as tables
from llmevents.ledger import _files as listing
from llmevents.ledger._files import File, files_of, lines_at
from llmevents.ledger._query import (
    ALL,
    GROUPINGS,
    SUMS,
    Filter,
    Grouping,
    NewerRecordsError,
    Order,
    Place,
    top,
)
from llmevents.ledger._record import decode
from llmevents.ledger._rotation import Rotation
from tests.ledger.engines import assert_equal_answers
from tests.ledger.plain_engine import PlainEngine, true_quantile
from tests.outcomes import in_threads


pytest.importorskip("duckdb", reason="needs DuckDB")

from llmevents.ledger import _duck
from llmevents.ledger._duck import JsonlEngine


START = datetime(2026, 11, 20, 23, 59, 59, 999_998, tzinfo=timezone.utc)
"""Two microseconds before midnight, so that days differ."""

AWKWARD = [
    "",
    "a'b\"c",
    "\0",
    "a\0b",
    "\u2028\u0085",
    "\ud800",
    "x\udfff",
    "\U0001f600",
    "100%_*?[a-z]{1}\\",
    "'; DROP TABLE records; --",
    "\u00e9",
    "e\u0301",
]

ORDERS: list[Order] = list(get_args(Order))


def iso(microseconds: int) -> str:
    moment = START + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


texts = st.sampled_from(["a", "b", *AWKWARD]) | st.text(st.characters(), max_size=3)
counts = st.integers(0, 3) | st.integers(2**53 - 1, 2**63 - 1)
choices: dict[str, st.SearchStrategy[Any]] = {
    "event": st.sampled_from(["llm.chat", "llm.ocr", "llm.task"]),
    "timestamp": st.integers(0, 5).map(iso),
    "status": st.sampled_from(["success", "error", "timeout", "cancelled"]),
    "error_type": texts,
    "http_status": st.sampled_from([429, 500]),
    "metadata": st.just({"deep": ["1", {}]}),
    **{
        column: texts
        for column in GROUPINGS.values()
        if column not in ("event", "timestamp", "status")
    },
    **dict.fromkeys((*SUMS, "duration_ns"), counts),
}
records_of = st.lists(
    st.fixed_dictionaries(
        {
            "schema_version": st.just(SCHEMA_VERSION),
            "id": st.sampled_from("123456\0\ud800"),
        },
        optional=choices,
    ),
    max_size=12,
)
moments = st.none() | st.integers(-1, 6).map(
    lambda number: START + timedelta(microseconds=number)
)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """Filters of one condition or two, or the windows would hold nothing."""
    matched: dict[str, Any] = {}
    if draw(st.booleans()):
        name = draw(st.sampled_from([name for name in GROUPINGS if name != "day"]))
        matched[name] = draw(choices[GROUPINGS[name]].filter(bool))
    return Filter(since=draw(moments), until=draw(moments), **matched)


def write(path: Path, records: Sequence[Record]) -> None:
    path.write_bytes(b"".join(map(encode, records)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


@pytest.fixture
def engine(path: Path) -> Iterator[JsonlEngine]:
    with closing(JsonlEngine(path, threads=1)) as engine:
        yield engine


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JsonlEngine]:
    """An engine that many examples use, which also tries its looking for changes."""
    path = tmp_path_factory.mktemp("shared") / "calls.jsonl"
    with closing(JsonlEngine(path, threads=1)) as engine:
        yield engine


@settings(max_examples=20)
@given(
    records=records_of,
    where=st.just(ALL) | filters(),
    grouping=st.sampled_from(list(GROUPINGS)),
    order=st.sampled_from(ORDERS),
    limit=st.none() | st.integers(1, 3),
)
def test_answers_are_those_that_are_worked_out_the_long_way(
    shared: JsonlEngine,
    *,
    records: list[Record],
    where: Filter,
    grouping: Grouping,
    order: Order,
    limit: int | None,
) -> None:
    write(shared.path, records)
    plain = PlainEngine(records)
    assert_equal_answers(
        shared, plain, where, groupings=[grouping], order=order, limit=limit
    )
    assert shared.damage() == (0, ())


def test_every_text_is_found_by_itself_alone(engine: JsonlEngine, path: Path) -> None:
    write(path, [{"id": str(n), "model": text} for n, text in enumerate(AWKWARD)])
    for number, text in list(enumerate(AWKWARD))[1:]:
        assert engine.summary(Filter(model=text)).calls == 1
        assert [record["id"] for record in engine.records(Filter(model=text))] == [
            str(number)
        ]
    groups = engine.by("model", order="key")
    assert [group.key for group in groups] == [*sorted(AWKWARD[1:]), None]
    assert engine.damage().lines == 0


def test_an_empty_text_says_nothing(engine: JsonlEngine, path: Path) -> None:
    """So roll-ups, in which the empty text stands for it, can answer alike."""
    empty = dict.fromkeys(["model", "user_id", "session_id", "status"], "")
    write(path, [{"id": "", **empty}, {"id": "\ud800", **empty}])
    assert [group.key for group in engine.by("model")] == [None]
    assert engine.sessions() == []
    assert set(engine.unique()) == {0}
    assert [record["id"] for record in engine.records()] == ["\ud800", ""]


def test_a_window_holds_its_first_microsecond_and_not_its_last(
    engine: JsonlEngine, path: Path
) -> None:
    write(path, [{"id": str(number), "timestamp": iso(number)} for number in range(4)])
    one = timedelta(microseconds=1)
    found = engine.records(Filter(since=START + one, until=START + 3 * one))
    assert [record["id"] for record in found] == ["2", "1"]
    days = [(group.key, group.totals.calls) for group in engine.by("day", order="key")]
    assert days == [("2026-11-20", 2), ("2026-11-21", 2)]
    zone = timezone(timedelta(hours=5, minutes=30))
    assert engine.summary(Filter(since=START.astimezone(zone))).calls == 4


@settings(max_examples=10)
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=50))
def test_quantiles_are_within_one_per_cent(
    shared: JsonlEngine, durations: list[int]
) -> None:
    write(
        shared.path,
        [{"id": str(n), "duration_ns": value} for n, value in enumerate(durations)],
    )
    totals = shared.summary()
    assert totals.quantile_ns(0.5) == totals.p50_ns
    for q in (0.5, 0.95, 0.99):
        found = totals.quantile_ns(q)
        assert found == pytest.approx(true_quantile(durations, q), rel=0.01, abs=0.5)


@pytest.mark.parametrize("name", ["calls.jsonl", "missing/calls.jsonl", "file/x.jsonl"])
def test_a_store_without_a_file_is_empty(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with closing(JsonlEngine(tmp_path / name)) as engine:
        assert_equal_answers(engine, PlainEngine([]), ALL)
        assert engine.damage() == (0, ())


def test_an_empty_file_is_an_empty_store(engine: JsonlEngine, path: Path) -> None:
    path.touch()
    assert_equal_answers(engine, PlainEngine([]), Filter(user="nobody"))


def test_damaged_lines_are_left_out_and_told_of_with_their_places(
    engine: JsonlEngine, path: Path
) -> None:
    first = encode({"id": "1", "model": "\ud800"})
    path.write_bytes(
        first + b'\n  \n{"id": "2", "mod\n\0\0\0\n[1]\n{"model": "no id"}\n'
        b'{"id": "\xff"}\n' + encode({"id": "3"}) + b'{"id": "4"'
    )
    assert [record["id"] for record in engine.records()] == ["3", "1"]
    damage = engine.damage()
    assert damage.lines == len(damage.places) == 5
    assert damage.places[0] == (path, len(first) + 4)


def test_places_of_damage_are_told_of_the_first_alone(
    engine: JsonlEngine, path: Path
) -> None:
    path.write_bytes(b"x\n" * 150)
    damage = engine.damage()
    assert (damage.lines, len(damage.places)) == (150, tables.PLACES)


def test_many_lines_that_duckdb_cannot_read_are_no_damage(
    engine: JsonlEngine, path: Path
) -> None:
    records = [
        {"id": str(n), "model": f"\ud800{n % 7}", "pages": 2**63 - 1 - n}
        for n in range(2_000)
    ]
    write(path, records)
    assert engine.by("model") == PlainEngine(records).by("model")
    assert engine.damage().lines == 0


def test_a_last_line_without_an_end_counts_if_it_is_whole(
    engine: JsonlEngine, path: Path
) -> None:
    """As the next writer will find it: whole, or cut off."""
    write(path, [{"id": "1"}])
    with path.open("ab") as file:
        file.write(encode({"id": "2"})[:-1])
    assert engine.summary().calls == 2
    with path.open("ab") as file:
        file.write(b"\n" + encode({"id": "3"})[:-2])
    assert engine.summary().calls == 2
    assert engine.damage().lines == 0


pieces = st.lists(
    st.sampled_from(
        [
            *(bytes([byte]) for byte in b'\n\r\t \0x{}[]":\xc3'),
            encode({"id": "1", "pages": 1}),
            encode({"id": "\ud800", "pages": 2}),
            b'{"id": "3", "pages": "x", "model": 7}\n',
        ]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=25)
@given(content=pieces)
def test_what_is_left_of_a_damaged_file_is_read_as_line_by_line(
    shared: JsonlEngine, content: bytes
) -> None:
    shared.path.write_bytes(content)
    lines = [line for line in content.split(b"\n") if line.strip()]
    has_tail = bool(content.rpartition(b"\n")[2].strip())
    decoded = [decode(line) for line in lines]
    records = [record for record in decoded if record is not None]
    torn = has_tail and decoded[-1] is None
    assert shared.summary().calls == len({record["id"] for record in records})
    assert shared.damage().lines == len(decoded) - len(records) - torn


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", ["x"]), ("pages", "two"), ("pages", -1), ("timestamp", "\ud800")],
)
def test_a_field_of_another_kind_costs_the_field_alone(
    engine: JsonlEngine, path: Path, field: str, value: object
) -> None:
    odd = {"id": "\ud800", field: value}
    write(path, [odd, {"id": "2", "pages": 1}])
    totals = engine.summary()
    assert (totals.calls, totals.pages) == (2, 1)
    assert engine.by("day", order="key")[-1].totals.calls == 2
    assert engine.records(Filter(), limit=1)


def test_records_of_one_id_count_once_as_the_first_of_them(
    engine: JsonlEngine, path: Path
) -> None:
    """Wherever they are, and even if only one of them is found by DuckDB."""
    aside = path.with_name("calls-20261121T093000000000Z.jsonl")
    write(aside, [{"id": "1", "pages": 1, "model": "\ud800"}, {"id": "2", "pages": 2}])
    write(path, [{"id": "1", "pages": 10}, {"id": "2", "pages": 20}, {"id": "3"}])
    totals = engine.summary()
    assert (totals.calls, totals.pages) == (3, 3)


def test_newer_records_are_refused(engine: JsonlEngine, path: Path) -> None:
    newer = SCHEMA_VERSION + 1
    write(path, [{"id": "1"}, {"id": "\ud800", "schema_version": newer}])
    complaint = rf"calls\.jsonl' holds .* version {newer}.*up to {SCHEMA_VERSION}; up"
    with pytest.raises(NewerRecordsError, match=complaint) as raised:
        engine.summary()
    assert (raised.value.version, raised.value.where) == (newer, path)
    write(path, [{"id": "1", "schema_version": SCHEMA_VERSION}])
    assert engine.summary().calls == 1


@pytest.mark.parametrize(
    "name",
    ["a*?[b].jsonl", 'it\'s "one".jsonl', "{1,2};--.jsonl", "\\n\n.jsonl", "é\udcff.x"],
    ids=ascii,
)
def test_files_of_any_name_are_read_and_no_others(name: str, tmp_path: Path) -> None:
    path = tmp_path / "di*r" / name
    path.parent.mkdir()
    (path.parent / "aXb.jsonl").write_bytes(encode({"id": "other"}))
    write(path, [{"id": "1"}])
    packed = path.with_name(f"{path.stem}-20261121T093000000000Z{path.suffix}.gz")
    packed.write_bytes(gzip.compress(encode({"id": "2"})))
    with closing(JsonlEngine(path)) as engine:
        assert {record["id"] for record in engine.records()} == {"1", "2"}


def test_what_was_set_aside_is_read_packed_or_not(
    engine: JsonlEngine, path: Path
) -> None:
    rotation = Rotation(size=200, pack=False)
    store = JsonlStore(path, rotation=rotation)
    records = [{"id": str(number), "model": "m" * 20} for number in range(30)]
    store.add(*records[:4])
    store.add(*records[4:8])
    for record in records[8:]:
        store.add(record)
    store.close()
    aside = sorted(file for file in path.parent.iterdir() if file != path)
    assert len(aside) > 2
    aside[0].with_name(f"{aside[0].name}.gz").write_bytes(
        gzip.compress(aside[0].read_bytes())
    )
    twice = files_of(path)
    assert len(twice) == len(aside) + 1
    assert engine.summary() == PlainEngine(records).summary()
    aside[0].unlink()
    assert engine.summary() == PlainEngine(records).summary()
    assert len(engine.records()) == 30


def test_files_come_in_the_order_in_which_they_were_set_aside(path: Path) -> None:
    stamp = "calls-20261121T093000000000Z"
    names = [
        "calls-20250101T000000000000Z.jsonl.gz",
        f"{stamp}.jsonl.gz",
        f"{stamp}-1.jsonl",
        "calls.jsonl",
    ]
    for name in reversed(names):
        (path.parent / name).write_bytes(b"x")
    assert [file.path.name for file in files_of(path)] == names


@pytest.mark.parametrize("cut", [-20, 2_000, 3])
def test_of_a_damaged_packed_file_what_is_left_is_read(
    engine: JsonlEngine, path: Path, cut: int
) -> None:
    packed = path.with_name("calls-20261121T093000000000Z.jsonl.gz")
    lines = [encode({"id": str(number), "pages": 1}) for number in range(2_000)]
    packed.write_bytes(gzip.compress(b"".join(lines))[:cut])
    write(path, [{"id": "whole"}])
    calls = engine.summary().calls
    assert 1 <= calls < 2_001
    assert len(engine.records(limit=5_000)) == calls
    damage = engine.damage()
    assert damage.lines == 1
    assert damage.places[0].path == packed


def test_a_file_that_changes_is_read_anew_and_no_other(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill, fills = tables._fill, []

    def counted(*arguments: Any, in_order: bool) -> None:  # noqa: ANN401  # passed on
        fills.append(arguments[-1])
        fill(*arguments, in_order=in_order)

    monkeypatch.setattr(tables, "_fill", counted)
    write(path, [{"id": "1"}])
    assert engine.summary().calls == 1
    assert engine.summary().calls == 1
    assert len(fills) == 1
    assert "user_id" not in fills[0]
    engine.unique()
    assert "user_id" in fills[1]
    engine.summary()
    assert len(fills) == 2
    with path.open("ab") as file:
        file.write(encode({"id": "2"}))
    assert engine.summary().calls == 2
    assert len(fills) == 3
    assert len(engine.records()) == 2
    engine.summary()
    engine.records()
    assert len(fills) == 4  # in the order of the lines, as records are asked for


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_file_that_is_set_aside_meanwhile_is_not_lost(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    write(path, [{"id": "1"}])
    fill = tables._fill
    turns = iter([True])

    def rename() -> None:
        for _ in turns:
            path.rename(path.with_name("calls-20261121T093000000000Z.jsonl"))
            write(path, [{"id": "2"}])
            path.unlink()

    def renaming(*arguments: Any, in_order: bool) -> None:  # noqa: ANN401  # passed on
        if when == "before":
            rename()
        fill(*arguments, in_order=in_order)
        rename()

    monkeypatch.setattr(tables, "_fill", renaming)
    assert engine.summary().calls == 1


def test_a_file_that_is_gone_when_it_is_mended_is_looked_for_anew(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, [{"id": "\ud800"}])
    fill = tables._fill
    turns = iter([True])

    def renaming(*arguments: Any, in_order: bool) -> None:  # noqa: ANN401  # passed on
        fill(*arguments, in_order=in_order)
        for _ in turns:
            path.rename(path.with_name("calls-20261121T093000000000Z.jsonl"))

    monkeypatch.setattr(tables, "_fill", renaming)
    assert [record["id"] for record in engine.records()] == ["\ud800"]


def test_files_that_never_stay_are_given_up(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes = iter(range(100))

    def changing(path: Path) -> list[File]:
        return [File(path, (0, next(inodes)), 1, 1)]

    write(path, [{"id": "1"}])
    monkeypatch.setattr(tables, "files_of", changing)
    with pytest.raises(OSError, match=r"calls\.jsonl was renamed each of 5 times"):
        engine.summary()


@pytest.mark.parametrize("change", ["gone", "another"])
def test_records_of_a_file_that_is_another_by_now_are_read_anew(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    write(path, [{"id": "1"}, {"id": "2"}])
    turns = iter([True])

    def changing(
        texts: Iterable[listing.Text], ordinals: Iterable[int]
    ) -> Iterator[tuple[int, Place, bytes]]:
        for _ in turns:
            path.rename(path.with_name("kept"))
            if change != "gone":
                write(path, [{"id": "9"}, {"id": "8"}])
        return lines_at(texts, ordinals)

    monkeypatch.setattr(_duck, "lines_at", changing)
    found = [record["id"] for record in engine.records()]
    assert found == {"gone": [], "another": ["9", "8"]}[change]


def test_records_that_never_stay_are_given_up(
    engine: JsonlEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, [{"id": "1"}])
    monkeypatch.setattr(engine._table, "is_current", lambda: False)
    with pytest.raises(OSError, match="ask again when it is set aside less often"):
        engine.records()


def test_a_record_that_duckdb_alone_can_read_is_not_shown(
    engine: JsonlEngine, path: Path
) -> None:
    """It is lenient: of numbers that are no JSON, for one."""
    path.write_bytes(b'{"id": "1",}\n' + encode({"id": "2"}))
    assert [record["id"] for record in engine.records()] == ["2"]


def test_a_directory_is_no_file(engine: JsonlEngine, path: Path) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="directory"):
        engine.summary()


def test_what_duckdb_cannot_do_is_an_error_of_the_file(path: Path) -> None:
    write(path, [{"id": str(number)} for number in range(1_000)])
    with (
        closing(JsonlEngine(path, memory=1)) as engine,
        pytest.raises(OSError, match=r"calls\.jsonl cannot be read: "),
    ):
        engine.summary()


def test_without_duckdb_it_is_said_how_to_get_it(
    engine: JsonlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ModuleNotFoundError, match=r'run: pip install "llmevents\[led'):
        engine.summary()


def test_a_closed_engine_leaves_nothing_and_begins_anew(
    engine: JsonlEngine, path: Path
) -> None:
    write(path, [{"id": "1"}])
    assert engine.summary().calls == 1
    directory = engine._table._directory
    assert directory.stat().st_mode & 0o077 == 0
    engine.close()
    engine.close()
    assert not directory.exists()
    assert engine.summary().calls == 1


def test_an_engine_that_nobody_closes_leaves_nothing(path: Path) -> None:
    engine = JsonlEngine(path)
    engine.summary()
    directory = engine._table._directory
    assert directory.exists()
    del engine
    gc.collect()
    assert not directory.exists()


def test_a_line_too_long_for_duckdb_is_read(engine: JsonlEngine, path: Path) -> None:
    long = {"id": "long", "model": "m" * 10_000_000, "metadata": {"x": "y" * 200_000}}
    write(path, [{"id": "1"}, long, {"id": "2"}])
    assert engine.summary().calls == 3
    assert engine.by("model")[0].key == "m" * 10_000_000
    assert engine.damage().lines == 0


def test_threads_take_turns(engine: JsonlEngine, path: Path) -> None:
    write(path, [{"id": str(number), "model": "m"} for number in range(100)])
    found: list[object] = []
    asked: list[Callable[[], object]] = [
        lambda: engine.summary().calls,
        lambda: engine.by("model")[0].totals.calls,
        lambda: len(engine.records()),
    ]
    in_threads(*(lambda ask=ask: found.append(ask()) for ask in asked))
    assert found == [100] * 3


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda engine: engine.by("colour"), "grouping to be 'model' or.*got 'colour'"),
        (lambda engine: engine.by("model", order="x; y"), "order to be.*got 'x; y'"),
        (lambda engine: engine.by("model", limit=0), "limit to be an integer of 1"),
        (lambda engine: engine.errors(limit=-1), "limit to be an integer of 1"),
        (lambda engine: engine.sessions(limit=True), "limit to be an integer of 1"),
        (lambda engine: engine.records(limit=0), "limit to be an integer of 1"),
        (lambda engine: top(engine, limit=0), "limit to be an integer of 1"),
        (lambda _: JsonlEngine("x", memory=0), "memory to be an integer of 1"),
        (lambda _: JsonlEngine("x", threads=0), "threads to be an integer of 1"),
    ],
    ids=["grouping", "order", "by", "errors", "sessions", "records", "top", "m", "t"],
)
def test_an_impossible_question_is_refused(
    ask: Callable[[Any], object], complaint: str, engine: JsonlEngine
) -> None:
    with pytest.raises(OptionError, match=complaint):
        ask(engine)


def test_lines_are_found_by_their_numbers(path: Path) -> None:
    path.write_bytes(b"a\n\nb\n")
    text = listing.Text(path, path)
    assert [*lines_at([text, text], [1, 2])] == [
        (1, (path, 3), b"b\n"),
        (2, (path, 0), b"a\n"),
    ]
    assert [*lines_at([text], [])] == []
    assert [*lines_at([text], [5])] == []
