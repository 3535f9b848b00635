"""The table of models: the first thing that is looked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from llmevents_console._charts import bar
from llmevents_console._layout import Column, fitting
from llmevents_console._models import (
    CALLS,
    COST,
    ERRORS,
    ROLES,
    TOKENS_IN,
    TOKENS_OUT,
    Model,
    Reading,
    whole,
)
from llmevents_console._paper import short_names
from llmevents_console._readable import readable


if TYPE_CHECKING:
    from rich.text import Text

    from llmevents.metrics import Family
    from llmevents_console._paper import Paper

BAR = 10
"""Cells of a bar that shows a share."""

_PROVIDER_RANK = 5
_RANKS = {CALLS: 0, COST: 1, ERRORS: 3, TOKENS_IN: 6, TOKENS_OUT: 7}
_QUANTILES = (("p50", 0.5, 8), ("p95", 0.95, 2))
_FAILED_RANK = 9
_SHARE_RANK = 10
_FURTHER_RANK = 11
_STYLES = {ERRORS: "red", COST: "green"}


class ModelTable(NamedTuple):
    """A table, and the names of the metrics that did not fit into it."""

    table: Text
    left_out: list[str]


def model_table(
    reading: Reading, families: Mapping[str, Family], paper: Paper, rows: int
) -> ModelTable | None:
    """Return one row per model, at most *rows*, and the total of all.

    None if no metric says anything about models.
    """
    if not reading.models:
        return None
    models = reading.models[:rows]
    hidden = len(reading.models) - len(models)
    together = whole(reading.models)
    total = [together] if len(reading.models) > 1 else []
    builder = _Builder(models, hidden, total, paper)
    further = list(builder.further(reading.further, families))
    columns = [*builder.names(), *builder.columns(together), *further]
    shown = fitting(columns, paper.width)
    left_out = [
        name
        for name, column in zip(reading.further, further, strict=True)
        if column not in shown
    ]
    last = len(columns[0].cells) - 1 if total else None
    return ModelTable(paper.table(shown, bold=last), left_out)


class _Builder:
    """Makes columns: a cell per model, one for those that are cut, one for all."""

    def __init__(
        self, models: list[Model], hidden: int, total: list[Model], paper: Paper
    ) -> None:
        self._models = models
        self._cut = [f"and {hidden:,} more"] if hidden else []
        self._total = total
        self._paper = paper

    def names(self) -> Iterator[Column]:
        """Yield the columns that say which model it is."""
        paper = self._paper
        providers = [paper.text(model.provider) for model in self._models]
        names = [paper.text(model.name) for model in self._models]
        rest = [*self._cut, *(model.name for model in self._total)]
        if any(providers):
            yield Column(
                header="provider",
                cells=[*providers, *("" for _ in rest)],
                # Without it two models of one name could not be told apart.
                rank=_PROVIDER_RANK if len(set(names)) == len(names) else 0,
                is_text=True,
                style="cyan",
            )
        yield Column(header="model", cells=[*names, *rest], is_text=True)

    def columns(self, together: Model) -> Iterator[Column]:
        """Yield what is known about any of them."""
        for role in ROLES:
            if role in together.totals:
                unit = "usd" if role == COST else ""
                yield self._amounts(role, role, unit, _RANKS[role])
        if any(model.latency for model in self._models):
            for header, q, rank in _QUANTILES:
                yield self._column(header, rank, (_quantile(each, q) for each in self))
        if together.totals.get(ERRORS):
            cells = (_failed(each) for each in self)
            yield self._column("failed", _FAILED_RANK, cells, "red")
        basis = COST if together.totals.get(COST) else CALLS
        if self._total and together.totals.get(basis) and not self._paper.is_exact:
            yield self._shares(together, basis)

    def further(
        self, names: Sequence[str], families: Mapping[str, Family]
    ) -> Iterator[Column]:
        """Yield a column for each metric that has no role."""
        headers = short_names(names)
        for place, name in enumerate(names):
            unit = families[name].definition.unit
            header = self._paper.charset.printable(headers[place])
            yield self._amounts(name, header, unit, _FURTHER_RANK + place)

    def __iter__(self) -> Iterator[Model | None]:
        yield from self._models
        yield from [None] * len(self._cut)
        yield from self._total

    def _amounts(self, role: str, header: str, unit: str, rank: int) -> Column:
        cells = (self._amount(each, role, unit) for each in self)
        return self._column(header, rank, cells, _STYLES.get(role, ""))

    def _amount(self, model: Model | None, role: str, unit: str) -> str:
        if model is None:
            return ""
        # A counter of errors that has not been raised says that there were none.
        known_none = 0 if role == ERRORS and CALLS in model.totals else None
        value = model.totals.get(role, known_none)
        return "" if value is None else self._paper.value(value, unit, role)

    def _column(
        self, header: str, rank: int, cells: Iterable[str], style: str = ""
    ) -> Column:
        header = header.replace(" ", "\n")
        return Column(header=header, cells=list(cells), rank=rank, style=style)

    def _shares(self, together: Model, basis: str) -> Column:
        all_of_it = Fraction(together.totals[basis])
        cells = [
            bar(
                float(Fraction(model.totals.get(basis, 0)) / all_of_it),
                BAR,
                self._paper.charset,
            )
            for model in self._models
        ]
        return Column(
            header="of cost" if basis == COST else "of calls",
            cells=[*cells, *self._blank(), ""],
            rank=_SHARE_RANK,
            is_chart=True,
            style="green" if basis == COST else "cyan",
        )

    def _blank(self) -> list[str]:
        return [""] * len(self._cut)


def _quantile(model: Model | None, q: float) -> str:
    spread = None if model is None else model.latency
    return "" if spread is None else spread.quantile(q)


def _failed(model: Model | None) -> str:
    """Return the proportion of calls that failed."""
    calls = 0 if model is None else model.totals.get(CALLS, 0)
    if model is None or not calls:
        return ""
    return readable(float(model.totals.get(ERRORS, 0) / calls), "ratio")
