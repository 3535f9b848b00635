"""Lists of users, models, sessions, ...: as tables, as bars, and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from llmevents.cli import _usage_answer as answer
from llmevents.cli import _usage_charts as charts
from llmevents.cli import _usage_tables as tables
from llmevents.cli import _usage_text as shown
from llmevents.cli._usage_options import Selection
from llmevents.cli._usage_store import name_of, opened


if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from llmevents.ledger._query import Engine, Filter, Group, Grouping, Order

Grouped: TypeAlias = "tuple[Grouping, str, str]"
"""By what calls are grouped, the command that does so, and the header of a table."""

ORDERS: dict[str, Order] = {
    "cost": "cost_nano_usd",
    "calls": "calls",
    "failures": "failures",
    "tokens": "total_tokens",
    "duration": "duration_ns",
    "name": "key",
}
"""As people write it -> as engines know it."""

BAR = 24
"""Cells of the longest bar."""


def groups(
    selection: Selection, grouped: Grouped, order: str, limit: int | None
) -> None:
    """Print groups of calls."""
    found, store = selection.found(), selection.where()
    with opened(found) as engine:
        rows, is_all = _ask(engine, store, grouped[0], order, limit)
        if selection.as_json:
            answer.emit({grouped[1].replace("-", "_"): as_json(grouped[0], rows)})
        elif not rows:
            answer.say_empty(engine, name_of(found), store)
        else:
            console = tables.terminal()
            console.print(tables.groups(console, grouped[2], rows))
            _say_more(grouped[1], len(rows), is_all=is_all)


def _ask(
    engine: Engine, where: Filter, grouping: Grouping, order: str, limit: int | None
) -> tuple[Sequence[Group], bool]:
    """Return groups, and whether these are all; of days by name, the last ones."""
    if grouping == "day" and order == "name":
        days = engine.by("day", where, order="key")
        return (days[-limit:] if limit else days), not limit or len(days) <= limit
    more = None if limit is None else limit + 1
    rows = engine.by(grouping, where, order=ORDERS[order], limit=more)
    return rows[:limit], limit is None or len(rows) <= limit


def _say_more(what: str, number: int, *, is_all: bool) -> None:
    if not is_all:
        typer.echo(
            f"These are {number:,}; there are more {what}: --limit {number * 10} "
            f"shows more of them, --json all."
        )


def as_json(name: str, found: Sequence[Group]) -> list[dict[str, Any]]:
    """Return groups for programs: the key under its name, then `Totals.to_json`."""
    return [{name: group.key, **group.totals.to_json()} for group in found]


def sessions(selection: Selection, limit: int | None) -> None:
    """Print sessions, the latest first."""
    found, where = selection.found(), selection.where()
    with opened(found) as engine:
        more = None if limit is None else limit + 1
        rows = engine.sessions(where, limit=more)
        if selection.as_json:
            answer.emit({"sessions": [row._asdict() for row in rows[:limit]]})
        elif rows:
            console = tables.terminal()
            console.print(tables.sessions(console, rows[:limit]))
            is_all = limit is None or len(rows) <= limit
            _say_more("sessions", min(len(rows), limit or len(rows)), is_all=is_all)
        elif engine.summary(where).calls:
            typer.echo("These calls state no session: pass session_id= to record them.")
        else:
            answer.say_empty(engine, name_of(found), where)


def top(selection: Selection, grouped: Grouped, order: str, limit: int) -> None:
    """Print the first groups, with bars."""
    found, where = selection.found(), selection.where()
    with opened(found) as engine:
        rows, _ = _ask(engine, where, grouped[0], order, limit)
        if selection.as_json:
            answer.emit({grouped[1].replace("-", "_"): as_json(grouped[0], rows)})
        elif not rows:
            answer.say_empty(engine, name_of(found), where)
        else:
            whole = getattr(engine.summary(where), _measure(order))
            console = tables.terminal()
            typer.echo(
                f"Top {len(rows)} {grouped[1]} by {order}, {answer.period(where)}"
            )
            console.print(bars(console, grouped[2], rows, _measure(order), whole))


def _measure(order: str) -> str:
    """Return the number that a bar stands for."""
    return "calls" if order == "name" else ORDERS[order]


def bars(
    console: Console,
    title: str,
    found: Sequence[Group],
    measure: str,
    whole: int | None,
) -> Table:
    """Return groups as bars, the largest of full length."""
    numbers = [getattr(group.totals, measure) or 0 for group in found]
    largest = max(numbers, default=0) or 1
    is_unicode = console.encoding.startswith("utf")
    costs = [group.totals.cost_nano_usd for group in found]
    decimals = shown.decimals_for(costs)
    names = [shown.name(group.key, f"(no {title.lower()})") for group in found]
    lengths = [
        charts.bar(number / largest, BAR, is_unicode=is_unicode) for number in numbers
    ]
    return tables.table(
        console,
        [
            tables.Cell(title, names, is_name=True),
            tables.Cell(
                "", [one.ljust(BAR) for one in lengths], style="cyan", is_left=True
            ),
            tables.Cell("Share", [shown.share(one, whole or 0) for one in numbers]),
            tables.Cell("Cost", [shown.money(cost, decimals) for cost in costs]),
            tables.Cell("Calls", [shown.count(one.totals.calls) for one in found]),
            tables.Cell(
                "Tokens",
                [shown.count(one.totals.total_tokens) for one in found],
                is_extra=True,
            ),
        ],
    )
