"""Checks of metric definitions: what is wrong is refused where it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise
from math import isfinite
from types import MappingProxyType
from typing import TypeAlias

from llmevents._errors import EventNameError, MetricDefinitionError
from llmevents._names import ONE, parse_events, parse_name
from llmevents._types import EventName, Measurements, Metadata
from llmevents.metrics._units import UNITS, scale


MeasurementFunction: TypeAlias = Callable[[Measurements, Metadata], float | None]
"""``(measurements, metadata)`` to the value; None skips the event."""

TagFunction: TypeAlias = Callable[[Measurements, Metadata], Mapping[str, object]]
"""``(measurements, metadata)`` to all tags of the event."""

Predicate: TypeAlias = Callable[[Measurements, Metadata], bool]
"""``(measurements, metadata)`` to whether the event counts."""

MAX_BUCKETS = 1000

DURATION_BUCKETS = tuple(0.01 * 2**step for step in range(14))
"""Seconds; those of gen_ai.client.operation.duration (OpenTelemetry semantic
conventions v1.41.0, GenAI metrics)."""

TOKEN_BUCKETS = tuple(4**step for step in range(14))
"""Those of gen_ai.client.token.usage (as above)."""


@dataclass(frozen=True, slots=True)
class Negation:
    """What ``drop`` is stored as, so that whoever evaluates knows ``keep`` only."""

    predicate: Predicate

    def __call__(self, measurements: Measurements, metadata: Metadata) -> bool:
        return not self.predicate(measurements, metadata)


def refuse_unknown(name: object, options: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that no metric of this type has."""
    known = list(known)
    for option in options:
        if option not in known:
            nearest = get_close_matches(option, known, n=1, cutoff=0)
            reason = (
                f"{option!r} is no option of it; nearest is {nearest[0]!r}, "
                f"and all are {', '.join(known)}"
            )
            raise MetricDefinitionError(name, reason)


def read_name(name: object) -> EventName:
    text = ".".join(map(str, name)) if isinstance(name, tuple) else name
    if isinstance(text, str) and ONE in text:
        reason = "a metric's name has no wildcards; give the pattern as event="
        raise MetricDefinitionError(name, reason)
    try:
        return parse_name(name)
    except EventNameError as error:
        reason = f"its name is written like an event's, but {error}"
        raise MetricDefinitionError(name, reason) from error


def read_events(name: str, segments: EventName, event: object) -> tuple[EventName, ...]:
    if event is not None:
        try:
            return parse_events(event)
        except EventNameError as error:
            raise MetricDefinitionError(name, f"event= is wrong: {error}") from error
    if len(segments) == 1:
        reason = (
            "one segment names no event; "
            f"write '<event>.{name}', or say which event with event="
        )
        raise MetricDefinitionError(name, reason)
    return (segments[:-1],)


def read_measurement(name: str, measurement: object) -> str | MeasurementFunction:
    if measurement is None:
        return name.rpartition(".")[2]
    if isinstance(measurement, str) and measurement:
        return measurement
    if callable(measurement):
        _check_function(name, "measurement", measurement)
        return measurement
    reason = (
        f"measurement is {measurement!r}; "
        "pass a key or a function (measurements, metadata)"
    )
    raise MetricDefinitionError(name, reason)


def read_tags(name: str, tags: object) -> tuple[str, ...] | TagFunction:
    if callable(tags):
        _check_function(name, "tags", tags)
        return tags
    if not isinstance(tags, (tuple, list)):
        reason = (
            f"tags is {tags!r}; pass a tuple of keys, such as ('provider', 'model'), "
            "or a function (measurements, metadata)"
        )
        raise MetricDefinitionError(name, reason)
    for position, tag in enumerate(tags):
        _check_tag(name, tag)
        if tag in tags[:position]:
            reason = f"tag {tag!r} is there twice; remove one"
            raise MetricDefinitionError(name, reason)
    return tuple(tags)


def read_constants(
    name: str, tags: object, constants: object
) -> tuple[tuple[str, str], ...]:
    if constants is None:
        return ()
    if not isinstance(constants, Mapping):
        reason = f"constant_tags is {constants!r}; pass a mapping of tags to text"
        raise MetricDefinitionError(name, reason)
    for tag, value in constants.items():
        _check_tag(name, tag)
        if isinstance(tags, (tuple, list)) and tag in tags:
            reason = f"tag {tag!r} is both in tags and in constant_tags; remove one"
            raise MetricDefinitionError(name, reason)
        if not isinstance(value, (str, int, float)):
            reason = f"constant tag {tag!r} is {value!r}; pass text or a number"
            raise MetricDefinitionError(name, reason)
    return tuple((tag, plain_text(value)) for tag, value in constants.items())


def plain_text(value: object) -> str:
    """Return a tag's value as text: ``true`` and ``false``, the rest as in Python."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def read_predicate(name: str, keep: object, drop: object) -> Predicate | None:
    if keep is not None and drop is not None:
        reason = "keep and drop exclude each other; pass one of them"
        raise MetricDefinitionError(name, reason)
    for option, predicate in (("keep", keep), ("drop", drop)):
        if predicate is None:
            continue
        if not callable(predicate):
            reason = (
                f"{option} is {predicate!r}; pass a function (measurements, metadata)"
            )
            raise MetricDefinitionError(name, reason)
        _check_function(name, option, predicate)
        return predicate if option == "keep" else Negation(predicate)
    return None


def read_unit(name: str, unit: object) -> tuple[str, Fraction]:
    """Return the unit of the values that are shown, and the factor to get there."""
    if isinstance(unit, str):
        return unit, Fraction(1)
    if isinstance(unit, (tuple, list)) and len(unit) == 2:  # noqa: PLR2004  # from, to
        return str(unit[1]), scale(name, *unit)
    reason = (
        f"unit is {unit!r}; pass its name, or a pair to convert from and to, "
        "such as ('nanosecond', 'second')"
    )
    raise MetricDefinitionError(name, reason)


def read_buckets(name: str, buckets: object, unit: str) -> tuple[float, ...]:
    """Return the upper bounds; the defaults, if *buckets* is None."""
    if buckets is None:
        return _default_buckets(unit)
    if isinstance(buckets, (tuple, list)) and 0 < len(buckets) <= MAX_BUCKETS:
        for bound in buckets:
            _check_bound(name, bound)
        if all(one < other for one, other in pairwise(buckets)):
            return tuple(buckets)
    reason = (
        f"buckets is {buckets!r}; pass 1 to {MAX_BUCKETS:,} upper bounds, each larger "
        "than the one before"
    )
    raise MetricDefinitionError(name, reason)


def _default_buckets(unit: str) -> tuple[float, ...]:
    known = UNITS.get(unit)
    if known is None or known.quantity != "time":
        return TOKEN_BUCKETS
    factor = UNITS["second"].size / known.size
    # From decimal text: 0.02 is meant, not the float next to it.
    return tuple(float(Fraction(f"{bound:.2f}") * factor) for bound in DURATION_BUCKETS)


def _check_bound(name: str, bound: object) -> None:
    if (
        isinstance(bound, (int, float))
        and not isinstance(bound, bool)
        and isfinite(bound)
    ):
        return
    reason = (
        f"bucket bound {bound!r} is no finite number; leave infinity out, it is "
        "always there"
    )
    raise MetricDefinitionError(name, reason)


def read_reporter_options(
    name: str, options: object
) -> Mapping[str, Mapping[str, object]]:
    """Return the options by reporter, read-only."""
    if options is None:
        return MappingProxyType({})
    tables: dict[str, Mapping[str, object]] = {}
    given = options if isinstance(options, Mapping) else {"": options}
    for reporter, table in given.items():
        if not isinstance(reporter, str) or not isinstance(table, Mapping):
            reason = (
                f"reporter_options has {reporter!r}: {table!r}; pass a mapping of "
                "reporters to their options, such as {'prometheus': {...}}"
            )
            raise MetricDefinitionError(name, reason)
        tables[reporter] = MappingProxyType(dict(table))
    return MappingProxyType(tables)


def read_text(name: str, option: str, text: object) -> str:
    if not isinstance(text, str):
        raise MetricDefinitionError(name, f"{option} is {text!r}; pass text")
    return text


def read_flag(name: str, option: str, flag: object) -> bool:
    if not isinstance(flag, bool):
        reason = f"{option} is {flag!r}; pass True or False"
        raise MetricDefinitionError(name, reason)
    return flag


def _check_tag(name: str, tag: object) -> None:
    if not isinstance(tag, str) or not tag or not tag.isprintable():
        reason = f"{tag!r} cannot be a tag's name; pass printable text"
        raise MetricDefinitionError(name, reason)


def _check_function(name: str, option: str, function: Callable[..., object]) -> None:
    """Refuse a function that could not be called, or whose result is no value."""
    if inspect.iscoroutinefunction(function):
        reason = f"{option} is a coroutine function; metrics are made at once, use def"
        raise MetricDefinitionError(name, reason)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some built-ins have no signature to check
    try:
        signature.bind({}, {})
    except TypeError as error:
        reason = (
            f"{option} has the signature {signature} ({error}); "
            "it is called as (measurements, metadata)"
        )
        raise MetricDefinitionError(name, reason) from None
