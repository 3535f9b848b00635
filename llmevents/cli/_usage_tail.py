"""``llmevents usage tail``: calls as they come, a line each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import typer

from llmevents.cli import _usage_tables as tables
from llmevents.cli import _usage_text as shown
from llmevents.cli._usage_follow import Follower, follow, is_meant
from llmevents.cli._usage_options import Selection
from llmevents.cli._usage_store import opened
from llmevents.ledger._record import encode


if TYPE_CHECKING:
    from llmevents.ledger._query import Filter
    from llmevents.ledger._record import Record


TIME = 8
"""Characters of a moment without its day."""


def tail(
    selection: Selection,
    *,
    last: int,
    lines: int | None,
    interval: float,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Print the last calls, and those that come, until *lines* are printed."""
    found, where = selection.found(), selection.where()
    follower = follow(found.store)
    show = _as_json if selection.as_json else _shower()
    # Of the calls that are there, the last ones are meant.
    last = last if lines is None else min(last, lines)
    try:
        recent: list[Record] = []
        if last:
            with opened(found) as engine:
                recent = engine.records(where, limit=last)[::-1]
        coming = _coming(follower, where, recent, lambda: sleep(interval))
        for record in islice(coming, lines):
            show(record)
    finally:
        follower.close()


def _coming(
    follower: Follower, where: Filter, recent: list[Record], rest: Callable[[], object]
) -> Iterator[Record]:
    """Yield the recent records, then for ever those that come, each once."""
    yield from recent
    known = {record["id"] for record in recent}
    while True:
        for record in follower.poll():
            if record["id"] not in known and is_meant(where, record):
                yield record
        rest()


def _as_json(record: Record) -> None:
    typer.echo(encode(record), nl=False)


def _shower() -> Callable[[Record], None]:
    console = tables.terminal()
    is_wide = tables.is_wide(console)
    if console.is_terminal:
        console.print(tables.text(_titles(is_wide=is_wide), "bold"), no_wrap=True)

    def show(record: Record) -> None:
        line = tables.text(line_of(record, is_wide=is_wide), style_of(record))
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)

    return show


def style_of(record: Record) -> str:
    """Return the style of a call that did not succeed."""
    status = str(record.get("status"))
    return "" if status == "success" else tables.STYLES.get(status, "")


def line_of(record: Record, *, is_wide: bool) -> str:
    """Return a call as a line: when, how, what, how much of it, and for whom."""
    when = shown.moment(record.get("timestamp"))
    tokens = [record.get("input_tokens"), record.get("output_tokens")]
    usage = " + ".join(map(shown.count, tokens)) if any(tokens) else shown.UNKNOWN
    status = record.get("status")
    columns = _columns(
        (
            when if is_wide else when[-TIME:],
            "ok" if status == "success" else shown.name(status),
            shown.name(record.get("model")),
            tables.operation(record) if is_wide else "",
            usage,
            shown.money(record.get("cost_nano_usd")),
            shown.duration(record.get("duration_ns")),
        ),
        is_wide=is_wide,
    )
    more = [tables.outcome(record)] if status != "success" else []
    return "  ".join([columns, *more, *_whose(record)])


def _titles(*, is_wide: bool) -> str:
    """Return what is above the columns of `line_of`."""
    operation = "Operation" if is_wide else ""
    began = "Began (UTC)" if is_wide else "UTC"
    titles = (began, "Status", "Model", operation, "Input + output", "Cost", "Took")
    return _columns(titles, is_wide=is_wide)


def _columns(values: tuple[str, ...], *, is_wide: bool) -> str:
    when, status, model, operation, usage, cost, took = values
    columns = [
        f"{when:<{shown.SECOND if is_wide else TIME}}",
        f"{status:<9}",
        f"{model:<{28 if is_wide else 20}}",
        f"{usage:>14}",
        f"{cost:>10}",
        f"{took:>8}",
    ]
    if is_wide:
        columns.insert(3, f"{operation:<14}")
    return "  ".join(columns)


def _whose(record: Record) -> Iterator[str]:
    for word, column in (
        ("user", "user_id"),
        ("session", "session_id"),
        ("source", "source_id"),
    ):
        if record.get(column):
            yield f"{word}={shown.name(record[column])}"
