"""Every shape in which providers state usage, as decoded JSON."""

from __future__ import annotations

from typing import Any

import pytest

from llmevents import LLMEventsError
from llmevents.llm import Usage
from llmevents.llm._response import Reading
from llmevents.llm.usage import read_usage


SECOND = 1_000_000_000

CASES: dict[str, tuple[Any, Usage]] = {
    "openai chat": (
        {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"content": "hi"}}],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 80, "image_tokens": 4},
                "completion_tokens_details": {
                    "reasoning_tokens": 30,
                    "rejected_prediction_tokens": 2,
                },
            },
        },
        Usage(
            input_tokens=100,
            output_tokens=50,
            total_tokens=150,
            cache_read_tokens=80,
            image_input_tokens=4,
            reasoning_tokens=30,
        ),
    ),
    "openai responses": (
        {
            "object": "response",
            "status": "completed",
            "usage": {
                "input_tokens": 23,
                "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 9},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 1},
                "total_tokens": 26,
            },
            "tool_usage": {"web_search": {"num_requests": 2}},
        },
        Usage(
            input_tokens=23,
            output_tokens=3,
            total_tokens=26,
            cache_read_tokens=8,
            cache_write_tokens=9,
            reasoning_tokens=1,
            searches=2,
        ),
    ),
    "openai transcription, tokens": (
        {
            "text": "hi",
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "output_tokens": 5,
                "total_tokens": 19,
                "input_token_details": {"audio_tokens": 14, "text_tokens": 0},
            },
        },
        Usage(input_tokens=14, output_tokens=5, total_tokens=19, audio_input_tokens=14),
    ),
    "openai transcription, duration": (
        {"text": "hi", "usage": {"type": "duration", "seconds": 3.24}},
        Usage(audio_duration=3_240_000_000),
    ),
    "openai transcription, verbose": (
        {"text": "hi", "duration": 4.1, "segments": [{"id": 0}]},
        Usage(audio_duration=4_100_000_000),
    ),
    "openai transcription, verbose with usage": (
        {
            "text": "hi",
            "duration": 4.1,
            "segments": [{"id": 0}],
            "usage": {"type": "duration", "seconds": 5},
        },
        Usage(audio_duration=5 * SECOND),
    ),
    "openai transcription stream": (
        {
            "type": "transcript.text.done",
            "text": "hi",
            "usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 4},
        },
        Usage(input_tokens=3, output_tokens=4),
    ),
    "openai images": (
        {
            "created": 1,
            "data": [{"b64_json": "AA"}, {"b64_json": "BB"}],
            "usage": {
                "input_tokens": 50,
                "output_tokens": 400,
                "total_tokens": 450,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens_details": {"text_tokens": 0, "image_tokens": 400},
            },
        },
        Usage(
            input_tokens=50,
            output_tokens=400,
            total_tokens=450,
            image_input_tokens=40,
            image_output_tokens=400,
            images=2,
        ),
    ),
    "openai images without usage": (
        {"created": 1, "data": [{"url": "https://example.org/1.png"}]},
        Usage(images=1),
    ),
    "openai image stream": (
        [
            {"type": "image_generation.partial_image", "b64_json": "AA"},
            {
                "type": "image_generation.completed",
                "b64_json": "AA",
                "usage": {"input_tokens": 5, "output_tokens": 6},
            },
        ],
        Usage(input_tokens=5, output_tokens=6, images=1),
    ),
    "openai realtime": (
        {
            "type": "response.done",
            "response": {
                "object": "realtime.response",
                "status": "completed",
                "usage": {
                    "total_tokens": 253,
                    "input_tokens": 132,
                    "output_tokens": 121,
                    "input_token_details": {
                        "text_tokens": 119,
                        "audio_tokens": 13,
                        "image_tokens": 2,
                        "cached_tokens": 64,
                        "cached_tokens_details": {"text_tokens": 64},
                    },
                    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
                },
            },
        },
        Usage(
            input_tokens=132,
            output_tokens=121,
            total_tokens=253,
            cache_read_tokens=64,
            audio_input_tokens=13,
            audio_output_tokens=91,
            image_input_tokens=2,
        ),
    ),
    "deepseek": (
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 5,
                "prompt_cache_hit_tokens": 12,
                "prompt_cache_miss_tokens": 8,
            },
        },
        Usage(input_tokens=20, output_tokens=5, cache_read_tokens=12),
    ),
    "together": (
        {"choices": [], "usage": {"prompt_tokens": 20, "cached_tokens": 7}},
        Usage(input_tokens=20, cache_read_tokens=7),
    ),
    "perplexity": (
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 50,
                "reasoning_tokens": 40,
                "num_search_queries": 3,
            },
        },
        Usage(input_tokens=20, output_tokens=50, reasoning_tokens=40, searches=3),
    ),
    "litellm": (
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 2000,
                "completion_tokens": 5,
                "cache_creation_input_tokens": 1500,
                "cache_read_input_tokens": 400,
                "prompt_tokens_details": {
                    "cached_tokens": 400,
                    "cache_creation_tokens": 1500,
                    "cache_creation_token_details": {"ephemeral_1h_input_tokens": 500},
                },
                "server_tool_use": {"web_search_requests": 1},
            },
        },
        Usage(
            input_tokens=2000,
            output_tokens=5,
            cache_read_tokens=400,
            cache_write_tokens=1500,
            cache_write_1h_tokens=500,
            searches=1,
        ),
    ),
    "anthropic": (
        {
            "type": "message",
            "usage": {
                "input_tokens": 21,
                "cache_creation_input_tokens": 1733,
                "cache_read_input_tokens": 100,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 733,
                    "ephemeral_1h_input_tokens": 1000,
                },
                "output_tokens": 561,
                "output_tokens_details": {"thinking_tokens": 53},
                "server_tool_use": {"web_search_requests": 2},
            },
        },
        Usage(
            input_tokens=1854,
            output_tokens=561,
            cache_read_tokens=100,
            cache_write_tokens=1733,
            cache_write_1h_tokens=1000,
            reasoning_tokens=53,
            searches=2,
        ),
    ),
    "anthropic, writes only by their lifetime": (
        {
            "input_tokens": 21,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 3,
                "ephemeral_1h_input_tokens": 4,
            },
        },
        Usage(input_tokens=28, cache_write_tokens=7, cache_write_1h_tokens=4),
    ),
    "google": (
        {
            "candidates": [],
            "usageMetadata": {
                "promptTokenCount": 277,
                "cachedContentTokenCount": 100,
                "candidatesTokenCount": 124,
                "thoughtsTokenCount": 570,
                "toolUsePromptTokenCount": 9,
                "totalTokenCount": 980,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 9},
                    {"modality": "IMAGE", "tokenCount": 258},
                    {"modality": "AUDIO", "tokenCount": 10},
                ],
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 24}],
            },
        },
        Usage(
            input_tokens=286,
            output_tokens=694,
            total_tokens=980,
            cache_read_tokens=100,
            reasoning_tokens=570,
            tool_input_tokens=9,
            audio_input_tokens=10,
            image_input_tokens=258,
            audio_output_tokens=24,
        ),
    ),
    "google, modalities by number": (
        {
            "usageMetadata": {
                "promptTokenCount": 10,
                "promptTokensDetails": [
                    {"modality": 2, "tokenCount": 4},
                    {"modality": 2, "tokenCount": 5},
                    {"modality": 99, "tokenCount": 1},
                ],
            },
        },
        Usage(input_tokens=10, output_tokens=0, image_input_tokens=9),
    ),
    "google, snake case": (
        {
            "usage_metadata": {
                "prompt_token_count": 5,
                "candidates_token_count": 6,
                "prompt_tokens_details": [{"modality": "AUDIO", "token_count": 5}],
            }
        },
        Usage(input_tokens=5, output_tokens=6, audio_input_tokens=5),
    ),
    "google live": (
        {
            "serverContent": {},
            "usageMetadata": {
                "promptTokenCount": 5,
                "responseTokenCount": 7,
                "thoughtsTokenCount": 2,
                "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}],
            },
        },
        Usage(
            input_tokens=5,
            output_tokens=9,
            reasoning_tokens=2,
            audio_output_tokens=7,
        ),
    ),
    "google embeddings": (
        {
            "embeddings": [{"values": [0.5, 1.0]}],
            "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4},
        },
        Usage(input_tokens=4, total_tokens=4),
    ),
    "vertex embeddings": (
        {
            "embeddings": [
                {"values": [0.5], "statistics": {"token_count": 4.0}},
                {"values": [0.5], "statistics": {"token_count": 3.0}},
            ],
            "metadata": {"billable_character_count": 21},
        },
        Usage(input_tokens=7, characters=21),
    ),
    "google interactions": (
        {
            "event_type": "interaction.completed",
            "interaction": {
                "status": "completed",
                "usage": {
                    "total_input_tokens": 10,
                    "total_cached_tokens": 3,
                    "total_tool_use_tokens": 2,
                    "total_output_tokens": 5,
                    "total_thought_tokens": 7,
                    "total_tokens": 24,
                    "input_tokens_by_modality": [{"modality": "audio", "tokens": 4}],
                    "output_tokens_by_modality": [{"modality": "image", "tokens": 5}],
                    "grounding_tool_count": [{"type": "google_search", "count": 2}],
                },
            },
        },
        Usage(
            input_tokens=12,
            output_tokens=12,
            total_tokens=24,
            cache_read_tokens=3,
            tool_input_tokens=2,
            reasoning_tokens=7,
            audio_input_tokens=4,
            image_output_tokens=5,
            searches=2,
        ),
    ),
    "bedrock converse": (
        {
            "output": {"message": {"content": [{"text": "hi"}]}},
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 10,
                "outputTokens": 5,
                "totalTokens": 15,
                "cacheReadInputTokens": 100,
                "cacheWriteInputTokens": 20,
                "cacheDetails": [
                    {"ttl": "1h", "inputTokens": 8},
                    {"ttl": "5m", "inputTokens": 12},
                ],
            },
        },
        Usage(
            input_tokens=130,
            output_tokens=5,
            cache_read_tokens=100,
            cache_write_tokens=20,
            cache_write_1h_tokens=8,
        ),
    ),
    "bedrock converse stream": (
        [
            {"messageStop": {"stopReason": "end_turn"}},
            {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4}}},
        ],
        Usage(input_tokens=3, output_tokens=4),
    ),
    "bedrock nova": (
        {
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 16,
                "outputTokens": 27,
                "cacheReadInputTokenCount": 4,
                "cacheWriteInputTokenCount": 0,
            },
        },
        Usage(
            input_tokens=20, output_tokens=27, cache_read_tokens=4, cache_write_tokens=0
        ),
    ),
    "bedrock titan": (
        {
            "inputTextTokenCount": 5,
            "results": [{"tokenCount": 10}, {"tokenCount": 3}],
        },
        Usage(input_tokens=5, output_tokens=13),
    ),
    "bedrock titan stream": (
        [
            {
                "outputText": "a",
                "inputTextTokenCount": 5,
                "totalOutputTextTokenCount": None,
            },
            {
                "outputText": "b",
                "totalOutputTextTokenCount": 7,
                "completionReason": "FINISH",
                "inputTextTokenCount": 5,
            },
        ],
        Usage(input_tokens=5, output_tokens=7),
    ),
    "bedrock titan embeddings": (
        {"embedding": [0.5, 0.25], "inputTextTokenCount": 5},
        Usage(input_tokens=5),
    ),
    "bedrock llama": (
        {
            "generation": "hi",
            "prompt_token_count": 5,
            "generation_token_count": 10,
            "stop_reason": "length",
        },
        Usage(input_tokens=5, output_tokens=10),
    ),
    "bedrock llama stream": (
        [
            {
                "generation": "a",
                "prompt_token_count": 5,
                "generation_token_count": 1,
                "stop_reason": None,
            },
            {
                "generation": "",
                "prompt_token_count": None,
                "generation_token_count": 2,
                "stop_reason": "stop",
            },
        ],
        Usage(input_tokens=5, output_tokens=2),
    ),
    "bedrock metrics alone": (
        {
            "generation_id": "1",
            "amazon-bedrock-invocationMetrics": {
                "inputTokenCount": 3,
                "outputTokenCount": 4,
                "cacheReadInputTokenCount": 5,
                "cacheWriteInputTokenCount": 6,
            },
        },
        Usage(
            input_tokens=14, output_tokens=4, cache_read_tokens=5, cache_write_tokens=6
        ),
    ),
    "bedrock chunk of boto3": (
        {"chunk": {"bytes": b'{"usage": {"prompt_tokens": 3}, "choices": []}'}},
        Usage(input_tokens=3),
    ),
    "ollama": (
        {
            "model": "m",
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 21,
            "eval_count": 369,
            "total_duration": 3699126583,
        },
        Usage(input_tokens=21, output_tokens=369),
    ),
    "ollama, prompt cached": (
        {"model": "m", "done": True, "eval_count": 369},
        Usage(output_tokens=369),
    ),
    "ollama embed": (
        {"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 4},
        Usage(input_tokens=4),
    ),
    "mistral sdk event": (
        {"data": {"choices": [], "usage": {"prompt_tokens": 3}}},
        Usage(input_tokens=3),
    ),
    "mistral audio": (
        {"choices": [], "usage": {"prompt_tokens": 3, "prompt_audio_seconds": 7}},
        Usage(input_tokens=3, audio_duration=7 * SECOND),
    ),
    "mistral transcription stream": (
        {"type": "transcription.done", "model": "m", "usage": {"prompt_tokens": 3}},
        Usage(input_tokens=3),
    ),
    "mistral conversation": (
        {"type": "conversation.response.done", "usage": {"completion_tokens": 3}},
        Usage(output_tokens=3),
    ),
    "mistral ocr": (
        {
            "model": "m",
            "pages": [{"index": 0, "markdown": "x"}],
            "usage_info": {"pages_processed": 3, "doc_size_bytes": 100},
        },
        Usage(pages=3),
    ),
    "azure document intelligence": (
        {
            "status": "succeeded",
            "analyzeResult": {"modelId": "prebuilt-read", "pages": [{}, {}]},
        },
        Usage(pages=2),
    ),
    "azure document intelligence result": (
        {"model_id": "prebuilt-read", "pages": [{}, {}, {}]},
        Usage(pages=3),
    ),
    "cohere 1": (
        {
            "text": "hi",
            "generation_id": "1",
            "meta": {
                "billed_units": {"input_tokens": 5.0, "output_tokens": 6.0},
                "tokens": {"input_tokens": 71.0, "output_tokens": 6.0},
            },
        },
        Usage(input_tokens=5, output_tokens=6),
    ),
    "cohere 1 stream": (
        {
            "event_type": "stream-end",
            "finish_reason": "COMPLETE",
            "response": {"meta": {"tokens": {"input_tokens": 7}}},
        },
        Usage(input_tokens=7),
    ),
    "cohere 2": (
        {
            "id": "1",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant"},
            "usage": {"billed_units": {"input_tokens": 5}, "cached_tokens": 2},
        },
        Usage(input_tokens=5, cache_read_tokens=2),
    ),
    "cohere 2 stream": (
        {
            "type": "message-end",
            "delta": {
                "finish_reason": "COMPLETE",
                "usage": {"tokens": {"input_tokens": 5, "output_tokens": 6}},
            },
        },
        Usage(input_tokens=5, output_tokens=6),
    ),
    "cohere rerank": (
        {"id": "1", "results": [], "meta": {"billed_units": {"search_units": 1}}},
        Usage(searches=1),
    ),
    "cohere embed": (
        {
            "id": "1",
            "embeddings": {"float": [[0.5, 1.0]]},
            "meta": {"billed_units": {"input_tokens": 3, "images": 1}},
        },
        Usage(input_tokens=3, images=1),
    ),
    "voyage": (
        {
            "object": "list",
            "data": [{"embedding": [1.0]}],
            "usage": {"total_tokens": 9},
        },
        Usage(input_tokens=9),
    ),
    "jina rerank": (
        {"results": [{"index": 0}], "usage": {"total_tokens": 9}},
        Usage(input_tokens=9),
    ),
    "google images": (
        {"generated_images": [{"image": {}}, {"image": {}}]},
        Usage(images=2),
    ),
    "langchain message": (
        {
            "type": "ai",
            "content": "hi",
            "response_metadata": {
                "model_name": "m",
                "token_usage": {"prompt_tokens": 1},
            },
            "usage_metadata": {
                "input_tokens": 350,
                "output_tokens": 240,
                "total_tokens": 590,
                "input_token_details": {
                    "audio": 10,
                    "cache_read": 100,
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 150,
                    "ephemeral_1h_input_tokens": 50,
                },
                "output_token_details": {"audio": 10, "reasoning": 200},
            },
        },
        Usage(
            input_tokens=350,
            output_tokens=240,
            total_tokens=590,
            cache_read_tokens=100,
            cache_write_tokens=200,
            cache_write_1h_tokens=50,
            reasoning_tokens=200,
            audio_input_tokens=10,
            audio_output_tokens=10,
        ),
    ),
    "langchain, only the provider's": (
        {
            "type": "ai",
            "usage_metadata": None,
            "response_metadata": {"usage": {"input_tokens": 3, "output_tokens": 4}},
        },
        Usage(input_tokens=3, output_tokens=4),
    ),
    "langchain, priority tier": (
        {
            "type": "ai",
            "usage_metadata": {
                "input_tokens": 30,
                "output_tokens": 9,
                "input_token_details": {"priority": 20, "priority_cache_read": 10},
                "output_token_details": {"priority": 4, "priority_reasoning": 5},
            },
        },
        Usage(
            input_tokens=30, output_tokens=9, cache_read_tokens=10, reasoning_tokens=5
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_shape_is_read(case: str) -> None:
    source, expected = CASES[case]
    assert read_usage(source) == expected


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_twice_is_not_counted_twice(case: str) -> None:
    """Except images, of which each event is one."""
    source, expected = CASES[case]
    if case == "openai image stream":
        return
    assert read_usage([source, source]) == expected


def test_a_shape_may_be_asked_for() -> None:
    both = {"prompt_tokens": 3, "input_tokens": 4}
    assert read_usage(both) == Usage(input_tokens=3)
    assert read_usage(both, shape="anthropic") == Usage(input_tokens=4)
    assert read_usage({"usage": both}, shape="responses") == Usage(input_tokens=4)
    assert read_usage(both, shape="google") is None


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(LLMEventsError, match=r"one of .*ollama.*, got 'olama'"):
        read_usage({}, shape="olama")


def test_what_stands_beside_the_usage_does_not_make_one_of_nothing() -> None:
    """No search in a response that states no tokens is no usage."""
    response: dict[str, Any] = {
        "object": "response",
        "usage": None,
        "tool_usage": {"web_search": {"num_requests": 0}},
    }
    assert read_usage(response) is None
    response["tool_usage"]["web_search"]["num_requests"] = 2
    assert read_usage(response) == Usage(searches=2)


def test_usage_of_an_embedding_has_no_output() -> None:
    usage = Reading()
    usage.read(CASES["google embeddings"][0])
    assert usage.usage is not None
    assert usage.usage.output_tokens is None
    assert usage.vectors() == {"texts": 1, "dimensions": 2}
