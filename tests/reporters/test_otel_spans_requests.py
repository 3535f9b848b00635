"""Requests of calls, which are no spans by default, and requests to the program."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, get_current_span

from llmevents import llm, span, start_span
from tests.reporters.otel_recording import NOON, Recording


CHAT = "chat gpt-4o"
REQUEST = "llm.provider.request"


@pytest.fixture
def recording() -> Recording:
    return Recording()


def gpt(recording: Recording, **metadata: object) -> llm.CallScope:
    return llm.chat(provider="openai", model="gpt-4o", bus=recording.bus, **metadata)


def start_under(recording: Recording, prefix: str, parent_span_id: str) -> str:
    """Start a span with a parent that is current nowhere; return its id."""
    span_id = uuid4().hex
    ids = {"span_id": span_id, "parent_span_id": parent_span_id}
    recording.bus.execute(f"{prefix}.start", {"system_time": NOON}, ids)
    return span_id


def stop(recording: Recording, prefix: str, span_id: str) -> None:
    recording.bus.execute(f"{prefix}.stop", {"duration": 1}, {"span_id": span_id})


def names(recording: Recording) -> list[str]:
    return [seen.name for seen in recording.finished()]


# --- One span per call -------------------------------------------------------------


def test_a_call_that_is_sent_three_times_is_one_span(recording: Recording) -> None:
    """Back ends that count spans count calls."""
    with gpt(recording) as call:
        for attempt in (1, 2, 3):
            request = start_span(REQUEST, {"model": "gpt-4o"}, bus=recording.bus)
            if attempt > 1:
                about = {"http_status": 503, "span_id": call.span_id}
                recording.bus.execute("llm.provider.retry", {"attempt": attempt}, about)
            request.stop(metadata={"status": "error", "http_status": 503})
        call.usage(input_tokens=1, output_tokens=1)
    assert names(recording) == [CHAT]
    events = recording.span(CHAT).events
    assert [event.name for event in events] == [
        "llm.provider.retry",
        "llm.provider.retry",
    ]
    assert [dict(event.attributes or {}) for event in events] == [
        {"http.response.status_code": 503, "llmevents.attempt": attempt}
        for attempt in (2, 3)
    ]


def test_requests_that_are_no_spans_are_not_emitted_for_spans() -> None:
    """They cost an SDK's call two events that nobody is shown."""
    heard = [
        Recording(requests=requests).bus.has_handlers("llm.provider.request.stop")
        for requests in (False, True)
    ]
    assert heard == [False, True]


def test_a_call_within_a_call_is_one_span_with_the_usage(recording: Recording) -> None:
    with gpt(recording), gpt(recording) as inner:
        inner.usage(input_tokens=10, output_tokens=5)
    assert names(recording) == [CHAT]
    assert recording.attributes(CHAT)["gen_ai.usage.input_tokens"] == 10


def test_what_is_within_a_request_is_the_calls(recording: Recording) -> None:
    """A child by its parent's id, in a block and by a handle, and an event."""
    with gpt(recording), span(REQUEST, bus=recording.bus) as request:
        with span("myapp.block", bus=recording.bus):
            pass
        start_span("myapp.handle", bus=recording.bus).stop()
        with recording.foreign.start_as_current_span("POST"):
            pass
        recording.bus.execute(
            "llm.cache.miss", {"count": 1}, {"span_id": request.span_id}
        )
        with span(REQUEST, bus=recording.bus), span("myapp.deep", bus=recording.bus):
            pass
    for child in ("myapp.block", "myapp.handle", "POST", "myapp.deep"):
        assert recording.parent(child) == CHAT
    assert REQUEST not in names(recording)
    assert recording.span(CHAT).events[0].name == "llm.cache.miss"


def test_a_child_of_a_request_of_a_handle_is_the_calls(recording: Recording) -> None:
    """Nothing is current in OpenTelemetry's context here: the ids say it."""
    call = gpt(recording).handle()
    request = start_under(recording, REQUEST, call.span_id)
    inner = start_under(recording, REQUEST, request)
    child = start_under(recording, "myapp.child", inner)
    for prefix, span_id in (("myapp.child", child), (REQUEST, inner)):
        stop(recording, prefix, span_id)
    stop(recording, REQUEST, request)
    call.stop()
    assert names(recording) == ["myapp.child", CHAT]
    assert recording.parent("myapp.child") == CHAT


def test_a_request_of_no_call_is_no_span_either(recording: Recording) -> None:
    with (
        recording.foreign.start_as_current_span("outer"),
        span(REQUEST, bus=recording.bus),
        span("myapp.child", bus=recording.bus),
    ):
        pass
    assert names(recording) == ["myapp.child", "outer"]
    assert recording.parent("myapp.child") == "outer"


def test_a_failed_request_fails_nothing_but_itself(recording: Recording) -> None:
    msg = "reset"
    with (
        gpt(recording),
        pytest.raises(KeyError, match="reset"),
        span(REQUEST, bus=recording.bus),
    ):
        raise KeyError(msg)
    assert names(recording) == [CHAT]
    assert recording.span(CHAT).status.status_code is StatusCode.UNSET


def test_exemplars_of_a_request_name_the_calls_span(recording: Recording) -> None:
    """Also in a handler that hears of its end after the recorder."""
    seen: list[Mapping[str, str] | None] = []
    recording.bus.attach(
        "exemplars",
        f"{REQUEST}.stop",
        lambda event, measurements, metadata, config: seen.append(
            recording.spans.trace_of(metadata)
        ),
        on_failure="raise",
    )
    call = gpt(recording).handle()
    request = start_under(recording, REQUEST, call.span_id)
    inside = recording.spans.trace_of({"span_id": request})
    stop(recording, REQUEST, request)
    call.stop()
    context = recording.span(CHAT).context
    assert context is not None
    assert seen == [inside]
    assert inside is not None
    assert inside["span_id"] == format_span_id(context.span_id)


def test_an_sdks_method_within_a_request_has_the_calls_span(
    recording: Recording,
) -> None:
    call = gpt(recording).handle()
    request = start_under(recording, REQUEST, call.span_id)
    entered = recording.spans.enter(request)
    with recording.foreign.start_as_current_span("POST"):
        pass
    recording.spans.leave(entered)
    assert not get_current_span().get_span_context().is_valid
    stop(recording, REQUEST, request)
    call.stop()
    assert recording.parent("POST") == CHAT


def test_requests_that_never_end_are_bounded_and_cost_no_span() -> None:
    recording = Recording(most_open=3)
    kept = [start_span(REQUEST, bus=recording.bus) for _ in range(10)]
    assert recording.spans.open == recording.spans.forgotten == 0
    for request in kept:
        request.stop()
    with gpt(recording):
        pass
    start_span(REQUEST, bus=recording.bus)
    recording.spans.close()
    assert names(recording) == [CHAT]
    assert recording.spans.forgotten == 0


def test_without_a_sample_nothing_is_made() -> None:
    recording = Recording(sampler=ALWAYS_OFF)
    with gpt(recording), span(REQUEST, bus=recording.bus):
        pass
    assert names(recording) == []


# --- Requests that were asked for --------------------------------------------------


def test_requests_are_children_if_asked_for() -> None:
    recording = Recording(requests=True)
    with gpt(recording):
        refused = start_span(
            REQUEST,
            {"server_address": "127.0.0.1", "server_port": 8080},
            bus=recording.bus,
        )
        refused.stop(metadata={"status": "error", "http_status": 429})
    assert recording.parent(REQUEST) == CHAT
    assert recording.span(REQUEST).status.status_code is StatusCode.ERROR
    assert recording.attributes(REQUEST) == {
        "server.address": "127.0.0.1",
        "server.port": 8080,
        "http.response.status_code": 429,
        "error.type": "429",
        "llmevents.status": "error",
    }


def test_an_answer_that_came_is_no_error() -> None:
    recording = Recording(requests=True)
    start_span(REQUEST, bus=recording.bus).stop(
        metadata={"status": "success", "http_status": 200}
    )
    assert recording.span(REQUEST).status.status_code is StatusCode.UNSET
    assert recording.attributes(REQUEST) == {"http.response.status_code": 200}


# --- Requests to the program -------------------------------------------------------


def web() -> dict[str, object]:
    """Return what a middleware says of one request at its start."""
    return {
        "http_method": "GET",
        "url_scheme": "https",
        "url_path": "/chats/7",
    }


def test_a_request_to_the_program_has_the_names_of_the_http_conventions(
    recording: Recording,
) -> None:
    """HTTP conventions v1.41.0: the route is known only after the routing."""
    with span("http.server.request", web(), bus=recording.bus) as request:
        with gpt(recording):
            pass
        request.annotate(http_status=200, http_route="/chats/{id}")
    seen = recording.span("GET /chats/{id}")
    assert seen.kind is SpanKind.SERVER
    assert seen.status.status_code is StatusCode.UNSET
    assert recording.parent(CHAT) == "GET /chats/{id}"
    assert recording.attributes("GET /chats/{id}") == {
        "http.request.method": "GET",
        "http.route": "/chats/{id}",
        "http.response.status_code": 200,
        "url.path": "/chats/7",
        "url.scheme": "https",
    }


def test_an_error_of_the_program_is_one_of_its_span(recording: Recording) -> None:
    """As the middleware tells of a 500 that a framework has made of an exception."""
    request = start_span("http.server.request", web(), bus=recording.bus)
    request.stop(metadata={"http_status": 500, "status": "error"})
    assert recording.span("GET").status.status_code is StatusCode.ERROR
    assert recording.attributes("GET")["error.type"] == "500"


def test_an_error_of_the_client_is_none_of_the_program(recording: Recording) -> None:
    request = start_span("http.server.request", web(), bus=recording.bus)
    request.stop(metadata={"http_status": 404})
    assert recording.span("GET").status.status_code is StatusCode.UNSET
    assert "error.type" not in recording.attributes("GET")
