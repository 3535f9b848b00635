"""What a call used, read from what the provider sent.

One record for every provider: input tokens are *all* input, cached included, and
output tokens all output, reasoning included; the other token counts are subsets. What
a response does not say is None here and absent from events, never 0.

>>> from llmevents.llm.usage import read_usage
>>> usage = read_usage({"usage": {"input_tokens": 5, "cache_read_input_tokens": 90}})
>>> usage.input_tokens, usage.cache_read_tokens, usage.output_tokens
(95, 90, None)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from llmevents._values import clean_number


__all__ = ["Usage", "read_usage"]


# Without slots: only so a reader can make one in a fraction of the time; see `made`.
@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one call used. Counts; None is unknown.

    Attributes:
        input_tokens: All input, cached included.
        output_tokens: All output, reasoning included.
        total_tokens: As stated, or else the sum of both if both are known.
        cache_read_tokens: Input read from the provider's cache.
        cache_write_tokens: Input written to it.
        cache_write_1h_tokens: Input written to it for an hour; part of the former.
        reasoning_tokens: Output that was reasoning.
        tool_input_tokens: Input that the provider's own tools have added.
        audio_input_tokens: Input that was audio.
        audio_output_tokens: Output that was audio.
        image_input_tokens: Input that was images.
        image_output_tokens: Output that was images.
        pages: Pages that were read.
        images: Images that were made, or embedded.
        searches: Searches that are billed.
        characters: Characters that are billed.
        audio_duration: Length of the audio that is billed, in nanoseconds.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    tool_input_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    pages: int | None = None
    images: int | None = None
    searches: int | None = None
    characters: int | None = None
    audio_duration: int | None = None

    def measurements(self) -> dict[str, int]:
        """Return what is known, by the names of the events' measurements."""
        known: dict[str, int] = {
            name: count for name, count in vars(self).items() if count is not None
        }
        if "total_tokens" not in known:
            entered, left = known.get("input_tokens"), known.get("output_tokens")
            if entered is not None and left is not None:
                known["total_tokens"] = entered + left
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


FIELDS: tuple[str, ...] = tuple(known.name for known in fields(Usage))
"""Every count that a usage may state."""


def made(known: Mapping[str, int]) -> Usage:
    """Return the usage of which *known* are the fields, all of them its own.

    The others stay the class's None. The constructor of a frozen class sets each of
    its fields on its own, which takes longer than reading most responses.
    """
    usage = object.__new__(Usage)
    vars(usage).update(known)
    return usage


def read_usage(source: object, *, shape: str | None = None) -> Usage | None:
    """Read what a response, or the parts of a streamed one, say about usage.

    Understands OpenAI (chat, completions, responses, embeddings, images, audio,
    realtime) and those who imitate it, Anthropic, Google (Gemini and Vertex), Bedrock
    (Converse, and the vendors' own bodies), Ollama, Mistral, Cohere, LangChain,
    LiteLLM, Azure Document Intelligence. Never raises for what it reads.

    Args:
        source: The SDK's object, the decoded JSON, a whole body as bytes (JSON, JSON
            lines, server-sent events, an AWS event stream), only the usage of these,
            or a list of the parts of a stream in their order: of each count the last
            one stated holds.
        shape: Read *source* as this and nothing else: ``"openai"``, ``"anthropic"``,
            ``"google"``, ``"bedrock"``, ... Its keys decide unless given.

    Returns:
        What it states, or None if it states nothing of the kind.

    Raises:
        OptionError: There is no such shape.
    """
    # Not above: it needs the record.
    from llmevents.llm._response import Reading

    reading = Reading(shape=shape)
    reading.read(source)
    return reading.usage


def as_count(value: object) -> int | None:
    """Return *value* as a count, or None where it is none: negative, a float, text."""
    number = clean_number(value)
    return number if isinstance(number, int) and number >= 0 else None
