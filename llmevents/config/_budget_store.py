"""Where budgets are kept: what settings say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents._errors import OptionError
from llmevents.config._errors import ConfigError, one_of


if TYPE_CHECKING:
    from llmevents.config._given import Given
    from llmevents.llm.budgets import BudgetStore

MEMORY = "memory"

URLS = (
    "the URL of a database, 'sqlite:///' and the path of a file or "
    "'postgresql://user@host/name'"
)

EXPECTED = f"{MEMORY!r}, {URLS}, or a table of url, on_failure and patience"

OPTIONS = ("on_failure", "patience", "url")

METHODS = ("accounts", "announce", "read", "reserve", "settle")


class ChosenStore(NamedTuple):
    """What budgets are kept in.

    Attributes:
        store: None for the memory of the process.
        close: To be called in the end; of a store that was made here.
    """

    store: BudgetStore | None = None
    close: Callable[[], object] | None = None


def read_budget_store(given: Given) -> ChosenStore:
    """Read ``budget_store``: ``"memory"``, a URL, a table with one, or a store."""
    value: Any = given.value
    if value == MEMORY:
        return ChosenStore()
    if isinstance(value, str):
        return _opened(given, {"url": value})
    if isinstance(value, Mapping):
        for option in value:
            if option not in OPTIONS:
                expected = one_of(OPTIONS, option)
                what = "the option of budget_store"
                raise ConfigError(option, what, expected, given.source)
        if "url" in value:
            return _opened(given, value)
    elif all(callable(getattr(value, name, None)) for name in METHODS):
        return ChosenStore(value)
    raise ConfigError(value, "budget_store", EXPECTED, given.source)


def _opened(given: Given, options: Mapping[str, Any]) -> ChosenStore:
    url, expected = options["url"], URLS
    if not isinstance(url, str):
        raise ConfigError(url, "budget_store.url", expected, given.source)
    try:
        from llmevents.ledger._budgets import SqlBudgetStore

        store = SqlBudgetStore(**options)
    except ModuleNotFoundError as error:
        extra = "postgresql" if error.name == "psycopg" else "ledger"
        msg = (
            f"budget_store needs {error.name!r}, which is not installed; "
            f'run: pip install "llmevents[{extra}]"'
        )
        raise ModuleNotFoundError(msg, name=error.name, path=error.path) from error
    except OptionError as error:
        where = f"budget_store.{error.option}"
        if error.option != "url":
            raise ConfigError.at(error, where, given.source) from None
        if isinstance(given.value, str):
            expected, where = EXPECTED, "budget_store"
        raise ConfigError(url, where, expected, given.source) from None
    return ChosenStore(store, store.close)
