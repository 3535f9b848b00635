"""Which values may be measurements."""

from __future__ import annotations

from math import isfinite
from operator import index


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
    if isinstance(value, (bool, str, bytes, bytearray)) or value is None:
        return None
    return _convert(value)


def _convert(value: object) -> int | float | None:
    try:
        return index(value)  # type: ignore[arg-type]  # a TypeError is the answer "no integer"
    except Exception:  # noqa: BLE001, S110  # it runs code of unknown types
        pass
    try:
        number = float(value)  # type: ignore[arg-type]  # likewise
    except Exception:  # noqa: BLE001  # likewise
        return None
    return number if isfinite(number) else None
