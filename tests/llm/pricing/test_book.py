from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest

from llmevents import LLMEventsError
from llmevents.llm import Usage
from llmevents.llm.pricing import Price, PriceBook, Pricer


CHAT = Usage(input_tokens=1000, output_tokens=500)


def _price(book: dict[str, object], provider: str | None, model: str) -> int | None:
    price = Pricer(book, built_in=False).price(CHAT, provider=provider, model=model)
    return None if price is None else price.cost_nano_usd


def _at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=timezone.utc).timestamp()) * 10**9  # type: ignore[arg-type, misc]  # year, month, day


@pytest.mark.parametrize(
    "price",
    [
        pytest.param(0.1, id="float"),
        pytest.param("0.1", id="text"),
        pytest.param(Decimal("0.10"), id="decimal"),
        pytest.param(Fraction(1, 10), id="fraction"),
    ],
)
def test_a_price_is_exactly_what_is_written(price: object) -> None:
    """A float of 0.1 is more than one tenth; what is meant is one tenth."""
    assert _price({"m": {"input": price, "output": 0, "per": 1}}, None, "m") == 10**11


def test_seeds_tables_are_taken_over_as_they_are() -> None:
    pricer = Pricer(built_in=False)
    pricer.add_price(None, "new-model", input=0.001, output=0.002, per=1000)
    pricer.add_price(None, "new-embedding-model", input=0.00005, per=1000)
    pricer.add_price("provider", "model", per_page=0.01)
    assert pricer.price(CHAT, provider="x", model="new-model") == (
        2_000_000,
        "user",
        None,
    )
    text = Usage(input_tokens=1000)
    assert pricer.price(text, provider=None, model="new-embedding-model") == (
        50_000,
        "user",
        None,
    )
    read = pricer.price(Usage(pages=5), provider="provider", model="model")
    assert read == Price(50_000_000, "user", None)


@pytest.mark.parametrize(
    ("key", "provider", "model"),
    [
        pytest.param("openai/gpt-4o", "openai", "gpt-4o", id="literal"),
        pytest.param("OpenAI/GPT-4o", "openai", "gpt-4o", id="case"),
        pytest.param("gpt-4o", "acme", "gpt-4o", id="any-provider"),
        pytest.param("gpt-4o", None, "gpt-4o", id="no-provider"),
        pytest.param("openai/gpt-4o", None, "gpt-4o", id="whoever-has-it"),
        pytest.param("openai/gpt-4o", "openai", "gpt-4o-2024-08-06", id="dated"),
        pytest.param("anthropic/claude-x", "anthropic", "claude-x@20250101", id="at"),
        pytest.param(
            "google/gemini-1.5-pro", "gcp.gemini", "gemini-1.5-pro-002", id="v"
        ),
        pytest.param(
            "google/g", "gcp.vertex_ai", "publishers/google/models/g", id="path"
        ),
        pytest.param("xai/grok", "x_ai", "grok", id="alias-in-the-book"),
        pytest.param("acme/*", "acme", "anything", id="all-of-a-provider"),
        pytest.param("openai/ft:gpt-4o", "openai", "ft:gpt-4o:acme::1", id="tuned"),
        pytest.param("openai/gpt-4o", "litellm", "openai/gpt-4o", id="gateway"),
        pytest.param("together/mistralai/m", "together_ai", "mistralai/m", id="host"),
        pytest.param("mistralai/m", "together", "mistralai/m", id="slash-in-the-name"),
    ],
)
def test_a_model_is_found_under_its_names(
    key: str, provider: str | None, model: str
) -> None:
    assert _price({key: {"input": 1, "output": 2}}, provider, model) == 2_000_000


@pytest.mark.parametrize(
    ("key", "provider", "model"),
    [
        pytest.param("openai/gpt-4o", "azure", "gpt-4o", id="other-provider"),
        pytest.param("openai/gpt-4o", "openai", "gpt-4o-mini", id="longer-name"),
        pytest.param("openai/gpt-4o", "openai", "ft:gpt-4o:acme::1", id="tuned"),
        pytest.param("mistral/m", "together", "mistralai/m", id="host"),
        pytest.param("acme/*", None, "anything", id="all-of-another"),
    ],
)
def test_another_model_is_not_taken_for_it(
    key: str, provider: str | None, model: str
) -> None:
    assert _price({key: {"input": 1, "output": 2}}, provider, model) is None


def test_the_most_literal_entry_wins() -> None:
    book: dict[str, object] = {
        "openai/*": {"input": 9, "output": 0},
        "gpt-4o": {"input": 8, "output": 0},
        "openai/gpt-4o": {"input": 7, "output": 0},
        "openai/gpt-4o-2024-08-06": {"input": 6, "output": 0},
    }
    names = ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4", "gpt-4o")
    costs = [_price(book, "openai", name) for name in names]
    assert costs == [6_000_000, 7_000_000, 9_000_000, 7_000_000]


def test_a_price_holds_from_its_first_day_until_its_end() -> None:
    book: dict[str, object] = {
        "m": [
            {"input": 1, "output": 0, "until": date(2025, 6, 10)},
            {"input": 2, "output": 0, "from": "2025-06-10", "until": "2025-07-01"},
            {
                "input": 3,
                "output": 0,
                "from": datetime(2025, 7, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            },
            {"input": 4, "output": 0, "from": datetime(2026, 1, 1)},  # noqa: DTZ001  # TOML has such
        ]
    }
    pricer = Pricer(book, built_in=False)
    days = [(2025, 6, 9), (2025, 6, 10), (2025, 7, 1), (2026, 2, 2)]
    prices = [
        pricer.price(CHAT, provider=None, model="m", at=_at(*day, 12)) for day in days
    ]
    assert prices == [
        (1_000_000, "user", None),
        (2_000_000, "user", "2025-06-10"),
        (3_000_000, "user", "2025-07-01"),
        (4_000_000, "user", "2026-01-01"),
    ]


def test_a_day_without_a_price_has_none() -> None:
    pricer = Pricer(
        {"m": {"input": 1, "output": 0, "from": "2025-06-10"}}, built_in=False
    )
    early, late = _at(2025, 6, 9), _at(2025, 6, 10)
    assert pricer.price(CHAT, provider=None, model="m", at=early) is None
    assert pricer.price(CHAT, provider=None, model="m", at=late) is not None


def test_service_tiers_say_what_differs() -> None:
    book = {
        "m": {
            "input": 2,
            "output": 4,
            "tiers": [{"above": 999, "input": 3}],
            "service_tiers": {
                "Flex": {"output": 1},
                "batch": {"input": 1, "tiers": [{"above": 500, "input": 1.5}]},
            },
        }
    }
    pricer = Pricer(book, built_in=False)

    def nano(tier: str | None, *, batch: bool = False) -> int:
        price = pricer.price(
            CHAT, provider=None, model="m", service_tier=tier, batch=batch
        )
        assert price is not None
        return price.cost_nano_usd

    assert nano(None) == nano("default") == 5_000_000
    assert nano("flex") == 3_500_000
    assert (
        nano("batch") == nano(None, batch=True) == nano("flex", batch=True) == 3_500_000
    )


def test_in_a_batch_without_a_price_of_its_own_the_tiers_holds() -> None:
    book = {"m": {"input": 2, "output": 0, "service_tiers": {"flex": {"input": 1}}}}
    pricer = Pricer(book, built_in=False)
    price = pricer.price(
        CHAT, provider=None, model="m", service_tier="flex", batch=True
    )
    assert price is not None
    assert price.cost_nano_usd == 1_000_000


def test_a_book_lists_its_prices() -> None:
    book = PriceBook(
        {
            "openai/m": [
                {"input": 2.5, "tiers": [{"above": 1000, "input": 5}]},
                {"per_page": "0.01", "per_second": 0.0001, "from": "2025-01-01"},
                {"service_tiers": {"flex": {"input": 1}}},
            ],
            "alone": {"per_1k_characters": 0.015, "per_image": 4},
        }
    )
    assert [line[:5] for line in book.describe()] == [
        ("", "alone", "1M characters 15, image 4", "user", None),
        ("openai", "m", "input 2.5/1M (above 1,000: 5)", "user", None),
        ("openai", "m", "page 0.01, minute 0.006", "user", "2025-01-01"),
        ("openai", "m", "as an ordinary call", "user", None),
    ]


@pytest.mark.parametrize(
    ("prices", "complaint"),
    [
        pytest.param(5, "a table, such as {input = 2.5", id="no-table"),
        pytest.param([], "a list of one table or more", id="no-tables"),
        pytest.param({}, "one price or more", id="empty"),
        pytest.param({"per": 1000}, "one price or more", id="no-price"),
        pytest.param({"inptu": 1}, "do you mean 'input'", id="misspelt"),
        pytest.param({"zzzzzz": 1}, "known: audio_input", id="unknown"),
        pytest.param({"input": -1}, "'m', input to be a number of US", id="negative"),
        pytest.param({"input": True}, "number of US dollars", id="bool"),
        pytest.param({"input": None}, "number of US dollars", id="none"),
        pytest.param({"input": "cheap"}, "number of US dollars", id="text"),
        pytest.param({"input": "1e999999"}, "number of US dollars", id="huge"),
        pytest.param({"input": "NaN"}, "number of US dollars", id="nan-text"),
        pytest.param({"input": float("inf")}, "number of US dollars", id="infinite"),
        pytest.param({"input": 1, "per": 0}, "per to be a number of tokens", id="per"),
        pytest.param({"input": 1, "per": True}, "per to be a number", id="per-bool"),
        pytest.param({"input": 1, "per": 1.5}, "per to be a number", id="per-float"),
        pytest.param({"per_page": 1, "per_1k_pages": 2}, "per_page prices", id="twice"),
        pytest.param({"input": 1, "tiers": {}}, "tiers to be a list", id="tiers"),
        pytest.param(
            {"input": 1, "tiers": [{"input": 2}]}, "above to be a number", id="above"
        ),
        pytest.param(
            {"input": 1, "tiers": [{"above": True, "input": 2}]},
            "above to be a number",
            id="above-bool",
        ),
        pytest.param(
            {"input": 1, "tiers": [{"above": -1, "input": 2}]},
            "above to be a number",
            id="above-negative",
        ),
        pytest.param(
            {"input": 1, "tiers": [{"above": 5}, {"above": 5}]},
            "each above another number",
            id="same-tier",
        ),
        pytest.param(
            {"input": 1, "tiers": [{"above": 5, "output": 2}]},
            "price what the table itself prices",
            id="tier-alone",
        ),
        pytest.param(
            {"input": 1, "service_tiers": []}, "a table of tables", id="service-tiers"
        ),
        pytest.param(
            {"input": 1, "service_tiers": {"flex": 1}},
            "service tier 'flex' to be a table",
            id="service-tier",
        ),
        pytest.param({"input": 1, "from": "soon"}, "a day such as", id="day"),
        pytest.param({"input": 1, "until": 20250101}, "a day such as", id="day-number"),
        pytest.param(
            {"input": 1, "from": "2025-06-10", "until": "2025-06-10"},
            "a day after 2025-06-10",
            id="empty-period",
        ),
    ],
)
def test_a_mistake_in_a_price_book_is_refused_with_its_place(
    prices: object, complaint: str
) -> None:
    with pytest.raises(LLMEventsError, match=re.escape(complaint)):
        PriceBook({"m": prices})


def test_a_mistake_in_one_of_several_tables_names_the_table() -> None:
    with pytest.raises(LLMEventsError, match=r"'m', table 2, input to be"):
        PriceBook({"m": [{"input": 1}, {"input": "x"}]})


@pytest.mark.parametrize("key", ["", " / ", 5], ids=["empty", "slash", "number"])
def test_a_price_without_a_model_is_refused(key: object) -> None:
    with pytest.raises(LLMEventsError, match="such as 'openai/gpt-4o'"):
        PriceBook({key: {"input": 1}})  # type: ignore[dict-item]  # the mistake
