from __future__ import annotations

from datetime import datetime, timezone

import pytest

from llmevents.llm._windows import calendar_period, utc_datetime


def _nano(*moment: int) -> int:
    read = datetime(*moment, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]  # from year to minute
    return int(read.timestamp()) * 10**9


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        pytest.param("hour", (2026, 2, 28, 13), (2026, 2, 28, 14), id="hour"),
        pytest.param("day", (2026, 2, 28), (2026, 3, 1), id="day"),
        pytest.param("week", (2026, 2, 23), (2026, 3, 2), id="week"),
        pytest.param("month", (2026, 2, 1), (2026, 3, 1), id="month"),
        pytest.param("year", (2026, 1, 1), (2027, 1, 1), id="year"),
    ],
)
def test_periods_are_those_of_the_calendar(
    window: str, start: tuple[int, ...], end: tuple[int, ...]
) -> None:
    at = _nano(2026, 2, 28, 13, 59)
    assert calendar_period(window, at) == (_nano(*start), _nano(*end))


@pytest.mark.parametrize("window", ["hour", "day", "month", "year"])
def test_the_last_nanosecond_of_a_year_is_part_of_it(window: str) -> None:
    new_year = _nano(2027, 1, 1)
    assert calendar_period(window, new_year - 1).end == new_year
    assert calendar_period(window, new_year).start == new_year


def test_the_hours_of_all_zones_are_those_of_utc() -> None:
    """Also where clocks are half an hour apart from it."""
    at = _nano(2026, 2, 28, 13, 59)
    assert calendar_period("hour", at, "Asia/Kolkata") == calendar_period("hour", at)


def test_a_time_keeps_its_microseconds() -> None:
    at = 1_800_000_000_123_456_789
    assert utc_datetime(at).isoformat() == "2027-01-15T08:00:00.123456+00:00"
