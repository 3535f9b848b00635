"""Samples: what one series comes to, by the type of its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, TypeAlias, cast

from prometheus_client.samples import Exemplar, Sample, Timestamp
from prometheus_client.utils import floatToGoString

from llmevents.metrics import ExponentialHistogram, Histogram, Series
from llmevents_prometheus._names import Exposed, label_name, sendable


if TYPE_CHECKING:
    from llmevents.metrics import Exemplar as SeriesExemplar

QUANTILES = (0.5, 0.9, 0.95, 0.99)
"""What is shown of a summary."""

EXEMPLAR_LIMIT = 128
"""Characters of an exemplar's labels (OpenMetrics 1.0, section Exemplars)."""

_HISTOGRAM_ENDS = ("_bucket", "_count", "_sum")

Labels: TypeAlias = dict[str, str]

AddSamples: TypeAlias = Callable[["list[Sample]", Labels, Series], None]
"""Adds the samples of one series, or raises and adds none."""


def _counter(exposed: Exposed) -> AddSamples:
    return _number(exposed, f"{exposed.name}_total", 0.0)


def _gauge(exposed: Exposed) -> AddSamples:
    return _number(exposed, exposed.name, -inf)


def _number(exposed: Exposed, name: str, least: float) -> AddSamples:
    # Most are in the unit of their measurement: what can be told once is not asked of
    # each of thousands.
    scale = exposed.definition.scale
    is_plain = scale == 1

    def add_samples(samples: list[Sample], labels: Labels, series: Series) -> None:
        is_raw = is_plain and series.scale is scale
        found = series.raw if is_raw else series.value
        if not isinstance(found, (int, float)):
            raise TypeError(found)
        value = float(found)
        if not value >= least:
            raise ValueError(value)
        samples.append(Sample(name, labels, value))

    return add_samples


def _histogram(exposed: Exposed) -> AddSamples:
    bucket, count, total = (f"{exposed.name}{end}" for end in _HISTOGRAM_ENDS)
    known_bounds: tuple[float, ...] = ()
    bounds: list[str] = []

    def add_samples(samples: list[Sample], labels: Labels, series: Series) -> None:
        nonlocal known_bounds, bounds
        raw = series.raw
        if not isinstance(raw, Histogram) or len(raw.counts) != len(raw.bounds) + 1:
            raise TypeError(raw)
        if raw.bounds != known_bounds:
            known_bounds = raw.bounds
            bounds = [*map(_decimal, known_bounds), "+Inf"]
        reached = list(accumulate(raw.counts))
        made = [
            Sample(bucket, {**labels, "le": bound}, n)
            for bound, n in zip(bounds, reached, strict=True)
        ]
        for position, exemplar in series.exemplars.items():
            name, its_labels, n = made[position][:3]
            made[position] = Sample(name, its_labels, n, None, _exemplar(exemplar))
        value = _sum(series, raw.sum)
        # OpenMetrics 1.0 has neither with values below 0: a sum could go down.
        if known_bounds[0] >= 0 and value >= 0:
            made.append(Sample(count, labels, reached[-1]))
            made.append(Sample(total, labels, value))
        samples += made

    return add_samples


def _summary(exposed: Exposed) -> AddSamples:
    _, count, total = (f"{exposed.name}{end}" for end in _HISTOGRAM_ENDS)
    quantiles = [(q, _decimal(q)) for q in QUANTILES]

    def add_samples(samples: list[Sample], labels: Labels, series: Series) -> None:
        raw = series.raw
        if not isinstance(raw, ExponentialHistogram):
            raise TypeError(raw)
        made = [
            Sample(exposed.name, {**labels, "quantile": text}, value)
            for q, text in quantiles
            # Of no values there is no quantile, and OpenMetrics 1.0 has none below 0.
            if (value := raw.quantile(q)) >= 0
        ]
        made.append(Sample(count, labels, raw.count))
        value = _sum(series, raw.sum)
        if value >= 0:
            made.append(Sample(total, labels, value))
        samples += made

    return add_samples


def _sum(series: Series, raw: float) -> float:
    """Return the sum *raw* of a histogram in the unit of the definition."""
    return float(cast("float", Series(series.tags, raw, series.scale).value))


def _exemplar(found: SeriesExemplar) -> Exemplar | None:
    """Return it as it is sent, or None if it cannot be."""
    try:
        labels = {
            label_name(name): sendable(value)
            for name, value in found.attributes.items()
        }
        if sum(map(len, (*labels, *labels.values()))) > EXEMPLAR_LIMIT:
            return None
        return Exemplar(
            labels, float(found.value), Timestamp(*divmod(found.time_ns, 10**9))
        )
    except Exception:  # noqa: BLE001  # the series is worth more than where to look
        return None


def _decimal(value: float) -> str:
    """Return *value* as Go writes it, which is what the formats ask for."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # it has none


SAMPLES: Mapping[str, Callable[[Exposed], AddSamples]] = {
    "counter": _counter,
    "gauge": _gauge,
    "histogram": _histogram,
    "summary": _summary,
}
"""By type, what makes the function that adds the samples of each series."""
