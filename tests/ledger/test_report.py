"""Reports and limits, over each kind of store."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from llmevents import OptionError
from llmevents.ledger._duck import JsonlEngine
from llmevents.ledger._limits import (
    FIRST,
    Excess,
    check_day,
    check_quotas,
    check_usage,
    this_month,
    today,
)
from llmevents.ledger._query import Engine, Filter
from llmevents.ledger._record import Record, encode, timestamp
from llmevents.ledger._report import (
    get_task_usage,
    get_user_usage,
    usage_stats,
    user_report,
    write_report,
)
from llmevents.ledger._sql import SqlStore
from llmevents.ledger._sql_query import SqlEngine
from tests.ledger.plain_engine import PlainEngine


NOW = datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc)


def at(moment: datetime) -> str:
    return timestamp(round(moment.timestamp()) * 1_000_000_000)


def call(number: int, *, days_ago: int = 0, **facts: object) -> Record:
    return {
        "schema_version": 1,
        "id": f"{number:04}",
        "event": "llm.chat",
        "timestamp": at(NOW - timedelta(days=days_ago)),
        "status": "success",
        "user_id": "u",
        **facts,
    }


RECORDS = [
    call(
        1,
        model="gpt-4o",
        use_case="chat_answer",
        session_id="s-1",
        task_id="t",
        input_tokens=100,
        output_tokens=20,
        total_tokens=120,
        cost_nano_usd=250_000_000,
        duration_ns=1_000_000_000,
    ),
    call(
        2,
        days_ago=31,
        model="gpt-4o",
        use_case="summarization",
        session_id="s-2",
        input_tokens=10,
        output_tokens=2,
        total_tokens=12,
        cost_nano_usd=500_000_000,
        duration_ns=2_000_000_000,
    ),
    call(3, days_ago=2, status="timeout", session_id="s-1", task_id="t"),
    call(4, user_id="other", total_tokens=10**6, cost_nano_usd=10**12),
    {**call(5), "event": "llm.task"},
]


@pytest.fixture(params=["plain", "jsonl", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "plain":
        yield PlainEngine(RECORDS)
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'usage.db'}"
        with closing(SqlStore(url)) as store:
            store.add(*RECORDS)
            yield SqlEngine(store.url)
        return
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"".join(map(encode, RECORDS)))
    with closing(JsonlEngine(path, threads=1)) as engine:
        yield engine


def test_a_report_says_all_of_a_user(engine: Engine) -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    assert user_report(engine, "u", now=tokyo) == {
        "user_id": "u",
        "generated_at": "2026-11-21T09:30:00Z",
        "overall_stats": {
            "total_calls": 3,
            "successful_calls": 2,
            "failed_calls": 1,
            "total_input_tokens": 110,
            "total_output_tokens": 22,
            "total_tokens": 132,
            "avg_latency_ms": 1500.0,
            "total_cost_estimate": 0.75,
            "total_cost_nano_usd": 750_000_000,
            "unpriced_calls": 1,
            "by_model": {
                "gpt-4o": {
                    "calls": 2,
                    "input_tokens": 110,
                    "output_tokens": 22,
                    "total_tokens": 132,
                },
                "unknown": {
                    "calls": 1,
                    "input_tokens": 0,
                    "output_tokens": 0,
                    "total_tokens": 0,
                },
            },
            "by_operation": {
                "summarization": {
                    "calls": 1,
                    "input_tokens": 10,
                    "output_tokens": 2,
                    "total_tokens": 12,
                },
                "chat_answer": {
                    "calls": 1,
                    "input_tokens": 100,
                    "output_tokens": 20,
                    "total_tokens": 120,
                },
                "unknown": {
                    "calls": 1,
                    "input_tokens": 0,
                    "output_tokens": 0,
                    "total_tokens": 0,
                },
            },
        },
        "last_30_days": {
            "total_calls": 2,
            "total_tokens": 120,
            "total_cost_estimate": 0.25,
        },
        "total_sessions": 2,
        "sessions": {
            "s-1": {
                "total_calls": 2,
                "total_tokens": 120,
                "total_cost_estimate": 0.25,
            },
            "s-2": {
                "total_calls": 1,
                "total_tokens": 12,
                "total_cost_estimate": 0.5,
            },
        },
    }


def test_users_and_tasks_can_be_asked_for_by_themselves(engine: Engine) -> None:
    assert get_user_usage(engine, "u")["total_calls"] == 3
    recent = Filter(since=NOW - timedelta(days=1))
    assert get_user_usage(engine, "u", recent)["total_calls"] == 1
    assert get_task_usage(engine, "t")["failed_calls"] == 1
    assert get_task_usage(engine, "nobody's")["avg_latency_ms"] is None


def test_without_use_cases_the_operation_tells() -> None:
    engine = PlainEngine([call(1, operation="chat"), call(2, operation="embeddings")])
    assert list(usage_stats(engine)["by_operation"]) == ["chat", "embeddings"]


def test_what_is_called_unknown_and_what_is_unknown_are_one() -> None:
    engine = PlainEngine([call(1, model="unknown", total_tokens=1), call(2)])
    assert usage_stats(engine)["by_model"]["unknown"]["calls"] == 2


def test_a_report_of_nobody_is_empty(engine: Engine) -> None:
    report = user_report(engine, "nobody", now=NOW)
    assert report["total_sessions"] == report["overall_stats"]["total_calls"] == 0
    assert report["sessions"] == report["overall_stats"]["by_model"] == {}


def test_a_report_is_written_for_its_reader_alone(tmp_path: Path) -> None:
    nasty = "\x1b[2J\u202e\ud800"
    report = user_report(PlainEngine([call(1, user_id=nasty)]), nasty, now=NOW)
    path = tmp_path / "report.json"
    write_report(report, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data = path.read_bytes()
    assert data.isascii()
    assert b"\x1b" not in data
    assert json.loads(data) == report
    with pytest.raises(FileExistsError, match="is there already"):
        write_report({}, path)
    write_report({}, path, overwrite=True)
    assert path.read_bytes() == b"{}\n"
    stream = io.BytesIO()
    write_report(report, stream)
    assert stream.getvalue() == data
    assert os.listdir(tmp_path) == ["report.json"]


@pytest.mark.parametrize("user", ["", None])
def test_a_report_is_of_somebody(engine: Engine, user: str) -> None:
    with pytest.raises(OptionError, match="expected user to be text"):
        get_user_usage(engine, user or "")
    with pytest.raises(OptionError, match="a datetime with its time zone"):
        user_report(engine, "u", now=NOW.replace(tzinfo=None))


# --- Limits -------------------------------------------------------------------------


def test_who_costs_too_much_is_told_the_dearest_first(engine: Engine) -> None:
    check = check_usage(engine, max_cost_per_user="0.5", max_cost_per_task=0.25)
    assert check.violations == (
        Excess(
            limit="max_cost_per_user",
            key="other",
            unit="nano_usd",
            found=10**12,
            allowed=500_000_000,
        ),
        Excess(
            limit="max_cost_per_user",
            key="u",
            unit="nano_usd",
            found=750_000_000,
            allowed=500_000_000,
        ),
    )
    assert not check.within_limits
    assert check_usage(engine, max_cost_per_task=0.25).within_limits
    assert check_usage(engine).within_limits


def test_more_who_cost_too_much_than_were_asked_for_at_first_are_told() -> None:
    engine = PlainEngine(
        call(n, user_id=f"u-{n:04}" if n else "", cost_nano_usd=n)
        for n in range(FIRST + 20)
    )
    check = check_usage(engine, max_cost_per_user="0.000000005")
    assert [one.found for one in check.violations] == list(range(FIRST + 19, 5, -1))
    one = call(1, user_id="", cost_nano_usd=9)
    assert check_usage(PlainEngine([one]), max_cost_per_user=0).within_limits


def test_an_unusual_day_is_told(engine: Engine) -> None:
    assert check_day(engine, now=NOW, max_tokens=2_000_000).within_limits
    told: list[Excess] = []
    check = check_day(
        engine,
        now=NOW,
        max_tokens=1_000_119,
        max_failures=0,
        max_average_ms=999.9,
        alert=told.append,
    )
    assert [(one.limit, one.found, one.allowed) for one in told] == [
        ("max_tokens", 1_000_120, 1_000_119),
        ("max_average_ms", 1_000_000_000, 999_900_000),
    ]
    assert check.violations == tuple(told)
    yesterday = check_day(engine, now=NOW - timedelta(days=2), max_failures=0)
    assert [one.limit for one in yesterday.violations] == ["max_tokens", "max_failures"]


def test_a_quota_is_told_of_before_it_is_used_up() -> None:
    engine = PlainEngine(
        [
            call(1, user_id="over", total_tokens=100_001),
            call(2, user_id="all", total_tokens=100_000),
            call(3, user_id="soon", total_tokens=90_001),
            call(4, user_id="fine", total_tokens=90_000),
            call(5, user_id="fine", days_ago=21, total_tokens=90_000),
        ]
    )
    told: list[Excess] = []
    check = check_quotas(engine, now=NOW, alert=told.append)
    assert [one.key for one in check.violations] == ["over"]
    assert [one.key for one in check.notices] == ["all", "soon"]
    assert [one.key for one in told] == ["over", "all", "soon"]
    assert check_quotas(engine, now=NOW, user="fine").notices == ()
    assert check_quotas(engine, now=NOW, user="soon").notices != ()


def test_days_and_months_are_those_of_utc() -> None:
    local = datetime(2026, 12, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert today(local).window[0] == "2026-11-30T00:00:00.000000Z"
    assert this_month(local).window[0] == "2026-11-01T00:00:00.000000Z"
    with pytest.raises(OptionError, match="a datetime with its time zone"):
        today(NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"max_cost_per_user": -1}, "max_cost_per_user to be a number of US dollars"),
        ({"max_tokens": 1.5}, "max_tokens to be an integer of 0 or more"),
        ({"max_failures": True}, "max_failures to be an integer of 0 or more"),
        ({"max_tokens_per_user": -1}, "max_tokens_per_user to be an integer"),
        ({"max_average_ms": float("nan")}, "a number of milliseconds"),
        ({"max_average_ms": True}, "a number of milliseconds"),
        ({"notice": 0}, "above 0 and at most 1"),
        ({"notice": "1"}, "above 0 and at most 1"),
    ],
)
def test_an_impossible_limit_is_refused(
    limits: dict[str, object], complaint: str
) -> None:
    with pytest.raises(OptionError, match=complaint):
        check_usage(PlainEngine([]), **limits)  # type: ignore[arg-type]  # that is what is tested
