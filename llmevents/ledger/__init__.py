"""The ledger: a usage record of every call, kept exactly once, and what can be asked.

Needs the extra ``ledger``. What is here is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from llmevents.ledger._budgets import SqlBudgetStore
    from llmevents.ledger._budgets_turns import BudgetStoreError, SqlBudgetCounts
    from llmevents.ledger._dates import moment
    from llmevents.ledger._duck import JsonlEngine
    from llmevents.ledger._export import Format, export
    from llmevents.ledger._export_otlp import Sent, export_otlp
    from llmevents.ledger._import import Imported, ImportFormat, import_file
    from llmevents.ledger._import_values import Fault
    from llmevents.ledger._jsonl import Counts, Durability, JsonlStore, Line, read
    from llmevents.ledger._limits import (
        Excess,
        UsageCheck,
        check_day,
        check_quotas,
        check_usage,
        this_month,
        today,
    )
    from llmevents.ledger._migrations import NewerLedgerError
    from llmevents.ledger._open import (
        StoreError,
        StoreNotFoundError,
        open_engine,
        open_store,
    )
    from llmevents.ledger._query import (
        Comparison,
        Damage,
        Engine,
        Failure,
        Filter,
        Group,
        Grouping,
        NewerRecordsError,
        Order,
        Session,
        Totals,
        Unique,
        compare,
        top,
    )
    from llmevents.ledger._record import Record, decode, encode, record_of
    from llmevents.ledger._report import (
        get_task_usage,
        get_user_usage,
        usage_stats,
        user_report,
        write_report,
    )
    from llmevents.ledger._rotation import Period, Rotation
    from llmevents.ledger._schema import COLUMNS, EVENTS, SCHEMA_VERSION, Column
    from llmevents.ledger._sql import SqlCounts, SqlStore
    from llmevents.ledger._sql_query import SqlEngine


__all__ = [
    "COLUMNS",
    "EVENTS",
    "SCHEMA_VERSION",
    "BudgetStoreError",
    "Column",
    "Comparison",
    "Counts",
    "Damage",
    "Durability",
    "Engine",
    "Excess",
    "Failure",
    "Fault",
    "Filter",
    "Format",
    "Group",
    "Grouping",
    "ImportFormat",
    "Imported",
    "JsonlEngine",
    "JsonlStore",
    "Line",
    "NewerLedgerError",
    "NewerRecordsError",
    "Order",
    "Period",
    "Record",
    "Rotation",
    "Sent",
    "Session",
    "SqlBudgetCounts",
    "SqlBudgetStore",
    "SqlCounts",
    "SqlEngine",
    "SqlStore",
    "StoreError",
    "StoreNotFoundError",
    "Totals",
    "Unique",
    "UsageCheck",
    "check_day",
    "check_quotas",
    "check_usage",
    "compare",
    "decode",
    "encode",
    "export",
    "export_otlp",
    "get_task_usage",
    "get_user_usage",
    "import_file",
    "moment",
    "open_engine",
    "open_store",
    "read",
    "record_of",
    "this_month",
    "today",
    "top",
    "usage_stats",
    "user_report",
    "write_report",
]

_MODULES = {
    "_budgets": ("SqlBudgetStore",),
    "_budgets_turns": (
        "BudgetStoreError",
        "SqlBudgetCounts",
    ),
    "_dates": ("moment",),
    "_duck": ("JsonlEngine",),
    "_export": (
        "Format",
        "export",
    ),
    "_export_otlp": (
        "Sent",
        "export_otlp",
    ),
    "_import": (
        "ImportFormat",
        "Imported",
        "import_file",
    ),
    "_import_values": ("Fault",),
    "_limits": (
        "Excess",
        "UsageCheck",
        "check_day",
        "check_quotas",
        "check_usage",
        "this_month",
        "today",
    ),
    "_jsonl": (
        "Counts",
        "Durability",
        "JsonlStore",
        "Line",
        "read",
    ),
    "_migrations": ("NewerLedgerError",),
    "_open": (
        "StoreError",
        "StoreNotFoundError",
        "open_engine",
        "open_store",
    ),
    "_query": (
        "Comparison",
        "Damage",
        "Engine",
        "Failure",
        "Filter",
        "Group",
        "Grouping",
        "NewerRecordsError",
        "Order",
        "Session",
        "Totals",
        "Unique",
        "compare",
        "top",
    ),
    "_record": (
        "Record",
        "decode",
        "encode",
        "record_of",
    ),
    "_report": (
        "get_task_usage",
        "get_user_usage",
        "usage_stats",
        "user_report",
        "write_report",
    ),
    "_rotation": (
        "Period",
        "Rotation",
    ),
    "_schema": (
        "COLUMNS",
        "Column",
        "EVENTS",
        "SCHEMA_VERSION",
    ),
    "_sql": (
        "SqlCounts",
        "SqlStore",
    ),
    "_sql_query": ("SqlEngine",),
}

NEEDED = ("duckdb", "orjson", "sqlalchemy")
"""What the extra brings."""

_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load the module that *name* is from, on first access."""
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        module = import_module(f"{__name__}.{_LAZY[name]}")
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        msg = (
            f"llmevents.ledger needs {error.name!r}, which is not installed; "
            'run: pip install "llmevents[ledger]"'
        )
        raise ModuleNotFoundError(msg, name=error.name, path=error.path) from error
    loaded: object = getattr(module, name)
    globals()[name] = loaded
    return loaded


def __dir__() -> list[str]:
    return sorted(__all__)
