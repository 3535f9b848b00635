"""Equality with genai-prices, to the nano-dollar."""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llmevents.llm import Usage
from llmevents.llm.pricing import Listed, Pricer
from llmevents.llm.pricing._builtin import LINES


genai_prices = pytest.importorskip("genai_prices")

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)

THEIRS = {
    "tool_input_tokens": "input_tool_tokens",
    "audio_input_tokens": "input_audio_tokens",
    "image_input_tokens": "input_image_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "audio_output_tokens": "output_audio_tokens",
    "image_output_tokens": "output_image_tokens",
    "pages": "input_document_pages",
    "searches": "web_searches",
    "characters": "input_characters",
}

SWEEP = int(os.environ.get("PRICE_SWEEP", "0"))
"""Usages of *every* model to compare, instead of one of a sample: 40 take a minute."""

TIERS = (None, None, "flex", "priority", "default", "fast", "batch")

LENGTHS = (0, 1, 999, 128_000, 128_001, 200_000, 200_001, 272_000, 272_001, 1_999_999)


@pytest.fixture(scope="module")
def pricer() -> Pricer:
    known = Pricer()
    assert known.warm_up(wait=True)
    return known


def _usage(chance: random.Random) -> dict[str, int]:
    """Return a consistent usage: no part exceeds what is left of its whole."""
    counts = {
        "input_tokens": chance.choice((*LENGTHS, chance.randrange(5_000))),
        "output_tokens": chance.choice((0, 1, chance.randrange(20_000))),
    }
    for whole, parts in (
        ("input", ("cache_read", "cache_write", "tool_input", "audio_input")),
        ("output", ("reasoning", "audio_output")),
    ):
        left = counts[f"{whole}_tokens"]
        for part in parts:
            if chance.random() < 0.4:
                counts[f"{part}_tokens"] = chance.randint(0, left)
                left -= counts[f"{part}_tokens"]
    if "cache_write_tokens" in counts and chance.random() < 0.6:
        counts["cache_write_1h_tokens"] = chance.randint(
            0, counts["cache_write_tokens"]
        )
    for unit, most in (("pages", 40), ("searches", 9), ("characters", 90_000)):
        if chance.random() < 0.3:
            counts[unit] = chance.randrange(most)
    if chance.random() < 0.4:
        counts["audio_duration"] = chance.randrange(10**13)
    return counts


def _theirs(
    counts: dict[str, int], provider: str, model: str, tier: str | None, at: datetime
) -> int:
    """Return what genai-prices says, in nano-dollars."""
    given: dict[str, int | Decimal] = {
        THEIRS.get(unit, unit): count
        for unit, count in counts.items()
        if unit != "audio_duration"
    }
    if "audio_duration" in counts:
        seconds = Decimal(counts["audio_duration"]) / 10**9
        given["audio_seconds"] = given["input_audio_seconds"] = seconds
    context = {} if tier is None else {"service_tier": tier, "speed": tier}
    if tier == "batch":
        context["processing"] = "batch"
    usd = genai_prices.calc_price(
        genai_prices.Usage(**given),
        model,
        provider_id=provider,
        genai_request_timestamp=at,
        price_context=context,
    ).total_price
    return int((usd * 10**9).to_integral_value(ROUND_HALF_EVEN))


def _models() -> list[tuple[Provider, ModelInfo]]:
    from genai_prices.data import providers

    return [(provider, model) for provider in providers for model in provider.models]


def test_prices_are_equal_to_those_of_genai_prices(pricer: Pricer) -> None:
    """A sample of models, usages, tiers and times; the same for every run."""
    chance = random.Random(20261121)  # noqa: S311  # a sample, no secret
    equal = nothing = 0
    models = _models() * SWEEP if SWEEP else chance.sample(_models(), 250)
    for provider, model in models:
        counts = _usage(chance)
        tier = chance.choice(TIERS)
        at = NOW - timedelta(seconds=chance.choice((0, chance.randrange(86400 * 900))))
        try:
            expected = _theirs(counts, provider.id, model.id, tier, at)
        except (LookupError, ValueError):
            continue  # an id that stands for several, or a usage that it refuses
        price = pricer.price(
            Usage(**counts),
            provider=provider.id,
            model=model.id,
            service_tier=tier,
            at=int(at.timestamp()) * 10**9,
        )
        if price is None or price.source != "genai-prices":
            # It says 0 where it prices nothing of what was used; we do not know.
            assert expected == 0
            nothing += 1
        else:
            assert price.cost_nano_usd == expected, (provider.id, model.id, counts)
            equal += 1
    assert equal > len(models) * 0.7
    assert nothing < len(models) * 0.16


@pytest.mark.parametrize(
    "provider",
    ["openai", "azure", "anthropic", "google", "groq", "mistral", "x-ai", "deepseek"],
)
def test_every_model_of_a_large_provider_is_priced_equally(
    pricer: Pricer, provider: str
) -> None:
    counts = {"input_tokens": 300_000, "output_tokens": 500, "cache_read_tokens": 7}
    for owner, model in _models():
        if owner.id != provider:
            continue
        try:
            expected = _theirs(counts, provider, model.id, None, NOW)
        except LookupError:
            continue  # an id that stands for several
        at = int(NOW.timestamp()) * 10**9
        price = pricer.price(Usage(**counts), provider=provider, model=model.id, at=at)
        if price is None:
            assert expected == 0, model.id
        else:
            assert price.cost_nano_usd == expected, model.id


def test_short_audio_is_billed_as_ten_seconds_at_groq(pricer: Pricer) -> None:
    model = "whisper-large-v3"
    for seconds in (0, 1, 10, 11):
        counts = {"audio_duration": seconds * 10**9}
        price = pricer.price(
            Usage(audio_duration=seconds * 10**9), provider="groq", model=model
        )
        assert price is not None
        assert price.cost_nano_usd == _theirs(counts, "groq", model, None, NOW)


def test_the_built_in_table_agrees_with_genai_prices(pricer: Pricer) -> None:
    """On an event loop it stands in for it until it is loaded."""
    table = Pricer(genai_prices=False)
    everything = Usage(input_tokens=150_000, output_tokens=500, cache_read_tokens=9_000)
    compared = 0
    for line in LINES:
        provider, _, model = line.key.partition("/")
        for usage in (everything, Usage(pages=7), Usage(audio_duration=10**11)):
            theirs = pricer.price(usage, provider=provider, model=model)
            ours = table.price(usage, provider=provider, model=model)
            if theirs is not None and theirs.source == "genai-prices":
                assert ours is not None
                assert ours.cost_nano_usd == theirs.cost_nano_usd, line.key
                compared += 1
    assert compared >= 25


def test_a_model_without_any_price_there_is_free(pricer: Pricer) -> None:
    price = pricer.price(
        Usage(input_tokens=9), provider="gcp.gemini", model="gemma-3-27b-it"
    )
    assert price is not None
    assert price[:2] == (0, "genai-prices")


@pytest.mark.parametrize("tier", [None, "flex", "priority", "batch"])
def test_another_providers_model_has_none_of_its_service_tiers(
    pricer: Pricer, tier: str | None
) -> None:
    """Azure runs OpenAI's models at OpenAI's price, without OpenAI's tiers."""
    price = pricer.price(
        Usage(input_tokens=1000),
        provider="azure.ai.openai",
        model="gpt-5.2",
        service_tier=tier,
        at=int(NOW.timestamp()) * 10**9,
    )
    assert price is not None
    counts = {"input_tokens": 1000}
    assert price.cost_nano_usd == _theirs(counts, "azure", "gpt-5.2", tier, NOW)


def test_services_of_google_are_not_taken_for_gemini(pricer: Pricer) -> None:
    """genai-prices matches any provider that contains ``google``."""
    usage = Usage(input_tokens=1000)
    for provider in ("google_speech", "google_maps", "gcp.unheard_of"):
        model = "gemini-2.5-pro"
        assert pricer.price(usage, provider=provider, model=model) is None


def test_new_data_takes_effect_at_once(pricer: Pricer) -> None:
    from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot
    from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider

    usage = Usage(input_tokens=1_000_000)
    before = pricer.price(usage, provider="openai", model="gpt-4o")
    renewed = ModelInfo(
        id="gpt-4o",
        match=ClauseEquals("gpt-4o"),
        prices=ModelPrice(input_mtok=Decimal(7)),
    )
    provider = Provider("openai", "OpenAI", "x", models=[renewed])
    set_custom_snapshot(DataSnapshot([provider], from_auto_update=True))
    try:
        after = pricer.price(usage, provider="openai", model="gpt-4o")
    finally:
        set_custom_snapshot(None)
    assert before is not None
    assert after is not None
    assert (before.cost_nano_usd, after.cost_nano_usd) == (2_500_000_000, 7_000_000_000)
    assert pricer.price(usage, provider="openai", model="gpt-4o") == before


def test_times_of_day_in_another_zone_and_past_midnight() -> None:
    from datetime import time

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import (
        ClauseEquals,
        ConditionalPrice,
        ModelInfo,
        ModelPrice,
        Provider,
        TimeOfDateConstraint,
    )

    from llmevents.llm.pricing._genai import GenaiPrices
    from llmevents.llm.pricing._sources import Query

    zone = timezone(timedelta(hours=8))
    night = TimeOfDateConstraint(time(6, 0, tzinfo=zone), time(2, 0))
    model = ModelInfo(
        id="m",
        match=ClauseEquals("m"),
        prices=[
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2))),
            ConditionalPrice(night, prices=ModelPrice(input_mtok=Decimal(1))),
        ],
    )
    provider = Provider("p", "P", "x", models=[model])
    source = GenaiPrices(DataSnapshot([provider], from_auto_update=False))

    def hours(hour: int) -> tuple[int, int]:
        at = int(datetime(2026, 1, 2, hour, tzinfo=timezone.utc).timestamp()) * 10**9
        query = Query("p", "m", None, batch=False, at=at)
        since, until = source.holds(query)
        return (since - at) // (3600 * 10**9) + hour, (until - at) // (
            3600 * 10**9
        ) + hour

    assert [hours(hour) for hour in (0, 2, 21, 22)] == [
        (0, 2),
        (2, 22),
        (2, 22),
        (22, 24),
    ]


def test_a_version_with_other_classes_is_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from genai_prices.data_snapshot import DataSnapshot

    from llmevents.llm.pricing._genai import GenaiPrices
    from llmevents.llm.pricing._sources import Query

    source = GenaiPrices(DataSnapshot([5], from_auto_update=False))  # type: ignore[list-item]  # another class
    query = Query("openai", "gpt-4o", None, batch=False, at=0)
    assert source.find(query) is None
    assert source.find(query) is None
    assert [record.getMessage() for record in caplog.records] == [
        "genai-prices cannot be used (AttributeError); other prices are used instead"
    ]


def test_all_models_are_listed(pricer: Pricer) -> None:
    listed = [line for line in pricer.describe() if line.source == "genai-prices"]
    assert len(listed) == len(_models())
    lines: dict[Any, Listed] = {(line.provider, line.model): line for line in listed}
    assert lines["openai", "gpt-4o"].prices.startswith("input 2.5/1M, output 10/1M")
    assert "(above 200,000: 2.5)" in lines["google", "gemini-2.5-pro"].prices
