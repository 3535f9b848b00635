"""A database of records: each once, with exact totals, in either kind of database."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from llmevents import OptionError
from llmevents.ledger import COLUMNS, Durability, Record
from llmevents.ledger._rows import LONGEST, key, row_of
from llmevents.ledger._sql import SqlStore
from llmevents.metrics._histogram import ExponentialHistogram
from tests.ledger.sqlstores import (
    Server,
    brute_force,
    held,
    ids,
    made,
    needed_server,
    rolled_up,
    stored,
)
from tests.outcomes import JOIN_TIMEOUT, in_child, in_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with needed_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger that is empty yet, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/usage.db"
    server: Server = request.getfixturevalue("server")
    return server.new_url()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url)
    yield store
    store.close()


WHOLE = made(
    "whole",
    stream=True,
    cached=False,
    features=["tools", "é\u2028\U0001f600"],
    temperature=0.5,
    max_tokens=2**63 - 1,
    http_status=200,
    user_id="üser'); DROP TABLE calls; --",
    duration_ns=0,
    input_tokens=3,
    metadata={"nested": [1, {"deep": None}], "nul": "\0"},
)


def test_a_record_is_there_when_add_returns_and_reads_as_it_was(
    store: SqlStore,
) -> None:
    store.add(WHOLE)
    assert stored(store) == [WHOLE]
    store.add(made(2), made(3))
    store.add()
    assert ids(store) == ["2", "3", "whole"]
    assert store.counts() == (3, {}, 0)


def test_a_column_for_every_field_and_no_other(store: SqlStore) -> None:
    with store.reading() as connection:
        found = connection.execute(text("SELECT * FROM calls")).keys()
    assert list(found) == [column.name for column in COLUMNS]


def test_the_same_batch_twice_changes_nothing(store: SqlStore) -> None:
    batch = [made(n, model=f"m-{n % 3}", input_tokens=n) for n in range(20)]
    store.add(*batch, *batch[:5])
    once = rolled_up(store)
    store.add(*batch)
    store.add(made(3, status="error"), made(20))
    assert once[("total", "2026-11-21", "")]["calls"] == 20
    assert rolled_up(store)[("total", "2026-11-21", "")]["calls"] == 21
    assert len(ids(store)) == 21
    assert stored(store)[14]["status"] == "success"
    assert store.counts() == (21, {}, 26)


def test_a_record_that_lacks_what_every_record_has_is_counted(
    store: SqlStore,
) -> None:
    whole = made(1)
    lacking = [{k: v for k, v in whole.items() if k != name} for name in whole]
    store.add(
        *lacking, {**whole, "timestamp": "2026-11-21"}, made(2), {**whole, "id": None}
    )
    assert store.counts() == (1, {"invalid": 7}, 0)
    assert ids(store) == ["2"]


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        pytest.param("a\0b", "a\ufffdb", id="nul"),
        pytest.param("a\ud800b\udc00", "a\ufffdb\ufffd", id="lone surrogates"),
        pytest.param("\ud83d\ude00", "\U0001f600", id="a pair of surrogates"),
        pytest.param("\u2028\x85\u202e\x1b[0m", "\u2028\x85\u202e\x1b[0m", id="others"),
        pytest.param("", "", id="empty"),
    ],
)
def test_text_that_sql_cannot_keep_breaks_no_batch(
    given_text: str, kept: str, store: SqlStore
) -> None:
    names = [column.name for column in COLUMNS if column.kind == "text"]
    hostile = made(1) | dict.fromkeys(names, given_text) | {"id": f"1{given_text}"}
    store.add(made(0), hostile, made(2, metadata={given_text: given_text}))
    assert store.counts() == (3, {}, 0)
    found = next(record for record in stored(store) if record["id"] not in "02")
    assert {found[name] for name in names} == {kept, f"1{kept}"}
    assert ("user_id", "2026-11-21", kept) in rolled_up(store)


def test_what_is_too_long_for_an_index_is_cut_and_stays_apart(store: SqlStore) -> None:
    long = "\U0001f600" * 5000
    store.add(made(1, user_id=long + "a"), made(2, user_id=long + "b"))
    store.add(made(3, user_id="a" * LONGEST), made("4" * 5000))
    assert store.counts() == (4, {}, 0)
    users = {value for name, _, value in rolled_up(store) if name == "user_id"}
    assert users == {key(long + "a"), key(long + "b"), "a" * LONGEST, ""}
    assert store.delete_user(long + "b") == 1


users = st.sampled_from(["", "a", "b", "é", "\0", "\ud800", "~"])
values = st.none() | users
numbers = st.none() | st.integers(0, 3) | st.sampled_from([2**40, 2**62, 2**63 - 1])
records = st.builds(
    lambda number, day, facts: {
        **made(number, f"2026-11-{day}"),
        **{name: value for name, value in facts.items() if value is not None},
    },
    st.integers(0, 30),
    st.sampled_from(["20", "21", "22"]),
    st.fixed_dictionaries(
        {
            "event": st.sampled_from(["llm.chat", "llm.ocr", "llm.task"]),
            "status": st.sampled_from(
                ["success", "error", "timeout", "cancelled", "?"]
            ),
            "model": values,
            "user_id": values,
            "session_id": values,
            "task_id": values,
            "duration_ns": numbers,
            "input_tokens": numbers,
            "output_tokens": numbers,
            "cost_nano_usd": numbers,
            "time_to_first_chunk_ns": numbers,
        }
    ),
)
batches = st.lists(st.lists(records, max_size=8), max_size=4)


def check_roll_ups(
    store: SqlStore,
    before: list[list[Record]],
    user: str,
    after: list[list[Record]],
) -> None:
    for batch in before:
        store.add(*batch)
    kept = stored(store)
    assert {record["id"] for record in kept} == {r["id"] for b in before for r in b}
    assert rolled_up(store) == brute_force(kept)
    of_user = [r for r in kept if r.get("user_id") == key(user)]
    assert store.delete_user(user) == len(of_user)
    assert stored(store) == [record for record in kept if record not in of_user]
    assert rolled_up(store) == brute_force(stored(store))
    for batch in after:
        store.add(*batch)
    store.prune(before="2026-11-21T09:30:00.000001Z")
    assert rolled_up(store) == brute_force(stored(store))
    assert {record["timestamp"][8:10] for record in stored(store)} <= {"22"}
    store.close()


@settings(max_examples=30)
@given(before=batches, user=users, after=batches)
def test_roll_ups_are_the_sums_of_the_records_whatever_is_added_and_deleted(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[list[Record]],
    user: str,
    after: list[list[Record]],
) -> None:
    path = tmp_path_factory.mktemp("sql") / "usage.db"
    check_roll_ups(SqlStore(f"sqlite:///{path}"), before, user, after)


@settings(max_examples=8, phases=[Phase.generate])
@given(before=batches, user=users, after=batches)
def test_roll_ups_are_the_sums_of_the_records_in_postgresql_too(
    server: Server,
    before: list[list[Record]],
    user: str,
    after: list[list[Record]],
) -> None:
    check_roll_ups(SqlStore(server.new_url()), before, user, after)


def test_quantiles_of_a_roll_up_are_those_of_the_records(store: SqlStore) -> None:
    durations = [n * n * 1000 for n in range(1, 300)]
    for start in range(0, len(durations), 40):
        some = durations[start : start + 40]
        store.add(*(made(d, duration_ns=d) for d in some))
    total = rolled_up(store)[("total", "2026-11-21", "")]
    histogram = ExponentialHistogram(total["duration_sketch"], total["duration_ns"])
    assert histogram.count == total["duration_count"] == len(durations)
    for q in (0.5, 0.95, 0.99):
        true = durations[int(q * len(durations))]
        assert histogram.quantile(q) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize(
    ("before", "left"),
    [
        pytest.param(date(2026, 11, 21), ["b", "c"], id="day"),
        pytest.param("2026-11-22", ["c"], id="text of a day"),
        pytest.param("2026-11-21T09:30:00Z", ["b", "c"], id="text of a moment"),
        pytest.param(
            datetime(2026, 11, 21, 11, 30, 0, 1, timezone(timedelta(hours=2))),
            ["c"],
            id="elsewhere",
        ),
        pytest.param("0001-01-01", ["a", "b", "c"], id="long ago"),
    ],
)
def test_records_of_before_a_moment_are_pruned(
    before: Any,  # noqa: ANN401  # whatever a moment may be
    left: list[str],
    store: SqlStore,
) -> None:
    for name, day in zip("abc", (20, 21, 22), strict=True):
        store.add(made(name, f"2026-11-{day}"))
    assert store.prune(before=before) == 3 - len(left)
    assert ids(store) == left
    assert rolled_up(store) == brute_force(stored(store))


@pytest.mark.parametrize("before", ["yesterday", datetime(2026, 1, 1), 7])  # noqa: DTZ001  # the mistake
def test_what_is_no_moment_is_refused(before: Any, tmp_path: Path) -> None:  # noqa: ANN401  # likewise
    store = SqlStore(f"sqlite:///{tmp_path}/usage.db")
    with pytest.raises(OptionError, match="before to be a day, a moment with a time"):
        store.prune(before=before)


def test_views_have_the_columns_of_the_common_layout(store: SqlStore) -> None:
    facts: dict[str, Any] = {
        "task_id": "t",
        "duration_ns": 1_500_000,
        "status": "error",
    }
    store.add(
        made(1, input_tokens=10, cost_nano_usd=2_500_000, error_message="no", **facts),
        made(2, event="llm.task", **facts),
        made(3, event="llm.task"),
    )
    with store.reading() as connection:
        usage = connection.execute(text("SELECT * FROM llm_usage")).mappings().all()
        metrics = connection.execute(text("SELECT * FROM task_metrics")).mappings()
        tasks = sorted(([*row.values()] for row in metrics), key=lambda row: row[0])
    (call,) = map(dict, usage)
    assert str(call.pop("timestamp")) in (
        "2026-11-21 09:30:00.000000",
        "2026-11-21 09:30:00",
    )
    assert call == {
        "id": "1",
        "task_id": "t",
        "user_id": None,
        "model": "",
        "prompt_tokens": 10,
        "completion_tokens": None,
        "total_tokens": None,
        "cost_usd": 0.0025,
        "latency_ms": 1.5,
        "status": "error",
        "error_message": "no",
    }
    assert [row[:4] for row in tasks] == [
        ["2:duration_seconds", "t", "duration_seconds", 0.0015],
        ["2:success", "t", "success", 0],
        ["3:success", None, "success", 1],
    ]


@pytest.mark.parametrize("durability", ["process", "batch", "power"])
def test_threads_and_processes_lose_nothing_and_write_nothing_twice(
    durability: Durability, url: str
) -> None:
    store = SqlStore(url, durability=durability, patience=30)
    each = 20

    def add(who: str) -> None:
        for number in range(each):
            store.add(made(f"{who}-{number}", user_id=who, input_tokens=number))

    def child(who: str) -> object:
        in_threads(*(lambda t=t: add(f"{who}.{t}") for t in range(3)))
        return [*store.counts()]

    written: list[object] = []
    in_threads(
        lambda: add("a"),
        lambda: add("b"),
        lambda: written.append(in_child(lambda: child("c"))),
        lambda: written.append(in_child(lambda: child("d"))),
    )
    assert written == [[3 * each, {}, 0]] * 2
    assert store.counts() == (2 * each, {}, 0)
    assert len(ids(store)) == 8 * each
    assert rolled_up(store) == brute_force(stored(store))
    store.close()


KILLED = """
import os, sys
from llmevents.ledger._sql import SqlStore
from tests.ledger.sqlstores import made
{broken}
store = SqlStore(sys.argv[1], durability=sys.argv[2])
number = 0
while True:
    one = f"{{os.getpid()}}-{{number}}"
    store.add(made(one, model="x" * (number % 3000), input_tokens=number))
    os.write(1, one.encode() + b"\\n")
    number += 1
"""

BUFFERED = """
waiting = []
write = SqlStore.add
def add(self, record):
    waiting.append(record)
    if len(waiting) == 7:
        write(self, *waiting)
        waiting.clear()
SqlStore.add = add
"""


def _acknowledged_by_killed(url: str, durability: str, broken: str = "") -> list[str]:
    """Return what a process was told is written before it was killed."""
    source = KILLED.format(broken=broken)
    command = [sys.executable, "-c", source, url, durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(10)]
        child.kill()
        told += child.stdout.read().splitlines(keepends=True)
    return [line.decode().strip() for line in told if line.endswith(b"\n")]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_kill_loses_nothing_that_was_acknowledged(durability: str, url: str) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        acknowledged += _acknowledged_by_killed(url, durability)
    store = SqlStore(url)
    store.add(made("after"))
    found = Counter(ids(store))
    assert len(acknowledged) >= 30
    assert [one for one in acknowledged if one not in found] == []
    assert set(found.values()) == {1}
    assert rolled_up(store) == brute_force(stored(store))


def test_a_writer_with_a_buffer_would_be_found_out(tmp_path: Path) -> None:
    """The test above can fail."""
    url = f"sqlite:///{tmp_path}/usage.db"
    lost = 0
    deadline = time.monotonic() + JOIN_TIMEOUT
    while not lost:
        assert time.monotonic() < deadline
        acknowledged = _acknowledged_by_killed(url, "process", BUFFERED)
        assert len(acknowledged) >= 10
        lost = len(set(acknowledged) - set(ids(SqlStore(url))))
    assert lost


def test_a_record_in_the_middle_of_a_write_follows_it(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a finalizer that runs in the thread that is writing."""
    write, inner = store._database.store, iter(["inner", "second"])

    def writing(*arguments: Any) -> int:  # noqa: ANN401  # passed on
        for one in inner:
            store.add(made(one))
        return write(*arguments)

    monkeypatch.setattr(store._database, "store", writing)
    store.add(made("outer"))
    assert ids(store) == ["inner", "outer", "second"]
    assert store.counts() == (3, {}, 0)


def test_a_record_while_its_thread_waits_is_written(store: SqlStore) -> None:
    """As of a signal handler that runs while the thread waits for its turn."""
    with store._gate.alone():
        store.add(made("nested"))
    store.add(made("next"))
    assert ids(store) == ["nested", "next"]


def wait_for_writers(store: SqlStore, number: int) -> None:
    """Wait until so many threads wait for their turn."""
    deadline = time.monotonic() + JOIN_TIMEOUT
    while len(store._queue) < number:
        assert time.monotonic() < deadline
        # Or this thread would keep those from running that it waits for.
        time.sleep(0.001)


def test_threads_that_wait_share_a_transaction(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, sizes = store._database.store, []

    def writing(connection: Any, rows: Any) -> int:  # noqa: ANN401  # passed on
        sizes.append(len(rows))
        return write(connection, rows)

    monkeypatch.setattr(store._database, "store", writing)
    threads = [
        threading.Thread(target=store.add, args=(made(number),)) for number in range(5)
    ]
    with held(store._gate):
        for thread in threads:
            thread.start()
        wait_for_writers(store, len(threads))
    for thread in threads:
        thread.join(30)
    assert sizes == [5]
    assert len(ids(store)) == 5


def test_a_batch_that_fails_takes_none_of_other_threads_with_it(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store._database.store

    def writing(connection: Any, rows: Any) -> int:  # noqa: ANN401  # passed on
        assert all(row["id"] != "poison" for row in rows)
        return write(connection, rows)

    monkeypatch.setattr(store._database, "store", writing)
    names = ("a", "poison", "b")
    threads = [threading.Thread(target=store.add, args=(made(n),)) for n in names]
    with held(store._gate):
        for thread in threads:
            thread.start()
        wait_for_writers(store, len(threads))
    for thread in threads:
        thread.join(30)
    assert ids(store) == ["a", "b"]
    assert store.counts() == (2, {"error": 1}, 0)


def test_an_interrupted_write_is_counted_and_the_others_are_not_lost(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, interrupts = store._database.store, iter([KeyboardInterrupt])

    def writing(connection: Any, rows: Any) -> int:  # noqa: ANN401  # passed on
        for interrupt in interrupts:
            assert len(rows) == 2
            raise interrupt
        return write(connection, rows)

    monkeypatch.setattr(store._database, "store", writing)
    other = threading.Thread(target=store.add, args=(made("other"),))
    with held(store._gate):
        other.start()
        wait_for_writers(store, 1)
        with pytest.raises(KeyboardInterrupt):
            store._write_waiting(_batch(made("mine")))
    other.join(30)
    assert ids(store) == ["other"]
    assert store.counts() == (1, {"interrupted": 1}, 0)


def _batch(record: Record) -> Any:  # noqa: ANN401  # a private class
    from llmevents.ledger._sql import _Batch

    row = row_of(record)
    assert row is not None
    return _Batch([row])


def test_a_closed_store_opens_its_database_again(store: SqlStore) -> None:
    store.add(made(1))
    store.close()
    store.close()
    store.add(made(2))
    assert ids(store) == ["1", "2"]


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "usage.db"
    store = SqlStore(f"sqlite:///{path}")
    store.add(made(1))
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in path.parent.iterdir()}
    assert modes == dict.fromkeys(("usage.db", "usage.db-wal", "usage.db-shm"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "mysql://user:secret@host/db", "usage.db"],
)
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match="url to be 'sqlite:///'") as caught:
        SqlStore(url)
    assert "secret" not in str(caught.value)


def test_an_unknown_durability_is_refused() -> None:
    with pytest.raises(OptionError, match=r"durability.*'process' or.*got 'disk'"):
        SqlStore("sqlite:///x.db", durability="disk")  # type: ignore[arg-type]  # the mistake


def test_no_password_is_shown(server: Server) -> None:
    url = server.new_url().replace("tester@", "tester:secret@")
    store = SqlStore(url)
    assert "secret" not in f"{store!r} {store.url}"
    store.close()
