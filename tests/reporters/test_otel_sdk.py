"""Calls of a real SDK, to a server on this machine, as OpenTelemetry spans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import llmevents
from llmevents import Bus
from llmevents.llm.budgets import Budget, BudgetGuard
from llmevents.metrics import MetricStore
from llmevents.testing import FakeProvider, Reply
from llmevents_otel import OTelReporter


openai = pytest.importorskip("openai", reason="the openai SDK is missing")


CALL = "chat gpt-4o"
REQUEST = "llm.provider.request"


class Sent:
    """What the reporter makes while an SDK calls a provider that refuses it twice."""

    def __init__(self) -> None:
        self.bus = Bus(strict=True)
        self._spans = InMemorySpanExporter()
        self._records = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's
        self._tracers = TracerProvider()
        self._tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._loggers = LoggerProvider()
        self._loggers.add_log_record_processor(SimpleLogRecordProcessor(self._records))

    @contextmanager
    def reporting(self, *, requests: bool) -> Iterator[None]:
        reporter = OTelReporter(
            metrics=False,
            logs=True,
            requests=requests,
            tracer_provider=self._tracers,
            logger_provider=self._loggers,
        )
        reporter.start(self.bus, MetricStore([]))
        llmevents.instrument("openai", bus=self.bus)
        try:
            yield
        finally:
            llmevents.uninstrument("openai")
            reporter.stop(5.0)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [each for each in self._spans.get_finished_spans() if each.name == name]

    def span_count(self) -> int:
        return len(self._spans.get_finished_spans())

    def records(self) -> list[LogRecord]:
        return [each.log_record for each in self._records.get_finished_logs()]


def ask() -> None:
    with FakeProvider() as provider:
        refused = Reply.rate_limited(retry_after_seconds=0.001)
        provider.script(refused, refused)
        with openai.OpenAI(
            base_url=provider.base_url, api_key="test", max_retries=2
        ) as client:
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "Count."}]
            )


def test_a_call_of_an_sdk_that_was_sent_three_times_is_one_span() -> None:
    """Elsewhere it is two spans, or four: those of the SDK and those of its HTTP."""
    sent = Sent()
    with sent.reporting(requests=False):
        ask()
    (call,) = sent.spans(CALL)
    assert sent.span_count() == 1
    happened = ["llm.provider.rate_limit", "llm.provider.retry"]
    assert [event.name for event in call.events] == happened * 2
    records = sent.records()
    assert [record.event_name for record in records] == [
        *happened * 2,
        "gen_ai.client.inference.operation.details",
    ]
    assert call.context is not None
    assert {record.span_id for record in records} == {call.context.span_id}


def test_its_requests_are_its_children_if_asked_for() -> None:
    sent = Sent()
    with sent.reporting(requests=True):
        ask()
    (call,) = sent.spans(CALL)
    requests = sent.spans(REQUEST)
    assert sent.span_count() == 4
    assert [each.parent for each in requests] == [call.context] * 3
    codes = [(each.attributes or {})["http.response.status_code"] for each in requests]
    assert codes == [429, 429, 200]


def test_what_becomes_of_a_budget_is_seen_in_the_trace_of_the_call() -> None:
    """Warnings have a log record as well; what is routine has none."""
    sent = Sent()
    guard = BudgetGuard(sent.bus, [Budget("day", limit=1, unit="calls", window="day")])
    with sent.reporting(requests=False):
        guard.attach()
        try:
            with llmevents.span("llm.task", bus=sent.bus):
                ask()
        finally:
            guard.detach()
    (task,) = sent.spans("invoke_workflow")
    (call,) = sent.spans(CALL)
    events = [*task.events, *call.events]
    budget = {
        event.name: dict(event.attributes or {})["llmevents.budget.name"]
        for event in events
        if event.name.startswith("llm.budget.")
    }
    assert budget == {
        "llm.budget.reserved": "day",
        "llm.budget.settled": "day",
        "llm.budget.warning": "day",
        "llm.budget.exceeded": "day",
    }
    assert task.context is not None
    logged = {
        record.event_name
        for record in sent.records()
        if record.trace_id == task.context.trace_id
    }
    assert logged == {
        "gen_ai.client.inference.operation.details",
        "llm.budget.warning",
        "llm.budget.exceeded",
        "llm.provider.rate_limit",
        "llm.provider.retry",
    }
