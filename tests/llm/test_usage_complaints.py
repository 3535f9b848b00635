"""What users of other tools complain about in the reading of usage, one test each."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.llm import Usage
from llmevents.llm._response import Reading
from llmevents.llm.usage import FIELDS, read_usage
from tests.llm.calls import UNHURRIED


def read(*parts: object) -> Reading:
    reading = Reading()
    for part in parts:
        reading.read(part)
    return reading


def test_usage_in_a_response_counts_whatever_the_model_is_called() -> None:
    # https://github.com/traceloop/openllmetry/issues/2898
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    response = {"model": "my-own/model:v7", "choices": [], "usage": usage}
    assert read_usage(response) == Usage(input_tokens=3, output_tokens=4)


def test_streamed_tokens_of_openai_and_azure_are_not_absent() -> None:
    # https://github.com/traceloop/openllmetry/issues/627
    azure = [
        {"choices": [], "id": "", "model": "", "prompt_filter_results": []},
        {"choices": [{"index": 0, "delta": {}}], "usage": None},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    ]
    assert read_usage(azure) == Usage(input_tokens=3, output_tokens=4)


def test_a_streamed_gemini_has_its_thoughts_in_the_output() -> None:
    # https://github.com/langfuse/langfuse/issues/8625
    chunks = [
        {"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}},
        {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 70}},
        {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 30}},
    ]
    usage = read_usage(chunks)
    assert usage == Usage(input_tokens=9, output_tokens=100, reasoning_tokens=70)


def langchain_chunk(entered: int, left: int) -> dict[str, Any]:
    return {
        "type": "AIMessageChunk",
        "usage_metadata": {"input_tokens": entered, "output_tokens": left},
    }


def test_cumulative_chunks_are_not_summed() -> None:
    # https://github.com/langchain-ai/langchain/issues/30429
    chunks = [langchain_chunk(20, left) for left in (1, 5, 9)]
    assert read_usage(chunks) == Usage(input_tokens=20, output_tokens=9)


def test_usage_is_read_without_a_model_name() -> None:
    # https://github.com/langchain-ai/langchain/issues/40412
    message = {
        "type": "ai",
        "response_metadata": {"model": "m-1"},
        "usage_metadata": {"input_tokens": 3, "output_tokens": 4},
    }
    reading = read(message)
    assert reading.usage == Usage(input_tokens=3, output_tokens=4)
    assert reading.facts == {"response_model": "m-1"}
    message["response_metadata"] = {}
    assert read_usage(message) == Usage(input_tokens=3, output_tokens=4)


def test_no_chunk_without_choices_does_any_harm() -> None:
    # https://github.com/open-telemetry/opentelemetry-js-contrib/issues/3554
    reading = read({"choices": []}, {"choices": None}, {"choices": [None]}, {})
    assert (reading.usage, reading.finish_reasons) == (None, {})


def test_geminis_cache_hits_are_part_of_the_prompt() -> None:
    # https://github.com/BerriAI/litellm/issues/14849
    metadata = {"promptTokenCount": 1000, "cachedContentTokenCount": 900}
    usage = read_usage({"usageMetadata": metadata})
    assert usage == Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=900)


def test_anthropics_cache_writes_are_counted_once() -> None:
    # https://github.com/BerriAI/litellm/issues/9812
    start = {
        "type": "message_start",
        "message": {
            "type": "message",
            "usage": {
                "input_tokens": 4,
                "cache_creation_input_tokens": 12304,
                "cache_read_input_tokens": 0,
                "output_tokens": 1,
            },
        },
    }
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 12304,
            "output_tokens": 550,
        },
    }
    assert read_usage([start, delta]) == Usage(
        input_tokens=12308,
        output_tokens=550,
        cache_read_tokens=0,
        cache_write_tokens=12304,
    )


@pytest.mark.parametrize("provider", ["openai", "xai"])
def test_cached_tokens_are_part_of_the_input_not_beside_it(provider: str) -> None:
    # https://github.com/BerriAI/litellm/issues/6215 and /14874
    # https://github.com/langfuse/langfuse/issues/10592
    usage: dict[str, Any] = {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920},
    }
    if provider == "xai":
        usage["num_sources_used"] = 0
    assert read_usage({"choices": [], "usage": usage}) == Usage(
        input_tokens=2006, output_tokens=300, total_tokens=2306, cache_read_tokens=1920
    )


def test_more_cached_than_input_means_that_the_input_excludes_it() -> None:
    # https://github.com/pydantic/pydantic-ai/issues/3850: the rest is never negative.
    usage = read_usage(
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 1000},
        }
    )
    assert usage == Usage(input_tokens=1010, output_tokens=5, cache_read_tokens=1000)
    assert usage.measurements()["total_tokens"] == 1015


def test_langchain_has_added_anthropics_cache_already() -> None:
    # https://github.com/PostHog/posthog/issues/39901
    message = {
        "type": "ai",
        "response_metadata": {
            "model_name": "claude",
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 90},
        },
        "usage_metadata": {
            "input_tokens": 100,
            "output_tokens": 5,
            "input_token_details": {"cache_read": 90, "cache_creation": 0},
        },
    }
    assert read_usage(message) == Usage(
        input_tokens=100, output_tokens=5, cache_read_tokens=90, cache_write_tokens=0
    )


@pytest.mark.parametrize(
    ("part", "tier"),
    [
        pytest.param(
            {"choices": [], "service_tier": "priority"}, "priority", id="openai"
        ),
        pytest.param(
            {"object": "response", "service_tier": "flex"}, "flex", id="responses"
        ),
        pytest.param(
            {"type": "message", "usage": {"input_tokens": 1, "service_tier": "batch"}},
            "batch",
            id="anthropic",
        ),
        pytest.param(
            {
                "type": "message",
                "usage": {
                    "input_tokens": 1,
                    "service_tier": "standard",
                    "speed": "fast",
                },
            },
            "fast",
            id="anthropic's fast mode",
        ),
        pytest.param(
            {"usageMetadata": {"promptTokenCount": 1, "serviceTier": "flex"}},
            "flex",
            id="google",
        ),
        pytest.param(
            {
                "usageMetadata": {
                    "promptTokenCount": 1,
                    "trafficType": "ON_DEMAND_PRIORITY",
                }
            },
            "priority",
            id="vertex",
        ),
        pytest.param(
            {"stopReason": "end_turn", "serviceTier": {"type": "priority"}},
            "priority",
            id="bedrock",
        ),
        pytest.param({"choices": []}, None, id="not stated"),
    ],
)
def test_the_tier_that_served_the_request_is_known(
    part: dict[str, Any], tier: str | None
) -> None:
    # https://github.com/langfuse/langfuse/issues/13780
    reading = read(part)
    assert reading.service_tier == tier
    assert reading.facts.get("service_tier") == tier


def test_long_context_is_seen_from_all_input() -> None:
    # https://github.com/langfuse/langfuse/issues/8482: its tier begins at 200,000.
    usage = read_usage({"input_tokens": 5, "cache_read_input_tokens": 199_996})
    assert usage is not None
    assert usage.input_tokens == 200_001


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(
            {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 50}},
            id="anthropic",
        ),
        pytest.param(
            {
                "input_tokens": 51,
                "input_token_details": {"ephemeral_1h_input_tokens": 50},
            },
            id="langchain",
        ),
        pytest.param(
            {
                "inputTokens": 1,
                "cacheWriteInputTokens": 50,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 50}],
            },
            id="bedrock",
        ),
        pytest.param(
            {
                "prompt_tokens": 51,
                "prompt_tokens_details": {
                    "cache_creation_token_details": {"ephemeral_1h_input_tokens": 50}
                },
            },
            id="litellm",
        ),
    ],
)
def test_one_hour_cache_writes_have_one_name(usage: dict[str, Any]) -> None:
    # https://github.com/langfuse/langfuse/issues/17450
    found = read_usage(usage)
    assert found is not None
    assert found.cache_write_1h_tokens == 50


def test_ocr_states_pages_and_no_tokens() -> None:
    # https://github.com/BerriAI/litellm/pull/16070
    response = {"pages": [{}], "model": "ocr", "usage_info": {"pages_processed": 29}}
    assert read_usage(response) == Usage(pages=29)


def test_a_ranking_states_its_searches() -> None:
    # https://github.com/BerriAI/litellm/issues/5523
    meta = {"billed_units": {"search_units": 2}}
    assert read_usage({"results": [], "meta": meta}) == Usage(searches=2)


def test_xais_reasoning_is_output_although_it_stands_beside_it() -> None:
    # https://github.com/UKGovernmentBEIS/inspect_ai/issues/5528
    usage = {
        "prompt_tokens": 10120,
        "completion_tokens": 1499,
        "total_tokens": 14428,
        "prompt_tokens_details": {"cached_tokens": 128},
        "completion_tokens_details": {"reasoning_tokens": 2809},
        "cost_in_usd_ticks": 232856000,
    }
    reading = read({"choices": [], "usage": usage})
    assert reading.usage == Usage(
        input_tokens=10120,
        output_tokens=4308,
        total_tokens=14428,
        cache_read_tokens=128,
        reasoning_tokens=2809,
    )
    assert reading.cost_nano_usd == 23_285_600


counts = st.integers(min_value=0, max_value=10**9)


@UNHURRIED
@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=6), st.data())
def test_of_cumulative_chunks_the_last_holds_wherever_the_stream_ends(
    stated: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Nulls between them, and keys in another order, say nothing."""
    parts: list[dict[str, Any]] = []
    for entered, left in stated:
        usage = {"prompt_tokens": entered, "completion_tokens": left, "cost": None}
        keys = data.draw(st.permutations(list(usage)))
        parts.append({"choices": [], "usage": {key: usage[key] for key in keys}})
        parts.append({"choices": [], "usage": data.draw(st.sampled_from(NOTHING))})
    end = data.draw(st.integers(min_value=1, max_value=len(parts)))
    entered, left = stated[(end - 1) // 2]
    assert read_usage(parts[:end]) == Usage(input_tokens=entered, output_tokens=left)


NOTHING: list[Any] = [None, {}, {"prompt_tokens": None, "completion_tokens": None}]


@UNHURRIED
@given(counts, counts, counts, st.lists(counts, min_size=1, max_size=5))
def test_anthropics_last_stated_count_of_each_field_holds(
    entered: int, written: int, cached: int, outputs: list[int]
) -> None:
    """Deltas need not repeat the input, and may correct it."""
    usage = {
        "input_tokens": entered,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": 1,
    }
    start = {"type": "message_start", "message": {"type": "message", "usage": usage}}
    deltas: list[Any] = [
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": count}}
        for count in outputs
    ]
    found = read_usage([start, *deltas])
    assert found is not None
    assert found.input_tokens == entered + written + cached
    assert found.output_tokens == outputs[-1]
    deltas[-1]["usage"]["input_tokens"] = entered + 1
    corrected = read_usage([start, *deltas])
    assert corrected is not None
    assert corrected.input_tokens == entered + written + cached + 1


usages = st.dictionaries(st.sampled_from(FIELDS), counts).map(lambda c: Usage(**c))


@UNHURRIED
@given(usages, usages, usages)
def test_sums_of_usages_do_not_depend_on_how_they_are_made(
    one: Usage, two: Usage, three: Usage
) -> None:
    assert (one + two).measurements() == (two + one).measurements()
    if all("total_tokens" in each.measurements() for each in (one, two, three)):
        left, right = (one + two) + three, one + (two + three)
        assert left.measurements() == right.measurements()


def test_another_response_starts_anew() -> None:
    """Its id differs: of the first one, what the second does not state is no count."""

    def response(number: int, **usage: object) -> dict[str, Any]:
        return {"id": f"chatcmpl-{number}", "choices": [], "usage": usage}

    cached = {"prompt_tokens_details": {"cached_tokens": 5}}
    first = response(1, prompt_tokens=9, completion_tokens=3, **cached)
    second = response(2, prompt_tokens=20)
    assert read_usage([first, second]) == Usage(input_tokens=20)
    assert read_usage([first, {"id": "chatcmpl-2", "choices": []}]) == Usage(
        input_tokens=9, output_tokens=3, cache_read_tokens=5
    )


def test_a_part_that_states_nothing_leaves_what_was_stated() -> None:
    stated = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    nothing = {"prompt_tokens": "three", "total_tokens": None}
    parts: list[Any] = [{"choices": [], "usage": usage} for usage in (stated, nothing)]
    assert read_usage(parts) == Usage(input_tokens=3, output_tokens=4, total_tokens=7)


def test_a_total_that_is_not_stated_again_is_not_kept() -> None:
    """What it was the total of has changed since."""
    early = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    late = {"prompt_tokens": 3, "completion_tokens": 40}
    usage = read_usage([{"usage": early}, {"usage": late}])
    assert usage is not None
    assert usage.measurements()["total_tokens"] == 43


def test_the_order_of_keys_decides_nothing() -> None:
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "input_tokens": 30,
        "output_tokens": 40,
        "total_tokens": 7,
    }
    expected = Usage(input_tokens=3, output_tokens=4, total_tokens=7)
    for seed in range(20):
        keys = random.Random(seed).sample(list(usage), len(usage))  # noqa: S311  # no secret
        assert read_usage({key: usage[key] for key in keys}) == expected
