"""What calls came to, all of them or some: ``summary``, ``show`` and ``errors``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from llmevents.cli import _usage_answer as answer
from llmevents.cli import _usage_tables as tables
from llmevents.cli import _usage_text as shown
from llmevents.cli import _usage_totals as totals_of
from llmevents.cli._usage_lists import as_json
from llmevents.cli._usage_options import Selection, moment_of
from llmevents.cli._usage_store import Found, fail, name_of, opened


if TYPE_CHECKING:
    from llmevents.ledger._query import (
        Comparison,
        Engine,
        Filter,
        Group,
        Totals,
        Unique,
    )

TOP = 5
"""Models that a summary names."""

LATEST = "latest"

NEXT = (
    "More: llmevents usage models | users | sessions | sources | tasks | days | errors;"
    " --days 7 for a week; --help"
)


def summary(selection: Selection, compare: str | None) -> None:
    """Print what all calls came to."""
    found, where = selection.found(), selection.where()
    if compare is not None:
        _compare(selection, found, *_periods(selection, compare))
        return
    with opened(found) as engine:
        unique = engine.unique(where)
        days = engine.by("day", where, order="key")
        totals = engine.summary(where)
        if selection.as_json:
            answer.emit(_as_json(name_of(found), engine, where, totals, unique))
        elif not totals.calls:
            answer.say_empty(engine, name_of(found), where)
        else:
            _show_summary(engine, name_of(found), where, totals, _whose(unique, days))


def _show_summary(
    engine: Engine, store: str, where: Filter, totals: Totals, whose: dict[str, str]
) -> None:
    from llmevents.ledger._query import top

    console = tables.terminal()
    console.print(tables.text(f"Usage in {store}, {answer.period(where)}", "bold"))
    console.print(totals_of.words(whose))
    console.print(totals_of.of_totals(totals))
    models = top(engine, where, limit=TOP)
    title = f"The {TOP} dearest models" if len(models) == TOP else "Models, by cost"
    tables.section(console, title, tables.groups(console, "Model", models))
    console.print()
    console.print(tables.text(NEXT, "dim"))


def _whose(unique: Unique, days: Sequence[Group]) -> dict[str, str]:
    """Return when calls were made, and by how many."""
    known = [day.key for day in days if day.key is not None]
    when = f"{known[0]} to {known[-1]} (UTC)" if len(known) > 1 else "".join(known)
    counted = (
        shown.plural(number, name.removesuffix("s"))
        for name, number in unique._asdict().items()
        if number
    )
    return {"When": when, "By": ", ".join(counted)}


def _as_json(
    store: str, engine: Engine, where: Filter, totals: Totals, unique: Unique
) -> dict[str, Any]:
    from llmevents.ledger._query import top

    return {
        "store": store,
        **answer.window(where),
        "totals": totals.to_json(),
        "unique": unique._asdict(),
        "top_models": as_json("model", top(engine, where, limit=TOP)),
    }


def _periods(selection: Selection, compare: str) -> tuple[Filter, Filter]:
    """Return a period, after the one of the same length before it."""
    if selection.since is not None or selection.days is not None:
        msg = "it says the period by itself; leave out --since and --days"
        raise typer.BadParameter(msg, param_hint="--compare")
    end = moment_of(selection.until, selection.now, "--until") or selection.now
    begin = moment_of(compare, end, "--compare")
    if begin is None or begin >= end:
        msg = f"expected a time before {end:%Y-%m-%d %H:%M} UTC, got {compare!r}"
        raise typer.BadParameter(msg, param_hint="--compare")
    try:
        first = begin - (end - begin)
    except OverflowError as error:
        msg = f"there is no period of this length before {begin:%Y-%m-%d}"
        raise typer.BadParameter(msg, param_hint="--compare") from error
    return (
        selection.where(since=first, until=begin),
        selection.where(since=begin, until=end),
    )


def _compare(selection: Selection, store: Found, before: Filter, where: Filter) -> None:
    from llmevents.ledger._query import compare

    with opened(store) as engine:
        found = compare(engine, before, where)
    if selection.as_json:
        answer.emit(_comparison_as_json(found, before, where))
        return
    console = tables.terminal()
    for word, period in (("Before", before), ("Now", where)):
        console.print(tables.text(f"{word + ':':<8}{answer.period(period)}"))
    console.print(totals_of.comparison(console, found))


def _comparison_as_json(
    found: Comparison, before: Filter, where: Filter
) -> dict[str, Any]:
    first, second = found.first.to_json(), found.second.to_json()
    changes = {name: found.change(name) for name in {**first, **second}}
    return {
        "before": {**answer.window(before), "totals": first},
        "now": {**answer.window(where), "totals": second},
        "change": {name: number for name, number in changes.items() if number},
    }


def show(selection: Selection, limit: int) -> None:
    """Print what some calls came to, and the last of them."""
    if not selection.texts and selection.since is None and selection.days is None:
        msg = (
            "say which calls to show: --session latest, --session ID, --user U "
            "--days 7, --source S, ...; llmevents usage summary shows all"
        )
        raise typer.BadParameter(msg)
    found, where = selection.found(), selection.where()
    with opened(found) as engine:
        if where.session == LATEST:
            where = replace(where, session=_latest(engine, where))
        totals = engine.summary(where)
        if not totals.calls and not selection.as_json:
            fail(f"no calls in {name_of(found)} for: {answer.period(where)}")
        models = engine.by("model", where)
        operations = engine.by("operation", where)
        records = engine.records(where, limit=limit)
    if selection.as_json:
        answer.emit(
            {
                **answer.window(where),
                "where": where.matches,
                "totals": totals.to_json(),
                "by_model": as_json("model", models),
                "by_operation": as_json("operation", operations),
                "records": records,
            }
        )
        return
    console = tables.terminal()
    console.print(tables.text(f"Usage, {answer.period(where)}", "bold"))
    console.print(totals_of.of_totals(totals))
    tables.section(console, "By model", tables.groups(console, "Model", models))
    tables.section(
        console, "By operation", tables.groups(console, "Operation", operations)
    )
    tables.section(console, _last(len(records)), tables.records(console, records))


def _last(number: int) -> str:
    return "The last call" if number == 1 else f"The last {number} calls"


def _latest(engine: Engine, where: Filter) -> str:
    """Return the session of the latest call that states one."""
    found = engine.sessions(replace(where, session=None), limit=1)
    if not found:
        fail("no call states a session; pass session_id= to the calls that you record")
    return found[0].session


def errors(selection: Selection, limit: int | None) -> None:
    """Print how calls failed."""
    found, where = selection.found(), selection.where()
    with opened(found) as engine:
        totals = engine.summary(where)
        rows = engine.errors(where, limit=limit)
        if selection.as_json:
            document = {
                "calls": totals.calls,
                "failures": totals.failures,
                "errors": [row._asdict() for row in rows],
            }
            answer.emit(document)
        elif not totals.calls:
            answer.say_empty(engine, name_of(found), where)
        elif not rows:
            calls = shown.plural(totals.calls, "call")
            typer.echo(f"none of {calls} failed, {answer.period(where)}")
        else:
            part = shown.share(totals.failures, totals.calls)
            failed = shown.count(totals.failures)
            calls = shown.plural(totals.calls, "call")
            console = tables.terminal()
            typer.echo(f"{failed} of {calls} failed ({part}), {answer.period(where)}")
            console.print(tables.failures(console, rows, totals.failures))
