"""What a database may do to a store, and a store never does to its host."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from llmevents.ledger import _fork
from llmevents.ledger._database import Database, reason_of
from llmevents.ledger._sql import SqlStore
from tests.ledger.sqlstores import (
    Server,
    brute_force,
    ids,
    made,
    needed_server,
    rolled_up,
    stored,
)
from tests.outcomes import JOIN_TIMEOUT, in_child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server, which each test leaves running."""
    with needed_server() as server:
        yield server


def locked(path: Path) -> sqlite3.Connection:
    """Return a connection that keeps everybody else from writing."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


def test_a_lock_that_is_held_for_a_moment_is_waited_for(path: Path, url: str) -> None:
    store = SqlStore(url, patience=JOIN_TIMEOUT)
    with closing(locked(path)) as other:
        thread = Thread(target=store.add, args=(made(1),))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        other.execute("COMMIT")
        thread.join(JOIN_TIMEOUT)
    assert ids(store) == ["1"]
    assert store.counts() == (1, {}, 0)


def test_a_lock_that_is_held_for_long_holds_nobody_up_for_long(
    path: Path, url: str
) -> None:
    store = SqlStore(url, patience=0.01)
    store.add(made(1))
    with closing(locked(path)):
        store.add(made(2), made(3))
    store.add(made(4))
    assert ids(store) == ["1", "4"]
    assert store.counts() == (2, {"locked": 2}, 0)


def test_a_store_can_be_opened_while_its_file_is_locked(path: Path, url: str) -> None:
    SqlStore(url).close()
    with closing(locked(path)):
        store = SqlStore(url, patience=0.01)
        store.add(made(1))
    store.add(made(2))
    assert ids(store) == ["2"]
    assert store.counts().refused == {"locked": 1}


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced"])
def test_a_file_that_is_gone_is_made_anew(how: str, path: Path, url: str) -> None:
    store = SqlStore(url)
    store.add(made(1))
    if how == "deleted":
        path.unlink()
    else:
        path.rename(path.with_suffix(".old"))
    if how == "replaced":
        other = SqlStore(url)
        other.add(made("other"))
    store.add(made(2))
    assert ids(store) == (["2", "other"] if how == "replaced" else ["2"])
    assert store.counts() == (2, {}, 0)


def test_a_file_that_is_gone_when_old_records_are_deleted_is_made_anew(
    path: Path, url: str
) -> None:
    store = SqlStore(url)
    store.add(made(1))
    path.unlink()
    assert store.prune(before="2026-11-22") == 0
    store.add(made(2))
    assert ids(store) == ["2"]


def test_a_directory_in_its_place_is_counted(path: Path, url: str) -> None:
    path.mkdir()
    store = SqlStore(url)
    store.add(made(1))
    assert store.counts() == (0, {"unreachable": 1}, 0)
    path.rmdir()
    store._retry_at = 0
    store.add(made(2))
    assert ids(store) == ["2"]


def test_a_file_of_another_format_is_counted_and_left_alone(
    path: Path, url: str
) -> None:
    path.write_bytes(b"no database " * 1000)
    store = SqlStore(url)
    store.add(made(1))
    assert store.counts() == (0, {"error": 1}, 0)
    assert path.read_bytes() == b"no database " * 1000
    path.unlink()
    store.add(made(2))
    assert ids(store) == ["2"]


def test_tables_that_are_dropped_cost_what_comes_meanwhile_only(
    path: Path, url: str
) -> None:
    store = SqlStore(url)
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE rollups RENAME TO away")
        store.add(made(1))
        other.execute("ALTER TABLE away RENAME TO rollups")
    store.add(made(2))
    assert ids(store) == ["2"]
    assert store.counts() == (1, {"error": 1}, 0)
    assert rolled_up(store) == brute_force(stored(store))


def test_a_full_disk_refuses_and_counts_and_keeps_what_is_there(url: str) -> None:
    """A limit on the pages of the file stands for the disk."""
    store = SqlStore(url)
    store.add(made(1))
    assert store._connection is not None
    store._connection.exec_driver_sql("PRAGMA max_page_count=1")
    full = [made(f"full-{n}", error_message="x" * 50_000) for n in range(3)]
    store.add(*full)
    assert store.counts() == (1, {"disk_full": 3}, 0)
    store.add(made(2))
    assert ids(store) == ["1", "2"]
    assert rolled_up(store) == brute_force(stored(store))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_written_is_counted() -> None:
    """Root may write everywhere, so the test becomes somebody else in a child."""
    directory = Path(tempfile.mkdtemp())
    url = f"sqlite:///{directory}/usage.db"

    def read_only() -> object:
        os.setuid(65_534)
        store = SqlStore(url)
        store.add(made(1))
        new = SqlStore(f"sqlite:///{directory}/new.db")
        new.add(made(1))
        return [*store.counts(), *new.counts()]

    try:
        SqlStore(url).close()
        (directory / "usage.db").chmod(0o444)
        directory.chmod(0o555)
        counted = in_child(read_only)
    finally:
        shutil.rmtree(directory)
    assert counted == [0, {"read_only": 1}, 0, 0, {"read_only": 1}, 0]


def test_a_child_writes_to_the_file_that_stays_when_the_parent_closes(url: str) -> None:
    """Or what it writes is in a log that the parent deletes when it closes."""
    store = SqlStore(url)
    store.add(made("parent"))
    to_parent, to_child = os.pipe(), os.pipe()

    def child() -> object:
        store.add(made("child-1"))
        os.write(to_parent[1], b".")
        os.read(to_child[0], 1)
        store.add(made("child-2"))
        return [*store.counts()]

    def close() -> None:
        os.read(to_parent[0], 1)
        store.close()
        os.write(to_child[1], b".")

    closer = Thread(target=close, daemon=True)
    closer.start()
    assert in_child(child) == [2, {}, 0]
    closer.join(JOIN_TIMEOUT)
    for descriptor in (*to_parent, *to_child):
        os.close(descriptor)
    assert ids(SqlStore(url)) == ["child-1", "child-2", "parent"]


def test_a_fork_waits_for_the_write_of_another_thread(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(url)
    insert, begun, forking = store._database.kind.insert, Event(), Event()

    def inserting(*arguments: object) -> object:
        begun.set()
        assert forking.wait(JOIN_TIMEOUT)
        return insert(*arguments)  # type: ignore[arg-type]  # passed on

    def fork() -> object:
        monkeypatch.setattr(store._database.kind, "insert", insert)
        store.add(made("child"))
        return [*store.counts()]

    before = store.before_fork

    def waiting(patience: float) -> None:
        forking.set()
        before(patience)

    monkeypatch.setattr(store._database.kind, "insert", inserting)
    monkeypatch.setattr(store, "before_fork", waiting)
    thread = Thread(target=store.add, args=(made("parent"),))
    thread.start()
    assert begun.wait(JOIN_TIMEOUT)
    assert in_child(fork) == [1, {}, 0]
    thread.join(JOIN_TIMEOUT)
    assert ids(store) == ["child", "parent"]


def test_a_fork_in_the_middle_of_a_write_harms_nobody(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread itself forks, so that nothing can be waited for."""
    store = SqlStore(url, patience=0.01)
    insert, counted = store._database.kind.insert, []

    def inserting(*arguments: object) -> object:
        counted.append(in_child(child))
        return insert(*arguments)  # type: ignore[arg-type]  # passed on

    def child() -> object:
        monkeypatch.setattr(store._database.kind, "insert", insert)
        store.add(made("child"))
        return [*store.counts()]

    with monkeypatch.context() as patched:
        patched.setattr(store._database.kind, "insert", inserting)
        store.add(made("parent"))
    assert counted == [[0, {"locked": 1}, 0]]
    store.add(made("after"))
    assert ids(store) == ["after", "parent"]
    assert _fork._left == []


def test_what_is_deleted_of_a_user_is_nowhere_in_the_file(path: Path, url: str) -> None:
    store = SqlStore(url)
    canary = "canary-7f3a"
    for number in range(50):
        store.add(made(number, user_id=canary, error_message=canary * 20))
        store.add(made(f"other-{number}", user_id="other", metadata={"of": canary[:6]}))
    assert canary.encode() in b"".join(f.read_bytes() for f in path.parent.iterdir())
    assert store.delete_user(canary) == 50
    assert store.delete_user(canary) == 0
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert canary.encode() not in left
    assert len(ids(store)) == 50


def test_a_server_that_goes_and_comes_back_is_used_again(server: Server) -> None:
    store = SqlStore(server.new_url())
    store.add(made(1))
    server.stop()
    store.add(made(2))
    store.add(made(3))
    assert store.counts() == (1, {"unreachable": 2}, 0)
    server.start()
    store._retry_at = 0
    store.add(made(4))
    assert ids(store) == ["1", "4"]
    # Between two writes it is not even noticed.
    server.stop()
    server.start()
    store.add(made(5))
    assert store.counts() == (3, {"unreachable": 2}, 0)
    assert rolled_up(store) == brute_force(stored(store))
    store.close()


def test_a_server_that_is_not_there_yet_is_used_as_soon_as_it_is(
    server: Server,
) -> None:
    url = server.new_url()
    server.stop()
    store = SqlStore(url)
    store.add(made(1))
    assert store.counts() == (0, {"unreachable": 1}, 0)
    server.start()
    store._retry_at = 0
    store.add(made(2))
    assert store.counts() == (1, {"unreachable": 1}, 0)
    store.close()


def test_a_server_that_is_killed_loses_nothing_that_was_acknowledged(
    server: Server,
) -> None:
    url, is_over = server.new_url(), Event()
    acknowledged: dict[str, list[str]] = {name: [] for name in "abc"}

    def write(name: str) -> None:
        store = SqlStore(url)
        number = refused = 0
        while not is_over.is_set():
            store.add(made(f"{name}-{number}", user_id=name, input_tokens=number))
            now = sum(store.counts().refused.values())
            if now == refused:
                acknowledged[name].append(f"{name}-{number}")
            refused = now
            number += 1
        store.close()

    threads = [Thread(target=write, args=(name,)) for name in acknowledged]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            goals = {name: len(told) + 10 for name, told in acknowledged.items()}
            deadline = time.monotonic() + JOIN_TIMEOUT
            while any(len(acknowledged[name]) < goal for name, goal in goals.items()):
                threads[0].join(0.005)
                assert all(thread.is_alive() for thread in threads)
                assert time.monotonic() < deadline
            server.stop("immediate")
            server.start()
    finally:
        is_over.set()
        for thread in threads:
            thread.join(JOIN_TIMEOUT)
    store = SqlStore(url)
    found = ids(store)
    assert len(found) == len(set(found))
    assert {one for told in acknowledged.values() for one in told} <= set(found)
    assert rolled_up(store) == brute_force(stored(store))
    store.close()


def test_what_a_server_refuses_is_counted_by_reason(server: Server) -> None:
    url = f"{server.new_url()}&connect_timeout={JOIN_TIMEOUT:.0f}"
    store = SqlStore(url, patience=0.01)
    # For the server's answers, which may take longer; the server has been told already
    # for how long it waits for a lock.
    store._patience = JOIN_TIMEOUT
    other = Database(url, full=False, patience=1)
    with other.connect() as connection, other.writing(connection):
        store.add(made(1))
    with other.engine.connect() as connection:
        connection.exec_driver_sql(
            "ALTER DATABASE postgres SET default_transaction_read_only = on"
        )
        store.close()
        store.add(made(2))
        connection.exec_driver_sql(
            "ALTER DATABASE postgres SET default_transaction_read_only = off"
        )
    store.close()
    store.add(made(3))
    assert store.counts() == (1, {"locked": 1, "read_only": 1}, 0)
    store.close()


def test_while_a_database_is_away_most_time_is_not_spent_on_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(url)
    store.close()
    unable, attempts = sqlite_error("unable to open database file"), []

    def connect() -> None:
        attempts.append(1)
        raise unable

    monkeypatch.setattr(store._database, "connect", connect)
    store.add(made(1))
    store._retry_at = float("inf")
    store.add(made(2))
    assert len(attempts) == 1
    assert store.counts().refused == {"unreachable": 2}


def sqlite_error(text: str) -> Exception:
    from sqlalchemy.exc import OperationalError

    return OperationalError("", None, sqlite3.OperationalError(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("database is locked", "locked"),
        ("database table is locked", "locked"),
        ("database or disk is full", "disk_full"),
        ("attempt to write a readonly database", "read_only"),
        ("unable to open database file", "unreachable"),
        ("disk I/O error", "error"),
    ],
)
def test_what_sqlite_says_is_understood(text: str, reason: str) -> None:
    assert reason_of(sqlite_error(text)) == reason


def test_whatever_else_fails_is_an_error() -> None:
    assert reason_of(ZeroDivisionError()) == "error"
    assert reason_of(OSError()) == "error"
