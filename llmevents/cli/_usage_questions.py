"""Commands of ``llmevents usage`` that answer questions; and all of them together."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from llmevents.cli import _usage_commands
from llmevents.cli._usage_options import Selection, selects


if TYPE_CHECKING:
    from llmevents.ledger._query import Grouping

commands = typer.Typer()
"""Every command of ``llmevents usage``."""

TABLE_ROWS = 20
"""Rows of a table if nobody says how many. JSON has all."""

Limit = Annotated[
    int | None,
    typer.Option(min=1, help=f"Rows at most. Default: {TABLE_ROWS}; for JSON all."),
]


class OrderBy(str, Enum):
    """What comes first: numbers, the largest; names, the least."""

    cost = "cost"
    calls = "calls"
    failures = "failures"
    tokens = "tokens"
    duration = "duration"
    name = "name"


Order = Annotated[OrderBy, typer.Option(help="What is first, the largest or dearest.")]


@commands.command()
@selects
def summary(
    selection: Selection,
    *,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="PERIOD",
            help="The last 7d, say, beside the 7d before; also 24h, 4w, 2026-11-01.",
        ),
    ] = None,
) -> None:
    """Print what all calls came to: cost, tokens, latency, ..."""
    from llmevents.cli import _usage_summary

    _usage_summary.summary(selection, compare)


@commands.command()
@selects
def show(
    selection: Selection,
    *,
    limit: Annotated[
        int, typer.Option(min=1, help="Single calls that are shown, the latest.")
    ] = 10,
) -> None:
    """Print what some calls came to, and the last of them.

    Say which: --session latest, --session ID, --user U --days 7, --source S, ...
    """
    from llmevents.cli import _usage_summary

    _usage_summary.show(selection, limit)


@commands.command()
@selects
def errors(selection: Selection, *, limit: Limit = None) -> None:
    """Print how calls failed, the most frequent error first."""
    from llmevents.cli import _usage_summary

    _usage_summary.errors(selection, limit or _rows(selection))


class TopOf(str, Enum):
    """What can be at the top."""

    models = "models"
    users = "users"
    sessions = "sessions"
    sources = "sources"
    organizations = "organizations"
    tasks = "tasks"
    providers = "providers"
    operations = "operations"
    use_cases = "use-cases"
    days = "days"


@commands.command()
@selects
def top(
    selection: Selection,
    *,
    what: Annotated[TopOf, typer.Argument(help="What to rank.")] = TopOf.models,
    order: Order = OrderBy.cost,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 5,
) -> None:
    """Print what costs most, with bars: models, users, ..."""
    from llmevents.cli import _usage_lists

    grouping, title, _ = LISTS[what.value]
    _usage_lists.top(selection, (grouping, what.value, title), order.value, limit)


LISTS: dict[str, tuple[Grouping, str, str]] = {
    "users": ("user", "User", "Print users, by what their calls cost."),
    "sessions": ("session", "Session", ""),
    "sources": ("source", "Source", "Print sources, documents say, by cost."),
    "tasks": ("task", "Task", "Print tasks, by what their calls cost."),
    "models": ("model", "Model", "Print models, by what their calls cost."),
    "providers": ("provider", "Provider", "Print providers, by cost."),
    "operations": ("operation", "Operation", "Print operations, by cost."),
    "organizations": ("organization", "Organization", "Print organizations, by cost."),
    "use-cases": ("use_case", "Use case", "Print use cases, by cost."),
    "days": ("day", "Day (UTC)", "Print days, the last ones, in order."),
}
"""Command -> what it groups by, the header of that, and its help if it is like others."""


def _rows(selection: Selection) -> int | None:
    return None if selection.as_json else TABLE_ROWS


def _list_command(name: str) -> None:
    """Add a command that lists groups."""
    grouping, title, help_text = LISTS[name]
    default = OrderBy.name if name == "days" else OrderBy.cost

    def command(
        selection: Selection, *, order: Order = default, limit: Limit = None
    ) -> None:
        from llmevents.cli import _usage_lists

        _usage_lists.groups(
            selection, (grouping, name, title), order.value, limit or _rows(selection)
        )

    command.__doc__ = help_text
    commands.command(name)(selects(command))


class SessionOrder(str, Enum):
    """What comes first: the latest, or numbers, the largest."""

    latest = "latest"
    cost = "cost"
    calls = "calls"
    failures = "failures"
    tokens = "tokens"
    duration = "duration"
    name = "name"


def _sessions(
    selection: Selection,
    *,
    order: Annotated[
        SessionOrder, typer.Option(help="What is first.")
    ] = SessionOrder.latest,
    limit: Limit = None,
) -> None:
    """Print sessions, the latest first, over all providers."""
    from llmevents.cli import _usage_lists

    rows = limit or _rows(selection)
    if order is SessionOrder.latest:
        _usage_lists.sessions(selection, rows)
    else:
        grouping, title, _ = LISTS["sessions"]
        _usage_lists.groups(selection, (grouping, "sessions", title), order.value, rows)


for _name in LISTS:
    if _name == "sessions":
        commands.command("sessions")(selects(_sessions))
    else:
        _list_command(_name)
_usage_commands.add_to(commands)
