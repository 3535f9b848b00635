from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmevents.cli._app import app
from llmevents.events import catalogue


DOCS = Path(__file__).parent.parent.parent / "docs"


def _run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["events", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_every_declared_event_is_printed_on_a_line_of_its_own() -> None:
    status, output, _ = _run()
    assert status == 0
    names = [line.split()[0] for line in output.splitlines()]
    assert set(names) >= {event.name for event in catalogue() if "llm" in event.name}
    assert "input_tokens [token]" in output


def test_a_pattern_picks_events() -> None:
    status, output, _ = _run("llm.cache.*")
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()] == [
        "llm.cache.hit",
        "llm.cache.miss",
        "llm.cache.put",
        "llm.cache.evicted",
    ]


def test_json_has_everything_that_is_declared() -> None:
    status, output, _ = _run("llm.cost.calculated", "--format", "json")
    assert status == 0
    (event,) = json.loads(output)
    assert event["measurements"]["cost_nano_usd"]["unit"] == "nano_usd"
    assert set(event) == {
        "name", "description", "stability", "emitted_by", "measurements", "metadata"
    }  # fmt: skip


def test_the_reference_in_docs_is_what_the_command_prints() -> None:
    """Mend a difference with: llmevents events --format markdown > docs/events.md."""
    from llmevents._catalogue import BUILT_IN
    from llmevents._event_reference import as_markdown

    assert (DOCS / "events.md").read_text() == as_markdown(BUILT_IN) + "\n"


def test_markdown_is_one_of_the_formats() -> None:
    status, output, _ = _run("llm.chat.stop", "--format", "markdown")
    assert status == 0
    assert "## `llm.chat`" in output


def test_a_pattern_that_matches_nothing_is_status_1() -> None:
    status, output, errors = _run("no.such.event")
    assert (status, output) == (1, "")
    assert errors == "llmevents: no declared event matches 'no.such.event'\n"


def test_a_malformed_pattern_is_a_usage_error() -> None:
    status, _, errors = _run("llm..stop")
    assert status == 2
    assert "empty segment" in errors


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("llmevents 0.")


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("typer", "events", "cli"), ("openai", "demo", "demo")],
)
def test_without_its_libraries_a_command_says_what_to_install(
    missing: str, command: str, extra: str
) -> None:
    done = _run_source(
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"sys.argv = ['llmevents', {command!r}]\n"
        "from llmevents.cli import main\n"
        "main()\n"
    )
    assert done.returncode == 2
    assert f'run: pip install "llmevents[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_defect_of_ours_is_not_taken_for_a_missing_library() -> None:
    done = _run_source(
        "import sys; sys.modules['llmevents.cli._app'] = None\n"
        "from llmevents.cli import main\n"
        "main()\n"
    )
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def _run_source(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
