"""The demo as a user runs it: a command, its output and its exit status."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import llmevents
from llmevents.cli import _demo
from llmevents.cli._app import app
from llmevents.cli._demo import Line, Outcome
from llmevents.testing import FakeProvider


pytestmark = pytest.mark.long


COMMAND = str(Path(sys.executable).with_name("llmevents"))


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def test_the_demo_counts_what_the_provider_served_within_15_seconds() -> None:
    begin = time.monotonic()
    done = _run()
    assert time.monotonic() - begin < 15
    assert (done.returncode, done.stderr) == (0, "")
    assert "Every total equals what was served." in done.stdout
    assert "DIFFERENT" not in done.stdout
    for metric in ("llm.calls", "llm.errors", "llm.cache.hit", "rate_limit"):
        assert metric in done.stdout


def test_the_debug_log_is_shown_on_request() -> None:
    done = _run("--log")
    assert done.returncode == 0
    assert "llm.chat.stop" in done.stderr
    assert "user_id" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_gets_a_live_table() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "demo"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "50"},
    ) as process:
        os.close(theirs)
        output = _read(ours)
        assert process.wait(60) == 0
    assert b"\x1b[" in output  # it moves the cursor to draw over what it drew
    assert output.count(b"gpt-4o-mini") > 5
    assert b"Every total equals what was served." in output


def _read(terminal: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # how Linux says that the other side has closed
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts)


def test_another_server_is_held_against_its_own_responses() -> None:
    with FakeProvider() as provider:
        done = _run("--base-url", provider.base_url, "--model", "some-model")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Every total equals what was in responses." in done.stdout
    assert "DIFFERENT" not in done.stdout
    assert {call.model for call in provider.calls} == {"some-model"}


def test_a_server_that_is_not_there_is_said_in_a_line() -> None:
    done = _run("--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "http://127.0.0.1:9/v1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_difference_is_shown_and_is_status_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [Line("calls", 3, 3), Line("input_tokens", 41, 42)]
    monkeypatch.setattr(_demo, "run", lambda **_: Outcome("served", lines))
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1
    assert "DIFFERENT" in done.stdout
    assert "Some totals differ" in done.stdout


def test_the_demo_leaves_the_default_bus_as_it_was() -> None:
    before = llmevents.list_handlers()
    with FakeProvider() as provider:
        outcome = _demo.run(
            base_url=provider.base_url, model=None, log=False, live=False
        )
    assert outcome.agrees
    assert llmevents.list_handlers() == before
