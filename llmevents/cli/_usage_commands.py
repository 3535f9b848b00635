"""Commands of ``llmevents usage`` that move records, or wait for them."""

from __future__ import annotations

from enum import Enum
from math import isnan
from typing import Annotated

import typer

from llmevents.cli._usage_options import PANEL, Selection, selects


class ExportFormat(str, Enum):
    """What records are exported as."""

    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    otlp = "otlp"


A_DAY = 86_400
"""The longest rest between two looks, in seconds."""


def _is_number(seconds: float) -> float:
    """Refuse what no range does: of NaN nothing is less or greater."""
    if isnan(seconds):
        msg = "expected seconds, got nan"
        raise typer.BadParameter(msg)
    return seconds


class ImportFormat(str, Enum):
    """What a file holds."""

    ledger = "ledger"
    tracker = "tracker"
    litellm = "litellm"


def tail(
    selection: Selection,
    *,
    last: Annotated[
        int, typer.Option(min=0, help="Calls that are there already to begin with.")
    ] = 10,
    lines: Annotated[
        int | None,
        typer.Option(min=1, help="End after so many lines; default: at Ctrl-C."),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(
            min=0.05,
            max=A_DAY,
            callback=_is_number,
            help="Seconds between two looks.",
        ),
    ] = 0.5,
) -> None:
    """Print calls as they come, a line each, until Ctrl-C."""
    from llmevents.cli import _usage_tail

    _usage_tail.tail(selection, last=last, lines=lines, interval=interval)


def watch(
    selection: Selection,
    *,
    interval: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=A_DAY,
            callback=_is_number,
            help="Seconds between two looks.",
        ),
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one picture.")] = False,
) -> None:
    """Show what calls come to while they are made.

    It is about the last hour unless --since or --days say otherwise. Ctrl-C ends it.
    """
    from llmevents.cli import _usage_watch

    _usage_watch.watch(selection, interval=interval, once=once)


def export(
    selection: Selection,
    *,
    output_format: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="Default: by the file's name, else jsonl."),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A file; - is stdout.")
    ] = "-",
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Who takes OTLP, such as http://localhost:4318. Its headers are "
            "those of OTEL_EXPORTER_OTLP_HEADERS.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there.")
    ] = False,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="Also the records of tasks.")
    ] = False,
) -> None:
    """Write records to a file, or send them as OTLP spans.

    JSON lines are what the ledger keeps, exactly. CSV is for spreadsheets.
    """
    from llmevents.cli import _usage_transfer

    _usage_transfer.export(
        selection,
        output_format=None if output_format is None else output_format.value,
        output=output,
        endpoint=endpoint,
        overwrite=force,
        tasks=tasks,
    )


def import_file(
    selection: Selection,
    *,
    file: Annotated[str, typer.Argument(help="JSON lines, JSON or CSV; - is stdin.")],
    input_format: Annotated[
        ImportFormat | None,
        typer.Option(
            "--format",
            help="Whose records they are: ours, a tracker's master file, or LiteLLM's "
            "spend logs. Default: as the records say.",
        ),
    ] = None,
) -> None:
    """Add the records of a file, each once however often.

    Status 1 if there were lines that no record can be made of.
    """
    from llmevents.cli import _usage_transfer

    chosen = None if input_format is None else input_format.value
    _usage_transfer.import_file(selection, file=file, input_format=chosen)


def report(
    selection: Selection,
    *,
    user: Annotated[str, typer.Option(metavar="TEXT", help="The user_id.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="A file; - is stdout.")
    ] = "-",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Write all that is known of a user's calls as JSON."""
    from llmevents.cli import _usage_transfer

    _usage_transfer.report(selection, user=user, output=output, overwrite=force)


def prune(
    selection: Selection,
    *,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="MOMENT",
            help="Records of calls that began before: 90d, 2026-01-01, ...",
            rich_help_panel=PANEL,
        ),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Records of before the last N days.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="All records of this user_id.", rich_help_panel=PANEL
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask whether to do so.")
    ] = False,
) -> None:
    """Delete records for ever: old ones, or those of a user. Totals follow."""
    from llmevents.cli import _usage_transfer

    _usage_transfer.prune(
        selection, before=before, keep_days=keep_days, user=user, yes=yes
    )


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("tail")(selects(tail))
    app.command("watch")(selects(watch, form=False))
    app.command("export")(selects(export, form=False))
    app.command("import")(selects(import_file, calls=False, form=False))
    app.command("report")(selects(report, calls=False, form=False))
    app.command("prune")(selects(prune, calls=False, form=False))
