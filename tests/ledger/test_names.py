"""What `llmevents.ledger` offers, and what it says where its libraries are missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmevents import ledger


def test_all_names_are_there() -> None:
    for name in ledger.__all__:
        assert getattr(ledger, name) is not None
    assert dir(ledger) == sorted(ledger.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ledger.nothing


def test_nothing_is_imported_before_it_is_used() -> None:
    source = "import sys, llmevents.ledger; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert not {"duckdb", "orjson", "sqlalchemy"} & set(done.stdout.split())


@pytest.mark.parametrize("missing", ["sqlalchemy", "elsewhere"])
def test_a_missing_library_is_named_with_what_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        msg = f"No module named {missing!r}"
        raise ModuleNotFoundError(msg, name=missing)

    monkeypatch.delitem(vars(ledger), "SqlStore", raising=False)
    monkeypatch.setattr(ledger, "import_module", fail)
    remedy = r"pip install \"llmevents\[ledger\]\"" if missing == "sqlalchemy" else "No"
    with pytest.raises(ModuleNotFoundError, match=remedy):
        _ = ledger.SqlStore
