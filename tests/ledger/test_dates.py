"""Moments as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.ledger._dates import DateError, moment


NOW = datetime(2026, 11, 21, 9, 30, 15, 250_000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("now", "2026-11-21T09:30:15.250000"),
        ("today", "2026-11-21T00:00:00"),
        (" Yesterday ", "2026-11-20T00:00:00"),
        ("30min", "2026-11-21T09:00:15.250000"),
        ("24h", "2026-11-20T09:30:15.250000"),
        ("7d", "2026-11-14T09:30:15.250000"),
        ("2W", "2026-11-07T09:30:15.250000"),
        ("0d", "2026-11-21T09:30:15.250000"),
        ("2026-11", "2026-11-01T00:00:00"),
        ("2026-11-01", "2026-11-01T00:00:00"),
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("2026-11-01T09:00", "2026-11-01T09:00:00"),
        ("2026-11-01 09:00", "2026-11-01T09:00:00"),
        ("2026-11-01t09:00:07z", "2026-11-01T09:00:07"),
        ("2026-11-01T09:00:07.5", "2026-11-01T09:00:07.500000"),
        ("2026-11-01T09:00:07.000001Z", "2026-11-01T09:00:07.000001"),
        ("2026-11-01T00:30+01:00", "2026-10-31T23:30:00"),
        ("2026-11-01T00:30-05:30", "2026-11-01T06:00:00"),
    ],
)
def test_a_moment_is_what_people_mean_by_it(text: str, iso: str) -> None:
    assert moment(text, NOW).isoformat() == f"{iso}+00:00"


def test_days_are_those_of_utc_wherever_it_is_asked() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=15)))
    assert east.day == 22
    assert moment("today", east) == moment("today", NOW)
    assert moment("1h", east) == moment("1h", NOW)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither a name, nor a time ago, nor a date"),
        ("last week", "neither a name, nor a time ago, nor a date"),
        ("-7d", "neither a name, nor a time ago, nor a date"),
        ("1.5h", "neither a name, nor a time ago, nor a date"),
        ("01.11.2026", "neither a name, nor a time ago, nor a date"),
        ("2026-11-01T9:00", "neither a name, nor a time ago, nor a date"),
        ("\u0667d", "neither a name, nor a time ago, nor a date"),
        ("7m", "'m' is none of the units min, h, d, w"),
        ("7 d", "neither a name, nor a time ago, nor a date"),
        ("999999d", "it is before the year 1"),
        ("9" * 5_000 + "d", "it is before the year 1"),
        ("2026-02-29", "day"),
        ("2026-13", "month must be in 1..12"),
        ("0000-01-01", "year"),
        ("2026-11-01T25:00", "hour must be in 0..23"),
        ("0001-01-01T00:00+01:00", "out of range"),
        (7, "it is of type int, not text"),
    ],
    ids=range(17),
)
def test_what_says_no_moment_is_refused_with_the_reason_and_the_remedy(
    text: str, reason: str
) -> None:
    with pytest.raises(
        DateError, match=f"is no moment: .*{reason}.*; write 30min"
    ) as e:
        moment(text, NOW)
    assert e.value.text == text
    assert len(str(e.value)) < 700


@given(st.datetimes(), st.sampled_from(["T", " "]), st.sampled_from(["", "Z"]))
def test_every_moment_can_be_written_to_the_microsecond(
    when: datetime, between: str, end: str
) -> None:
    text = when.isoformat(between, "microseconds") + end
    assert moment(text, NOW) == when.replace(tzinfo=timezone.utc)


@given(st.text(st.characters(), max_size=12) | st.from_regex(r"[0-9]+[a-z]+"))
def test_any_other_text_is_a_clear_error(text: str) -> None:
    try:
        assert moment(text, NOW).utcoffset() == timedelta(0)
    except DateError as error:
        assert str(error).isprintable()  # noqa: PT017  # a few of them are moments
