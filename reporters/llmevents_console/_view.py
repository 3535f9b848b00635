"""All that is shown at one moment: the live view, and the summary at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.text import Text

from llmevents_console import _metric_tables
from llmevents_console._amounts import only_grows, spreads
from llmevents_console._model_table import model_table
from llmevents_console._models import read_models


if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from llmevents.metrics import Family, Snapshot
    from llmevents_console._history import History
    from llmevents_console._paper import Paper

MAX_ROWS = 50
"""Rows of a table."""

NOTHING = "no events yet"

_HEADER = 2
"""Rows above the first of a table."""


class Look(NamedTuple):
    """What is there to be shown.

    Attributes:
        snapshot: Of the store.
        refused: Values that the store could not take in.
    """

    snapshot: Snapshot
    refused: int = 0


class _Room:
    """The rows of a terminal, handed out from the top."""

    def __init__(self, rows: int) -> None:
        self._left = rows

    def take(self, wanted: int, most: int, extra: int = 0) -> int:
        """Return how many of the *wanted* rows a table can have; 0 to leave it out.

        *extra* rows come on top of them.
        """
        granted = min(wanted, most, self._left - _HEADER - extra)
        if granted < wanted:
            granted -= 1  # for the row that says how many are left out
        if granted <= 0:
            return 0
        self._left -= granted + (granted < wanted) + extra + _HEADER + 1
        return granted


def live_view(look: Look, history: History, paper: Paper) -> RenderableType:
    """Return models, then rates, distributions and the rest, as far as there is room."""
    families = [each for each in look.snapshot.families.values() if each.series]
    if not families:
        return _stack([Text(NOTHING)], look.refused)
    room = _Room(paper.height - 1 - bool(look.refused))
    parts: list[RenderableType] = []
    reading = read_models(look.snapshot)
    rows = room.take(len(reading.models), max(5, paper.height // 2 - 4), extra=2)
    models = model_table(reading, look.snapshot.families, paper, rows or 1)
    if models is not None:
        parts.append(models.table)
        room = room if rows else _Room(0)
    growing = [family for family in families if only_grows(family)]
    if rows := room.take(len(growing), min(12, max(4, paper.height // 2 - 7))):
        parts.append(_metric_tables.activity(growing, history, paper, rows))
    spreading = [family for family in families if spreads(family)]
    if rows := room.take(len(spreading), 8):
        parts.append(_metric_tables.distributions(spreading, paper, rows))
    rest = _rest(families, reading.covered)
    if rows := room.take(len(rest), MAX_ROWS):
        parts.append(_metric_tables.values(rest, paper, rows))
    return _stack(parts, look.refused)


def summary(look: Look, paper: Paper) -> RenderableType:
    """Return what every model came to, and then what is not about models."""
    families = [each for each in look.snapshot.families.values() if each.series]
    if not families:
        return _stack([Text(NOTHING)], look.refused)
    reading = read_models(look.snapshot)
    models = model_table(reading, look.snapshot.families, paper, MAX_ROWS)
    parts: list[RenderableType] = []
    covered: set[str] = set()
    if models is not None:
        parts.append(models.table)
        covered = reading.covered - set(models.left_out)
    others = [
        row
        for family in families
        if family.definition.name not in covered
        for row in _metric_tables.rows_of(family)
    ]
    if others:
        parts.append(_metric_tables.values(others, paper, MAX_ROWS))
    return _stack(parts, look.refused)


def _rest(families: Sequence[Family], covered: set[str]) -> list[_metric_tables.Row]:
    """Return the series that no other table of the live view shows."""
    return [
        row
        for family in families
        if family.definition.name not in covered and not spreads(family)
        if not only_grows(family) or len(family.series) > 1
        for row in _metric_tables.series_of(family)
    ]


def _stack(parts: Sequence[RenderableType], refused: int) -> RenderableType:
    """Return the parts with an empty row between each two."""
    rows: list[RenderableType] = []
    for part in parts:
        rows += [Text(), part] if rows else [part]
    if refused:
        values = "1 value was" if refused == 1 else f"{refused:,} values were"
        note = (
            f"{values} refused: no number, too large, or negative where that is wrong"
        )
        rows.append(Text(note, style="dim"))
    return Group(*rows)
