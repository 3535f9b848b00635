"""Lines of the two formats, made by the `statsd` client.

The client's verbs write the lines. Its ways of sending are not used: they swallow
every error, resolve the host's name in the constructor, know Unix sockets as streams
only, let lines pass that are too long, never fill a packet to the brim, and throw dice
where a sample rate is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from statsd.client.base import StatsClientBase  # type: ignore[import-untyped]  # it has no types
from statsd.client.stream import StreamPipeline  # type: ignore[import-untyped]  # likewise

from llmevents.metrics import Metric, Summary
from llmevents_statsd._names import segments, suffix
from llmevents_statsd._numbers import Number, rate


MILLISECONDS = {
    "nanosecond": Fraction(1, 10**6),
    "microsecond": Fraction(1, 10**3),
    "millisecond": Fraction(1),
    "second": Fraction(10**3),
    "minute": Fraction(60 * 10**3),
    "hour": Fraction(3600 * 10**3),
    "day": Fraction(86_400 * 10**3),
}
"""How many there are in a unit of time."""


class Stat(NamedTuple):
    """What the lines of one series have in common, cleaned: begin and end."""

    name: str
    suffix: str = ""


class Client(StatsClientBase):  # type: ignore[misc]  # it has no types
    """A `statsd` client that keeps what it would send, in `sent`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.sent = ""

    def pipeline(self) -> StreamPipeline:
        """Return the pipeline that joins its lines; `gauge` uses it for a pair."""
        return StreamPipeline(self)

    def put(self, name: str, field: str) -> None:
        """Send a line that the client has no verb for."""
        self._send_stat(name, field, 1)

    def _send(self, data: str) -> None:
        self.sent = data


class Standard:
    """Plain StatsD: tags are segments of the name, and times are in milliseconds."""

    one_line_per_bucket = False
    """Servers weigh all lines alike when they work out percentiles (npm daemon 0.9.0,
    process_metrics.js), so each has to stand for about as many values."""

    may_be_negative = False
    """A negative timer is a bad line (npm daemon 0.9.0, helpers.js)."""

    def __init__(self, prefix: str, tags: Mapping[str, str]) -> None:
        self._client = Client(prefix)
        self._tags = tags

    def keys(self, definition: Metric) -> tuple[str, ...] | None:
        """Return the tags that become segments; None if that varies."""
        names = definition.tag_names
        if names is None:
            return None
        return (*names, *(key for key in self._tags if key not in names))

    def stat(self, name: str, definition: Metric, tags: Mapping[str, str]) -> Stat:
        """Return what the lines of a series have in common."""
        known = {**self._tags, **tags}
        keys = self.keys(definition)
        return Stat(name + segments(sorted(known) if keys is None else keys, known))

    def timer_type(self, definition: Metric) -> tuple[str, Fraction]:
        """Return the type of a distribution's lines, and the factor to their unit."""
        return "ms", MILLISECONDS.get(definition.unit, Fraction(1))

    def counter(self, stat: Stat, value: Number) -> str:
        """Return the line that adds *value* to a counter."""
        self._client.incr(stat.name, value)
        return self._client.sent + stat.suffix

    def gauge(self, stat: Stat, value: Number) -> str:
        """Return the line that sets a gauge, or two: a negative one subtracts."""
        self._client.gauge(stat.name, value)
        return self._client.sent

    def timer(self, stat: Stat, kind: str, value: Number, count: int) -> str:
        """Return the line that says that *value* came up *count* times."""
        sampled = "" if count == 1 else f"|@{rate(count)}"
        self._client.put(stat.name, f"{value!s}|{kind}{sampled}")
        return self._client.sent + stat.suffix


class DogStatsD(Standard):
    """Datadog's dialect (docs, developers/dogstatsd/datagram_shell, v1.0): with tags."""

    one_line_per_bucket = True
    may_be_negative = True

    def stat(self, name: str, definition: Metric, tags: Mapping[str, str]) -> Stat:  # noqa: ARG002  # the base's
        """Return what the lines of a series have in common."""
        return Stat(name, suffix({**self._tags, **tags}))

    def timer_type(self, definition: Metric) -> tuple[str, Fraction]:
        """Return ``h`` for a summary, ``d`` for a distribution; units stay."""
        return "h" if isinstance(definition, Summary) else "d", Fraction(1)

    def gauge(self, stat: Stat, value: Number) -> str:
        """Return the line that sets a gauge, negative or not."""
        self._client.put(stat.name, f"{value!s}|g")
        return self._client.sent + stat.suffix
