"""What a host may do around a store of records: signals, hooks at forks, directories."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmevents.ledger import SqlEngine, SqlStore
from tests.ledger.sqlstores import Server, ids, made, needed_server
from tests.outcomes import in_child, in_threads


FEW_SECONDS = 10.0
"""What a call may be held up by a server that does not answer, on a busy machine. But
for a deadline of ours it would be for ever."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/usage.db"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server, which each test leaves running."""
    with needed_server() as server:
        yield server


def test_what_hooks_add_around_a_fork_is_there_and_nobody_hangs(url: str) -> None:
    """A hook of the host's, or a finalizer in the middle of one of ours."""

    def fork() -> object:
        stores: list[SqlStore] = []

        def add(number: int) -> None:
            for store in stores:
                store.add(made(number))

        # Hooks before a fork run newest first, those after it oldest first.
        os.register_at_fork(before=lambda: add(1), after_in_parent=lambda: add(2))
        stores.append(SqlStore(url))
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        add(3)
        return ids(stores[0])

    assert in_child(fork) == ["1", "2", "3"]


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_store_that_is_forgotten_is_closed_and_nobody_complains(
    is_whole: bool, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither SQLAlchemy, in the host's log, nor Python 3.13, in a warning."""
    store = SqlStore(url)
    store.add(made(1))
    connection = store._connection
    assert connection is not None
    driver: Any = connection.connection.driver_connection
    if not is_whole:
        driver.execute("BEGIN")
    store.self = store  # type: ignore[attr-defined]  # which only a collection ends
    del store, connection
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
    assert caplog.records == []


def test_the_file_stays_the_same_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    store = SqlStore("sqlite:///usage.db")
    store.add(made(1))
    monkeypatch.chdir(there)
    store.add(made(2))
    assert SqlEngine(store.url).summary().calls == 2
    assert list(there.iterdir()) == []


def test_a_server_that_is_frozen_holds_nobody_up_for_long(server: Server) -> None:
    """It has the connection open and answers nothing: its own timeouts do not run."""
    # To connect and to make the tables may take longer than what is tested.
    store = SqlStore(server.new_url(), patience=30)
    store.add(made(1))
    store._patience = 0.2
    assert store._connection is not None
    (pid,) = store._connection.exec_driver_sql("SELECT pg_backend_pid()").one()
    started = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        store.add(made(2))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - started < FEW_SECONDS
    store.add(made(3))
    counts = store.counts()
    assert counts.written + sum(counts.refused.values()) == 3
    store.close()


def test_writers_wait_for_each_other_whatever_isolation_is_the_default(
    server: Server,
) -> None:
    store = SqlStore(server.new_url())
    with store._database.connect() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
        )
    stores = [SqlStore(store.url) for _ in range(4)]

    def write(number: int) -> None:
        for turn in range(20):
            stores[number].add(made(f"{number}-{turn}"))

    in_threads(*(lambda number=number: write(number) for number in range(4)))
    assert [each.counts() for each in stores] == [(20, {}, 0)] * 4
    assert SqlEngine(store.url).summary().calls == 80
    for each in (store, *stores):
        each.close()
