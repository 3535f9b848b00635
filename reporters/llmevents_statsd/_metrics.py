"""What becomes of each metric: its name, its type, and which of them do not go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from itertools import permutations
from typing import Literal, TypeAlias

from llmevents.metrics import (
    Counter,
    Distribution,
    Metric,
    MetricDefinitionError,
    Sum,
    Summary,
)
from llmevents_statsd._lines import DogStatsD, Standard
from llmevents_statsd._names import clean_key, clean_name
from llmevents_statsd._options import is_rate


Kind: TypeAlias = Literal["counter", "gauge", "timer"]

OPTIONS = ("sample_rate",)
"""What ``reporter_options={"statsd": {...}}`` may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the series of one metric are sent.

    Attributes:
        name: Cleaned, without the prefix.
        kind: What it is to a server.
        timer_type: The type of its lines, if it is a timer.
        factor: What values in the definition's unit are multiplied by.
        sample_rate: Lines to a value of a timer; None for one line per bucket.
    """

    definition: Metric
    name: str
    kind: Kind
    timer_type: str
    factor: Fraction
    sample_rate: float | None


def plans(
    definitions: Sequence[Metric], form: Standard, sample_rate: float | None
) -> dict[str, Plan]:
    """Return a plan for each metric, by its name.

    Raises:
        MetricDefinitionError: An option is wrong, or two metrics would be one.
    """
    found: dict[str, Plan] = {}
    for definition in definitions:
        plan = _plan(definition, form, sample_rate)
        found.setdefault(definition.name, plan)
    for one, other in permutations(found.values(), 2):
        _check_names(one, other)
        if not isinstance(form, DogStatsD):
            _check_segments(one, other, form)
    return found


def _plan(definition: Metric, form: Standard, sample_rate: float | None) -> Plan:
    given = _read_options(definition)
    if given is not None:
        sample_rate = given
    elif sample_rate is None and not form.one_line_per_bucket:
        sample_rate = 1.0
    _check_tags(definition)
    timer_type, factor = form.timer_type(definition)
    return Plan(
        definition=definition,
        name=clean_name(definition.name),
        kind=_kind(definition),
        timer_type=timer_type,
        factor=factor,
        sample_rate=sample_rate,
    )


def _kind(definition: Metric) -> Kind:
    if isinstance(definition, (Distribution, Summary)):
        return "timer"
    if isinstance(definition, Counter):
        return "counter"
    return (
        "counter" if isinstance(definition, Sum) and definition.monotonic else "gauge"
    )


def _read_options(definition: Metric) -> float | None:
    """Return the metric's own sample rate, if it has one."""
    options: Mapping[str, object] = definition.reporter_options.get("statsd", {})
    for option in options:
        if option not in OPTIONS:
            nearest = get_close_matches(str(option), OPTIONS, n=1, cutoff=0)
            reason = (
                f"reporter_options['statsd'] has {option!r}, which is not known; "
                f"nearest is {nearest[0]!r}"
            )
            raise MetricDefinitionError(definition.name, reason)
    rate = options.get("sample_rate")
    if rate is None:
        return None
    if not isinstance(definition, (Distribution, Summary)):
        reason = (
            "it has a sample_rate for statsd, but is sent as one line however many "
            "events there are; remove the option"
        )
        raise MetricDefinitionError(definition.name, reason)
    if isinstance(rate, (int, float)) and is_rate(rate):
        return float(rate)
    reason = f"its sample_rate for statsd is {rate!r}; pass more than 0 and at most 1"
    raise MetricDefinitionError(definition.name, reason)


def _check_tags(definition: Metric) -> None:
    """Refuse tags whose names are the same once they are cleaned."""
    names: dict[str, str] = {}
    for name in definition.tag_names or ():
        other = names.setdefault(clean_key(name), name)
        if other != name:
            reason = (
                f"StatsD cannot tell its tags {other!r} and {name!r} apart: both "
                f"become {clean_key(name)!r}; rename one"
            )
            raise MetricDefinitionError(definition.name, reason)


def _check_names(one: Plan, other: Plan) -> None:
    if one.name == other.name:
        reason = (
            f"StatsD cannot tell it from {other.definition.name!r}: both become "
            f"{one.name!r}; rename one"
        )
        raise MetricDefinitionError(one.definition.name, reason)


def _check_segments(one: Plan, other: Plan, form: Standard) -> None:
    """Refuse a metric that a tag of *one* can turn its name into: ``a`` + ``.b``."""
    keys, other_keys = form.keys(one.definition), form.keys(other.definition)
    if (
        keys is None
        or other_keys is None
        or one.kind != other.kind
        or not other.name.startswith(f"{one.name}.")
    ):
        return
    lengths = [
        plan.name.count(".") + len(names)
        for plan, names in ((one, keys), (other, other_keys))
    ]
    if lengths[0] == lengths[1]:
        reason = (
            f"in plain StatsD tags are segments of the name, so that it may become "
            f"{other.definition.name!r}, which is another metric; rename one, or use "
            "format='datadog'"
        )
        raise MetricDefinitionError(one.definition.name, reason)
