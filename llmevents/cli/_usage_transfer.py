"""Records out of a store, into it, and away from it."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from llmevents.cli import _usage_answer as answer
from llmevents.cli import _usage_text as shown
from llmevents.cli._usage_options import Selection, moment_of
from llmevents.cli._usage_progress import progress
from llmevents.cli._usage_store import NOWHERE, Found, fail, name_of, opened


if TYPE_CHECKING:
    from llmevents.ledger._import import Imported, ImportFormat
    from llmevents.ledger._query import Engine, Filter
    from llmevents.ledger._sql import SqlStore

STDOUT = "-"

SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
"""Of the file's name -> the format, if none is said. Others are JSON lines."""

FEW = 5
"""Lines that were left out of which it is told why."""

THERE = "is there already; give another --output, or --force"

FOR_FILES = (
    "is of JSON lines, whose records go with their files: set keep_days or keep_files of "
    "[reporters.ledger], and rotate_every; to delete single records keep the ledger in "
    "a database: llmevents usage import FILE.jsonl --store sqlite:///usage.db"
)


def export(
    selection: Selection,
    *,
    output_format: str | None,
    output: str,
    endpoint: str | None,
    overwrite: bool,
    tasks: bool,
) -> None:
    """Write records to a file or to stdout, or send them as spans."""
    if output_format is None:
        by_name = SUFFIXES.get(Path(output).suffix.lower(), "jsonl")
        output_format = "otlp" if endpoint is not None else by_name
    _check_target(output_format, output)
    found, where = selection.found(), selection.where()
    with opened(found) as engine:
        if output_format == "otlp":
            _send(engine, where, endpoint, tasks=tasks)
            return
        if endpoint is not None:
            msg = "an endpoint takes --format otlp"
            raise typer.BadParameter(msg, param_hint="--endpoint")
        if output == STDOUT and output_format == "parquet" and sys.stdout.isatty():
            msg = "Parquet is nothing for a terminal; name a file"
            raise typer.BadParameter(msg, param_hint="--output")
        _write(engine, where, (output_format, output), overwrite=overwrite, tasks=tasks)


def _check_target(output_format: str, output: str) -> None:
    """Refuse a file that has no name, or that nothing would be written to."""
    if not output:
        msg = "expected a file's name, or - for stdout, got ''"
        raise typer.BadParameter(msg, param_hint="--output")
    if output_format == "otlp" and output != STDOUT:
        msg = "OTLP goes to the --endpoint, not to a file; leave it out"
        raise typer.BadParameter(msg, param_hint="--output")


def _write(
    engine: Engine,
    where: Filter,
    target: tuple[Any, str],
    *,
    overwrite: bool,
    tasks: bool,
) -> None:
    from llmevents.ledger._export import export

    output_format, output = target
    try:
        with progress("exporting", _number(engine, where, tasks=tasks)) as told:
            count = export(
                engine,
                output_format,
                output,
                where,
                overwrite=overwrite,
                tasks=tasks,
                progress=told,
            )
    except FileExistsError:
        fail(f"{output} {THERE}")
    if output != STDOUT:
        typer.echo(f"{shown.plural(count, 'record')} in {shown.name(output)}")


def _send(engine: Engine, where: Filter, endpoint: str | None, *, tasks: bool) -> None:
    from llmevents._errors import OptionError
    from llmevents.ledger._export_otlp import export_otlp

    if endpoint is None:
        msg = "OTLP needs one, such as http://localhost:4318"
        raise typer.BadParameter(msg, param_hint="--endpoint")
    try:
        with progress("sending", _number(engine, where, tasks=tasks)) as told:
            outcome = export_otlp(engine, endpoint, where, tasks=tasks, progress=told)
    except OptionError as error:
        raise typer.BadParameter(str(error), param_hint="--endpoint") from error
    typer.echo(f"{shown.plural(outcome.sent, 'span')} sent")
    if outcome.failed:
        reasons = ", ".join(f"{n:,} {why}" for why, n in outcome.failed.items())
        fail(f"not sent: {reasons}; sending again sends no span twice")


def _number(engine: Engine, where: Filter, *, tasks: bool) -> int | None:
    """Return how many records are meant, if somebody looks at a bar."""
    from llmevents.ledger._schema import TASK_EVENT

    if not sys.stderr.isatty():
        return None
    calls = engine.summary(where).calls
    if not tasks or where.event is not None:
        return calls
    return calls + engine.summary(replace(where, event=TASK_EVENT)).calls


def report(selection: Selection, *, user: str, output: str, overwrite: bool) -> None:
    """Write all that is known of a user's calls as JSON."""
    from llmevents._show import show
    from llmevents.ledger._report import user_report, write_report

    _check_target("json", output)
    selection.where(user=user)  # which is refused if it is no text
    found = selection.found()
    with opened(found) as engine:
        made = user_report(engine, user, now=selection.now)
    if not made["overall_stats"]["total_calls"]:
        message = f"llmevents: {name_of(found)} has no calls of user {show(user)}"
        typer.echo(message, err=True)
    try:
        write_report(made, output, overwrite=overwrite)
    except FileExistsError:
        fail(f"{output} {THERE}")
    if output != STDOUT:
        calls = shown.plural(made["overall_stats"]["total_calls"], "call")
        typer.echo(f"report on {calls} in {shown.name(output)}")


def import_file(selection: Selection, *, file: str, input_format: str | None) -> None:
    """Write what a file holds into a store."""
    from llmevents.ledger._import import import_file
    from llmevents.ledger._open import open_store

    found = selection.found(NOWHERE)
    store = open_store(found.store)
    try:
        with progress("importing", None) as told:
            outcome = import_file(
                file,
                store,
                format=cast("ImportFormat | None", input_format),
                progress=told,
            )
    finally:
        store.close()
    typer.echo(
        f"{shown.plural(outcome.written, 'record')} imported into {name_of(found)}"
        + (f", {outcome.repeated:,} were there already" if outcome.repeated else "")
    )
    _tell_of_faults(outcome)
    if outcome.refused:
        reasons = ", ".join(f"{n:,} {why}" for why, n in outcome.refused.items())
        fail(f"not written: {reasons}; importing again writes no record twice")
    if outcome.damaged:
        raise typer.Exit(1)


def _tell_of_faults(outcome: Imported) -> None:
    """Say which rows no record could be made of."""
    for fault in outcome.faults[:FEW]:
        reason = shown.name(fault.reason)
        typer.echo(f"llmevents: line {fault.line:,} left out: {reason}", err=True)
    if outcome.damaged:
        rows = shown.plural(outcome.damaged, "row")
        typer.echo(f"llmevents: {rows} left out, no record can be made of", err=True)


def prune(
    selection: Selection,
    *,
    before: str | None,
    keep_days: float | None,
    user: str | None,
    yes: bool,
) -> None:
    """Delete the records of before a moment, or of a user."""
    given = [option for option in (before, keep_days, user) if option is not None]
    if len(given) != 1:
        msg = "say what to delete by one of --before, --keep-days and --user"
        raise typer.BadParameter(msg)
    end = moment_of(before, selection.now, "--before")
    if keep_days is not None:
        end = _days_ago(selection.now, keep_days)
    found = selection.found()
    where = selection.where(until=end, user=user)
    with opened(found) as engine:
        store = _database(found)
        count = _records(engine, where)
    try:
        if not count:
            typer.echo(f"nothing to delete, {answer.period(where)}")
            return
        what = f"{shown.plural(count, 'record')} ({answer.period(where)})"
        if not yes:
            question = f"Delete {what} from {name_of(found)}? They cannot be had back."
            typer.confirm(question, abort=True)
        deleted = store.delete_user(user) if user else store.prune(before=end or "")
    finally:
        store.close()
    typer.echo(f"deleted {shown.plural(deleted, 'record')}")


def _days_ago(now: datetime, days: float) -> datetime:
    try:
        return now - timedelta(days=days)
    except (OverflowError, ValueError) as error:
        msg = f"{days:g} days ago there was no calendar"
        raise typer.BadParameter(msg, param_hint="--keep-days") from error


def _records(engine: Engine, where: Filter) -> int:
    """Return how many records are meant, of calls and of tasks."""
    from llmevents.ledger._schema import TASK_EVENT

    tasks = engine.summary(replace(where, event=TASK_EVENT))
    return engine.summary(where).calls + tasks.calls


def _database(found: Found) -> SqlStore:
    from llmevents.ledger._jsonl import JsonlStore
    from llmevents.ledger._open import open_store

    store = open_store(found.store)
    if isinstance(store, JsonlStore):
        fail(f"{name_of(found)} {FOR_FILES}")
    return store
