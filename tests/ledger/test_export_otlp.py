"""Records as spans, taken in by a real endpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from llmevents import OptionError
from llmevents.ledger import Record
from llmevents.ledger import _export_otlp as otlp
from llmevents.ledger._export_otlp import ATTRIBUTES, export_otlp, span_of
from llmevents.ledger._query import Filter
from llmevents.ledger._record import timestamp
from tests.ledger.corpus import records
from tests.ledger.plain_engine import PlainEngine


pytest.importorskip("opentelemetry.sdk", reason="needs OpenTelemetry")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)

from tests.reporters.otlp_server import Answer, OTLPServer, otlp_server, unused_port


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with otlp_server() as server:
        yield server


def call(number: int, **facts: object) -> Record:
    return {
        "id": f"{number:04}",
        "event": "llm.chat",
        "timestamp": timestamp(number * 1_000_000),
        **facts,
    }


def attributes(span: Any) -> dict[str, Any]:  # noqa: ANN401  # protobuf's
    found = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        if kind == "array_value":
            value = [item.string_value for item in value.values]
        found[pair.key] = value
    return found


def test_a_record_becomes_a_span_with_the_names_of_opentelemetry(
    server: OTLPServer,
) -> None:
    record = call(
        7,
        status="timeout",
        operation="chat",
        use_case="summarization",
        provider="openai",
        model="gpt-4o",
        stream=True,
        finish_reasons=["stop"],
        temperature=0.2,
        duration_ns=2_000_000_000,
        input_tokens=11,
        cache_read_tokens=3,
        total_tokens=15,
        cost_nano_usd=1_500_000,
        time_to_first_chunk_ns=250_000_000,
        error_type="openai.APITimeoutError",
        error_message="it took too long",
        http_status=504,
        user_id="u-1",
        session_id="s-1",
        parent_id="p-1",
        metadata={"team": "blue", "deep": {"a": [1]}, "none": None, "": "nameless"},
    )
    sent = export_otlp(PlainEngine([record]), server.url, service_name="copier")
    assert sent == (1, {})
    (span,) = server.spans
    assert span.name == "chat gpt-4o"
    assert span.kind == 3  # client
    assert span.end_time_unix_nano - span.start_time_unix_nano == 2_000_000_000
    assert span.start_time_unix_nano == 7_000_000
    assert (span.status.code, span.status.message) == (2, "it took too long")
    assert span.parent_span_id == b""
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "http.response.status_code": 504,
        "error.type": "openai.APITimeoutError",
        "user.id": "u-1",
        "session.id": "s-1",
        "llmevents.cost.usd": 0.0015,
        "llmevents.use_case": "summarization",
        "llmevents.status": "timeout",
        "llmevents.event": "llm.chat",
        "llmevents.span_id": "0007",
        "llmevents.parent_span_id": "p-1",
        "team": "blue",
        "deep": '{"a": [1]}',
    }
    (message,) = server.messages["/v1/traces"]
    resource = attributes(message.resource_spans[0].resource)
    assert resource["service.name"] == "copier"


def test_names_are_those_of_spans_of_calls_that_are_under_way() -> None:
    """Who has both sees one set of names."""
    from llmevents.ledger._schema import COLUMNS
    from llmevents_otel._profiles import COMMON, GENAI

    table = COMMON.but(GENAI)
    compared = 0
    for column in COLUMNS:
        used = table.measurements if column.name in table.measurements else {}
        named = table.metadata.get(column.key) or table.measurements.get(column.key)
        if not named or column.name not in ATTRIBUTES or used is None:
            continue
        assert named[0][0] == ATTRIBUTES[column.name]
        compared += 1
    assert compared > 30


def test_a_task_is_a_span_inside_and_comes_if_asked_for(server: OTLPServer) -> None:
    task: Record = {**call(1), "event": "llm.task"}
    engine = PlainEngine([task, call(2, status="success")])
    assert export_otlp(engine, f"{server.url}/v1/traces/").sent == 1
    assert export_otlp(engine, server.url, tasks=True).sent == 2
    assert [span.name for span in server.spans] == ["chat", "task", "chat"]
    assert [span.kind for span in server.spans] == [3, 1, 3]
    first, _, again = server.spans
    assert first == again  # ids too: who sends it twice sends the same span
    assert first.status.code == 0
    assert len({span.trace_id for span in server.spans}) == 2


def test_the_corpus_breaks_no_batch(server: OTLPServer) -> None:
    kept = records()
    assert export_otlp(PlainEngine(kept), server.url) == (len(kept), {})
    spans = server.spans
    assert len(spans) == len(kept)
    for span in spans:
        found = attributes(span)
        assert "\0" not in str(found)
        assert all(len(str(value)) < 10_000 for value in found.values())


def test_filters_and_progress_are_heeded(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "BATCH", 4)
    engine = PlainEngine(call(n, model="ab"[n % 2]) for n in range(20))
    steps: list[int] = []
    sent = export_otlp(engine, server.url, Filter(model="a"), progress=steps.append)
    assert (sent, steps) == ((10, {}), [4, 4, 2])
    assert len(server.requests) == 3


def test_spans_that_the_endpoint_rejects_are_counted(server: OTLPServer) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    server.script.append(Answer(body=answer.SerializeToString()))
    engine = PlainEngine(call(n) for n in range(5))
    assert export_otlp(engine, server.url) == (3, {"rejected": 2})


def test_an_answer_that_is_no_message_says_nothing_of_rejected_ones(
    server: OTLPServer,
) -> None:
    server.script.append(Answer(body=b"<html>fine</html>"))
    assert export_otlp(PlainEngine([call(1)]), server.url) == (1, {})


def test_what_fails_for_a_moment_is_tried_again(server: OTLPServer) -> None:
    server.script.append(Answer(status=503, headers={"Retry-After": "0"}))
    assert export_otlp(PlainEngine([call(1)]), server.url) == (1, {})
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 307])
def test_what_is_refused_is_counted_and_the_rest_is_sent(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """A redirect is not followed, and is no success either."""
    monkeypatch.setattr(otlp, "BATCH", 2)
    elsewhere = {"Location": f"{server.url}/v1/logs"}
    server.script.append(Answer(status=status, headers=elsewhere))
    engine = PlainEngine(call(n) for n in range(5))
    headers = {"authorization": "Bearer secret"}
    sent = export_otlp(engine, server.url, headers=headers)
    assert sent == (3, {f"http_{status}": 2})
    assert {path for path, _ in server.requests} == {"/v1/traces"}
    assert {fields["authorization"] for _, fields in server.requests} == set(
        headers.values()
    )


def test_after_too_many_failures_no_more_are_tried(
    server: OTLPServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(otlp, "BATCH", 2)
    server.decide = lambda _: Answer(status=400)
    engine = PlainEngine(call(n) for n in range(9))
    assert export_otlp(engine, server.url) == (0, {"http_400": 6, "not_tried": 3})
    assert len(server.requests) == 3
    assert caplog.records == []


def test_where_nobody_listens_it_is_said_why() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    sent, failed = export_otlp(PlainEngine([call(1)]), url, timeout=0.05)
    assert (sent, sum(failed.values())) == (0, 1)
    assert set(failed) <= {"ConnectionError", "ConnectTimeout", "ReadTimeout"}


def test_a_record_of_no_time_is_no_span(server: OTLPServer) -> None:
    wrong: list[Record] = [
        {"id": "1"},
        {"id": "2", "timestamp": "yesterday"},
        {"id": "3", "timestamp": "1812-01-01T00:00:00.000000Z"},
        {"id": "4", "timestamp": "2026-01-01T00:00:00"},
    ]
    sent = export_otlp(PlainEngine([*wrong, call(5)]), server.url)
    assert sent == (1, {"no_timestamp": 4})
    assert export_otlp(PlainEngine(wrong), server.url) == (0, {"no_timestamp": 4})


def test_odd_values_are_text_or_nothing() -> None:
    odd = call(
        1,
        duration_ns=2**64,
        dimensions=2**70,
        temperature=float("inf"),
        metadata=["no", "mapping"],
    )
    span = span_of(odd)
    assert span is not None
    assert span.begin == span.end
    assert span.attributes["gen_ai.request.temperature"] == "inf"
    assert span.attributes["gen_ai.embeddings.dimension.count"] == str(2**70)


@pytest.mark.parametrize(
    "endpoint",
    [
        None,
        "localhost:4318",
        "ftp://localhost",
        "http://",
        "http://[::1",
        "http://localhost:0",
        "http://user:hunter2@localhost:4318",
        "http://localhost:4318?key=hunter2",
        "http://local host",
        "http://localhost:99999",
    ],
)
def test_an_endpoint_that_is_none_is_refused_without_its_secrets(
    endpoint: str,
) -> None:
    with pytest.raises(OptionError, match="expected endpoint to be") as raised:
        export_otlp(PlainEngine([]), endpoint)
    assert "hunter2" not in str(raised.value)


def test_without_opentelemetry_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(
        sys.modules, "llmevents.ledger._export_otlp_send", raising=False
    )
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(ImportError, match=r"pip install \"llmevents\[otel\]\""):
        export_otlp(PlainEngine([]), "http://localhost:4318")
