"""Which values may be measurements."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import isfinite, nan
from operator import index
from typing import Any


# Tried in this order: what can be an integer stays exact.
CONVERSIONS: tuple[tuple[str, Callable[[Any], int | float]], ...] = (
    ("__index__", index),
    ("__float__", float),
)

BOOLEANS = frozenset({"bool", "bool_"})
"""Names of the types of truth values, Python's and NumPy's."""


def clean_number(value: object) -> int | float | None:
    """Return *value* as a plain finite number, or None where it is none.

    Integers stay exact; NumPy scalars, `decimal.Decimal` and the like become `int`
    or `float`. NaN, infinity, bool, None and text are refused: they would poison
    every sum they reach. Never raises.
    """
    kind = type(value)
    if kind is int:
        return value  # type: ignore[return-value]  # its type is exactly int
    if kind is float:
        return value if isfinite(value) else None  # type: ignore[arg-type, return-value]  # exactly float
    if kind.__name__ in BOOLEANS:
        return None
    number = _convert(value, kind)
    return number if isinstance(number, int) or isfinite(number) else None


def _convert(value: object, kind: type) -> int | float:
    """Return *value* as a number; NaN where it is none."""
    for method, convert in CONVERSIONS:
        # Asked of the type: a buffer has no such method, and float() would read it.
        if hasattr(kind, method):
            with suppress(Exception):  # converting runs code of unknown types
                return convert(value)
    return nan
