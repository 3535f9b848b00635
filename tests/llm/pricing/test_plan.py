from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.llm import Usage
from llmevents.llm.pricing import PriceBook
from llmevents.llm.pricing._plan import COUNTS, RatePlan, settle
from llmevents.llm.pricing._sources import Query


ALL: dict[str, object] = {
    "input": 10,
    "output": 40,
    "cache_read": 1,
    "cache_write": 12.5,
    "cache_write_1h": 20,
    "tool_input": 8,
    "audio_input": 30,
    "image_input": 15,
    "reasoning": 50,
    "audio_output": 80,
    "image_output": 60,
    "per_1k_pages": 1.5,
    "per_image": 0.04,
    "per_1k_searches": 2,
    "per_1m_characters": 15,
    "per_minute": 0.006,
}

counts = st.dictionaries(
    st.sampled_from(COUNTS), st.integers(0, 10**7) | st.none(), max_size=8
)


def _plan(prices: dict[str, object]) -> RatePlan:
    plan = PriceBook({"m": prices}).find(Query(None, "m", None, batch=False, at=0))
    assert plan is not None
    return plan


def _nano(prices: dict[str, object], **used: int) -> int | None:
    return _plan(prices).cost(Usage(**used))


def test_a_part_is_taken_out_of_its_whole() -> None:
    """Each token is billed once, at the price of what it is."""
    cost = _nano(
        ALL,
        input_tokens=1000,
        cache_read_tokens=100,
        cache_write_tokens=200,
        cache_write_1h_tokens=50,
        tool_input_tokens=10,
        audio_input_tokens=20,
        image_input_tokens=30,
        output_tokens=500,
        reasoning_tokens=100,
        audio_output_tokens=50,
        image_output_tokens=25,
    )
    usd_a_million = (
        100 * 1 + 150 * 12.5 + 50 * 20 + 10 * 8 + 20 * 30 + 30 * 15 + 640 * 10
    ) + (100 * 50 + 50 * 80 + 25 * 60 + 325 * 40)
    assert cost == usd_a_million * 1000


def test_a_part_without_a_price_costs_what_its_whole_does() -> None:
    used = {"cache_write_tokens": 600, "cache_write_1h_tokens": 500}
    prices: dict[str, object] = {"input": 10, "output": 40}
    assert _nano(prices, input_tokens=1000, **used) == 10_000_000
    assert _nano({**prices, "cache_write": 5}, input_tokens=1000, **used) == 7_000_000


@pytest.mark.parametrize(
    ("used", "nano"),
    [
        pytest.param({"pages": 7}, 10_500_000, id="pages"),
        pytest.param({"images": 3}, 120_000_000, id="images"),
        pytest.param({"searches": 3}, 6_000_000, id="searches"),
        pytest.param({"characters": 11}, 165_000, id="characters"),
        pytest.param({"audio_duration": 90 * 10**9}, 9_000_000, id="audio"),
    ],
)
def test_units_that_are_no_tokens_have_prices(used: dict[str, int], nano: int) -> None:
    assert _nano(ALL, **used) == nano


def test_a_request_has_a_price_whatever_it_uses() -> None:
    assert _nano({"per_request": 0.005}) == 5_000_000
    assert _nano({"per_1k_requests": 5, "input": 1}, input_tokens=2) == 5_002_000


@pytest.mark.parametrize(
    ("used", "equal_to"),
    [
        pytest.param(
            {"input_tokens": 10, "cache_read_tokens": 1000},
            {"input_tokens": 1010, "cache_read_tokens": 1000},
            id="more-cached-than-input",
        ),
        pytest.param(
            {"input_tokens": 5, "cache_read_tokens": 4, "cache_write_tokens": 3},
            {"input_tokens": 12, "cache_read_tokens": 4, "cache_write_tokens": 3},
            id="kinds-together",
        ),
        pytest.param(
            {"output_tokens": 5, "reasoning_tokens": 100},
            {"output_tokens": 105, "reasoning_tokens": 100},
            id="reasoning-beside-output",
        ),
        pytest.param(
            {"input_tokens": 50, "cache_write_tokens": 4, "cache_write_1h_tokens": 9},
            {"input_tokens": 50, "cache_write_tokens": 13, "cache_write_1h_tokens": 9},
            id="hour-beside-writes",
        ),
        pytest.param(
            {"audio_input_tokens": 9},
            {"input_tokens": 9, "audio_input_tokens": 9},
            id="whole-unknown",
        ),
    ],
)
def test_a_part_that_exceeds_its_whole_is_billed_beside_it(
    used: dict[str, int], equal_to: dict[str, int]
) -> None:
    """What cannot be inside was stated apart; less would understate the bill."""
    assert _nano(ALL, **used) == _nano(ALL, **equal_to)


def test_parts_that_overlap_are_billed_once_at_the_dearer_rate() -> None:
    """Of 100 tokens 80 are cached and 90 audio, so that 70 are both: as audio."""
    cost = _nano(ALL, input_tokens=100, cache_read_tokens=80, audio_input_tokens=90)
    assert cost == (90 * 30 + 10 * 1) * 1000


def test_a_part_whose_price_is_unknown_overlaps_nothing() -> None:
    prices: dict[str, object] = {"input": 10, "cache_read": 1}
    cost = _nano(prices, input_tokens=100, cache_read_tokens=80, audio_input_tokens=90)
    assert cost == (20 * 10 + 80) * 1000


def test_a_long_input_selects_the_rate_of_all_tokens() -> None:
    prices: dict[str, object] = {
        "input": 1,
        "output": 4,
        "cache_read": 0.1,
        "tiers": [
            {"above": 200, "input": 3, "output": 8},
            {"above": 100, "input": 2, "cache_read": 0.2},
        ],
    }
    assert _nano(prices, input_tokens=100, output_tokens=1) == 104_000
    assert _nano(prices, input_tokens=101, output_tokens=1) == 206_000
    assert _nano(prices, input_tokens=201, output_tokens=1) == 611_000
    cached = {"input_tokens": 150, "cache_read_tokens": 150}
    assert _nano(prices, **cached) == 30_000
    # Stated apart, together they are as long.
    assert _nano(prices, input_tokens=50, cache_read_tokens=101) == 120_200


def test_what_has_no_price_is_unknown_and_never_0() -> None:
    assert _nano({"input": 1, "output": 2}, pages=5) is None
    assert _nano({"per_page": 1}, input_tokens=5, output_tokens=0) is None
    assert _nano({"input": 1}) is None


@pytest.mark.parametrize(
    ("prices", "lacks"),
    [
        pytest.param({"input": 1}, "output_tokens", id="input"),
        pytest.param({"output": 1, "per_page": 1}, "input_tokens", id="output"),
        pytest.param({"input": 1, "cache_read": 1}, "output_tokens", id="parts"),
    ],
)
def test_input_and_output_are_priced_together_or_not_at_all(
    prices: dict[str, object], lacks: str
) -> None:
    """Half of what is due looks like a price, and is none."""
    usage = {"input_tokens": 1_000, "output_tokens": 1_000, "pages": 1}
    assert _nano(prices, **usage) is None
    assert _nano(prices, **{**usage, lacks: 0}) is not None
    assert _nano(dict.fromkeys(prices, 0), **usage) == 0


def test_what_is_free_or_unused_costs_0() -> None:
    assert _nano({"input": 0, "output": 0}, input_tokens=5) == 0
    assert _nano({"input": 1}, input_tokens=0) == 0
    assert _nano({"per_request": 0}, pages=3) == 0
    assert (
        _nano({"input": 0, "output": 0}, input_tokens=0, reasoning_tokens=7) is not None
    )


def test_free_tokens_of_a_contradictory_usage_cost_0() -> None:
    assert _nano({"input": 0}, input_tokens=1, cache_read_tokens=7) == 0


@pytest.mark.parametrize(
    ("usd_a_million", "tokens", "nano"),
    [
        pytest.param("0.0005", 1, 0, id="half-to-even-0"),
        pytest.param("0.0005", 3, 2, id="half-to-even-2"),
        pytest.param("0.0005", 5, 2, id="half-to-even-again"),
        pytest.param("0.00051", 1, 1, id="more-than-half"),
        pytest.param("0.0012", 1, 1, id="less-than-half"),
    ],
)
def test_a_call_is_rounded_once_half_to_even(
    usd_a_million: str, tokens: int, nano: int
) -> None:
    assert _nano({"input": usd_a_million}, input_tokens=tokens) == nano


def test_a_million_calls_have_one_total_in_any_order() -> None:
    plan = _plan({"input": "0.0375", "output": "0.15"})
    calls = [
        plan.cost(Usage(input_tokens=tokens, output_tokens=tokens // 3)) or 0
        for tokens in range(1_000)
    ] * 1_000
    total = sum(calls)
    random.Random(7).shuffle(calls)  # noqa: S311  # an order, no secret
    assert sum(calls) == total
    assert sum(calls[::-1]) == total
    assert sum(sum(calls[start::13]) for start in range(13)) == total


@given(counts)
def test_the_cost_is_that_of_exact_fractions(used: dict[str, int | None]) -> None:
    """The plan's integers against the definition, for any usage."""
    usage = Usage(**used)
    cost = _plan(ALL).cost(usage)
    stated = settle(usage)
    if not any(stated.values()):
        assert cost in {0, None}
        return
    expected = _by_definition(stated)
    assert cost == round(expected)
    assert cost >= 0


@given(counts)
def test_more_tokens_never_cost_less(used: dict[str, int | None]) -> None:
    plan = _plan(ALL)
    whole = (used.get("input_tokens") or 0) + 1
    before = plan.cost(Usage(**{**used, "input_tokens": whole})) or 0
    parts = sum(used.get(part) or 0 for part in COUNTS if "input" in part)
    beyond = 10**9 + parts
    assert (plan.cost(Usage(**{**used, "input_tokens": beyond})) or 0) > before


def _by_definition(stated: dict[str, int]) -> Fraction:
    """Give each token one price, the dearest first where parts overlap."""
    total = Fraction(0)
    plans: dict[str, dict[str, Fraction | int]] = {
        "input_tokens": {
            "audio_input_tokens": 30,
            "image_input_tokens": 15,
            "cache_write_tokens": Fraction(25, 2),
            "tool_input_tokens": 8,
            "cache_read_tokens": 1,
        },
        "output_tokens": {
            "audio_output_tokens": 80,
            "image_output_tokens": 60,
            "reasoning_tokens": 50,
        },
    }
    base = {"input_tokens": 10, "output_tokens": 40}
    for whole, parts in plans.items():
        left = stated[whole]
        kinds = sum(stated[part] for part in parts)
        for part, rate in parts.items():
            share = stated[part] if kinds <= stated[whole] else min(stated[part], left)
            left -= share
            total += share * Fraction(rate) * 1000
        total += left * base[whole] * 1000
    total += stated["cache_write_1h_tokens"] * Fraction(15, 2) * 1000
    total += stated["pages"] * 1_500_000 + stated["images"] * 40_000_000
    total += stated["searches"] * 2_000_000 + stated["characters"] * 15_000
    return total + stated["audio_duration"] * Fraction(6_000_000, 60 * 10**9)
