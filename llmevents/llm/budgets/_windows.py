"""The periods that limits are for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from llmevents._errors import OptionError


if TYPE_CHECKING:
    from datetime import date, timedelta, tzinfo

    Duration: TypeAlias = str | timedelta

_SECOND = 1_000_000_000

_LENGTHS: Mapping[str, int] = {
    "w": 7 * 86_400 * _SECOND,
    "d": 86_400 * _SECOND,
    "h": 3_600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 1_000_000,
}
"""Letters of a length of time -> nanoseconds; the longest first."""

_DURATION = re.compile(r"(\d{1,9})\s*(w|d|h|m|s|ms)")

CALENDAR = ("day", "week", "month", "year")
"""Periods of the calendar. Weeks begin on Monday, as in ISO 8601."""

_LONGEST = 100 * 366 * _LENGTHS["d"]

_DURATION_EXPECTED = (
    "a timedelta above 0 or text such as '30s', '10m', '24h', '7d', 100 years at most"
)


class Period(NamedTuple):
    """A period of the calendar: wall-clock nanoseconds, the end excluded."""

    start: int
    end: int


UNLIMITED = Period(0, 0)
"""What stands for the period of a window that is none of the calendar."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a limit is for.

    Attributes:
        text: As events and messages state it.
        rolling: Length of a rolling window in nanoseconds, or 0.
        calendar: ``"day"``, ``"week"``, ``"month"`` or ``"year"``; or "".
        timezone: IANA name of the zone whose calendar it is.
    """

    text: str
    rolling: int = 0
    calendar: str = ""
    timezone: str = "UTC"

    def period(self, now_ns: int) -> Period:
        """Return the period of the calendar around *now_ns*, wall-clock time."""
        if not self.calendar:
            return UNLIMITED
        from datetime import datetime

        zone = load_zone(self.timezone)
        today = datetime.fromtimestamp(now_ns // _SECOND, zone).date()
        first, following = _bounds(today, self.calendar)
        return Period(_midnight(first, zone), _midnight(following, zone))


def read_window(value: object, timezone: object) -> Window:
    """Return the window that was meant.

    Raises:
        OptionError: It is none.
    """
    zone = _read_zone(timezone)
    if value is None:
        return Window("total")
    if isinstance(value, str) and value in CALENDAR:
        return Window(value, calendar=value, timezone=zone)
    try:
        length, text = read_duration(value, "window")
    except OptionError:
        names = ", ".join(map(repr, CALENDAR))
        expected = f"one of {names}, None or a rolling window: {_DURATION_EXPECTED}"
        raise OptionError(value, "window", expected) from None
    return Window(text, rolling=length)


def read_duration(value: object, option: str) -> tuple[int, str]:
    """Return a length of time in nanoseconds, and as text.

    Raises:
        OptionError: It is none, or is not above 0.
    """
    length = _duration(value)
    if not 0 < length <= _LONGEST:
        raise OptionError(value, option, _DURATION_EXPECTED)
    return length, _text(length)


def _duration(value: object) -> int:
    from datetime import timedelta

    if isinstance(value, timedelta):
        whole = value.days * 86_400 + value.seconds
        return whole * _SECOND + value.microseconds * 1_000
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    return 0 if found is None else int(found[1]) * _LENGTHS[found[2]]


def _text(length: int) -> str:
    for letters, unit in _LENGTHS.items():
        # A day is written as 24 hours: it is no day of the calendar.
        is_fit = unit < _LENGTHS["d"] or length > _LENGTHS["d"]
        if is_fit and length % unit == 0:
            return f"{length // unit}{letters}"
    return f"{length / _SECOND:g}s"


def _read_zone(value: object) -> str:
    if isinstance(value, str):
        try:
            load_zone(value)
        except (KeyError, ValueError, OSError):  # unknown, no name, a directory
            expected = "'UTC' or a time zone that this machine knows"
            raise OptionError(value, "timezone", expected) from None
        return value
    raise OptionError(value, "timezone", "the IANA name of a time zone")


def load_zone(name: str) -> tzinfo:
    """Return the zone; UTC needs no database of time zones."""
    from datetime import timezone

    if name == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def _bounds(today: date, calendar: str) -> tuple[date, date]:
    """Return the first day of the period, and the first of the next."""
    from datetime import timedelta

    if calendar == "day":
        return today, today + timedelta(days=1)
    if calendar == "week":
        monday = today - timedelta(days=today.weekday())
        return monday, monday + timedelta(days=7)
    if calendar == "month":
        first = today.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1)
    return today.replace(month=1, day=1), today.replace(
        year=today.year + 1, month=1, day=1
    )


def _midnight(day: date, zone: tzinfo) -> int:
    """Return when *day* begins; where that hour is skipped, the moment it is."""
    from datetime import datetime

    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(start.timestamp()) * _SECOND
