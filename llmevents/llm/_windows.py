"""Periods of the calendar, as prices, thresholds and budgets have them."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple


SECOND = 1_000_000_000
"""Nanoseconds."""

HOUR = 3_600 * SECOND

DAY = 24 * HOUR
"""Nanoseconds in a day of UTC, which has no leap seconds in Unix time."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Period(NamedTuple):
    """A period: wall-clock nanoseconds, the end excluded."""

    start: int
    end: int


def utc_period(at: int, length: int) -> Period:
    """Return the period around a time, of those that follow each other since 1970.

    Args:
        at: In nanoseconds since the Unix epoch.
        length: `HOUR` or `DAY`.
    """
    start = at - at % length
    return Period(start, start + length)


def calendar_period(name: str, at: int, zone: str = "UTC") -> Period:
    """Return the period of the calendar around a time.

    Args:
        name: ``"hour"``, ``"day"``, ``"week"``, ``"month"`` or ``"year"``. Hours are
            those of UTC. Weeks begin on Monday, as in ISO 8601.
        at: In nanoseconds since the Unix epoch.
        zone: IANA name of the zone whose calendar it is.
    """
    if name == "hour":
        return utc_period(at, HOUR)
    there = load_zone(zone)
    today = datetime.fromtimestamp(at // SECOND, there).date()
    first, following = _bounds(today, name)
    return Period(_midnight(first, there), _midnight(following, there))


def load_zone(name: str) -> tzinfo:
    """Return the zone; UTC needs no database of time zones."""
    if name == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def utc_datetime(at: int) -> datetime:
    """Return a time in nanoseconds since the Unix epoch as UTC, in microseconds."""
    # In integers: a float has no room for the microseconds.
    return EPOCH + timedelta(microseconds=at // 1_000)


def _bounds(today: date, calendar: str) -> tuple[date, date]:
    """Return the first day of the period, and the first of the next."""
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
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(start.timestamp()) * SECOND
