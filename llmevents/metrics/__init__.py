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
from llmevents.metrics._definitions import (
    Counter,
    LastValue,
    MeasurementFunction,
    Metric,
    Predicate,
    Sum,
    TagFunction,
)
from llmevents.metrics._series import Family, Series, Snapshot
from llmevents.metrics._store import MetricStore


__all__ = [
    "Counter",
    "Family",
    "LastValue",
    "MeasurementFunction",
    "Metric",
    "MetricDefinitionError",
    "MetricStore",
    "Predicate",
    "Series",
    "Snapshot",
    "Sum",
    "TagFunction",
]
