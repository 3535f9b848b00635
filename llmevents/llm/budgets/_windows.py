"""The periods that limits are for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from llmevents._errors import OptionError
from llmevents.llm._windows import (
    DAY,
    HOUR,
    SECOND,
    Period,
    calendar_period,
    load_zone,
)


if TYPE_CHECKING:
    from datetime import timedelta

    Duration: TypeAlias = str | timedelta

_LENGTHS: Mapping[str, int] = {
    "w": 7 * DAY,
    "d": DAY,
    "h": HOUR,
    "m": 60 * SECOND,
    "s": SECOND,
    "ms": 1_000_000,
}
"""Letters of a length of time -> nanoseconds; the longest first."""

_DURATION = re.compile(r"(\d{1,9})\s*(w|d|h|m|s|ms)")

CALENDAR = ("day", "week", "month", "year")
"""Periods of the calendar. Weeks begin on Monday, as in ISO 8601."""

_LONGEST = 100 * 366 * DAY

_DURATION_EXPECTED = (
    "a timedelta above 0 or text such as '30s', '10m', '24h', '7d', 100 years at most"
)


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
        return calendar_period(self.calendar, now_ns, self.timezone)


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
        part = value.seconds * SECOND + value.microseconds * 1_000
        return value.days * DAY + part
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    return 0 if found is None else int(found[1]) * _LENGTHS[found[2]]


def _text(length: int) -> str:
    for letters, unit in _LENGTHS.items():
        # A day is written as 24 hours: it is no day of the calendar.
        is_fit = unit < DAY or length > DAY
        if is_fit and length % unit == 0:
            return f"{length // unit}{letters}"
    return f"{length / SECOND:g}s"


def _read_zone(value: object) -> str:
    if isinstance(value, str):
        try:
            load_zone(value)
        except (KeyError, ValueError, OSError):  # unknown, no name, a directory
            expected = "'UTC' or a time zone that this machine knows"
            raise OptionError(value, "timezone", expected) from None
        return value
    raise OptionError(value, "timezone", "the IANA name of a time zone")
