"""What LangChain's callbacks state about a run: whom it asks, what it used.

Facts are from langchain-core 1.7: ``LangSmithParams`` in
``language_models/chat_models.py``, ``UsageMetadata`` in ``messages/ai.py``, ``LLMResult``
in ``outputs/llm_result.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llmevents.instrumentation._asked import features
from llmevents.llm._fields import look_up
from llmevents.llm._response import Reading


if TYPE_CHECKING:
    from llmevents.instrumentation._calls import Facts
    from llmevents.llm.usage import Usage

PROVIDERS: Mapping[str, str] = {
    "amazon_bedrock": "aws.bedrock",
    "anthropic_bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azureai": "azure.ai.inference",
    "azureaichatcompletionsmodel": "azure.ai.inference",
    "azureopenai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "bedrockconverse": "aws.bedrock",
    "google_anthropic_vertex": "gcp.vertex_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "googlegenerativeai": "gcp.gemini",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""LangChain's ``ls_provider`` -> OpenTelemetry's name (GenAI conventions v1.41.0).

Names that are not here are the same in both, or OpenTelemetry has none.
"""

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "temperature": ("ls_temperature", "temperature"),
    "max_tokens": ("ls_max_tokens", "max_tokens", "max_completion_tokens"),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "seed": ("seed",),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
}
"""Metadata -> what LangChain calls it, in its own metadata or the model's parameters."""

FEATURES: Mapping[str, tuple[str, ...]] = {
    "tools": ("tools", "functions"),
    "structured_output": ("response_format", "ls_structured_output_format"),
}
"""Feature of a call -> the parameters that ask for it."""

MODEL = ("ls_model_name", "model", "model_name", "model_id", "deployment_name")

FINISH_REASON = ("finish_reason", "stop_reason", "done_reason", "stopReason")

OWN_IDS = ("run-", "lc_")
"""How ids begin that LangChain gives to messages without one."""


def facts_of(
    operation: str, metadata: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Facts:
    """Return the start event's metadata; no content is among it.

    Args:
        operation: OpenTelemetry's name of the operation.
        metadata: The run's; LangChain adds ``ls_provider`` and the like.
        parameters: What the model is going to be asked with.
    """
    facts: Facts = {"operation": operation}
    provider = metadata.get("ls_provider")
    if isinstance(provider, str) and provider:
        facts["provider"] = PROVIDERS.get(provider.lower(), provider)
    model = _text(metadata, MODEL[:1]) or _text(parameters, MODEL[1:])
    if model is not None:
        facts["model"] = model
    for key, names in PARAMETERS.items():
        value = _first((metadata, parameters), names)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            facts[key] = value
    return facts | features(_asked_for(parameters))


class Statements:
    """What the parts of one run's answer have said of usage so far.

    LangChain adds up the usage of streamed chunks, which inflates that of servers
    that repeat cumulative counts. Here the chunks are told apart: one that restates
    the input, with no less output, takes the place of the one before.
    """

    __slots__ = ("_before", "_is_streamed", "_latest")

    def __init__(self) -> None:
        self._before: Usage | None = None
        self._latest: Usage | None = None
        self._is_streamed = False

    @property
    def usage(self) -> Usage | None:
        """What was used, as LangChain says; None while unknown."""
        if self._before is None or self._latest is None:
            return self._latest
        return self._before + self._latest

    def read_chunk(self, message: object) -> None:
        """Read a chunk of a stream."""
        usage = _usage_of(message)
        if usage is None:
            return
        if self._latest is not None and not _restates(usage, self._latest):
            self._before = self.usage
        self._is_streamed = True
        self._latest = usage

    def read_result(
        self, lists: list[list[Any]], llm_output: object, read: Usage | None
    ) -> None:
        """Read the answers, unless their usage has been read from chunks.

        Args:
            lists: For each prompt its candidates.
            llm_output: What the provider said beside them.
            read: What has been read of them so far, which is all if there is one.
        """
        if self._is_streamed:
            return
        if sum(map(len, lists)) == 1:
            usage = read
        else:
            usage = _total(lists)
            if usage is None:
                usage = _usage_of({"llm_output": llm_output, "generations": []})
        if usage is not None:
            self._latest = usage


def candidates_in(generations: object) -> list[list[Any]]:
    """Return the candidates for each prompt; what is no list of them is left out."""
    if not isinstance(generations, list):
        return []
    return [each for each in generations if isinstance(each, list)]


def finish_reason(candidate: object) -> str | None:
    """Return why a candidate ended, as its message or the candidate itself says."""
    said = look_up(look_up(candidate, "message"), "response_metadata")
    info = look_up(candidate, "generation_info")
    return _text(said, FINISH_REASON) or _text(info, FINISH_REASON)


def was_cached(lists: list[list[Any]]) -> bool:
    """Whether an answer came from LangChain's cache.

    langchain-core puts a total cost of 0 into the usage of such an answer
    (``BaseChatModel._convert_cached_generations``, 0.3.86 and 1.7).
    """
    for candidates in lists:
        for candidate in candidates:
            usage = look_up(look_up(candidate, "message"), "usage_metadata")
            if isinstance(usage, Mapping) and usage.get("total_cost") == 0:
                return True
    return False


def is_filler(message: object) -> bool:
    """Whether LangChain has added a chunk by itself, to mark the end of a stream."""
    return (
        look_up(message, "chunk_position") == "last"
        and not look_up(message, "content")
        and not look_up(message, "usage_metadata")
        and not look_up(message, "response_metadata")
    )


def usage_metadata(usage: Usage) -> dict[str, Any]:
    """Return *usage* as LangChain's ``UsageMetadata``."""
    known = usage.measurements()
    totals = {
        key: known.get(key, 0)
        for key in ("input_tokens", "output_tokens", "total_tokens")
    }
    if "total_tokens" not in known:
        totals["total_tokens"] = totals["input_tokens"] + totals["output_tokens"]
    details = {
        name: {key: known[ours] for key, ours in keys.items() if ours in known}
        for name, keys in DETAILS.items()
    }
    return {**totals, **{name: each for name, each in details.items() if each}}


DETAILS: Mapping[str, Mapping[str, str]] = {
    "input_token_details": {
        "audio": "audio_input_tokens",
        "cache_creation": "cache_write_tokens",
        "cache_read": "cache_read_tokens",
    },
    "output_token_details": {
        "audio": "audio_output_tokens",
        "reasoning": "reasoning_tokens",
    },
}
"""Part of LangChain's ``UsageMetadata`` -> its keys, and the fields of `Usage`."""


def _usage_of(part: object) -> Usage | None:
    """Return the usage of a message: LangChain's own form of it, or the provider's."""
    reading = Reading()
    reading.read(part)
    return reading.usage


def _total(lists: list[list[Any]]) -> Usage | None:
    """Add up what the candidates used.

    Candidates of one prompt come from one response, whose usage most integrations
    put into each of them: the same usage counts once.
    """
    total: Usage | None = None
    for candidates in lists:
        different: list[Usage] = []
        for candidate in candidates:
            usage = _usage_of(look_up(candidate, "message"))
            if usage is not None and usage not in different:
                different.append(usage)
        for usage in different:
            total = usage if total is None else total + usage
    return total


def _restates(usage: Usage, before: Usage) -> bool:
    """Whether *usage* is a cumulative count that includes *before*."""
    return (usage.input_tokens or 0) >= (before.input_tokens or 0) > 0 and (
        usage.output_tokens or 0
    ) >= (before.output_tokens or 0)


def _asked_for(parameters: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for feature, names in FEATURES.items():
        yield feature, any(parameters.get(name) for name in names)


def _first(sources: tuple[Mapping[str, Any], ...], names: tuple[str, ...]) -> object:
    for name in names:
        for source in sources:
            if source.get(name) is not None:
                return source[name]
    return None


def _text(source: object, names: tuple[str, ...]) -> str | None:
    for name in names:
        value = look_up(source, name)
        if isinstance(value, str) and value:
            return value
    return None
