"""Budgets as tables of configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llmevents._errors import OptionError
from llmevents._show import show
from llmevents.llm.budgets._budget import Budget


OPTIONS = frozenset(
    {
        "limit", "unit", "per", "window", "timezone", "warn", "on_exceeded", "match",
        "reserve", "max_input_tokens", "lease", "missing",
    }
)  # fmt: skip
"""What a table may say; the options of `Budget`."""


def budgets_from_mapping(mapping: Mapping[str, object]) -> tuple[Budget, ...]:
    """Return the budgets of ``[tool.llmevents.budgets.NAME]`` tables, in their order.

    Args:
        mapping: Name -> table of the options of `Budget`.

    Raises:
        OptionError: A table cannot be used. Its ``option`` is the dotted name of the
            setting, ``"budgets.users.limit"``; of an unknown one, the nearest is told.

    Examples:
        >>> from llmevents.llm.budgets import budgets_from_mapping
        >>> table = {"users": {"limit": 100_000, "unit": "tokens", "per": "user_id"}}
        >>> [budget.name for budget in budgets_from_mapping(table)]
        ['users']
    """
    if not isinstance(mapping, Mapping):
        raise OptionError(mapping, "budgets", "a table of tables by name")
    return tuple([_budget(name, table) for name, table in mapping.items()])


def _budget(name: str, table: object) -> Budget:
    where = f"budgets.{name}"
    if not isinstance(table, Mapping):
        raise OptionError(table, where, "a table such as {limit = 10, window = 'day'}")
    for option in table:
        if option not in OPTIONS:
            expected = f"one of the options {nearest(OPTIONS, option)}"
            raise OptionError(option, where, expected)
    if "limit" not in table:
        raise OptionError(dict(table), where, "a table that has a limit")
    options: dict[str, Any] = dict(table)
    try:
        return Budget(name, **options)
    except OptionError as error:
        expected = str(error).removeprefix(f"expected {error.option} to be ")
        expected = expected.removesuffix(f", got {show(error.value)}")
        raise OptionError(error.value, f"{where}.{error.option}", expected) from None


def nearest(names: Iterable[str], given: object) -> str:
    """Return the names that there are, and which of them is nearest to *given*."""
    from difflib import get_close_matches

    known = sorted(names)
    close = get_close_matches(str(given)[:100], known, n=1, cutoff=0)
    return f"{' or '.join(map(repr, known))} (nearest: {close[0]!r})"
