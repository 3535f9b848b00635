"""Questions to a database: where the answers are from, and what can go wrong."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, create_engine, delete, literal, select

from llmevents import OptionError
from llmevents.ledger import SCHEMA_VERSION, _migrations
from llmevents.ledger._migrations import STEPS, NewerLedgerError
from llmevents.ledger._query import ALL, GROUPINGS, Filter, Grouping, NewerRecordsError
from llmevents.ledger._record import LARGEST
from llmevents.ledger._sql import SqlStore
from llmevents.ledger._sql_parts import split
from llmevents.ledger._sql_query import SqlEngine, _values, failures_of
from llmevents.ledger._sql_reading import _bounds, bucket, key_of_bucket
from llmevents.ledger._tables import NEWER, calls, rollups
from llmevents.metrics._histogram import OFFSET, key_of
from tests.ledger.engines import assert_equal_answers
from tests.ledger.plain_engine import PlainEngine
from tests.ledger.sqlstores import Server, made, needed_server
from tests.outcomes import in_child, in_threads


NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)

HALF_A_DAY = timedelta(hours=12)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "us%20age #?.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    store = SqlStore(_url(path))
    yield store
    store.close()


@pytest.fixture
def engine(path: Path) -> SqlEngine:
    return SqlEngine(_url(path))


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with needed_server() as running:
        yield running


def _url(path: Path) -> Any:  # noqa: ANN401  # a URL, whose library is imported late
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path))


def execute(store: SqlStore, *statements: Any) -> None:  # noqa: ANN401  # of SQL
    with store._database.connect() as connection:
        for statement in statements:
            connection.execute(statement)


def plan_of(store: SqlStore, asked: Any) -> str:  # noqa: ANN401  # of any columns
    dialect = store._database.engine.dialect
    told = asked.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    with store.reading() as connection:
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {told}").all())


@pytest.mark.parametrize(
    "grouping", [None, *(name for name in GROUPINGS if name not in ("session", "task"))]
)
@pytest.mark.parametrize(
    "where",
    [
        ALL,
        Filter(since=NOON - HALF_A_DAY, until=NOON + HALF_A_DAY),
        Filter(since=NOON + HALF_A_DAY),
    ],
    ids=["all", "a day", "days"],
)
def test_what_roll_ups_tell_no_record_is_asked_for(
    store: SqlStore, engine: SqlEngine, grouping: Grouping | None, where: Filter
) -> None:
    """Which is to say that it takes no longer the more there are."""
    records = [made(n, f"2026-11-2{n % 4}", model=str(n % 3)) for n in range(9)]
    plain = PlainEngine(records)
    store.add(*records)
    execute(store, delete(calls))
    assert engine.unique(where) == plain.unique(where)
    if grouping is None:
        assert engine.summary(where) == plain.summary(where)
    else:
        assert engine.by(grouping, where) == plain.by(grouping, where)
        assert engine.by(grouping, where, limit=1) == plain.by(grouping, where, limit=1)


@pytest.mark.parametrize("name", ["session_id", "task_id"])
@pytest.mark.parametrize("where", [ALL, Filter(since=NOON)], ids=["all", "some"])
def test_sessions_and_tasks_are_counted_by_their_index(
    store: SqlStore, name: str, where: Filter
) -> None:
    """Where no column of a record is looked up."""
    plan = plan_of(store, _values(name, where))
    assert f"COVERING INDEX calls_{name}" in plan


@pytest.mark.parametrize(
    ("where", "grouping"),
    [
        (Filter(model="1"), None),
        (Filter(model="1"), "day"),
        (Filter(model="1"), "model"),
        (Filter(user="u", since=NOON + HALF_A_DAY), "day"),
        (Filter(status="error"), None),
        (Filter(event="llm.task"), "event"),
    ],
)
def test_roll_ups_tell_of_one_value_too(
    store: SqlStore, engine: SqlEngine, where: Filter, grouping: Grouping | None
) -> None:
    records = [
        made(n, f"2026-11-2{n % 4}", model=str(n % 3), user_id="u") for n in range(9)
    ]
    records += [made("e", status="error"), made("t", event="llm.task")]
    plain = PlainEngine(records)
    store.add(*records)
    execute(store, delete(calls))
    if grouping is None:
        assert engine.summary(where) == plain.summary(where)
    else:
        assert engine.by(grouping, where) == plain.by(grouping, where)


@pytest.mark.parametrize(
    ("where", "grouping"),
    [
        (Filter(model="1"), "user"),
        (Filter(model="1", user="u"), None),
        (Filter(session="s"), None),
        (Filter(since=NOON, until=NOON + timedelta(hours=1)), "model"),
    ],
)
def test_what_roll_ups_do_not_tell_records_do(
    store: SqlStore, engine: SqlEngine, where: Filter, grouping: Grouping | None
) -> None:
    records = [
        made(n, model=str(n % 3), user_id="u", session_id="s")
        | {"timestamp": f"2026-11-21T12:0{n}:00.000000Z"}
        for n in range(9)
    ]
    plain = PlainEngine(records)
    store.add(*records)
    execute(store, delete(rollups))
    if grouping is None:
        assert engine.summary(where) == plain.summary(where)
    else:
        assert engine.by(grouping, where) == plain.by(grouping, where)


A, B, C = (f"2026-11-2{day}" for day in range(3))
MIDNIGHT, LATER = "T00:00:00.000000Z", "T00:00:00.000001Z"


@pytest.mark.parametrize(
    ("since", "until", "days", "rest"),
    [
        (None, None, (None, None), []),
        (A + MIDNIGHT, C + MIDNIGHT, (A, C), []),
        (A + LATER, None, (f"{A}~", None), [(A + LATER, f"{A}~")]),
        (None, C + LATER, (None, C), [(C, C + LATER)]),
        (
            A + LATER,
            C + LATER,
            (f"{A}~", C),
            [(A + LATER, f"{A}~"), (C, C + LATER)],
        ),
        (A + MIDNIGHT, A + LATER, None, [(A, A + LATER)]),
        (
            A + LATER,
            A + "T12:00:00.000000Z",
            None,
            [(A + LATER, A + "T12:00:00.000000Z")],
        ),
        (A + LATER, B + MIDNIGHT, (f"{A}~", B), [(A + LATER, f"{A}~")]),
        (B + MIDNIGHT, B + MIDNIGHT, None, []),
        (C + MIDNIGHT, A + LATER, None, []),
    ],
)
def test_a_window_is_whole_days_and_what_is_left(
    since: str | None, until: str | None, days: object, rest: object
) -> None:
    assert split((since, until)) == (days, rest)


def test_a_day_with_more_than_its_sums_hold_is_told_by_its_records(
    store: SqlStore, engine: SqlEngine
) -> None:
    """And that day alone: the others are still told by roll-ups."""
    most = {"duration_ns": 2**63 - 1, "user_id": "u"}
    records = [made(n, "2026-11-20", **most) for n in range(3)]
    records += [made(f"{n} more", "2026-11-21", duration_ns=n) for n in range(3)]
    records += [made("t", "2026-11-22", event="llm.task", cost_nano_usd=2**63 - 1)]
    records += [made("u", "2026-11-22", event="llm.task", cost_nano_usd=2**63 - 1)]
    plain = PlainEngine(records)
    store.add(*records)
    execute(store, delete(calls).where(calls.c.id == "1 more"))
    tasks = Filter(event="llm.task")
    assert engine.summary() == plain.summary()
    assert engine.by("user") == plain.by("user")
    assert engine.by("day", limit=1) == plain.by("day", limit=1)
    assert engine.summary(tasks) == plain.summary(tasks)


@pytest.mark.parametrize("many", [1, 3_000])
def test_more_groups_than_are_asked_for_by_their_keys(
    store: SqlStore, engine: SqlEngine, many: int
) -> None:
    records = [made(n, user_id=str(n), session_id=str(n)) for n in range(many)]
    store.add(*records)
    plain = PlainEngine(records)
    assert engine.by("user", limit=2_000) == plain.by("user", limit=2_000)
    assert engine.sessions(limit=2_000) == plain.sessions(limit=2_000)
    assert engine.by("user", limit=3) == plain.by("user", limit=3)


def test_a_text_that_the_database_cannot_keep_finds_what_was_kept_of_it(
    store: SqlStore, engine: SqlEngine
) -> None:
    long = "x" * 5_000
    store.add(made(1, user_id="a\0"), made(2, user_id="\ud800"), made(3, user_id=long))
    assert engine.summary(Filter(user="a\0")).calls == 1
    assert engine.records(Filter(user="\ud800"))[0]["user_id"] == "\ufffd"
    assert engine.summary(Filter(user=long, status="success")).calls == 1
    assert engine.summary(Filter(user=long[:-1])).calls == 0


def test_a_file_that_is_not_there_is_not_made(engine: SqlEngine, path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no ledger here yet; .*us%20age"):
        engine.summary()
    with pytest.raises(FileNotFoundError):
        next(engine.each())
    assert not path.exists()


def test_a_database_without_tables_has_no_records(
    engine: SqlEngine, path: Path
) -> None:
    path.touch()
    assert_equal_answers(engine, PlainEngine([]), ALL)
    assert engine.damage() == (0, ())
    assert path.read_bytes() == b""


def test_a_file_of_another_kind_is_an_error_of_the_file(
    engine: SqlEngine, path: Path
) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(OSError, match=r"#\?\.db cannot be read: file is not a data"):
        engine.summary()
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match=r"cannot be read: (unable to open|disk I/O)"):
        list(engine.each())


def test_a_ledger_of_another_version_is_refused(
    store: SqlStore, engine: SqlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(made(1))
    with monkeypatch.context() as patched:
        patched.setattr(_migrations, "STEPS", (*STEPS, *STEPS))
        with pytest.raises(
            OSError, match=r"tables of version 1, and .* version 2; rec"
        ):
            engine.summary()
    with store._database.connect() as connection:
        connection.exec_driver_sql("UPDATE ledger_schema SET version = 7")
    with pytest.raises(NewerLedgerError, match="has version 7"):
        engine.summary()


def test_newer_records_are_refused(store: SqlStore, engine: SqlEngine) -> None:
    newer = SCHEMA_VERSION + 1
    store.add(made(1), made(2) | {"schema_version": newer})
    with pytest.raises(NewerRecordsError, match=rf"records of schema version {newer}"):
        engine.summary()
    assert "calls_newer" in plan_of(store, select(calls.c.id).where(NEWER))


def test_failures_are_found_by_their_index(store: SqlStore) -> None:
    assert "calls_failed" in plan_of(store, failures_of(ALL))


def test_a_server_that_cannot_be_reached_is_an_error_of_the_operating_system(
    tmp_path: Path,
) -> None:
    pytest.importorskip("psycopg")
    engine = SqlEngine(f"postgresql://user:secret@/name?host={tmp_path}")
    with pytest.raises(OSError, match=r"cannot be read: .*No such file") as caught:
        engine.summary()
    assert "secret" not in f"{caught.value} {engine!r}"


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(OptionError, match="url to be 'sqlite:///'"):
        SqlEngine("mysql://host/name")


def test_each_sees_one_state_and_holds_few_of_its_records(
    store: SqlStore, engine: SqlEngine
) -> None:
    many = 8_000
    for start in range(0, many, 2_000):
        store.add(
            *(
                made(f"{n:05d}", error_message="x" * 1_000)
                for n in range(start, start + 2_000)
            )
        )
    tracemalloc.start()
    try:
        found = engine.each()
        first = next(found)
        store.add(made("later", "2026-12-31"))
        last, count = first, 1
        for record in found:
            last, count = record, count + 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (first["id"], last["id"], count) == ("00000", "07999", many)
    assert peak < 5_000_000
    assert engine.summary().calls == many + 1


def test_an_iterator_that_is_left_lets_go_of_the_database(
    store: SqlStore, engine: SqlEngine, path: Path
) -> None:
    store.add(*(made(n) for n in range(5)))
    found = engine.each()
    next(found)
    found.close()  # type: ignore[attr-defined]  # a generator is what it is
    store.close()
    engine.close()
    # The last one who closes a database in WAL mode takes the log with it.
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == (
            "delete",
        )
    connection.close()


def test_threads_ask_at_once_and_children_too(
    store: SqlStore, engine: SqlEngine
) -> None:
    store.add(*(made(n, model="m") for n in range(100)))
    assert engine.url == store.url
    found: list[object] = []
    in_threads(
        lambda: found.append(engine.summary().calls),
        lambda: found.append(engine.by("model")[0].totals.calls),
        lambda: found.append(len(engine.records())),
    )
    found.append(in_child(lambda: engine.summary().calls))
    assert found == [100] * 4


def test_questions_change_nothing(store: SqlStore, path: Path) -> None:
    store.add(*(made(n, model="m") for n in range(10)))
    store.close()
    path.chmod(0o400)
    before = path.read_bytes()
    engine = SqlEngine(_url(path))
    assert engine.summary().calls == 10
    with engine._source.reading() as connection, pytest.raises(Exception, match="only"):
        connection.execute(delete(calls))
    assert path.read_bytes() == before


def test_bounds_of_buckets_are_those_of_the_histogram() -> None:
    bounds = _bounds()
    assert bounds == sorted(bounds)
    for place, bound in enumerate(bounds):
        key = place + OFFSET
        assert key_of(bound) >= key
        assert key_of(bound - 1) < key
    assert key_of(LARGEST) == len(bounds) - 1 + OFFSET


def test_postgresql_finds_the_buckets_that_python_finds(postgresql: Server) -> None:
    bounds = _bounds()
    chosen = [*bounds[::40], *(bound - 1 for bound in bounds[::37]), LARGEST, 7**20]
    store = SqlStore(postgresql.new_url())
    store.add(*(made(n, duration_ns=value) for n, value in enumerate(chosen)))
    asked = select(calls.c.duration_ns, literal(1, BigInteger))
    with store.reading() as connection:
        rows = connection.execute(asked.add_columns(bucket(connection))).all()
        found = {row[0]: key_of_bucket(connection, row[2]) for row in rows}
    assert found == {value: key_of(value) for value in chosen}
    store.close()


def test_an_older_file_is_not_made_a_ledger(path: Path, engine: SqlEngine) -> None:
    """It may be the database of something else."""
    other = create_engine(_url(path))
    with other.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE calls (number INTEGER)")
    other.dispose()
    assert engine.summary().calls == 0
    with sqlite3.connect(path) as found:
        tables = found.execute("SELECT name FROM sqlite_master").fetchall()
    found.close()
    assert tables == [("calls",)]
