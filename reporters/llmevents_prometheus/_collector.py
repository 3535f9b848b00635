"""The collector: a snapshot of the store as families of ``prometheus_client``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from prometheus_client.metrics_core import Metric

from llmevents.metrics import (
    ExponentialHistogram,
    Histogram,
    LastValue,
    Series,
    Snapshot,
    Value,
)
from llmevents_prometheus._counts import (
    BAD_SERIES,
    REASONS,
    SCRAPE_ERROR,
    SCRAPES,
    SHOWN,
    Counts,
)
from llmevents_prometheus._names import OWN, Exposed, label_name, sendable
from llmevents_prometheus._samples import SAMPLES, Labels


if TYPE_CHECKING:
    from llmevents.metrics import Family

Rows: TypeAlias = dict[tuple[str, ...], Series]


class Collector:
    """Collects from a store whatever the definitions become in Prometheus.

    A family or a series that cannot be shown is left out and counted; nothing that
    is wrong with one reaches another. What a scrape costs is the scrape's: the
    threads that record do not wait.

    Args:
        snapshot: Returns what to show.
        exposed: What the metrics become.
        counts: Where to count.
        refused: Returns how many values the store could not take in. None leaves out
            what this process knows of itself only, for another may answer next time.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        exposed: Sequence[Exposed],
        counts: Counts,
        refused: Callable[[], int] | None,
    ) -> None:
        self._snapshot = snapshot
        self._exposed = exposed
        self._counts = counts
        self._refused = refused

    def describe(self) -> list[Metric]:
        """Return the families without samples: names that nothing else can have."""
        families = [_family(each) for each in self._exposed]
        return families if self._refused is None else families + _own_families()

    def collect(self) -> list[Metric]:
        """Return all families as they are now. Never raises an `Exception`."""
        self._counts.add(SCRAPES)
        try:
            found = self._snapshot().families
        except Exception:  # noqa: BLE001  # also of other processes' files
            # A page without the family is a gap. One that starts at 0 again would be
            # a reset, and what was there before would count once more.
            self._counts.add(SCRAPE_ERROR)
            families = []
        else:
            families = [
                self._collect(each, found.get(each.definition.name))
                for each in self._exposed
            ]
        if self._refused is not None:
            families += self._about_ourselves(self._refused)
        return families

    def _collect(self, exposed: Exposed, found: Family | None) -> Metric:
        family = _family(exposed)
        series = (*exposed.initial, *(() if found is None else found.series))
        labels, rows, bad = _rows(exposed, series)
        add_samples = SAMPLES[exposed.kind](exposed)
        samples = family.samples
        shown = 0
        for values, row in rows.items():
            try:
                add_samples(samples, dict(zip(labels, values, strict=True)), row)
            except Exception:  # noqa: BLE001  # one bad series must not spoil the scrape
                bad += 1
            else:
                shown += 1
        self._counts.add(SHOWN, shown)
        if bad:
            self._counts.add(BAD_SERIES, bad)
        return family

    def _about_ourselves(self, refused: Callable[[], int]) -> list[Metric]:
        values, scrapes, dropped = families = _own_families()
        values.add_sample(f"{values.name}_total", {}, refused())
        scrapes.add_sample(f"{scrapes.name}_total", {}, self._counts.of(SCRAPES))
        for reason in REASONS:
            count = self._counts.of(reason)
            dropped.add_sample(f"{dropped.name}_total", {"reason": reason}, count)
        return families


def _family(exposed: Exposed) -> Metric:
    return Metric(exposed.name, exposed.description, exposed.kind, exposed.unit)


def _own_families() -> list[Metric]:
    return [Metric(name, description, "counter") for name, description in OWN.items()]


# --- Series and their labels -------------------------------------------------------


def _rows(
    exposed: Exposed, series: Iterable[Series]
) -> tuple[tuple[str, ...], Rows, int]:
    """Return label names, series by label values, and how many there is no place for.

    Two series may have the same labels once these can be sent: a missing tag and an
    empty one, or two that differ in characters that are no text. They become one.
    """
    if exposed.tags is None:
        return _computed_rows(exposed, series)
    tags = exposed.tags
    rows: Rows = {}
    bad = 0
    for one in series:
        try:
            get = one.tags.get
            values = tuple([get(tag, "") for tag in tags])
            if not "".join(values).isascii():
                values = tuple(map(sendable, values))
            known = rows.setdefault(values, one)
            if known is not one:
                rows[values] = _merged(exposed, known, one)
        except Exception:  # noqa: BLE001  # one bad series must not spoil the scrape
            bad += 1
    return exposed.labels, rows, bad


def _computed_rows(
    exposed: Exposed, series: Iterable[Series]
) -> tuple[tuple[str, ...], Rows, int]:
    """Do the same where a function makes the tags, so that each may have its own."""
    found: list[tuple[Labels, Series]] = []
    bad = 0
    for one in series:
        try:
            found.append((_labels(one.tags), one))
        except Exception:  # noqa: BLE001  # as above
            bad += 1
    names = tuple(sorted({name for labels, _ in found for name in labels}))
    rows: Rows = {}
    for labels, one in found:
        try:
            values = tuple([labels.get(name, "") for name in names])
            known = rows.setdefault(values, one)
            if known is not one:
                rows[values] = _merged(exposed, known, one)
        except Exception:  # noqa: BLE001  # as above
            bad += 1
    return names, rows, bad


def _labels(tags: Mapping[str, str]) -> Labels:
    labels = {label_name(tag): sendable(value) for tag, value in tags.items()}
    if len(labels) < len(tags):
        msg = f"two of the tags {sorted(tags)!r} would be one label"
        raise ValueError(msg)
    return labels


def _merged(exposed: Exposed, one: Series, other: Series) -> Series:
    """Return the series of what came together in both."""
    if isinstance(exposed.definition, LastValue):
        return other
    mine, theirs = one.raw, other.raw
    if isinstance(mine, Histogram) and isinstance(theirs, Histogram):
        counts = tuple(map(sum, zip(mine.counts, theirs.counts, strict=True)))
        raw: Value = Histogram(mine.bounds, counts, mine.sum + theirs.sum)
    elif isinstance(mine, ExponentialHistogram):
        raw = mine.merge(cast("ExponentialHistogram", theirs))
    else:
        raw = cast("float", mine) + cast("float", theirs)
    return Series(one.tags, raw, one.scale, {**one.exemplars, **other.exemplars})
