"""Values as others write them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from math import isfinite
from typing import Any, NamedTuple

from llmevents.ledger._record import LARGEST, total_tokens
from llmevents.llm._money import NANO, written


IMPORTED = "import"
"""Source of costs that were imported: nobody knows any more who stated the price."""


class RowError(ValueError):
    """A row that no record can be made of. The text says why."""


class Fault(NamedTuple):
    """A row that was left out.

    Attributes:
        line: Where it begins, from 1.
        reason: Why.
    """

    line: int
    reason: str


_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)? ?"
    r"(?:Z|UTC|([+-])(\d\d):?(\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
HOURS, MINUTES = 24, 60
"""What the offset of a time zone is below. Others would move a call by days."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def nanoseconds(moment: object) -> int | None:
    """Return a moment in Unix nanoseconds; None if it is none.

    Args:
        moment: ISO 8601, in UTC unless it says otherwise, or Unix seconds.
    """
    if isinstance(moment, (int, float)) and not isinstance(moment, bool):
        seconds = written(moment)
        ns = None if seconds is None else round(seconds * 1_000_000_000)
        return ns if ns is not None and 0 <= ns <= LARGEST else None
    found = _MOMENT.fullmatch(moment.strip()) if isinstance(moment, str) else None
    if found is None:
        return None
    day, time, fraction, sign, *zone = found.groups()
    hours, minutes = (int(part or 0) for part in zone)
    if hours >= HOURS or minutes >= MINUTES:
        return None
    try:
        since = datetime.fromisoformat(f"{day}T{time}+00:00") - _EPOCH
    except ValueError:
        return None
    offset = timedelta(hours=hours, minutes=minutes)
    since += offset if sign == "-" else -offset
    whole = (since.days * 86_400 + since.seconds) * 1_000_000_000
    ns = whole + int(f"{fraction or '':0<9}")
    return ns if 0 <= ns <= LARGEST else None


def integer(value: object) -> int | None:
    """Return a count of 0 or more, also from digits; None for anything else."""
    number = written(value)
    if number is None or number.denominator != 1 or not 0 <= number <= LARGEST:
        return None
    return number.numerator


def number(value: object) -> float | None:
    """Return a finite number, also from text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if isfinite(found) else None


def nano_usd(dollars: object) -> int | None:
    """Return US dollars as nano-dollars, exactly what is written; None if none are."""
    amount = written(dollars)
    if amount is None or amount < 0:
        return None
    nano = round(amount * NANO)
    return nano if nano <= LARGEST else None


def from_milliseconds(milliseconds: object) -> int | None:
    """Return nanoseconds, exactly; None if it is no time."""
    amount = written(milliseconds)
    if amount is None or amount < 0:
        return None
    ns = round(amount * 1_000_000)
    return ns if ns <= LARGEST else None


def text(value: object) -> str | None:
    """Return text that is not empty, or a number as text; None for anything else."""
    if isinstance(value, str):
        return value or None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else None


def parsed(value: object) -> object:
    """Return what JSON in a text says; everything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value or None


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object, also from JSON; an empty one for anything else."""
    found = parsed(value)
    return found if isinstance(found, dict) else {}


def id_of(row: Mapping[str, Any]) -> str:
    """Return an id for a row that has none: the same for the same row."""
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return f"import-{sha256(canonical.encode()).hexdigest()[:32]}"


def with_total(event: str, tokens: dict[str, int | None]) -> dict[str, int | None]:
    """Return *tokens* of a call with the total, if it is not stated but known."""
    total = tokens.get("total_tokens")
    if total is None:
        entered, left = tokens.get("input_tokens"), tokens.get("output_tokens")
        total = total_tokens(event, entered, left)
    return {**tokens, "total_tokens": total}


def stated(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what is unknown."""
    return {name: value for name, value in record.items() if value is not None}
