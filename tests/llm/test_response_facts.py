"""What is read beside the usage: reasons, calls of tools, costs, raw usage, headers."""

from __future__ import annotations

import json
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from llmevents.llm import Usage
from llmevents.llm._response import Reading


def read(*parts: object) -> Reading:
    reading = Reading()
    for part in parts:
        reading.read(part)
    return reading


class Reason(str, Enum):
    """As google-genai's."""

    STOP = "STOP"


class Number(int, Enum):
    """As that of protocol buffers."""

    MAX_TOKENS = 2


REASONS: dict[str, tuple[list[Any], dict[int, str]]] = {
    "responses, incomplete": (
        [
            {
                "type": "response.incomplete",
                "response": {
                    "object": "response",
                    "status": "incomplete",
                    "incomplete_details": {"reason": "max_output_tokens"},
                },
            }
        ],
        {0: "max_output_tokens"},
    ),
    "responses, under way": (
        [
            {
                "type": "response.created",
                "response": {"object": "response", "status": "in_progress"},
            }
        ],
        {},
    ),
    "responses, failed": (
        [
            {
                "type": "response.failed",
                "response": {"object": "response", "status": "failed"},
            }
        ],
        {0: "failed"},
    ),
    "anthropic": ([{"type": "message", "stop_reason": "refusal"}], {0: "refusal"}),
    "google, enumeration": (
        [{"candidates": [{"finish_reason": Reason.STOP}]}],
        {0: "STOP"},
    ),
    "google, number": (
        [{"candidates": [{"finishReason": Number.MAX_TOKENS}]}],
        {0: "MAX_TOKENS"},
    ),
    "converse": ([{"stopReason": "guardrail_intervened"}], {0: "guardrail_intervened"}),
    "titan": (
        [{"inputTextTokenCount": 1, "results": [{"completionReason": "LENGTH"}]}],
        {0: "LENGTH"},
    ),
    "mistral on bedrock": ([{"outputs": [{"stop_reason": "length"}]}], {0: "length"}),
    "cohere on bedrock": (
        [{"generations": [{"finish_reason": "COMPLETE"}, {"finish_reason": "X"}]}],
        {0: "COMPLETE", 1: "X"},
    ),
    "cohere 2 stream": (
        [{"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}],
        {0: "COMPLETE"},
    ),
    "too long to be one": (
        [{"choices": [{"finish_reason": "x" * 300}]}],
        {},
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_why_it_ended_is_said_in_the_providers_words(case: str) -> None:
    parts, reasons = REASONS[case]
    found = read(*parts).finish_reasons
    assert found == reasons
    assert all(type(reason) is str for reason in found.values())


FUNCTION = {"name": "look", "arguments": '{"secret": 1}'}

CALLS: dict[str, tuple[list[Any], list[str]]] = {
    "openai": (
        [
            {
                "choices": [
                    {
                        "message": {
                            "tool_calls": [
                                {"id": "1", "function": FUNCTION},
                                {
                                    "id": "2",
                                    "type": "custom",
                                    "custom": {"name": "cut"},
                                },
                            ]
                        }
                    }
                ]
            }
        ],
        ["look", "cut"],
    ),
    "openai stream": (
        [
            {
                "choices": [
                    {
                        "delta": {
                            "tool_calls": [
                                {"index": 0, "id": "1", "function": FUNCTION}
                            ]
                        }
                    }
                ]
            },
            {
                "choices": [
                    {
                        "delta": {
                            "tool_calls": [{"index": 0, "function": {"arguments": "x"}}]
                        }
                    }
                ]
            },
            {
                "choices": [
                    {
                        "delta": {
                            "tool_calls": [
                                {"index": 1, "id": "2", "function": FUNCTION}
                            ]
                        }
                    }
                ]
            },
        ],
        ["look", "look"],
    ),
    "openai, the name in every chunk": (
        [{"choices": [{"delta": {"tool_calls": [{"id": "1", "function": FUNCTION}]}}]}]
        * 3,
        ["look"],
    ),
    "openai, function": (
        [{"choices": [{"message": {"function_call": FUNCTION}}]}],
        ["look"],
    ),
    "responses": (
        [
            {
                "type": "response.output_item.done",
                "item": {"type": "function_call", "call_id": "1", "name": "look"},
            },
            {
                "type": "response.completed",
                "response": {
                    "object": "response",
                    "output": [
                        {"type": "reasoning", "id": "0"},
                        {"type": "function_call", "call_id": "1", "name": "look"},
                        {"type": "computer_call", "call_id": "2"},
                        {"type": "web_search_call", "id": "3"},
                    ],
                },
            },
        ],
        ["look", "computer_call"],
    ),
    "anthropic": (
        [
            {
                "type": "message",
                "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "tool_use", "id": "1", "name": "look", "input": {}},
                    {"type": "server_tool_use", "id": "2", "name": "web_search"},
                ],
            }
        ],
        ["look"],
    ),
    "anthropic stream": (
        [
            {
                "type": "content_block_start",
                "content_block": {"type": "tool_use", "id": "1", "name": "look"},
            },
            {
                "type": "message_stop",
                "message": {
                    "type": "message",
                    "content": [{"type": "tool_use", "id": "1", "name": "look"}],
                },
            },
        ],
        ["look"],
    ),
    "google": (
        [
            {
                "candidates": [
                    {
                        "content": {
                            "parts": [
                                {"text": "hi"},
                                {"functionCall": {"name": "look", "args": {}}},
                                {"functionCall": {"name": "look", "args": {}}},
                            ]
                        }
                    }
                ]
            }
        ],
        ["look", "look"],
    ),
    "converse": (
        [
            {
                "stopReason": "tool_use",
                "output": {
                    "message": {
                        "content": [
                            {"text": "hi"},
                            {"toolUse": {"toolUseId": "1", "name": "look"}},
                        ]
                    }
                },
            }
        ],
        ["look"],
    ),
    "converse stream": (
        [
            {
                "contentBlockStart": {
                    "start": {"toolUse": {"toolUseId": "1", "name": "look"}}
                }
            }
        ],
        ["look"],
    ),
    "ollama": (
        [{"done": True, "message": {"tool_calls": [{"function": FUNCTION}]}}],
        ["look"],
    ),
    "cohere 1": (
        [{"finish_reason": "COMPLETE", "tool_calls": [{"name": "look"}]}],
        ["look"],
    ),
    "cohere 2 stream": (
        [
            {
                "type": "tool-call-start",
                "delta": {"message": {"tool_calls": {"id": "1", "function": FUNCTION}}},
            }
        ],
        ["look"],
    ),
    "none": (
        [{"choices": [{"message": {"tool_calls": [None, 3, {}, {"name": ""}]}}]}],
        [],
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_calls_of_tools_are_counted_and_named_and_no_more(case: str) -> None:
    parts, names = CALLS[case]
    reading = read(*parts)
    assert reading.tool_names == names
    assert reading.tool_calls == len(names)
    assert "secret" not in repr((reading.facts, reading.raw, reading.tool_names))


def test_an_outer_layer_sees_the_calls_that_the_inner_one_was_answered_with() -> None:
    """The same ones: they do not count twice, with an id or without."""
    answer, _ = CALLS["ollama"]
    outer = read(*answer)
    outer.add(read(*answer))
    assert outer.tool_names == ["look"]
    outer.add(read(*answer))
    assert outer.tool_names == ["look", "look"]


USAGE = {"prompt_tokens": 3}

COSTS: dict[str, tuple[Any, int | None]] = {
    "openrouter": ({**USAGE, "cost": 0.00014}, 140_000),
    "a free model": ({**USAGE, "cost": 0}, 0),
    "one tenth is one tenth": ({**USAGE, "cost": 0.1}, 100_000_000),
    "exponent": ({**USAGE, "cost": 1.5e-08}, 15),
    "half to even": ({**USAGE, "cost": 2.5e-09}, 2),
    "openrouter, own key": (
        {
            **USAGE,
            "cost": 0.001,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 0.02},
        },
        21_000_000,
    ),
    "openrouter, own key, upstream unknown": (
        {**USAGE, "cost": 0.001, "is_byok": True},
        None,
    ),
    "openrouter, not the own key": (
        {
            **USAGE,
            "cost": 0.001,
            "is_byok": False,
            "cost_details": {"upstream_inference_cost": 0.02},
        },
        1_000_000,
    ),
    "perplexity": ({**USAGE, "cost": {"total_cost": 0.006}}, 6_000_000),
    "xai": ({**USAGE, "cost_in_usd_ticks": 37756000}, 3_775_600),
    "null": ({**USAGE, "cost": None}, None),
    "text": ({**USAGE, "cost": "0.1"}, None),
    "negative": ({**USAGE, "cost": -0.1}, None),
    "bool": ({**USAGE, "cost": True}, None),
    "nan": ({**USAGE, "cost": float("nan")}, None),
    "infinity": ({**USAGE, "cost": float("inf")}, None),
    "absurd": ({**USAGE, "cost": 1e15}, None),
    "none": (USAGE, None),
}


@pytest.mark.parametrize("case", COSTS)
def test_costs_that_providers_state_are_exact(case: str) -> None:
    usage, cost = COSTS[case]
    assert read({"choices": [], "usage": usage}).cost_nano_usd == cost


def test_a_cost_once_stated_holds_where_later_parts_state_none() -> None:
    chunks = [{"choices": [], "usage": {**USAGE, "cost": 0.5}}, {"usage": USAGE}]
    assert read(*chunks).cost_nano_usd == 500_000_000


def priced(cost: float | None) -> Reading:
    return read({"choices": [], "usage": {**USAGE, "cost": cost}})


def test_costs_of_several_requests_add_up_if_all_are_known() -> None:
    """A sum without one of them would be less than what was spent."""
    both, some = Reading(), Reading()
    both.add(priced(0.5))
    both.add(priced(0.25))
    assert both.cost_nano_usd == 750_000_000
    for cost in (0.5, None, 0.25):
        some.add(priced(cost))
    assert some.cost_nano_usd is None
    assert some.usage == Usage(input_tokens=9)


def test_what_the_gateway_says_of_the_whole_beats_the_sum_of_its_requests() -> None:
    outer = read({"choices": [], "_hidden_params": {"response_cost": 0.3}})
    outer.add(priced(0.5))
    assert outer.cost_nano_usd == 300_000_000


HEADERS = {
    "X-Amzn-Bedrock-Input-Token-Count": "14",
    "X-Amzn-Bedrock-Output-Token-Count": "10",
    "X-Amzn-Bedrock-Cache-Read-Input-Token-Count": "6",
}


def test_headers_count_where_the_body_states_nothing() -> None:
    """As for Mistral's and Cohere's own bodies on Bedrock."""
    reading = read({"outputs": [{"text": "x", "stop_reason": "length"}]})
    reading.read_headers(HEADERS)
    assert reading.usage == Usage(
        input_tokens=20, output_tokens=10, cache_read_tokens=6
    )
    assert len(reading.raw) == 1


def test_a_body_that_states_counts_beats_the_headers() -> None:
    reading = Reading()
    reading.read_headers(HEADERS)
    reading.read({"input_tokens": 3, "output_tokens": 4})
    assert reading.usage == Usage(input_tokens=3, output_tokens=4)


def test_headers_state_what_a_body_lacks() -> None:
    reading = read({"embedding": [0.5], "inputTextTokenCount": 5})
    reading.read_headers(HEADERS)
    assert reading.usage == Usage(input_tokens=5, output_tokens=10)


def test_a_body_beats_the_metrics_that_follow_it() -> None:
    """One of the recordings says 130 against 98."""
    metrics = {"inputTokenCount": 702, "outputTokenCount": 98}
    reading = read(
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 130}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics},
    )
    assert reading.usage == Usage(input_tokens=702, output_tokens=130)


def test_headers_need_not_state_all() -> None:
    reading = read({"generation": "x", "prompt_token_count": 5})
    reading.read_headers({"x-amzn-bedrock-input-token-count": "14"})
    assert reading.usage == Usage(input_tokens=5)


def test_metrics_that_are_none_say_nothing() -> None:
    reading = read({"type": "message_stop", "amazon-bedrock-invocationMetrics": 3})
    assert (reading.usage, reading.raw) == (None, [])


@pytest.mark.parametrize("value", ["", "-3", "3.5", "three", "٣", "1e3"])
def test_headers_that_are_no_counts_say_nothing(value: str) -> None:
    reading = Reading()
    reading.read_headers({"x-amzn-bedrock-input-token-count": value})
    assert reading.usage is None


def test_boto3s_responses_bring_their_headers() -> None:
    reading = read(
        {
            "ResponseMetadata": {
                "HTTPHeaders": {"x-amzn-bedrock-output-token-count": "7"}
            },
            "body": object(),
        }
    )
    assert reading.usage == Usage(output_tokens=7)
    assert read({"ResponseMetadata": None}).usage is None


def test_litellms_proxy_says_its_price_in_a_header() -> None:
    for said, cost in (
        ("0.000612", 612_000),
        ("0.0", None),
        ("None", None),
        ("nan", None),
    ):
        reading = Reading()
        reading.read_headers({"x-litellm-response-cost": said})
        assert reading.cost_nano_usd == cost


def test_headers_that_cannot_be_read_do_no_harm() -> None:
    reading = Reading()
    headers: Any = SimpleNamespace()
    reading.read_headers(headers)
    assert reading.usage is None


def test_the_raw_usage_is_what_the_provider_has_put() -> None:
    start = {"input_tokens": 4, "output_tokens": 1, "inference_geo": "global"}
    delta = {"output_tokens": 9, "extra": [{"x": None, "y": True, "z": 1.5}]}
    reading = read(
        {"type": "message_start", "message": {"type": "message", "usage": start}},
        {"type": "message_delta", "usage": {"output_tokens": 8}},
        {"type": "message_delta", "usage": delta},
    )
    assert reading.raw == [start, delta]
    assert json.loads(json.dumps(reading.raw)) == [start, delta]


def test_the_raw_usage_of_what_has_it_in_itself_is_only_the_counts() -> None:
    ollama = {
        "done": True,
        "message": {"content": "secret"},
        "prompt_eval_count": 3,
        "eval_count": 4,
    }
    assert read(ollama).raw == [{"prompt_eval_count": 3, "eval_count": 4}]
    assert read(SimpleNamespace(**ollama)).raw == read(ollama).raw


def test_the_raw_usage_of_bare_usage_is_all_of_it() -> None:
    assert read({"prompt_tokens": 3, "other": 1}).raw == [
        {"prompt_tokens": 3, "other": 1}
    ]


def test_the_raw_usage_of_all_requests_is_kept() -> None:
    outer = read({"choices": [], "usage": USAGE})
    for cost in (0.5, 0.25):
        outer.add(priced(cost))
    assert outer.raw == [USAGE, {**USAGE, "cost": 0.5}, {**USAGE, "cost": 0.25}]


def test_raw_usage_that_is_deep_long_or_circular_stays_small() -> None:
    circle: dict[str, Any] = {"prompt_tokens": 3, "text": "x" * 1000}
    circle["again"] = circle
    circle["many"] = list(range(1000))
    reading = read({"choices": [], "usage": circle})
    assert reading.usage == Usage(input_tokens=3)
    assert len(json.dumps(reading.raw)) < 3000


def test_what_is_set_replaces_what_was_read_until_more_is_read() -> None:
    reading = read({"choices": [], "usage": USAGE})
    reading.usage = Usage(output_tokens=9)
    assert reading.usage == Usage(output_tokens=9)
    reading.read({"choices": []})
    assert reading.usage == Usage(output_tokens=9)
    reading.read({"choices": [], "usage": USAGE})
    assert reading.usage == Usage(input_tokens=3)
    reading.usage = None
    assert reading.usage is None


VECTORS: dict[str, tuple[Any, dict[str, int]]] = {
    "ollama": ({"embeddings": [[0.5, 1.0]] * 3}, {"texts": 3, "dimensions": 2}),
    "google": ({"embeddings": [{"values": [0.5]}]}, {"texts": 1, "dimensions": 1}),
    "cohere 1": ({"embeddings": [[0.5] * 4]}, {"texts": 1, "dimensions": 4}),
    "cohere 2": (
        {"embeddings": {"float": [[0.5] * 4] * 2}},
        {"texts": 2, "dimensions": 4},
    ),
    "cohere 2, no type known": ({"embeddings": {"ubinary": 3}}, {}),
    "titan": (
        {"embedding": [0.5, 1.0, 2.0], "inputTextTokenCount": 1},
        {"texts": 1, "dimensions": 3},
    ),
    "nothing": ({"embeddings": "none"}, {}),
}


@pytest.mark.parametrize("case", VECTORS)
def test_vectors_are_counted_and_measured(case: str) -> None:
    part, vectors = VECTORS[case]
    assert read(part).vectors() == vectors
