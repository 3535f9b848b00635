"""Budgets in a database: what the store in memory does, for several processes."""

from __future__ import annotations

import gc
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from llmevents import Bus, OptionError
from llmevents.ledger import _budgets
from llmevents.ledger._budgets import SqlBudgetStore
from llmevents.ledger._budgets_tables import (
    account_of,
    budget_accounts,
    id_of,
    name_of,
    text_of,
)
from llmevents.llm.budgets import Account, Budget, BudgetGuard, Hold, Reading
from llmevents.llm.budgets._book import MAX_ENTRIES
from llmevents.llm.budgets._units import LARGEST
from llmevents.testing import ManualClock, capture
from tests.ledger.sqlstores import Server, held, needed_server
from tests.llm.budgets.store_contract import (
    HOUR,
    LEASE,
    ROLLING,
    TOTAL,
    StoreContract,
    day,
    hold,
    read,
    spend,
)
from tests.outcomes import in_child, in_threads


PATIENCE = 30.0
"""Seconds that a store waits for its turn and for the database, on a busy machine: what
takes longer is counted as a failure, and tests count on there being none."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with needed_server() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time_ns=1_782_907_200_000_000_000)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/usage.db"


@pytest.fixture
def store(url: str, clock: ManualClock) -> Iterator[SqlBudgetStore]:
    store = SqlBudgetStore(url, clock=clock, patience=PATIENCE)
    yield store
    store.close()


class TestSqlite(StoreContract):
    """What every store does, in a file."""

    @pytest.fixture
    def store(self, url: str, clock: ManualClock) -> Iterator[SqlBudgetStore]:
        store = SqlBudgetStore(url, clock=clock, patience=PATIENCE)
        yield store
        assert store.counts() == (0, 0, 0, 0, {})
        store.close()


class TestPostgreSQL(StoreContract):
    """What every store does, in a server."""

    @pytest.fixture
    def store(self, server: Server, clock: ManualClock) -> Iterator[SqlBudgetStore]:
        store = SqlBudgetStore(server.new_url(), clock=clock, patience=PATIENCE)
        yield store
        assert store.counts() == (0, 0, 0, 0, {})
        store.close()


def test_two_stores_of_one_database_have_one_state(
    url: str, clock: ManualClock
) -> None:
    one, other = (SqlBudgetStore(url, clock=clock, patience=PATIENCE) for _ in range(2))
    token = one.reserve([hold(TOTAL, 4)]).token
    assert read(other, TOTAL) == Reading(0, 4, 0, None)
    assert other.reserve([hold(TOTAL, 7)]).refused == 0
    assert other.announce(TOTAL, 1) == 1
    assert one.announce(TOTAL, 3) == 2
    one.settle(token, [3])
    assert other.reserve([hold(TOTAL, 7)]).token is not None
    assert read(one, TOTAL) == Reading(3, 7, 3, None)
    one.close()
    other.close()


def test_what_a_store_held_that_is_gone_is_given_back_by_another(
    url: str, clock: ManualClock
) -> None:
    killed, other = (
        SqlBudgetStore(url, clock=clock, patience=PATIENCE) for _ in range(2)
    )
    killed.reserve([hold(TOTAL, 10)])
    killed.close()
    clock.advance(LEASE - 1)
    assert other.reserve([hold(TOTAL)]).token is None
    clock.advance(1)
    assert other.reserve([hold(TOTAL, 10)]).token is not None
    assert rows(url, "SELECT count(*) FROM budget_holds") == [(1,)]
    other.close()


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    """Return what is in a file."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(statement).fetchall()


def test_nothing_is_left_of_accounts_that_are_over(
    url: str, store: SqlBudgetStore, clock: ManualClock
) -> None:
    for number in range(5):
        spend(store, ROLLING._replace(key=(f"u{number}",)))
        spend(store, day(clock, f"u{number}"))
    clock.advance(48 * HOUR)
    for number in range(5):
        spend(store, TOTAL._replace(key=(f"v{number}",)))
    assert rows(url, "SELECT count(*) FROM budget_accounts") == [(5,)]
    assert rows(url, "SELECT count(*) FROM budget_windows") == [(0,)]
    assert rows(url, "SELECT count(*) FROM budget_holds") == [(0,)]


def test_accounts_that_are_in_use_do_not_keep_others_from_being_forgotten(
    store: SqlBudgetStore, clock: ManualClock
) -> None:
    busy = [ROLLING._replace(budget=name) for name in ("b1", "b2", "b3")]
    for account in busy:
        store.reserve([hold(account)._replace(lease=100 * HOUR)])
    clock.advance(1)
    idle = ROLLING._replace(key=("idle",))
    spend(store, idle)
    for number in range(3):
        clock.advance(HOUR)
        # A call that counts for the same three and for one that is new.
        new = TOTAL._replace(key=(str(number),))
        store.reserve([*[hold(account) for account in busy], hold(new)])
    assert idle not in store.accounts("b")
    assert all(store.accounts(account.budget) == [account] for account in busy)


def test_a_busy_rolling_window_is_bounded_and_never_forgets_early(
    url: str, store: SqlBudgetStore, clock: ManualClock
) -> None:
    step, calls = HOUR // 4_000, MAX_ENTRIES + 50
    for _ in range(calls):
        spend(store, ROLLING)
        clock.advance(step)
    ((kept,),) = rows(url, "SELECT count(*) FROM budget_windows")
    assert isinstance(kept, int)
    assert kept <= MAX_ENTRIES
    assert read(store, ROLLING).spent == calls
    late = HOUR // 500 // step + 1
    clock.advance(HOUR - calls * step)
    for left in range(calls - 1, -1, -97):
        assert left <= read(store, ROLLING).spent <= left + late
        clock.advance(97 * step)


def test_many_amounts_of_one_moment_are_one_entry(
    url: str, store: SqlBudgetStore
) -> None:
    spend(store, ROLLING)
    assert store._turns._connection is not None
    # As if there had been many, which only the column knows of.
    store._turns._connection.execute(
        update(budget_accounts).values(entries=MAX_ENTRIES)
    )
    for _ in range(2):
        spend(store, ROLLING)
    assert read(store, ROLLING).spent == 3
    assert rows(url, "SELECT entries FROM budget_accounts") == [(2,)]


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_any_text_and_any_amount_can_be_kept(
    name: str, request: pytest.FixtureRequest, clock: ManualClock
) -> None:
    """Keys come from users: what a database refuses must not stop anybody's calls."""
    url = request.getfixturevalue("url" if name == "sqlite" else "server")
    store = SqlBudgetStore(
        url if isinstance(url, str) else url.new_url(), clock=clock, patience=PATIENCE
    )
    keys = ("", "nul \0", "lone \ud800", "é 'quoted' %s ? \\", "x" * 10_000)
    odd = [Account(key, (key,), 0, 0, HOUR) for key in keys]
    for account in odd:
        for _ in range(2):
            unlimited = [Hold(account, LARGEST + 1, 1, None, LEASE)]
            first, second = store.reserve(unlimited), store.reserve(unlimited)
            assert first.readings[0].reserved == LARGEST
            store.settle(first.token, [LARGEST])
            store.settle(second.token, [LARGEST + 1])
            assert read(store, account).spent == LARGEST
        assert store.accounts(account.budget) == [account]
    clock.advance(HOUR)
    assert [read(store, account).spent for account in odd] == [0] * len(odd)
    assert store.counts() == (0, 0, 0, 0, {})
    store.close()


def test_accounts_are_found_by_what_is_stored_of_them() -> None:
    account = Account("b" * 300, ("a", "b"), 1, 2, 0)
    assert account_of(text_of(account)) == account
    assert name_of(account.budget) == "b" * 200
    assert name_of("users") == "users"
    assert len({id_of(text_of(one)) for one in (account, TOTAL, ROLLING)}) == 3


def test_budgets_with_long_names_are_told_apart(store: SqlBudgetStore) -> None:
    one, other = (Account("b" * 300 + end, (), 0, 0, 0) for end in "12")
    spend(store, one)
    spend(store, other)
    assert store.accounts(one.budget) == [one]
    assert store.accounts("b" * 200) == []


def test_thousands_of_accounts_are_read_at_once(store: SqlBudgetStore) -> None:
    keys = [TOTAL._replace(key=(str(number),)) for number in range(450)]
    store.reserve([hold(account) for account in keys])
    unknown = TOTAL._replace(key=("unknown",))
    readings = store.read([*keys, unknown])
    assert [reading.reserved for reading in readings] == [1] * 450 + [0]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"on_failure": "open"}, "on_failure to be 'allow' or 'refuse'"),
        ({"patience": 0}, "patience to be a finite number"),
        ({"url": "mysql://host/db"}, "'sqlite:///' and the path of a file"),
    ],
    ids=["on_failure", "patience", "url"],
)
def test_a_wrong_option_is_refused_at_once(
    options: dict[str, object], complaint: str, url: str
) -> None:
    with pytest.raises(OptionError, match=complaint):
        SqlBudgetStore(**{"url": url, **options})  # type: ignore[arg-type]  # that is what is tested


def test_nothing_is_opened_before_the_first_call(url: str, tmp_path: Path) -> None:
    store = SqlBudgetStore("postgresql://user:secret@nowhere.invalid/db")
    assert "secret" not in repr(store)
    SqlBudgetStore(url).close()
    assert list(tmp_path.iterdir()) == []


def interrupting(
    store: SqlBudgetStore, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
) -> None:
    """Have *work* done once, in the middle of the store's next step."""
    step, left = store._turns.database.step, [work]

    def interrupted(*arguments: object) -> object:
        if left:
            left.pop()()
        return step(*arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(store._turns.database, "step", interrupted)


def test_what_a_finalizer_does_in_the_middle_of_a_step_does_not_wait(
    store: SqlBudgetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = store.reserve([hold(TOTAL, 6)]).token
    seen: list[object] = []

    def finalizer() -> None:
        seen.append(store.settle(token, [2]))
        granted = store.reserve([hold(TOTAL, 1)])
        seen.append((granted.token is not None, granted.readings))
        seen.append(store.settle(granted.token, [1]))
        lasting = store.reserve([hold(TOTAL, 2)])
        seen.append(lasting.readings)
        seen.append(store.announce(TOTAL, 1))
        with pytest.raises(_budgets.BudgetStoreError, match="busy"):
            store.read([TOTAL])

    interrupting(store, monkeypatch, finalizer)
    spend(store, TOTAL, 4)
    assert seen == [None, (True, ()), None, (), 0]
    assert read(store, TOTAL) == Reading(7, 2, 0, None)
    assert store.counts() == (2, 0, 0, 0, {})


def test_a_finalizer_that_settles_wherever_the_collector_runs_it(url: str) -> None:
    """The collector runs whenever a container is made, so in a step as well."""

    class Stream:
        itself: Stream

    store = SqlBudgetStore(url, patience=PATIENCE)
    unlimited = hold(TOTAL)._replace(limit=None)

    def work() -> None:
        for _ in range(300):
            stream = Stream()
            stream.itself = stream
            token = store.reserve([unlimited]).token
            weakref.finalize(stream, store.settle, token, [1])
            del stream

    threshold = gc.get_threshold()
    gc.set_threshold(7, 2, 2)
    try:
        in_threads(work, work)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert read(store, TOTAL) == Reading(600, 0, 0, None)
    counts = store.counts()
    assert (counts.waiting, counts.lost, counts.failures) == (0, 0, {})
    store.close()


def test_a_signal_handler_does_not_wait_for_another_thread(
    store: SqlBudgetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have interrupted this thread while that was waiting for its turn."""
    token = store.reserve([hold(TOTAL, 6)]).token
    lock = store._turns._gate._lock
    seen: list[object] = []

    class Waiting:
        def acquire(self, timeout: float) -> bool:
            if not seen:
                seen.append(store.settle(token, [2]))
            return lock.acquire(timeout=timeout)

        def release(self) -> None:
            lock.release()

    monkeypatch.setattr(store._turns._gate, "_lock", Waiting())
    assert read(store, TOTAL) == Reading(2, 0, 0, None)
    assert seen == [None]


def test_who_does_not_get_a_turn_in_time_goes_on_unseen(
    url: str, clock: ManualClock
) -> None:
    store = SqlBudgetStore(url, patience=0.01, clock=clock)
    token = store.reserve([hold(TOTAL, 6)]).token
    with held(store._turns._gate):
        assert store.settle(token, [2]) is None
        assert store.reserve([hold(TOTAL, 6)]).readings == ()
        assert store.announce(TOTAL, 1) == 0
        with pytest.raises(_budgets.BudgetStoreError, match="busy"):
            store.read([TOTAL])
    assert store.counts() == (1, 0, 2, 0, {"busy": 4})
    assert read(store, TOTAL) == Reading(2, 6, 0, None)
    store.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_step_is_done_once(
    when: str, store: SqlBudgetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come right after the commit, before anybody has heard of it."""
    token = store.reserve([hold(TOTAL, 6)]).token
    change = store._turns.change

    def interrupted(*arguments: object) -> object:
        if when == "after":
            change(*arguments)  # type: ignore[arg-type]  # passed on
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store._turns, "change", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.settle(token, [4])
    assert read(store, TOTAL) == Reading(4, 0, 0, None)
    spend(store, TOTAL)
    assert read(store, TOTAL) == Reading(5, 0, 0, None)


def test_a_child_goes_on_with_a_connection_of_its_own(url: str) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE)
    spend(store, TOTAL, 2)
    store.reserve([hold(TOTAL, 3)])

    def child() -> object:
        spend(store, TOTAL, 1)
        return [read(store, TOTAL)[:2], store.reserve([hold(TOTAL, 5)]).refused]

    assert in_child(child) == [[3, 3], 0]
    spend(store, TOTAL, 1)
    assert read(store, TOTAL)[:2] == (4, 3)
    store.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_waits_for_the_step_of_another_thread(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlBudgetStore(url, patience=PATIENCE)
    spend(store, TOTAL)
    begun, forking = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert forking.wait(30)

    interrupting(store, monkeypatch, wait)
    before = store._turns.before_fork

    def waiting(patience: float) -> None:
        forking.set()
        before(patience)

    monkeypatch.setattr(store._turns, "before_fork", waiting)
    thread = threading.Thread(target=spend, args=(store, TOTAL))
    thread.start()
    assert begun.wait(30)
    assert in_child(lambda: spend(store, TOTAL)) is None
    thread.join(30)
    assert read(store, TOTAL)[:2] == (3, 0)
    store.close()


def test_a_fork_in_the_middle_of_a_step_harms_nobody(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread itself forks, so that nothing can be waited for."""
    store = SqlBudgetStore(url, patience=0.01)
    spend(store, TOTAL, 1)
    seen: list[object] = []

    def child() -> object:
        spend(store, TOTAL, 5)
        return store.counts().unseen

    def fork() -> None:
        with store._turns.database.step(connection, []):
            seen.append(in_child(child))

    connection = store._turns.database.connect()
    interrupting(store, monkeypatch, fork)
    spend(store, TOTAL, 1)
    # The step that the fork was in the middle of kept the child from its own.
    assert seen == [1]
    connection.close()
    assert read(store, TOTAL) == Reading(2, 0, 0, None)
    store.close()


def test_what_a_fork_leaves_behind(url: str) -> None:
    """The same in this process, where it is seen which lines run."""
    store = SqlBudgetStore(url, patience=0.01)
    token = store.reserve([hold(TOTAL, 5)]).token
    turns = store._turns
    with held(turns._gate):
        store.settle(token, [2])
        turns.before_fork(0.01)
    turns.after_fork_in_parent()
    assert store.counts().waiting == 1
    turns.before_fork(1)
    store.after_fork_in_child()
    turns.after_fork_in_child()
    assert read(store, TOTAL)[:2] == (0, 5)
    with turns.alone():
        turns.before_fork(1)
        turns.after_fork_in_parent()
    assert read(store, TOTAL)[:2] == (0, 5)
    turns.before_fork(1)
    turns.after_fork_in_parent()
    store.close()
    turns.after_fork_in_child()
    store.close()


def test_a_guard_tells_once_whichever_process_comes_to_a_level(
    url: str, clock: ManualClock
) -> None:
    bus = Bus(strict=True, clock=clock)
    budget = Budget("b", limit=10, unit="calls", warn=[0.5])
    with capture("llm.budget.*", bus=bus, scope="process") as events:
        guards = [
            BudgetGuard(
                bus, [budget], SqlBudgetStore(url, clock=clock, patience=PATIENCE)
            )
            for _ in range(2)
        ]
        for turn in range(10):
            reservation = guards[turn % 2].begin({})
            reservation.settle({})
    names = [event.event[-1] for event in events]
    assert (names.count("warning"), names.count("exceeded")) == (1, 1)
    (status,) = guards[0].status()
    assert (status.spent, status.reserved) == (10, 0)
