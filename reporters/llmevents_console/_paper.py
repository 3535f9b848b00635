"""What is drawn on: its size, its signs, and how numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from llmevents_console import _readable
from llmevents_console._layout import Column, table
from llmevents_console._text import Charset


if TYPE_CHECKING:
    from rich.text import Text

    from llmevents_console._amounts import Amount

MAX_NAME = 60
"""Characters of a metric's name."""

WIDE = 80
"""Cells from which on there is room for full names."""

_OBVIOUS = {"total", *_readable.NANOSECONDS, *_readable.BYTES, *_readable.DOLLARS}
"""Last segments of names that the value says as well, in the singular."""

_OVERFLOW = "__overflow__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """What is drawn on.

    Attributes:
        width: Cells of a row.
        height: Rows.
        charset: Signs that can be shown.
        is_exact: Whether numbers are shown in full, for files instead of people.
    """

    width: int
    height: int = 25
    charset: Charset
    is_exact: bool = False

    def value(self, value: Amount, unit: str, name: str = "") -> str:
        """Return a total with its unit; *name* is the metric's."""
        if not self.is_exact:
            return self.charset.printable(_readable.readable(value, unit, name))
        if unit in _readable.DOLLARS:
            amount = Fraction(value) * _readable.DOLLARS[unit]
            return _readable.exact_dollars(amount)
        shown = "" if _readable.is_named(unit, name) else self.charset.printable(unit)
        return f"{value:,} {shown}".rstrip()

    def text(self, text: str) -> str:
        """Return a tag's value so that nothing happens."""
        return "(others)" if text == _OVERFLOW else self.charset.printable(text)

    def tags(self, tags: Mapping[str, str]) -> str:
        """Return tags as ``key=value key=value``."""
        return " ".join(
            f"{self.charset.printable(tag)}={self.text(text)}"
            for tag, text in tags.items()
        )

    def names(self, names: Sequence[str]) -> list[str]:
        """Return names of metrics, without the obvious where there is little room."""
        shown = list(map(_plain_name, names))
        if self.width >= WIDE or len(set(shown)) < len(set(names)):
            shown = list(names)
        return [self.charset.printable(name, MAX_NAME) for name in shown]

    def table(self, columns: Sequence[Column], *, bold: int | None = None) -> Text:
        """Return a table that fits; *bold* is a row."""
        return table(columns, self.width, self.charset, bold=bold)


def _plain_name(name: str) -> str:
    """Return ``"cache size"`` for ``"llm.cache.size.bytes"``."""
    parts = name.split(".")
    if parts[0] == "llm" and len(parts) > 1:
        del parts[0]
    while len(parts) > 1 and parts[-1].rstrip("s") in _OBVIOUS:
        del parts[-1]
    return " ".join(parts).replace("_", " ")


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names without the segments that all of them begin or end with.

    Dots and underscores become blanks, which is where a header may wrap.
    """
    split = [name.split(".") for name in names]
    for place in (0, -1):
        while (
            min(map(len, split), default=1) > 1
            and len({parts[place] for parts in split}) == 1
        ):
            split = [parts[1:] if place == 0 else parts[:-1] for parts in split]
    return [" ".join(parts).replace("_", " ") for parts in split]
