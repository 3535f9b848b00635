"""What was sent of each series, and what there is to send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import NamedTuple, TypeAlias

from llmevents.metrics import (
    ExponentialHistogram,
    Histogram,
    Series,
    Snapshot,
)
from llmevents_statsd._buckets import (
    Bucket,
    Placed,
    Slice,
    bounds,
    bucket_counts,
    place,
    slices,
    values_per_line,
)
from llmevents_statsd._lines import Standard, Stat
from llmevents_statsd._metrics import Plan
from llmevents_statsd._numbers import (
    Number,
    difference,
    exact,
    product,
    rounded,
    scaled,
    total,
)


Change: TypeAlias = Callable[[int], None]
"""Notes that something was sent (1), or that it was not after all (-1)."""

Key: TypeAlias = tuple[str, frozenset[tuple[str, str]], int]


class Group(NamedTuple):
    """Lines that go into one packet, or nowhere.

    Attributes:
        lines: How many there are.
        reason: Why they cannot be sent; empty if they can.
    """

    data: bytes
    lines: int
    change: Change
    reason: str = ""


class Sent:
    """What was sent of one series, in the unit of the lines."""

    __slots__ = ("counts", "stat", "total")

    def __init__(self, stat: Stat) -> None:
        self.stat = stat
        self.total: Decimal = Decimal(0)
        self.counts: dict[int, int] = {}

    def add(self, amount: Decimal, sign: int) -> None:
        """Note a part of a counter."""
        self.total = total(self.total, amount if sign > 0 else -amount)

    def add_values(
        self, buckets: Iterable[tuple[int, int]], amount: Decimal, sign: int
    ) -> None:
        """Note values of a histogram, by bucket, that came to *amount*."""
        for key, count in buckets:
            self.counts[key] = self.counts.get(key, 0) + sign * count
        self.add(amount, sign)


class Book:
    """Keeps what was sent, and makes lines of what was not.

    Not threadsafe: it belongs to the thread that sends.
    """

    def __init__(self, plans: Mapping[str, Plan], form: Standard) -> None:
        self._plans = plans
        self._form = form
        self._sent: dict[Key, Sent] = {}

    def groups(self, snapshot: Snapshot, first: int) -> Iterator[Group]:
        """Yield what is there to send, beginning with the series number *first*."""
        pairs = [
            (self._plans[name], series)
            for name, family in snapshot.families.items()
            for series in family.series
        ]
        present = {_key(plan, series) for plan, series in pairs}
        self._sent = {key: sent for key, sent in self._sent.items() if key in present}
        first %= len(pairs) or 1
        for plan, series in (*pairs[first:], *pairs[:first]):
            try:
                groups = list(self._render(plan, series))
            except Exception:  # noqa: BLE001  # one bad series must not cost the others
                groups = [Group(b"", 1, _nothing, "render_error")]
            yield from groups

    def _known(self, plan: Plan, series: Series) -> Sent:
        key = _key(plan, series)
        sent = self._sent.get(key)
        if sent is None:
            sent = Sent(self._form.stat(plan.name, plan.definition, series.tags))
            self._sent[key] = sent
        return sent

    def _restart(self, plan: Plan, series: Series) -> Sent:
        """Forget what was sent of a series: it has begun again."""
        self._sent.pop(_key(plan, series))
        return self._known(plan, series)

    def _render(self, plan: Plan, series: Series) -> Iterator[Group]:
        if isinstance(series.raw, (Histogram, ExponentialHistogram)):
            return self._timer(plan, series, series.raw)
        if plan.kind == "counter":
            return self._counter(plan, series)
        return self._gauge(plan, series)

    def _gauge(self, plan: Plan, series: Series) -> Iterator[Group]:
        """Yield the value, new or not: a lost line heals, and so does a new server."""
        sent = self._known(plan, series)
        lines = self._form.gauge(sent.stat, exact(_shown(series)))
        yield Group(lines.encode(), lines.count("\n") + 1, _nothing)

    def _counter(self, plan: Plan, series: Series) -> Iterator[Group]:
        sent = self._known(plan, series)
        now = _total(series, Fraction(1))
        if now < sent.total:
            sent = self._restart(plan, series)
        delta = difference(now, sent.total)
        if delta:
            line = self._form.counter(sent.stat, delta)
            yield Group(line.encode(), 1, partial(sent.add, delta))

    def _timer(
        self, plan: Plan, series: Series, raw: Histogram | ExponentialHistogram
    ) -> Iterator[Group]:
        sent = self._known(plan, series)
        counts = bucket_counts(raw)
        if any(count > counts.get(key, 0) for key, count in sent.counts.items()):
            sent = self._restart(plan, series)
        factor = float(plan.factor)
        buckets = [
            Bucket(key, more, *bounds(raw, key, factor))
            for key, count in counts.items()
            if (more := count - sent.counts.get(key, 0))
        ]
        now = _total(series, plan.factor)
        new = float(difference(now, sent.total))
        values, placed = place(buckets, new)
        if placed != new:
            # No values in these buckets come to this; it must not move later ones.
            sent.total = difference(now, exact(placed))
        found = [
            Placed(bucket.key, bucket.values, value)
            for bucket, value in zip(buckets, values, strict=True)
        ]
        if not self._form.may_be_negative:
            negative = [each for each in found if each.value < 0]
            found = found[len(negative) :]
            yield from self._values(plan, sent, slices(negative, None), "negative")
        count = sum(each.values for each in found)
        per_line = values_per_line(count, plan.sample_rate)
        yield from self._values(plan, sent, slices(found, per_line))

    def _values(
        self, plan: Plan, sent: Sent, chosen: Iterable[Slice], reason: str = ""
    ) -> Iterator[Group]:
        """Yield a line for each of *chosen*; with a *reason*, it will not be sent."""
        for size, value, buckets in chosen:
            number = rounded(value)
            line = self._form.timer(sent.stat, plan.timer_type, number, size)
            change = partial(sent.add_values, buckets, product(number, size))
            yield Group(line.encode(), 1, change, reason)


def _nothing(_sign: int) -> None:
    """Note nothing."""


def _key(plan: Plan, series: Series) -> Key:
    """Return what a series is known by; another, if it was forgotten and began again."""
    return plan.definition.name, frozenset(series.tags.items()), series.epoch


def _shown(series: Series) -> float:
    """Return the value, or the sum of the values, in the unit of the definition."""
    value = series.value
    if isinstance(value, (Histogram, ExponentialHistogram)):
        return value.sum
    return value


def _total(series: Series, factor: Fraction) -> Number:
    """Return the running total, exactly if it has an end, in the unit of the lines."""
    raw = series.raw
    if isinstance(raw, (Histogram, ExponentialHistogram)):
        raw = raw.sum
    return scaled(raw, series.scale * factor, _shown(series) * float(factor))
