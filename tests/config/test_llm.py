"""Prices, cost thresholds, budgets and stream usage, from settings to what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import llmevents
from llmevents import BudgetExceededError, Bus, ConfigError, configure, llm
from llmevents.config._llm import upper_bound
from llmevents.llm.budgets import Budget
from llmevents.llm.pricing import (
    CostThreshold,
    Pricer,
    default_pricer,
    set_default_pricer,
)
from llmevents.testing import capture


TINY = {"models": {"acme/tiny-1": {"input": 1, "output": 2}}}
"""Dollars for a million tokens."""

FILE = """
[prices.models."acme/tiny-1"]
input = 1
output = 2

[[cost_thresholds]]
usd = 0.001
scope = "call"

[budgets.daily]
limit = 0.01
window = "day"
"""


def _ask(bus: Bus, **metadata: object) -> None:
    with llm.chat(provider="acme", model="tiny-1", bus=bus, **metadata) as call:
        call.usage(input_tokens=1000, output_tokens=2000)


def test_a_file_sets_prices_thresholds_and_budgets() -> None:
    Path("llmevents.toml").write_text(FILE)
    bus = Bus(strict=True)
    names = ("llm.cost.threshold_exceeded", "llm.chat.stop")
    with (
        configure(bus=bus, logger=False) as telemetry,
        capture(*names, bus=bus) as seen,
    ):
        _ask(bus, max_tokens=2000, max_input_tokens=1000)
        _ask(bus, max_tokens=2000, max_input_tokens=1000)
        with pytest.raises(BudgetExceededError, match=r"'daily' has no room.*0\.005"):
            _ask(bus, max_tokens=2000, max_input_tokens=1000)
        (status,) = telemetry.budgets()
        assert (status.spent, status.reserved) == (10_000_000, 0)
    assert sorted(seen.names()) == ["llm.chat.stop"] * 2 + [names[0]] * 2
    stop = seen.named("llm.chat.stop")[0]
    assert stop.measurements["cost_nano_usd"] == 5_000_000
    assert stop.metadata["cost_source"] == "user"


def test_what_was_started_ends_with_shutdown() -> None:
    bus = Bus()
    former = default_pricer()
    telemetry = configure(
        bus=bus,
        logger=False,
        metrics=False,
        prices=TINY,
        budgets=[Budget("once", limit=1, unit="calls")],
        cost_thresholds=[CostThreshold(usd=1)],
    )
    assert default_pricer() is not former
    _ask(bus)
    with pytest.raises(BudgetExceededError):
        _ask(bus)
    telemetry.shutdown()
    assert default_pricer() is former
    assert not list(bus.list_handlers())
    _ask(bus)
    assert telemetry.budgets() != ()


def test_a_pricer_that_somebody_put_in_place_since_stays() -> None:
    former = default_pricer()
    telemetry = configure(bus=Bus(), logger=False, prices=Pricer(TINY["models"]))
    mine = Pricer()
    set_default_pricer(mine)
    telemetry.shutdown()
    assert default_pricer() is mine
    set_default_pricer(former)


def test_tables_of_several_sources_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("llmevents.toml").write_text(FILE)
    monkeypatch.setenv("LLMEVENTS_BUDGETS__DAILY__LIMIT", "0.02")
    monkeypatch.setenv("LLMEVENTS_PRICES__BUILT_IN", "false")
    with configure(bus=Bus(), logger=False) as telemetry:
        (status,) = telemetry.budgets()
        assert (status.limit, status.window) == (20_000_000, "day")
        settings = llmevents.get_config()
        assert settings["prices"].value["built_in"] is False  # type: ignore[index]  # it is a table


@pytest.mark.parametrize("key", ["BUILT_IN", "GENAI_PRICES"])
@pytest.mark.parametrize("text", ["no", "Off", "0", "false"])
def test_a_variable_turns_a_source_of_prices_off_as_any_setting(
    text: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LLMEVENTS_PRICES__{key}", text)
    with configure(bus=Bus(), logger=False):
        sources = {listed.source for listed in default_pricer().describe()}
    assert sources == (set() if key == "BUILT_IN" else {"builtin"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"prices": 3}, "prices to be a table.*got 3", id="prices"),
        pytest.param({"prices": {"modls": {}}}, "prices.*modls", id="price option"),
        pytest.param(
            {"prices": {"models": {"m": {"inptu": 1}}}}, "inptu", id="price unit"
        ),
        pytest.param(
            {"cost_thresholds": {"usd": 1}}, "cost_thresholds.*a list", id="thresholds"
        ),
        pytest.param({"cost_thresholds": [{"scope": "x"}]}, "with usd", id="threshold"),
        pytest.param({"budgets": 3}, "budgets to be a table", id="budgets"),
        pytest.param({"budgets": ["daily"]}, "each of budgets.*'daily'", id="budget"),
        pytest.param(
            {"budgets": {"daily": {"limitt": 1}}},
            "nearest: 'limit'",
            id="budget option",
        ),
        pytest.param(
            {"budgets": {"daily": {"limit": -1}}}, "budgets.daily.limit", id="limit"
        ),
        pytest.param(
            {"include_stream_usage": "maybe"},
            "include_stream_usage to be true or false",
            id="stream usage",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_source(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        configure(bus=Bus(), **settings)
    assert "keyword" in str(caught.value)


def test_streams_are_asked_for_usage_where_settings_say_so() -> None:
    from llmevents.instrumentation import wanted

    asked = {"instrument": ["openai"], "include_stream_usage": True}
    with configure(bus=Bus(), logger=False, **asked):  # type: ignore[arg-type]  # of two types
        assert wanted["openai"].include_stream_usage
    with configure(bus=Bus(), logger=False, instrument=["openai"]):
        assert not wanted["openai"].include_stream_usage


@pytest.mark.parametrize(
    ("declared", "bound"),
    [
        pytest.param(
            {"max_tokens": 1000, "max_input_tokens": 500}, 2_500_000, id="both"
        ),
        pytest.param({"max_tokens": 1000}, None, id="output alone"),
        pytest.param({"max_input_tokens": 1000}, None, id="input alone"),
        pytest.param(
            {"max_tokens": "many", "max_input_tokens": 1}, None, id="no number"
        ),
        pytest.param(
            {"max_tokens": 9, "max_input_tokens": 1, "model": "unknown-x"},
            None,
            id="no price",
        ),
        pytest.param(
            {"max_tokens": 9, "max_input_tokens": 1, "model": 3}, None, id="no model"
        ),
    ],
)
def test_the_bound_of_a_call_is_what_its_request_declares(
    declared: dict[str, object], bound: int | None
) -> None:
    with configure(bus=Bus(), logger=False, prices={**TINY, "built_in": False}):
        assert upper_bound({"provider": "acme", "model": "tiny-1", **declared}) == bound
