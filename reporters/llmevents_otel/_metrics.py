"""Snapshots of the metric store as OpenTelemetry's metric data.

No instrument records anything: the store has aggregated already, and its sums,
histograms and exponential histograms are what OTLP carries (OpenTelemetry metrics data
model, specification 1.49). All are cumulative since the store was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics import Exemplar as OTelExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram as OTelExponentialHistogram,
)
from opentelemetry.sdk.metrics.export import Histogram as OTelHistogram
from opentelemetry.sdk.metrics.export import Sum as OTelSum

from llmevents.metrics import (
    ExponentialHistogram,
    Family,
    Histogram,
    LastValue,
    MetricDefinitionError,
    Series,
    Snapshot,
    Sum,
)
from llmevents_otel._units import ucum


if TYPE_CHECKING:
    from llmevents.metrics import Exemplar, MetricStore
    from llmevents.metrics import Metric as Definition

OVERFLOW = "__overflow__"
"""Every tag's value in the series that takes what is past the store's limit."""

OVERFLOW_ATTRIBUTES = {"otel.metric.overflow": True}
"""The same in OpenTelemetry (specification 1.49, metrics SDK, "Overflow attribute")."""

SCALE = 6
"""Of the store's exponential histograms."""

OFFSET = 2562
"""What a key of theirs is above OpenTelemetry's index of the bucket."""

MOST_POINTS = 512
"""Data points of one `Metric`; of those there may be several of one name."""

Data: TypeAlias = OTelSum | Gauge | OTelHistogram | OTelExponentialHistogram

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}")
_INT64 = 1 << 63
_CUMULATIVE = AggregationTemporality.CUMULATIVE


def check_definitions(metrics: MetricStore) -> Mapping[str, str]:
    """Return what each family is called in OpenTelemetry, by its name.

    Raises:
        MetricDefinitionError: A name that OpenTelemetry cannot have or that two
            families share, or an option that the reporter does not know.
    """
    names: dict[str, str] = {}
    families: dict[str, str] = {}
    for definition in metrics.definitions:
        name = _name(definition)
        # Names are told apart whatever their case is (metrics API, "name syntax").
        other = families.setdefault(name.lower(), definition.name)
        if other != definition.name:
            reason = (
                f"it is {name!r} in OpenTelemetry, as {other!r} is; give one of them "
                'another name: reporter_options={"otel": {"name": ...}}'
            )
            raise MetricDefinitionError(definition.name, reason)
        if names.setdefault(definition.name, name) != name:
            reason = (
                f"it is defined twice, as {names[definition.name]!r} and {name!r} in "
                "OpenTelemetry; make them agree"
            )
            raise MetricDefinitionError(definition.name, reason)
    return names


def _name(definition: Definition) -> str:
    options = definition.reporter_options.get("otel", {})
    unknown = sorted(set(options) - {"name"})
    if unknown:
        reason = f"reporter_options for 'otel' has {unknown[0]!r}; 'name' is known"
        raise MetricDefinitionError(definition.name, reason)
    name = options.get("name", definition.name)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        reason = (
            f"it is {name!r} in OpenTelemetry, where a name begins with a letter and "
            "has at most 255 letters, digits, '_', '.', '-' and '/'; pass another: "
            'reporter_options={"otel": {"name": ...}}'
        )
        raise MetricDefinitionError(definition.name, reason)
    return name


def to_metrics(snapshot: Snapshot, names: Mapping[str, str]) -> list[Metric]:
    """Return the metrics of *snapshot*, each of at most `MOST_POINTS` data points.

    Args:
        snapshot: What to convert.
        names: As `check_definitions` returns them.
    """
    metrics: list[Metric] = []
    for name, family in snapshot.families.items():
        data = _data(family, snapshot)
        points = data.data_points
        definition = family.definition
        metrics.extend(
            Metric(
                name=names[name],
                description=_encodable(definition.description),
                unit=ucum(definition.unit),
                data=_with(data, points[start : start + MOST_POINTS]),
            )
            for start in range(0, len(points), MOST_POINTS)
        )
    return metrics


def count_points(metric: Metric) -> int:
    """Return how many data points *metric* has."""
    return len(metric.data.data_points)


def cut(metric: Metric) -> tuple[Metric, Metric]:
    """Return two metrics with half of the data points each."""
    points = metric.data.data_points
    middle = len(points) // 2
    first, second = (
        replace(metric, data=_with(metric.data, part))
        for part in (points[:middle], points[middle:])
    )
    return first, second


def _with(data: Data, points: Sequence[Any]) -> Data:
    """Return *data* with other points of the same kind."""
    changed: Any = data
    part: Data = replace(changed, data_points=points)
    return part


def _data(family: Family, snapshot: Snapshot) -> Data:
    times: dict[str, Any] = {
        "start_time_unix_nano": snapshot.start_ns,
        "time_unix_nano": snapshot.time_ns,
    }
    points = [_point(series, times) for series in family.series]
    definition = family.definition
    if isinstance(definition, LastValue):
        return Gauge(_of(NumberDataPoint, points))
    histograms = _of(HistogramDataPoint, points)
    if histograms:
        return OTelHistogram(histograms, _CUMULATIVE)
    exponential = _of(ExponentialHistogramDataPoint, points)
    if exponential:
        return OTelExponentialHistogram(exponential, _CUMULATIVE)
    is_monotonic = definition.monotonic if isinstance(definition, Sum) else True
    return OTelSum(_of(NumberDataPoint, points), _CUMULATIVE, is_monotonic)


def _of(kind: type[Any], points: Iterable[object]) -> list[Any]:
    return [point for point in points if isinstance(point, kind)]


def _point(
    series: Series, times: Mapping[str, Any]
) -> NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint:
    value = series.value
    attributes = _attributes(series.tags)
    if isinstance(value, Histogram):
        return HistogramDataPoint(
            attributes=attributes,
            count=value.count,
            sum=value.sum,
            bucket_counts=value.counts,
            explicit_bounds=value.bounds,
            exemplars=[*_exemplars(series.exemplars.values())],
            **_UNKNOWN,
            **times,
        )
    if isinstance(value, ExponentialHistogram):
        counts = value.counts
        return ExponentialHistogramDataPoint(
            attributes=attributes,
            count=value.count,
            sum=value.sum,
            scale=SCALE,
            zero_count=counts.get(0, 0),
            positive=_buckets({key: n for key, n in counts.items() if key > 0}),
            negative=_buckets({-key: n for key, n in counts.items() if key < 0}),
            flags=0,
            **_UNKNOWN,
            **times,
        )
    return NumberDataPoint(attributes=attributes, value=_number(value), **times)


# The least and the greatest value: optional in OTLP, and the store knows buckets only.
_UNKNOWN: dict[str, Any] = {"min": None, "max": None}


def _number(value: float) -> int | float:
    """Return *value*; an integer that takes more than 64 bits as a float."""
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return float(value)
    return value


def _attributes(tags: Mapping[str, str]) -> dict[str, Any]:
    if tags and all(value == OVERFLOW for value in tags.values()):
        return dict(OVERFLOW_ATTRIBUTES)
    return {_encodable(tag): _encodable(value) for tag, value in tags.items()}


def _encodable(text: str) -> str:
    """Return *text* with what UTF-8 lacks replaced: one of these fails a whole request."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _buckets(counts: Mapping[int, int]) -> Buckets:
    """Return the buckets from the first to the last that is not empty."""
    if not counts:
        return Buckets(0, ())
    first, last = min(counts), max(counts)
    dense: Sequence[int] = [counts.get(key, 0) for key in range(first, last + 1)]
    return Buckets(first - OFFSET, dense)


def _exemplars(exemplars: Iterable[Exemplar]) -> Iterator[OTelExemplar]:
    for exemplar in exemplars:
        attributes = exemplar.attributes
        try:
            trace_id = int(attributes["trace_id"], 16)
            span_id = int(attributes["span_id"], 16)
        except (KeyError, ValueError):
            continue  # of another source, and OTLP has no place for it
        yield OTelExemplar({}, exemplar.value, exemplar.time_ns, span_id, trace_id)
