"""The presets: as designed, and fed by what is really emitted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import openai
import pytest

import llmevents
from llmevents import Bus, events, llm, span
from llmevents.metrics import (
    Counter,
    Distribution,
    ExponentialHistogram,
    Histogram,
    LastValue,
    Metric,
    MetricStore,
    Sum,
    presets,
)
from llmevents.testing import FakeProvider, capture
from tests.instrumentation.sdk import MESSAGES, WITH_USAGE
from tests.metrics.readings import Totals


PAIR = ("provider", "model")
GPT = {"provider": "openai", "model": "gpt-4o"}
OPERATION = ("operation", "model")
ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
}
DURATION_BUCKETS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96,
    81.92,
)  # fmt: skip
TOKEN_BUCKETS = (
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216,
    67108864,
)  # fmt: skip

Row = tuple[str, type[Metric], str, tuple[str, ...]]

BASIC: list[Row] = [
    ("llm.chat.requests.total", Counter, "", PAIR),
    ("llm.chat.errors.total", Counter, "", PAIR),
    ("llm.chat.duration.milliseconds", Distribution, "millisecond", PAIR),
]
COST: list[Row] = [
    ("llm.tokens.input.total", Sum, "token", PAIR),
    ("llm.tokens.output.total", Sum, "token", PAIR),
    ("llm.cost.cents.total", Sum, "cent", PAIR),
    ("llm.cost.threshold_exceeded.total", Counter, "", PAIR),
    ("llm.cost.unpriced.total", Counter, "", PAIR),
]
CACHE: list[Row] = [
    ("llm.cache.hits.total", Counter, "", ("cache",)),
    ("llm.cache.misses.total", Counter, "", ("cache",)),
    ("llm.cache.size.bytes", LastValue, "byte", ("cache",)),
]
SERVICE: list[Row] = [
    ("llm.requests.total", Counter, "", ("operation", *PAIR, "status")),
    ("llm.tokens.total", Sum, "token", ("model", "token_type")),
    ("llm.cost.usd.total", Sum, "usd", ("model",)),
    ("llm.latency.seconds", Distribution, "second", OPERATION),
    ("llm.time_to_first_chunk.seconds", Distribution, "second", OPERATION),
    ("task.duration.seconds", Distribution, "second", ("status",)),
    ("task.success.total", Counter, "", ("status",)),
    ("active_tasks", Sum, "", ()),
]


def rows(definitions: list[Metric]) -> list[Row]:
    """Return one row per metric: name, type, unit, names of tags."""
    found = {
        each.name: (each.name, type(each), each.unit, each.tag_names or ())
        for each in definitions
    }
    return list(found.values())


def readings(store: MetricStore, name: str) -> Totals:
    """Return the series of one metric, of a distribution how many values it has."""
    found: Totals = {}
    for each in store.snapshot().families[name].series:
        assert not isinstance(each.value, ExponentialHistogram)
        number = each.value.count if isinstance(each.value, Histogram) else each.value
        found[tuple(each.tags.items())] = number
    return found


def total(store: MetricStore, name: str) -> float:
    return sum(readings(store, name).values())


def typed(model: str, kind: str) -> tuple[tuple[str, str], ...]:
    return (("model", model), ("token_type", kind))


def tagged(**tags: str) -> tuple[tuple[str, str], ...]:
    return tuple(tags.items())


@pytest.fixture
def bus() -> Bus:
    """A strict bus: an event or a measurement that nobody declared is an error."""
    return Bus(strict=True)


@pytest.fixture
def attach(bus: Bus) -> Iterator[Callable[[list[Metric]], MetricStore]]:
    stores: list[MetricStore] = []

    def attached(definitions: list[Metric]) -> MetricStore:
        store = MetricStore(definitions)
        store.attach(bus)
        stores.append(store)
        return store

    yield attached
    for store in stores:
        assert store.refused == 0
    assert bus.stats()["handler_failures"] == 0


Attach = Callable[[list[Metric]], MetricStore]


# --- as designed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("basic", BASIC),
        ("cost", COST),
        ("cache", CACHE),
        ("service", SERVICE),
        ("default", [*BASIC, *COST, *CACHE, *SERVICE]),
        ("all", [*BASIC, *COST, *CACHE, *SERVICE]),
    ],
)
def test_a_preset_has_these_metrics_units_and_tags(
    name: str, expected: list[Row]
) -> None:
    assert rows(presets.PRESETS[name]()) == expected


def test_configuration_knows_eight_presets_and_none_can_be_added() -> None:
    names = ["basic", "cost", "cache", "service", "genai", "health", "default", "all"]
    assert list(presets.PRESETS) == names
    with pytest.raises(TypeError, match="does not support item assignment"):
        presets.PRESETS["mine"] = presets.basic  # type: ignore[index]  # what is tested


def test_genai_has_otels_names_units_and_buckets() -> None:
    found = {
        each.name: (each.unit, each.buckets)
        for each in presets.genai()
        if isinstance(each, Distribution)
    }
    assert found == {
        "gen_ai.client.operation.duration": ("second", DURATION_BUCKETS),
        "gen_ai.client.token.usage": ("token", TOKEN_BUCKETS),
        "gen_ai.client.operation.time_to_first_chunk": ("second", DURATION_BUCKETS),
    }


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_that_is_asked_for_twice_counts_once(name: str) -> None:
    """As in ``metrics=["basic", "default"]``."""
    make = presets.PRESETS[name]
    once = MetricStore(make())
    assert MetricStore([*make(), *make()]).definitions == once.definitions


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_event_and_measurement_of_a_preset_is_declared(name: str) -> None:
    """A metric of an event that nobody emits never records anything."""
    for definition in presets.PRESETS[name]():
        for event in definition.events:
            declared = events.find(event)
            assert declared is not None, event
            measurement = getattr(definition, "measurement", None)
            if isinstance(measurement, str):
                assert measurement in declared.measurements


@pytest.mark.parametrize("name", presets.PRESETS)
def test_no_tag_of_a_preset_grows_with_users_or_tasks(
    name: str, bus: Bus, attach: Attach
) -> None:
    store = attach(presets.PRESETS[name]())
    with llmevents.context(user_id="ada", task_id="7", session_id="s"):
        call(bus)
        with span("llm.task", bus=bus):
            pass
    tags = {
        tag
        for family in store.snapshot().families.values()
        for series in family.series
        for tag in series.tags
    }
    assert not {tag for tag in tags if tag.endswith("id")}


# --- fed by calls ---------------------------------------------------------------------


def call(bus: Bus) -> None:
    with llm.chat(bus=bus, **GPT) as chat:
        chat.usage(input_tokens=1000, output_tokens=500, cache_read_tokens=900)


def failing_call(bus: Bus) -> None:
    with suppress(TimeoutError), llm.chat(bus=bus, **GPT) as chat:
        chat.usage(input_tokens=10)
        raise TimeoutError


def embed(bus: Bus) -> None:
    with llm.embedding(provider="openai", model="embed-1", bus=bus) as embedding:
        embedding.usage(input_tokens=7)


def test_basic_counts_chats_with_either_end(bus: Bus, attach: Attach) -> None:
    store = attach(presets.basic())
    call(bus)
    call(bus)
    failing_call(bus)
    embed(bus)

    pair = tagged(**GPT)
    assert readings(store, "llm.chat.requests.total") == {pair: 3}
    assert readings(store, "llm.chat.errors.total") == {pair: 1}
    assert readings(store, "llm.chat.duration.milliseconds") == {pair: 3}


def test_durations_are_in_the_units_that_the_names_say(
    bus: Bus, attach: Attach
) -> None:
    store = attach([*presets.basic(), *presets.service(), *presets.genai()])
    bus.execute("llm.chat.stop", {"duration": 1_500_000_000}, GPT)
    for name, expected in (
        ("llm.chat.duration.milliseconds", 1500),
        ("llm.latency.seconds", 1.5),
        ("gen_ai.client.operation.duration", 1.5),
    ):
        (series,) = store.snapshot().families[name].series
        assert isinstance(series.value, Histogram)
        assert series.value.sum == expected


def test_tokens_of_all_operations_and_both_ends_are_added_up(
    bus: Bus, attach: Attach
) -> None:
    store = attach([*presets.cost(), *presets.service()])
    call(bus)
    failing_call(bus)
    embed(bus)

    embedding = tagged(provider="openai", model="embed-1")
    assert readings(store, "llm.tokens.input.total") == {
        tagged(**GPT): 1010,
        embedding: 7,
    }
    assert readings(store, "llm.tokens.output.total") == {tagged(**GPT): 500}
    assert readings(store, "llm.tokens.total") == {
        typed("gpt-4o", "input"): 1010,
        typed("gpt-4o", "output"): 500,
        typed("embed-1", "input"): 7,
    }


@pytest.mark.parametrize("phase", ["stop", "exception"])
@pytest.mark.parametrize(
    "operation",
    [
        "chat", "completion", "embedding", "ocr", "transcription", "speech",
        "translation", "image", "rerank", "search", "moderation",
    ],
)  # fmt: skip
def test_costs_of_all_operations_and_both_ends_are_added_up(
    operation: str, phase: str, bus: Bus, attach: Attach
) -> None:
    """In integers: three thousandths of a cent are no float's business."""
    store = attach([*presets.cost(), *presets.service()])
    for _ in range(1000):
        bus.execute(f"llm.{operation}.{phase}", {"cost_nano_usd": 30_000}, GPT)

    assert readings(store, "llm.cost.cents.total") == {tagged(**GPT): 3}
    assert readings(store, "llm.cost.usd.total") == {tagged(model="gpt-4o"): 0.03}
    assert total(store, "llm.requests.total") == 1000


def test_a_cost_that_is_repeated_as_an_event_is_not_added(
    bus: Bus, attach: Attach
) -> None:
    store = attach([*presets.cost(), *presets.service()])
    bus.execute("llm.cost.calculated", {"cost_nano_usd": 30_000}, GPT)
    bus.execute("llm.chat.stop", {"cost_nano_usd": 30_000}, GPT)
    bus.execute("llm.provider.request.stop", {"duration": 1}, GPT)

    (cents,) = store.snapshot().families["llm.cost.cents.total"].series
    assert cents.raw == 30_000
    assert total(store, "llm.requests.total") == 1


def test_spans_that_are_no_calls_count_nowhere(bus: Bus, attach: Attach) -> None:
    store = attach([*presets.default(), *presets.genai()])
    for prefix in ("llm.tool", "llm.agent", "llm.context.truncation"):
        with span(prefix, bus=bus):
            pass
    assert all(not each.series for each in store.snapshot().families.values())


def test_a_call_has_the_status_that_it_ended_with(bus: Bus, attach: Attach) -> None:
    store = attach(presets.service())
    call(bus)
    failing_call(bus)
    with suppress(ValueError), llm.chat(bus=bus, **GPT):
        raise ValueError
    with suppress(asyncio.CancelledError), llm.chat(bus=bus, **GPT):
        raise asyncio.CancelledError
    assert readings(store, "llm.requests.total") == {
        tagged(operation="chat", **GPT, status=status): 1
        for status in ("success", "timeout", "error", "cancelled")
    }


def test_cost_and_cache_count_what_is_declared_for_them(
    bus: Bus, attach: Attach
) -> None:
    store = attach([*presets.cost(), *presets.cache()])
    bus.execute("llm.cost.unpriced", {}, GPT)
    threshold = {"cost_nano_usd": 2, "threshold_nano_usd": 1}
    bus.execute("llm.cost.threshold_exceeded", threshold, {"scope": "day"})
    for what, size in (("hit", 9), ("miss", 9), ("put", 300), ("evicted", 200)):
        measurements = {"count": 1, "size": size}
        bus.execute(f"llm.cache.{what}", measurements, {"cache": "answers", "key": "x"})

    assert readings(store, "llm.cost.unpriced.total") == {tagged(**GPT): 1}
    assert readings(store, "llm.cost.threshold_exceeded.total") == {(): 1}
    answers = tagged(cache="answers")
    assert readings(store, "llm.cache.hits.total") == {answers: 1}
    assert readings(store, "llm.cache.misses.total") == {answers: 1}
    assert readings(store, "llm.cache.size.bytes") == {answers: 200}


# --- fed by tasks ---------------------------------------------------------------------


def test_tasks_are_told_apart_by_how_they_ended(bus: Bus, attach: Attach) -> None:
    store = attach(presets.service())
    with span("llm.task", bus=bus):
        pass
    with suppress(ValueError), span("llm.task", bus=bus):
        raise ValueError
    llmevents.start_span("llm.task", bus=bus).cancel()
    llmevents.start_span("llm.task", bus=bus).fail(asyncio.CancelledError())

    expected = {
        tagged(status="success"): 1,
        tagged(status="error"): 1,
        tagged(status="cancelled"): 2,
    }
    assert readings(store, "task.success.total") == expected
    assert readings(store, "task.duration.seconds") == expected


def test_active_tasks_are_those_that_have_begun_and_not_ended(
    bus: Bus, attach: Attach
) -> None:
    store = attach(presets.service())
    tasks = [llmevents.start_span("llm.task", bus=bus) for _ in range(5)]
    assert readings(store, "active_tasks") == {(): 5}
    tasks[0].stop()
    tasks[1].cancel()
    tasks[2].fail(ValueError("no"))
    assert readings(store, "active_tasks") == {(): 2}
    for task in tasks:
        task.stop()
    assert readings(store, "active_tasks") == {(): 0}
    assert not next(
        each.monotonic
        for each in store.definitions
        if isinstance(each, Sum) and each.name == "active_tasks"
    )


# --- OpenTelemetry's names ------------------------------------------------------------


def test_genai_metrics_have_otels_attributes(bus: Bus, attach: Attach) -> None:
    store = attach(presets.genai())
    with llm.chat(bus=bus, **GPT) as chat:
        chat.record({"model": "gpt-4o-2024-08-06", "choices": []})
        chat.usage(input_tokens=1000, output_tokens=500)
    failing_call(bus)

    answered = {**ATTRIBUTES, "gen_ai.response.model": "gpt-4o-2024-08-06"}
    failed = {"error.type": "TimeoutError", **ATTRIBUTES}
    assert readings(store, "gen_ai.client.operation.duration") == {
        tagged(**answered): 1,
        tagged(**failed): 1,
    }
    assert readings(store, "gen_ai.client.token.usage") == {
        tagged(**answered, **{"gen_ai.token.type": "input"}): 1,
        tagged(**answered, **{"gen_ai.token.type": "output"}): 1,
        tagged(**ATTRIBUTES, **{"gen_ai.token.type": "input"}): 1,
    }


# --- fed by an instrumented SDK -------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def client(bus: Bus, provider: FakeProvider) -> Iterator[openai.OpenAI]:
    llmevents.instrument("openai", bus=bus)
    try:
        with openai.OpenAI(
            base_url=provider.base_url, api_key="test", max_retries=0
        ) as made:
            yield made
    finally:
        llmevents.uninstrument("openai")


def ask(client: openai.OpenAI, model: str = "gpt-4o") -> None:
    client.chat.completions.create(model=model, messages=MESSAGES)


def stream(client: openai.OpenAI) -> None:
    for _ in client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options=WITH_USAGE
    ):
        pass


def test_every_preset_records_what_an_instrumented_sdk_does(
    client: openai.OpenAI, provider: FakeProvider, attach: Attach
) -> None:
    """Cache and thresholds have events of their own; tasks are the user's.

    gpt-4o costs 2.50 dollars for a million tokens of input and 10 of output; nobody has
    a price for the embedding, of one token.
    """
    store = attach([*presets.default(), *presets.genai()])
    ask(client)
    stream(client)
    client.embeddings.create(model="embed-1", input="Hello")
    with pytest.raises(openai.InternalServerError, match="500"):
        ask(client, "fault-500")

    served = provider.totals()
    recorded = {
        name: total(store, name)
        for name, family in store.snapshot().families.items()
        if family.series
    }
    usd = ((served.input_tokens - 1) * 2.5 + served.output_tokens * 10) / 1_000_000
    assert recorded == {
        "llm.cost.usd.total": pytest.approx(usd),
        "llm.cost.cents.total": pytest.approx(usd * 100),
        "llm.cost.unpriced.total": 1,
        "llm.chat.requests.total": 3,
        "llm.chat.errors.total": 1,
        "llm.chat.duration.milliseconds": 3,
        "llm.tokens.input.total": served.input_tokens,
        "llm.tokens.output.total": served.output_tokens,
        "llm.requests.total": 4,
        "llm.tokens.total": served.input_tokens + served.output_tokens,
        "llm.latency.seconds": 4,
        "llm.time_to_first_chunk.seconds": 1,
        "gen_ai.client.operation.duration": 4,
        "gen_ai.client.token.usage": 5,
        "gen_ai.client.operation.time_to_first_chunk": 1,
    }
    assert served.input_tokens
    assert served.output_tokens


def test_a_call_with_requests_inside_it_counts_once(
    client: openai.OpenAI, provider: FakeProvider, bus: Bus, attach: Attach
) -> None:
    """An SDK under a framework: its requests are parts of the framework's call."""
    store = attach([*presets.default(), *presets.genai()])
    with capture(bus=bus, scope="process") as captured, llm.chat(bus=bus, **GPT):
        ask(client)
        with llm.chat(bus=bus, **GPT):
            ask(client)

    assert len(captured.named("llm.provider.request.stop")) == 3
    served = provider.totals("chat")
    assert total(store, "llm.chat.requests.total") == 1
    assert total(store, "llm.requests.total") == 1
    assert total(store, "gen_ai.client.operation.duration") == 1
    assert total(store, "llm.tokens.input.total") == served.input_tokens
    assert total(store, "llm.tokens.output.total") == served.output_tokens


def test_a_call_that_was_tried_three_times_counts_once(
    client: openai.OpenAI, provider: FakeProvider, attach: Attach
) -> None:
    store = attach([*presets.basic(), *presets.service()])
    provider.script("fault-500", "fault-500")
    ask(client.with_options(max_retries=2))

    assert len(provider.calls) == 3
    assert total(store, "llm.chat.requests.total") == 1
    assert not readings(store, "llm.chat.errors.total")
    assert total(store, "llm.requests.total") == 1


# --- fed by what goes wrong -----------------------------------------------------------


def test_health_counts_what_handlers_and_reporters_lose() -> None:
    def fail(*_: object) -> None:
        raise ValueError

    bus = Bus(strict=True)
    store = MetricStore(presets.health())
    store.attach(bus)
    bus.attach("bad", "llm.chat.stop", fail)
    call(bus)
    lost = {"reporter": "otel", "reason": "queue_full"}
    bus.execute("llmevents.reporter.dropped", {"count": 7}, lost)
    bus.execute("llmevents.reporter.failure", {"count": 1}, lost)

    failure = tagged(handler_id="bad", error_type="ValueError")
    assert readings(store, "llmevents.handler.failures.total") == {failure: 1}
    assert readings(store, "llmevents.reporter.dropped.total") == {tagged(**lost): 7}
    assert readings(store, "llmevents.reporter.failures.total") == {tagged(**lost): 1}
