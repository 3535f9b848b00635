"""Where providers state what a call used: one table for each shape of a usage object.

`Shape` says how to read them. Facts are from the SDKs' types: openai 3.54, anthropic
2.12, google-genai 3.4, botocore 1.44, mistralai 3.7, cohere 7.3, langchain-core 1.7,
and from recorded traffic.
"""

from __future__ import annotations

from llmevents.llm._shape import Shape


OPENAI = Shape(
    "openai",
    ("prompt_tokens", "completion_tokens"),
    {
        "input_tokens": "prompt_tokens",
        "output_tokens": "completion_tokens",
        "total_tokens": "total_tokens",
        # Moonshot and Together; DeepSeek.
        "cache_read_tokens": "prompt_tokens_details.cached_tokens"
        " | cached_tokens | prompt_cache_hit_tokens",
        # The second name is LiteLLM's.
        "cache_write_tokens": "prompt_tokens_details.cache_write_tokens"
        " | prompt_tokens_details.cache_creation_tokens",
        "cache_write_1h_tokens": "prompt_tokens_details.cache_creation_token_details"
        ".ephemeral_1h_input_tokens",
        # The second place is Perplexity's.
        "reasoning_tokens": "completion_tokens_details.reasoning_tokens"
        " | reasoning_tokens",
        "audio_input_tokens": "prompt_tokens_details.audio_tokens",
        "audio_output_tokens": "completion_tokens_details.audio_tokens",
        "image_input_tokens": "prompt_tokens_details.image_tokens",
        "image_output_tokens": "completion_tokens_details.image_tokens",
        # LiteLLM and OpenRouter; Perplexity.
        "searches": "server_tool_use.web_search_requests | num_search_queries",
        "audio_duration": "prompt_audio_seconds",  # Mistral
    },
    cost=True,
)
"""Chat completions, completions and embeddings of OpenAI, and of all who imitate them.

Cached tokens are part of the prompt's, reasoning tokens of the completion's.
"""

INPUT = Shape(
    "input_tokens",
    ("input_tokens", "output_tokens", "seconds"),
    {
        "cache_read_tokens": "cache_read_input_tokens"
        " | input_tokens_details.cached_tokens | input_token_details.cached_tokens"
        " | input_token_details.cache_read"
        " | input_token_details.priority_cache_read"
        " | input_token_details.flex_cache_read",
        "cache_write_tokens": "cache_creation_input_tokens"
        " | cache_creation.ephemeral_5m_input_tokens"
        " + cache_creation.ephemeral_1h_input_tokens"
        " | input_tokens_details.cache_write_tokens"
        # LangChain: the first is 0 beside the other two.
        " | input_token_details.cache_creation"
        " + input_token_details.ephemeral_5m_input_tokens"
        " + input_token_details.ephemeral_1h_input_tokens"
        " | input_token_details.priority_cache_creation"
        " | input_token_details.flex_cache_creation",
        "cache_write_1h_tokens": "cache_creation.ephemeral_1h_input_tokens"
        " | input_token_details.ephemeral_1h_input_tokens",
        # Only Anthropic has these beside the input.
        "input_tokens": "input_tokens + cache_read_input_tokens"
        " + =anthropic_cache_write",
        "anthropic_cache_write": "cache_creation_input_tokens"
        " | cache_creation.ephemeral_5m_input_tokens"
        " + cache_creation.ephemeral_1h_input_tokens",
        "output_tokens": "output_tokens",
        "total_tokens": "total_tokens",
        "reasoning_tokens": "output_tokens_details.reasoning_tokens"
        " | output_tokens_details.thinking_tokens | output_token_details.reasoning"
        " | output_token_details.priority_reasoning"
        " | output_token_details.flex_reasoning",
        "audio_input_tokens": "input_token_details.audio_tokens"
        " | input_token_details.audio | input_tokens_details.audio_tokens",
        "audio_output_tokens": "output_token_details.audio_tokens"
        " | output_token_details.audio | output_tokens_details.audio_tokens",
        "image_input_tokens": "input_tokens_details.image_tokens"
        " | input_token_details.image_tokens | input_token_details.image",
        "image_output_tokens": "output_tokens_details.image_tokens"
        " | output_token_details.image_tokens | output_token_details.image",
        "searches": "server_tool_use.web_search_requests",
        "audio_duration": "seconds",
    },
    inner=("anthropic_cache_write",),
    cost=True,
)
"""Responses, images, transcriptions and realtime of OpenAI; Anthropic; LangChain.

They share the names of the totals. Who counts cached tokens beside the input, which is
Anthropic, states them under names that nobody else has.
"""

CONVERSE = Shape(
    "bedrock",
    ("inputTokens", "outputTokens"),
    {
        "cache_read_tokens": "cacheReadInputTokens | cacheReadInputTokenCount",
        "cache_write_tokens": "cacheWriteInputTokens | cacheWriteInputTokenCount",
        "cache_write_1h_tokens": "cacheDetails[1H].inputTokens",
        "input_tokens": "inputTokens + =cache_read_tokens + =cache_write_tokens",
        "output_tokens": "outputTokens",
        "total_tokens": "totalTokens",
    },
    kind=("ttl",),
)
"""Bedrock's Converse, and Nova's own body. The input excludes what was cached."""

GOOGLE = Shape(
    "google",
    (
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "responseTokenCount",
        "toolUsePromptTokenCount",
        "totalTokenCount",
    ),
    {
        "cache_read_tokens": "cachedContentTokenCount",
        "tool_input_tokens": "toolUsePromptTokenCount",
        "reasoning_tokens": "thoughtsTokenCount",
        "input_tokens": "promptTokenCount + =tool_input_tokens",
        "output_tokens": "=candidates + =reasoning_tokens",
        "candidates": "candidatesTokenCount | responseTokenCount",
        "total_tokens": "totalTokenCount",
        "audio_input_tokens": "promptTokensDetails[AUDIO].tokenCount",
        "image_input_tokens": "promptTokensDetails[IMAGE].tokenCount",
        "audio_output_tokens": "candidatesTokensDetails[AUDIO].tokenCount"
        " | responseTokensDetails[AUDIO].tokenCount",
        "image_output_tokens": "candidatesTokensDetails[IMAGE].tokenCount"
        " | responseTokensDetails[IMAGE].tokenCount",
    },
    kind=("modality",),
    zero=("input_tokens", "output_tokens", "candidates"),
    inner=("candidates",),
    snake=True,
)
"""Gemini and Vertex, Live API included: ``usageMetadata``.

Cached tokens are part of the prompt's; thoughts come beside the candidates, and what
tools put into the prompt beside the prompt. proto3 does not send zeros, so that a count
that is missing beside others is 0.
"""

GOOGLE_EMBEDDING = Shape(
    "google_embedding",
    ("promptTokenCount", "totalTokenCount"),
    {"input_tokens": "promptTokenCount", "total_tokens": "totalTokenCount"},
    snake=True,
)
"""The same of ``embedContent``, which has no output that could be 0."""

INTERACTIONS = Shape(
    "interactions",
    ("total_input_tokens", "total_output_tokens", "total_thought_tokens"),
    {
        "cache_read_tokens": "total_cached_tokens",
        "tool_input_tokens": "total_tool_use_tokens",
        "reasoning_tokens": "total_thought_tokens",
        "input_tokens": "total_input_tokens + =tool_input_tokens",
        "output_tokens": "total_output_tokens + =reasoning_tokens",
        "total_tokens": "total_tokens",
        "audio_input_tokens": "input_tokens_by_modality[AUDIO].tokens",
        "image_input_tokens": "input_tokens_by_modality[IMAGE].tokens",
        "audio_output_tokens": "output_tokens_by_modality[AUDIO].tokens",
        "image_output_tokens": "output_tokens_by_modality[IMAGE].tokens",
        "searches": "grounding_tool_count[GOOGLE_SEARCH].count",
    },
    kind=("modality", "type"),
)
"""Google's Interactions API."""

OLLAMA = Shape(
    "ollama",
    ("prompt_eval_count", "eval_count"),
    {"input_tokens": "prompt_eval_count", "output_tokens": "eval_count"},
)
"""Ollama, in the response itself."""

COHERE = Shape(
    "cohere",
    ("billed_units", "tokens"),
    {
        "input_tokens": "billed_units.input_tokens | tokens.input_tokens",
        "output_tokens": "billed_units.output_tokens | tokens.output_tokens",
        "cache_read_tokens": "cached_tokens",
        "image_input_tokens": "billed_units.image_tokens",
        "images": "billed_units.images",
        "pages": "billed_units.pages",
        "searches": "billed_units.search_units",
    },
)
"""Cohere: ``meta`` of version 1, ``usage`` of version 2.

What is billed where that is stated: OpenTelemetry's GenAI conventions want it so.
"""

TITAN = Shape(
    "titan",
    ("inputTextTokenCount", "totalOutputTextTokenCount"),
    {
        "input_tokens": "inputTextTokenCount",
        "output_tokens": "totalOutputTextTokenCount | results[].tokenCount",
    },
)
"""Amazon Titan's own body, text and embeddings."""

LLAMA = Shape(
    "llama",
    ("generation_token_count", "generation"),
    {"input_tokens": "prompt_token_count", "output_tokens": "generation_token_count"},
)
"""Meta Llama's own body on Bedrock."""

INVOCATION_METRICS = Shape(
    "invocation_metrics",
    ("inputTokenCount", "outputTokenCount"),
    {
        "cache_read_tokens": "cacheReadInputTokenCount",
        "cache_write_tokens": "cacheWriteInputTokenCount",
        "input_tokens": "inputTokenCount + =cache_read_tokens + =cache_write_tokens",
        "output_tokens": "outputTokenCount",
    },
    fallback=True,
)
"""``amazon-bedrock-invocationMetrics``, at the end of streams of InvokeModel."""

HEADERS = Shape(
    "headers",
    ("x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count"),
    {
        "cache_read_tokens": "x-amzn-bedrock-cache-read-input-token-count",
        "cache_write_tokens": "x-amzn-bedrock-cache-write-input-token-count",
        "input_tokens": "x-amzn-bedrock-input-token-count"
        " + =cache_read_tokens + =cache_write_tokens",
        "output_tokens": "x-amzn-bedrock-output-token-count",
    },
    fallback=True,
)
"""Headers of InvokeModel's response; for some vendors' bodies all there is."""

MISTRAL_OCR = Shape("mistral_ocr", ("pages_processed",), {"pages": "pages_processed"})
"""``usage_info`` of Mistral's OCR."""

EMBEDDED = Shape("embedding_total", ("total_tokens",), {"input_tokens": "total_tokens"})
"""Voyage's embeddings and rankings: a total, all of it input."""

TOOL_USAGE = Shape(
    "tool_usage", ("web_search",), {"searches": "web_search.num_requests"}
)
"""``tool_usage`` of OpenAI's responses: searches that are billed."""

VERTEX_EMBEDDING = Shape(
    "vertex_embedding",
    ("embeddings",),
    {"input_tokens": "embeddings[].statistics.tokenCount"},
    snake=True,
)
"""Vertex' embeddings, each with its own count."""

CHARACTERS = Shape(
    "characters",
    ("billableCharacterCount",),
    {"characters": "billableCharacterCount"},
    snake=True,
)
"""``metadata`` of Vertex' embeddings."""

VERBOSE = Shape("verbose", ("duration",), {"audio_duration": "duration"})
"""OpenAI's ``verbose_json`` transcription: its length, in seconds."""

SHAPES: tuple[Shape, ...] = (
    OPENAI,
    INPUT,
    LLAMA,
    GOOGLE,
    CONVERSE,
    OLLAMA,
    COHERE,
    INTERACTIONS,
    TITAN,
    MISTRAL_OCR,
    INVOCATION_METRICS,
    HEADERS,
)
"""Those told apart by their keys alone, in the order in which they are tried."""
