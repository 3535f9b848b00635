from __future__ import annotations

import time

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.trace import format_span_id

from llmevents import context, llm, span, start_span
from llmevents_otel._logs import MOST_UNPRICED, LogRecorder
from llmevents_otel._profiles import profile_named
from tests.reporters.otel_recording import Recording, without_id


SECOND = 10**9

CONVENTIONS = {"gen_ai.operation.name", "gen_ai.provider.name"}
"""What `seed-compat` adds to the older names, beside our own id."""


def only(recording: Recording) -> ReadableLogRecord:
    """Return the only record about a call; models here may have no price."""
    (record,) = recording.records_of_calls()
    return record


def facts(record: ReadableLogRecord) -> dict[str, object]:
    return without_id(dict(record.log_record.attributes or {}))


# --- seed-compat -------------------------------------------------------------------


def test_the_log_line_and_attributes_of_a_chat_call() -> None:
    """As older trackers wrote them, number for number."""
    recording = Recording("seed-compat")
    around = {"session_id": "sess-123", "user_id": "user-456", "company_id": "org-789"}
    with (
        context(around),
        llm.chat(
            provider="openai", model="gpt-4", bus=recording.bus, features=["tools"]
        ) as call,
    ):
        recording.clock.advance(1_500_000_000)
        call.usage(input_tokens=100, output_tokens=50)
        call.measure(cost_nano_usd=4_500_000)
    record = only(recording).log_record
    assert record.body == "LLM usage: openai/gpt-4 - 150 tokens, $0.004500"
    assert record.severity_text == "INFO"
    assert record.severity_number is SeverityNumber.INFO
    assert record.event_name is None
    attributes = facts(only(recording))
    added = {key: attributes.pop(key) for key in CONVENTIONS}
    assert added == {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    assert attributes == {
        "service.type": "llm",
        "service.provider": "openai",
        "service.model": "gpt-4",
        "gen_ai.request.model": "gpt-4",
        "gen_ai.system": "openai",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "tokens.input": 100,
        "tokens.output": 50,
        "tokens.total": 150,
        "tokens_per_second": 100.0,
        "latency_ms": 1500,
        "cost_usd": 0.0045,
        "llmevents.cost.source": "override",
        "features.structured_output": False,
        "features.tools": True,
        "features.search_grounding": False,
        "status": "success",
        "session.id": "sess-123",
        "user.id": "user-456",
        "organization.id": "org-789",
    }


def test_the_log_line_and_attributes_of_an_embedding() -> None:
    recording = Recording("seed-compat")
    with llm.embedding(
        provider="openai", model="text-embedding-3-small", bus=recording.bus
    ) as call:
        recording.clock.advance(250_000_000)
        call.usage(input_tokens=500, total_tokens=500)
        call.measure(texts=10, dimensions=1536, cost_nano_usd=10_000)
    body = only(recording).log_record.body
    assert body == (
        "Embedding usage: openai/text-embedding-3-small - "
        "10 texts, 500 tokens, $0.000010"
    )
    attributes = facts(only(recording))
    for key in (*CONVENTIONS, "llmevents.texts", "gen_ai.embeddings.dimension.count"):
        del attributes[key]
    assert attributes == {
        "service.type": "embedding",
        "service.provider": "openai",
        "service.model": "text-embedding-3-small",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.system": "openai",
        "tokens.input": 500,
        "gen_ai.usage.input_tokens": 500,
        "embedding.num_texts": 10,
        "embedding.dimension": 1536,
        "latency_ms": 250,
        "texts_per_second": 40.0,
        "cost_usd": 0.00001,
        "llmevents.cost.source": "override",
        "status": "success",
    }


def test_the_log_line_and_attributes_of_ocr() -> None:
    recording = Recording("seed-compat")
    around = {"provider": "azure-di", "model": "prebuilt-read", "status": "success"}
    with span("llm.ocr", around, bus=recording.bus) as reading:
        recording.clock.advance(3 * SECOND)
        reading.measure(pages=5, cost_nano_usd=50_000_000)
    body = only(recording).log_record.body
    assert body == "OCR usage: azure-di/prebuilt-read - 5 pages, $0.050000"
    attributes = facts(only(recording))
    assert attributes["service.type"] == "ocr"
    assert attributes["ocr.num_pages"] == 5
    assert attributes["pages_per_second"] == 1.67
    assert attributes["latency_ms"] == 3000
    assert attributes["cost_usd"] == 0.05
    assert not [key for key in attributes if "tokens" in key]


@pytest.mark.parametrize(
    ("prefix", "metadata", "measurements", "line"),
    [
        pytest.param("llm.chat", {}, {}, "LLM usage: unknown", id="nothing known"),
        pytest.param(
            "llm.chat", {"model": "m"}, {}, "LLM usage: m", id="no price is not $0"
        ),
        pytest.param(
            "llm.chat",
            {"provider": "p", "model": "m"},
            {"cost_nano_usd": 0},
            "LLM usage: p/m - $0.000000",
            id="free",
        ),
        pytest.param(
            "llm.image",
            {"provider": "p", "model": "m"},
            {"images": 2, "total_tokens": 7},
            "Image usage: p/m - 2 images, 7 tokens",
            id="image",
        ),
        pytest.param(
            "llm.chat",
            {"provider": "p\n", "model": "m\x1b[31m\u2028"},
            {},
            "LLM usage: p\\n/m\\x1b[31m\\u2028",
            id="forged",
        ),
        pytest.param(
            "llm.chat",
            {"model": "m" * 10_000},
            {},
            f"LLM usage: {'m' * 256}",
            id="long",
        ),
    ],
)
def test_the_line_says_what_is_known(
    prefix: str, metadata: dict[str, object], measurements: dict[str, int], line: str
) -> None:
    recording = Recording("seed-compat")
    recording.bus.execute(f"{prefix}.stop", measurements, metadata)
    assert only(recording).log_record.body == line


def test_a_failed_call_has_its_line_too() -> None:
    recording = Recording("seed-compat")
    call = llm.chat(provider="x_ai", model="grok", bus=recording.bus).handle()
    call.usage(input_tokens=10)
    call.fail(ValueError("boom"))
    record = only(recording).log_record
    assert record.body == "LLM usage: x_ai/grok"
    assert record.severity_text == "WARN"
    attributes = facts(only(recording))
    assert attributes["status"] == "error"
    assert attributes["error.type"] == "ValueError"
    assert attributes["gen_ai.system"] == "xai"
    assert attributes["tokens.input"] == 10
    assert "tokens_per_second" not in attributes


def test_what_is_none_is_no_attribute() -> None:
    recording = Recording("seed-compat")
    recording.bus.execute("llm.chat.stop", {}, {"provider": None, "model": None})
    attributes = dict(only(recording).log_record.attributes or {})
    assert {"gen_ai.system", "service.provider", "service.model"}.isdisjoint(attributes)


def test_rates_of_no_time_and_of_no_numbers_are_left_out() -> None:
    recording = Recording("seed-compat")
    for duration, tokens in ((0, 5), (5, 10**400), (5, float("nan")), (5, "5")):
        numbers = {"duration": duration, "total_tokens": tokens}
        recording.bus.execute("llm.chat.stop", numbers, {})  # type: ignore[arg-type]  # hostile
    for record in recording.records():
        assert "tokens_per_second" not in (record.log_record.attributes or {})
    assert len(recording.records()) == 4


def test_the_metadata_of_users_are_attributes() -> None:
    recording = Recording("seed-compat")
    with llm.chat(model="m", bus=recording.bus, endpoint="/api/custom"):
        pass
    assert facts(only(recording))["endpoint"] == "/api/custom"


# --- OpenTelemetry's events --------------------------------------------------------


@pytest.mark.parametrize("profile", ["genai-1.41", "genai-next"])
def test_a_call_is_an_event_with_the_attributes_of_its_span(profile: str) -> None:
    recording = Recording(profile)
    with llm.chat(provider="openai", model="gpt-4o", bus=recording.bus) as call:
        call.usage(input_tokens=100, output_tokens=50)
    record = only(recording).log_record
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert (record.severity_text, record.body) == ("INFO", None)
    assert facts(only(recording)) == recording.attributes("chat gpt-4o")


def test_a_failure_is_one_more_event() -> None:
    recording = Recording()
    llm.chat(model="m", bus=recording.bus).handle().fail(KeyError("x"))
    details, raised = (record.log_record for record in recording.records())
    assert details.event_name == "gen_ai.client.inference.operation.details"
    assert details.severity_number is SeverityNumber.INFO
    assert raised.event_name == "gen_ai.client.operation.exception"
    assert raised.severity_number is SeverityNumber.WARN
    attributes = dict(raised.attributes or {})
    assert attributes["exception.type"] == "KeyError"
    assert attributes["exception.message"] == "'x'"
    assert attributes["error.type"] == "KeyError"
    assert attributes["gen_ai.operation.name"] == "chat"


def test_only_calls_of_models_are_logged() -> None:
    recording = Recording()
    recording.bus.attach("all", "**", recording.logs.handle, on_failure="raise")
    recording.bus.detach("logs")
    for prefix in ("llm.tool", "myapp.work"):
        start_span(prefix, bus=recording.bus).stop()
    start_span("llm.chat", bus=recording.bus)
    assert recording.records() == ()


# --- Other events ------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["genai-1.41", "genai-next", "seed-compat"])
def test_a_budget_that_is_reached_has_a_record_in_the_trace(profile: str) -> None:
    recording = Recording(profile)
    budget = {"budget": "team", "unit": "nano_usd", "key": "red", "window": "1d"}
    with recording.foreign.start_as_current_span("request") as current:
        recording.bus.execute(
            "llm.budget.warning",
            {"amount": 5, "spent": 80, "limit": 100, "ratio": 0.8},
            {**budget, "level": 0.8, "user_id": "u"},
        )
    (record,) = recording.records()
    seen = record.log_record
    assert seen.event_name == "llm.budget.warning"
    assert seen.body == ("llm.budget.warning" if profile == "seed-compat" else None)
    assert seen.severity_number is SeverityNumber.WARN
    assert seen.severity_text == "WARN"
    assert seen.span_id == current.get_span_context().span_id
    assert dict(seen.attributes or {}) == {
        "llmevents.budget.name": "team",
        "llmevents.budget.unit": "nano_usd",
        "llmevents.budget.key": "red",
        "llmevents.budget.window": "1d",
        "llmevents.budget.level": 0.8,
        "llmevents.budget.amount": 5,
        "llmevents.budget.spent": 80,
        "llmevents.budget.limit": 100,
        "llmevents.budget.ratio": 0.8,
        "user.id": "u",
    }


def test_a_retry_has_a_record_of_the_calls_span() -> None:
    recording = Recording()
    with llm.chat(provider="openai", model="gpt-4o", bus=recording.bus) as call:
        whose = {"model": "gpt-4o", "http_status": 503, "span_id": call.span_id}
        recording.bus.execute("llm.provider.retry", {"attempt": 2}, whose)
        call.usage(input_tokens=1, output_tokens=1)
    retry, details = (record.log_record for record in recording.records())
    assert retry.event_name == "llm.provider.retry"
    assert (retry.trace_id, retry.span_id) == (details.trace_id, details.span_id)
    assert dict(retry.attributes or {}) == {
        "gen_ai.request.model": "gpt-4o",
        "http.response.status_code": 503,
        "llmevents.attempt": 2,
    }


def test_a_model_without_a_price_is_told_once() -> None:
    """A local model has none ever; a record for each call would say nothing new."""
    recording = Recording()
    for model in ("tiny", "tiny", "tiny", "small"):
        with llm.chat(provider="acme", model=model, bus=recording.bus) as call:
            call.usage(input_tokens=1, output_tokens=1)
    told = [
        (each.log_record.severity_text, each.log_record.attributes)
        for each in recording.records()
        if each.log_record.event_name == "llm.cost.unpriced"
    ]
    assert told == [
        ("INFO", {"gen_ai.provider.name": "acme", "gen_ai.request.model": model})
        for model in ("tiny", "small")
    ]
    assert len(recording.records_of_calls()) == 4


def test_no_more_models_without_a_price_are_told_than_fit() -> None:
    recording = Recording()
    for number in range(MOST_UNPRICED + 5):
        recording.bus.execute("llm.cost.unpriced", {}, {"model": f"m{number}"})
    assert len(recording.records()) == MOST_UNPRICED


def test_what_the_calls_record_says_has_no_record_of_its_own() -> None:
    """What a call cost, and what a budget keeps and settles for every call."""
    recording = Recording()
    with llm.chat(provider="openai", model="gpt-4o", bus=recording.bus) as call:
        call.usage(input_tokens=1_000, output_tokens=500)
    recording.bus.execute("llm.budget.reserved", {"amount": 5}, {"budget": "b"})
    recording.bus.execute("llm.budget.settled", {"amount": 5}, {"budget": "b"})
    (record,) = recording.records()
    assert record.log_record.event_name == "gen_ai.client.inference.operation.details"
    assert facts(record)["llmevents.cost.usd"] == pytest.approx(0.0075)


# --- Trace and time ----------------------------------------------------------------


@pytest.mark.parametrize("records_first", [True, False])
def test_a_record_has_the_trace_and_span_of_its_call(*, records_first: bool) -> None:
    """Whichever of the handlers is attached first."""
    recording = Recording(records_first=records_first)
    foreign = recording.foreign.start_as_current_span("request")
    with foreign, llm.chat(model="m", bus=recording.bus):
        pass
    context = recording.span("chat m").context
    record = only(recording).log_record
    assert context is not None
    assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)
    assert record.trace_flags == context.trace_flags


def test_without_spans_a_record_has_the_current_one() -> None:
    recording = Recording()
    logs = LogRecorder(logger=recording.logger, profile=profile_named("genai-1.41"))
    recording.bus.detach("spans")
    recording.bus.detach("logs")
    recording.bus.attach("logs", logs.events(), logs.handle, on_failure="raise")
    foreign = recording.foreign.start_as_current_span("request")
    with foreign as current, llm.chat(model="m", bus=recording.bus):
        pass
    seen = format_span_id(only(recording).log_record.span_id or 0)
    assert seen == format_span_id(current.get_span_context().span_id)


def test_a_call_whose_span_is_not_known_has_the_current_one() -> None:
    recording = Recording()
    with recording.foreign.start_as_current_span("request") as current:
        recording.bus.execute("llm.chat.stop", {}, {"span_id": "unknown"})
    record = only(recording).log_record
    assert record.span_id == current.get_span_context().span_id


def test_a_record_has_the_time_at_which_it_was_made() -> None:
    recording = Recording()
    before = time.time_ns()
    recording.bus.execute("llm.chat.stop", {}, {})
    record = only(recording).log_record
    assert record.timestamp is not None
    assert before <= record.timestamp == record.observed_timestamp <= time.time_ns()


@pytest.mark.parametrize("profile", ["genai-1.41", "seed-compat"])
def test_hostile_values_can_be_encoded(profile: str) -> None:
    recording = Recording(profile)
    hostile = {"model": "a\ud800b\0", "k\udfff": ["\ud800", 1], "n": 10**40}
    recording.bus.execute("llm.chat.stop", {"total_tokens": 2**80}, hostile)
    assert encode_logs(recording.records()).SerializeToString()
