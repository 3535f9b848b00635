"""Where the SDK hands over what is to be sent, in the thread that made it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from opentelemetry.context import Context
from opentelemetry.sdk._logs import (
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor


Offer = Callable[[str, object, int], None]
"""Takes the name of a signal, a record and about how many bytes it has."""

SPANS = "spans"
LOGS = "logs"

_RECORD = 2048
"""Bytes of a record without its attributes: objects, name, message."""

_ATTRIBUTE = 64
"""Bytes of an attribute beside its value."""

_SMALL = frozenset({str, int, float, bool, type(None)})
_SAMPLED = 1
_WIDEST = 4


class OfferSpans(SpanProcessor):
    """Offers each span that was sampled, when it ends."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    def on_end(self, span: ReadableSpan) -> None:
        """Offer *span*."""
        if span.context is not None and span.context.trace_flags & _SAMPLED:
            self._offer(SPANS, span, _size_of_span(span))


class OfferLogRecords(LogRecordProcessor):
    """Offers each log record."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Offer *log_record*, without the context that it was made in."""
        record = copy.copy(log_record.log_record)
        record.context = Context()
        readable = ReadableLogRecord(
            log_record=record,
            resource=cast("Any", log_record.resource),  # a logger always sets it
            instrumentation_scope=log_record.instrumentation_scope,
            limits=log_record.limits,
        )
        size = _RECORD + _size_of_attributes(record.attributes)
        self._offer(LOGS, readable, size + _size_of((record.body,)))

    def shutdown(self) -> None:
        """Do nothing: the reporter is stopped, not the processor."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Do nothing: the reporter is flushed, not the processor."""
        return True


def _size_of_span(span: ReadableSpan) -> int:
    """Return about how many bytes *span* takes. It is the emitter who waits for this."""
    size = _RECORD + _size_of_attributes(span.attributes)
    for event in span.events:
        size += _ATTRIBUTE + _size_of_attributes(event.attributes)
    return size


def _size_of_attributes(attributes: Any) -> int:  # noqa: ANN401  # a mapping that can be copied
    if not attributes:
        return 0
    # The SDK's mapping takes a lock for every step of an iteration, none for a copy.
    values = attributes.copy().values()
    return len(values) * _ATTRIBUTE + _size_of(values)


def _size_of(values: Collection[object]) -> int:
    texts = [value for value in values if type(value) is str]
    text = "".join(texts)
    size = len(text) * (1 if text.isascii() else _WIDEST)
    if len(texts) < len(values):
        for value in values:
            if type(value) not in _SMALL:
                size += _size_of_one(value)
    return size


def _size_of_one(value: object) -> int:
    if isinstance(value, Mapping):
        return _ATTRIBUTE + _size_of([*value]) + _size_of([*value.values()])
    if isinstance(value, (list, tuple)):
        return _ATTRIBUTE * len(value) + _size_of(value)
    return len(value) if isinstance(value, bytes) else _ATTRIBUTE
