"""``llmevents usage watch``: what calls come to, while they are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from llmevents.cli import _usage_answer as answer
from llmevents.cli import _usage_charts as charts
from llmevents.cli import _usage_tables as tables
from llmevents.cli import _usage_text as shown
from llmevents.cli import _usage_totals as totals_of
from llmevents.cli._usage_lists import bars
from llmevents.cli._usage_options import Selection, utc_now
from llmevents.cli._usage_store import name_of, opened


if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmevents.ledger._query import Engine, Failure, Filter, Totals
    from llmevents.ledger._query import Group as Grouped

MINUTES = 30
"""Columns of the charts."""

STILL_OPEN = 10
"""Minutes for which calls may come that began in a minute."""

RECENT = 5
"""Minutes that rates are of."""

PERIOD = "1h"
"""What the totals are of if nobody says a period."""

REST = 3
"""How much longer a rest is than what was asked took, at least."""

EXACT = 100
"""A rate from which on nobody wants a decimal."""

ROWS_OF_OTHERS = 18
"""Rows of a screen that have no model."""

LEAST_ROWS = 3


class Picture(NamedTuple):
    """What is to be seen at a moment.

    Attributes:
        now: The moment.
        where: What the totals are of.
        totals: What calls came to.
        models: By model, the dearest first.
        failures: The most frequent ones.
        minutes: What the calls of each of the last minutes came to.
        recent: What those of the last `RECENT` minutes came to, up to the moment.
    """

    now: datetime
    where: Filter
    totals: Totals
    models: Sequence[Grouped]
    failures: Sequence[Failure]
    minutes: Sequence[Totals]
    recent: Totals


class Watcher:
    """Asks an engine again and again, and nothing twice that cannot have changed."""

    def __init__(self, engine: Engine, selection: Selection) -> None:
        self._engine = engine
        if selection.since is None and selection.days is None:
            selection = replace(selection, since=PERIOD)
        self._selection = selection
        self._minutes: dict[datetime, Totals] = {}

    def look(self, now: datetime) -> Picture:
        """Return what is to be seen.

        Raises:
            OSError: The store cannot be read.
        """
        where = replace(self._selection, now=now).where()
        return Picture(
            now,
            where,
            self._engine.summary(where),
            self._engine.by("model", where),
            self._engine.errors(where, limit=LEAST_ROWS),
            self._of_minutes(now, where),
            self._engine.summary(
                replace(where, since=now - timedelta(minutes=RECENT), until=None)
            ),
        )

    def _of_minutes(self, now: datetime, where: Filter) -> list[Totals]:
        last = now.replace(second=0, microsecond=0)
        known, self._minutes = self._minutes, {}
        for back in range(MINUTES - 1, -1, -1):
            begin = last - timedelta(minutes=back)
            found = known.get(begin) if back > STILL_OPEN else None
            if found is None:
                end = begin + timedelta(minutes=1)
                found = self._engine.summary(replace(where, since=begin, until=end))
            self._minutes[begin] = found
        return list(self._minutes.values())


def watch(
    selection: Selection,
    *,
    interval: float,
    once: bool,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show what calls come to, until the process is interrupted."""
    found = selection.found()
    console = tables.terminal()
    with opened(found) as engine:
        watcher = Watcher(engine, selection)
        began = time.monotonic()
        picture, problem = watcher.look(selection.now), ""
        if once:
            console.print(frame(console, name_of(found), picture))
            return
        with _screen(console) as show:
            while True:
                show(frame(console, name_of(found), picture, problem))
                # A large file of JSON lines is read anew whenever it has grown.
                sleep(max(interval, REST * (time.monotonic() - began)))
                began = time.monotonic()
                picture, problem = _next(watcher, picture)


@contextmanager
def _screen(console: Console) -> Iterator[Callable[[RenderableType], None]]:
    """Give what shows a frame: in place of the last, or below it in a stream."""
    from rich.live import Live

    if console.is_terminal:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield lambda content: live.update(content, refresh=True)
    else:
        yield console.print


def _next(watcher: Watcher, before: Picture) -> tuple[Picture, str]:
    """Return what is to be seen now, or what was before and why that is so."""
    try:
        return watcher.look(utc_now()), ""
    except OSError as error:
        return before, f"cannot be read now: {error}"


def frame(
    console: Console, store: str, picture: Picture, problem: str = ""
) -> RenderableType:
    """Return what is to be seen as something that fits the screen."""
    head = Table.grid(expand=console.width < tables.ENDLESS)
    head.add_column(overflow="ellipsis", no_wrap=True)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(
        tables.text(f"llmevents: {store}", "bold"),
        tables.text(f"  {picture.now:%Y-%m-%d %H:%M:%S} UTC"),
    )
    parts: list[RenderableType] = [
        head,
        tables.text(f"{answer.period(picture.where)}; Ctrl-C ends this", "dim"),
        tables.text(""),
        totals_of.of_totals(picture.totals),
        tables.text(""),
        _charts(console, picture),
        tables.text(""),
        _models(console, picture),
    ]
    if picture.failures:
        parts.append(_one_line(_failures(picture.failures)))
    if problem:
        parts.append(_one_line(shown.name(problem)))
    return Group(*parts)


def _one_line(words: str) -> Text:
    return Text(words, style="red", no_wrap=True, overflow="ellipsis")


def _charts(console: Console, picture: Picture) -> Table:
    """Return calls, cost and tokens of the last minutes as columns."""
    is_unicode = console.encoding.startswith("utf")
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", min_width=totals_of.LABEL, no_wrap=True)
    made.add_column(style="cyan", no_wrap=True)
    for _ in range(2):
        made.add_column(justify="right", no_wrap=True)
    ago = f"{MINUTES} min ago".ljust(MINUTES - len("now")) + "now"
    made.add_row(
        tables.text("A minute"),
        tables.text(ago, "dim"),
        tables.text(f"last {RECENT} min", "dim"),
        tables.text("most", "dim"),
    )
    for title, name in (
        ("Calls", "calls"),
        ("Cost", "cost_nano_usd"),
        ("Tokens", "total_tokens"),
    ):
        values = [getattr(minute, name) or 0 for minute in picture.minutes]
        average = (getattr(picture.recent, name) or 0) / RECENT
        made.add_row(
            tables.text(title),
            tables.text(charts.sparkline(values, is_unicode=is_unicode)),
            tables.text(_rate(name, average)),
            tables.text(_number(name, max(values))),
        )
    return made


def _rate(name: str, average: float) -> str:
    if name == "cost_nano_usd":
        return f"{shown.money(round(average))}/min"
    return f"{average:,.{1 if average < EXACT else 0}f}/min"


def _number(name: str, value: int) -> str:
    return shown.money(value) if name == "cost_nano_usd" else shown.count(value)


def _models(console: Console, picture: Picture) -> RenderableType:
    """Return the models as bars: by cost, or by calls if no cost is known."""
    if not picture.models:
        return tables.text("No calls in this period yet; they are shown as they come.")
    measure = "cost_nano_usd" if picture.totals.cost_nano_usd else "calls"
    room = max(LEAST_ROWS, console.height - ROWS_OF_OTHERS)
    whole = getattr(picture.totals, measure)
    by = sorted(
        picture.models, key=lambda one: getattr(one.totals, measure) or 0, reverse=True
    )
    return bars(console, "Model", by[:room], measure, whole)


def _failures(failures: Sequence[Failure]) -> str:
    named = []
    for one in failures:
        code = "" if one.http_status is None else f" {one.http_status}"
        where = "" if one.provider is None else f" ({shown.name(one.provider)})"
        error = shown.name(one.error_type, "unknown error")
        named.append(f"{one.calls:,} {error}{code}{where}")
    return f"Failed: {', '.join(named)}"
