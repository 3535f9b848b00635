"""The commands."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from llmevents.cli._config import config_app
from llmevents.cli._prices import prices_app
from llmevents.cli._usage import usage_app


app = typer.Typer(
    name="llmevents",
    no_args_is_help=True,
    # Help that rich draws takes longer to import than all the rest.
    rich_markup_mode=None,
    # Tracebacks with the values of local variables would show secrets.
    pretty_exceptions_enable=False,
)

app.add_typer(config_app)
app.add_typer(prices_app)
app.add_typer(usage_app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it so
    if wanted:
        from importlib.metadata import version

        typer.echo(f"llmevents {version('llmevents')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Telemetry for LLM applications."""
    del version  # its callback has printed it


class EventFormat(str, Enum):
    """How the event reference is printed."""

    text = "text"
    markdown = "markdown"
    json = "json"


@app.command()
def events(
    pattern: Annotated[
        str, typer.Argument(help="A name or pattern, such as llm.chat.** or **.stop")
    ] = "**",
    output_format: Annotated[
        EventFormat, typer.Option("--format", help="How to print them.")
    ] = EventFormat.text,
) -> None:
    """Print the declared events, with units and stability."""
    from llmevents import _event_reference as reference
    from llmevents._errors import EventNameError
    from llmevents._names import matches, parse_pattern
    from llmevents.events import catalogue

    try:
        wanted = parse_pattern(pattern)
    except EventNameError as error:
        raise typer.BadParameter(str(error)) from error
    found = [
        event for event in catalogue() if matches(wanted, tuple(event.name.split(".")))
    ]
    if not found:
        typer.echo(f"llmevents: no declared event matches {pattern!r}", err=True)
        raise typer.Exit(1)
    render = {
        EventFormat.text: reference.as_text,
        EventFormat.markdown: reference.as_markdown,
        EventFormat.json: reference.as_json,
    }[output_format]
    typer.echo(render(found))


@app.command()
def demo(
    *,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="An OpenAI-compatible server, such as http://127.0.0.1:8080/v1; "
            "its key is taken from OPENAI_API_KEY. By default a fake provider."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model to ask for chats.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Also show the debug log, on stderr.")
    ] = False,
    live: Annotated[
        bool | None,
        typer.Option(help="Draw a live table; by default if this is a terminal."),
    ] = None,
) -> None:
    """Drive the real openai SDK, and check what is counted."""
    from openai import OpenAIError

    from llmevents.cli import _demo
    from llmevents.cli._demo_outcome import show

    try:
        outcome = _demo.run(base_url=base_url, model=model, log=log, live=live)
    except OpenAIError as error:
        typer.echo(f"llmevents: {base_url} cannot be used: {error}", err=True)
        raise typer.Exit(1) from error
    show(outcome)
    if not outcome.agrees:
        raise typer.Exit(1)
