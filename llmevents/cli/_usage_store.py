"""Which store the commands of ``llmevents usage`` ask, and what they say if it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import typer


if TYPE_CHECKING:
    from llmevents.ledger._query import Engine

DEFAULT_FILE = "llmevents.db"
"""Where the ledger reporter keeps records if nobody says where."""

DEFAULT_URL = f"sqlite:///{DEFAULT_FILE}"

NO_LEDGER = f"""\
no ledger is configured here, there is no {DEFAULT_FILE}, and no --store was given.
To keep one, do one of these in your program's directory:
  in Python:       llmevents.configure(reporters={{"ledger": {{}}}})
  llmevents.toml:  [reporters.ledger]
  environment:     LLMEVENTS_REPORTERS__LEDGER=true
To read one that is elsewhere, say where:
  llmevents usage summary --store sqlite:///path/to/llmevents.db
  llmevents usage summary --store path/to/usage.jsonl"""

NOWHERE = f"""\
no ledger is configured here, there is no {DEFAULT_FILE}, and no --store was given.
Say where the records are to go; a file that is not there is made:
  llmevents usage import FILE --store {DEFAULT_URL}"""
"""What an import says, which needs no ledger to begin with."""

SLOW = 50_000_000
"""Bytes of a file from which on a person is told that it is being read."""


class Found(NamedTuple):
    """A store, and who says that it is the one.

    Attributes:
        store: As `llmevents.ledger` opens it.
        source: For people.
    """

    store: str
    source: str


def fail(message: str) -> NoReturn:
    """Say what is wrong, and end with status 1."""
    from llmevents._show import printable

    lines = map(printable, message.splitlines())
    typer.echo("llmevents: " + "\n".join(lines), err=True)
    raise typer.Exit(1)


@contextmanager
def answering() -> Iterator[None]:
    """End with a message and status 1 where a store cannot be used."""
    from llmevents._errors import LLMEventsError
    from llmevents._redact import clean_text

    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads on; typer ends without a word
    except ModuleNotFoundError as error:
        if "pip install" not in str(error):
            raise  # `main` knows the extra
        fail(str(error))
    except LLMEventsError as error:
        fail(str(error))
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        fail(clean_text(f"{place}{error.strerror or error}"))
    except Exception as error:
        # Without it a program that reads JSON lines does not need SQLAlchemy.
        if not type(error).__module__.startswith("sqlalchemy."):
            raise
        reason = str(getattr(error, "orig", error)).strip() or type(error).__name__
        fail(f"the database cannot be used: {clean_text(reason.splitlines()[0])}")


def find_store(
    given: str | None, config: Path | None = None, missing: str = NO_LEDGER
) -> Found:
    """Return the store that is given, or else the one that is configured.

    Args:
        given: On the command line.
        config: The file of settings; None finds it.
        missing: What is said if there is none.

    Raises:
        ConfigError: A file of settings cannot be read.
        typer.Exit: There is none.
    """
    if given is not None:
        return Found(given, "--store")
    found = _configured(config)
    if found is not None:
        return found
    if Path(DEFAULT_FILE).exists():
        return Found(DEFAULT_URL, "working directory")
    fail(missing)


def _configured(config: Path | None) -> Found | None:
    """Return what ``[reporters.ledger]`` says, also if the reporter is off now."""
    from llmevents.config._aliases import alias_layer
    from llmevents.config._merge import Merged
    from llmevents.config._reporters import canonical_name
    from llmevents.config._sources import environment_layer, file_layer

    merged = Merged(canonical_name)
    merged.add(file_layer(config, os.environ))
    merged.add(alias_layer(os.environ))
    merged.add(environment_layer(os.environ))
    part = merged.reporters.get("ledger")
    if part is None:
        return None
    for option in ("url", "jsonl"):
        setting = part.options.get(option)
        if setting is not None and isinstance(setting.value, (str, os.PathLike)):
            return Found(os.fspath(setting.value), setting.source)
    return Found(DEFAULT_URL, part.on.source) if part.is_on else None


def name_of(found: Found) -> str:
    """Return a store as it may be shown."""
    from llmevents.ledger._open import name_of as shown

    return shown(found.store)


@contextmanager
def opened(found: Found) -> Iterator[Engine]:
    """Give what answers questions about a store; afterwards tell of damaged lines."""
    from llmevents.ledger._open import open_engine

    engine = open_engine(found.store)
    try:
        with _patience(found):
            yield engine
        _tell_of_damage(engine)
    finally:
        engine.close()


@contextmanager
def _patience(found: Found) -> Iterator[None]:
    """Show a person that a large file is being read."""
    import sys

    path = Path(found.store)
    if not sys.stderr.isatty() or not path.is_file() or path.stat().st_size < SLOW:
        yield
        return
    from rich.console import Console
    from rich.text import Text

    text = Text(f"reading {name_of(found)} ({path.stat().st_size / 1e6:,.0f} MB)")
    with Console(stderr=True).status(text):
        yield


def _tell_of_damage(engine: Engine) -> None:
    from llmevents._show import printable

    damage = engine.damage()
    if not damage.lines:
        return
    lines = "1 line is" if damage.lines == 1 else f"{damage.lines:,} lines are"
    where = damage.places[0]
    typer.echo(
        f"llmevents: {lines} no record and not counted, the first at byte "
        f"{where.offset:,} of {printable(str(where.path))}",
        err=True,
    )
