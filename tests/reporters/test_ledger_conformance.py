"""What holds for every reporter, with each kind of store, at once and in batches."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmevents.ledger import read
from llmevents.reporting import Reporter
from llmevents.testing import ReporterConformance
from llmevents_ledger import LedgerReporter


class TestFile(ReporterConformance):
    """A file of JSON lines."""

    supports_fork = True
    durability: ClassVar[str] = "process"
    has_file: ClassVar[bool] = True
    has_database: ClassVar[bool] = False
    bad_options = (
        {"durability": "disk"},
        {"rotate_every": "week"},
        {"rotate_bytes": 0},
        {"url": "nonsense"},
    )

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self.file, self.database = tmp_path / "calls.jsonl", tmp_path / "usage.db"

    def make(self, **options: Any) -> Reporter:  # noqa: ANN401  # wrong ones too
        usual: dict[str, Any] = {"durability": self.durability}
        if self.has_file:
            usual["jsonl"] = self.file
        if self.has_database:
            usual["url"] = f"sqlite:///{self.database}"
        return LedgerReporter(**usual | options)

    def received(self) -> int:
        found = len(list(read(self.file))) if self.file.exists() else 0
        if self.database.exists():
            with closing(sqlite3.connect(self.database)) as database:
                ((rows,),) = database.execute("SELECT count(*) FROM calls")
            found += rows
        return found

    def vanish(self) -> None:
        for path in (self.file, self.database):
            path.unlink(missing_ok=True)
            path.mkdir()


class TestFileInBatches(TestFile):
    """A file that a thread writes."""

    durability = "batch"


class TestDatabase(TestFile):
    """A database of SQLite."""

    has_file = False
    has_database = True


class TestBothInBatches(TestFileInBatches):
    """Both at once, written by a thread."""

    has_database = True
