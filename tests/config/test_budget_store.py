"""Where budgets are kept, from settings to several processes that share it."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmevents import BudgetExceededError, Bus, ConfigError, configure, llm
from llmevents.config import Telemetry, get_config
from llmevents.config._prepare import prepare
from llmevents.ledger._budgets import SqlBudgetStore
from llmevents.llm.budgets import MemoryBudgetStore


BUDGETS = {"quota": {"limit": 2, "unit": "calls"}}

FILE = """
budget_store = "sqlite:///usage.db"

[budgets.quota]
limit = 2
unit = "calls"
"""


def ask(bus: Bus) -> None:
    with llm.chat(provider="acme", model="tiny-1", bus=bus):
        pass


def start(**settings: Any) -> Telemetry:  # noqa: ANN401  # of each its own type
    """Configure as one of several processes does, each with a bus of its own."""
    return configure(bus=Bus(), logger=False, metrics=False, **settings)


def test_what_one_process_spends_another_cannot() -> None:
    Path("llmevents.toml").write_text(FILE)
    for _ in range(2):
        with start() as telemetry:
            ask(telemetry.bus)
    with start() as telemetry:
        with pytest.raises(BudgetExceededError, match="quota"):
            ask(telemetry.bus)
        (status,) = telemetry.budgets()
        assert (status.spent, status.reserved) == (2, 0)
        assert telemetry.status().budgets == {
            "refused": 1,
            "overshoots": 0,
            "store_failures": 0,
            "unseen": 0,
            "waiting": 0,
            "lost": 0,
        }


def test_the_memory_of_the_process_is_the_default() -> None:
    with start(budgets=BUDGETS) as telemetry:
        ask(telemetry.bus)
        assert get_config()["budget_store"].value == "memory"
        assert telemetry.status().budgets == {
            "refused": 0,
            "overshoots": 0,
            "store_failures": 0,
        }
    with start() as telemetry:
        assert telemetry.status().budgets == {}
    assert list(Path().iterdir()) == []


def test_a_table_says_what_happens_without_the_database() -> None:
    table = {"url": "sqlite:///usage.db", "on_failure": "refuse", "patience": 0.01}
    with start(budgets=BUDGETS, budget_store=table) as telemetry:
        ask(telemetry.bus)
        with closing(sqlite3.connect("usage.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(BudgetExceededError):
                ask(telemetry.bus)
    with start(budgets=BUDGETS, budget_store="sqlite:///usage.db") as telemetry:
        ask(telemetry.bus)
        assert telemetry.budgets()[0].spent == 2


def test_a_variable_says_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMEVENTS_BUDGET_STORE", "postgresql://u:secret@host/db")
    prepared = prepare({"budgets": BUDGETS})
    assert isinstance(prepared.budget_store.store, SqlBudgetStore)
    setting = prepared.settings["budget_store"]
    assert "secret" not in str(setting.value)
    assert setting.source == "variable LLMEVENTS_BUDGET_STORE"
    monkeypatch.setenv("LLMEVENTS_BUDGET_STORE", "memory")
    assert prepare({"budgets": BUDGETS}).budget_store == (None, None)


def test_a_store_is_used_as_it_is_and_stays_open() -> None:
    store = MemoryBudgetStore()
    for _ in range(2):
        with start(budgets=BUDGETS, budget_store=store) as telemetry:
            ask(telemetry.bus)
    (account,) = store.accounts("quota")
    assert store.read([account])[0].spent == 2


def test_a_store_without_budgets_is_noted_and_nothing_is_made() -> None:
    prepared = prepare({"budget_store": "sqlite:///usage.db"})
    assert prepared.problems == []
    (note,) = prepared.notes
    assert note == (
        "budget_store has no effect: no budgets are set (from keyword budget_store)"
    )
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("usage.db", "budget_store to be 'memory', the URL of a database"),
        (7, "budget_store to be 'memory', the URL of a database"),
        ({"on_failure": "allow"}, "or a table of url, on_failure and patience"),
        ({"url": 7}, "budget_store.url to be the URL of a database"),
        (
            "mysql://u:secret@host/db",
            "budget_store to be 'memory', the URL .*'postgresql://user@host/name', or",
        ),
        ("mysql://u:secret@[host", "budget_store to be 'memory', the URL"),
        ({"url": "sqlite://"}, "budget_store.url to be the URL of a database"),
        (
            {"url": "sqlite:///a.db", "on_failure": "open"},
            "budget_store.on_failure to be 'allow' or 'refuse'",
        ),
        (
            {"url": "sqlite:///a.db", "patience": 0},
            "budget_store.patience to be a finite number of seconds",
        ),
        ({"uri": "sqlite:///a.db"}, r"the option of budget_store.*nearest: 'url'"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_said_before_anything_starts(
    value: object, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        start(budgets=BUDGETS, budget_store=value)
    assert "keyword budget_store" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "url", "command"),
    [
        ("sqlalchemy", "sqlite:///a.db", r'pip install "llmevents\[ledger\]"'),
        ("psycopg", "postgresql://h/d", r'pip install "llmevents\[postgresql\]"'),
    ],
)
def test_a_module_that_is_not_installed_is_named_with_the_command(
    module: str, url: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module == "sqlalchemy":
        for name in list(sys.modules):
            if name.startswith(("sqlalchemy", "llmevents.ledger")):
                monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"needs '{module}'.*{command}"):
        start(budgets=BUDGETS, budget_store=url)
