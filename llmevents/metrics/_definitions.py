"""Metric definitions: plain data, checked where it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from llmevents._errors import EventNameError, MetricDefinitionError
from llmevents._names import ONE, parse_events, parse_name
from llmevents._types import EventName, Measurements, Metadata, Name, Names


MeasurementFunction: TypeAlias = Callable[[Measurements, Metadata], float | None]
"""``(measurements, metadata)`` to the value; None skips the event."""

TagFunction: TypeAlias = Callable[[Measurements, Metadata], Mapping[str, object]]
"""``(measurements, metadata)`` to all tags of the event."""

Predicate: TypeAlias = Callable[[Measurements, Metadata], bool]
"""``(measurements, metadata)`` to whether the event counts."""


@dataclass(frozen=True, slots=True)
class _Negation:
    """What ``drop`` is stored as, so that whoever evaluates knows ``keep`` only."""

    predicate: Predicate

    def __call__(self, measurements: Measurements, metadata: Metadata) -> bool:
        return not self.predicate(measurements, metadata)


@dataclass(frozen=True, slots=True, init=False)
class _Definition:
    """What all metrics have in common. The arguments are those of `Counter`."""

    name: str
    events: tuple[EventName, ...]
    tags: tuple[str, ...] | TagFunction
    constant_tags: tuple[tuple[str, str], ...]
    keep: Predicate | None
    unit: str
    description: str

    def __init__(
        self,
        name: Name,
        *,
        event: Names | None = None,
        tags: tuple[str, ...] | list[str] | TagFunction = (),
        constant_tags: Mapping[str, str | float] | None = None,
        keep: Predicate | None = None,
        drop: Predicate | None = None,
        unit: str = "",
        description: str = "",
    ) -> None:
        segments = _read_name(name)
        dotted = ".".join(segments)
        _set(self, "name", dotted)
        _set(self, "events", _read_events(dotted, segments, event))
        _set(self, "tags", _read_tags(dotted, tags))
        _set(self, "constant_tags", _read_constants(dotted, tags, constant_tags))
        _set(self, "keep", _read_predicate(dotted, keep, drop))
        _set(self, "unit", _read_text(dotted, "unit", unit))
        _set(self, "description", _read_text(dotted, "description", description))

    @property
    def tag_names(self) -> tuple[str, ...] | None:
        """The names of all tags, or None where a function decides at each event."""
        if not isinstance(self.tags, tuple):
            return None
        return (*self.tags, *(key for key, _ in self.constant_tags))


@dataclass(frozen=True, slots=True, init=False)
class Counter(_Definition):
    """How many events there were. Their measurements do not matter.

    Args:
        name: Dotted text or a tuple of segments. Without *event* the last segment
            is left to say what is counted, and the rest is the event:
            ``"llm.chat.stop.count"`` counts ``llm.chat.stop``.
        event: A name, a pattern, or a list of them. An event that several of them
            fit counts once.
        tags: Keys of the metadata, which become the tags of the series, or a
            function ``(measurements, metadata)`` that returns all tags as a mapping.
            An event without one of the keys has a series without that tag. Values
            become text, without secrets, of at most 256 characters.
        constant_tags: Tags that every series has.
        keep: ``(measurements, metadata)``; events for which it is false do not count.
        drop: The opposite of *keep*, which cannot be given as well. It is stored as
            a negated *keep*.
        unit: Of the value, singular and spelled out: ``"token"``, ``"nanosecond"``.
        description: One sentence.

    Attributes:
        events: Names and patterns as tuples.
        tag_names: Names of all tags, constant ones last; None if *tags* is a
            function.

    Raises:
        MetricDefinitionError: An option does not fit; nothing is left to be found
            out at the first event.

    Examples:
        >>> from llmevents.metrics import Counter
        >>> Counter("llm.chat.stop.count").events
        (('llm', 'chat', 'stop'),)
    """


@dataclass(frozen=True, slots=True, init=False)
class _Measured(_Definition):
    """A metric of one measurement. The arguments are those of `LastValue`."""

    measurement: str | MeasurementFunction

    def __init__(
        self,
        name: Name,
        *,
        event: Names | None = None,
        measurement: str | MeasurementFunction | None = None,
        tags: tuple[str, ...] | list[str] | TagFunction = (),
        constant_tags: Mapping[str, str | float] | None = None,
        keep: Predicate | None = None,
        drop: Predicate | None = None,
        unit: str = "",
        description: str = "",
    ) -> None:
        _Definition.__init__(
            self,
            name,
            event=event,
            tags=tags,
            constant_tags=constant_tags,
            keep=keep,
            drop=drop,
            unit=unit,
            description=description,
        )
        _set(self, "measurement", _read_measurement(self.name, measurement))


@dataclass(frozen=True, slots=True, init=False)
class LastValue(_Measured):
    """The newest value of a measurement: a gauge.

    Options are those of `Counter`, and *measurement*. An event without the
    measurement is skipped.

    Args:
        name: As for `Counter`; its last segment is the measurement unless
            *measurement* is given.
        event: As for `Counter`.
        measurement: A key of the event's measurements, or a function
            ``(measurements, metadata)`` that returns the value, or None to skip the
            event.
        tags: As for `Counter`.
        constant_tags: As for `Counter`.
        keep: As for `Counter`.
        drop: As for `Counter`.
        unit: As for `Counter`.
        description: As for `Counter`.

    Raises:
        MetricDefinitionError: As for `Counter`.
    """


@dataclass(frozen=True, slots=True, init=False)
class Sum(_Measured):
    """The running total of a measurement. Exact while the values are integers.

    Args:
        name: As for `LastValue`.
        event: As for `Counter`.
        measurement: As for `LastValue`.
        tags: As for `Counter`.
        constant_tags: As for `Counter`.
        keep: As for `Counter`.
        drop: As for `Counter`.
        unit: As for `Counter`.
        description: As for `Counter`.
        monotonic: Whether the total only grows, which is what reporters call a
            counter. Negative values are then refused and counted. With False it is
            a gauge that goes up and down.

    Raises:
        MetricDefinitionError: As for `Counter`.

    Examples:
        >>> from llmevents.metrics import Sum
        >>> Sum("llm.chat.stop.input_tokens").measurement
        'input_tokens'
    """

    monotonic: bool

    def __init__(
        self,
        name: Name,
        *,
        event: Names | None = None,
        measurement: str | MeasurementFunction | None = None,
        tags: tuple[str, ...] | list[str] | TagFunction = (),
        constant_tags: Mapping[str, str | float] | None = None,
        keep: Predicate | None = None,
        drop: Predicate | None = None,
        unit: str = "",
        description: str = "",
        monotonic: bool = True,
    ) -> None:
        _Measured.__init__(
            self,
            name,
            event=event,
            measurement=measurement,
            tags=tags,
            constant_tags=constant_tags,
            keep=keep,
            drop=drop,
            unit=unit,
            description=description,
        )
        _set(self, "monotonic", _read_flag(self.name, "monotonic", monotonic))


Metric: TypeAlias = Counter | Sum | LastValue
"""Any metric definition."""

_set = object.__setattr__


def _read_name(name: object) -> EventName:
    text = ".".join(map(str, name)) if isinstance(name, tuple) else name
    if isinstance(text, str) and ONE in text:
        reason = "a metric's name has no wildcards; give the pattern as event="
        raise MetricDefinitionError(name, reason)
    try:
        return parse_name(name)
    except EventNameError as error:
        reason = f"its name is written like an event's, but {error}"
        raise MetricDefinitionError(name, reason) from error


def _read_events(
    name: str, segments: EventName, event: object
) -> tuple[EventName, ...]:
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


def _read_measurement(name: str, measurement: object) -> str | MeasurementFunction:
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


def _read_tags(name: str, tags: object) -> tuple[str, ...] | TagFunction:
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


def _read_constants(
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


def _read_predicate(name: str, keep: object, drop: object) -> Predicate | None:
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
        return predicate if option == "keep" else _Negation(predicate)
    return None


def _read_text(name: str, option: str, text: object) -> str:
    if not isinstance(text, str):
        raise MetricDefinitionError(name, f"{option} is {text!r}; pass text")
    return text


def _read_flag(name: str, option: str, flag: object) -> bool:
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
