"""Tables of older and of later versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, inspect

from llmevents.ledger import _migrations
from llmevents.ledger._migrations import STEPS, NewerLedgerError
from llmevents.ledger._sql import SqlStore
from tests.ledger.sqlstores import brute_force, ids, made, rolled_up, stored
from tests.outcomes import in_child, in_threads


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def to_3(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE third (number INTEGER)")


def to_2(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE calls ADD COLUMN colour TEXT")
    connection.exec_driver_sql("UPDATE calls SET colour = 'blue'")


def version(store: SqlStore) -> int:
    with store.reading() as connection:
        return _migrations.version(connection)


def test_a_new_database_has_the_newest_version(url: str) -> None:
    assert version(SqlStore(url)) == len(STEPS)


def test_an_older_ledger_is_brought_up_step_by_step(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = SqlStore(url)
    old.add(made(1))
    old.close()
    monkeypatch.setattr(_migrations, "STEPS", (*STEPS, to_2, to_3))
    store = SqlStore(url)
    store.add(made(2))
    assert version(store) == len(STEPS) + 2
    assert ids(store) == ["1", "2"]
    with store.reading() as connection:
        colours = connection.exec_driver_sql("SELECT colour FROM calls ORDER BY id")
        assert list(colours.scalars()) == ["blue", None]
        assert inspect(connection).has_table("third")


def test_a_migration_that_fails_leaves_all_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqlStore(url).add(made(1))

    def fails(connection: Connection) -> None:
        to_3(connection)
        connection.exec_driver_sql("no SQL")

    with monkeypatch.context() as patched:
        patched.setattr(_migrations, "STEPS", (*STEPS, to_2, fails))
        store = SqlStore(url)
        store.add(made(2))
        assert store.counts().refused == {"error": 1}
    store.add(made(3))
    assert version(store) == len(STEPS)
    with store.reading() as connection:
        names = [column["name"] for column in inspect(connection).get_columns("calls")]
        assert "colour" not in names
        assert not inspect(connection).has_table("third")
    assert rolled_up(store) == brute_force(stored(store))


def test_a_ledger_of_a_later_version_is_refused_and_left_alone(
    url: str, path: Path
) -> None:
    SqlStore(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger_schema SET version = 7")
    engine.dispose()
    before = path.read_bytes()
    with pytest.raises(NewerLedgerError, match=r"has version 7, .* up to 1; nothing"):
        SqlStore(url)
    assert path.read_bytes() == before


def test_a_ledger_that_somebody_else_upgrades_meanwhile_is_counted(url: str) -> None:
    store = SqlStore(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger_schema SET version = 7")
    engine.dispose()
    store.close()
    store.add(made(1))
    assert store.counts() == (0, {"newer_ledger": 1}, 0)


def test_any_number_may_create_a_ledger_at_once(url: str) -> None:
    def create(name: str) -> Callable[[], object]:
        def add() -> object:
            store = SqlStore(url, patience=30)
            store.add(made(name))
            return [*store.counts()]

        return add

    counts: list[object] = []
    in_threads(*(lambda n=n: counts.append(in_child(create(str(n)))) for n in range(6)))
    assert counts == [[1, {}, 0]] * 6
    assert ids(SqlStore(url)) == [*"012345"]
