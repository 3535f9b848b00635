"""What a reader gets to see: snapshots, families, series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from operator import sub
from types import MappingProxyType
from typing import TypeAlias

from llmevents.metrics._definitions import LastValue, Metric
from llmevents.metrics._histogram import ExponentialHistogram, Histogram, add
from llmevents.metrics._units import convert


OVERFLOW = "__overflow__"
"""Every tag's value in the series that takes what is past the limit."""


Value: TypeAlias = int | float | Histogram | ExponentialHistogram
"""What a series came to: a number; a `Histogram` of a distribution; an
`ExponentialHistogram` of a summary."""


_ONE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One of the values behind a series, and where to look for the call it is from.

    Attributes:
        value: In the unit of the definition.
        time_ns: When, in nanoseconds since the Unix epoch.
        attributes: ``trace_id`` and ``span_id``, as lower-case hexadecimal; read-only.
    """

    value: int | float
    time_ns: int
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Series:
    """One series at one moment.

    Attributes:
        tags: Read-only. A tag that the events did not have is absent.
        raw: What came together, in the unit of the measurements: exact while these
            are integers. The bounds of a histogram are in the unit of the definition.
        scale: What *raw* is multiplied by for the unit of the definition.
        exemplars: The newest by bucket of a distribution; read-only, and empty
            unless the store was told where to find them.
        epoch: Another one if the series was forgotten and began again at 0.
    """

    tags: Mapping[str, str]
    raw: Value
    scale: Fraction = _ONE
    exemplars: Mapping[int, Exemplar] = field(default_factory=dict)
    epoch: int = 0

    @property
    def value(self) -> Value:
        """What it came to, in the unit of the definition; correctly rounded."""
        raw = self.raw
        if isinstance(raw, (Histogram, ExponentialHistogram)):
            return replace(raw, sum=convert(raw.sum, self.scale))
        return convert(raw, self.scale)


@dataclass(frozen=True, slots=True)
class Family:
    """The series of one metric, in the order in which they came up.

    Attributes:
        definition: The metric; the first one, where several feed the same series.
        series: Empty until the first event.
    """

    definition: Metric
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a `MetricStore` knew at one moment.

    Attributes:
        families: By name of the metric, in the order of the definitions; read-only.
        start_ns: Since when it aggregates, in nanoseconds since the Unix epoch.
        time_ns: The moment, likewise.
    """

    families: Mapping[str, Family]
    start_ns: int = 0
    time_ns: int = 0

    def since(self, earlier: Snapshot | None) -> Snapshot:
        """Return what came in after *earlier*: the differences, where there are any.

        Series without a difference are left out. The newest value of a `LastValue`
        is no difference: it is there if it is another one than before.
        """
        if earlier is None:
            return self
        families = {
            name: Family(family.definition, _since(family, earlier.families.get(name)))
            for name, family in self.families.items()
        }
        return Snapshot(MappingProxyType(families), earlier.time_ns, self.time_ns)


def _since(family: Family, earlier: Family | None) -> tuple[Series, ...]:
    known = () if earlier is None else earlier.series
    before = {(tuple(sorted(each.tags.items())), each.epoch): each for each in known}
    changed = []
    for series in family.series:
        then = before.get((tuple(sorted(series.tags.items())), series.epoch))
        value = (
            series.raw
            if then is None
            else difference(family.definition, series.raw, then.raw)
        )
        if value is not None:
            changed.append(replace(series, raw=value))
    return tuple(changed)


def difference(definition: Metric, value: Value, earlier: Value) -> Value | None:
    """Return what came in between *earlier* and *value*, or None if nothing did.

    That is *value* itself for a `LastValue`, and if *earlier* is of another kind, from
    another store.
    """
    if value == earlier:
        return None
    if isinstance(definition, LastValue):
        return value
    if isinstance(value, Histogram) and isinstance(earlier, Histogram):
        counts = map(sub, value.counts, earlier.counts)
        return Histogram(value.bounds, tuple(counts), add(value.sum, -earlier.sum))
    if isinstance(value, ExponentialHistogram):
        if isinstance(earlier, ExponentialHistogram):
            return _exponential_difference(value, earlier)
    elif isinstance(value, (int, float)) and isinstance(earlier, (int, float)):
        return add(value, -earlier)
    return value


def _exponential_difference(
    value: ExponentialHistogram, earlier: ExponentialHistogram
) -> ExponentialHistogram:
    counts = {
        key: more
        for key, count in value.counts.items()
        if (more := count - earlier.counts.get(key, 0))
    }
    return ExponentialHistogram(counts, add(value.sum, -earlier.sum))
