"""Tables and lines that people read, of what an engine answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmevents.cli import _usage_text as shown


if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmevents.ledger._query import Failure, Group, Session, Totals
    from llmevents.ledger._record import Record

ENDLESS = 100_000
"""Cells of a line where no terminal ends it."""

WIDE = 110
"""Cells of a terminal from which on there is room for all columns."""

YEAR = len("2026-")
"""Characters of a moment for which there is no room everywhere."""

STYLES = {
    "success": "green",
    "error": "red",
    "timeout": "red",
    "cancelled": "yellow",
}


class Cell(NamedTuple):
    """A column of a table of people.

    Attributes:
        title: Its header.
        values: A text for each row.
        is_name: Whether it is to the left, and is what may be folded.
        is_extra: Whether it is left out where there is little room.
        is_left: Whether it is to the left all the same.
        style: Of its values.
    """

    title: str
    values: Sequence[str]
    is_name: bool = False
    is_extra: bool = False
    is_left: bool = False
    style: str = ""


def terminal() -> Console:
    """Return what prints to stdout: as wide as a terminal, or without an end."""
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not sys.stdout.isatty():
        console.width = ENDLESS
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # An encoding that lacks a sign is no reason to end.
        reconfigure(errors="replace")
    return console


def text(words: str, style: str = "") -> Text:
    """Return text that is shown as it is."""
    return Text(words, style=style)


def is_wide(console: Console) -> bool:
    """Whether there is room for all columns."""
    return console.width >= WIDE


def table(
    console: Console, columns: Iterable[Cell], styles: Sequence[str] = ()
) -> Table:
    """Return columns as a table that fits.

    Args:
        console: Where it is to be shown.
        columns: Of equal length.
        styles: Of each row.
    """
    kept = [one for one in columns if is_wide(console) or not one.is_extra]
    made = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold"
    )
    for column in kept:
        made.add_column(
            text(column.title),
            justify="left" if column.is_name or column.is_left else "right",
            style=column.style,
            no_wrap=not column.is_name,
            overflow="fold",
        )
    rows = zip(*(column.values for column in kept), strict=True)
    for number, row in enumerate(rows):
        style = styles[number] if styles else ""
        made.add_row(*(text(value) for value in row), style=style)
    return made


def groups(
    console: Console, title: str, found: Sequence[Group], *, unknown: str = ""
) -> Table:
    """Return what the calls of groups come to.

    Args:
        console: Where it is to be shown.
        title: What they have in common.
        found: The groups.
        unknown: What stands for the key of those that state none.
    """
    unknown = unknown or f"(no {title.lower()})"
    totals = [group.totals for group in found]
    costs = [one.cost_nano_usd for one in totals]
    decimals = shown.decimals_for(costs)

    def column(
        name: str, show: Callable[[Totals], str], *, is_extra: bool = False
    ) -> Cell:
        return Cell(name, list(map(show, totals)), is_extra=is_extra)

    names = [shown.name(group.key, unknown) for group in found]
    return table(
        console,
        [
            Cell(title, names, is_name=True),
            column("Calls", lambda one: shown.count(one.calls)),
            column("Failed", lambda one: shown.count(one.failures)),
            column("Input", lambda one: shown.count(one.input_tokens), is_extra=True),
            column("Output", lambda one: shown.count(one.output_tokens), is_extra=True),
            column("Tokens", lambda one: shown.count(one.total_tokens)),
            Cell("Cost", [shown.money(cost, decimals) for cost in costs]),
            column("Latency", lambda one: shown.duration(one.average_ns)),
            column("p50", lambda one: shown.duration(one.p50_ns), is_extra=True),
            column("p95", lambda one: shown.duration(one.p95_ns)),
        ],
    )


def sessions(console: Console, found: Sequence[Session]) -> Table:
    """Return sessions, whatever providers they went to."""
    costs = [one.cost_nano_usd for one in found]
    decimals = shown.decimals_for(costs)
    return table(
        console,
        [
            Cell("Session", [shown.name(one.session) for one in found], is_name=True),
            Cell("Calls", [shown.count(one.calls) for one in found]),
            Cell("Failed", [shown.count(one.failures) for one in found]),
            Cell("Tokens", [shown.count(one.total_tokens) for one in found]),
            Cell("Cost", [shown.money(cost, decimals) for cost in costs]),
            Cell(
                "First call",
                [shown.moment(one.first) for one in found],
                is_extra=True,
            ),
            Cell("Last call (UTC)", [shown.moment(one.last) for one in found]),
            Cell(
                "Models",
                [", ".join(map(shown.name, one.models)) for one in found],
                is_name=True,
                is_extra=True,
            ),
        ],
    )


def failures(console: Console, found: Sequence[Failure], total: int) -> Table:
    """Return how calls failed, and how large a part of all failures that is."""
    return table(
        console,
        [
            Cell("Error", [shown.name(one.error_type) for one in found], is_name=True),
            Cell("HTTP", [_status(one.http_status) for one in found]),
            Cell("Provider", [shown.name(one.provider) for one in found], is_name=True),
            Cell(
                "Operation", [shown.name(one.operation) for one in found], is_name=True
            ),
            Cell("Calls", [shown.count(one.calls) for one in found]),
            Cell("Share", [shown.share(one.calls, total) for one in found]),
        ],
    )


def _status(code: int | None) -> str:
    return shown.UNKNOWN if code is None else str(code)


def records(console: Console, found: Sequence[Record]) -> Table:
    """Return single calls, a row each."""
    costs = [one.get("cost_nano_usd") for one in found]
    decimals = shown.decimals_for(costs)
    times = [shown.moment(one.get("timestamp")) for one in found]
    year = 0 if is_wide(console) else YEAR
    return table(
        console,
        [
            Cell("Began (UTC)", [began[year:] for began in times]),
            Cell(
                "Operation",
                [operation(one) for one in found],
                is_name=True,
                is_extra=True,
            ),
            Cell(
                "Model", [shown.name(one.get("model")) for one in found], is_name=True
            ),
            Cell("Status", [outcome(one) for one in found], is_name=True),
            Cell("Input", [shown.count(one.get("input_tokens")) for one in found]),
            Cell("Output", [shown.count(one.get("output_tokens")) for one in found]),
            Cell("Cost", [shown.money(cost, decimals) for cost in costs]),
            Cell("Took", [shown.duration(one.get("duration_ns")) for one in found]),
            Cell(
                "User",
                [shown.name(one.get("user_id")) for one in found],
                is_name=True,
                is_extra=True,
            ),
        ],
        styles=[STYLES.get(_bad(one), "") for one in found],
    )


def _bad(record: Record) -> str:
    status = str(record.get("status"))
    return "" if status == "success" else status


def operation(record: Record) -> str:
    """Return what a call did, in the words that are known of it."""
    stated = record.get("use_case") or record.get("operation") or record.get("event")
    return shown.name(stated)


def outcome(record: Record) -> str:
    """Return how a call ended: for a failed one, by which error."""
    status, error = record.get("status"), record.get("error_type")
    if status == "success" or not error:
        return "ok" if status == "success" else shown.name(status)
    code = record.get("http_status")
    return shown.name(f"{error} {code}" if code is not None else error)


def section(console: Console, title: str, content: RenderableType) -> None:
    """Print a title and what is below it."""
    console.print()
    console.print(text(title, "bold"))
    console.print(content)
