"""``llmevents usage export | import | report | prune``."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from llmevents.cli import _usage_progress, _usage_transfer
from llmevents.ledger import _export_otlp
from tests.cli.test_usage_store import Terminal
from tests.cli.usage_stores import CALLS, NOW, call, store, usage


def test_an_export_is_what_an_import_reads(kept: str) -> None:
    assert usage("export", "-o", "all.jsonl", "--tasks", "--store", kept) == (
        0,
        "6 records in all.jsonl\n",
        "",
    )

    first = usage("import", "all.jsonl", "--store", "new.db")
    again = usage("import", "all.jsonl", "--store", "new.db")

    assert first == (0, "6 records imported into new.db\n", "")
    assert again == (0, "0 records imported into new.db, 6 were there already\n", "")
    found = json.loads(usage("summary", "--json", "--store", "new.db").out)
    assert found["totals"]["calls"] == 5
    assert found["totals"]["cost_nano_usd"] == 5_009_850_000


@pytest.mark.parametrize("name", ["calls.csv", "calls.CSV"])
def test_the_format_is_that_of_the_file(kept: str, name: str) -> None:
    ran = usage("export", "-o", name, "--user", "ada", "--store", kept)

    assert ran.out == f"3 records in {name}\n"
    with Path(name).open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["0001", "0002", "0004"]


def test_what_is_exported_can_be_piped(kept: str) -> None:
    ran = usage("export", "--format", "json", "--days", "7", "--store", kept)

    assert [one["id"] for one in json.loads(ran.out)] == [
        "0002",
        "0003",
        "0004",
        "0005",
    ]


def test_a_file_that_is_there_is_kept(kept_in_sqlite: str) -> None:
    Path("calls.jsonl").write_text("mine")

    kept = usage("export", "-o", "calls.jsonl", "--store", kept_in_sqlite)
    forced = usage("export", "-o", "calls.jsonl", "--force", "--store", kept_in_sqlite)

    assert kept.status == 1
    assert "calls.jsonl is there already; give another --output, or --force" in kept.err
    assert forced.out == "5 records in calls.jsonl\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "otlp"], "OTLP needs one, such as http://localhost:4318"),
        (["--format", "csv", "--endpoint", "http://x"], "takes --format otlp"),
        (["--endpoint", "nowhere"], "expected endpoint to be"),
        (["--format", "yaml"], "parquet"),
        (["-o", ""], "expected a file's name, or - for stdout, got ''"),
        (
            ["--format", "otlp", "--endpoint", "http://x", "-o", "calls.json"],
            "OTLP goes to the --endpoint, not to a file",
        ),
        (["--endpoint", "http://x", "-o", "x"], "OTLP goes to the --endpoint"),
    ],
)
def test_what_cannot_be_exported_is_a_usage_error(
    kept_in_sqlite: str, arguments: list[str], message: str
) -> None:
    ran = usage("export", *arguments, "--store", kept_in_sqlite)

    assert (ran.status, ran.out) == (2, "")
    assert message in " ".join(ran.err.replace("│", " ").split())


@pytest.mark.parametrize("command", [["export"], ["report", "--user", "ada"]])
def test_a_file_that_cannot_be_made_is_called_as_it_was_given(
    kept_in_sqlite: str, command: list[str]
) -> None:
    Path("file").touch()

    nowhere = usage(*command, "-o", "nodir/x.json", "--store", kept_in_sqlite)
    in_file = usage(*command, "-o", "file/x.json", "--store", kept_in_sqlite)
    unnamed = usage(*command, "-o", "", "--store", kept_in_sqlite)

    err = "llmevents: nodir/x.json: No such file or directory\n"
    assert nowhere == (1, "", err)
    assert in_file == (1, "", "llmevents: file/x.json: Not a directory\n")
    assert (unnamed.status, unnamed.out) == (2, "")


def test_parquet_is_not_written_to_a_terminal(
    kept_in_sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmevents.cli._usage_options import Selection
    from tests.cli.usage_stores import NOW

    monkeypatch.setattr(sys, "stdout", Terminal())

    with pytest.raises(typer.BadParameter, match="name a file"):
        _usage_transfer.export(
            Selection(store=kept_in_sqlite, now=NOW),
            output_format="parquet",
            output="-",
            endpoint=None,
            overwrite=False,
            tasks=False,
        )


@pytest.mark.parametrize(
    ("failed", "status", "err"),
    [
        ({}, 0, ""),
        (
            {"http_400": 2},
            1,
            "llmevents: not sent: 2 http_400; sending again sends no span twice\n",
        ),
    ],
)
def test_spans_are_sent_to_an_endpoint(
    kept_in_sqlite: str,
    monkeypatch: pytest.MonkeyPatch,
    failed: dict[str, int],
    status: int,
    err: str,
) -> None:
    asked: list[object] = []

    def send(engine: object, endpoint: str, where: Any, **options: object) -> Any:  # noqa: ANN401  # as it is
        asked.extend([endpoint, where.user, options["tasks"]])
        return _export_otlp.Sent(3, failed)

    monkeypatch.setattr(_export_otlp, "export_otlp", send)
    url = "http://localhost:4318"
    options = ["--endpoint", url, "--user", "ada", "--tasks"]

    ran = usage("export", *options, "--store", kept_in_sqlite)

    assert asked == [url, "ada", True]
    assert ran == (status, "3 spans sent\n", err)


def test_lines_that_are_no_records_are_told_of(nothing_set: Path) -> None:
    lines = [json.dumps(CALLS[0]), "no record", json.dumps({"a": "\x1b"})]
    Path("some.jsonl").write_text("\n".join(lines))

    ran = usage("import", "some.jsonl", "--store", "new.jsonl")

    assert (ran.status, ran.out) == (1, "1 record imported into new.jsonl\n")
    assert "llmevents: line 2 left out: " in ran.err
    assert "llmevents: 2 rows left out, no record can be made of" in ran.err


def test_a_format_can_be_said(nothing_set: Path) -> None:
    Path("some.jsonl").write_text(json.dumps(CALLS[0]))

    ran = usage("import", "some.jsonl", "--format", "litellm", "--store", "new.db")

    assert ran.status == 1
    assert "1 row left out" in ran.err


def test_what_cannot_be_written_is_an_error(nothing_set: Path) -> None:
    Path("some.jsonl").write_text(json.dumps(CALLS[0]))
    Path("new").touch()

    ran = usage("import", "some.jsonl", "--store", "new/usage.jsonl")
    gone = usage("import", "gone.jsonl", "--store", "new.db")

    assert ran.status == 1
    assert gone.status == 1
    assert "gone.jsonl: No such file or directory" in gone.err


def test_records_that_the_store_refuses_are_told_of(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmevents.ledger import _import

    refused = _import.Imported(2, 1, 0, 0, {"disk_full": 1}, ())
    monkeypatch.setattr(_import, "import_file", lambda *_, **__: refused)

    ran = usage("import", "some.jsonl", "--store", "new.db")

    assert ran.status == 1
    assert "not written: 1 disk_full; importing again writes no record twice" in ran.err


def test_a_report_is_all_about_a_user(kept: str) -> None:
    ran = usage("report", "--user", "ada", "-o", "report.json", "--store", kept)

    assert ran == (0, "report on 3 calls in report.json\n", "")
    found = json.loads(Path("report.json").read_text())
    assert found["user_id"] == "ada"
    assert found["generated_at"] == "2026-11-21T12:00:00Z"
    assert found["overall_stats"]["total_calls"] == 3
    assert set(found["sessions"]) == {"s-2", "s-1", "s-old"}
    again = usage("report", "--user", "ada", "-o", "report.json", "--store", kept)
    assert again.status == 1
    assert "--force" in again.err


def test_a_report_on_nobody_says_so(kept_in_sqlite: str) -> None:
    ran = usage("report", "--user", "nobody", "--store", kept_in_sqlite)

    assert ran.status == 0
    assert json.loads(ran.out)["overall_stats"]["total_calls"] == 0
    assert "has no calls of user 'nobody'" in ran.err
    assert usage("report", "--user", "", "--store", kept_in_sqlite).status == 2


def left(kept: str) -> list[str]:
    ran = usage("export", "--tasks", "--store", kept)
    return [json.loads(line)["id"] for line in ran.out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "deleted", "rest"),
    [
        (["--before", "7d"], 1, ["0002", "0003", "0004", "0005", "0006"]),
        (["--keep-days", "1"], 2, ["0003", "0004", "0005", "0006"]),
        (["--user", "ada"], 3, ["0003", "0005", "0006"]),
        (["--before", "now"], 6, []),
    ],
)
def test_records_are_deleted(
    nothing_set: Path, arguments: list[str], deleted: int, rest: list[str]
) -> None:
    kept = store("sqlite", nothing_set)

    ran = usage("prune", *arguments, "--yes", "--store", kept)

    records = "1 record" if deleted == 1 else f"{deleted} records"
    assert ran == (0, f"deleted {records}\n", "")
    assert left(kept) == rest


def test_it_is_asked_before_records_are_deleted(nothing_set: Path) -> None:
    kept = store("sqlite", nothing_set)
    options = ["prune", "--user", "ada", "--store", kept]

    refused = usage(*options, text="n\n")
    nobody = usage(*options, text="")
    agreed = usage(*options, text="y\n")

    assert (refused.status, nobody.status, agreed.status) == (1, 1, 0)
    assert "Delete 3 records (user_id 'ada', all time) from sqlite:///" in refused.out
    assert "deleted 3 records" in agreed.out
    assert left(kept) == ["0003", "0005", "0006"]


def test_nothing_to_delete_is_no_error(kept_in_sqlite: str) -> None:
    ran = usage("prune", "--user", "nobody", "--store", kept_in_sqlite)

    assert ran == (0, "nothing to delete, user_id 'nobody', all time\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to delete by one of"),
        (["--user", "ada", "--before", "7d"], "say what to delete by one of"),
        (["--before", "someday"], "is no moment"),
        (["--keep-days", "1e300"], "no calendar"),
        (["--keep-days", "inf"], "no calendar"),
        (["--keep-days", "nan"], "--keep-days"),
    ],
)
def test_what_cannot_be_deleted_is_a_usage_error(
    kept_in_sqlite: str, arguments: list[str], message: str
) -> None:
    ran = usage("prune", "--yes", *arguments, "--store", kept_in_sqlite)

    assert (ran.status, ran.out) == (2, "")
    assert message in " ".join(ran.err.replace("│", " ").split())


@pytest.mark.parametrize("days", [1e300, float("inf"), float("nan")])
def test_before_the_calendar_there_was_nothing_to_keep(days: float) -> None:
    """The click that older versions of typer use lets NaN through ranges."""
    with pytest.raises(typer.BadParameter, match="no calendar"):
        _usage_transfer._days_ago(NOW, days)


def test_records_of_files_go_with_their_files(nothing_set: Path) -> None:
    kept = store("jsonl", nothing_set)

    ran = usage("prune", "--before", "7d", "--yes", "--store", kept)

    assert ran.status == 1
    assert "set keep_days or keep_files" in ran.err
    assert left(kept) == ["0001", "0002", "0003", "0004", "0005", "0006"]


def test_who_waits_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    with _usage_progress.progress("exporting", 10) as told:
        assert told is not None
        told(10)

    assert "exporting" in terminal.text
    assert "10/10" in terminal.text


def test_nobody_who_looks_is_shown_nothing() -> None:
    with _usage_progress.progress("exporting", 10) as told:
        assert told is None


def test_a_bar_knows_how_many_there_are(
    kept_in_sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmevents.ledger._open import open_engine
    from llmevents.ledger._query import ALL, Filter

    engine = open_engine(kept_in_sqlite)
    assert _usage_transfer._number(engine, ALL, tasks=True) is None
    monkeypatch.setattr(sys, "stderr", Terminal())

    assert _usage_transfer._number(engine, ALL, tasks=False) == 5
    assert _usage_transfer._number(engine, ALL, tasks=True) == 6
    assert _usage_transfer._number(engine, Filter(event="llm.chat"), tasks=True) == 5


def test_ids_of_tests_are_those_of_calls() -> None:
    """What the tests above say is left depends on it."""
    assert [one["id"] for one in CALLS] == [call(n)["id"] for n in range(1, 7)]
