"""Prices that llmevents brings along. See `SOURCES` for where they are from.

They are what there is without genai-prices (Python 3.10, or not installed), and what
it does not have: page, audio, character and search prices, and what runs on your own
machine for nothing. They are list prices, without free quotas or discounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from llmevents.llm.pricing._book import PriceBook


class Line(NamedTuple):
    """The prices of one model.

    Attributes:
        key: ``provider/model``.
        prices: As in a price book.
        reference: Key of `SOURCES`.
        checked: The ISO day on which it was looked up there.
    """

    key: str
    prices: Mapping[str, object]
    reference: str
    checked: str


SOURCES: Mapping[str, str] = {
    "openai": "OpenAI, API pricing: https://platform.openai.com/docs/pricing",
    "anthropic": "Anthropic, Pricing: https://docs.claude.com/en/docs/about-claude/pricing",
    "google": "Google, Gemini API pricing: https://ai.google.dev/gemini-api/docs/pricing",
    "vertex": "Google, Vertex AI pricing (0.000025 per 1,000 characters, 4 characters "
    "a token): https://cloud.google.com/vertex-ai/generative-ai/pricing",
    "azure-di": "LiteLLM docs, Azure Document Intelligence OCR (1.50 and 10 per 1,000 "
    "pages): https://docs.litellm.ai/docs/providers/azure_document_intelligence",
    "speech": "Google, Speech-to-Text pricing (V1, standard models, 0.024 a minute): "
    "https://cloud.google.com/speech-to-text/pricing",
    "translate": "Google, Cloud Translation pricing (NMT, 20 per 1,000,000 characters): "
    "https://cloud.google.com/translate/pricing",
    "vision": "Google, Cloud Vision pricing (text detection, 1.50 per 1,000 pages): "
    "https://cloud.google.com/vision/pricing",
    "search": "Google, Vertex AI Search pricing (Standard edition, 1.50 per 1,000 "
    "queries): https://cloud.google.com/generative-ai-app-builder/pricing",
    "mistral": "Mistral, Pricing: https://mistral.ai/pricing",
    "cohere": "Cohere, Pricing (Rerank, 2 per 1,000 searches): https://cohere.com/pricing",
    "own": "runs on a machine of your own; nobody bills it by use",
}
"""Where prices are from. A test holds them equal to those of genai-prices 0.2.3, where
that has them."""

_DAY = "2026-11-21"

_MODELS: Mapping[str, Mapping[str, object]] = {
    "openai/gpt-4": {"input": 30, "output": 60},
    "openai/gpt-4-turbo": {"input": 10, "output": 30},
    "openai/gpt-4o": {
        "input": 2.5,
        "output": 10,
        "cache_read": 1.25,
        "per_1k_searches": 10,
    },
    "openai/gpt-4o-2024-05-13": {"input": 5, "output": 15, "per_1k_searches": 10},
    "openai/gpt-4o-mini": {
        "input": 0.15,
        "output": 0.6,
        "cache_read": 0.075,
        "per_1k_searches": 10,
    },
    "openai/gpt-4.1": {
        "input": 2,
        "output": 8,
        "cache_read": 0.5,
        "per_1k_searches": 10,
    },
    "openai/gpt-4.1-mini": {
        "input": 0.4,
        "output": 1.6,
        "cache_read": 0.1,
        "per_1k_searches": 10,
    },
    "openai/gpt-4.1-nano": {"input": 0.1, "output": 0.4, "cache_read": 0.025},
    "openai/gpt-5": {
        "input": 1.25,
        "output": 10,
        "cache_read": 0.125,
        "per_1k_searches": 10,
    },
    "openai/gpt-5-mini": {
        "input": 0.25,
        "output": 2,
        "cache_read": 0.025,
        "per_1k_searches": 10,
    },
    "openai/gpt-5-nano": {
        "input": 0.05,
        "output": 0.4,
        "cache_read": 0.005,
        "per_1k_searches": 10,
    },
    "openai/gpt-5.1": {
        "input": 1.25,
        "output": 10,
        "cache_read": 0.125,
        "per_1k_searches": 10,
    },
    "openai/gpt-5.2": {
        "input": 1.75,
        "output": 14,
        "cache_read": 0.175,
        "per_1k_searches": 10,
    },
    "openai/o1": {"input": 15, "output": 60, "cache_read": 7.5},
    "openai/o3": {"input": 2, "output": 8, "cache_read": 0.5, "per_1k_searches": 10},
    "openai/o3-mini": {"input": 1.1, "output": 4.4, "cache_read": 0.55},
    "openai/o4-mini": {
        "input": 1.1,
        "output": 4.4,
        "cache_read": 0.275,
        "per_1k_searches": 10,
    },
    "openai/gpt-3.5-turbo": {"input": 0.5, "output": 1.5},
    "openai/text-embedding-3-small": {"input": 0.02},
    "openai/text-embedding-3-large": {"input": 0.13},
    "openai/text-embedding-ada-002": {"input": 0.1},
    "openai/whisper-1": {"per_minute": 0.006},
    "openai/tts-1": {"per_1m_characters": 15},
    "openai/tts-1-hd": {"per_1m_characters": 30},
    "anthropic/claude-3-opus": {
        "input": 15,
        "output": 75,
        "cache_read": 1.5,
        "cache_write": 18.75,
        "cache_write_1h": 30,
    },
    "anthropic/claude-3-sonnet": {
        "input": 3,
        "output": 15,
        "cache_read": 0.3,
        "cache_write": 3.75,
        "cache_write_1h": 6,
    },
    "anthropic/claude-3-haiku": {
        "input": 0.25,
        "output": 1.25,
        "cache_read": 0.03,
        "cache_write": 0.3,
        "cache_write_1h": 0.5,
    },
    "anthropic/claude-3-5-sonnet": {
        "input": 3,
        "output": 15,
        "cache_read": 0.3,
        "cache_write": 3.75,
        "cache_write_1h": 6,
        "per_1k_searches": 10,
    },
    "anthropic/claude-3-5-haiku": {
        "input": 0.8,
        "output": 4,
        "cache_read": 0.08,
        "cache_write": 1,
        "cache_write_1h": 1.6,
        "per_1k_searches": 10,
    },
    "anthropic/claude-3-7-sonnet": {
        "input": 3,
        "output": 15,
        "cache_read": 0.3,
        "cache_write": 3.75,
        "cache_write_1h": 6,
        "per_1k_searches": 10,
    },
    "anthropic/claude-sonnet-4": {
        "input": 3,
        "output": 15,
        "cache_read": 0.3,
        "cache_write": 3.75,
        "cache_write_1h": 6,
        "per_1k_searches": 10,
    },
    "anthropic/claude-sonnet-4-5": {
        "input": 3,
        "output": 15,
        "cache_read": 0.3,
        "cache_write": 3.75,
        "cache_write_1h": 6,
        "per_1k_searches": 10,
        "tiers": [
            {
                "above": 200000,
                "input": 6,
                "output": 22.5,
                "cache_read": 0.6,
                "cache_write": 7.5,
                "cache_write_1h": 12,
            }
        ],
    },
    "anthropic/claude-haiku-4-5": {
        "input": 1,
        "output": 5,
        "cache_read": 0.1,
        "cache_write": 1.25,
        "cache_write_1h": 2,
        "per_1k_searches": 10,
    },
    "anthropic/claude-opus-4": {
        "input": 15,
        "output": 75,
        "cache_read": 1.5,
        "cache_write": 18.75,
        "cache_write_1h": 30,
        "per_1k_searches": 10,
    },
    "anthropic/claude-opus-4-1": {
        "input": 15,
        "output": 75,
        "cache_read": 1.5,
        "cache_write": 18.75,
        "cache_write_1h": 30,
        "per_1k_searches": 10,
    },
    "anthropic/claude-opus-4-5": {
        "input": 5,
        "output": 25,
        "cache_read": 0.5,
        "cache_write": 6.25,
        "cache_write_1h": 10,
        "per_1k_searches": 10,
    },
    "google/gemini-1.5-pro": {
        "input": 1.25,
        "output": 5,
        "tiers": [{"above": 128000, "input": 2.5, "output": 10}],
    },
    "google/gemini-1.5-flash": {
        "input": 0.075,
        "output": 0.3,
        "cache_read": 0.01875,
        "tiers": [
            {"above": 128000, "input": 0.15, "output": 0.6, "cache_read": 0.0375}
        ],
    },
    "google/gemini-2.0-flash": {
        "input": 0.1,
        "output": 0.4,
        "cache_read": 0.025,
        "audio_input": 0.7,
        "per_1k_searches": 35,
    },
    "google/gemini-2.0-flash-exp": {
        "input": 0.1,
        "output": 0.4,
        "cache_read": 0.025,
        "audio_input": 0.7,
        "per_1k_searches": 35,
    },
    "google/gemini-2.5-pro": {
        "input": 1.25,
        "output": 10,
        "cache_read": 0.125,
        "per_1k_searches": 35,
        "tiers": [{"above": 200000, "input": 2.5, "output": 15, "cache_read": 0.25}],
    },
    "google/gemini-2.5-flash": {
        "input": 0.3,
        "output": 2.5,
        "cache_read": 0.03,
        "audio_input": 1,
        "per_1k_searches": 35,
    },
    "google/gemini-2.5-flash-lite": {
        "input": 0.1,
        "output": 0.4,
        "cache_read": 0.01,
        "audio_input": 0.3,
        "per_1k_searches": 35,
    },
    "google/gemini-embedding-001": {"input": 0.15},
    "mistral/mistral-ocr-latest": {"per_1k_pages": 4},
    "mistral/mistral-large-latest": {"input": 2, "output": 6},
    "mistral/mistral-small-latest": {"input": 0.15, "output": 0.6, "cache_read": 0.015},
    "mistral/mistral-embed": {"input": 0.1, "output": 0.1},
    "cohere/command-r": {"input": 0.15, "output": 0.6},
    "cohere/command-r-plus": {"input": 2.5, "output": 10},
    "cohere/embed-v4.0": {"input": 0.12},
}
"""Of providers' own price lists; the reference is the provider."""

_OTHER: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "azure-di/prebuilt-read": ("azure-di", {"per_1k_pages": 1.5}),
    "azure-di/prebuilt-layout": ("azure-di", {"per_1k_pages": 10}),
    "azure-di/prebuilt-document": ("azure-di", {"per_1k_pages": 10}),
    "google/text-embedding-004": ("vertex", {"input": 0.1}),
    "google_speech/*": ("speech", {"per_minute": 0.024}),
    "google_translate/*": ("translate", {"per_1m_characters": 20}),
    "google_vision/*": ("vision", {"per_1k_pages": 1.5, "per_1k_images": 1.5}),
    "google_search/*": ("search", {"per_1k_searches": 1.5}),
    "cohere/rerank-v3.5": ("cohere", {"per_1k_searches": 2}),
    "cohere/rerank-english-v3.0": ("cohere", {"per_1k_searches": 2}),
    "cohere/rerank-multilingual-v3.0": ("cohere", {"per_1k_searches": 2}),
    **{
        f"{provider}/*": (
            "own",
            {"input": 0, "output": 0, "per_page": 0, "per_second": 0, "per_image": 0},
        )
        for provider in ("ollama", "infinity", "tesseract")
    },
}

LINES: tuple[Line, ...] = (
    *(
        Line(key, prices, key.partition("/")[0], _DAY)
        for key, prices in _MODELS.items()
    ),
    *(
        Line(key, prices, reference, _DAY)
        for key, (reference, prices) in _OTHER.items()
    ),
)
"""All of them."""


@lru_cache(maxsize=1)
def built_in() -> PriceBook:
    """Return the table as a price book, made when first asked for."""
    return PriceBook(
        {
            line.key: {
                **line.prices,
                "source": SOURCES[line.reference],
                "checked": line.checked,
            }
            for line in LINES
        },
        source="builtin",
    )
