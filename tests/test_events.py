"""The catalogue is complete, consistent, and can be added to."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from llmevents import (
    Bus,
    EventNameError,
    LLMEventsError,
    OptionError,
    UndeclaredEventError,
    events,
    span,
    start_span,
)
from llmevents.events import DeclaredEvent, DeclaredMeasurement


INFERENCE = [
    "llm.chat",
    "llm.completion",
    "llm.embedding",
    "llm.ocr",
    "llm.transcription",
    "llm.speech",
    "llm.translation",
    "llm.image",
    "llm.rerank",
    "llm.search",
    "llm.moderation",
]
OTHER_SPANS = [
    "llm.tool",
    "llm.agent",
    "llm.task",
    "llm.provider.request",
    "llm.context.truncation",
    "http.server.request",
]
PHASES = {
    "start": {"monotonic_time", "system_time"},
    "stop": {"duration", "monotonic_time", "time_to_first_chunk", "chunks"},
    "exception": {"duration", "monotonic_time", "time_to_first_chunk", "chunks"},
    "first_chunk": {"time_to_first_chunk", "monotonic_time"},
    "chunk": {"index", "monotonic_time"},
}
USAGE = {
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
    "cache_write_1h_tokens",
    "tool_input_tokens",
    "pages",
    "images",
    "searches",
    "characters",
    "audio_duration",
    "cost_nano_usd",
}
OWN = {"llm.embedding": {"texts", "dimensions"}}
POINTS: dict[str, set[str]] = {
    "llm.provider.retry": {"attempt", "retry_after"},
    "llm.provider.rate_limit": {
        "retry_after",
        "remaining_requests",
        "remaining_tokens",
    },
    "llm.provider.auth.refresh": set(),
    **{
        f"llm.cache.{what}": {"count", "size", "entry_size"}
        for what in ("hit", "miss", "put", "evicted")
    },
    "llm.cost.calculated": {"cost_nano_usd"},
    "llm.cost.unpriced": set(),
    "llm.cost.threshold_exceeded": {"cost_nano_usd", "threshold_nano_usd"},
    **{
        f"llm.budget.{what}": {"amount", "spent", "limit", "ratio"}
        for what in ("reserved", "settled", "warning", "exceeded")
    },
    "llmevents.usage.raw": {"count"},
    "llmevents.handler.failure": {"monotonic_time", "system_time"},
    "llmevents.reporter.failure": {"count"},
    "llmevents.reporter.dropped": {"count"},
}
UNITS = {"nanosecond", "byte", "token", "nano_usd", "1"}


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> dict[str, DeclaredEvent]:
    """Let a test declare events that are forgotten afterwards."""
    declared = dict(events._declared)
    monkeypatch.setattr(events, "_declared", declared)
    return declared


def found(name: str) -> DeclaredEvent:
    declared = events.find(name)
    assert declared is not None, f"{name} is not declared"
    return declared


# --- What is in it ---------------------------------------------------------------


@pytest.mark.parametrize("prefix", INFERENCE + OTHER_SPANS)
@pytest.mark.parametrize("phase", PHASES)
def test_every_span_is_declared_with_its_measurements(prefix: str, phase: str) -> None:
    expected = set(PHASES[phase])
    if prefix in INFERENCE and phase in ("stop", "exception"):
        expected |= USAGE | OWN.get(prefix, set())
    declared = found(f"{prefix}.{phase}")
    assert set(declared.measurements) == expected
    assert {"span_id", "parent_span_id", "scoped"} <= set(declared.metadata)
    assert ("kind" in declared.metadata) == (phase == "exception")


@pytest.mark.parametrize("name", POINTS)
def test_every_point_event_is_declared_with_its_measurements(name: str) -> None:
    assert set(found(name).measurements) == POINTS[name]


@pytest.mark.parametrize(
    "name",
    ["process.memory", "process.cpu", "process.gc", "process.threads", "asyncio.lag"],
)
def test_every_event_of_the_poller_is_declared(name: str) -> None:
    assert "pid" in found(name).metadata


def test_no_event_is_declared_twice() -> None:
    """A second declaration would silently lose to the first."""
    from llmevents._catalogue import BUILT_IN

    counts = Counter(declared.name for declared in BUILT_IN)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("declared", events.catalogue(), ids=lambda event: event.name)
def test_every_declaration_is_complete(declared: DeclaredEvent) -> None:
    """It is the reference, so a gap is a gap in the documentation."""
    assert declared.description.endswith(".")
    assert declared.emitted_by
    assert declared.stability in ("stable", "experimental")
    for key, measurement in declared.measurements.items():
        assert key.isidentifier()
        assert measurement.unit in UNITS
        assert measurement.description.endswith(".")
    for key, meaning in declared.metadata.items():
        assert key.isidentifier()
        assert meaning.endswith((".", "`"))


def test_a_key_has_the_same_unit_in_every_event() -> None:
    """Reporters and metrics go by the key alone."""
    units: dict[str, set[str]] = {}
    for declared in events.catalogue():
        for key, measurement in declared.measurements.items():
            units.setdefault(key, set()).add(measurement.unit)
    assert {key: unit for key, unit in units.items() if len(unit) > 1} == {}


# --- Declaring -------------------------------------------------------------------


@pytest.mark.usefixtures("catalogue")
def test_a_declared_event_is_found_and_listed_last() -> None:
    declared = events.declare(
        ("docs", "page", "saved"),
        measurements={"size": ("byte", "Size of the page.")},
        metadata={"page": "The page's number."},
        description="A page was saved.",
        stability="experimental",
        emitted_by="the docs",
    )
    assert events.find("docs.page.saved") is declared
    assert events.find(("docs", "page", "saved")) is declared
    assert events.catalogue()[-1] is declared
    assert declared == DeclaredEvent(
        name="docs.page.saved",
        description="A page was saved.",
        measurements={"size": DeclaredMeasurement("byte", "Size of the page.")},
        metadata={"page": "The page's number."},
        stability="experimental",
        emitted_by="the docs",
    )


def test_what_is_not_declared_is_not_found() -> None:
    assert events.find("docs.page.lost") is None


@pytest.mark.usefixtures("catalogue")
def test_a_declaration_cannot_be_changed() -> None:
    mine = {"size": ("byte", "Size of the page.")}
    declared: Any = events.declare("docs.saved", measurements=mine)
    mine["count"] = ("1", "Added later.")
    assert set(declared.measurements) == {"size"}
    with pytest.raises(TypeError, match="item assignment"):
        declared.measurements["count"] = mine["count"]
    with pytest.raises(TypeError, match="item assignment"):
        declared.metadata["page"] = "A page."
    with pytest.raises(AttributeError, match="name"):
        declared.name = "docs.lost"


@pytest.mark.usefixtures("catalogue")
def test_declaring_the_same_again_changes_nothing() -> None:
    before = events.catalogue()
    for _ in range(2):
        events.declare("docs.saved", measurements={"size": ("byte", "Size.")})
    assert len(events.catalogue()) == len(before) + 1


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize(
    "change",
    [
        {"measurements": {"size": ("1", "Size.")}},
        {"metadata": {"page": "Other."}},
        {"description": "Other."},
        {"stability": "experimental"},
        {"emitted_by": "somebody else"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_declaring_it_differently_is_refused(change: dict[str, Any]) -> None:
    first = events.declare("docs.saved", measurements={"size": ("byte", "Size.")})
    with pytest.raises(OptionError, match=r"'docs\.saved' to be as it was declared"):
        events.declare(
            "docs.saved", **{"measurements": {"size": ("byte", "Size.")}, **change}
        )
    assert events.find("docs.saved") is first


@pytest.mark.usefixtures("catalogue")
def test_the_built_in_events_cannot_be_redefined() -> None:
    with pytest.raises(OptionError, match="as it was declared first"):
        events.declare("llm.chat.stop")


@pytest.mark.parametrize("name", ["", "a..b", "a.*", 5])
def test_a_bad_name_cannot_be_declared_or_found(
    name: Any,  # noqa: ANN401  # of any type, that is the point
) -> None:
    for function in (events.declare, events.declare_span, events.find):
        with pytest.raises(EventNameError, match="is not an event name"):
            function(name)


@pytest.mark.parametrize("stability", ["beta", None, ""])
def test_an_unknown_stability_is_refused(
    stability: Any,  # noqa: ANN401  # of any type, that is the point
    catalogue: dict[str, DeclaredEvent],
) -> None:
    before = len(catalogue)
    for function in (events.declare, events.declare_span):
        with pytest.raises(OptionError, match="'stable' or 'experimental', got"):
            function("docs.saved", stability=stability)
    assert len(catalogue) == before


@pytest.mark.usefixtures("catalogue")
def test_a_span_that_cannot_be_declared_whole_is_not_declared_at_all() -> None:
    events.declare("docs.page.stop", description="Something else.")
    with pytest.raises(OptionError, match="as it was declared first"):
        events.declare_span("docs.page")
    assert events.find("docs.page.start") is None


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("unit", ["ms", "byte", ("byte",), ("a", "b", "c"), None])
def test_a_measurement_is_declared_with_unit_and_description(
    unit: Any,  # noqa: ANN401  # of any type, that is the point
) -> None:
    """Text of two letters is not a unit and a description of one letter each."""
    with pytest.raises(LLMEventsError, match="size"):
        events.declare("docs.saved", measurements={"size": unit})
    assert events.find("docs.saved") is None


# --- Strict buses ----------------------------------------------------------------


@pytest.mark.usefixtures("catalogue")
def test_a_strict_bus_takes_what_is_declared_and_nothing_else() -> None:
    bus = Bus(strict=True)
    with pytest.raises(
        UndeclaredEventError,
        match=r"event 'docs\.saved' is not declared; declare it with "
        r"llmevents\.events\.declare\('docs\.saved', \.\.\.\) or use a bus",
    ) as caught:
        bus.execute("docs.saved", {"size": 1})
    assert caught.value.event == "docs.saved"

    events.declare("docs.saved", measurements={"size": ("byte", "Size.")})
    bus.execute("docs.saved", {"size": 1}, {"any": "metadata"})
    bus.execute("docs.saved", {})
    with pytest.raises(
        UndeclaredEventError, match=r"no measurement 'sise' \(only: size\); declare"
    ):
        bus.execute("docs.saved", {"sise": 1})


def test_an_event_without_measurements_says_so() -> None:
    with pytest.raises(UndeclaredEventError, match=r"'count' \(only: none\)"):
        Bus(strict=True).execute("llm.cost.unpriced", {"count": 1})


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("listened", [False, True])
def test_a_strict_bus_checks_spans_as_it_checks_events(*, listened: bool) -> None:
    """A misspelt span must not pass a test for want of a listener."""
    bus = Bus(strict=True)
    if listened:
        bus.attach("id", "**", lambda *call: None)
    with (
        pytest.raises(UndeclaredEventError, match="is not declared"),
        span("docs.page", bus=bus),
    ):
        pass
    events.declare_span(
        "docs.page",
        measurements={"size": ("byte", "Size.")},
        metadata={"page": "Its number."},
        emitted_by="the docs",
    )
    with span("docs.page", {"page": 3}, bus=bus) as block:
        block.measure(size=3)
        assert list(block.iterate([1, 2])) == [1, 2]
    with pytest.raises(ValueError, match="no good"), span("docs.page", bus=bus):
        fail()
    assert found("docs.page.stop").metadata["page"] == "Its number."


def fail() -> None:
    msg = "no good"
    raise ValueError(msg)


@pytest.mark.parametrize("prefix", INFERENCE + OTHER_SPANS)
def test_the_spans_of_the_library_pass_a_strict_bus(prefix: str) -> None:
    bus = Bus(strict=True)
    calls: list[tuple[str, ...]] = []
    bus.attach("id", "**", lambda *call: calls.append(call[0]))
    handle = start_span(prefix, bus=bus)
    assert list(handle.iterate([1])) == [1]
    assert [event[-1] for event in calls] == ["start", "first_chunk", "chunk", "stop"]
