"""What a database may do to budgets, and budgets never do to their host."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import update

from llmevents import Bus
from llmevents.ledger import _budgets
from llmevents.ledger._budgets import BudgetStoreError, SqlBudgetStore
from llmevents.ledger._budgets_books import Books
from llmevents.ledger._budgets_tables import VERSION, budget_schema, id_of, text_of
from llmevents.ledger._sql import SqlStore
from llmevents.llm.budgets import (
    Budget,
    BudgetExceededError,
    BudgetGuard,
    BudgetStore,
    Reading,
)
from llmevents.testing import ManualClock
from tests.ledger.sqlstores import Server, ids, made, needed_server
from tests.llm.budgets.store_contract import HOUR, LEASE, TOTAL, hold, read, spend


PATIENCE = 0.01
"""Seconds; of stores that have nothing to wait for."""

FEW_SECONDS = 8.0
"""What a call may be held up by a server that does not answer, on a busy machine. But
for a deadline of ours it would be for ever."""


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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep everybody else from writing."""
    connection = sqlite3.connect(path, isolation_level=None)
    with closing(connection):
        connection.execute("BEGIN EXCLUSIVE")
        yield


def stays_away(store: SqlBudgetStore) -> None:
    """Have nothing tried until `is_back`, after a first attempt that has failed.

    By itself that lasts four times as long as the attempt took: milliseconds, in which
    a busy machine may not come to the next call.
    """
    assert store._turns._retry_at > 0
    store._turns._retry_at = float("inf")


def is_back(store: SqlBudgetStore) -> None:
    """Let the time pass for which nothing is tried."""
    store._turns._retry_at = 0.0


def test_what_is_let_through_while_it_is_locked_is_booked_afterwards(
    path: Path, url: str
) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE)
    before = store.reserve([hold(TOTAL, 1)]).token
    with locked(path):
        first = store.reserve([hold(TOTAL, 9)])
        stays_away(store)
        second = store.reserve([hold(TOTAL, 9)])
        assert first.readings == second.readings == ()
        assert store.settle(before, [2]) is None
        assert store.settle(first.token, [3]) is None
        assert store.announce(TOTAL, 1) == 0
        # Only the first has tried; for a while nobody does.
        assert store.counts() == (2, 0, 4, 0, {"locked": 1})
    is_back(store)
    assert read(store, TOTAL) == Reading(5, 9, 0, None)
    assert store.settle(second.token, [4]) == (Reading(9, 0, 0, None),)
    assert store.counts() == (2, 0, 0, 0, {"locked": 1})
    store.close()


def test_calls_are_refused_while_it_is_locked_if_they_are_to_be(
    path: Path, url: str
) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE, on_failure="refuse")
    spend(store, TOTAL)
    other = TOTAL._replace(budget="warns")
    with locked(path):
        outcome = store.reserve([hold(other, 1, None), hold(TOTAL)])
        assert outcome == (None, (), 1)
        stays_away(store)
        # What blocks nothing refuses nothing.
        assert store.reserve([hold(other, 1, None)]).token is not None
    assert store.counts() == (1, 1, 1, 0, {"locked": 1})
    is_back(store)
    assert read(store, TOTAL) == Reading(1, 0, 0, None)
    assert read(store, other) == Reading(0, 1, 0, None)
    store.close()


def test_a_guard_refuses_what_nobody_can_look_at_and_says_so(
    path: Path, url: str
) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE, on_failure="refuse")
    guard = BudgetGuard(Bus(), [Budget("b", limit=10, unit="calls")], store)
    guard.begin({}).settle({})
    with locked(path), pytest.raises(BudgetExceededError) as caught:
        guard.begin({})
    assert (caught.value.budget, caught.value.spent) == ("b", None)
    assert guard.stats()["refused"] == 1
    is_back(store)
    (status,) = guard.status()
    assert status.spent == 1
    store.close()


def test_a_guard_lets_through_and_counts_afterwards(path: Path, url: str) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE)
    budgets = [Budget("b", limit=1, unit="calls"), Budget("c", limit=9, unit="calls")]
    guard = BudgetGuard(Bus(), budgets, store)
    spend(store, TOTAL)
    with locked(path):
        for _ in range(3):
            guard.begin({}).settle({})
        assert guard.status() == ()
    is_back(store)
    assert [status.spent for status in guard.status()] == [4, 3]
    with pytest.raises(BudgetExceededError, match="spent"):
        guard.begin({})
    store.close()


def test_what_waits_is_booked_when_the_store_is_closed(path: Path, url: str) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE)
    spend(store, TOTAL)
    with locked(path):
        spend(store, TOTAL)
        store.close()
        assert store.counts().waiting == 2
    is_back(store)
    store.close()
    assert store.counts().waiting == 0
    assert read(SqlBudgetStore(url), TOTAL).spent == 2


def test_a_lock_that_is_held_for_a_moment_is_waited_for(path: Path, url: str) -> None:
    from threading import Thread

    store = SqlBudgetStore(url, patience=30)
    spend(store, TOTAL)
    with locked(path):
        thread = Thread(target=spend, args=(store, TOTAL))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
    thread.join(30)
    assert read(store, TOTAL).spent == 2
    assert store.counts() == (0, 0, 0, 0, {})
    store.close()


def test_a_lease_that_is_over_before_the_database_is_back_holds_nothing(
    path: Path, url: str
) -> None:
    clock = ManualClock(time_ns=1_782_907_200_000_000_000)
    store = SqlBudgetStore(url, patience=PATIENCE, clock=clock)
    spend(store, TOTAL)
    with locked(path):
        token = store.reserve([hold(TOTAL, 9)]).token
    clock.advance(LEASE)
    is_back(store)
    assert read(store, TOTAL) == Reading(1, 0, 0, None)
    assert store.settle(token, [2]) == (Reading(3, 0, 0, None),)
    store.close()


def test_what_waits_is_bounded_and_what_is_lost_counted(
    path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_budgets, "MOST_LATE", 3)
    monkeypatch.setattr(_budgets, "MOST_TOGETHER", 1)
    store = SqlBudgetStore(url, patience=PATIENCE)
    tokens = [store.reserve([hold(TOTAL)]).token for _ in range(5)]
    with locked(path):
        store.settle(tokens[0], [1])
        stays_away(store)
        for token in tokens[1:]:
            store.settle(token, [1])
    assert store.counts() == (0, 0, 3, 2, {"locked": 1})
    is_back(store)
    # One at a time, so that who comes first is not held up by all of it.
    assert read(store, TOTAL) == Reading(1, 4, 0, None)
    assert read(store, TOTAL) == Reading(3, 2, 0, None)
    store.close()


@pytest.mark.parametrize("how", ["deleted", "a directory", "no database"])
def test_a_file_that_is_gone_or_none_stops_nobody(
    how: str, path: Path, url: str
) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE)
    if how == "deleted":
        spend(store, TOTAL, 7)
        path.unlink()
    elif how == "a directory":
        path.mkdir()
    else:
        path.write_bytes(b"no database " * 1000)
    token = store.reserve([hold(TOTAL)]).token
    assert token is not None
    if how != "deleted":
        assert store.counts().unseen == 1
        path.rmdir() if how == "a directory" else path.unlink()
        is_back(store)
    assert store.settle(token, [2]) == (Reading(2, 0, 0, None),)
    store.close()


def test_a_full_disk_is_waited_out(path: Path, url: str) -> None:
    """A limit on the pages of the file stands for the disk."""
    store = SqlBudgetStore(url)
    spend(store, TOTAL)
    assert store._turns._connection is not None
    store._turns._connection.exec_driver_sql("PRAGMA max_page_count=1")
    many = [
        hold(TOTAL._replace(key=("x" * 5_000, str(number)))) for number in range(50)
    ]
    token = store.reserve(many).token
    assert store.counts() == (1, 0, 1, 0, {"disk_full": 1})
    is_back(store)
    assert store.settle(token, [1] * 50) is not None
    assert store.counts().waiting == 0
    assert read(store, TOTAL).spent == 1
    store.close()


def test_tables_of_a_later_version_are_left_alone(url: str) -> None:
    store = SqlBudgetStore(url)
    spend(store, TOTAL)
    assert store._turns._connection is not None
    store._turns._connection.execute(update(budget_schema).values(version=VERSION + 1))
    store.close()
    later = SqlBudgetStore(url)
    assert later.reserve([hold(TOTAL)]).readings == ()
    with pytest.raises(BudgetStoreError, match="away"):
        read(later, TOTAL)
    assert later.counts() == (1, 0, 1, 0, {"newer_ledger": 1})


def test_tables_that_are_older_are_brought_up(url: str) -> None:
    store = SqlBudgetStore(url)
    spend(store, TOTAL)
    assert store._turns._connection is not None
    store._turns._connection.execute(update(budget_schema).values(version=0))
    store.close()
    spend(store, TOTAL)
    assert read(store, TOTAL).spent == 2
    store.close()


def test_budgets_and_a_ledger_share_a_file(url: str) -> None:
    store, ledger = SqlBudgetStore(url), SqlStore(url)
    spend(store, TOTAL)
    ledger.add(made(1))
    spend(store, TOTAL)
    assert (read(store, TOTAL).spent, ids(ledger)) == (2, ["1"])
    ledger.close()
    store.close()


def test_a_database_that_is_away_takes_a_fifth_of_the_time(
    path: Path, url: str
) -> None:
    store = SqlBudgetStore(url, patience=0.05)
    spend(store, TOTAL)
    with locked(path):
        started = time.monotonic()
        store.reserve([hold(TOTAL)])
        assert store._turns._retry_at - started > 4 * 0.05
        stays_away(store)
        for _ in range(1_000):
            store.reserve([hold(TOTAL)])
        assert store.counts().failures == {"locked": 1}
    store.close()


Lost = Callable[[SqlBudgetStore], None]


@pytest.fixture
def commit_is_lost(monkeypatch: pytest.MonkeyPatch) -> Lost:
    """Have the next transaction committed, and the server gone before it says so."""
    from psycopg import OperationalError

    def lose(store: SqlBudgetStore) -> None:
        database = store._turns.database
        step, left = database.step, [True]

        @contextmanager
        def stepping(*arguments: object) -> Iterator[object]:
            with step(*arguments) as cursor:  # type: ignore[arg-type]  # passed on
                yield cursor
            if left and left.pop():
                msg = "server closed the connection unexpectedly"
                raise OperationalError(msg)

        monkeypatch.setattr(database, "step", stepping)

    return lose


def test_what_was_committed_although_nobody_said_so_is_not_done_twice(
    server: Server, commit_is_lost: Lost
) -> None:
    store = SqlBudgetStore(server.new_url(), patience=30)
    spend(store, TOTAL)
    commit_is_lost(store)
    outcome = store.reserve([hold(TOTAL, 4)])
    assert outcome.readings == (Reading(1, 4, 0, None),)
    commit_is_lost(store)
    assert store.settle(outcome.token, [3]) == (Reading(4, 0, 0, None),)
    assert store.counts() == (0, 0, 0, 0, {})
    store.close()


def test_what_is_booked_late_is_not_booked_twice_either(
    server: Server, commit_is_lost: Lost
) -> None:
    store = SqlBudgetStore(server.new_url(), patience=30)
    spend(store, TOTAL)
    store._turns._retry_at = float("inf")
    tokens = [store.reserve([hold(TOTAL, 2)]).token for _ in range(3)]
    store.settle(tokens[0], [1])
    is_back(store)
    store._turns.disconnect()  # so that there is no second attempt
    commit_is_lost(store)
    assert store.settle(tokens[1], [1]) is None
    is_back(store)
    assert read(store, TOTAL) == Reading(3, 2, 0, None)
    assert store.settle(tokens[2], [1]) == (Reading(4, 0, 0, None),)
    assert store.counts() == (3, 0, 0, 0, {"unreachable": 1})
    store.close()


@pytest.mark.parametrize("on_failure", ["allow", "refuse"])
def test_what_may_have_been_committed_is_cleared_up_when_the_server_is_back(
    server: Server, commit_is_lost: Lost, on_failure: str
) -> None:
    store = SqlBudgetStore(
        server.new_url(),
        patience=30,
        on_failure=on_failure,  # type: ignore[arg-type]  # is one of them
    )
    spend(store, TOTAL)
    store._turns.disconnect()  # so that there is no second attempt
    commit_is_lost(store)
    outcome = store.reserve([hold(TOTAL, 4)])
    assert outcome.readings == ()
    is_back(store)
    held = 4 if on_failure == "allow" else 0
    assert read(store, TOTAL) == Reading(1, held, 0, None)
    if outcome.token is not None:
        assert store.settle(outcome.token, [2]) == (Reading(3, 0, 0, None),)
    store.close()


def test_a_server_that_goes_and_comes_back_is_used_again(server: Server) -> None:
    store = SqlBudgetStore(server.new_url(), patience=30)
    spend(store, TOTAL)
    server.stop()
    token = store.reserve([hold(TOTAL, 5)]).token
    stays_away(store)
    assert store.settle(token, [3]) is None
    assert store.counts() == (1, 0, 2, 0, {"unreachable": 1})
    server.start()
    is_back(store)
    assert read(store, TOTAL) == Reading(4, 0, 0, None)
    # Between two calls it is not even noticed.
    server.stop()
    server.start()
    spend(store, TOTAL)
    assert read(store, TOTAL).spent == 5
    assert store.counts() == (1, 0, 0, 0, {"unreachable": 1})
    store.close()


def test_a_server_that_is_frozen_holds_nobody_up_for_long(server: Server) -> None:
    """It has the connection open and answers nothing: its own timeouts do not run."""
    # To connect and to make the tables may take longer than what is tested.
    store = SqlBudgetStore(server.new_url(), patience=30)
    spend(store, TOTAL)
    store._turns._patience = 0.2
    assert store._turns._connection is not None
    row = store._turns._connection.exec_driver_sql("SELECT pg_backend_pid()").one()
    started = time.monotonic()
    os.kill(row[0], signal.SIGSTOP)
    try:
        token = store.reserve([hold(TOTAL, 5)]).token
        assert store.counts().unseen == 1
    finally:
        os.kill(row[0], signal.SIGCONT)
    assert time.monotonic() - started < FEW_SECONDS
    is_back(store)
    store._turns._patience = 30
    assert store.settle(token, [3]) == (Reading(4, 0, 0, None),)
    store.close()


def test_a_server_that_is_frozen_before_it_accepts_holds_nobody_up_for_long(
    server: Server,
) -> None:
    store = SqlBudgetStore(server.new_url(), patience=0.2)
    first = (server.directory / "data" / "postmaster.pid").read_text().split()[0]
    started = time.monotonic()
    os.kill(int(first), signal.SIGSTOP)
    try:
        assert store.reserve([hold(TOTAL, 5)]).readings == ()
    finally:
        os.kill(int(first), signal.SIGCONT)
    assert time.monotonic() - started < FEW_SECONDS
    assert store.counts().unseen == 1


def test_an_account_that_another_process_has_is_not_forgotten_now(
    server: Server,
) -> None:
    clock = ManualClock(time_ns=1_782_907_200_000_000_000)
    url = server.new_url()
    store, other = (SqlBudgetStore(url, clock=clock, patience=30) for _ in range(2))
    old = TOTAL._replace(key=("old",), rolling=HOUR)
    spend(store, old)
    clock.advance(HOUR)
    with (
        other._turns.database.connect() as connection,
        other._turns.database.step(connection, [id_of(text_of(old))]),
    ):
        spend(store, TOTAL)
        assert sorted(store.accounts("b")) == [TOTAL, old]
    spend(store, TOTAL._replace(key=("new",)))
    assert old not in store.accounts("b")
    store.close()
    other.close()


def test_it_is_a_store(url: str) -> None:
    store: BudgetStore = SqlBudgetStore(url)
    assert store.read([]) == ()


def test_a_step_that_is_interrupted_leaves_nothing_and_no_pause(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlBudgetStore(url)
    token = store.reserve([hold(TOTAL, 4)]).token

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Books, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.settle(token, [3])
    assert read(store, TOTAL) == Reading(3, 0, 0, None)
    assert store.counts() == (0, 0, 0, 0, {})
    store.close()


def test_tables_that_another_process_has_just_made_are_left_alone(url: str) -> None:
    store = SqlBudgetStore(url)
    spend(store, TOTAL)
    assert store._turns._connection is not None
    with store._turns.database.writing(store._turns._connection):
        store._turns.database.migrate(store._turns._connection)
    assert read(store, TOTAL).spent == 1
    store.close()
