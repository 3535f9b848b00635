"""What a call used, read from what the provider sent.

One record for every provider: input tokens are *all* input, cached included, and
output tokens all output, reasoning included; the other counts are subsets. What a
response does not say is None here and absent from events, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

from llmevents._values import clean_number


__all__ = ["Usage", "read_openai_usage"]

Shape: TypeAlias = Mapping[str, tuple[str, ...]]
"""Field of `Usage` -> where a provider's usage object has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call. Counts; None is unknown.

    Attributes:
        input_tokens: All input, cached included.
        output_tokens: All output, reasoning included.
        total_tokens: As stated, or else the sum of both if both are known.
        cache_read_tokens: Input read from the provider's cache.
        cache_write_tokens: Input written to it.
        reasoning_tokens: Output that was reasoning.
        audio_input_tokens: Input that was audio.
        audio_output_tokens: Output that was audio.
        image_input_tokens: Input that was images.
        image_output_tokens: Output that was images.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None

    def measurements(self) -> dict[str, int]:
        """Return what is known, by the names of the events' measurements."""
        known = self._known()
        if "total_tokens" not in known and {"input_tokens", "output_tokens"} <= set(
            known
        ):
            known["total_tokens"] = known["input_tokens"] + known["output_tokens"]
        return known

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of both, field by field; unknown adds nothing.

        The total of the sum is stated only where both are: beside a total of one
        of them it would be less than its parts.
        """
        mine, theirs = self.measurements(), other.measurements()
        sums = {
            key: mine.get(key, 0) + theirs.get(key, 0) for key in {**mine, **theirs}
        }
        if not ("total_tokens" in mine and "total_tokens" in theirs):
            sums.pop("total_tokens", None)
        return Usage(**sums)

    def _known(self) -> dict[str, int]:
        values = ((name, getattr(self, name)) for name in FIELDS)
        return {name: value for name, value in values if value is not None}


FIELDS: tuple[str, ...] = tuple(known.name for known in fields(Usage))
"""Every count that a usage may state."""

OPENAI: Shape = {
    "input_tokens": ("prompt_tokens",),
    "output_tokens": ("completion_tokens",),
    "total_tokens": ("total_tokens",),
    "cache_read_tokens": ("prompt_tokens_details", "cached_tokens"),
    "cache_write_tokens": ("prompt_tokens_details", "cache_write_tokens"),
    "audio_input_tokens": ("prompt_tokens_details", "audio_tokens"),
    "reasoning_tokens": ("completion_tokens_details", "reasoning_tokens"),
    "audio_output_tokens": ("completion_tokens_details", "audio_tokens"),
}
"""``usage`` of chat completions and embeddings, as openai 2.54's types have it.

Cached tokens are part of the prompt's and reasoning tokens part of the completion's,
so nothing needs to be added up.
"""


def read_openai_usage(usage: object) -> Usage | None:
    """Read the ``usage`` of a chat completion, its last chunk, or embeddings.

    Args:
        usage: The SDK's object or the decoded JSON.

    Returns:
        What it states, or None if it states no count at all.
    """
    return _read(usage, OPENAI)


def _read(usage: object, shape: Shape) -> Usage | None:
    found = {field: _count(usage, path) for field, path in shape.items()}
    if all(count is None for count in found.values()):
        return None
    return Usage(**found)


def _count(source: object, path: tuple[str, ...]) -> int | None:
    for key in path:
        source = look_up(source, key)
    return as_count(source)


def as_count(value: object) -> int | None:
    """Return *value* as a count, or None where it is none: negative, a float, text."""
    number = clean_number(value)
    return number if isinstance(number, int) and number >= 0 else None


def look_up(source: object, key: str) -> object:
    """Return an item of decoded JSON or an attribute of an SDK's object, or None."""
    if isinstance(source, Mapping):
        return source.get(key)
    return getattr(source, key, None)
