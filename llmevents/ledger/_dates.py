"""Moments as people write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from llmevents._errors import LLMEventsError
from llmevents._show import show


UNITS = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
"""Units of what is written as "so long ago"."""

REMEDY = (
    "write 30min, 24h, 7d or 2w (so long ago), now, today, yesterday, 2026-11, "
    "2026-11-01 or 2026-11-01T09:00 (in UTC, unless it ends in an offset)"
)

_AGO = re.compile(r"([0-9]+)([a-z]+)")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"\.([0-9]+)")


class DateError(LLMEventsError, ValueError):
    """A text that says no moment.

    Attributes:
        text: What was given.
    """

    def __init__(self, text: object, reason: str) -> None:
        self.text = text
        super().__init__(f"{show(text)} is no moment: {reason}; {REMEDY}")


def moment(text: str, now: datetime) -> datetime:
    """Return the moment that *text* says, in UTC.

    A day, a month or ``"today"`` is the moment that it begins at. So a window
    that ends with ``"today"`` holds yesterday, and nothing of today.

    Args:
        text: ``"7d"`` or ``"24h"`` (so long before *now*), ``"today"``,
            ``"2026-11-01"``, ``"2026-11-01T09:00"``, ...
        now: With its time zone.

    Raises:
        DateError: It says none.

    Examples:
        >>> now = datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc)
        >>> moment("7d", now).isoformat()
        '2026-11-14T09:30:00+00:00'
        >>> moment("yesterday", now).isoformat()
        '2026-11-20T00:00:00+00:00'
        >>> moment("2026-11-01T09:00+01:00", now).isoformat()
        '2026-11-01T08:00:00+00:00'
    """
    if not isinstance(text, str):
        raise DateError(text, f"it is of type {type(text).__name__}, not text")
    written = text.strip()
    now = now.astimezone(timezone.utc)
    try:
        return _named(written.lower(), now) or _stated(written)
    except (ValueError, OverflowError) as error:
        raise DateError(text, str(error)) from None


def _named(written: str, now: datetime) -> datetime | None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    known = {"now": now, "today": today, "yesterday": today - UNITS["d"]}
    if written in known:
        return known[written]
    ago = _AGO.fullmatch(written)
    if ago is None:
        return None
    unit = UNITS.get(ago[2])
    if unit is None:
        msg = f"{show(ago[2])} is none of the units {', '.join(UNITS)}"
        raise ValueError(msg)
    try:
        return now - int(ago[1]) * unit
    except (OverflowError, ValueError):
        msg = "it is before the year 1"
        raise ValueError(msg) from None


def _stated(written: str) -> datetime:
    if _MONTH.fullmatch(written):
        written += "-01"
    if not _MOMENT.fullmatch(written):
        msg = "it is neither a name, nor a time ago, nor a date"
        raise ValueError(msg)
    # Python 3.10 takes neither Z nor a fraction of other than 3 or 6 digits.
    written = written.upper().replace("Z", "+00:00")
    written = _FRACTION.sub(lambda found: f".{found[1]:0<6}", written)
    stated = datetime.fromisoformat(written)
    if stated.tzinfo is None:
        return stated.replace(tzinfo=timezone.utc)
    return stated.astimezone(timezone.utc)
