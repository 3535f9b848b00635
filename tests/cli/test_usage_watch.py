"""``llmevents usage watch``: what is to be seen, and when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import typer
from rich.console import Console

from llmevents.cli import _usage_commands, _usage_watch
from llmevents.cli._usage_options import Selection
from llmevents.cli._usage_watch import Watcher, frame, watch
from llmevents.ledger._open import open_engine
from llmevents.ledger._query import ALL, Filter, Totals
from llmevents.ledger._sql_query import SqlEngine
from tests.cli.test_usage_store import Terminal
from tests.cli.usage_stores import NOW, add, call, store, usage


BUSY = [
    *(
        call(
            number,
            hours_ago=(number % 20 + 0.5) / 60,
            cost_nano_usd=2_000_000,
            total_tokens=9,
        )
        for number in range(1, 41)
    ),
    call(90, hours_ago=0.5, model="claude-sonnet-4-5", cost_nano_usd=40_000_000),
    call(91, hours_ago=0.5, status="error", error_type="Oops", http_status=500),
    call(92, hours_ago=0.5, status="timeout", error_type="Timeout"),
    call(93, hours_ago=2, cost_nano_usd=999_000_000_000),
]


@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
def test_one_picture_tells_of_the_last_hour(nothing_set: Path, kind: str) -> None:
    ran = usage("watch", "--once", "--store", store(kind, nothing_set, BUSY))

    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert (ran.status, ran.err) == (0, "")
    assert lines[0].endswith("2026-11-21 12:00:00 UTC")
    assert lines[1] == "since 2026-11-21 11:00 UTC; Ctrl-C ends this"
    assert lines[3].startswith("Calls 43 41 succeeded, 2 failed")
    assert lines[4].startswith("Cost $0.1200")
    charts = {line.split()[0]: line.split() for line in lines[8:13] if line}
    # In each of the last 5 minutes there were 2 calls of $0.002 and 9 tokens.
    assert charts["Calls"][-2:] == ["2.0/min", "2"]
    assert charts["Cost"][-2:] == ["$0.0040/min", "$0.0040"]
    assert charts["Tokens"][-2:] == ["18.0/min", "18"]
    assert charts["Calls"][1] == "▁" * 9 + "█" * 20 + "▁"
    assert any(line.startswith("gpt-4o ████████████████████████") for line in lines)
    assert lines[-1] == "Failed: 1 Oops 500 (openai), 1 Timeout (openai)"


def test_the_period_can_be_another(nothing_set: Path) -> None:
    kept = store("sqlite", nothing_set, BUSY)

    assert (
        "since 2026-11-14 12:00"
        in usage("watch", "--once", "--since", "7d", "--store", kept).out
    )
    assert "Calls" in usage("watch", "--once", "--days", "1", "--store", kept).out


def test_nothing_yet_is_no_error(nothing_set: Path) -> None:
    kept = store("sqlite", nothing_set, [])

    assert (
        "No calls in this period yet" in usage("watch", "--once", "--store", kept).out
    )


def test_without_prices_models_are_ranked_by_calls(nothing_set: Path) -> None:
    records = [call(1), call(2, model="b"), call(3, model="b")]
    kept = store("sqlite", nothing_set, records)

    rows = usage("watch", "--once", "--since", "1d", "--store", kept).out.splitlines()

    assert [row.split()[0] for row in rows[-2:]] == ["b", "gpt-4o"]


class Counting:
    """An engine that counts which minutes it is asked for."""

    def __init__(self, kept: str) -> None:
        engine = open_engine(kept)
        assert isinstance(engine, SqlEngine)
        self.engine = engine
        self.by = engine.by
        self.errors = engine.errors
        self.asked: list[Filter] = []

    def summary(self, where: Filter = ALL) -> Totals:
        self.asked.append(where)
        return self.engine.summary(where)


def test_minutes_that_are_over_are_asked_for_once(nothing_set: Path) -> None:
    engine = Counting(store("sqlite", nothing_set, BUSY))
    watcher = Watcher(engine, Selection(now=NOW))  # type: ignore[arg-type]  # it has what is asked

    first = watcher.look(NOW)
    asked = len(engine.asked)
    again = watcher.look(NOW + timedelta(minutes=1))

    assert asked == 2 + 30
    assert len(engine.asked) - asked == 2 + 11
    assert again.minutes[:-1] == first.minutes[1:]


def test_a_screen_has_as_many_models_as_there_is_room_for(nothing_set: Path) -> None:
    records = [call(n, model=f"model-{n}", cost_nano_usd=n) for n in range(1, 30)]
    engine = open_engine(store("sqlite", nothing_set, records))
    picture = Watcher(engine, Selection(now=NOW)).look(NOW)
    console = Console(width=80, height=24, record=True, file=Terminal())  # type: ignore[arg-type]  # it is written to

    console.print(frame(console, "usage.db", picture, "cannot be read now: x\x1b"))

    lines = console.export_text().splitlines()
    assert sum("model-" in line for line in lines) == 24 - _usage_watch.ROWS_OF_OTHERS
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "cannot be read now: x\\x1b" in lines[-1]


class Enough(Exception):  # noqa: N818  # it is no error
    """Ends what goes on for ever."""


def resting(*steps: Callable[[], object]) -> Callable[[float], None]:
    """Return what takes a step at each rest, and ends after the last one."""
    left = list(steps)

    def rest(seconds: float) -> None:
        assert seconds >= 7
        if not left:
            raise Enough
        left.pop(0)()

    return rest


def test_a_stream_gets_one_picture_after_the_other(
    nothing_set: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = store("sqlite", nothing_set, [call(1)])
    monkeypatch.setattr(_usage_watch, "utc_now", lambda: NOW)
    rest = resting(lambda: add(kept, call(2)))

    with pytest.raises(Enough):
        watch(Selection(store=kept, now=NOW), interval=7, once=False, sleep=rest)

    out = capsys.readouterr().out
    calls = [line.split()[1] for line in out.splitlines() if "succeeded" in line]
    assert calls == ["1", "2"]
    assert "\x1b" not in out


def test_a_terminal_gets_a_screen_and_errors_are_shown_there(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    kept = store("sqlite", nothing_set, [call(1)])
    path = Path(kept.removeprefix("sqlite:///"))
    monkeypatch.setattr(_usage_watch, "utc_now", lambda: NOW)
    rest = resting(lambda: path.rename("away.db"), lambda: Path("away.db").rename(path))

    with pytest.raises(Enough):
        watch(Selection(store=kept, now=NOW), interval=7, once=False, sleep=rest)

    assert terminal.text.count("\x1b[?1049h") == 1
    assert terminal.text.count("cannot be read now") == 1
    assert terminal.text.count("succeeded") == 3


@pytest.mark.parametrize("command", ["tail", "watch"])
@pytest.mark.parametrize("interval", ["inf", "nan", "86401", "1e300", "0"])
def test_nobody_waits_for_ever(nothing_set: Path, command: str, interval: str) -> None:
    kept = store("jsonl", nothing_set)

    ran = usage(command, "--interval", interval, "--store", kept)

    assert (ran.status, ran.out) == (2, "")
    assert "--interval" in ran.err


def test_seconds_that_are_no_number_are_refused_by_any_typer() -> None:
    """The click that older versions use lets NaN through ranges."""
    with pytest.raises(typer.BadParameter, match="expected seconds, got nan"):
        _usage_commands._is_number(float("nan"))


def test_the_moment_is_that_of_the_picture(nothing_set: Path) -> None:
    engine = open_engine(store("sqlite", nothing_set, BUSY))
    later = datetime.fromisoformat("2026-11-21T12:20:30+00:00")

    picture = Watcher(engine, Selection(now=NOW, since="30min")).look(later)

    assert picture.where.since == later - timedelta(minutes=30)
    assert len(picture.minutes) == 30
