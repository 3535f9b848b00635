from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llmevents import LLMEventsError
from llmevents.llm import Usage
from llmevents.llm.pricing import Pricer


CHAT = Usage(input_tokens=1000, output_tokens=500)

ENTRIES: dict[str, object] = {
    "sample_spec": {"input_cost_per_token": 0.5},
    "gpt-x": {
        "litellm_provider": "openai",
        "input_cost_per_token": 1.25e-06,
        "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 1.25e-07,
        "input_cost_per_token_above_200k_tokens": 2.5e-06,
        "output_cost_per_token_above_200k_tokens": "broken",
        "input_cost_per_token_flex": 6.25e-07,
        "input_cost_per_token_priority": 2.5e-06,
        "input_cost_per_token_above_200k_tokens_priority": 5e-06,
        "input_cost_per_token_batches": 6e-07,
        "search_context_cost_per_query": {"search_context_size_low": 0.01},
        "source": "https://example.org/prices",
    },
    "claude-x": {
        "litellm_provider": "anthropic",
        "input_cost_per_token": 3e-06,
        "cache_creation_input_token_cost": 3.75e-06,
        "cache_creation_input_token_cost_above_1hr": 6e-06,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.2e-05,
    },
    "azure_ai/doc-intelligence/prebuilt-layout": {
        "litellm_provider": "azure_ai",
        "ocr_cost_per_page": 0.01,
    },
    "whisper-x": {
        "litellm_provider": "openai",
        "input_cost_per_second": 0.0001,
        "output_cost_per_second": 0.0,
    },
    "speech-x": {
        "litellm_provider": "vertex_ai-language-models",
        "input_cost_per_character": 1.5e-05,
    },
    "image-x": {
        "litellm_provider": "openai",
        "input_cost_per_image": 0.0,
        "output_cost_per_image": 0.04,
    },
    "cohere/rerank-x": {"litellm_provider": "cohere", "input_cost_per_query": 0.002},
    "request-x": {"litellm_provider": "perplexity", "input_cost_per_request": 0.005},
    "ft:gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 3e-06},
    "free-x": {"litellm_provider": "openai", "input_cost_per_token": 0.0},
    "window-only": {"litellm_provider": "openai", "max_tokens": 4096},
    "no-entry": 5,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(ENTRIES))
    return file


@pytest.fixture
def pricer(path: Path) -> Pricer:
    return Pricer(built_in=False, litellm_prices=path)


@pytest.mark.parametrize(
    ("provider", "model", "usage", "nano"),
    [
        pytest.param("openai", "gpt-x", CHAT, 6_250_000, id="tokens"),
        pytest.param("openai", "gpt-x-2026-01-01", CHAT, 6_250_000, id="dated"),
        pytest.param(None, "GPT-x", CHAT, 6_250_000, id="no-provider"),
        pytest.param("litellm", "openai/gpt-x", CHAT, 6_250_000, id="gateway"),
        pytest.param(
            "openai", "gpt-x", Usage(input_tokens=200_001), 500_002_500, id="tier"
        ),
        pytest.param(
            "openai",
            "ft:gpt-x:acme::7",
            Usage(input_tokens=1000),
            3_000_000,
            id="tuned",
        ),
        pytest.param(
            "anthropic",
            "claude-x",
            Usage(
                input_tokens=200_001,
                cache_write_tokens=2_000,
                cache_write_1h_tokens=1_000,
            ),
            198_001 * 3_000 + 1_000 * 3_750 + 1_000 * 12_000,
            id="an-hour",
        ),
        pytest.param(
            "azure-di", "prebuilt-layout", Usage(pages=5), 50_000_000, id="pages"
        ),
        pytest.param(
            "openai", "whisper-x", Usage(audio_duration=10**10), 1_000_000, id="seconds"
        ),
        pytest.param("vertex_ai", "speech-x", Usage(characters=9), 135_000, id="chars"),
        pytest.param("openai", "image-x", Usage(images=2), 80_000_000, id="images"),
        pytest.param("cohere", "rerank-x", Usage(searches=3), 6_000_000, id="queries"),
        pytest.param("perplexity", "request-x", CHAT, 5_000_000, id="requests"),
        pytest.param("openai", "free-x", CHAT, 0, id="free"),
    ],
)
def test_litellms_list_is_a_source(
    pricer: Pricer, provider: str | None, model: str, usage: Usage, nano: int
) -> None:
    price = pricer.price(usage, provider=provider, model=model)
    assert price == (nano, "litellm", None)


@pytest.mark.parametrize(
    ("tier", "nano"),
    [
        pytest.param("flex", 625_000, id="flex"),
        pytest.param("priority", 2_500_000, id="priority"),
        pytest.param("fast", 2_500_000, id="fast"),
        pytest.param("batch", 600_000, id="batch"),
        pytest.param("default", 1_250_000, id="default"),
    ],
)
def test_service_tiers_of_the_list_are_kept_apart(
    pricer: Pricer, tier: str, nano: int
) -> None:
    price = pricer.price(
        Usage(input_tokens=1000), provider="openai", model="gpt-x", service_tier=tier
    )
    assert price is not None
    assert price.cost_nano_usd == nano


def test_a_tier_has_its_own_price_of_long_inputs(pricer: Pricer) -> None:
    usage = Usage(input_tokens=200_001)
    costs = [
        pricer.price(usage, provider="openai", model="gpt-x", service_tier=tier)
        for tier in ("priority", "flex")
    ]
    assert [price and price.cost_nano_usd for price in costs] == [
        200_001 * 5_000,
        200_001 * 625,
    ]


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("acme", "gpt-x", id="another-provider"),
        pytest.param("openai", "window-only", id="no-price"),
        pytest.param("openai", "no-entry", id="no-object"),
        pytest.param(None, "sample_spec", id="specification"),
        pytest.param("openai", "gpt-y", id="unknown"),
    ],
)
def test_what_the_list_does_not_price_is_unpriced(
    pricer: Pricer, provider: str | None, model: str
) -> None:
    assert pricer.price(CHAT, provider=provider, model=model) is None


def test_the_list_comes_after_your_own_prices(path: Path) -> None:
    pricer = Pricer(
        {"gpt-x": {"input": 1, "output": 0}}, built_in=False, litellm_prices=path
    )
    assert pricer.price(CHAT, provider="openai", model="gpt-x") == (
        1_000_000,
        "user",
        None,
    )


def test_the_list_is_shown(pricer: Pricer) -> None:
    lines = {line.model: line for line in pricer.describe()}
    assert "window-only" not in lines
    assert lines["gpt-x"] == (
        "openai",
        "gpt-x",
        "input 1.25/1M (above 200,000: 2.5), output 10/1M, cache_read 0.125/1M",
        "litellm",
        None,
        "https://example.org/prices",
    )
    assert lines["speech-x"].provider == "google"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("{", "Expecting property name", id="no-json"),
        pytest.param("[]", "an object by model", id="no-object"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: str | None, complaint: str
) -> None:
    file = tmp_path / "prices.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(LLMEventsError, match=re.escape(complaint)):
        Pricer(litellm_prices=file)
