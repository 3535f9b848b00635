"""What can have a price: the counts of `llmevents.llm.Usage`, and the request itself."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from llmevents.llm._windows import HOUR, SECOND


class Stepped(NamedTuple):
    """The price of one unit, by how long the input is.

    Past a step *all* units take its rate, as providers bill long contexts: Google
    "Gemini API pricing", Anthropic "Long context pricing".

    Attributes:
        base: US dollars for one unit.
        steps: (input tokens, rate beyond them), ascending.
    """

    base: Fraction
    steps: tuple[tuple[int, Fraction], ...] = ()

    def at(self, above: int) -> Fraction:
        """Return the rate of calls with more than *above* input tokens."""
        rate = self.base
        for start, price in self.steps:
            if above >= start:
                rate = price
        return rate


Prices: TypeAlias = Mapping[str, Stepped]
"""Unit -> price. A unit is a field of `llmevents.llm.Usage`, or ``"requests"``."""

TOKENS: Mapping[str, str] = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "tool_input": "tool_input_tokens",
    "audio_input": "audio_input_tokens",
    "image_input": "image_input_tokens",
    "reasoning": "reasoning_tokens",
    "audio_output": "audio_output_tokens",
    "image_output": "image_output_tokens",
}
"""Name in a price book -> unit; for so many tokens as its ``per`` says."""

PLAIN: tuple[str, ...] = (
    "pages",
    "images",
    "searches",
    "characters",
    "audio_duration",
    "requests",
)
"""Units that are part of no other."""

ALL_UNITS: tuple[str, ...] = (*TOKENS.values(), *PLAIN)


def _counted() -> dict[str, tuple[str, int]]:
    single = {
        "page": "pages",
        "image": "images",
        "search": "searches",
        "character": "characters",
        "request": "requests",
    }
    keys = {
        "per_second": ("audio_duration", SECOND),
        "per_minute": ("audio_duration", 60 * SECOND),
        "per_hour": ("audio_duration", HOUR),
    }
    for one, many in single.items():
        keys[f"per_{one}"] = (many, 1)
        keys[f"per_1k_{many}"] = (many, 1_000)
        keys[f"per_1m_{many}"] = (many, 1_000_000)
    return keys


COUNTED: Mapping[str, tuple[str, int]] = _counted()
"""Name in a price book -> unit, and for how many of them the price is."""
