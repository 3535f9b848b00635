"""Tables of metrics: how fast they grow, how they spread, and what they came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmevents.metrics import ExponentialHistogram, Histogram
from llmevents_console._amounts import Spread, adds_up, spread, spreads, total
from llmevents_console._charts import shape, sparkline
from llmevents_console._history import COLUMNS
from llmevents_console._layout import Column
from llmevents_console._paper import WIDE
from llmevents_console._readable import duration, estimate, rate


if TYPE_CHECKING:
    from rich.text import Text

    from llmevents.metrics import Family, Series
    from llmevents_console._history import History
    from llmevents_console._paper import Paper

CHART = 16
"""Cells of the chart of a distribution."""

NARROW_SPARKLINE = 12
"""Cells of a sparkline where there is little room."""

_QUANTILES = (("p50", 0.5, 2), ("p95", 0.95, 0), ("p99", 0.99, 1))
_SECOND = 10**9
_A_FEW_MINUTES = 180


def activity(
    families: Sequence[Family], history: History, paper: Paper, rows: int
) -> Text:
    """Return how fast each metric grows, all its series together."""
    shown = families[:rows]
    names = paper.names([family.definition.name for family in shown])
    rest = _rest(len(families) - rows)
    blank = [""] * len(rest)
    totals = [_total(family, paper) for family in shown]
    columns = [
        Column(header="metric", cells=[*names, *rest], is_text=True),
        Column(header="total", cells=[*totals, *blank]),
    ]
    if history.seconds:
        rates = [_rate(family, history) for family in shown]
        width = COLUMNS if paper.width >= WIDE else NARROW_SPARKLINE
        lines = [_line(family, history, width, paper) for family in shown]
        columns += (
            Column(header="rate", cells=[*rates, *blank]),
            Column(
                header=f"last {_span(history.seconds)}",
                cells=[*lines, *blank],
                rank=2,
                is_chart=True,
                style="cyan",
            ),
        )
    return paper.table(columns)


def distributions(families: Sequence[Family], paper: Paper, rows: int) -> Text:
    """Return how the values of each metric spread, all its series together."""
    shown = families[:rows]
    names = paper.names([family.definition.name for family in shown])
    rest = _rest(len(families) - rows)
    blank = [""] * len(rest)
    found = [spread(family) for family in shown]
    shapes = [_shape(each, paper) for each in found]
    columns = (
        Column(header="metric", cells=[*names, *rest], is_text=True),
        Column(
            header="count",
            cells=[*(f"{_count(each):,}" for each in found), *blank],
            rank=4,
        ),
        *(
            Column(header=header, cells=[*_quantiles(found, q), *blank], rank=rank)
            for header, q, rank in _QUANTILES
        ),
        Column(
            header="spread",
            cells=[*(each[0] for each in shapes), *blank],
            rank=3,
            is_chart=True,
            style="cyan",
        ),
        Column(
            header="range",
            cells=[*(each[1] for each in shapes), *blank],
            rank=5,
            is_chart=True,
        ),
    )
    return paper.table(columns)


class Row(NamedTuple):
    """A metric or one of its series."""

    family: Family
    series: Series | None = None


def rows_of(family: Family) -> Iterator[Row]:
    """Yield one row for a metric that adds up, else one per series."""
    if adds_up(family) or spreads(family):
        yield Row(family)
    else:
        yield from series_of(family)


def series_of(family: Family) -> Iterator[Row]:
    """Yield one row per series."""
    for series in family.series:
        yield Row(family, series)


def values(found: Sequence[Row], paper: Paper, rows: int) -> Text:
    """Return what metrics and series came to."""
    shown = found[:rows]
    rest = _rest(len(found) - rows, " series")
    blank = [""] * len(rest)
    names = paper.names([row.family.definition.name for row in shown])
    tags = ["" if row.series is None else paper.tags(row.series.tags) for row in shown]
    quantiles = [_spread_of(row) for row in shown]
    columns = [Column(header="metric", cells=[*_once(names), *rest], is_text=True)]
    if any(tags):
        cells = [*tags, *blank]
        columns.append(Column(header="tags", cells=cells, rank=1, is_text=True))
    cells = [*(_value(row, paper) for row in shown), *blank]
    columns.append(Column(header="value", cells=cells))
    if any(quantiles):
        columns += (
            Column(header=header, cells=[*_quantiles(quantiles, q), *blank], rank=rank)
            for header, q, rank in _QUANTILES
        )
    return paper.table(columns)


def _rest(hidden: int, what: str = "") -> list[str]:
    return [f"and {hidden:,} more{what}"] if hidden > 0 else []


def _span(seconds: float) -> str:
    """Return how long the sparklines are."""
    if seconds <= _A_FEW_MINUTES:
        return f"{round(seconds)} s"
    return duration(seconds * _SECOND)


def _once(names: Iterable[str]) -> Iterator[str]:
    """Yield a blank for each name that is the same as the one before."""
    before = None
    for name in names:
        yield "" if name == before else name
        before = name


def _total(family: Family, paper: Paper) -> str:
    definition = family.definition
    return paper.value(total(family), definition.unit, definition.name)


def _value(row: Row, paper: Paper) -> str:
    found = _spread_of(row)
    if found is not None:
        return f"{_count(found):,} values"
    if row.series is None:
        return _total(row.family, paper)
    definition = row.family.definition
    value = row.series.value
    if isinstance(value, (Histogram, ExponentialHistogram)):
        return f"{value.count:,} values"
    return paper.value(value, definition.unit, definition.name)


def _spread_of(row: Row) -> Spread | None:
    return spread(row.family) if row.series is None else None


def _rate(family: Family, history: History) -> str:
    per_second = history.rate(family.definition.name)
    return "" if per_second is None else rate(per_second, family.definition.unit)


def _line(family: Family, history: History, width: int, paper: Paper) -> str:
    rates = history.rates(family.definition.name)[-width:]
    return sparkline(rates, paper.charset).rjust(width)


def _count(found: Spread | None) -> int:
    return 0 if found is None else found.values.count


def _quantiles(spreads: Iterable[Spread | None], q: float) -> Iterator[str]:
    for found in spreads:
        yield "" if found is None else found.quantile(q)


def _shape(found: Spread | None, paper: Paper) -> tuple[str, str]:
    """Return the chart of a distribution, and from where to where it goes."""
    if found is None or not found.values.count:
        return ("", "")
    low, high, counts = shape(found.values, CHART)
    unit = found.unit
    begin = "" if low is None else estimate(low, unit)
    end = "and up" if high is None else f"to {estimate(high, unit)}"
    return (sparkline(counts, paper.charset), f"{begin} {end}".strip())
