"""Tables that fit: columns are left out and texts cut before anything is garbled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from llmevents_console._text import Charset


GAP = 2
"""Cells between two columns."""

LEAST_TEXT = 12
"""Cells that a column of text keeps, if it needs as many."""

TEXTS = ((2, LEAST_TEXT), (9, 16))
"""Up to which rank columns are worth cutting texts to so many cells."""

LONG_TEXT = 24
"""What texts are cut to for columns of a higher rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        header: What is above it, of one or more rows.
        cells: One text per row, printable.
        rank: Columns of a higher rank are left out first; those of 0 never.
        is_text: Whether it begins at the left and may be cut.
        is_chart: Whether it begins at the left and may not be cut.
        style: Rich's, of its cells.
    """

    header: str
    cells: Sequence[str]
    rank: int = 0
    is_text: bool = False
    is_chart: bool = False
    style: str = ""

    @property
    def width(self) -> int:
        """Cells that it takes."""
        return max(map(cell_len, (*self.header.split("\n"), *self.cells)))

    def least_width(self, text: int = LEAST_TEXT) -> int:
        """Return the cells that it takes when texts are cut to so many."""
        return min(self.width, text) if self.is_text else self.width


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns for which there is room, in the order given."""
    chosen: list[Column] = []
    for column in sorted(columns, key=lambda column: column.rank):
        text = next((cells for rank, cells in TEXTS if column.rank <= rank), LONG_TEXT)
        taken = sum(each.least_width(text) + GAP for each in chosen)
        if not column.rank or taken + column.least_width(text) <= width:
            chosen.append(column)
    return [column for column in columns if column in chosen]


def table(
    columns: Sequence[Column], width: int, charset: Charset, *, bold: int | None = None
) -> Text:
    """Return a table of those *columns* that fit into *width*; *bold* is a row.

    It looks the same with every version of rich, which rich's own tables do not.
    """
    shown = fitting(columns, width)
    above = max(column.header.count("\n") for column in shown) + 1
    blocks = [
        _block(column, above, cells, charset)
        for column, cells in zip(shown, _widths(shown, width), strict=True)
    ]
    made = Text(no_wrap=True, overflow="crop")
    for place, row in enumerate(zip(*blocks, strict=True), start=-above - 1):
        made.append("\n" if made else "")
        weight = "bold " if place < -1 or place == bold else ""
        for number, text in enumerate(row):
            style = "" if place < 0 else _style(text, shown[number])
            made.append(" " * GAP if number else "")
            made.append(text, weight + style)
    return made


def _block(column: Column, above: int, cells: int, charset: Charset) -> list[str]:
    """Return what stands below each other: header of *above* rows, rule and cells."""
    header = column.header.split("\n")
    rule = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" if charset.is_unicode else "-"
    texts = [*[""] * (above - len(header)), *header, rule * cells]
    texts += [charset.cut(cell, cells) for cell in column.cells]
    return [_padded(text, cells, column) for text in texts]


def _widths(shown: Sequence[Column], width: int) -> list[int]:
    """Return how wide each column is: texts share what is left, first come first."""
    spare = width - sum(column.least_width() + GAP for column in shown) + GAP
    widths = []
    for column in shown:
        more = max(0, min(spare, column.width - column.least_width()))
        spare -= more
        widths.append(column.least_width() + more)
    return widths


def _padded(text: str, cells: int, column: Column) -> str:
    blank = " " * (cells - cell_len(text))
    return text + blank if column.is_text or column.is_chart else blank + text


def _style(text: str, column: Column) -> str:
    return "dim" if text.strip() in {"0", "0.0 %"} else column.style
