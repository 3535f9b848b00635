"""``llmevents config``: what would run, and where each setting is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer


if TYPE_CHECKING:
    from llmevents.config._prepare import Prepared

config_app = typer.Typer(name="config", help="Settings.", no_args_is_help=True)


@config_app.callback()
def options() -> None:
    """Look at settings."""


@config_app.command()
def check(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="The file to read, instead of the one that is found."),
    ] = None,
) -> None:
    """Show what would run, and where each setting is from.

    Nothing is started. The exit status is 1 if there is a problem.
    """
    from llmevents.config._prepare import prepare

    prepared = prepare({}, config=config)
    typer.echo(_as_json(prepared) if as_json else _as_text(prepared))
    raise typer.Exit(1 if prepared.problems else 0)


def problems_of(prepared: Prepared) -> list[str]:
    """Return what is wrong, a line each, as it may be printed."""
    from llmevents._errors import LLMEventsError
    from llmevents._redact import describe_error

    return [
        # What others raise is cleaned; in ours there are no secrets.
        str(error)
        if isinstance(error, (LLMEventsError, ModuleNotFoundError))
        else ": ".join(describe_error(error))
        for error in prepared.problems
    ]


def _as_json(prepared: Prepared) -> str:
    problems = problems_of(prepared)
    return json.dumps(
        {
            "ok": not problems,
            "settings": {
                name: {"value": setting.value, "source": setting.source}
                for name, setting in prepared.settings.items()
            },
            "problems": problems,
            "notes": prepared.notes,
        },
        indent=2,
        default=str,
    )


def _as_text(prepared: Prepared) -> str:
    from llmevents._show import printable

    rows = [
        (name, json.dumps(setting.value, default=str), setting.source)
        for name, setting in prepared.settings.items()
    ]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    lines = [
        f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}"
        for name, value, source in rows
    ]
    for title, texts in (("note", prepared.notes), ("problem", problems_of(prepared))):
        lines.extend(f"{title}: {text}" for text in texts)
    lines.append(
        "llmevents: this cannot run" if prepared.problems else _summary(prepared)
    )
    return "\n".join(map(printable, lines))


def _summary(prepared: Prepared) -> str:
    if not prepared.enabled:
        return "llmevents: disabled, nothing would run"
    reporters = ", ".join(prepared.reporters) or "none"
    return f"llmevents: this would run; reporters: {reporters}"
