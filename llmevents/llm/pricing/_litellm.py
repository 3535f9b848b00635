"""LiteLLM's list of prices as a source: a JSON file, read without LiteLLM.

Keys as in ``model_prices_and_context_window.json`` of LiteLLM 1.106: all prices are US
dollars for one unit, ``..._above_200k_tokens`` is a cliff by the total input,
``..._above_1hr`` the price of cache that lives for an hour, and ``..._flex``,
``..._priority`` and ``..._batches`` those of service tiers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path

from llmevents._errors import OptionError
from llmevents.llm._money import to_usd
from llmevents.llm._windows import SECOND
from llmevents.llm.pricing._names import candidates, canonical, spellings
from llmevents.llm.pricing._plan import RatePlan
from llmevents.llm.pricing._sources import Listed, Query, all_day, show_prices
from llmevents.llm.pricing._units import Prices, Stepped


UNITS: tuple[tuple[str, str, int], ...] = (
    ("input_cost_per_token", "input_tokens", 1),
    ("output_cost_per_token", "output_tokens", 1),
    ("cache_read_input_token_cost", "cache_read_tokens", 1),
    ("cache_creation_input_token_cost", "cache_write_tokens", 1),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h_tokens", 1),
    ("input_cost_per_audio_token", "audio_input_tokens", 1),
    ("input_cost_per_image_token", "image_input_tokens", 1),
    ("output_cost_per_reasoning_token", "reasoning_tokens", 1),
    ("output_cost_per_audio_token", "audio_output_tokens", 1),
    ("output_cost_per_image_token", "image_output_tokens", 1),
    ("ocr_cost_per_page", "pages", 1),
    ("output_cost_per_second", "audio_duration", SECOND),
    ("input_cost_per_audio_per_second", "audio_duration", SECOND),
    ("input_cost_per_second", "audio_duration", SECOND),
    ("input_cost_per_character", "characters", 1),
    ("input_cost_per_image", "images", 1),
    ("output_cost_per_image", "images", 1),
    ("input_cost_per_query", "searches", 1),
    ("input_cost_per_request", "requests", 1),
)
"""Key there, unit here, and for how many the price is; the later wins, unless 0."""

TIERS = {"batch": ("batches", "batch"), "fast": ("fast", "priority")}
"""Service tier -> the ends of keys that may be meant by it, if not just its name."""

PREFIXES: Mapping[str, tuple[str, ...]] = {
    "aws": ("bedrock", "bedrock_converse"),
    "azure": ("azure", "azure_ai"),
    "azure-di": ("azure_ai/doc-intelligence",),
    "fireworks": ("fireworks_ai",),
    "google": ("gemini", "vertex_ai"),
    "moonshotai": ("moonshot",),
    "together": ("together_ai",),
    "voyageai": ("voyage",),
    "x-ai": ("xai",),
}
"""Provider -> what its models' names begin with, if that is not the provider."""

_STEP = re.compile(r"(.*?)_above_(\d+)k_tokens(_\w+)?")


class LiteLLMPrices:
    """The prices in LiteLLM's file.

    Args:
        path: The file.

    Raises:
        OptionError: It cannot be read, or is no such list.
    """

    __slots__ = ("_entries", "path")

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = fspath(path)
        self._entries = _read(self.path)

    def find(self, query: Query) -> RatePlan | None:
        """Return the plan for a query, or None: the file does not have the model."""
        for vendor, key in _keys(query.provider, query.model):
            entry = self._entries.get(key)
            if entry is not None and _is_of(entry, vendor, key):
                tier = "batch" if query.batch else query.tier
                prices = _prices(entry, tier)
                if prices:
                    return RatePlan(prices, "litellm")
        return None

    def holds(self, query: Query) -> tuple[int, int]:
        """Return the day of a query: prices change at midnight, in UTC."""
        return all_day(query)

    def describe(self) -> Iterator[Listed]:
        """Yield what the file has."""
        for key, entry in self._entries.items():
            prices = _prices(entry, None)
            if prices:
                provider = canonical(str(entry.get("litellm_provider", ""))) or ""
                reference = str(entry.get("source", ""))
                yield Listed(
                    provider, key, show_prices(prices), "litellm", None, reference
                )


def _read(path: str) -> dict[str, Mapping[str, object]]:
    expected = "a JSON file that can be read, as LiteLLM has it"
    try:
        # As text: a float would have digits that nobody wrote.
        entries = json.loads(Path(path).read_text(encoding="utf-8"), parse_float=str)
    except OSError as error:
        reason = f"{expected} ({error.strerror})"
        raise OptionError(path, "litellm_prices", reason) from None
    except ValueError as error:
        raise OptionError(path, "litellm_prices", f"{expected} ({error})") from None
    if not isinstance(entries, dict):
        raise OptionError(path, "litellm_prices", f"{expected}: an object by model")
    return {
        key.lower(): entry
        for key, entry in entries.items()
        if isinstance(entry, dict) and key != "sample_spec"
    }


def _keys(provider: str | None, model: str) -> Iterator[tuple[str | None, str]]:
    """Yield who may be meant by a model, and the file's key for it."""
    for vendor, name in candidates(provider, model):
        for spelling in spellings(name):
            if vendor is not None:
                for prefix in PREFIXES.get(vendor, (vendor,)):
                    yield vendor, f"{prefix}/{spelling}"
            yield vendor, spelling


def _is_of(entry: Mapping[str, object], provider: str | None, key: str) -> bool:
    """Return whether an entry is of a provider, and not of another's same model."""
    if provider is None or "/" in key:
        return True
    return canonical(str(entry.get("litellm_provider", ""))) == provider


def _prices(entry: Mapping[str, object], tier: str | None) -> Prices:
    ends = ["", *(f"_{end}" for end in TIERS.get(tier or "", (tier,) if tier else ()))]
    prices: dict[str, Stepped] = {}
    for key, unit, size in UNITS:
        base = None
        steps: dict[int, Fraction] = {}
        for end in ends:
            rate = _rate(entry, f"{key}{end}")
            if rate is not None:
                base = rate
                steps = {}  # a tier has long contexts of its own, or none
            steps.update(_steps(entry, key, end))
        if base is not None and (base or unit not in prices):
            by_start = sorted(steps.items())
            prices[unit] = Stepped(
                base / size, tuple((start, rate / size) for start, rate in by_start)
            )
    return prices


def _steps(entry: Mapping[str, object], key: str, end: str) -> dict[int, Fraction]:
    steps = {}
    for name in entry:
        found = _STEP.fullmatch(name)
        if found and found[1] == key and (found[3] or "") == end:
            rate = _rate(entry, name)
            if rate is not None:
                steps[int(found[2]) * 1_000] = rate
    return steps


def _rate(entry: Mapping[str, object], key: str) -> Fraction | None:
    value = entry.get(key)
    if value is None or isinstance(value, (dict, list)):
        return None
    try:
        return to_usd(value, key)
    except OptionError:
        return None
