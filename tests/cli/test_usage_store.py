"""Which store ``llmevents usage`` asks, and what it says where that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmevents.cli import _usage_store
from tests.cli.usage_stores import call, store, usage


def test_without_a_ledger_it_says_how_to_have_one(nothing_set: Path) -> None:
    ran = usage("summary")

    assert (ran.status, ran.out) == (1, "")
    assert "no ledger is configured here" in ran.err
    assert 'llmevents.configure(reporters={"ledger": {}})' in ran.err
    assert "LLMEVENTS_REPORTERS__LEDGER=true" in ran.err
    assert "--store sqlite:///" in ran.err
    assert list(nothing_set.iterdir()) == []


def test_an_import_without_a_ledger_says_where_to(nothing_set: Path) -> None:
    Path("calls.jsonl").write_text(json.dumps(call(1)))

    ran = usage("import", "calls.jsonl")
    told = "llmevents usage import FILE --store sqlite:///llmevents.db"
    followed = usage(*told.replace("FILE", "calls.jsonl").split()[2:])

    assert (ran.status, ran.out) == (1, "")
    assert "no ledger is configured here" in ran.err
    assert told in ran.err
    assert "usage summary" not in ran.err
    assert followed.status == 0


def test_the_default_file_is_found_whoever_has_made_it(nothing_set: Path) -> None:
    """Who calls configure() has no file of settings."""
    Path(store("sqlite", nothing_set).removeprefix("sqlite:///")).rename("llmevents.db")

    assert "Usage in sqlite:///llmevents.db" in usage("summary").out


@pytest.mark.parametrize(
    "settings",
    [
        'reporters.ledger.url = "sqlite:///usage.db"',
        '[reporters.ledger]\nurl = "usage.db"\njsonl = "other.jsonl"',
        '[reporters]\nledger = false\n[reporters.console]\nurl = "x"',
    ],
    ids=["url", "both", "off"],
)
def test_the_store_is_the_one_that_is_configured(
    nothing_set: Path, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("sqlite", nothing_set)
    if "false" in settings:
        monkeypatch.setenv("LLMEVENTS_REPORTERS__LEDGER__URL", "sqlite:///usage.db")
    Path("llmevents.toml").write_text(settings)

    ran = usage("users")

    assert (ran.status, ran.err) == (0, "")
    assert "ada" in ran.out


def test_a_file_of_settings_can_be_named(nothing_set: Path) -> None:
    store("jsonl", nothing_set)
    Path("mine.toml").write_text('[reporters.ledger]\njsonl = "usage.jsonl"\n')

    assert "ada" in usage("users", "--config", "mine.toml").out


def test_variables_of_others_say_where_it_is(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMEVENTS_REPORTERS__LEDGER", "true")

    ran = usage("users")

    assert ran.status == 1
    assert "there is no store at 'sqlite:///llmevents.db'; check the path" in ran.err


def test_settings_that_cannot_be_read_are_an_error(nothing_set: Path) -> None:
    Path("llmevents.toml").write_text("[reporters")

    ran = usage("summary")

    assert ran.status == 1
    assert "a TOML file" in ran.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone.db", "there is no store at 'gone.db'"),
        ("sqlite:///gone.db", "there is no store at 'sqlite:///gone.db'"),
        ("mysql://ada:secret@db/x", "is no URL of a database that is known"),
        ("other.db", "cannot be read: file is not a database"),
    ],
)
def test_a_store_that_cannot_be_used_is_an_error(
    nothing_set: Path, given: str, message: str
) -> None:
    Path("other.db").write_bytes(b"SQLite format 3\0" + b"x" * 5_000)

    ran = usage("summary", "--store", given)

    assert (ran.status, ran.out) == (1, "")
    assert message in ran.err
    assert "secret" not in ran.err
    assert not Path("gone.db").exists()


def test_a_database_that_cannot_be_written_is_an_error(nothing_set: Path) -> None:
    """What SQLAlchemy raises is the store's error, not a traceback."""
    from sqlalchemy.exc import OperationalError

    error = OperationalError("INSERT", {}, Exception("disk is full\nand more"))
    with pytest.raises(BaseException) as raised, _usage_store.answering():  # noqa: PT011  # typer's exit, whose class is private
        raise error

    assert getattr(raised.value, "exit_code", None) == 1


def test_what_is_no_error_of_a_store_is_raised(nothing_set: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="zero"), _usage_store.answering():
        assert 1 / 0
    for error in (BrokenPipeError("no duckdb"), ModuleNotFoundError("no duckdb")):
        with pytest.raises(type(error), match="duckdb"), _usage_store.answering():
            raise error


def test_what_has_to_be_installed_is_said(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)

    ran = usage("summary", "--store", store("jsonl", nothing_set))

    assert ran.status == 1
    assert 'run: pip install "llmevents[ledger]"' in ran.err


class Terminal:
    """A stream that is taken for a terminal, and keeps what is written."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


def test_a_person_is_told_that_a_large_file_is_read(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_usage_store, "SLOW", 1)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    found = _usage_store.Found(store("jsonl", nothing_set), "--store")

    with _usage_store.opened(found) as engine:
        assert engine.summary().calls == 5

    assert "reading " in terminal.text


PROGRAM = (
    "import sys; from llmevents.cli import main; sys.argv[0] = 'llmevents'; main()"
)


def test_a_pipe_that_nobody_reads_ends_it_without_a_word(nothing_set: Path) -> None:
    calls = [call(number, user_id=f"u{number:06}") for number in range(1_000)]
    kept = store("sqlite", nothing_set, calls)
    options = ["usage", "users", "--limit", "5000", "--store", kept]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) in (0, 1)


def test_piped_output_is_plain_and_whole(nothing_set: Path) -> None:
    name = "a-long-name-of-a-user-" * 8
    kept = store("sqlite", nothing_set, [call(1, user_id=name)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "usage", "users", "--store", kept],
        capture_output=True,
        check=True,
        env={**os.environ, "COLUMNS": "40", "PYTHONIOENCODING": "ascii"},
    )

    lines = done.stdout.decode("ascii").splitlines()
    assert len(lines) == 3
    assert lines[2].replace("|", " ").split()[:3] == [name, "1", "0"]


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_an_interrupt_ends_what_follows_with_130(nothing_set: Path) -> None:
    kept = store("jsonl", nothing_set, [call(1)])
    options = ["usage", "tail", "--json", "--interval", "0.05", "--store", kept]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert b'"id":"0001"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_help_imports_nothing_that_it_does_not_need() -> None:
    program = (
        "import sys; from llmevents.cli._app import app\n"
        "names = ('rich', 'sqlalchemy', 'duckdb', 'orjson', 'llmevents.ledger')\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = [name for name in names if name in sys.modules]\n"
        "sys.exit(str(loaded) if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("llmevents us", ["usage"]),
        ("llmevents usage se", ["sessions"]),
        ("llmevents usage summary --compa", ["--compare"]),
        ("llmevents usage models --order ca", ["calls"]),
    ],
)
def test_a_shell_completes_commands_and_options(
    words: str, completed: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        check=False,
        text=True,
        env={
            **os.environ,
            "_LLMEVENTS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert done.stdout.split() == completed
