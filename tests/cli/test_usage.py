"""What the commands of ``llmevents usage`` answer, over both kinds of stores."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llmevents.cli._usage_options import utc_now
from llmevents.ledger import Record
from tests.cli.usage_stores import NOW, Ran, call, store, usage


def lines(ran: Ran) -> list[list[str]]:
    """Return the words of what a command printed, and see that it ended well."""
    assert (ran.status, ran.err) == (0, "")
    return [line.split() for line in ran.out.splitlines()]


def document(*arguments: object) -> Any:  # noqa: ANN401  # as JSON has it
    ran = usage(*arguments, "--json")
    assert (ran.status, ran.err) == (0, "")
    return json.loads(ran.out)


def test_a_summary_says_what_all_calls_came_to(kept: str) -> None:
    ran = usage("summary", "--store", kept)

    words = {line[0]: line[1:] for line in lines(ran) if line}
    assert words["When"] == ["2026-10-22", "to", "2026-11-21", "(UTC)"]
    assert " ".join(words["By"]) == (
        "2 users, 3 sessions, 1 source, 1 task, 3 models, 3 providers"
    )
    assert " ".join(words["Calls"]) == ("5 3 succeeded, 1 failed (20.0 %), 1 cancelled")
    assert " ".join(words["Cost"]) == ("$5.0098 without 2 of unknown price")
    assert " ".join(words["Tokens"]) == (
        "2,001,930 2,001,300 input, 630 output, 100 cached"
    )
    assert words["Latency"][:2] == ["2.00", "s"]
    assert words["gpt-4o"][:2] == ["3", "1"]
    assert ran.out.startswith("Usage in ")
    assert "\x1b" not in ran.out


def test_help_names_every_command() -> None:
    ran = usage("--help")

    named = {line.strip("│ ").split(" ")[0] for line in ran.out.splitlines()}
    assert named >= {"summary", "show", "users", "sessions", "sources", "tasks"}
    assert named >= {"models", "errors", "top", "export", "report", "tail", "watch"}
    assert named >= {"import", "prune"}


def test_what_is_counted_beside_tokens_is_told(nothing_set: Path) -> None:
    record = call(1, event="llm.ocr", pages=1_200, audio_duration_ns=90_000_000_000)

    words = {
        line[0]: " ".join(line[1:])
        for line in lines(
            usage("summary", "--store", store("sqlite", nothing_set, [record]))
        )
        if line
    }

    assert words["Pages"] == "1,200"
    assert words["Audio"] == "1 min 30 s"
    assert words["Cost"].endswith("no call has a known price")
    assert "Images" not in words
    assert words["By"] == "1 model, 1 provider"


def test_what_nobody_states_is_left_out(nothing_set: Path) -> None:
    record = call(1)
    for name in ("provider", "model", "duration_ns"):
        del record[name]

    ran = usage("summary", "--store", store("sqlite", nothing_set, [record]))

    starts = [line.split()[0] for line in ran.out.splitlines() if line]
    assert "By" not in starts
    assert "(no model)" in ran.out
    assert "p95 " not in ran.out.replace("Latency p95", "")


def test_a_summary_for_programs_has_what_is_stored(kept: str) -> None:
    found = document("summary", "--store", kept)

    assert found["totals"]["calls"] == 5
    assert found["totals"]["cost_nano_usd"] == 5_009_850_000
    assert found["unique"]["users"] == 2
    assert found["since"] is None
    assert [one["model"] for one in found["top_models"]] == [
        "gpt-4o",
        "claude-sonnet-4-5",
        "house-model",
    ]
    assert found["top_models"][0]["input_tokens"] == 2_001_000


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        pytest.param(["--days", "7"], 4, id="days"),
        pytest.param(["--days", "0.06"], 2, id="part-of-a-day"),
        pytest.param(["--since", "24h"], 3, id="since"),
        pytest.param(["--until", "2026-11-01"], 1, id="until"),
        pytest.param(["--since", "2026-10", "--until", "yesterday"], 2, id="window"),
        pytest.param(["--user", "ada"], 3, id="user"),
        pytest.param(["--session", "s-2"], 2, id="session"),
        pytest.param(["--source", "doc-1.pdf"], 1, id="source"),
        pytest.param(["--task", "t-1"], 1, id="task"),
        pytest.param(["--model", "house-model"], 1, id="model"),
        pytest.param(["--provider", "anthropic"], 1, id="provider"),
        pytest.param(["--operation", "chat"], 5, id="operation"),
        pytest.param(["--use-case", "summarization"], 1, id="use-case"),
        pytest.param(["--organization", "nobody"], 0, id="organization"),
        pytest.param(["--event", "llm.task"], 1, id="event"),
        pytest.param(["--status", "error"], 1, id="status"),
        pytest.param(["--user", "ada", "--days", "7"], 2, id="two"),
    ],
)
def test_filters_choose_calls(
    kept_in_sqlite: str, arguments: list[str], calls: int
) -> None:
    found = document("summary", *arguments, "--store", kept_in_sqlite)

    assert found["totals"]["calls"] == calls


def test_two_periods_are_compared(kept: str) -> None:
    found = document("summary", "--compare", "25h", "--store", kept)

    assert found["before"]["totals"]["calls"] == 1
    assert found["now"]["totals"]["calls"] == 3
    assert found["change"]["calls"] == 2
    assert found["change"]["cost_nano_usd"] == 1_350_000 - 5_001_000_000
    assert found["before"]["until"] == found["now"]["since"]


def test_a_comparison_shows_the_change(kept: str) -> None:
    ran = usage("summary", "--compare", "25h", "--store", kept)

    words = [" ".join(line) for line in lines(ran)]
    assert words[:2] == [
        "Before: since 2026-11-19 10:00 until 2026-11-20 11:00 UTC",
        "Now: since 2026-11-20 11:00 until 2026-11-21 12:00 UTC",
    ]
    assert "Calls 1 3 +200.0 %" in words
    assert "Failed 0 1 new" in words
    assert "Cost $5.0010 $0.0014 -100.0 %" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--compare", "soon"], "is no moment", id="no-moment"),
        pytest.param(["--compare", "now"], "expected a time before", id="no-time"),
        pytest.param(["--compare", "7d", "--days", "2"], "leave out", id="twice"),
        pytest.param(["--compare", "0900-01-01"], "no period of this", id="too-long"),
        pytest.param(["--days", "7", "--since", "1d"], "not both", id="two-periods"),
        pytest.param(["--days", "1e300"], "no calendar", id="too-long-ago"),
        pytest.param(["--since", "someday"], "write 30min", id="no-date"),
        pytest.param(["--since", "1d", "--until", "2d"], "after 2026", id="backwards"),
        pytest.param(["--status", "fine"], "timeout", id="status"),
        pytest.param(["--event", "chat"], "llm.chat", id="event"),
        pytest.param(["--user", ""], "text that is not empty", id="empty"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    nothing_set: Path, arguments: list[str], message: str
) -> None:
    ran = usage("summary", *arguments, "--store", "not-looked-at.jsonl")

    # A terminal's frame breaks the message into lines.
    words = " ".join(ran.err.replace("│", " ").split())
    assert (ran.status, ran.out) == (2, "")
    assert message in words


@pytest.mark.parametrize(
    ("command", "name", "keys"),
    [
        ("users", "user", ["ada", "grace", None]),
        ("sources", "source", ["doc-1.pdf", None]),
        ("tasks", "task", [None, "t-1"]),
        ("models", "model", ["gpt-4o", "claude-sonnet-4-5", "house-model"]),
        ("providers", "provider", ["openai", "anthropic", "acme"]),
        ("operations", "operation", ["chat"]),
        ("organizations", "organization", [None]),
        ("use-cases", "use_case", ["summarization", None]),
        ("days", "day", ["2026-10-22", "2026-11-19", "2026-11-21"]),
    ],
)
def test_lists_for_programs(
    kept: str, command: str, name: str, keys: list[str | None]
) -> None:
    found = document(command, "--store", kept)

    (rows,) = found.values()
    assert list(found) == [command.replace("-", "_")]
    assert [row[name] for row in rows] == keys
    assert sum(row["calls"] for row in rows) == 5


def test_a_list_for_people(kept: str) -> None:
    rows = lines(usage("users", "--store", kept))

    assert rows[0][:3] == ["User", "Calls", "Failed"]
    assert rows[2] == (
        [
            "ada",
            "3",
            "1",
            "2,001,000",
            "600",
            "2,001,600",
            "$5.0085",
            "2.00",
            "s",
            "2.00",
            "s",
            "2.00",
            "s",
        ]
    )
    assert rows[4][:4] == ["(no", "user)", "1", "0"]
    assert rows[4][4:8] == ["–"] * 4  # noqa: RUF001  # it stands for the unknown


def test_lists_are_ordered_and_cut_as_asked(kept: str) -> None:
    by_name = document("models", "--order", "name", "--limit", "2", "--store", kept)
    by_failures = document("users", "--order", "failures", "--store", kept)

    names = [one["model"] for one in by_name["models"]]
    assert names == ["claude-sonnet-4-5", "gpt-4o"]
    assert by_failures["users"][0]["user"] == "ada"


def test_who_sees_a_part_is_told_so(kept: str) -> None:
    part = usage("models", "--limit", "2", "--store", kept)
    days = usage("days", "--limit", "2", "--store", kept)
    whole = usage("models", "--limit", "3", "--store", kept)

    assert "there are more models: --limit 20" in part.out
    assert "there are more days" in days.out
    assert "2026-10-22" not in days.out
    assert "there are more" not in whole.out


def test_days_can_be_ordered_by_cost(kept: str) -> None:
    found = document("days", "--order", "cost", "--limit", "1", "--store", kept)

    assert [one["day"] for one in found["days"]] == ["2026-11-19"]


def test_sessions_are_those_of_all_providers(kept: str) -> None:
    found = document("sessions", "--store", kept)["sessions"]

    assert [one["session"] for one in found] == ["s-2", "s-1", "s-old"]
    assert found[0]["providers"] == ["anthropic", "openai"]
    assert found[0]["calls"] == 2


def test_sessions_for_people(kept: str) -> None:
    part = usage("sessions", "--limit", "1", "--store", kept)

    rows = lines(part)
    assert rows[2][:5] == ["s-2", "2", "1", "330", "$0.0014"]
    assert rows[2][-2:] == ["claude-sonnet-4-5,", "gpt-4o"]
    assert "there are more sessions" in part.out


def test_sessions_can_be_ordered_by_cost(kept: str) -> None:
    found = document("sessions", "--order", "cost", "--limit", "1", "--store", kept)

    assert [one["session"] for one in found["sessions"]] == ["s-1"]


def test_calls_without_a_session_say_what_to_do(nothing_set: Path) -> None:
    kept = store("sqlite", nothing_set, [call(1)])

    assert "pass session_id=" in usage("sessions", "--store", kept).out


def test_errors_say_how_calls_failed(kept: str) -> None:
    ran = usage("errors", "--store", kept)
    found = document("errors", "--store", kept)

    assert ran.out.startswith("1 of 5 calls failed (20.0 %), all time\n")
    assert lines(ran)[-1] == [
        "RateLimitError",
        "429",
        "openai",
        "chat",
        "1",
        "100.0",
        "%",
    ]
    assert (found["calls"], found["failures"]) == (5, 1)
    assert found["errors"][0]["http_status"] == 429


def test_no_errors_are_good_news(kept: str) -> None:
    ran = usage("errors", "--user", "grace", "--store", kept)

    assert ran == (0, "none of 1 call failed, user_id 'grace', all time\n", "")


def test_the_top_has_bars(kept: str) -> None:
    rows = lines(usage("top", "--store", kept))
    users = lines(usage("top", "users", "--order", "name", "--store", kept))

    assert rows[0] == ["Top", "3", "models", "by", "cost,", "all", "time"]
    assert rows[3][:3] == ["gpt-4o", "█" * 24, "100.0"]
    assert rows[4][:2] == ["claude-sonnet-4-5", "▏"]
    assert users[3][:2] == ["ada", "█" * 24]


def test_the_top_for_programs(kept: str) -> None:
    found = document("top", "use-cases", "--limit", "1", "--store", kept)

    assert [one["use_case"] for one in found["use_cases"]] == ["summarization"]


def test_the_latest_session_is_shown(kept: str) -> None:
    ran = usage("show", "--session", "latest", "--store", kept)

    rows = [" ".join(line) for line in lines(ran)]
    assert rows[0] == "Usage, session_id 's-2', all time"
    assert "By model" in rows
    assert "By operation" in rows
    assert "The last 2 calls" in rows
    assert rows[-2].startswith("2026-11-21 11:00:00 chat gpt-4o RateLimitError 429")
    assert rows[-1].startswith("2026-11-21 10:00:00 chat claude-sonnet-4-5 ok 300 30")


def test_what_is_shown_is_there_for_programs(kept: str) -> None:
    found = document("show", "--user", "ada", "--days", "7", "--store", kept)

    assert found["where"] == {"user_id": "ada"}
    assert found["totals"]["calls"] == 2
    assert found["by_model"][0]["model"] == "gpt-4o"
    assert found["by_operation"][0]["operation"] == "chat"
    assert [one["id"] for one in found["records"]] == ["0004", "0002"]


def test_a_single_call_is_shown(kept: str) -> None:
    ran = usage("show", "--source", "doc-1.pdf", "--limit", "1", "--store", kept)

    assert "The last call\n" in ran.out
    assert "summarization" in ran.out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        pytest.param([], 2, "say which calls to show", id="nothing-said"),
        pytest.param(["--session", "x"], 1, "no calls in", id="unknown"),
        pytest.param(
            ["--session", "latest", "--user", "nobody"],
            1,
            "no call states a session",
            id="no-session",
        ),
    ],
)
def test_what_cannot_be_shown_is_an_error(
    kept: str, arguments: list[str], status: int, message: str
) -> None:
    ran = usage("show", *arguments, "--store", kept)

    assert ran.status == status
    assert message in " ".join(ran.err.replace("│", " ").split())


def test_unknown_calls_are_none_for_programs(kept: str) -> None:
    found = document("show", "--session", "x", "--store", kept)

    assert found["totals"]["calls"] == 0
    assert found["records"] == []


@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
@pytest.mark.parametrize("command", ["summary", "users", "sessions", "errors", "top"])
def test_an_empty_store_says_what_to_do_next(
    nothing_set: Path, kind: str, command: str
) -> None:
    kept = store(kind, nothing_set, [])
    Path("usage.jsonl").touch()

    ran = usage(command, "--store", kept)

    assert (ran.status, ran.err) == (0, "")
    assert "has no calls yet" in ran.out
    assert 'llmevents.configure(instrument=True, reporters={"ledger": {}})' in ran.out


def test_filters_that_leave_nothing_say_so(kept: str) -> None:
    ran = usage("summary", "--user", "nobody", "--store", kept)

    assert ran.status == 0
    assert "for: user_id 'nobody', all time\nTry a longer period" in ran.out


HOSTILE = "\x1b[31mred\x1b[0m\r\n[bold]\u202e:smile: \ud800"


def hostile() -> Record:
    names = ("user_id", "session_id", "source_id", "model", "provider", "operation")
    texts = dict.fromkeys((*names, "use_case", "error_type"), HOSTILE)
    return {**call(1, status="error"), **texts}


@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["summary"],
        ["users"],
        ["sessions"],
        ["errors"],
        ["top"],
        ["show", "--session", "latest"],
        ["tail", "--lines", "1"],
        ["watch", "--once"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_nothing_that_is_recorded_acts_on_a_terminal(
    nothing_set: Path, kind: str, arguments: list[str]
) -> None:
    ran = usage(*arguments, "--store", store(kind, nothing_set, [hostile()]))

    assert ran.status == 0
    assert all(sign.isprintable() or sign == "\n" for sign in ran.out)
    assert "\\x1b[31mred\\x1b[0m\\r\\n[bold]" in ran.out
    assert ":smile:" in ran.out


def test_damaged_lines_are_told_of(nothing_set: Path) -> None:
    kept = store("jsonl", nothing_set)
    with Path(kept).open("ab") as file:
        file.write(b"no record\n{}\n")

    ran = usage("summary", "--json", "--store", kept)

    assert json.loads(ran.out)["totals"]["calls"] == 5
    assert "2 lines are no record and not counted, the first at byte" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "--event", "llm.chat"],
        ["show", "--event", "llm.chat", "--json"],
        ["tail", "--lines", "1"],
        ["summary"],
        ["export", "--tasks"],
        ["export", "--tasks", "--format", "csv"],
    ],
)
def test_a_record_of_odd_values_is_shown(
    nothing_set: Path, arguments: list[str]
) -> None:
    """Whatever wrote the file."""
    odd: dict[str, Any] = {
        "cost_nano_usd": "abc",
        "input_tokens": "5",
        "output_tokens": 1.5,
        "duration_ns": [],
        "http_status": {},
        "model": 7,
        "user_id": True,
    }
    Path("odd.jsonl").write_text(json.dumps(call(1, **odd)) + "\n")

    assert usage(*arguments, "--store", "odd.jsonl").status == 0


def test_one_damaged_line_is_told_of(nothing_set: Path) -> None:
    kept = store("jsonl", nothing_set)
    with Path(kept).open("ab") as file:
        file.write(b"no record\n")

    assert "1 line is no record" in usage("summary", "--store", kept).err


def test_the_clock_of_commands_knows_its_zone() -> None:
    assert utc_now().utcoffset() == timedelta(0)


def test_the_clock_of_the_tests_is_the_one_of_the_command(nothing_set: Path) -> None:
    kept = store("sqlite", nothing_set)

    found = document("summary", "--days", "1", "--store", kept)

    assert found["since"] == f"{NOW.replace(day=20):%Y-%m-%dT%H:%M:%S.%f}Z"
