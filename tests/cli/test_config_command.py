from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from llmevents.cli._config import config_app
from llmevents.config._aliases import ALIASES, KILL_SWITCH


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {KILL_SWITCH, *(name for row in ALIASES for name in row.variables)}
    for name in list(os.environ):
        if name.startswith("LLMEVENTS_") or name in theirs:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.add_typer(config_app)
    done = CliRunner().invoke(app, ["config", "check", *arguments])
    return done.exit_code, done.stdout


def test_without_any_settings_the_defaults_are_shown() -> None:
    status, output = _run()

    assert status == 0
    assert ["metrics", '"default"', "default"] in map(str.split, output.splitlines())
    assert output.endswith("llmevents: this would run; reporters: none\n")


def test_every_setting_is_shown_with_its_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("llmevents.toml").write_text("[reporters.console]\nlive = false\n")
    monkeypatch.setenv("LLMEVENTS_REPORTERS__CONSOLE__INTERVAL", "0.5")

    status, output = _run()

    lines = {
        line.split()[0]: line.split(maxsplit=2)[1:] for line in output.splitlines()
    }
    assert status == 0
    assert lines["reporters.console"] == [
        "true",
        "variable LLMEVENTS_REPORTERS__CONSOLE__INTERVAL",
    ]
    assert lines["reporters.console.live"] == ["false", "llmevents.toml"]
    assert lines["reporters.console.interval"] == [
        "0.5",
        "variable LLMEVENTS_REPORTERS__CONSOLE__INTERVAL",
    ]
    assert "reporters: console" in output


def test_all_problems_are_shown_and_the_status_is_1() -> None:
    Path("other.toml").write_text(
        "max_series = 0\nreporters = ['konsole', 'console']\n"
    )

    status, output = _run("--config", "other.toml")

    assert status == 1
    problems = [line for line in output.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 2
    assert (
        "max_series to be an integer of 1 or more, got 0 (from other.toml)"
        in (problems[0])
    )
    assert "got 'konsole'" in problems[1]
    assert output.endswith("llmevents: this cannot run\n")


def test_json_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMEVENTS_MAX_SERIES", "\x1b[2Jx")
    monkeypatch.setenv("OTLP_SERVICE_NAME", "shop")

    status, output = _run("--json")
    report = json.loads(output)

    assert status == 1
    assert report["ok"] is False
    assert report["settings"]["max_series"] == {
        "value": "\x1b[2Jx",
        "source": "variable LLMEVENTS_MAX_SERIES",
    }
    assert "\x1b" not in output
    assert len(report["problems"]) == len(report["notes"]) == 1


def test_what_is_missing_is_answered_with_the_pip_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wrapt", None)
    monkeypatch.setenv("LLMEVENTS_INSTRUMENT", "true")

    status, output = _run()

    assert status == 1
    assert 'run: pip install "llmevents[instrumentation]"' in output


def test_that_it_is_disabled_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMEVENTS_DISABLED", "1")

    status, output = _run()

    assert status == 0
    assert output.splitlines() == [
        "enabled  false  variable LLMEVENTS_DISABLED",
        "llmevents: disabled, nothing would run",
    ]


def test_what_a_reporter_raises_is_shown_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from llmevents_console import ConsoleReporter

    def fail(_self: object, **_options: object) -> None:
        msg = "https://me:hunter2@example.com/ is broken"
        raise RuntimeError(msg)

    monkeypatch.setattr(ConsoleReporter, "__init__", fail)
    monkeypatch.setenv("LLMEVENTS_REPORTERS", "console")

    status, output = _run()

    assert status == 1
    assert "problem: RuntimeError: https://example.com/ is broken" in output
