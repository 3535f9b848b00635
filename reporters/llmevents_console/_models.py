"""What each model did, read from whatever metrics say something about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llmevents.metrics import (
    Counter,
    Distribution,
    Family,
    Series,
    Snapshot,
    Sum,
    Summary,
    Value,
)
from llmevents_console._amounts import Amount, Spread, adds_up, amount, merge
from llmevents_console._readable import DOLLARS, NANOSECONDS


CALLS, ERRORS, TOKENS_IN, TOKENS_OUT, COST = (
    "calls",
    "errors",
    "tokens in",
    "tokens out",
    "cost",
)
ROLES = (CALLS, ERRORS, TOKENS_IN, TOKENS_OUT, COST)
"""What is known about a model, in the order in which it is shown."""

PROVIDER_TAGS = ("provider", "gen_ai.provider.name")
MODEL_TAGS = ("model", "gen_ai.request.model")
TYPE_TAGS = ("token_type", "gen_ai.token.type")
"""Names of tags: ours, and those of OpenTelemetry's GenAI conventions (v1.41.0)."""

_TYPES = {
    "input": TOKENS_IN,
    "prompt": TOKENS_IN,
    "output": TOKENS_OUT,
    "completion": TOKENS_OUT,
}
_FAILED = {"error", "timeout"}
_TOKENS = "tokens"
_LATENCY = "latency"

Pair = tuple[str, str]
"""Provider, which is blank if there is no knowing, and model."""


@dataclass(slots=True)
class Model:
    """One row: a model of one provider.

    Attributes:
        totals: By role, or by name of the metric for further ones. Cost is in USD.
        latencies: Of its calls, by name of the metric.
        latency: The one of them that is shown.
    """

    provider: str
    name: str
    totals: dict[str, Amount] = field(default_factory=dict)
    latencies: dict[str, Spread] = field(default_factory=dict)
    latency: Spread | None = None

    def improve(self, other: Model) -> None:
        """Take over from *other* what it has seen more of.

        Several metrics may measure the same, one of them chats only and another every
        operation: what has seen most has seen everything.
        """
        for role, value in other.totals.items():
            self.totals[role] = max(value, self.totals.get(role, value))
        self.latencies.update(other.latencies)


def whole(models: Sequence[Model]) -> Model:
    """Return the sum of all *models*.

    It has no latency if theirs are of different metrics, which cannot be added up.
    """
    made = Model("", "total")
    for model in models:
        for role, value in model.totals.items():
            made.totals[role] = made.totals.get(role, 0) + value
    names = _by_size(models)
    if names and all(names[0] in model.latencies for model in models if model.latency):
        found = [each.latencies[names[0]] for each in models if each.latency]
        merged = merge(spread.values for spread in found)
        made.latency = None if merged is None else Spread(merged, found[0].unit)
    return made


def role_of(family: Family) -> str | None:
    """Return what a metric says about models, or None if nothing that is known.

    One that leaves out some of the events says nothing about all calls.
    """
    definition = family.definition
    words = set(re.split(r"[._]", definition.name))
    if definition.keep is not None or "provider" in words:
        return None
    if isinstance(definition, Counter):
        return _role_of_counter(words)
    key = definition.measurement if isinstance(definition.measurement, str) else ""
    if isinstance(definition, Sum):
        return _role_of_sum(definition, words, key)
    if isinstance(definition, (Distribution, Summary)):
        return _role_of_distribution(definition.unit, words, key)
    return None


def _role_of_counter(words: set[str]) -> str | None:
    if words & {"errors", "error", "exceptions", "exception", "failures"}:
        return ERRORS
    return CALLS if words & {"calls", "requests"} else None


def _role_of_distribution(unit: str, words: set[str], key: str) -> str | None:
    if unit not in NANOSECONDS:
        return _TOKENS if {"token", "usage"} <= words else None
    return _LATENCY if key == "duration" or "latency" in words else None


def _role_of_sum(definition: Sum, words: set[str], key: str) -> str | None:
    if not definition.monotonic:
        return None
    if definition.unit in DOLLARS:
        return COST
    if any(tag in TYPE_TAGS for tag in definition.tag_names or ()):
        return _TOKENS if _TOKENS in words else None
    return {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT}.get(key)


class Reading(NamedTuple):
    """What a snapshot says about models.

    Attributes:
        models: Those that cost most, or else are called most, come first.
        further: Names of metrics about models that have no role.
        covered: Names of metrics of which nothing else is left to be shown.
    """

    models: list[Model]
    further: list[str]
    covered: set[str]


def read_models(snapshot: Snapshot) -> Reading:
    """Return what every model did."""
    models: dict[Pair, Model] = {}
    without_provider: list[tuple[str, Model]] = []
    reading = Reading([], [], set())
    for name, family in snapshot.families.items():
        role = role_of(family)
        found = _by_model(family, role or name)
        if found and role is None:
            reading.further.append(name)
        if found and all(_pair(series.tags) for series in family.series):
            reading.covered.add(name)
        for pair, model in found.items():
            if pair[0]:
                models.setdefault(pair, Model(*pair)).improve(model)
            else:
                without_provider.append((name, model))
    for name, model in without_provider:
        if not _place(models, model):
            reading.covered.discard(name)
    names = _by_size(models.values())
    for model in models.values():
        shown = (model.latencies[name] for name in names if name in model.latencies)
        model.latency = next(shown, None)
    reading.models.extend(sorted(models.values(), key=_weight, reverse=True))
    return reading


def _by_size(models: Iterable[Model]) -> list[str]:
    """Return the metrics of latency, and first the one that has seen most calls."""
    counts: dict[str, int] = {}
    for model in models:
        for name, found in model.latencies.items():
            counts[name] = counts.get(name, 0) + found.values.count
    return sorted(counts, key=lambda name: counts[name], reverse=True)


def _by_model(family: Family, role: str) -> dict[Pair, Model]:
    """Return what one metric says about each model."""
    models: dict[Pair, Model] = {}
    latencies: dict[Pair, list[Value]] = {}
    definition = family.definition
    if role == definition.name and not adds_up(family):
        return models
    for series in family.series:
        pair = _pair(series.tags)
        if pair is not None:
            model = models.setdefault(pair, Model(*pair))
            for what, value in _contributions(family, series, role):
                model.totals[what] = model.totals.get(what, 0) + value
            if role == _LATENCY:
                latencies.setdefault(pair, []).append(series.value)
    for pair, values in latencies.items():
        merged = merge(values)
        if merged is not None:
            models[pair].latencies[definition.name] = Spread(merged, definition.unit)
    return models


def _contributions(
    family: Family, series: Series, role: str
) -> Iterator[tuple[str, Amount]]:
    """Yield what one series adds to the totals of its model."""
    unit = family.definition.unit
    if role == _TOKENS:
        kind = _TYPES.get(_tag(series.tags, TYPE_TAGS) or "")
        if kind is not None:
            value = series.value
            yield kind, value if isinstance(value, (int, float)) else value.sum
        return
    if role in {CALLS, _LATENCY}:
        calls = amount(series, unit)
        yield CALLS, calls
        if series.tags.get("status") in _FAILED or "error.type" in series.tags:
            yield ERRORS, calls
    elif role == COST:
        yield COST, amount(series, unit) * DOLLARS[unit]
    else:
        yield role, amount(series, unit)


def _place(models: dict[Pair, Model], model: Model) -> bool:
    """Add a model of an unknown provider to the only row that it can belong to."""
    rows = [row for row in models.values() if row.name == model.name]
    if not rows:
        rows = [models.setdefault(("", model.name), Model("", model.name))]
    if len(rows) == 1:
        rows[0].improve(model)
    return len(rows) == 1


def _pair(tags: Mapping[str, str]) -> Pair | None:
    model = _tag(tags, MODEL_TAGS)
    return None if model is None else (_tag(tags, PROVIDER_TAGS) or "", model)


def _tag(tags: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((tags[name] for name in names if name in tags), None)


def _weight(model: Model) -> tuple[Amount, Amount]:
    return model.totals.get(COST, 0), model.totals.get(CALLS, 0)
