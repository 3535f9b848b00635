"""genai-prices as a source: its data as rate plans.

Written against genai-prices 0.2.3, by what its classes say of themselves: `ModelInfo.
get_prices` resolves dates, hours and the request's context, `TieredPrices` are cliffs
by the total input, and the registry of units says which count is part of which.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from llmevents.llm._windows import DAY, HOUR, SECOND, utc_datetime
from llmevents.llm.pricing._library import warn_of
from llmevents.llm.pricing._names import candidates
from llmevents.llm.pricing._plan import RatePlan
from llmevents.llm.pricing._sources import Listed, Query, all_day, show_prices
from llmevents.llm.pricing._units import Prices, Stepped


if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, Provider

UNITS: tuple[tuple[str, str, int], ...] = (
    ("input_mtok", "input_tokens", 1_000_000),
    ("output_mtok", "output_tokens", 1_000_000),
    ("cache_read_mtok", "cache_read_tokens", 1_000_000),
    ("cache_write_mtok", "cache_write_tokens", 1_000_000),
    ("cache_write_1h_mtok", "cache_write_1h_tokens", 1_000_000),
    ("input_tool_mtok", "tool_input_tokens", 1_000_000),
    ("input_audio_mtok", "audio_input_tokens", 1_000_000),
    ("input_image_mtok", "image_input_tokens", 1_000_000),
    ("output_reasoning_mtok", "reasoning_tokens", 1_000_000),
    ("output_audio_mtok", "audio_output_tokens", 1_000_000),
    ("output_image_mtok", "image_output_tokens", 1_000_000),
    ("input_mchars", "characters", 1_000_000),
    ("input_document_kpages", "pages", 1_000),
    ("audio_hours", "audio_duration", HOUR),
    ("input_audio_hours", "audio_duration", HOUR),
    ("output_audio_hours", "audio_duration", HOUR),
    ("web_searches_kcount", "searches", 1_000),
    ("rerank_searches_kcount", "searches", 1_000),
    ("requests_kcount", "requests", 1_000),
)
"""Key of a price there, unit here, and for how many the price is; the later wins."""

LEAST_AUDIO = {("groq", "whisper-large-v3"), ("groq", "whisper-large-v3-turbo")}
"""Models whose audio is billed as 10 seconds at least: genai-prices 0.2.3,
`ModelInfo.calc_price`."""

BLOCKED = ("google_", "google-", "google.", "gcp.", "azure-di")
"""Begin of providers that are services of their own, and no models of Google's or
Azure's. genai-prices takes any name that contains ``google`` for Gemini."""


class GenaiPrices:
    """The prices of one snapshot of genai-prices."""

    __slots__ = ("_has_warned", "_snapshot")

    def __init__(self, snapshot: DataSnapshot) -> None:
        self._snapshot = snapshot
        self._has_warned = False

    def find(self, query: Query) -> RatePlan | None:
        """Return the plan for a query, or None: it does not know the model.

        Never raises: another version of the library may have other classes.
        """
        try:
            return self._find(query)
        except Exception as error:  # noqa: BLE001  # code of a library that changes
            if not self._has_warned:
                self._has_warned = True
                warn_of(error)
            return None

    def _find(self, query: Query) -> RatePlan | None:
        found = self._look_up(query)
        if found is None:
            return None
        provider, model = found
        context = _context(query)
        if not any(model is own for own in provider.models):
            context = {}  # it is another provider's: as `ModelInfo.calc_price` has it
        prices = _prices(model.get_prices(utc_datetime(query.at), context))
        is_long = (provider.id, model.id) in LEAST_AUDIO
        return RatePlan(
            prices,
            "genai-prices",
            query.day.isoformat(),
            least_audio=10 * SECOND if is_long else 0,
        )

    def holds(self, query: Query) -> tuple[int, int]:
        """Return from when and until when prices are the same as those of a query.

        Days are not looked at: whoever asks begins anew with each day in UTC.
        """
        since, until = midnight, _ = all_day(query)
        found = self._look_up(query)
        for change in () if found is None else _changes(found[1], midnight):
            if change <= query.at:
                since = max(since, change)
            else:
                until = min(until, change)
        return since, until

    def describe(self) -> Iterator[Listed]:
        """Yield what the snapshot has, at today's prices."""
        from llmevents._clock import SYSTEM_CLOCK

        moment = utc_datetime(SYSTEM_CLOCK.time_ns())
        for provider in self._snapshot.providers:
            for model in provider.models:
                shown = show_prices(_prices(model.get_prices(moment, {})))
                yield Listed(
                    provider.id,
                    model.id,
                    shown,
                    "genai-prices",
                    moment.date().isoformat(),
                    next(iter(provider.pricing_urls or ()), ""),
                )

    def _look_up(self, query: Query) -> tuple[Provider, ModelInfo] | None:
        for provider, model in candidates(query.provider, query.model):
            if provider is not None and provider.startswith(BLOCKED):
                return None
            try:
                return self._snapshot.find_provider_model(model, None, provider, None)
            except LookupError:
                continue
        return None


def _context(query: Query) -> dict[str, str]:
    """Return what genai-prices selects variants by."""
    context = {}
    if query.tier is not None:
        context = {"service_tier": query.tier, "speed": query.tier}
    if query.batch:
        context["processing"] = "batch"
    return context


def _prices(given: ModelPrice) -> Prices:
    prices: dict[str, Stepped] = {}
    if all(value is None for value in vars(given).values()):
        # A model without any price is one that is free: OpenAI's moderation, Gemma.
        prices["requests"] = Stepped(Fraction(0))
    for key, unit, size in UNITS:
        value = getattr(given, key, None)
        if isinstance(value, Decimal):
            prices[unit] = Stepped(Fraction(value) / size)
        elif value is not None:
            steps = tuple(
                (tier.start, Fraction(tier.price) / size) for tier in value.tiers
            )
            prices[unit] = Stepped(Fraction(value.base) / size, steps)
    return prices


def _changes(model: ModelInfo, midnight: int) -> Iterator[int]:
    """Yield the moments of a day at which a model's price may change."""
    day = utc_datetime(midnight)
    constraints = [
        each.constraint
        for each in (*_conditional(model), *(model.price_variants or ()))
    ]
    for constraint in constraints:
        for name in ("start_time", "end_time"):
            moment = getattr(constraint, name, None)
            if moment is not None:
                zone = moment.tzinfo or timezone.utc
                there = datetime.combine(day.date(), moment, zone)
                since = (there - day) // timedelta(microseconds=1) * 1_000
                yield midnight + since % DAY


def _conditional(model: ModelInfo) -> list[ConditionalPrice]:
    return model.prices if isinstance(model.prices, list) else []
