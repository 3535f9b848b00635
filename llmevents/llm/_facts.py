"""What a response says beside its usage: why it ended, who answered, which tools."""

from __future__ import annotations

from llmevents.llm._fields import Fields, dig, fields, first_text
from llmevents.llm._forms import Form
from llmevents.llm._tools import tool_calls


BASE64_CHARACTERS = 16
"""Characters of base64, padding aside, for three 32-bit floats: 12 bytes of 8 bits
in characters of 6."""

NAMED = frozenset({"tool_calls", "function_call"})
"""Keys under which everything that has a name is a call of a tool."""

UNFINISHED = frozenset({"in_progress", "queued", "requires_action"})
"""Statuses that are no reasons why a response has ended."""


class Facts:
    """Facts of one response, gathered from its parts.

    Attributes:
        facts: Metadata: ``response_model``, ``response_id``, ``service_tier``.
        finish_reasons: By index of the choice.
        texts: Texts that were embedded; None while unknown.
        dimensions: Length of one vector; None while unknown.
        calls: Names of the tools that are called for, by the id of the call.
    """

    __slots__ = ("calls", "dimensions", "facts", "finish_reasons", "texts")

    def __init__(self, texts: int | None) -> None:
        self.finish_reasons: dict[int, str] = {}
        self.facts: dict[str, str] = {}
        self.texts = texts
        self.dimensions: int | None = None
        self.calls: dict[object, str] = {}

    def read_facts(
        self, part: Fields, form: Form, response_id: str | None, *, stated: bool
    ) -> None:
        """Take over the facts of *part*.

        Args:
            part: What was received.
            form: Of which form it is.
            response_id: Its id, if it has one.
            stated: Whether it states usage. Then it is a response for certain, and
                what it calls a model is one.
        """
        is_response = stated or form.certain
        items = part.get(form.items) if form.items else None
        if isinstance(items, list):
            is_response = True
            for position, item in enumerate(items):
                self._read_choice(item, position, form)
        elif form.reasons or form.calls:
            self._read_choice(part, 0, form)
        if form.vectors and self._read_vectors(dig(part, form.vectors), form):
            is_response = True
        if not is_response:
            return
        if response_id is not None:
            self.facts["response_id"] = response_id
        model = first_text(part, form.model)
        if model is not None:
            self.facts["response_model"] = model
        tier = first_text(part, form.tier)
        if tier is not None:
            self.facts["service_tier"] = tier

    def called(self, key: object, name: str) -> None:
        """Note that the response asks for a call of a tool.

        Args:
            key: What tells it from others. None is always another one.
            name: The tool's.
        """
        self.calls[len(self.calls) if key is None else key] = name

    def _read_choice(self, choice: object, position: int, form: Form) -> None:
        found = fields(choice)
        if found is None:
            return
        for place, keys in form.calls:
            if place:
                held = fields(
                    found.get(place) if type(place) is str else dig(found, place)
                )
                if held is None:
                    continue
            else:
                held = found
            for key in keys:
                blocks = held.get(key)
                if blocks:
                    self._read_calls(blocks, all_are=key in NAMED)
        reason = first_text(found, form.reasons)
        if reason is not None and reason not in UNFINISHED:
            index = found.get("index") if form.items else None
            at = index if type(index) is int else position
            self.finish_reasons[at] = reason

    def _read_calls(self, blocks: object, *, all_are: bool) -> None:
        for key, name in tool_calls(blocks, all_are=all_are):
            self.called(key, name)

    def _read_vectors(self, vectors: object, form: Form) -> bool:
        """Note how many embeddings there are; whether there may be any."""
        found = fields(vectors)
        if found is not None:
            # Cohere's second version has them by the type of their numbers.
            vectors = next(
                filter(None, map(found.get, ("float", "float_", "int8", "base64"))),
                None,
            )
        if not isinstance(vectors, (list, tuple)):
            return False
        first = vectors[0] if vectors else None
        if isinstance(first, (int, float)):
            self.texts, self.dimensions = 1, len(vectors)
            return True
        self.texts = len(vectors)
        vector = first
        if not isinstance(first, (str, list, tuple)):
            vector = dig(first, form.vector)
        if isinstance(vector, str):
            self.dimensions = len(vector.rstrip("=")) * 3 // BASE64_CHARACTERS
        elif isinstance(vector, (list, tuple)):
            self.dimensions = len(vector)
        return True
