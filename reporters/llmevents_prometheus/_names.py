"""Names as Prometheus has them: made from definitions, and checked before the start.

The rules are those of the text formats: Prometheus' exposition formats (0.0.4) and
OpenMetrics 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from llmevents.metrics import (
    Counter,
    Distribution,
    ExponentialHistogram,
    Histogram,
    Metric,
    MetricDefinitionError,
    Series,
    Sum,
    Summary,
    Value,
)


REPORTER = "prometheus"
"""The reporter's name in ``reporter_options``."""

OPTIONS = ("initial", "name")

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_sum", "_count", "_created"),
    "summary": ("", "_sum", "_count", "_created"),
}
"""By type, what a family's samples may be called: nothing else can have these names."""

OWN = {
    "llmevents_values_refused": "Values that no metric could take in",
    "llmevents_prometheus_scrapes": "Scrapes that were answered",
    "llmevents_prometheus_series_dropped": "Series that could not be shown",
}
"""Counters about ourselves: name and help."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_FOREIGN = re.compile(r"[^a-zA-Z0-9_]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_RESERVED = ("le", "quantile")


@dataclass(frozen=True, slots=True)
class Exposed:
    """One metric as Prometheus gets to see it.

    Attributes:
        definition: The first one of the metric's name.
        name: Without the ``_total`` that a counter's samples have.
        kind: ``"counter"``, ``"gauge"``, ``"histogram"`` or ``"summary"``.
        description: The help text.
        unit: What *name* ends with, if that is the unit; else empty.
        tags: Names of the tags, or None where a function decides.
        labels: What the tags are called, in the same order.
        initial: Series that are there before any event, at zero.
    """

    definition: Metric
    name: str
    kind: str
    description: str
    unit: str
    tags: tuple[str, ...] | None
    labels: tuple[str, ...]
    initial: tuple[Series, ...]


def expose(definitions: Iterable[Metric]) -> tuple[Exposed, ...]:
    """Return what *definitions* become, in their order.

    Raises:
        MetricDefinitionError: A name or a label that Prometheus cannot have, two
            metrics that would have one name, or wrong options for this reporter.
    """
    groups: dict[str, list[Metric]] = {}
    for definition in definitions:
        groups.setdefault(definition.name, []).append(definition)
    exposed = tuple(_expose(group) for group in groups.values())
    _check_collisions(exposed)
    return exposed


def label_name(tag: str) -> str:
    """Return the label that *tag* becomes.

    Raises:
        ValueError: It would be one that Prometheus keeps for itself.
    """
    label = _identifier(tag)
    if label in _RESERVED or label.startswith("__"):
        msg = f"Prometheus keeps the label {label!r} for itself"
        raise ValueError(msg)
    return label


def sendable(text: str) -> str:
    """Return *text* with lone surrogates replaced, which are no UTF-8.

    One would make the whole scrape fail. Everything else is escaped where it is
    written.
    """
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _expose(group: list[Metric]) -> Exposed:
    first = group[0]
    options = [(each, _read_options(each)) for each in group]
    kind = _kind(first)
    name = _name(first, kind, [table.get("name") for _, table in options])
    return Exposed(
        definition=first,
        name=name,
        kind=kind,
        description=_description(first),
        unit=_unit(name, first.unit),
        tags=first.tag_names,
        labels=_labels(first),
        initial=tuple(
            Series(tags, _zero(first), first.scale)
            for definition, table in options
            for tags in _initial(definition, table.get("initial"))
        ),
    )


def _read_options(definition: Metric) -> Mapping[str, object]:
    options = definition.reporter_options.get(REPORTER, {})
    for option in options:
        if option not in OPTIONS:
            nearest = get_close_matches(str(option), OPTIONS, n=1, cutoff=0)
            reason = (
                f"{option!r} is no option of the Prometheus reporter; nearest is "
                f"{nearest[0]!r}, and all are {', '.join(OPTIONS)}"
            )
            raise MetricDefinitionError(definition.name, reason)
    return options


def _kind(definition: Metric) -> str:
    if isinstance(definition, Counter):
        return "counter"
    if isinstance(definition, Sum) and definition.monotonic:
        return "counter"
    if isinstance(definition, Distribution):
        return "histogram"
    return "summary" if isinstance(definition, Summary) else "gauge"


def _name(definition: Metric, kind: str, wanted: list[object]) -> str:
    chosen = {str(each): each for each in wanted if each is not None}
    if len(chosen) > 1:
        reason = (
            "several definitions feed it, and their names for Prometheus differ: "
            f"{', '.join(map(repr, chosen))}; make them agree"
        )
        raise MetricDefinitionError(definition.name, reason)
    name = _identifier(definition.name)
    for text, each in chosen.items():
        if not isinstance(each, str) or not _NAME.fullmatch(each):
            reason = (
                f"its name for Prometheus is {each!r}; use letters, digits and "
                "underscores, and no digit at the start"
            )
            raise MetricDefinitionError(definition.name, reason)
        name = text
    while kind == "counter" and name.endswith("_total") and name != "_total":
        name = name.removesuffix("_total")
    return name


def _identifier(name: str) -> str:
    plain = _FOREIGN.sub("_", name)
    return f"_{plain}" if plain[0].isdigit() else plain


def _description(definition: Metric) -> str:
    if definition.description:
        return sendable(definition.description)
    unit = f" in {definition.unit}" if definition.unit else ""
    return sendable(f"{type(definition).__name__} {definition.name}{unit}")


def _unit(name: str, unit: str) -> str:
    plain = _FOREIGN.sub("_", unit)
    for written in (plain, f"{plain}s"):
        if plain and name.endswith(f"_{written}"):
            return written
    return ""


def _labels(definition: Metric) -> tuple[str, ...]:
    labels: dict[str, str] = {}
    for tag in definition.tag_names or ():
        label = _checked_label(definition, tag)
        if label in labels:
            reason = (
                f"its tags {labels[label]!r} and {tag!r} would both be the label "
                f"{label!r}; rename one"
            )
            raise MetricDefinitionError(definition.name, reason)
        labels[label] = tag
    return tuple(labels)


def _checked_label(definition: Metric, tag: str) -> str:
    try:
        return label_name(tag)
    except ValueError as error:
        reason = f"its tag {tag!r} cannot be a label, for {error}; rename it"
        raise MetricDefinitionError(definition.name, reason) from None


def _initial(definition: Metric, initial: object) -> Iterator[dict[str, str]]:
    """Return the tags of the series that are there from the start."""
    if initial is None:
        # Without tags there is one series only, and a count is 0 before the first
        # event. The newest value of nothing is not.
        constants = dict(definition.constant_tags)
        if definition.tags == () and _kind_starts_at_zero(definition):
            yield constants
        return
    if not isinstance(initial, (list, tuple)):
        raise _wrong_initial(definition, initial)
    for tags in initial:
        if not isinstance(tags, Mapping):
            raise _wrong_initial(definition, tags)
        yield dict((*_initial_tags(definition, tags), *definition.constant_tags))


def _kind_starts_at_zero(definition: Metric) -> bool:
    return isinstance(definition, (Counter, Sum, Summary, Distribution))


def _initial_tags(
    definition: Metric, tags: Mapping[object, object]
) -> Iterator[tuple[str, str]]:
    for tag, value in tags.items():
        if not isinstance(tag, str) or not isinstance(value, (str, int, float)):
            raise _wrong_initial(definition, tags)
        if isinstance(definition.tags, tuple) and tag not in definition.tags:
            reason = (
                f"initial has the tag {tag!r}, and tags are {definition.tags!r}; "
                "leave it out"
            )
            raise MetricDefinitionError(definition.name, reason)
        _checked_label(definition, tag)
        yield tag, str(value).lower() if isinstance(value, bool) else str(value)


def _wrong_initial(definition: Metric, value: object) -> MetricDefinitionError:
    reason = (
        f"initial has {value!r}; pass a list of tags as mappings to text, such as "
        "[{'provider': 'openai', 'model': 'gpt-4o'}]"
    )
    return MetricDefinitionError(definition.name, reason)


def _zero(definition: Metric) -> Value:
    if isinstance(definition, Distribution):
        bounds = definition.buckets
        return Histogram(bounds, (0,) * (len(bounds) + 1), 0)
    return ExponentialHistogram() if isinstance(definition, Summary) else 0


def _check_collisions(exposed: Iterable[Exposed]) -> None:
    taken = {
        f"{name}{suffix}": "one of llmevents' own"
        for name in OWN
        for suffix in SUFFIXES["counter"]
    }
    for each in exposed:
        for suffix in SUFFIXES[each.kind]:
            other = taken.setdefault(
                f"{each.name}{suffix}", f"metric {each.definition.name!r}"
            )
            if other != f"metric {each.definition.name!r}":
                raise collision(each, f"{each.name}{suffix}", other)


def collision(exposed: Exposed, name: str, other: str) -> MetricDefinitionError:
    """Return the error for *exposed*, whose *name* belongs to *other*."""
    reason = (
        f"its name in Prometheus would be {name!r}, which belongs to {other}; rename "
        "one, or pass reporter_options={'prometheus': {'name': ...}}"
    )
    return MetricDefinitionError(exposed.definition.name, reason)
