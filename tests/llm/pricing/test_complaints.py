"""What users of other tools complain about: reference of issues, section "Cost"."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmevents.llm import Usage
from llmevents.llm.pricing import Pricer


SONNET = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}


@pytest.fixture(scope="module")
def pricer() -> Pricer:
    return Pricer(genai_prices=False)


def _nano(pricer: Pricer, provider: str | None, model: str, **used: int) -> int | None:
    price = pricer.price(Usage(**used), provider=provider, model=model)
    return None if price is None else price.cost_nano_usd


def test_13_cached_input_is_billed_once(pricer: Pricer) -> None:
    cost = _nano(
        pricer,
        "gcp.gemini",
        "gemini-2.5-pro",
        input_tokens=100_000,
        cache_read_tokens=90_000,
    )
    assert cost == 10_000 * 1_250 + 90_000 * 125


@pytest.mark.parametrize("provider", ["anthropic", "openai", "x_ai"])
def test_14_and_15_cache_writes_are_billed_once(provider: str) -> None:
    pricer = Pricer({"m": SONNET}, built_in=False)
    cost = _nano(
        pricer,
        provider,
        "m",
        input_tokens=15_000,
        cache_write_tokens=14_000,
        output_tokens=100,
    )
    assert cost == 1_000 * 3_000 + 14_000 * 3_750 + 100 * 15_000


def test_16_input_without_its_cached_part_does_not_make_costs_vanish() -> None:
    pricer = Pricer({"m": SONNET}, built_in=False)
    cost = _nano(pricer, "x", "m", input_tokens=10, cache_read_tokens=1_000)
    assert cost == 10 * 3_000 + 1_000 * 300


def test_17_and_18_cached_tokens_are_part_of_the_input_for_every_provider() -> None:
    """Usage is normalised before; prices know no provider's own way of counting."""
    pricer = Pricer({"m": SONNET}, built_in=False)
    used = {"input_tokens": 1_000, "cache_read_tokens": 400}
    costs = {
        _nano(pricer, provider, "m", **used) for provider in ("anthropic", "openai")
    }
    assert costs == {600 * 3_000 + 400 * 300}


def test_19_a_priority_call_is_priced_as_one() -> None:
    pytest.importorskip("genai_prices")
    pricer = Pricer()
    assert pricer.warm_up(wait=True)
    usage = Usage(input_tokens=1_000, output_tokens=500)
    costs = [
        pricer.price(usage, provider="openai", model="gpt-5", service_tier=tier)
        for tier in ("default", "priority")
    ]
    assert [price and price.cost_nano_usd for price in costs] == [6_250_000, 12_500_000]


def test_20_long_contexts_have_their_price(pricer: Pricer) -> None:
    model = "claude-sonnet-4-5"
    assert _nano(pricer, "anthropic", model, input_tokens=200_000) == 600_000_000
    assert _nano(pricer, "anthropic", model, input_tokens=200_001) == 1_200_006_000


def test_21_one_hour_cache_writes_have_their_price(pricer: Pricer) -> None:
    cost = _nano(
        pricer,
        "anthropic",
        "claude-sonnet-4-5-20250929",
        input_tokens=1_000,
        cache_write_tokens=1_000,
        cache_write_1h_tokens=400,
    )
    assert cost == 600 * 3_750 + 400 * 6_000


def test_22_an_answer_that_used_nothing_is_not_billed(pricer: Pricer) -> None:
    """A cache of your own makes no call, and a provider's answer states its usage."""
    assert _nano(pricer, "openai", "gpt-4o") is None
    assert _nano(pricer, "openai", "gpt-4o", input_tokens=0, output_tokens=0) == 0


def test_23_your_price_wins_and_built_in_ones_can_be_off() -> None:
    used = {"input_tokens": 1_000}
    own = {"openai/gpt-4o": {"input": 1}}
    assert _nano(Pricer(own), "openai", "gpt-4o", **used) == 1_000_000
    assert _nano(Pricer(own), "openai", "gpt-4o-2024-08-06", **used) == 1_000_000
    off = Pricer(own, built_in=False)
    assert _nano(off, "openai", "gpt-4", **used) is None


def test_23_your_price_of_a_deployment_beats_that_of_the_model_behind_it() -> None:
    pricer = Pricer({"azure/my-deployment": {"input": 1}}, genai_prices=False)
    price = pricer.price(
        Usage(input_tokens=1_000),
        provider="azure.ai.openai",
        model="my-deployment",
        response_model="gpt-4o",
    )
    assert price == (1_000_000, "user", None)


def test_24_pages_have_the_price_you_give_them() -> None:
    pricer = Pricer({"azure-di/prebuilt-read": {"per_page": 0.01}})
    assert _nano(pricer, "azure_di", "prebuilt-read", pages=5) == 50_000_000


def test_25_reranking_has_a_price(pricer: Pricer) -> None:
    assert _nano(pricer, "cohere", "rerank-v3.5", searches=3) == 6_000_000


@pytest.mark.parametrize("library", [True, False], ids=["genai-prices", "table"])
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("litellm", "openai/gpt-4o", id="gateway"),
        pytest.param("openrouter", "openai/gpt-4o", id="openrouter"),
        pytest.param("acme-gateway", "openai/gpt-4o-2024-08-06", id="unknown-gateway"),
        pytest.param(None, "openrouter/openai/gpt-4o", id="two-gateways"),
        pytest.param("openai", "openai/gpt-4o", id="itself"),
    ],
)
def test_26_names_with_a_gateways_prefix_have_a_price(
    library: bool, provider: str | None, model: str
) -> None:
    pricer = Pricer(genai_prices=library)
    pricer.warm_up(wait=True)
    cost = _nano(pricer, provider, model, input_tokens=1_000, output_tokens=500)
    assert cost == 7_500_000


def test_27_no_network_is_needed_and_none_is_used() -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from llmevents.llm import Usage\n"
        "from llmevents.llm.pricing import Pricer\n"
        "usage = Usage(input_tokens=1000, output_tokens=500)\n"
        "for library in (True, False):\n"
        "    pricer = Pricer(genai_prices=library)\n"
        "    pricer.warm_up(wait=True)\n"
        "    price = pricer.price(usage, provider='openai', model='gpt-4o')\n"
        "    print(price.cost_nano_usd)\n"
        "print('litellm' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["7500000", "7500000", "False"]


def test_28_the_cost_says_whose_price_it_is(pricer: Pricer) -> None:
    usage = Usage(pages=1)
    table = pricer.price(usage, provider="azure-di", model="prebuilt-read")
    assert table is not None
    assert (table.source, table.price_date) == ("builtin", "2026-11-21")
    stated = pricer.price(usage, provider="x", model="y", stated=5)
    assert stated == (5, "provider", None)
    both = pricer.price(usage, provider="x", model="y", stated=5, override=0)
    assert both == (0, "override", None)
