"""The values of records for formats in which every column is of one type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from llmevents._show import printable
from llmevents.ledger._record import LARGEST, Record, narrowed
from llmevents.ledger._schema import COLUMNS, Kind


FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a formula begins with in spreadsheets, also in the full width of East Asia."""

CONTROLS = frozenset("\t\r\n")
"""Likewise, for some of them (OWASP, "CSV Injection")."""


_INSIDE = re.compile(rf'([;|]["\s]*)([{re.escape("".join(sorted(FORMULA)))}])')
"""Where a formula begins for spreadsheets that separate cells by these, as they do
where the comma is of decimals. A tab, which some separate by, is escaped."""


def row_of(record: Record) -> dict[str, Any]:
    """Return what is known of a record by column; a value of another kind is not.

    Lists and metadata are JSON. What is no field of a record is left out.
    """
    row: dict[str, Any] = {}
    for name, value in record.items():
        fit = _FIT.get(name)
        if fit is not None and value is not None:
            fitted = fit(value)
            if fitted is not None:
                row[name] = fitted
    return row


def plain(text: str) -> str:
    """Return *text* with lone surrogates, which UTF-8 has not, replaced."""
    if text.isascii():
        return text
    pairs = text.encode("utf-16-le", "surrogatepass")
    return pairs.decode("utf-16-le", "replace")


def harmless(text: str) -> str:
    r"""Return *text* for a cell: on one line, printable, and never a formula.

    What cannot be printed is escaped as `repr` does it: ``"\n"``, ``"\x1b"``,
    ``"\u202e"``. What a spreadsheet would take for a formula gets an apostrophe before
    it, also where spaces come first, and after ``;`` and ``|``.
    """
    begin = text.lstrip()[:1]
    is_formula = begin in FORMULA or text[:1] in CONTROLS
    safe = _INSIDE.sub(r"\1'\2", printable(text))
    return f"'{safe}" if is_formula else safe


def harmless_json(text: str) -> str:
    """Return a list or an object as JSON for a cell: it says the same, escaped."""
    # These are in its texts alone, where any character may be escaped.
    return _INSIDE.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", text)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return None if isinstance(value, (dict, list)) else json.dumps(value)


def _integer(value: object) -> int | None:
    is_integer = type(value) is int and -LARGEST <= value <= LARGEST
    return value if is_integer else None  # type: ignore[return-value]  # says its type


def _number(value: object) -> float | None:
    if type(value) is int:
        return float(value) if abs(value) <= LARGEST else None
    return value if type(value) is float and isfinite(value) else None


def _boolean(value: object) -> bool | None:
    return value if type(value) is bool else None


def _json(value: object) -> str:
    return json.dumps(narrowed(value), separators=(",", ":"))


_OF_KIND: Mapping[Kind, Callable[[Any], object]] = {
    "text": _text,
    "timestamp": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "texts": _json,
    "object": _json,
}

_FIT: Mapping[str, Callable[[Any], object]] = {
    column.name: _OF_KIND[column.kind] for column in COLUMNS
}
