"""Reading responses: usage, and the facts that events state about a response."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from llmevents._errors import OptionError
from llmevents.llm import _forms, _shapes
from llmevents.llm._cost import gateway_cost
from llmevents.llm._facts import Facts
from llmevents.llm._fields import (
    Fields,
    dig,
    fields,
    first_text,
    look_up,
    private,
)
from llmevents.llm._gathered import HINTS, PLANS, Gathered
from llmevents.llm._raw import Plain
from llmevents.llm._recognition import recognise
from llmevents.llm._shape import Shape
from llmevents.llm._wire import decode, decode_chunk
from llmevents.llm.usage import Usage


METRICS = "amazon-bedrock-invocationMetrics"

LITELLM_COST = "x-litellm-response-cost"

DEEPEST = 6
"""Levels of parts within parts: a body of a list of events that wrap responses."""


class Reading(Facts):
    """What was read so far from the parts of one response.

    Args:
        texts: Texts that were embedded, if that is known already.
        complete: Whether everything that could state usage has been read.
        shape: The only shape of usage that is read; any unless given.

    Raises:
        OptionError: There is no such shape.
    """

    __slots__ = (
        "_costs",
        "_gateway_cost",
        "_gathered",
        "_has_inner_calls",
        "_is_old",
        "_usage",
        "complete",
    )

    def __init__(
        self,
        *,
        texts: int | None = None,
        complete: bool = True,
        shape: str | None = None,
    ) -> None:
        if shape is not None and shape not in HINTS:
            raise OptionError(shape, "shape", f"one of {', '.join(sorted(HINTS))}")
        super().__init__(texts)
        self.complete = complete
        self._gathered = Gathered(None if shape is None else HINTS[shape])
        self._usage: Usage | None = None
        self._is_old = self._has_inner_calls = False
        self._gateway_cost: int | None = None
        self._costs: list[int | None] | None = None

    @property
    def usage(self) -> Usage | None:
        """The usage stated; None while unknown. What is set replaces what was read."""
        if self._is_old:
            self._is_old = False
            self._usage = self._gathered.usage() or self._usage
        return self._usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self._usage = usage
        self._is_old = False
        self._gathered.clear()

    @property
    def service_tier(self) -> str | None:
        """The tier that served the request."""
        return self.facts.get("service_tier")

    @property
    def cost_nano_usd(self) -> int | None:
        """What the provider, or the gateway, says that it has cost; None if unknown.

        Of several requests it is the sum, if every one of them states it.
        """
        own = self._gateway_cost
        if own is None:
            own = self._gathered.cost
        if own is not None or not self._costs or None in self._costs:
            return own
        return sum(cost for cost in self._costs if cost is not None)

    @property
    def tool_calls(self) -> int:
        """How many calls of tools the response asks its caller for."""
        return len(self.calls)

    @property
    def tool_names(self) -> list[str]:
        """The names of the tools it asks for, one for each call."""
        return list(self.calls.values())

    @property
    def raw(self) -> list[Plain]:
        """The usage objects that were read, as the provider has put them."""
        return list(self._gathered.raw())

    def read(self, source: object) -> None:
        """Read one more part: a response, an event of a stream, embeddings, a body.

        Anything else leaves everything as it is.

        Args:
            source: The SDK's object, the decoded JSON, a whole body as bytes, or a
                list of parts.
        """
        if type(source) is dict:
            self._read_part(source, source, DEEPEST)
        else:
            self._read(source, DEEPEST)

    def read_headers(self, headers: Mapping[str, str]) -> None:
        """Read what the headers of a response state, where its body does not.

        Bedrock's token counts ("InvokeModel" in the API reference of its runtime), and
        what LiteLLM's proxy says that a call has cost.
        """
        lower: dict[str, str] = {}
        with suppress(Exception):  # a foreign mapping runs foreign code
            lower = {str(key).lower(): str(headers[key]) for key in headers}
        counts = {
            key: int(lower[key])
            for key in PLANS[_shapes.HEADERS.name].keys
            if lower.get(key, "").isdecimal() and lower[key].isascii()
        }
        self._fall_back(_shapes.HEADERS, counts)
        self._hide_cost(lower.get(LITELLM_COST))

    def add(self, inner: Reading) -> None:
        """Take over what a request within the same call has read.

        Usage, texts and costs add up; of the facts the latest stay.
        """
        used, own, cost = inner.usage, self.usage, inner.cost_nano_usd
        if used is not None or cost is not None:
            self._costs = [*(self._costs or ()), cost]
        if used is not None:
            self.usage = used if own is None else own + used
        self.complete = self.complete and inner.complete
        self.finish_reasons.update(inner.finish_reasons)
        self.facts.update(inner.facts)
        self._add_calls(inner)
        if inner.texts is not None:
            self.texts = inner.texts + (self.texts or 0)
        if inner.dimensions is not None:
            self.dimensions = inner.dimensions
        self._gathered.take_sources(inner._gathered)

    def vectors(self) -> dict[str, int]:
        """Return what is known of the vectors of an embedding, by measurement."""
        known = {"texts": self.texts, "dimensions": self.dimensions}
        return {key: value for key, value in known.items() if value is not None}

    def _read(self, source: object, depth: int) -> None:
        if depth == 0:
            return
        if isinstance(source, (bytes, bytearray, memoryview)):
            for part in decode(bytes(source)):
                self._read(part, depth - 1)
        elif isinstance(source, (list, tuple)):
            for part in source:
                self._read(part, depth - 1)
        else:
            part_fields = fields(source)
            if part_fields is not None:
                self._read_part(source, part_fields, depth)

    def _read_part(self, source: object, part: Fields, depth: int) -> None:
        form = recognise(part) or _forms.BARE
        if type(part) is dict:
            self._read_beside(source, part)
        if form is _forms.DATA and not isinstance(part.get("data"), list):
            self._read(part.get("data"), depth - 1)  # an event of Mistral's SDK
            return
        if form.inside:
            inside = dig(part, form.inside)
            # Only where a chunk says so is text, or are bytes, a part.
            if form.inside[-1] == "bytes":
                inside = decode_chunk(inside)
            self._read(inside, depth - 1)
            return
        response_id = first_text(part, form.id)
        if form is _forms.RESULT:
            self.read_facts(part, form, response_id, stated=True)
            if self._read_messages(look_up(part, "generations")):
                return
        stated = self._gathered.read(source, part, form, response_id)
        if stated or form.extra or form.one or form.vectors:
            self._is_old = True
        self.read_facts(part, form, response_id, stated=stated)
        if self._gathered.tier is not None:
            self.facts["service_tier"] = self._gathered.tier

    def _read_beside(self, source: object, part: Mapping[str, object]) -> None:
        """Read what gateways put beside the response."""
        if METRICS in part:
            self._fall_back(_shapes.INVOCATION_METRICS, part[METRICS])
        if "ResponseMetadata" in part:
            headers = dig(part, ("ResponseMetadata", "HTTPHeaders"))
            if isinstance(headers, Mapping):
                self.read_headers(headers)
        hidden = part.get("_hidden_params")
        if hidden is None and source is not part:
            hidden = private(source, "_hidden_params")
        if hidden is not None:
            self._hide_cost(look_up(hidden, "response_cost"))

    def _read_messages(self, prompts: object) -> bool:
        """Read the messages of LangChain's results; whether they state usage.

        There is a list of choices for each prompt, or only one such list. Each choice
        repeats the usage of them all, so that only the first of them counts.
        """
        if not isinstance(prompts, list) or not prompts:
            return False
        if not isinstance(prompts[0], list):
            prompts = [prompts]
        inner = self
        for choices in filter(lambda each: isinstance(each, list), prompts):
            if len(prompts) > 1:
                inner = Reading()
            for position, choice in enumerate(choices):
                message = look_up(choice, "message")
                if position == 0:
                    inner.read(message)
                else:
                    inner._read_choice(message, position, _forms.LANGCHAIN)
            if inner is not self:
                self.add(inner)
        return self.usage is not None

    def _add_calls(self, inner: Reading) -> None:
        """Add the calls of tools that a request within the same call was answered with.

        An outer layer has read the same answers: what it has seen of them by itself is
        left, and those without an id would count twice.
        """
        if not self._has_inner_calls and inner.calls:
            self.calls = {}
            self._has_inner_calls = True
        for key, name in inner.calls.items():
            self.called(key if isinstance(key, str) else None, name)

    def _fall_back(self, shape: Shape, source: object) -> None:
        self._gathered.fall_back(shape, source)
        self._is_old = True

    def _hide_cost(self, usd: object) -> None:
        cost = gateway_cost(usd)
        if cost is not None:
            self._gateway_cost = cost
