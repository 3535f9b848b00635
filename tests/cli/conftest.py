from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmevents.cli import _usage_options
from llmevents.config._aliases import ALIASES, KILL_SWITCH
from tests.cli import usage_stores


@pytest.fixture
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In an empty directory, without settings, and always at the same time."""
    theirs = {KILL_SWITCH, *(name for row in ALIASES for name in row.variables)}
    for name in list(os.environ):
        if name.startswith("LLMEVENTS_") or name in theirs:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_usage_options, "utc_now", lambda: usage_stores.NOW)
    return tmp_path


@pytest.fixture(scope="session", params=usage_stores.KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A store of a few calls, of each kind."""
    if request.param == "jsonl":
        pytest.importorskip("duckdb", reason="needs DuckDB")
    return usage_stores.store(request.param, tmp_path_factory.mktemp("usage"))


@pytest.fixture
def kept(nothing_set: Path, made: str) -> str:
    """The same, for a test that does not change it."""
    return made


@pytest.fixture(scope="session")
def made_in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of a few calls."""
    return usage_stores.store("sqlite", tmp_path_factory.mktemp("usage"))


@pytest.fixture
def kept_in_sqlite(nothing_set: Path, made_in_sqlite: str) -> str:
    """The same, for a test of which the kind of store is not the matter."""
    return made_in_sqlite
