"""Snapshots as text: lines, and tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from llmevents.metrics import Counter, Family, Series, Snapshot, Sum


if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_ROWS = 100
"""Rows of a table; rich takes about a millisecond for three."""

MAX_TEXT = 40
"""Characters of a tag's value."""

GAP = 3
"""Characters between two columns."""

PAIR = ("provider", "model")
"""The tags that the compact table goes by."""

_LARGEST_PLAIN = 1e15
_SMALLEST_PLAIN = 1e-3


def printable(text: str, limit: int = MAX_TEXT) -> str:
    r"""Return *text* without anything that a terminal would act on, cut to *limit*.

    Control characters, line breaks, marks that reverse the direction of writing and
    lone surrogates become escapes such as ``\x1b``.
    """
    piece = text[: limit + 1]
    if not piece.isprintable():
        piece = "".join(
            sign if sign.isprintable() else sign.encode("unicode_escape").decode()
            for sign in piece
        )
    return (
        piece if len(piece) <= limit else f"{piece[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def number(value: float) -> str:
    """Return *value* with thousands separators, and three decimals at most."""
    if isinstance(value, int):
        return f"{value:,}"
    if value and not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        return f"{value:.4g}"
    whole, _, decimals = f"{value:,.3f}".partition(".")
    decimals = decimals.rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole


def line(family: Family, series: Series) -> str:
    """Return a series as a line: ``name{tag="value"} 1,234 unit``."""
    tags = ", ".join(
        f"{printable(tag)}={_quoted(value)}" for tag, value in series.tags.items()
    )
    name = printable(family.definition.name, 2 * MAX_TEXT)
    braces = f"{{{tags}}}" if tags else ""
    unit = printable(family.definition.unit)
    return f"{name}{braces} {number(series.value)} {unit}".rstrip()


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def tables(snapshot: Snapshot, width: int) -> RenderableType:
    """Return all that there is: what models did, then every series.

    Args:
        snapshot: What to show.
        width: Columns there are for it.
    """
    every = _all(snapshot)
    if every is None:
        return Text("no events yet")
    by_model = _by_model(snapshot, width)
    return every if by_model is None else Group(by_model, Text(), every)


def _all(snapshot: Snapshot) -> Table | None:
    """Return one row per series, grouped by metric."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("metric", overflow="fold")
    table.add_column("tags", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", overflow="fold")
    total = sum(len(family.series) for family in snapshot.families.values())
    for family in snapshot.families.values():
        name = family.definition.name
        for series in family.series:
            if table.row_count == MAX_ROWS:
                table.add_row(Text(f"and {total - MAX_ROWS:,} more series"))
                return table
            table.add_row(
                Text(printable(name, 2 * MAX_TEXT)),
                Text(_tags(series.tags)),
                Text(number(series.value)),
                Text(printable(family.definition.unit)),
            )
            name = ""
    return table if total else None


def _tags(tags: Mapping[str, str]) -> str:
    return " ".join(f"{printable(tag)}={printable(text)}" for tag, text in tags.items())


class _Column(NamedTuple):
    """A metric as a column of the compact table, with its totals by pair of tags."""

    header: str
    cells: dict[tuple[str, ...], str]

    @property
    def width(self) -> int:
        return max(map(len, (*self.header.split(), *self.cells.values())))


def _by_model(snapshot: Snapshot, width: int) -> Table | None:
    """Return one row per provider and model, with the metrics that have both tags."""
    totals = {
        name: found
        for name, family in snapshot.families.items()
        if (found := _totals(family))
    }
    if not totals:
        return None
    headers = _short_names(list(totals))
    columns = [
        _Column(header, {pair: number(value) for pair, value in found.items()})
        for header, found in zip(headers, totals.values(), strict=True)
    ]
    pairs = list(dict.fromkeys(pair for column in columns for pair in column.cells))
    hidden = len(pairs) - MAX_ROWS
    del pairs[MAX_ROWS:]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for tag in PAIR:
        table.add_column(tag, overflow="fold")
    shown = _that_fit(columns, pairs, width)
    for column in shown:
        header = Text(column.header)
        table.add_column(header, justify="right", min_width=column.width)
    for pair in pairs:
        values = (column.cells.get(pair, "") for column in shown)
        table.add_row(*map(Text, map(printable, pair)), *map(Text, values))
    if hidden > 0:
        table.add_row(Text(f"and {hidden:,} more"))
    return table


def _totals(family: Family) -> dict[tuple[str, ...], int | float]:
    """Return what a metric came to by pair of tags, if its series add up at all."""
    totals: dict[tuple[str, ...], int | float] = {}
    if isinstance(family.definition, (Counter, Sum)):
        for series in family.series:
            if all(tag in series.tags for tag in PAIR):
                pair = tuple(series.tags[tag] for tag in PAIR)
                totals[pair] = totals.get(pair, 0) + series.value
    return totals


def _that_fit(
    columns: Sequence[_Column], pairs: Iterable[tuple[str, ...]], width: int
) -> list[_Column]:
    """Return the first columns for which there is room; the rest is below anyway."""
    rows = [PAIR, *(tuple(map(printable, pair)) for pair in pairs)]
    taken = sum(max(map(cell_len, column)) + GAP for column in zip(*rows, strict=True))
    fitting: list[_Column] = []
    for column in columns:
        taken += column.width + GAP
        if taken > width and fitting:
            break
        fitting.append(column)
    return fitting


def _short_names(names: Sequence[str]) -> list[str]:
    """Return the names without the segments that all of them begin or end with.

    A dot becomes a space, which is where a header may wrap.
    """
    split = [name.split(".") for name in names]
    while min(map(len, split)) > 1 and len({parts[0] for parts in split}) == 1:
        split = [parts[1:] for parts in split]
    while min(map(len, split)) > 1 and len({parts[-1] for parts in split}) == 1:
        split = [parts[:-1] for parts in split]
    return [printable(" ".join(parts)) for parts in split]
