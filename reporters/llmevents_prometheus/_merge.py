"""What series come to over several processes.

Sums are kept as parts that add up to them exactly, so that neither integers nor
floats depend on who added them up, and in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import fsum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from llmevents.metrics import (
    Distribution,
    Exemplar,
    ExponentialHistogram,
    Family,
    Histogram,
    LastValue,
    Metric,
    Series,
    Snapshot,
    Sum,
    Summary,
    Value,
)


OVERFLOW = "__overflow__"
"""Every tag's value in the series that takes what is past a limit, as in the store."""

Tags: TypeAlias = tuple[tuple[str, str], ...]
"""The tags of a series, sorted."""

ChangeTime: TypeAlias = Callable[[str, Tags], int]
"""Name and tags of a last value to when it changed, in Unix nanoseconds."""


class Shape(NamedTuple):
    """What definitions must agree in for their numbers to be added up.

    Attributes:
        kind: The definition's class, and the resolution of a summary.
        scale: What values are multiplied by when they are shown.
        tag_names: Sorted; None where a function makes the tags.
        buckets: Of a distribution.
    """

    name: str
    kind: str
    unit: str
    scale: str
    is_monotonic: bool
    tag_names: tuple[str, ...] | None
    buckets: tuple[float, ...]

    @property
    def is_level(self) -> bool:
        """Whether this is a sum that goes up and down."""
        return self.kind == "Sum" and not self.is_monotonic


def shape_of(definition: Metric) -> Shape:
    """Return the shape of the series of *definition*."""
    names = definition.tag_names
    kind = type(definition).__name__
    if isinstance(definition, Summary):
        kind += str(ExponentialHistogram().to_json()["scale"])
    return Shape(
        name=definition.name,
        kind=kind,
        unit=definition.unit,
        scale=str(definition.scale),
        is_monotonic=definition.monotonic if isinstance(definition, Sum) else True,
        tag_names=None if names is None else tuple(sorted(names)),
        buckets=definition.buckets if isinstance(definition, Distribution) else (),
    )


@dataclass(frozen=True, slots=True)
class State:
    """What one series came to.

    Attributes:
        parts: Numbers that add up to the sum; of a last value, the value alone.
        counts: Values per bucket, of distributions and summaries.
        time_ns: When a last value changed, as far as that was noticed.
        exemplars: By bucket.
    """

    parts: tuple[float, ...]
    counts: Mapping[int, int] = field(default_factory=dict)
    time_ns: int = 0
    exemplars: Mapping[int, Exemplar] = field(default_factory=dict)


Families: TypeAlias = dict[Shape, dict[Tags, State]]


def tags_key(series: Series) -> Tags:
    """Return the tags of *series* as they are compared."""
    return tuple(sorted(series.tags.items()))


def families_of(snapshot: Snapshot, changed: ChangeTime) -> Families:
    """Return the numbers of *snapshot*, without metrics that have none."""
    families: Families = {}
    for family in snapshot.families.values():
        if family.series:
            families[shape_of(family.definition)] = _states(family, changed)
    return families


def _states(family: Family, changed: ChangeTime) -> dict[Tags, State]:
    is_last = isinstance(family.definition, LastValue)
    states = {}
    for series in family.series:
        key = tags_key(series)
        time_ns = changed(family.definition.name, key) if is_last else 0
        states[key] = _state(series, time_ns)
    return states


def _state(series: Series, time_ns: int) -> State:
    raw = series.raw
    if isinstance(raw, Histogram):
        counts = {index: count for index, count in enumerate(raw.counts) if count}
        return State((raw.sum,), counts, exemplars=series.exemplars)
    if isinstance(raw, ExponentialHistogram):
        return State((raw.sum,), raw.counts)
    return State((raw,), time_ns=time_ns)


# --- Adding up -------------------------------------------------------------------


def combine(shape: Shape, states: Sequence[State]) -> State:
    """Return what one process would have come to that had seen everything."""
    if shape.kind == LastValue.__name__:
        return max(states, key=lambda state: state.time_ns)
    counts: dict[int, int] = {}
    exemplars: dict[int, Exemplar] = {}
    for state in states:
        for key, count in state.counts.items():
            counts[key] = counts.get(key, 0) + count
        for key, exemplar in state.exemplars.items():
            known = exemplars.get(key)
            if known is None or known.time_ns < exemplar.time_ns:
                exemplars[key] = exemplar
    parts = exact_parts(chain.from_iterable(state.parts for state in states))
    return State(parts, counts, exemplars=exemplars)


def exact_parts(numbers: Iterable[float]) -> tuple[float, ...]:
    """Return as few numbers as it takes to have exactly the same sum.

    An integer, if all are integers; else floats, each the rounding error of those
    before it, as many as there are until nothing is left.
    """
    integers, floats = _split(numbers)
    if not floats:
        return (integers,)
    floats += _as_floats(integers)
    parts: list[float] = []
    while rest := fsum((*floats, *(-part for part in parts))):
        parts.append(rest)
    return tuple(parts) or (0.0,)


def total(parts: Iterable[float]) -> int | float:
    """Return the sum of *parts*: exact of integers, else correctly rounded."""
    integers, floats = _split(parts)
    return fsum((*floats, *_as_floats(integers))) if floats else integers


def _split(numbers: Iterable[float]) -> tuple[int, list[float]]:
    integers = 0
    floats = []
    for number in numbers:
        if isinstance(number, int):
            integers += number
        else:
            floats.append(number)
    return integers, floats


def _as_floats(integer: int) -> list[float]:
    """Return floats that add up to *integer*; one does, unless it is very large."""
    floats = []
    while integer:
        floats.append(float(integer))
        integer -= int(floats[-1])
    return floats


def fold_into(families: Families, more: Families, limit: int) -> None:
    """Add *more* to *families*, with at most *limit* series per metric.

    What is past it is added to one more series, whose tags are all `OVERFLOW`.
    """
    for shape, states in more.items():
        into = families.setdefault(shape, {})
        for tags, state in states.items():
            key = tags
            if key not in into and len(into) >= limit:
                names = shape.tag_names or [name for name, _ in tags]
                key = tuple((name, OVERFLOW) for name in names)
            known = into.get(key)
            into[key] = combine(shape, (state,) if known is None else (known, state))


def merge(own: Snapshot, changed: ChangeTime, others: Iterable[Families]) -> Snapshot:
    """Return *own* with everything of *others* that fits its definitions."""
    by_shape: dict[Shape, list[dict[Tags, State]]] = {}
    for families in others:
        for shape, states in families.items():
            by_shape.setdefault(shape, []).append(states)
    merged = dict(own.families)
    for name, family in own.families.items():
        shape = shape_of(family.definition)
        found = by_shape.get(shape)
        if found:
            series = _merge_series(family, shape, changed, found)
            merged[name] = Family(family.definition, series)
    return Snapshot(MappingProxyType(merged), own.start_ns, own.time_ns)


def _merge_series(
    family: Family,
    shape: Shape,
    changed: ChangeTime,
    others: Iterable[dict[Tags, State]],
) -> tuple[Series, ...]:
    known = {tags_key(series): series for series in family.series}
    found: dict[Tags, list[State]] = {}
    for tags, state in _states(family, changed).items():
        found[tags] = [state]
    for states in others:
        for tags, state in states.items():
            found.setdefault(tags, []).append(state)
    merged = []
    for tags, parts in found.items():
        series = known.get(tags)
        if series is None or len(parts) > 1:
            shown = MappingProxyType(dict(tags)) if series is None else series.tags
            series = _series(family.definition, shown, combine(shape, parts))
        merged.append(series)
    return tuple(merged)


def _series(definition: Metric, tags: Mapping[str, str], state: State) -> Series:
    sum_ = total(state.parts)
    value: Value = sum_
    if isinstance(definition, Distribution):
        size = len(definition.buckets) + 1
        counts = tuple(state.counts.get(index, 0) for index in range(size))
        value = Histogram(definition.buckets, counts, sum_)
    elif isinstance(definition, Summary):
        value = ExponentialHistogram(state.counts, sum_)
    return Series(tags, value, definition.scale, state.exemplars)
