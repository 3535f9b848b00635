from __future__ import annotations

import json
import re

import pytest

from llmevents import OptionError, events, llm, start_span
from llmevents_otel._attributes import (
    CONVERTERS,
    as_any,
    as_currency,
    as_dollars,
    as_former_system,
    as_integer,
    as_milliseconds,
    as_number,
    as_seconds,
    as_text,
    as_texts,
    clean_text,
    if_false,
    if_no_success,
    if_not_one,
    if_true,
)
from llmevents_otel._profiles import (
    DEFAULT_PROFILE,
    INFERENCE,
    OPERATIONS,
    PROFILES,
    profile_named,
)
from llmevents_otel._spans import SpanRecorder
from llmevents_otel._tables import Profile, Table
from tests.reporters.otel_recording import Recording


ALL = sorted(PROFILES)


def test_the_profiles() -> None:
    assert ALL == ["genai-1.41", "genai-next", "seed-compat"]
    assert profile_named(DEFAULT_PROFILE).name == "genai-1.41"


@pytest.mark.parametrize("name", ["genai-1.40", "", None, [], 141])
def test_a_profile_that_is_not_there_is_refused(name: object) -> None:
    expected = "'genai-1.41' or 'genai-next' or 'seed-compat'"
    with pytest.raises(OptionError, match=re.escape(expected)):
        profile_named(name)


def tables(profile: Profile) -> list[Table]:
    return [
        *profile.spans.values(),
        *profile.logs.values(),
        *profile.by_provider.values(),
        profile.other_spans,
        profile.points,
        *profile.own_points.values(),
    ]


@pytest.mark.parametrize("name", ALL)
def test_a_profile_is_data_without_contradictions(name: str) -> None:
    """No two keys become one attribute, of which one would be lost."""
    profile = PROFILES[name]
    for table in tables(profile):
        named = [
            attribute.name
            for keys in (table.metadata, table.measurements)
            for key, attributes in keys.items()
            for attribute in attributes
            # Two words for one thing, of which a user has one.
            if key != "company_id"
        ]
        named += [*table.features, *(rate.name for rate in table.rates)]
        named += [*table.constants]
        assert len(named) == len(set(named))


@pytest.mark.parametrize("name", ALL)
def test_every_inference_operation_of_the_catalogue_has_a_table(name: str) -> None:
    profile = PROFILES[name]
    declared = {
        known.name.removesuffix(".stop")
        for known in events.catalogue()
        if known.name.startswith("llm.")
        and known.name.endswith(".stop")
        and "input_tokens" in known.measurements
    }
    assert declared == set(INFERENCE) == set(profile.logs)
    assert declared <= set(profile.spans)
    assert set(OPERATIONS) <= set(profile.spans)
    assert not profile.lines or set(profile.lines) == set(INFERENCE)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("prefix", INFERENCE)
def test_everything_the_catalogue_declares_is_named_by_a_convention_or_by_us(
    name: str, prefix: str
) -> None:
    """A key of ours without a rule would become a top-level attribute like `model`."""
    declared = events.find(f"{prefix}.stop")
    raised = events.find(f"{prefix}.exception")
    assert declared is not None
    assert raised is not None
    table = PROFILES[name].spans[prefix]
    assert {*declared.metadata, *raised.metadata} <= set(table.metadata)
    assert set(declared.measurements) <= set(table.measurements)


@pytest.mark.parametrize("name", ALL)
def test_every_key_of_every_declared_span_has_a_name_of_ours(name: str) -> None:
    """Of tools, agents, tasks, requests of calls, and requests to the program."""
    profile = PROFILES[name]
    spans = [
        known
        for known in events.catalogue()
        if known.name.endswith((".stop", ".exception"))
        and (known.name.startswith(("llm.", "http.")))
    ]
    assert {known.name.rpartition(".")[0] for known in spans} >= set(OPERATIONS)
    for known in spans:
        table = profile.spans.get(known.name.rpartition(".")[0], profile.other_spans)
        assert set(known.metadata) <= set(table.metadata), known.name
        assert set(known.measurements) <= set(table.measurements), known.name


@pytest.mark.parametrize("name", ALL)
def test_every_key_of_every_event_of_spans_has_a_name_of_ours(name: str) -> None:
    profile = PROFILES[name]
    asked = SpanRecorder.events()
    points = [known for known in events.catalogue() if known.name in asked]
    assert {known.name.split(".")[1] for known in points} == {
        "budget",
        "cache",
        "cost",
        "provider",
    }
    for known in points:
        table = profile.own_points.get(tuple(known.name.split(".")[:2]), profile.points)
        assert set(known.metadata) <= set(table.metadata), known.name
        assert set(known.measurements) <= set(table.measurements), known.name


def one_call(profile: str) -> dict[str, object]:
    recording = Recording(profile)
    with llm.chat(
        provider="gcp.vertex_ai",
        model="m",
        bus=recording.bus,
        top_k=3,
        user_id="u",
        task_id="t",
        features=["structured_output"],
        reasoning_level="high",
    ) as call:
        recording.clock.advance(500_000_000)
        call.usage(input_tokens=4, output_tokens=6, audio_input_tokens=2)
        call.usage(cache_write_tokens=1)
        call.measure(cost_nano_usd=2_500_000)
    return recording.attributes("chat m")


GENAI_1_41 = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "gcp.vertex_ai",
    "gen_ai.request.model": "m",
    "gen_ai.request.top_k": 3.0,
    "gen_ai.usage.input_tokens": 4,
    "gen_ai.usage.output_tokens": 6,
    "gen_ai.usage.cache_write.input_tokens": 1,
    "llmevents.usage.audio.input_tokens": 2,
    "llmevents.task_id": "t",
    "llmevents.cost.source": "override",
    "user.id": "u",
    "reasoning_level": "high",
}


def test_the_names_of_genai_1_41() -> None:
    seen = one_call("genai-1.41")
    assert seen == {
        **GENAI_1_41,
        "llmevents.features": ("structured_output",),
        "llmevents.cost.usd": 0.0025,
    }
    assert type(seen["gen_ai.request.top_k"]) is float


def test_the_names_of_genai_next() -> None:
    seen = one_call("genai-next")
    assert seen == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.vertex_ai",
        "gen_ai.request.model": "m",
        "gen_ai.request.top_k": 3,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_write.input_tokens": 1,
        "gen_ai.usage.audio.input_tokens": 2,
        "gen_ai.usage.cost.amount": 0.0025,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "override",
        "llmevents.features": ("structured_output",),
        "llmevents.task_id": "t",
        "user.id": "u",
    }
    assert type(seen["gen_ai.request.top_k"]) is int


def test_seed_compat_has_the_older_names_beside_those_of_1_41() -> None:
    assert one_call("seed-compat") == {
        **GENAI_1_41,
        "gen_ai.system": "vertex_ai",
        "llm.model": "m",
        "llm.prompt_tokens": 4,
        "llm.completion_tokens": 6,
        "llm.total_tokens": 10,
        "llm.cost_usd": 0.0025,
        "llm.latency_ms": 500,
        "llm.task_id": "t",
        "llm.user_id": "u",
        "llm.status": "success",
        "service.type": "llm",
        "service.provider": "gcp.vertex_ai",
        "service.model": "m",
        "tokens.input": 4,
        "tokens.output": 6,
        "tokens.total": 10,
        "tokens_per_second": 20.0,
        "latency_ms": 500,
        "cost_usd": 0.0025,
        "features.structured_output": True,
        "features.tools": False,
        "features.search_grounding": False,
        "status": "success",
    }


def test_next_says_error_where_no_finish_reason_has_come() -> None:
    recording = Recording("genai-next")
    with pytest.raises(KeyError), llm.chat(model="m", bus=recording.bus):
        raise KeyError
    call = start_span("llm.chat", {"finish_reasons": ["length"]}, bus=recording.bus)
    call.annotate(finish_reasons=["length", "stop"])
    call.fail(KeyError())
    reasons = "gen_ai.response.finish_reasons"
    assert recording.attributes("chat m")[reasons] == ("error",)
    assert recording.attributes("chat")[reasons] == ("length", "stop")


# --- Conversions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convert", "value", "attribute"),
    [
        (as_text, "a", "a"),
        (as_text, 1, "1"),
        (as_text, True, "true"),
        (as_text, None, None),
        (as_text, ["a"], '["a"]'),
        (as_texts, ["a", 1, None], ("a", "1")),
        (as_texts, "stop", ("stop",)),
        (as_texts, [], None),
        (as_integer, 5, 5),
        (as_integer, 5.0, 5),
        (as_integer, 5.5, 5.5),
        (as_integer, 1e300, 1e300),
        (as_integer, True, True),
        (as_integer, 2**63, str(2**63)),
        (as_integer, "five", "five"),
        (as_number, 1, 1.0),
        (as_number, 0.5, 0.5),
        (as_number, 2**63, str(2**63)),
        (as_seconds, 1_500_000_000, 1.5),
        (as_seconds, 0.0, 0.0),
        (as_seconds, float("inf"), None),
        (as_seconds, 10**400, None),
        (as_seconds, "1", None),
        (as_milliseconds, 1_500_000_000, 1500),
        (as_milliseconds, 600_000, 1),
        (as_milliseconds, None, None),
        (as_dollars, 4_500_000, 0.0045),
        (as_currency, 1, "USD"),
        (if_true, True, True),
        (if_true, 1, None),
        (if_false, False, False),
        (if_false, True, None),
        (if_not_one, 1, None),
        (if_not_one, 2, 2),
        (if_no_success, "success", None),
        (if_no_success, "timeout", "timeout"),
        (as_former_system, "gcp.gemini", "gemini"),
        (as_former_system, "openai", "openai"),
    ],
)
def test_conversions(convert: object, value: object, attribute: object) -> None:
    assert convert in CONVERTERS.values()
    assert callable(convert)
    converted = convert(value)
    assert converted == attribute
    assert type(converted) is type(attribute)


def test_what_cannot_be_json_is_told_by_its_type() -> None:
    cycle: list[object] = [1]
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert as_any(cycle) == as_any(deep) == "<list>"
    assert as_any({(1, 2): 3}) == "<dict>"
    assert json.loads(str(as_any({"a": {1}}))) == {"a": "<set>"}


def test_text_is_cut_after_so_many_characters() -> None:
    assert clean_text("abcdef", 6) == "abcdef"
    assert clean_text("abcdefg", 6) == "abcde…"
