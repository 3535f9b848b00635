"""Rate plans: the prices of one model, compiled to integers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from llmevents.llm._money import NANO
from llmevents.llm.pricing._units import ALL_UNITS, PLAIN, Prices


if TYPE_CHECKING:
    from llmevents.llm.usage import Usage

CostSource: TypeAlias = Literal[
    "override", "provider", "user", "genai-prices", "litellm", "builtin"
]
"""Who stated a price."""

INPUT_PARTS: tuple[str, ...] = (
    "cache_read_tokens",
    "cache_write_tokens",
    "tool_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
)
"""Parts of the input. The first three are kinds, of which a token is one at most, and
the last two are modalities, of which it is one at most; it may be of both."""

OUTPUT_PARTS: tuple[str, ...] = (
    "reasoning_tokens",
    "audio_output_tokens",
    "image_output_tokens",
)

PARENTS: Mapping[str, str] = {
    **dict.fromkeys(INPUT_PARTS, "input_tokens"),
    **dict.fromkeys(OUTPUT_PARTS, "output_tokens"),
    "cache_write_1h_tokens": "cache_write_tokens",
}
"""Unit -> the unit it is part of, and priced as where it has no price of its own."""

COUNTS: tuple[str, ...] = tuple(unit for unit in ALL_UNITS if unit != "requests")


class Price(NamedTuple):
    """What a call cost.

    Attributes:
        cost_nano_usd: In nano-dollars.
        source: Who stated the price.
        price_date: The ISO day whose price it is, UTC. Of genai-prices, which knows
            former prices too, the day of the call; of the built-in table, the day
            its line was checked; of a price of your own, the day from which it
            holds; else None, unknown.
    """

    cost_nano_usd: int
    source: CostSource
    price_date: str | None


class _Level(NamedTuple):
    """Integer rates of one length of input; what a part costs *beyond* its whole.

    All are nano-dollars times `scale`, which makes them integers.
    """

    scale: int
    request: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    tool_input_tokens: int
    audio_input_tokens: int
    image_input_tokens: int
    reasoning_tokens: int
    audio_output_tokens: int
    image_output_tokens: int
    plain: tuple[tuple[str, int], ...]


class RatePlan:
    """The prices of one model for one kind of call, ready to be multiplied.

    All arithmetic is on integers, and exact. It is rounded once per call, at the
    end, half to even, to whole nano-dollars.

    Usage that contradicts itself is never priced as less than it may be, and no
    part of it is negative:

    - A part that is larger than its whole cannot be inside it, so that the whole was
      stated without it, as Anthropic does: both are billed.
    - Parts that overlap, cached audio for example, are billed once per token, at the
      dearer of the two rates.

    Args:
        prices: By unit.
        source: Who states them.
        date: The day whose prices they are.
        least_audio: The shortest audio that is billed, in nanoseconds.
    """

    __slots__ = (
        "_first",
        "_lacks",
        "_least_audio",
        "_levels",
        "_priced",
        "date",
        "source",
    )

    def __init__(
        self,
        prices: Prices,
        source: CostSource,
        date: str | None = None,
        *,
        least_audio: int = 0,
    ) -> None:
        self.source = source
        self.date = date
        self._priced = frozenset(prices)
        # Others' lists have no price for what costs nothing.
        self._lacks = _unpriced(prices) if source == "user" else ()
        self._least_audio = least_audio
        steps = sorted({start for price in prices.values() for start, _ in price.steps})
        self._first = _compile({unit: price.base for unit, price in prices.items()})
        self._levels = tuple(
            (start, _compile({unit: price.at(start) for unit, price in prices.items()}))
            for start in reversed(steps)
        )

    # A call or a loop for each part would take twice the time.
    def cost(self, usage: Usage) -> int | None:  # noqa: C901, PLR0912  # as above
        """Return what *usage* costs in nano-dollars.

        Returns:
            None if the plan prices nothing of what the usage states, or of input and
            output tokens only one, and both were used: it would be less than is due.
        """
        for unit in self._lacks:
            if getattr(usage, unit):
                return None
        whole = usage.input_tokens or 0
        output = usage.output_tokens or 0
        read = usage.cache_read_tokens or 0
        write = usage.cache_write_tokens or 0
        write_1h = usage.cache_write_1h_tokens or 0
        tool = usage.tool_input_tokens or 0
        audio = usage.audio_input_tokens or 0
        image = usage.image_input_tokens or 0
        reasoning = usage.reasoning_tokens or 0
        audio_output = usage.audio_output_tokens or 0
        image_output = usage.image_output_tokens or 0
        if (
            read + write + tool + audio + image > whole
            or reasoning + audio_output + image_output > output
            or write_1h > write
            or self._least_audio
        ):
            return self._cost_of_odd(usage)
        level = self._level(whole) if self._levels else self._first
        amount = (
            level.request + whole * level.input_tokens + output * level.output_tokens
        )
        if read:
            amount += read * level.cache_read_tokens
        if write:
            amount += write * level.cache_write_tokens
            amount += write_1h * level.cache_write_1h_tokens
        if tool:
            amount += tool * level.tool_input_tokens
        if audio:
            amount += audio * level.audio_input_tokens
        if image:
            amount += image * level.image_input_tokens
        if reasoning:
            amount += reasoning * level.reasoning_tokens
        if audio_output:
            amount += audio_output * level.audio_output_tokens
        if image_output:
            amount += image_output * level.image_output_tokens
        for unit, rate in level.plain:
            amount += (getattr(usage, unit) or 0) * rate
        if not amount:
            return self._cost_of_nothing(usage)
        return amount if level.scale == 1 else _rounded(amount, level.scale)

    def _level(self, input_tokens: int) -> _Level:
        """Return the rates of calls with so long an input."""
        for start, beyond in self._levels:
            if input_tokens > start:
                return beyond
        return self._first

    def _cost_of_nothing(self, usage: Usage) -> int | None:
        """Return 0 if what is priced is free or was not used, else None: unknown."""
        if "requests" in self._priced:
            return 0
        counts = settle(usage)
        if any(counts[unit] for unit in self._priced):
            return 0
        if any(counts.values()):
            return None
        is_stated = any(getattr(usage, unit) is not None for unit in self._priced)
        return 0 if is_stated else None

    def _cost_of_odd(self, usage: Usage) -> int | None:
        """Do as `cost` for any usage, consistent or not."""
        counts = settle(usage)
        if counts["audio_duration"]:
            counts["audio_duration"] = max(counts["audio_duration"], self._least_audio)
        level = self._level(counts["input_tokens"])
        amount = level.request
        for whole, parts in (
            ("input_tokens", INPUT_PARTS),
            ("output_tokens", OUTPUT_PARTS),
        ):
            amount += self._share_out(level, counts, whole, parts)
        amount += counts["cache_write_1h_tokens"] * level.cache_write_1h_tokens
        amount += sum(counts[unit] * rate for unit, rate in level.plain)
        if amount <= 0:
            return self._cost_of_nothing(usage)
        return _rounded(amount, level.scale)

    def _share_out(
        self, level: _Level, counts: dict[str, int], whole: str, parts: tuple[str, ...]
    ) -> int:
        """Return what a whole and its parts cost; the dearest part comes first."""
        left = counts[whole]
        amount = left * getattr(level, whole)
        priced = [part for part in parts if part in self._priced]
        priced.sort(key=lambda part: getattr(level, part), reverse=True)
        for part in priced:
            share = min(counts[part], left)
            left -= share
            amount += share * getattr(level, part)
        return int(amount)


def _unpriced(prices: Prices) -> tuple[str, ...]:
    """Return which of input and output has no price, where the other is not free."""
    priced = {PARENTS.get(unit, unit) for unit in prices}
    wholes = {"input_tokens", "output_tokens"}
    is_free = not any(price.base or price.steps for price in prices.values())
    return () if is_free or not wholes & priced else tuple(wholes - priced)


def settle(usage: Usage) -> dict[str, int]:
    """Return the counts of *usage* with wholes that contain their parts.

    A whole that is less than parts of it which exclude each other was stated
    without them; they are added to it.
    """
    counts: dict[str, int] = {unit: getattr(usage, unit) or 0 for unit in COUNTS}
    for whole, parts in (
        ("cache_write_tokens", ("cache_write_1h_tokens",)),
        ("input_tokens", INPUT_PARTS[:3]),
        ("input_tokens", INPUT_PARTS[3:]),
        ("output_tokens", OUTPUT_PARTS[:1]),
        ("output_tokens", OUTPUT_PARTS[1:]),
    ):
        together = sum(counts[part] for part in parts)
        if together > counts[whole]:
            counts[whole] += together
    return counts


def _compile(rates: Mapping[str, Fraction]) -> _Level:
    """Return the level of these rates, in US dollars per unit."""
    full = {**dict.fromkeys(ALL_UNITS, Fraction(0)), **rates}
    for unit in PARENTS:
        if unit not in rates:
            full[unit] = full[PARENTS[unit]]
    scale = lcm(*((rate * NANO).denominator for rate in full.values()))
    beyond = {
        unit: int((full[unit] - full.get(PARENTS.get(unit, ""), 0)) * NANO * scale)
        for unit in ALL_UNITS
    }
    plain = tuple(
        (unit, beyond.pop(unit)) for unit in PLAIN if unit in rates and unit in COUNTS
    )
    tokens = {unit: beyond[unit] for unit in _Level._fields if unit in beyond}
    return _Level(scale=scale, request=beyond["requests"], plain=plain, **tokens)


def _rounded(amount: int, scale: int) -> int:
    """Return ``amount / scale``, rounded half to even."""
    whole, rest = divmod(amount, scale)
    twice = 2 * rest
    if twice > scale or (twice == scale and whole & 1):
        return whole + 1
    return whole
