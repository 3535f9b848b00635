"""Metric definitions: plain data, checked where it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from llmevents._types import EventName, Name, Names
from llmevents.metrics import _checks
from llmevents.metrics._checks import MeasurementFunction, Predicate, TagFunction


if TYPE_CHECKING:
    from typing_extensions import Unpack


class Options(TypedDict, total=False):
    """What every metric takes as keywords; `Counter` says what they mean."""

    event: Names | None
    tags: tuple[str, ...] | list[str] | TagFunction
    constant_tags: Mapping[str, str | float] | None
    keep: Predicate | None
    drop: Predicate | None
    unit: str | tuple[str, str]
    description: str
    reporter_options: Mapping[str, Mapping[str, object]] | None


class MeasuredOptions(Options, total=False):
    """What every metric of a measurement takes as well."""

    measurement: str | MeasurementFunction | None


@dataclass(frozen=True, slots=True, init=False)
class Definition:
    """What all metrics have in common."""

    name: str
    events: tuple[EventName, ...]
    tags: tuple[str, ...] | TagFunction
    constant_tags: tuple[tuple[str, str], ...]
    keep: Predicate | None
    unit: str
    scale: Fraction
    description: str
    reporter_options: Mapping[str, Mapping[str, object]] = field(hash=False)

    def _read(self, name: Name, options: Options) -> None:
        segments = _checks.read_name(name)
        dotted = ".".join(segments)
        get = options.get
        tags = get("tags", ())
        unit, scale = _checks.read_unit(dotted, get("unit", ""))
        for attribute, value in {
            "name": dotted,
            "events": _checks.read_events(dotted, segments, get("event")),
            "tags": _checks.read_tags(dotted, tags),
            "constant_tags": _checks.read_constants(dotted, tags, get("constant_tags")),
            "keep": _checks.read_predicate(dotted, get("keep"), get("drop")),
            "unit": unit,
            "scale": scale,
            "description": _checks.read_text(
                dotted, "description", get("description", "")
            ),
            "reporter_options": _checks.read_reporter_options(
                dotted, get("reporter_options")
            ),
        }.items():
            _set(self, attribute, value)

    @property
    def tag_names(self) -> tuple[str, ...] | None:
        """The names of all tags, or None where a function decides at each event."""
        if not isinstance(self.tags, tuple):
            return None
        return (*self.tags, *(key for key, _ in self.constant_tags))


@dataclass(frozen=True, slots=True, init=False)
class Counter(Definition):
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
            A pair such as ``("nanosecond", "second")`` converts from the first to
            the second; see `llmevents.metrics` for the units that are known. What is
            added up are the values as they come, so that integers stay exact.
        description: One sentence.
        reporter_options: Options that a reporter documents, by the reporter's name.

    Attributes:
        events: Names and patterns as tuples.
        scale: What values are multiplied by to be in *unit*.
        tag_names: Names of all tags, constant ones last; None if *tags* is a
            function.

    Raises:
        MetricDefinitionError: An option is unknown or does not fit; nothing is left
            to be found out at the first event.

    Examples:
        >>> from llmevents.metrics import Counter
        >>> Counter("llm.chat.stop.count").events
        (('llm', 'chat', 'stop'),)
    """

    def __init__(self, name: Name, **options: Unpack[Options]) -> None:
        _checks.refuse_unknown(name, options, Options.__annotations__)
        self._read(name, options)


@dataclass(frozen=True, slots=True, init=False)
class Measured(Definition):
    """What all metrics of a measurement have in common."""

    measurement: str | MeasurementFunction

    def _read_measured(self, name: Name, options: MeasuredOptions, *more: str) -> None:
        known = (*MeasuredOptions.__annotations__, *more)
        _checks.refuse_unknown(name, options, known)
        self._read(name, options)
        measurement = options.get("measurement")
        _set(self, "measurement", _checks.read_measurement(self.name, measurement))


@dataclass(frozen=True, slots=True, init=False)
class LastValue(Measured):
    """The newest value of a measurement: a gauge.

    An event without the measurement is skipped.

    Args:
        name: As for `Counter`; its last segment is the measurement unless
            *measurement* is given.
        measurement: A key of the event's measurements, or a function
            ``(measurements, metadata)`` that returns the value, or None to skip the
            event.
        options: Those of `Counter`.

    Raises:
        MetricDefinitionError: As for `Counter`.
    """

    def __init__(self, name: Name, **options: Unpack[MeasuredOptions]) -> None:
        self._read_measured(name, options)


@dataclass(frozen=True, slots=True, init=False)
class Sum(Measured):
    """The running total of a measurement. Exact while the values are integers.

    Args:
        name: As for `LastValue`.
        monotonic: Whether the total only grows, which is what reporters call a
            counter. Negative values are then refused and counted. With False it is
            a gauge that goes up and down.
        options: Those of `LastValue`.

    Raises:
        MetricDefinitionError: As for `Counter`.

    Examples:
        >>> from llmevents.metrics import Sum
        >>> Sum("llm.chat.stop.input_tokens").measurement
        'input_tokens'
    """

    monotonic: bool

    def __init__(
        self, name: Name, *, monotonic: bool = True, **options: Unpack[MeasuredOptions]
    ) -> None:
        self._read_measured(name, options, "monotonic")
        _set(self, "monotonic", _checks.read_flag(self.name, "monotonic", monotonic))


@dataclass(frozen=True, slots=True, init=False)
class Summary(Measured):
    """Count, sum and quantiles of a measurement.

    Values are counted in an exponential histogram, whose quantiles are within 1 % of
    the true ones. See `ExponentialHistogram`, which is what its series have as value.

    Args:
        name: As for `LastValue`.
        options: Those of `LastValue`.

    Raises:
        MetricDefinitionError: As for `Counter`.
    """

    def __init__(self, name: Name, **options: Unpack[MeasuredOptions]) -> None:
        self._read_measured(name, options)


@dataclass(frozen=True, slots=True, init=False)
class Distribution(Measured):
    """How many values of a measurement there were up to each of some bounds.

    See `Histogram`, which is what its series have as value.

    Args:
        name: As for `LastValue`.
        buckets: Upper bounds, each included in its bucket, in ascending order and in
            the unit that is shown. What is above the last is counted as well. By
            default those that OpenTelemetry's GenAI conventions (v1.41.0) advise:
            0.01 s doubling to 81.92 s where the unit is one of time, else 1
            quadrupling to 67,108,864.
        options: Those of `LastValue`.

    Attributes:
        buckets: The bounds.

    Raises:
        MetricDefinitionError: As for `Counter`.

    Examples:
        >>> from llmevents.metrics import Distribution
        >>> latency = Distribution(
        ...     "llm.chat.stop.duration", unit=("nanosecond", "second"), buckets=(1, 5)
        ... )
        >>> latency.unit, latency.buckets
        ('second', (1, 5))
    """

    buckets: tuple[float, ...]

    def __init__(
        self,
        name: Name,
        *,
        buckets: Sequence[float] | None = None,
        **options: Unpack[MeasuredOptions],
    ) -> None:
        self._read_measured(name, options, "buckets")
        _set(self, "buckets", _checks.read_buckets(self.name, buckets, self.unit))


_set = object.__setattr__

Metric: TypeAlias = Counter | Sum | LastValue | Summary | Distribution
"""Any metric definition."""
