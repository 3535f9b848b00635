"""Metrics: what to count, defined once, and the store that counts it.

>>> from llmevents import Bus
>>> from llmevents.metrics import Counter, MetricStore, Sum
>>> bus = Bus()
>>> store = MetricStore([
...     Counter("llm.calls.total", event="llm.*.stop", tags=("model",)),
...     Sum("llm.chat.stop.input_tokens", tags=("model",), unit="token"),
... ])
>>> store.attach(bus)
>>> bus.execute("llm.chat.stop", {"input_tokens": 12}, {"model": "gpt-4o"})
>>> for family in store.snapshot().families.values():
...     for series in family.series:
...         print(family.definition.name, dict(series.tags), series.value)
llm.calls.total {'model': 'gpt-4o'} 1
llm.chat.stop.input_tokens {'model': 'gpt-4o'} 12
>>> store.detach()
"""

from __future__ import annotations

from llmevents._errors import MetricDefinitionError
from llmevents.metrics._checks import MeasurementFunction, Predicate, TagFunction
from llmevents.metrics._definitions import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    Sum,
    Summary,
)
from llmevents.metrics._histogram import ExponentialHistogram, Histogram
from llmevents.metrics._series import Exemplar, Family, Series, Snapshot, Value
from llmevents.metrics._store import MetricStore
from llmevents.metrics._writer import ExemplarSource


__all__ = [
    "Counter",
    "Distribution",
    "Exemplar",
    "ExemplarSource",
    "ExponentialHistogram",
    "Family",
    "Histogram",
    "LastValue",
    "MeasurementFunction",
    "Metric",
    "MetricDefinitionError",
    "MetricStore",
    "Predicate",
    "Series",
    "Snapshot",
    "Sum",
    "Summary",
    "TagFunction",
    "Value",
]
