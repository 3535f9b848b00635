"""What people write for a store, and what it is taken for."""

from __future__ import annotations

import gzip
import os
import sqlite3
from pathlib import Path
from typing import cast

import pytest

from llmevents.ledger import JsonlStore, SqlStore
from llmevents.ledger._duck import JsonlEngine
from llmevents.ledger._open import (
    StoreError,
    StoreNotFoundError,
    find,
    name_of,
    open_engine,
    open_store,
)
from llmevents.ledger._sql_query import SqlEngine


LINE = b'{"id":"1","schema_version":1,"event":"llm.chat"}\n'


def database(path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE one (two)")
    connection.close()
    return path


@pytest.mark.parametrize("name", ["usage.jsonl", "usage.log", "usage"])
def test_a_file_of_json_lines_is_known_by_how_it_begins(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(LINE)

    engine = open_engine(tmp_path / name)

    assert isinstance(engine, JsonlEngine)
    assert engine.path == tmp_path / name


def test_a_damaged_file_of_the_right_name_is_one_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "usage.jsonl").write_bytes(b"\0\0\0\n")

    assert isinstance(open_engine(tmp_path / "usage.jsonl"), JsonlEngine)


def test_a_packed_file_is_one_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "usage-20261121T093000000000Z.jsonl.gz"
    path.write_bytes(gzip.compress(LINE))

    engine = open_engine(str(path))

    assert engine.summary().calls == 1
    engine.close()


def test_files_that_were_set_aside_are_a_store(tmp_path: Path) -> None:
    """Between a rotation and the next record there is no file of the plain name."""
    (tmp_path / "usage-20261121T093000000000Z.jsonl").write_bytes(LINE)

    engine = open_engine(tmp_path / "usage.jsonl")

    assert engine.summary().calls == 1
    engine.close()


@pytest.mark.parametrize("name", ["usage.db", "usage.jsonl", "usage"])
def test_a_database_is_known_by_its_header(tmp_path: Path, name: str) -> None:
    path = database(tmp_path / name)

    engine = open_engine(path)

    assert isinstance(engine, SqlEngine)
    assert engine.url.database == str(path)


@pytest.mark.parametrize("name", ["usage.db", "usage.sqlite", "what?.sqlite3"])
def test_a_new_database_is_known_by_its_suffix(tmp_path: Path, name: str) -> None:
    store = open_store(tmp_path / name)

    assert isinstance(store, SqlStore)
    store.close()
    assert (tmp_path / name).exists()


def test_a_new_file_is_known_by_its_suffix(tmp_path: Path) -> None:
    assert isinstance(open_store(tmp_path / "usage.jsonl"), JsonlStore)
    assert isinstance(open_store(str(tmp_path / "usage.NDJSON")), JsonlStore)


def test_urls_are_those_of_databases(tmp_path: Path) -> None:
    path = database(tmp_path / "usage.db")

    assert isinstance(open_engine(f"sqlite:///{path}"), SqlEngine)
    engine = open_engine("postgresql://ada:secret@db.example/usage")
    assert isinstance(engine, SqlEngine)
    assert engine.url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize("name", ["usage.jsonl", "usage.db"])
def test_what_is_not_there_is_not_made_by_a_question(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreNotFoundError, match=f"no store at '.*{name}'; check"):
        open_engine(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="check the path"):
        open_engine(f"sqlite:///{tmp_path / 'no' / 'usage.db'}")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("store", "message"),
    [
        pytest.param("", "is no path", id="empty"),
        pytest.param("a\0b", "is no path", id="nul"),
        pytest.param(cast("str", 7), "is of type int, not text", id="number"),
        pytest.param("mysql://db/usage", "no URL of a database", id="other-database"),
        pytest.param("sqlite://", "no URL of a database", id="in-memory"),
        pytest.param("file:///usage.jsonl", "given by their path", id="file-url"),
        pytest.param("usage", "suffix that does not say", id="no-suffix"),
    ],
)
def test_what_is_no_store_says_what_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StoreError, match=message) as raised:
        open_engine(store)

    assert "a store is sqlite:///usage.db, postgresql://" in str(raised.value)


def test_other_files_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "usage.jsonl").write_bytes(LINE)

    with pytest.raises(StoreError, match="holds neither JSON lines"):
        open_engine(tmp_path / "image.png")
    with pytest.raises(StoreError, match="is a directory"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="leads to a file of JSON lines"):
        open_engine(f"sqlite:///{tmp_path / 'usage.jsonl'}")
    with pytest.raises(StoreError, match="leads to a directory"):
        open_engine(f"sqlite:///{tmp_path}")


def test_passwords_are_not_shown() -> None:
    url = "postgresql://ada:se:cret@db/usage?password=secret&sslmode=require"

    shown = name_of(url)

    assert shown == "postgresql://ada:***@db/usage?password=***&sslmode=require"
    assert find(url).name == shown
    assert "secret" not in name_of("postgresql://db/usage?sslmode=off&PassWord=secret")
    with pytest.raises(StoreError) as raised:
        find("mysql://ada:secret@db/usage")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p/w@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@w@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p?w#x@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p:w\n@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@host:pw@h/d", "postgresql://u@host:***@h/d"),
        ("postgresql://h/d?PASSWORD=pw&x=1", "postgresql://h/d?PASSWORD=***&x=1"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("sqlite:////srv/a:b@c.db", "sqlite:////srv/a:b@c.db"),
    ],
)
def test_no_character_of_a_password_makes_it_visible(url: str, shown: str) -> None:
    assert name_of(url) == shown


def test_what_is_no_path_is_shown_without_its_password() -> None:
    with pytest.raises(StoreError, match=r"u:\*\*\*@h") as raised:
        find("postgresql://u:secret@h/\0")
    assert "secret" not in str(raised.value)


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_a_file_that_cannot_be_looked_at_is_an_error_of_the_system(
    tmp_path: Path,
) -> None:
    (tmp_path / "loop.db").symlink_to(tmp_path / "loop.db")

    with pytest.raises(OSError, match="symbolic links"):
        open_engine(tmp_path / "loop.db")
