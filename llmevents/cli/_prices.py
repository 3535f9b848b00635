"""``llmevents prices``: what a call costs, and which prices there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup


if TYPE_CHECKING:
    from llmevents.llm.pricing import Listed, Pricer

FILES = ("llmevents.toml", "pyproject.toml")
"""Where prices are looked for in the working directory, the first one that is there."""


class _Prices(TyperGroup):
    """Takes what is no command for the name of a model."""

    # Newer versions of typer bring a click of their own, older ones use the other.
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401  # as above
        """Return the command that is meant."""
        if args[0] not in self.commands:
            args = ["model", *args]
        return super().resolve_command(ctx, args)


prices_app = typer.Typer(
    name="prices",
    help="What calls cost: llmevents prices MODEL --input 1000 --output 500.",
    no_args_is_help=True,
    cls=_Prices,
)

Config = Annotated[
    Path | None,
    typer.Option(help="A TOML file with prices, instead of the one that is found."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Count = Annotated[int | None, typer.Option(min=0)]


@prices_app.callback()
def options() -> None:
    """Look at prices, yours and those that are built in."""


@prices_app.command("model", hidden=True)
def price_of(
    name: Annotated[str, typer.Argument(metavar="MODEL")],
    *,
    input_tokens: Annotated[
        int | None, typer.Option("--input", min=0, help="All input tokens.")
    ] = None,
    output: Annotated[int | None, typer.Option(min=0, help="Output tokens.")] = None,
    cache_read: Count = None,
    cache_write: Count = None,
    cache_write_1h: Annotated[
        int | None, typer.Option("--cache-write-1h", min=0)
    ] = None,
    reasoning: Count = None,
    pages: Count = None,
    images: Count = None,
    searches: Count = None,
    characters: Count = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Length of audio.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Who runs the model.")] = None,
    tier: Annotated[str | None, typer.Option(help="Service tier.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="In a batch.")] = False,
    on: Annotated[
        str | None, typer.Option(help="A day or moment in UTC: 2025-05-10T18:00.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print what a call costs, and by whose prices. Status 1 if nobody has any."""
    from llmevents.llm import Usage
    from llmevents.llm.pricing._money import NANO, show_usd, to_nano, to_usd

    counts = {
        "input_tokens": input_tokens,
        "output_tokens": output,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": cache_write,
        "cache_write_1h_tokens": cache_write_1h,
        "reasoning_tokens": reasoning,
        "pages": pages,
        "images": images,
        "searches": searches,
        "characters": characters,
        "audio_duration": None if seconds is None else to_nano(seconds, "seconds"),
    }
    if all(count is None for count in counts.values()):
        msg = "expected a count, such as --input 1000"
        raise typer.BadParameter(msg)
    pricer = _pricer(config)
    pricer.warm_up(wait=True)
    price = pricer.price(
        Usage(**counts),
        provider=provider,
        model=name,
        service_tier=tier,
        batch=batch,
        at=_moment(on),
    )
    if price is None:
        typer.echo(
            f"llmevents: no price for {name!r}; add one to [tool.llmevents.prices], "
            "or name the --provider",
            err=True,
        )
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps({"model": name, **price._asdict()}))
        return
    usd = show_usd(to_usd(price.cost_nano_usd, "cost") / NANO)
    day = f", {price.price_date}" if price.price_date else ""
    typer.echo(f"${usd}  ({price.source}{day})")


@prices_app.command("list")
def list_prices(
    text: Annotated[
        str, typer.Argument(help="Only models and providers that contain this.")
    ] = "",
    *,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print the prices that calls may be priced by, the first source first."""
    from llmevents._show import printable

    found = [
        line
        for line in _pricer(config).describe()
        if text.lower() in f"{line.provider}/{line.model}".lower()
    ]
    if not found:
        typer.echo(f"llmevents: no price for {text!r}", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps([line._asdict() for line in found], indent=2))
        return
    for line in found:
        typer.echo(printable(_as_text(line)))


@prices_app.command()
def check(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models that should have a price.")
    ] = None,
    *,
    ledger: Annotated[
        Path | None,
        typer.Option(help="A JSONL file of calls, whose models should have one."),
    ] = None,
    config: Config = None,
) -> None:
    """Check your prices, and say which models have none. Status 1 if there are."""
    from llmevents.llm.pricing._pricer import check_config

    table = _table(config)
    problems = list(_problems(table))
    if not problems:
        check_config(table)
        wanted = [_split(model) for model in models or []]
        problems = list(_unpriced(_pricer(config), wanted + _called(ledger)))
    for problem in problems:
        typer.echo(f"llmevents: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo("llmevents: every price can be used, and no model lacks one")


def _pricer(config: Path | None) -> Pricer:
    from llmevents._errors import OptionError
    from llmevents.llm.pricing import Pricer

    try:
        return Pricer.from_config(_table(config))
    except OptionError as error:
        raise typer.BadParameter(str(error)) from error


def _table(config: Path | None) -> Mapping[str, object]:
    """Return the table of prices in a file; empty where there is none."""
    from llmevents.config._given import parse_toml

    path = config or next((Path(name) for name in FILES if Path(name).is_file()), None)
    if path is None:
        return {}
    try:
        table: object = parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}"
        raise typer.BadParameter(msg) from error
    inside = ("tool", "llmevents") if path.name == "pyproject.toml" else ()
    for key in (*inside, "prices"):
        table = table.get(key, {}) if isinstance(table, dict) else {}
    return table if isinstance(table, dict) else {}


def _problems(table: Mapping[str, object]) -> Iterator[str]:
    """Yield what is wrong with a table of prices, one line for each entry."""
    from llmevents._errors import OptionError
    from llmevents.llm.pricing._litellm import LiteLLMPrices
    from llmevents.llm.pricing._pricer import check_config

    models = table.get("models")
    entries = models if isinstance(models, dict) else {}
    parts: list[dict[str, object]] = [
        {"models": {key: prices}} for key, prices in entries.items()
    ]
    parts.append({key: table[key] for key in table if table[key] is not entries})
    for part in parts:
        try:
            check_config(part)
        except OptionError as error:
            yield str(error)
    path = table.get("litellm_prices")
    if isinstance(path, str):
        try:
            LiteLLMPrices(path)
        except OptionError as error:
            yield str(error)


def _unpriced(pricer: Pricer, wanted: list[tuple[str | None, str]]) -> Iterator[str]:
    """Yield the models that no source has a price for, of any kind."""
    from llmevents.llm.pricing._plan import COUNTS
    from llmevents.llm.usage import Usage

    pricer.warm_up(wait=True)
    everything = Usage(**dict.fromkeys(COUNTS, 1))
    for provider, model in dict.fromkeys(wanted):
        if pricer.price(everything, provider=provider, model=model) is None:
            where = f" at {provider}" if provider else ""
            yield f"no price for {model!r}{where}"


def _split(model: str) -> tuple[str | None, str]:
    """Return what ``provider/model`` names; a model alone may be anybody's."""
    provider, slash, name = model.partition("/")
    return (provider, name) if slash else (None, model)


def _called(ledger: Path | None) -> list[tuple[str | None, str]]:
    """Return the models that the calls of a JSONL file were made with."""
    if ledger is None:
        return []
    called: list[tuple[str | None, str]] = []
    try:
        lines = ledger.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        msg = f"{ledger} cannot be read: {error}"
        raise typer.BadParameter(msg) from error
    for record in records:
        if isinstance(record, dict) and isinstance(record.get("model"), str):
            provider = record.get("provider", record.get("api_provider"))
            called.append(
                (provider if isinstance(provider, str) else None, record["model"])
            )
    return called


def _moment(text: str | None) -> int | None:
    """Return a day or a moment in Unix nanoseconds; without a zone it is in UTC."""
    from datetime import datetime, timedelta, timezone

    from llmevents.llm.pricing._sources import EPOCH

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no ISO day or moment"
        raise typer.BadParameter(msg) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - EPOCH) // timedelta(microseconds=1) * 1_000


def _as_text(line: Listed) -> str:
    name = f"{line.provider}/{line.model}" if line.provider else line.model
    day = f" {line.date}" if line.date else ""
    return f"{name}  {line.prices}  ({line.source}{day})"
