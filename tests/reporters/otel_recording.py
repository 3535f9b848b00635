"""A strict bus whose spans and log records the OpenTelemetry SDK keeps in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry._logs import Logger
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Tracer

from llmevents import Bus
from llmevents.testing import ManualClock
from llmevents_otel._logs import LogRecorder
from llmevents_otel._profiles import profile_named
from llmevents_otel._spans import MOST_OPEN, SpanRecorder


NOON = 1_700_000_000_000_000_000
"""Where the clocks of `Recording` stand."""

SCOPE = "llmevents"


class Recording:
    """A bus, recorders on it that raise what goes wrong, and what they recorded."""

    def __init__(
        self,
        profile: str = "genai-1.41",
        *,
        sampler: Sampler = ALWAYS_ON,
        requests: bool = False,
        most_open: int = MOST_OPEN,
        records_first: bool = False,
    ) -> None:
        self.clock = ManualClock(time_ns=NOON)
        self.bus = Bus(clock=self.clock)
        self._spans = InMemorySpanExporter()
        self._records = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._spans))
        loggers = LoggerProvider()
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self._records))
        self.logger: Logger = loggers.get_logger(SCOPE)
        names = profile_named(profile)
        self.spans = SpanRecorder(
            tracer=self.provider.get_tracer(SCOPE),
            profile=names,
            requests=requests,
            most_open=most_open,
        )
        self.logs = LogRecorder(
            logger=self.logger, profile=names, context_of=self.spans.context_of
        )
        if records_first:
            self._attach_logs()
        self.bus.attach("spans", self.spans.events(), self.spans, on_failure="raise")
        if not records_first:
            self._attach_logs()

    def _attach_logs(self) -> None:
        self.bus.attach(
            "logs", self.logs.events(), self.logs.handle, on_failure="raise"
        )

    @property
    def foreign(self) -> Tracer:
        """The tracer of another library with the same provider."""
        return self.provider.get_tracer("another.library")

    def finished(self) -> Sequence[ReadableSpan]:
        """Return the spans that have ended, in the order of their ends."""
        return self._spans.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        """Return the only span of this name."""
        (found,) = self.named(name)
        return found

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of this name."""
        return [span for span in self.finished() if span.name == name]

    def attributes(self, name: str) -> dict[str, object]:
        """Return the attributes of the only span of this name, without our own id."""
        return without_id(self.span(name).attributes)

    def parent(self, name: str) -> str | None:
        """Return the name of the parent of the only span of this name."""
        parent = self.span(name).parent
        if parent is None:
            return None
        (found,) = [
            span.name
            for span in self.finished()
            if span.context is not None and span.context.span_id == parent.span_id
        ]
        return found

    def records(self) -> Sequence[ReadableLogRecord]:
        """Return the log records, in order."""
        return self._records.get_finished_logs()

    def records_of_calls(self) -> Sequence[ReadableLogRecord]:
        """Return the log records that are about calls, and not about other events."""
        return [
            record
            for record in self.records()
            if not (record.log_record.event_name or "").startswith("llm.")
        ]


def without_id(attributes: Mapping[str, object] | None) -> dict[str, object]:
    """Return attributes as a dict, without the id that differs every time."""
    plain = dict(attributes or {})
    assert len(str(plain.pop("llmevents.span_id"))) == 32
    return plain
