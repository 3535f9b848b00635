"""What every command of ``llmevents usage`` says of the calls that it is about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer


if TYPE_CHECKING:
    from llmevents.ledger._query import Engine, Filter


def emit(document: object) -> None:
    """Print one JSON document, in ASCII: nothing of it acts on a terminal."""
    typer.echo(json.dumps(document, indent=2))


def period(where: Filter) -> str:
    """Return which calls a filter means, for people."""
    texts = [f"{column} {value!r}" for column, value in where.matches.items()]
    times = [
        f"{word} {moment:%Y-%m-%d %H:%M}"
        for word, moment in (("since", where.since), ("until", where.until))
        if moment is not None
    ]
    return ", ".join([*texts, " ".join(times) + " UTC" if times else "all time"])


def window(where: Filter) -> dict[str, str | None]:
    """Return the window of a filter, for programs."""
    return dict(zip(("since", "until"), where.window, strict=True))


def say_empty(engine: Engine, store: str, where: Filter) -> None:
    """Say that there are no such calls, and what to do about it."""
    from llmevents._show import printable
    from llmevents.ledger._query import ALL

    if where != ALL and engine.summary().calls:
        message = (
            f"no calls in {store} for: {period(where)}\n"
            "Try a longer period, such as --days 30, or other filters; "
            "llmevents usage summary without any shows all calls."
        )
    else:
        message = (
            f"{store} has no calls yet.\n"
            "They come with the first call that your program makes: it has to run\n"
            '  llmevents.configure(instrument=True, reporters={"ledger": {}})\n'
            "or with: llmevents usage import FILE.jsonl"
        )
    typer.echo("\n".join(map(printable, message.splitlines())))
