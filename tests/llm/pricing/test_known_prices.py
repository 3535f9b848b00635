"""Prices that are known from elsewhere: the seeds', genai-prices' and the bills'."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from llmevents.llm import Usage
from llmevents.llm.pricing import Pricer


CHAT = Usage(input_tokens=1000, output_tokens=500)
TEXT = Usage(input_tokens=1000)
MINUTE = 60_000_000_000


@pytest.fixture(scope="module")
def pricer() -> Pricer:
    pytest.importorskip("genai_prices")
    known = Pricer()
    assert known.warm_up(wait=True)
    return known


@pytest.fixture(scope="module")
def without_genai_prices() -> Pricer:
    return Pricer(genai_prices=False)


def _at(year: int, month: int, day: int, hour: int = 12, minute: int = 0) -> int:
    moment = datetime(year, month, day, hour, minute, tzinfo=timezone.utc)
    return int(moment.timestamp()) * 10**9


def _usd(pricer: Pricer, usage: Usage, provider: str | None, model: str) -> float:
    price = pricer.price(usage, provider=provider, model=model, at=_at(2026, 11, 21))
    assert price is not None
    return price.cost_nano_usd / 1e9


SEEDS = [
    pytest.param("openai", "gpt-4", CHAT, 0.06, id="gpt-4"),
    pytest.param("openai", "gpt-4-turbo", CHAT, 0.025, id="gpt-4-turbo"),
    # Seed 0 says 0.0125, the price at launch; it was lowered in August 2024.
    pytest.param("openai", "gpt-4o", CHAT, 0.0075, id="gpt-4o"),
    pytest.param("openai", "gpt-4o-mini", CHAT, 0.00045, id="gpt-4o-mini"),
    pytest.param("openai", "gpt-3.5-turbo", CHAT, 0.00125, id="gpt-3.5-turbo"),
    pytest.param("gcp.gemini", "gemini-1.5-pro", CHAT, 0.00375, id="gemini-1.5-pro"),
    pytest.param(
        "gcp.gen_ai", "gemini-1.5-flash", CHAT, 0.000225, id="gemini-1.5-flash"
    ),
    # Seed 3 took the price of gemini-1.5-flash; it is billed as gemini-2.0-flash.
    pytest.param("gemini", "gemini-2.0-flash-exp", CHAT, 0.0003, id="gemini-2.0-exp"),
    pytest.param("anthropic", "claude-3-opus", CHAT, 0.0525, id="claude-3-opus"),
    pytest.param(
        "anthropic", "claude-3-sonnet-20240229", CHAT, 0.0105, id="claude-3-sonnet"
    ),
    pytest.param("openai", "text-embedding-3-small", TEXT, 0.00002, id="3-small"),
    pytest.param("openai", "text-embedding-3-large", TEXT, 0.00013, id="3-large"),
    pytest.param("openai", "text-embedding-ada-002", TEXT, 0.0001, id="ada-002"),
    # Seed 0 says 0.00001: a tenth of Vertex AI's price for as much text.
    pytest.param("google", "text-embedding-004", TEXT, 0.0001, id="embedding-004"),
    # Seed 0 says 0.05, which is the price of prebuilt-layout.
    pytest.param("azure-di", "prebuilt-read", Usage(pages=5), 0.0075, id="read"),
    pytest.param("azure-di", "prebuilt-layout", Usage(pages=5), 0.05, id="layout"),
    pytest.param(
        "mistral_ai", "mistral-ocr-latest", Usage(pages=5), 0.02, id="mistral-ocr"
    ),
    pytest.param(
        "openai", "whisper-1", Usage(audio_duration=MINUTE), 0.006, id="whisper"
    ),
]


@pytest.mark.parametrize(("provider", "model", "usage", "usd"), SEEDS)
def test_a_price_that_the_seeds_know_is_todays(
    pricer: Pricer, provider: str, model: str, usage: Usage, usd: float
) -> None:
    assert _usd(pricer, usage, provider, model) == usd


@pytest.mark.parametrize(("provider", "model", "usage", "usd"), SEEDS)
def test_it_is_the_same_without_genai_prices(
    without_genai_prices: Pricer, provider: str, model: str, usage: Usage, usd: float
) -> None:
    """Python 3.10 has no genai-prices, and an event loop does not wait for it."""
    assert _usd(without_genai_prices, usage, provider, model) == usd


@pytest.mark.parametrize(
    ("provider", "usage", "usd"),
    [
        pytest.param("google_speech", Usage(audio_duration=MINUTE), 0.024, id="speech"),
        pytest.param("google_translate", Usage(characters=1000), 0.02, id="translate"),
        pytest.param("google_vision", Usage(pages=2), 0.003, id="vision"),
        pytest.param("google_search", Usage(searches=2), 0.003, id="search"),
        pytest.param("tesseract", Usage(pages=9), 0.0, id="tesseract"),
        pytest.param("ollama", CHAT, 0.0, id="ollama"),
        pytest.param("infinity", TEXT, 0.0, id="infinity"),
    ],
)
def test_services_that_are_no_language_models_have_prices(
    pricer: Pricer, provider: str, usage: Usage, usd: float
) -> None:
    assert _usd(pricer, usage, provider, "default") == usd


@pytest.mark.parametrize("kind", ["pricer", "without_genai_prices"])
@pytest.mark.parametrize(
    ("model", "tokens", "usd"),
    [
        pytest.param("gemini-1.5-flash", (128_000, 500), 0.00975, id="flash-at"),
        pytest.param("gemini-1.5-flash", (128_001, 500), 0.01950015, id="flash-past"),
        pytest.param("gemini-2.5-pro", (200_000, 1000), 0.26, id="pro-at"),
        pytest.param("gemini-2.5-pro", (200_001, 1000), 0.5150025, id="pro-past"),
    ],
)
def test_past_a_break_point_all_tokens_cost_more(
    request: pytest.FixtureRequest,
    kind: str,
    model: str,
    tokens: tuple[int, int],
    usd: float,
) -> None:
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1])
    assert _usd(request.getfixturevalue(kind), usage, "gcp.gemini", model) == usd


def test_a_call_has_the_price_of_its_day(pricer: Pricer) -> None:
    """o3 was made 80 % cheaper in June 2025."""
    then = pricer.price(CHAT, provider="openai", model="o3", at=_at(2025, 5, 10))
    now = pricer.price(CHAT, provider="openai", model="o3", at=_at(2026, 11, 21))
    assert then == (30_000_000, "genai-prices", "2025-05-10")
    assert now == (6_000_000, "genai-prices", "2026-11-21")


@pytest.mark.parametrize(
    ("hour", "minute", "nano"),
    [
        pytest.param(0, 29, 410_000, id="before"),
        pytest.param(0, 30, 820_000, id="begin"),
        pytest.param(16, 29, 820_000, id="end"),
        pytest.param(16, 30, 410_000, id="after"),
    ],
)
def test_a_call_has_the_price_of_its_hour(
    pricer: Pricer, hour: int, minute: int, nano: int
) -> None:
    """In August 2025 deepseek-chat was cheaper from 16:30 to 00:30 UTC."""
    # The other one first, so that a plan is there which holds no longer.
    times = (_at(2025, 8, 9, 10), _at(2025, 8, 9, 20), _at(2025, 8, 9, hour, minute))
    prices = [
        pricer.price(CHAT, provider="deepseek", model="deepseek-chat", at=at)
        for at in times
    ]
    assert [price and price.cost_nano_usd for price in prices] == [
        820_000,
        410_000,
        nano,
    ]


@pytest.mark.parametrize(
    ("tier", "nano"),
    [
        pytest.param(None, 6_250_000, id="unknown"),
        pytest.param("default", 6_250_000, id="default"),
        pytest.param("flex", 3_125_000, id="flex"),
        pytest.param("priority", 12_500_000, id="priority"),
        pytest.param("PRIORITY", 12_500_000, id="capitals"),
        pytest.param("batch", 3_125_000, id="batch"),
    ],
)
def test_a_service_tier_has_its_price(
    pricer: Pricer, tier: str | None, nano: int
) -> None:
    price = pricer.price(
        CHAT,
        provider="openai",
        model="gpt-5",
        service_tier=tier,
        at=_at(2026, 11, 21),
    )
    assert price is not None
    assert price.cost_nano_usd == nano


def test_a_batch_has_its_price(pricer: Pricer) -> None:
    price = pricer.price(
        CHAT, provider="openai", model="gpt-5", batch=True, at=_at(2026, 11, 21)
    )
    assert price is not None
    assert price.cost_nano_usd == 3_125_000
