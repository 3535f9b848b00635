"""``llmevents prices``: what a call costs, and which prices there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llmevents.cli._config import problems_of


if TYPE_CHECKING:
    from llmevents.config._prepare import Prepared
    from llmevents.llm.pricing import Listed, Price, Pricer
    from llmevents.llm.usage import Usage


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
    typer.Option(help="The file to read, instead of the one that is found."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Count = Annotated[int | None, typer.Option(min=0)]
InputTokens = Annotated[
    int | None, typer.Option("--input", min=0, help="All input tokens.")
]
OutputTokens = Annotated[int | None, typer.Option(min=0, help="Output tokens.")]
WriteFor1h = Annotated[int | None, typer.Option("--cache-write-1h", min=0)]
Seconds = Annotated[float | None, typer.Option(min=0, help="Length of audio.")]
Provider = Annotated[str | None, typer.Option(help="Who runs the model.")]
Tier = Annotated[str | None, typer.Option(help="Service tier.")]
Batch = Annotated[bool, typer.Option("--batch", help="In a batch.")]
Day = Annotated[
    str | None, typer.Option(help="A day or moment in UTC: 2025-05-10T18:00.")
]


@prices_app.callback()
def options() -> None:
    """Look at prices, yours and those that are built in."""


@prices_app.command("model", hidden=True)
def price_of(
    name: Annotated[str, typer.Argument(metavar="MODEL")],
    *,
    input_tokens: InputTokens = None,
    output: OutputTokens = None,
    cache_read: Count = None,
    cache_write: Count = None,
    cache_write_1h: WriteFor1h = None,
    reasoning: Count = None,
    pages: Count = None,
    images: Count = None,
    searches: Count = None,
    characters: Count = None,
    seconds: Seconds = None,
    provider: Provider = None,
    tier: Tier = None,
    batch: Batch = False,
    on: Day = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print what a call costs, and by whose prices. Status 1 if nobody has any."""
    usage = _usage(
        input_tokens=input_tokens,
        output_tokens=output,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=cache_write_1h,
        reasoning_tokens=reasoning,
        pages=pages,
        images=images,
        searches=searches,
        characters=characters,
        audio_duration=_nanoseconds(seconds),
    )
    pricer = _pricer(config)
    pricer.warm_up(wait=True)
    price = pricer.price(
        usage,
        provider=provider,
        model=name,
        service_tier=tier,
        batch=batch,
        at=_moment(on),
    )
    _show_price(name, price, as_json=as_json)


def _usage(**counts: int | None) -> Usage:
    """Return what a call used; that it used nothing known is a usage error."""
    from llmevents.llm import Usage

    if all(count is None for count in counts.values()):
        msg = "expected a count, such as --input 1000"
        raise typer.BadParameter(msg)
    return Usage(**counts)


def _nanoseconds(seconds: float | None) -> int | None:
    from llmevents.llm._money import written
    from llmevents.llm._windows import SECOND

    if seconds is None:
        return None
    length = written(seconds)
    if length is None:
        msg = f"expected a length in seconds, got {seconds}"
        raise typer.BadParameter(msg, param_hint="--seconds")
    return round(length * SECOND)


def _show_price(model: str, price: Price | None, *, as_json: bool) -> None:
    if price is None:
        typer.echo(
            f"llmevents: no price for {model!r} and what was used of it; name the "
            f'--provider, or add [prices.models."{model}"] to llmevents.toml '
            f'([tool.llmevents.prices.models."{model}"] to pyproject.toml)',
            err=True,
        )
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps({"model": model, **price._asdict()}))
    else:
        typer.echo(_price_as_text(price))


def _price_as_text(price: Price) -> str:
    from llmevents.llm._money import NANO, show_usd, to_usd

    usd = show_usd(to_usd(price.cost_nano_usd, "cost") / NANO)
    day = f", {price.price_date}" if price.price_date else ""
    return f"${usd}  ({price.source}{day})"


@prices_app.command("list")
def list_prices(
    text: Annotated[
        str, typer.Argument(help="Only models and providers that contain this.")
    ] = "",
    *,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print the prices of calls, the first source first."""
    from llmevents._show import printable

    found = [
        line
        for line in _pricer(config).describe()
        if text.lower() in f"{line.provider}/{line.model}".lower()
    ]
    if not found:
        found_none = f"no price for {text!r}" if text else "there are no prices"
        typer.echo(f"llmevents: {found_none}", err=True)
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
    """Check your prices, and say which models have none.

    Status 1 if there are such models.
    """
    prepared = _prepared(config)
    problems = problems_of(prepared)
    if not problems:
        wanted = [_split(model) for model in models or []]
        problems = list(_unpriced(_pricer_of(prepared), wanted + _called(ledger)))
    for problem in problems:
        typer.echo(f"llmevents: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo("llmevents: every price can be used, and no model lacks one")


def _prepared(config: Path | None) -> Prepared:
    """Return the prices of files and environment, and what is wrong with them."""
    from llmevents.config._prepare import prepare_prices

    return prepare_prices(config=config)


def _pricer(config: Path | None) -> Pricer:
    """Return the pricer that a program here would have; none is a usage error."""
    prepared = _prepared(config)
    problems = problems_of(prepared)
    if problems:
        raise typer.BadParameter("\n".join(problems))
    return _pricer_of(prepared)


def _pricer_of(prepared: Prepared) -> Pricer:
    from llmevents.llm.pricing import default_pricer

    return default_pricer() if prepared.pricer is None else prepared.pricer


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

    from llmevents.llm._windows import EPOCH

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
