"""The anthropic SDK makes OpenTelemetry spans of its own; with ours there is one."""

# ruff: noqa: ANN401  # clients, parameters and results are the SDK's own, of any type

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llmevents import Bus, llm, span
from llmevents.metrics import MetricStore


pytest.importorskip("anthropic", reason="the anthropic SDK is missing")
pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry's SDK is missing")

import anthropic  # see above
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
    InMemorySpanExporter,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, TraceFlags, get_current_span

from llmevents_otel import OTelReporter
from llmevents_otel._profiles import profile_named
from llmevents_otel._spans import SpanRecorder
from tests.instrumentation.anthropic_sdk import (
    ASKED,
    Wire,
    in_loop,
    instrumented,
    message,
    refusal,
    stream,
)


SDKS = "anthropic.messages.create"
OURS = f"chat {ASKED['model']}"


class Spans:
    """Where all spans go: ours, and those of the SDK's clients that are made here."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def calls(self) -> list[ReadableSpan]:
        """Return every span so far but those of attempts on the wire."""
        finished = self.exporter.get_finished_spans()
        return [each for each in finished if each.name != "llm.provider.request"]

    def client(self, wire: Wire, **options: Any) -> anthropic.Anthropic:
        return wire.client(open_telemetry={"tracer_provider": self.provider, **options})


@pytest.fixture
def spans() -> Spans:
    return Spans()


@contextmanager
def reporting(bus: Bus, spans: Spans, **options: Any) -> Iterator[None]:
    reporter = OTelReporter(metrics=False, tracer_provider=spans.provider, **options)
    reporter.start(bus, MetricStore([]))
    try:
        with instrumented(bus):
            yield
    finally:
        reporter.stop(5.0)


def traces(wire: Wire) -> list[tuple[str, str]]:
    """Return trace and parent that the requests on the wire have carried on."""
    carried = [sent.headers["traceparent"].split("-") for sent in wire.sent]
    return [(trace, parent) for _version, trace, parent, _flags in carried]


def ids(each: ReadableSpan) -> tuple[str, str]:
    context = each.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def parent(each: ReadableSpan) -> str | None:
    return None if each.parent is None else f"{each.parent.span_id:016x}"


def test_without_the_reporter_the_sdks_span_stays_as_it_is(spans: Spans) -> None:
    wire = Wire()
    with instrumented(Bus(strict=True)):
        spans.client(wire).messages.create(**ASKED)
    (own,) = spans.calls()
    assert own.name == SDKS
    assert traces(wire) == [ids(own)]


def test_with_the_reporter_there_is_one_span_and_its_trace_is_carried_on(
    spans: Spans,
) -> None:
    """Each attempt carries the trace and the id of our span."""
    bus = Bus(strict=True)
    wire = Wire(lambda: refusal(500, "api_error", {"retry-after": "0.001"}))
    with reporting(bus, spans), span("llm.task", bus=bus):
        client = spans.client(wire).with_options(max_retries=1)
        client.messages.create(**ASKED)
    call, job = spans.calls()
    assert call.name == OURS
    assert parent(call) == ids(job)[1]
    assert traces(wire) == [ids(call), ids(call)]


def test_a_stream_has_one_span_too(spans: Spans) -> None:
    wire = Wire(stream, stream)
    with reporting(Bus(strict=True), spans):
        client = spans.client(wire)
        list(client.messages.create(**ASKED, stream=True))
        with client.messages.stream(**ASKED) as helped:
            helped.get_final_message()
    assert [each.name for each in spans.calls()] == [OURS, OURS]
    assert traces(wire) == [ids(each) for each in spans.calls()]


def test_an_asynchronous_call_has_one_span_too(spans: Spans) -> None:
    wire = Wire()

    async def main() -> None:
        options = {"tracer_provider": spans.provider}
        async with wire.async_client(open_telemetry=options) as client:
            await client.messages.create(**ASKED)

    with reporting(Bus(strict=True), spans):
        in_loop(main)
    (call,) = spans.calls()
    assert call.name == OURS
    assert traces(wire) == [ids(call)]


def test_a_call_that_fails_has_one_span_too(spans: Spans) -> None:
    wire = Wire(lambda: refusal(400, "invalid_request_error"))
    with (
        reporting(Bus(strict=True), spans),
        pytest.raises(anthropic.BadRequestError, match=r"No\."),
    ):
        spans.client(wire).messages.create(**ASKED)
    (call,) = spans.calls()
    assert not call.status.is_ok
    assert traces(wire) == [ids(call)]


def test_requests_that_are_no_call_keep_the_sdks_span(spans: Spans) -> None:
    count = {"input_tokens": 3}
    wire = Wire(lambda: message(**count))
    asked = {key: value for key, value in ASKED.items() if key != "max_tokens"}
    with reporting(Bus(strict=True), spans):
        spans.client(wire).messages.count_tokens(**asked)
    (own,) = spans.calls()
    assert own.name == "anthropic.messages.count_tokens"
    assert traces(wire) == [ids(own)]


def test_a_client_that_is_to_carry_no_trace_carries_none(spans: Spans) -> None:
    """The SDK's own option decides, as without us."""
    wire = Wire()
    with reporting(Bus(strict=True), spans):
        spans.client(wire, propagation=False).messages.create(**ASKED)
    assert [each.name for each in spans.calls()] == [OURS]
    assert "traceparent" not in wire.sent[0].headers


def test_a_trace_that_is_not_sampled_is_carried_on_as_such(spans: Spans) -> None:
    spans.provider.sampler = ALWAYS_OFF
    wire = Wire()
    with reporting(Bus(strict=True), spans):
        spans.client(wire).messages.create(**ASKED)
    assert spans.exporter.get_finished_spans() == ()
    flags = int(wire.sent[0].headers["traceparent"].rpartition("-")[2], 16)
    assert not flags & TraceFlags.SAMPLED


def test_a_reporter_without_spans_leaves_the_sdks(spans: Spans) -> None:
    bus = Bus(strict=True)
    reporter = OTelReporter(
        spans=False, metrics=False, logs=True, endpoint="http://127.0.0.1:9"
    )
    reporter.start(bus, MetricStore([]))
    try:
        with instrumented(bus):
            spans.client(Wire()).messages.create(**ASKED)
    finally:
        reporter.stop(0.0)
    assert [each.name for each in spans.calls()] == [SDKS]


def test_a_call_of_another_bus_keeps_the_sdks_span(spans: Spans) -> None:
    reporter = OTelReporter(metrics=False, tracer_provider=spans.provider)
    reporter.start(Bus(strict=True), MetricStore([]))
    try:
        with instrumented(Bus(strict=True)):
            spans.client(Wire()).messages.create(**ASKED)
    finally:
        reporter.stop(5.0)
    assert [each.name for each in spans.calls()] == [SDKS]


def test_spans_that_begin_while_the_sdk_works_are_the_calls_children(
    spans: Spans,
) -> None:
    """An instrumented HTTP client's, for one; afterwards the caller's is current."""
    tracer = spans.provider.get_tracer("http")

    class Traced(Wire):
        def answer(self, request: Any) -> Any:
            with tracer.start_as_current_span("POST"):
                return super().answer(request)

    bus = Bus(strict=True)
    with reporting(bus, spans), tracer.start_as_current_span("caller"):
        spans.client(Traced()).messages.create(**ASKED)
        with tracer.start_as_current_span("after"):
            pass
    post, call, after, caller = spans.calls()
    names = [each.name for each in (post, call, after, caller)]
    assert names == ["POST", OURS, "after", "caller"]
    assert parent(post) == ids(call)[1]
    assert {parent(call), parent(after)} == {ids(caller)[1]}


def test_within_a_block_that_is_a_call_the_trace_is_the_blocks(spans: Spans) -> None:
    """The SDK's call is a part of it, and has no span of its own."""
    bus = Bus(strict=True)
    wire = Wire()
    with (
        reporting(bus, spans),
        llm.chat(provider="gateway", model=ASKED["model"], bus=bus),
    ):
        spans.client(wire).messages.create(**ASKED)
    (call,) = spans.calls()
    assert call.name == OURS
    assert traces(wire) == [ids(call)]


def test_within_a_span_of_the_users_in_such_a_block_it_is_too(spans: Spans) -> None:
    bus = Bus(strict=True)
    wire = Wire()
    tracer = spans.provider.get_tracer("app")
    with (
        reporting(bus, spans),
        llm.chat(provider="gateway", model=ASKED["model"], bus=bus),
        tracer.start_as_current_span("app"),
    ):
        spans.client(wire).messages.create(**ASKED)
        assert get_current_span().is_recording()
    app, call = spans.calls()
    assert [app.name, call.name] == ["app", OURS]
    assert parent(app) == ids(call)[1]
    assert traces(wire) == [ids(call)]


def test_where_the_reporters_spans_are_switched_off_the_sdk_keeps_its_own(
    spans: Spans,
) -> None:
    """A provider that does nothing makes spans that stand for nothing."""
    bus = Bus(strict=True)
    reporter = OTelReporter(metrics=False, tracer_provider=NoOpTracerProvider())
    reporter.start(bus, MetricStore([]))
    try:
        with instrumented(bus):
            spans.client(Wire()).messages.create(**ASKED)
    finally:
        reporter.stop(0.0)
    assert [each.name for each in spans.calls()] == [SDKS]


def test_a_span_that_is_not_open_is_carried_nowhere() -> None:
    recorder = SpanRecorder(
        tracer=NoOpTracerProvider().get_tracer("t"), profile=profile_named("genai-1.41")
    )
    assert recorder.enter("unknown") is None
    assert recorder.stand_in("unknown") is None
    before = get_current()
    recorder.leave(None)
    assert get_current() is before
