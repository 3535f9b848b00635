from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import copy_context

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceState
from opentelemetry.util.types import Attributes

from llmevents import context, llm, span, start_span
from llmevents_otel._attributes import KEY_LIMIT, TEXT_LIMIT
from llmevents_otel._spans import MOST_POINTS, OpenSpan
from tests.outcomes import in_child, in_threads
from tests.reporters.otel_recording import NOON, Recording


CHAT = "chat gpt-4o"


@pytest.fixture
def recording() -> Recording:
    return Recording()


def gpt(recording: Recording, **metadata: object) -> llm.CallScope:
    return llm.chat(provider="openai", model="gpt-4o", bus=recording.bus, **metadata)


# --- What a call becomes -----------------------------------------------------------


def test_a_call_becomes_a_client_span_with_the_names_of_the_conventions(
    recording: Recording,
) -> None:
    """GenAI conventions v1.41.0: name, kind and attributes of an inference span."""
    request = {
        "temperature": 1,
        "top_p": 0.9,
        "max_tokens": 100,
        "seed": 7,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.25,
        "choice_count": 2,
        "stop_sequences": ["END"],
    }
    with gpt(recording, stream=True, **request) as call:
        recording.clock.advance(250_000_000)
        call.chunk()
        recording.clock.advance(750_000_000)
        call.record(
            {
                "id": "chatcmpl-1",
                "model": "gpt-4o-2024-08-06",
                "service_tier": "default",
                "choices": [{"index": 0, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 100,
                    "completion_tokens": 50,
                    "prompt_tokens_details": {
                        "cached_tokens": 30,
                        "cache_write_tokens": 20,
                    },
                    "completion_tokens_details": {"reasoning_tokens": 10},
                },
            }
        )
        call.measure(cost_nano_usd=750_000)
    seen = recording.span(CHAT)
    assert seen.kind is SpanKind.CLIENT
    assert seen.status.status_code is StatusCode.UNSET
    assert (seen.start_time, seen.end_time) == (NOON, NOON + 1_000_000_000)
    assert recording.attributes(CHAT) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.seed": 7,
        "gen_ai.request.frequency_penalty": 0.5,
        "gen_ai.request.presence_penalty": 0.25,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_write.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 10,
        "openai.response.service_tier": "default",
        "llmevents.chunks": 1,
        "llmevents.cost.usd": 0.00075,
        "llmevents.cost.source": "override",
    }
    assert isinstance(
        recording.attributes(CHAT)["gen_ai.request.temperature"], float
    ), "a double, also where the user gave an integer"


def test_an_embedding_becomes_a_client_span(recording: Recording) -> None:
    with llm.embedding(
        provider="openai", model="text-embedding-3-small", bus=recording.bus
    ) as call:
        call.usage(input_tokens=500)
        call.measure(texts=10, dimensions=1536)
        call.measure(cost_nano_usd=10_000)
    assert recording.span("embeddings text-embedding-3-small").kind is SpanKind.CLIENT
    assert recording.attributes("embeddings text-embedding-3-small") == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.usage.input_tokens": 500,
        "gen_ai.embeddings.dimension.count": 1536,
        "llmevents.texts": 10,
        "llmevents.cost.usd": 0.00001,
        "llmevents.cost.source": "override",
    }


@pytest.mark.parametrize(
    ("prefix", "metadata", "name", "kind"),
    [
        pytest.param("llm.chat", {}, "chat", SpanKind.CLIENT, id="no model"),
        pytest.param(
            "llm.chat",
            {"operation": "generate_content", "model": "gemini-2.5-pro"},
            "generate_content gemini-2.5-pro",
            SpanKind.CLIENT,
            id="another operation",
        ),
        pytest.param(
            "llm.completion",
            {"model": "m"},
            "text_completion m",
            SpanKind.CLIENT,
            id="completion",
        ),
        pytest.param(
            "llm.ocr",
            {"model": "prebuilt-read"},
            "ocr prebuilt-read",
            SpanKind.CLIENT,
            id="ocr",
        ),
        pytest.param(
            "llm.tool",
            {"tool_name": "get_weather"},
            "execute_tool get_weather",
            SpanKind.INTERNAL,
            id="tool",
        ),
        pytest.param(
            "llm.agent",
            {"agent_name": "planner", "model": "gpt-4o"},
            "invoke_agent planner",
            SpanKind.INTERNAL,
            id="agent",
        ),
        pytest.param(
            "llm.task",
            {"workflow_name": "report"},
            "invoke_workflow report",
            SpanKind.INTERNAL,
            id="task",
        ),
        pytest.param(
            "llm.provider.request",
            {"model": "gpt-4o"},
            "llm.provider.request",
            SpanKind.INTERNAL,
            id="request",
        ),
        pytest.param(
            "http.server.request",
            {"http_method": "GET", "url_path": "/chats/7"},
            "GET",
            SpanKind.SERVER,
            id="web",
        ),
        pytest.param(
            "http.server.request",
            {"http_method": "_OTHER", "http_route": "/chats/{id}"},
            "HTTP /chats/{id}",
            SpanKind.SERVER,
            id="web other method",
        ),
        pytest.param(
            "http.server.request",
            {"operation": "x", "model": "m"},
            "HTTP",
            SpanKind.SERVER,
            id="web nothing known",
        ),
        pytest.param(
            "myapp.analyze",
            {"model": "gpt-4o", "operation": "analyze"},
            "myapp.analyze",
            SpanKind.INTERNAL,
            id="user",
        ),
    ],
)
def test_the_name_and_kind_of_a_span(
    prefix: str,
    metadata: Mapping[str, object],
    name: str,
    kind: SpanKind,
) -> None:
    recording = Recording(requests=True)
    with span(prefix, metadata, bus=recording.bus):
        pass
    assert recording.span(name).kind is kind


def test_a_subject_that_comes_late_is_in_the_name(recording: Recording) -> None:
    with span("llm.chat", {"provider": "acme"}, bus=recording.bus) as started:
        started.annotate(model="tiny-1")
    assert recording.attributes("chat tiny-1")["gen_ai.request.model"] == "tiny-1"


def test_tool_and_agent_spans_say_which(recording: Recording) -> None:
    tool = {"tool_name": "t", "tool_type": "function", "tool_call_id": "call-1"}
    agent = span("llm.agent", {"agent_name": "a", "agent_id": "7"}, bus=recording.bus)
    with agent, span("llm.tool", tool, bus=recording.bus):
        pass
    assert recording.parent("execute_tool t") == "invoke_agent a"
    assert recording.attributes("execute_tool t") == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "t",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call-1",
    }
    assert recording.attributes("invoke_agent a") == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "a",
        "gen_ai.agent.id": "7",
    }


def test_a_request_within_a_call_does_not_pass_for_one_more_call() -> None:
    """Back ends add up every span that has an operation, a model and usage."""
    recording = Recording(requests=True)
    with gpt(recording), gpt(recording) as inner:
        inner.usage(input_tokens=10, output_tokens=5)
    assert recording.parent("llm.provider.request") == CHAT
    assert recording.attributes("llm.provider.request") == {
        "gen_ai.provider.name": "openai",
        "llmevents.request.operation": "chat",
        "llmevents.request.model": "gpt-4o",
    }
    assert recording.attributes(CHAT)["gen_ai.usage.input_tokens"] == 10


def test_service_tier_is_openais_only_for_openai(recording: Recording) -> None:
    with span("llm.chat", {"provider": "acme", "service_tier": "x"}, bus=recording.bus):
        pass
    assert recording.attributes("chat") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "llmevents.service_tier": "x",
    }


def test_the_context_becomes_attributes_and_nothing_is_invented(
    recording: Recording,
) -> None:
    """A session is no conversation: gen_ai.conversation.id is only what is said."""
    around = {
        "user_id": "u-1",
        "session_id": "s-1",
        "organization_id": "o-1",
        "task_id": "t-1",
        "team": "search",
    }
    with context(around), span("myapp.analyze", bus=recording.bus):
        pass
    assert recording.attributes("myapp.analyze") == {
        "user.id": "u-1",
        "session.id": "s-1",
        "organization.id": "o-1",
        "llmevents.task_id": "t-1",
        "team": "search",
    }


def test_what_samplers_need_is_there_at_creation() -> None:
    seen: list[tuple[str, dict[str, object], SpanKind | None]] = []

    class Looking(Sampler):
        def should_sample(  # noqa: PLR0917  # the SDK's
            self,
            parent_context: Context | None,
            trace_id: int,
            name: str,
            kind: SpanKind | None = None,
            attributes: Attributes = None,
            links: Sequence[Link] | None = None,
            trace_state: TraceState | None = None,
        ) -> SamplingResult:
            seen.append((name, dict(attributes or {}), kind))
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

        def get_description(self) -> str:
            return "Looking"

    recording = Recording(sampler=Looking())
    with gpt(recording, server_address="api.acme.com", server_port=443):
        pass
    ((name, attributes, kind),) = seen
    assert (name, kind) == (CHAT, SpanKind.CLIENT)
    attributes.pop("llmevents.span_id")
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "server.address": "api.acme.com",
        "server.port": 443,
    }


# --- How spans end -----------------------------------------------------------------


def test_a_failure_has_a_status_an_error_type_and_an_event(
    recording: Recording,
) -> None:
    secret = "sk-proj-" + "a1B2c3D4" * 6
    call = gpt(recording).handle()
    recording.clock.advance(5)
    call.fail(TimeoutError(f"with {secret} for 30 s"))
    seen = recording.span(CHAT)
    assert seen.status.status_code is StatusCode.ERROR
    attributes = recording.attributes(CHAT)
    assert attributes["error.type"] == "TimeoutError"
    assert attributes["llmevents.status"] == "timeout"
    (event,) = seen.events
    assert (event.name, event.timestamp) == ("exception", NOON + 5)
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "TimeoutError"
    message = str(event.attributes["exception.message"])
    assert message.endswith("for 30 s")
    assert seen.status.description == message
    assert secret not in seen.to_json()


def test_a_failure_without_a_text_is_described_by_its_type(
    recording: Recording,
) -> None:
    with pytest.raises(ValueError, match=r"^$"), span("myapp.work", bus=recording.bus):
        raise ValueError
    seen = recording.span("myapp.work")
    assert seen.status.description == "ValueError"
    assert dict(seen.events[0].attributes or {}) == {"exception.type": "ValueError"}


def test_a_cancelled_result_is_no_error(recording: Recording) -> None:
    call = gpt(recording).handle()
    call.cancel()
    assert recording.span(CHAT).status.status_code is StatusCode.UNSET
    assert recording.attributes(CHAT)["llmevents.status"] == "cancelled"


def test_a_cancelled_task_ends_its_spans_as_failed(recording: Recording) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def call() -> None:
            with span("myapp.outer", bus=recording.bus), gpt(recording):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    for name in (CHAT, "myapp.outer"):
        assert recording.span(name).status.status_code is StatusCode.ERROR
        assert (
            recording.attributes(name)["error.type"]
            == "asyncio.exceptions.CancelledError"
        )


def test_a_stream_ends_its_span_with_the_last_item(recording: Recording) -> None:
    """Not when the stream object is returned, before any chunk has come."""
    stream = gpt(recording).handle().iterate(iter("abc"))
    assert [next(stream), next(stream)] == ["a", "b"]
    assert recording.finished() == ()
    assert list(stream) == ["c"]
    assert recording.attributes(CHAT)["llmevents.chunks"] == 3


@pytest.mark.parametrize("how", ["closed", "garbage collected"])
def test_a_stream_left_early_ends_its_span(recording: Recording, how: str) -> None:
    stream = gpt(recording).handle().iterate(iter("abc"))
    next(stream)
    if how == "closed":
        stream.close()
    del stream
    assert recording.span(CHAT).status.status_code is StatusCode.UNSET
    attributes = recording.attributes(CHAT)
    assert attributes["llmevents.status"] == "cancelled"
    assert attributes["llmevents.usage_complete"] is False


def test_spans_of_one_name_do_not_clobber_each_other(recording: Recording) -> None:
    """Keeping spans by name loses all but one of those that overlap."""
    with span("myapp.work", {"depth": 1}, bus=recording.bus):
        with span("myapp.work", {"depth": 2}, bus=recording.bus):
            aside = start_span("myapp.work", {"depth": 3}, bus=recording.bus)
            recording.clock.advance(1)
        recording.clock.advance(1)
        aside.stop()
    spans = {
        span.attributes["depth"]: span
        for span in recording.finished()
        if span.attributes
    }
    lasted = {
        depth: (span.end_time or 0) - (span.start_time or 0)
        for depth, span in spans.items()
    }
    assert lasted == {1: 2, 2: 1, 3: 2}
    assert spans[3].parent is not None
    assert spans[3].parent == spans[2].context


def test_the_wall_clock_may_be_set_back(recording: Recording) -> None:
    with span("myapp.work", bus=recording.bus):
        recording.clock.advance(7)
        recording.clock.step_wall_clock(-3_600_000_000_000)
    seen = recording.span("myapp.work")
    assert (seen.start_time, seen.end_time) == (NOON, NOON + 7)


@pytest.mark.parametrize("time_ns", [-1, 2**63, 1.5, None, "noon"])
def test_a_time_that_otlp_cannot_state_is_now(
    recording: Recording, time_ns: object
) -> None:
    """A batch with such a time is refused as a whole."""
    facts = {"span_id": "1"}
    recording.bus.execute("myapp.work.start", {"system_time": time_ns}, facts)  # type: ignore[dict-item]  # hostile
    recording.bus.execute("myapp.work.stop", {"duration": 5}, facts)
    seen = recording.span("myapp.work")
    assert seen.start_time is not None
    assert seen.end_time is not None
    assert NOON < seen.start_time <= seen.end_time < 2**62


def test_an_end_beyond_what_otlp_can_state_is_cut(recording: Recording) -> None:
    facts = {"span_id": "1"}
    recording.bus.execute("myapp.work.start", {"system_time": NOON}, facts)
    recording.bus.execute("myapp.work.stop", {"duration": 2**70}, facts)
    assert recording.span("myapp.work").end_time == 2**63 - 1


def test_a_terminal_event_of_an_unknown_span_is_let_pass(recording: Recording) -> None:
    """Of a span that started before the recorder was attached, for one."""
    recording.bus.execute("myapp.work.stop", {"duration": 5}, {"span_id": "unknown"})
    assert recording.finished() == ()


def test_values_that_cannot_be_hashed_do_no_harm(recording: Recording) -> None:
    facts = {"span_id": "1", "provider": [], "model": {}, "operation": ()}
    recording.bus.execute("llm.chat.start", {"system_time": NOON}, facts)
    recording.bus.execute("llm.chat.stop", {}, {"span_id": ["2"]})
    recording.bus.execute("llm.chat.stop", {}, facts)
    assert recording.span("[] {}").attributes == {
        "gen_ai.operation.name": "[]",
        "gen_ai.provider.name": "[]",
        "gen_ai.request.model": "{}",
        "llmevents.span_id": "1",
    }


# --- Sampling, exemplars -----------------------------------------------------------


def test_what_is_not_sampled_is_not_recorded() -> None:
    recording = Recording(sampler=ParentBased(ALWAYS_OFF))
    with gpt(recording) as call:
        recording.bus.execute("llm.cache.hit", {"count": 1}, {"span_id": call.span_id})
        assert recording.spans.trace_of({"span_id": call.span_id}) is None
        with recording.foreign.start_as_current_span("inside"):
            pass
    assert recording.finished() == ()
    assert recording.spans.open == 0


def test_an_exemplar_is_the_span_that_the_event_names(recording: Recording) -> None:
    """Also the one that ended with this very event, whose handlers are still running."""
    seen: list[Mapping[str, str] | None] = []
    recording.bus.attach(
        "later",
        ["llm.chat.start", "llm.chat.stop"],
        lambda event, measurements, metadata, config: seen.append(
            recording.spans.trace_of(metadata)
        ),
    )
    gpt(recording).handle().stop()
    context = recording.span(CHAT).context
    assert context is not None
    expected = {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
    }
    assert seen == [expected, expected]


def test_an_event_without_a_span_has_the_current_one_as_exemplar(
    recording: Recording,
) -> None:
    trace_of = recording.spans.trace_of
    assert trace_of({}) is None
    assert trace_of({"span_id": "unknown"}) is None
    with recording.foreign.start_as_current_span("request") as current:
        expected = f"{current.get_span_context().span_id:016x}"
        unknown: list[dict[str, object]] = [{}, {"span_id": "?"}, {"span_id": []}]
        for metadata in unknown:
            found = trace_of(metadata)
            assert found is not None
            assert found["span_id"] == expected


# --- Events of spans ---------------------------------------------------------------


def test_a_point_event_becomes_an_event_of_the_span_it_names(
    recording: Recording,
) -> None:
    named = start_span("myapp.named", bus=recording.bus)
    with span("myapp.current", bus=recording.bus):
        recording.bus.execute(
            "llm.provider.rate_limit",
            {"retry_after": 2_000_000_000},
            {
                "provider": "openai",
                "model": "gpt-4o",
                "http_status": 429,
                "span_id": named.span_id,
            },
        )
        recording.bus.execute("llm.cache.hit", {"count": 1}, {"cache": "answers"})
    recording.clock.advance(10**18)
    named.stop()
    (limit,) = recording.span("myapp.named").events
    assert limit.name == "llm.provider.rate_limit"
    assert dict(limit.attributes or {}) == {
        "llmevents.retry_after": 2.0,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "http.response.status_code": 429,
    }
    (hit,) = recording.span("myapp.current").events
    assert hit.name == "llm.cache.hit"
    assert dict(hit.attributes or {}) == {
        "llmevents.cache.name": "answers",
        "llmevents.cache.count": 1,
    }


def test_events_are_within_their_span(recording: Recording) -> None:
    """The time that start handlers take is no part of the duration."""
    with span("myapp.work", bus=recording.bus):
        recording.bus.execute("llm.cache.hit", {"count": 1})
    seen = recording.span("myapp.work")
    assert seen.events[0].timestamp == seen.end_time


def test_a_point_event_goes_to_the_current_span_of_another_library(
    recording: Recording,
) -> None:
    foreign = recording.foreign.start_as_current_span("request")
    with span("myapp.work", bus=recording.bus), foreign:
        recording.bus.execute("llm.cache.miss", {"count": 1})
    assert [event.name for event in recording.span("request").events] == [
        "llm.cache.miss"
    ]
    assert recording.span("myapp.work").events == ()


def test_a_point_event_without_a_span_is_dropped(recording: Recording) -> None:
    recording.bus.execute("llm.cache.miss", {"count": 1})
    assert recording.finished() == ()


def test_a_span_that_has_ended_gets_no_more_events(
    recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor a warning from OpenTelemetry, where it is still current in another context."""

    def work() -> None:
        with span("myapp.work", bus=recording.bus) as started:
            in_threads(started.stop)
            recording.bus.execute("llm.cache.miss", {"count": 1})

    copy_context().run(work)
    assert recording.span("myapp.work").events == ()
    assert caplog.records == []


def test_events_named_like_a_spans_but_without_a_span_are_point_events(
    recording: Recording,
) -> None:
    with span("myapp.work", bus=recording.bus):
        recording.bus.execute("server.start", {"port": 80})
        recording.bus.execute("server.stop", {"port": 80}, {"span_id": None})
    names = [event.name for event in recording.span("myapp.work").events]
    assert names == ["server.start", "server.stop"]


def test_a_span_keeps_so_many_events_and_no_more(recording: Recording) -> None:
    with span("myapp.work", bus=recording.bus):
        for _ in range(MOST_POINTS + 1):
            recording.bus.execute("llm.cache.hit", {"count": 1})
    assert len(recording.span("myapp.work").events) == MOST_POINTS


def test_chunks_are_not_asked_for(recording: Recording) -> None:
    """Streams emit an event for each chunk as soon as anybody listens."""
    assert not recording.bus.has_handlers("llm.chat.chunk")
    recording.bus.attach("all", "**", recording.spans.handle, on_failure="raise")
    assert list(gpt(recording).handle().iterate("ab")) == ["a", "b"]
    names = {event.name for event in recording.span(CHAT).events}
    assert names == {"llm.cost.unpriced"}


def test_what_a_call_cost_is_said_by_its_span_and_by_no_event_of_it(
    recording: Recording,
) -> None:
    with gpt(recording) as call:
        call.usage(input_tokens=1_000, output_tokens=500)
    assert not recording.bus.has_handlers("llm.cost.calculated")
    assert recording.span(CHAT).events == ()
    costs = {f"llmevents.cost.{key}" for key in ("source", "price_date", "usd")}
    assert costs <= recording.attributes(CHAT).keys()


def test_events_of_the_process_belong_to_no_span(recording: Recording) -> None:
    events = recording.spans.events()
    assert "llm.cache.hit" in events
    assert not [
        name for name in events if str(name).startswith(("process.", "llmevents."))
    ]


# --- Hostile values ----------------------------------------------------------------

HOSTILE = {
    "surrogate": "a\ud800b",
    "pair": "\ud83d\ude00",
    "nul": "a\0b",
    "long": "x" * 1_000_000,
    "huge": 10**30,
    "enormous": 1 << 100_000,
    "nan": float("nan"),
    "none": None,
    "mixed": [1, "a", None],
    "nested": {"a": {"b": [1]}},
    "empty": [],
    "bools": [True, False],
    "huges": [1, 10**30],
    "many": list(range(1_000)),
    "object": object(),
    "bytes": b"abc",
    "lone\udc00key": 1,
    "": "no key",
}


def test_hostile_values_become_attributes_that_can_be_encoded(
    recording: Recording,
) -> None:
    facts = {"span_id": "1", **HOSTILE}
    recording.bus.execute("myapp.work.start", {"system_time": NOON}, facts)
    recording.bus.execute(
        "myapp.work.stop",
        {"duration": 1, "inf": float("inf")},
        {**facts, 7: "number"},  # type: ignore[dict-item]  # hostile
    )
    attributes = dict(recording.span("myapp.work").attributes or {})
    assert attributes == {
        "llmevents.span_id": "1",
        "surrogate": "a\ufffdb",
        "pair": "\U0001f600",
        "nul": "a\ufffdb",
        "long": "x" * (TEXT_LIMIT - 1) + "…",
        "huge": str(10**30),
        "enormous": "<int: 100001 bits>",
        "nan": "nan",
        "mixed": '[1, "a", null]',
        "nested": '{"a": {"b": [1]}}',
        "empty": (),
        "bools": (True, False),
        "huges": f"[1, {10**30}]",
        "many": tuple(range(128)),
        "object": "<object>",
        "bytes": "<bytes>",
        "lone\ufffdkey": 1,
        "inf": "inf",
    }
    assert encode_spans(recording.finished()).SerializeToString()


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(st.characters())
            | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
@example({"a": [1.5, float("nan")]})
@example({"span": "\ud800"})
def test_any_metadata_can_be_encoded(metadata: dict[str, object]) -> None:
    recording = Recording()
    with span("myapp.work", metadata, bus=recording.bus):
        recording.bus.execute("llm.cache.hit", {"count": 1}, metadata)
    with span("llm.chat", {"model": metadata, **metadata}, bus=recording.bus):
        pass
    assert len(recording.finished()) == 2
    assert encode_spans(recording.finished()).SerializeToString()


def test_the_attributes_of_users_cannot_crowd_out_ours(recording: Recording) -> None:
    """An OpenTelemetry span keeps 128 attributes, and drops the oldest."""
    many = {f"key-{number}": number for number in range(1_000)}
    facts = {"span_id": "1", "model": "gpt-4o"}
    numbers = {f"number-{number}": number for number in range(1_000)}
    recording.bus.execute("llm.chat.start", {"system_time": NOON}, {**many, **facts})
    recording.bus.execute(
        "llm.chat.stop",
        {**numbers, "duration": 1, "input_tokens": 5},
        {**many, **facts, "response_model": "gpt-4o-x"},
    )
    seen = recording.span(CHAT)
    attributes = recording.span(CHAT).attributes
    assert attributes is not None
    assert attributes["gen_ai.request.model"] == "gpt-4o"
    assert attributes["gen_ai.response.model"] == "gpt-4o-x"
    assert attributes["gen_ai.usage.input_tokens"] == 5
    assert f"key-{KEY_LIMIT - 1}" in attributes
    assert f"key-{KEY_LIMIT}" not in attributes
    assert seen.dropped_attributes == 0


def test_numbers_and_text_of_subclasses_are_plain(recording: Recording) -> None:
    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise AssertionError

    class Whole(int):
        def __repr__(self) -> str:
            raise AssertionError

    class Real(float):
        def __repr__(self) -> str:
            raise AssertionError

    facts = {"span_id": "1", "text": Text("a"), "whole": Whole(2), "real": Real(0.5)}
    recording.bus.execute("myapp.work.start", {"system_time": NOON}, facts)
    recording.bus.execute("myapp.work.stop", {}, facts)
    attributes = dict(recording.span("myapp.work").attributes or {})
    attributes.pop("llmevents.span_id")
    assert attributes == {"text": "a", "whole": 2, "real": 0.5}
    assert {type(value) for value in attributes.values()} == {str, int, float}


def test_names_beyond_what_is_remembered_are_made_every_time(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmevents_otel._plans.MOST_PLANS", 1)
    monkeypatch.setattr("llmevents_otel._attributes.MOST_RULES", 1)
    for number in range(3):
        with span(f"myapp.work-{number}", {f"key-{number}": 1}, bus=recording.bus):
            pass
    assert [seen.name for seen in recording.finished()] == [
        f"myapp.work-{number}" for number in range(3)
    ]
    assert recording.attributes("myapp.work-2") == {"key-2": 1}


# --- Bounds, forks, threads --------------------------------------------------------


def test_spans_that_never_end_are_forgotten_the_oldest_first() -> None:
    recording = Recording(most_open=3)
    spans = [start_span("myapp.work", {"n": n}, bus=recording.bus) for n in range(5)]
    assert (recording.spans.open, recording.spans.forgotten) == (3, 2)
    for started in spans:
        started.stop()
    assert [dict(seen.attributes or {})["n"] for seen in recording.finished()] == [
        2,
        3,
        4,
    ]
    assert recording.spans.open == 0


def test_forgetting_does_not_mind_other_threads() -> None:
    """They start and end spans between any two steps of looking for the oldest."""

    class Racing(dict[object, OpenSpan]):
        troubles = 2

        def __iter__(self) -> Iterator[object]:
            if self.troubles:
                self.troubles -= 1
                msg = "dictionary changed size during iteration"
                raise RuntimeError(msg)
            return super().__iter__()

        def pop(self, key: object, default: object = None) -> object:  # type: ignore[override]  # as it is used
            if self.troubles:
                self.troubles -= 1
                return None
            return super().pop(key, default)

    recording = Recording(most_open=1)
    start_span("myapp.work", bus=recording.bus)
    recording.spans._open = racing = Racing(recording.spans._open)
    racing.troubles = 1
    start_span("myapp.work", bus=recording.bus)
    assert (recording.spans.open, recording.spans.forgotten) == (1, 1)

    class Gone(Racing):
        def __iter__(self) -> Iterator[object]:
            return iter([*self.keys()])

    recording.spans._open = gone = Gone(recording.spans._open)
    gone.troubles = 1
    start_span("myapp.work", bus=recording.bus)
    assert (recording.spans.open, recording.spans.forgotten) == (1, 2)


def test_a_forgotten_block_is_current_no_longer_than_it_lasts() -> None:
    recording = Recording(most_open=1)
    with span("myapp.forgotten", bus=recording.bus):
        aside = start_span("myapp.aside", bus=recording.bus)
    aside.stop()
    with recording.foreign.start_as_current_span("after"):
        pass
    assert recording.span("after").parent is None


def test_closing_forgets_what_is_open(recording: Recording) -> None:
    started = start_span("myapp.work", bus=recording.bus)
    recording.spans.close()
    started.stop()
    assert (recording.spans.open, recording.spans.forgotten) == (0, 1)
    assert recording.finished() == ()


def test_a_forked_child_forgets_the_parents_spans(recording: Recording) -> None:
    """The parent ends them; the child's own spans are their children all the same."""

    def work() -> list[object]:
        with span("myapp.child", bus=recording.bus):
            open_in_child = recording.spans.open
        aside.stop()
        recording.spans.close()
        parents = [seen.parent and seen.parent.span_id for seen in recording.finished()]
        return [open_in_child, recording.spans.forgotten, parents]

    aside = start_span("myapp.aside", bus=recording.bus)
    with span("myapp.parent", bus=recording.bus):
        child = in_child(work)
    aside.stop()
    context = recording.span("myapp.parent").context
    assert context is not None
    assert child == [1, 0, [context.span_id]]
    assert {seen.name for seen in recording.finished()} == {
        "myapp.parent",
        "myapp.aside",
    }


def test_closing_in_a_forked_child_counts_nothing(recording: Recording) -> None:
    def work() -> list[int]:
        recording.spans.close()
        return [recording.spans.open, recording.spans.forgotten]

    with span("myapp.parent", bus=recording.bus):
        assert in_child(work) == [0, 0]


def test_closing_after_a_fork_counts_nothing(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, in a process whose coverage is measured."""
    start_span("myapp.work", bus=recording.bus)
    pid = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: pid)
    recording.spans.close()
    assert (recording.spans.open, recording.spans.forgotten) == (0, 0)
    # The third part of an id tells the process.
    for part in ("11111111", "22222222"):
        facts = {"span_id": f"{'0' * 16}{part}{'0' * 8}"}
        recording.bus.execute("myapp.work.start", {"system_time": NOON}, facts)
        pid += 1
    assert (recording.spans.open, recording.spans.forgotten) == (1, 0)


def test_threads_that_start_and_forget_spans_count_them_exactly() -> None:
    recording = Recording(most_open=8)
    each, threads = 300, 8

    def work() -> None:
        for number in range(each):
            started = start_span("myapp.work", bus=recording.bus)
            if number % 2:
                started.stop()

    in_threads(*[work] * threads)
    spans = recording.spans
    assert len(recording.finished()) + spans.open + spans.forgotten == each * threads
    assert spans.open <= 8


def test_a_span_may_end_in_another_thread(recording: Recording) -> None:
    started = start_span("myapp.work", bus=recording.bus)
    ending = threading.Thread(target=started.stop)
    ending.start()
    ending.join(30)
    assert len(recording.named("myapp.work")) == 1


def test_a_generator_is_one_span(recording: Recording) -> None:
    @span("myapp.items", bus=recording.bus)
    def items() -> Iterator[int]:
        yield 1
        with span("myapp.inside", bus=recording.bus):
            pass
        yield 2

    assert list(items()) == [1, 2]
    assert recording.parent("myapp.inside") == "myapp.items"
    assert recording.attributes("myapp.items")["llmevents.chunks"] == 2
