"""Reading responses: usage, and the facts that events state about a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llmevents.llm.usage import Usage, look_up, read_openai_usage


FACTS: Mapping[str, str] = {
    "model": "response_model",
    "id": "response_id",
    "service_tier": "service_tier",
}
"""Field of a response -> metadata of its event."""

BASE64_CHARACTERS = 16
"""Characters of base64, padding aside, for three 32-bit floats: 12 bytes of 8 bits
in characters of 6."""


@dataclass(slots=True)
class Reading:
    """What was read so far from the parts of one response.

    Attributes:
        usage: The last one stated; None while unknown.
        complete: Whether everything that could state usage has been read.
        finish_reasons: By index of the choice.
        facts: Metadata.
        texts: Texts that were embedded; None while unknown.
        dimensions: Length of one vector; None while unknown.
    """

    usage: Usage | None = None
    complete: bool = True
    finish_reasons: dict[int, str] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    texts: int | None = None
    dimensions: int | None = None

    def read(self, response: object) -> None:
        """Read one more part: a response, a chunk of a stream, or embeddings.

        Anything else leaves everything as it is.
        """
        choices = look_up(response, "choices")
        data = look_up(response, "data")
        usage = _stated(response, choices)
        if isinstance(choices, list):
            self._read_choices(choices)
        elif isinstance(data, list):
            self._read_vectors(data)
        elif usage is None:
            return
        if usage is not None:
            self.usage = usage
        for key, fact in FACTS.items():
            value = look_up(response, key)
            if isinstance(value, str) and value:
                self.facts[fact] = value

    def add(self, inner: Reading) -> None:
        """Take over what a request within the same call has read.

        Usage and texts add up; of the facts the latest stay.
        """
        if inner.usage is not None:
            self.usage = inner.usage if self.usage is None else self.usage + inner.usage
        self.complete = self.complete and inner.complete
        self.finish_reasons.update(inner.finish_reasons)
        self.facts.update(inner.facts)
        if inner.texts is not None:
            self.texts = inner.texts + (self.texts or 0)
        if inner.dimensions is not None:
            self.dimensions = inner.dimensions

    def vectors(self) -> dict[str, int]:
        """Return what is known of the vectors of an embedding, by measurement."""
        known = {"texts": self.texts, "dimensions": self.dimensions}
        return {key: value for key, value in known.items() if value is not None}

    def _read_choices(self, choices: list[object]) -> None:
        for position, choice in enumerate(choices):
            reason = look_up(choice, "finish_reason")
            index = look_up(choice, "index")
            if isinstance(reason, str):
                self.finish_reasons[index if isinstance(index, int) else position] = (
                    reason
                )

    def _read_vectors(self, data: list[object]) -> None:
        self.texts = len(data)
        vector = look_up(data[0], "embedding") if data else None
        if isinstance(vector, str):
            self.dimensions = len(vector.rstrip("=")) * 3 // BASE64_CHARACTERS
        elif isinstance(vector, list):
            self.dimensions = len(vector)


def _stated(response: object, choices: object) -> Usage | None:
    """Return the first usage that *response* states in one of the usual places."""
    for place in _places(response, choices):
        usage = read_openai_usage(look_up(place, "usage"))
        if usage is not None:
            return usage
    return None


def _places(response: object, choices: object) -> Iterator[object]:
    """Where compatible servers put ``usage``, OpenAI's own place first."""
    yield response
    if isinstance(choices, list):
        yield from choices[:1]
    yield look_up(response, "x_groq")  # Groq's streams
