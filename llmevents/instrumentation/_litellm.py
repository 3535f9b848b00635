"""LiteLLM 1.x: its functions and its router."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents.instrumentation import _http
from llmevents.instrumentation._asked import NUMBERS, features, numbers, texts_in
from llmevents.instrumentation._calls import (
    Facts,
    Method,
    Parameters,
    no_texts,
    wrap,
    wrap_async,
)
from llmevents.instrumentation._patching import is_supported
from llmevents.instrumentation._streams import Proxy
from llmevents.llm._litellm import named


if TYPE_CHECKING:
    from llmevents._stream import ObservedAsyncIterator, ObservedIterator
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches
    from llmevents.llm import Call

MAJORS = (1,)


class _Operation(NamedTuple):
    """One operation: a function, its coroutine twin, and what their events are."""

    prefix: str
    operation: str
    functions: tuple[str, str]
    positional: tuple[str, ...] = ("model",)
    texts: Callable[[Parameters], int | None] = no_texts


OPERATIONS = (
    _Operation("llm.chat", "chat", ("completion", "acompletion")),
    _Operation(
        "llm.chat", "chat", ("responses", "aresponses"), positional=("input", "model")
    ),
    _Operation(
        "llm.completion",
        "text_completion",
        ("text_completion", "atext_completion"),
        positional=("prompt", "model"),
    ),
    _Operation(
        "llm.embedding",
        "embeddings",
        ("embedding", "aembedding"),
        positional=("model", "input"),
        texts=texts_in("input"),
    ),
    _Operation(
        "llm.image",
        "image",
        ("image_generation", "aimage_generation"),
        positional=("prompt", "model"),
    ),
    _Operation(
        "llm.image", "image", ("image_edit", "aimage_edit"), positional=("image",)
    ),
    _Operation(
        "llm.transcription", "transcription", ("transcription", "atranscription")
    ),
    _Operation("llm.speech", "speech", ("speech", "aspeech")),
    _Operation("llm.rerank", "rerank", ("rerank", "arerank")),
    _Operation(
        "llm.moderation",
        "moderation",
        ("moderation", "amoderation"),
        positional=("input", "model"),
    ),
    _Operation("llm.ocr", "ocr", ("ocr", "aocr")),
    _Operation("llm.search", "search", ("search", "asearch"), positional=("query",)),
)
"""As of LiteLLM 1.106. A function that a version lacks is left out."""


def patch(litellm: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap LiteLLM's functions; False, with a warning, for a version not supported.

    Only where users get them from. LiteLLM's own modules keep theirs: its coroutine
    functions run the plain ones, which would be a second call.
    """
    from importlib.metadata import version

    if not is_supported("litellm", version("litellm"), MAJORS):
        return False
    router = litellm.Router
    for operation in OPERATIONS:
        for owner, facts in (
            (litellm, partial(_facts, litellm, operation)),
            # A router's models are names of its own; who is asked its calls say.
            (router, partial(_routed, operation)),
        ):
            for name, make, deliver in zip(
                operation.functions,
                (wrap, wrap_async),
                (_deliver, _deliver_async),
                strict=True,
            ):
                if name in vars(owner):
                    method = Method(
                        operation.prefix,
                        facts,
                        deliver=deliver,
                        failed=_failed,
                        texts=operation.texts,
                        positional=operation.positional,
                        sends=True,
                    )
                    patches.wrap(owner, name, make(method, choice.bus))
    _http.patch(patches)
    return True


def _facts(
    litellm: ModuleType, operation: _Operation, _instance: object, asked: Parameters
) -> Facts:
    """Return the start event's metadata; no content is among it."""
    facts = _routed(operation, None, asked)
    provider, model = _whom(litellm, asked)
    if provider is not None:
        facts["provider"] = named(provider)
    if model is not None:
        facts["model"] = model
    return facts


def _routed(operation: _Operation, _instance: object, asked: Parameters) -> Facts:
    """Return what does not depend on who is asked."""
    facts: Facts = {"operation": operation.operation}
    if isinstance(asked.get("model"), str):
        facts["model"] = asked["model"]
    if asked.get("stream") is True:
        facts["stream"] = True
    choices = asked.get("n")
    if isinstance(choices, int) and choices != 1 and operation.prefix == "llm.chat":
        facts["choice_count"] = choices
    asked_for = ((name, asked.get(key)) for name, key in FEATURES.items())
    return facts | numbers(asked, NUMBERS) | features(asked_for)


FEATURES: Mapping[str, str] = {
    "tools": "tools",
    "structured_output": "response_format",
    "search_grounding": "web_search_options",
}
"""Feature of a call -> the parameter that asks for it."""


def _whom(litellm: ModuleType, asked: Parameters) -> tuple[str | None, str | None]:
    """Return LiteLLM's name of the provider, and the model without it.

    As LiteLLM finds them (``get_llm_provider``): as given, by the prefix of the model,
    or by its table of models. That function itself prints where it finds nothing.
    """
    model = asked.get("model") or asked.get("search_provider")
    given = asked.get("custom_llm_provider")
    if not isinstance(model, str):
        return (given if isinstance(given, str) else None), None
    prefix, slash, rest = model.partition("/")
    if isinstance(given, str) and given:
        return given, rest if slash and prefix == given else model
    if slash and prefix in _known(litellm):
        return prefix, rest
    priced = litellm.model_cost.get(model)
    provider = priced.get("litellm_provider") if isinstance(priced, dict) else None
    return (provider if isinstance(provider, str) else None), model


def _known(litellm: ModuleType) -> frozenset[str]:
    """Return the names of all providers; users may add to LiteLLM's own list."""
    return frozenset(
        str(getattr(each, "value", each)) for each in litellm.provider_list
    )


def _failed(error: BaseException, call: Call, _facts: Facts) -> None:
    """Take who was asked from an error, which LiteLLM has put there."""
    _asks(call, getattr(error, "llm_provider", None))


def _deliver(result: Any, call: Call, _asked: Parameters) -> Any:
    """Return *result* for the caller, and end the call now or when it is read."""
    if isinstance(result, Iterator):
        _asks(call, getattr(result, "custom_llm_provider", None))
        return LiteLLMStream(result, call)
    hidden = getattr(result, "_hidden_params", None)
    if isinstance(hidden, Mapping):
        _asks(call, hidden.get("custom_llm_provider"))
        if hidden.get("cache_hit") is True:
            call.cached()
    call.record(result)
    call.stop()
    return result


def _deliver_async(result: Any, call: Call, asked: Parameters) -> Any:
    """Do the same for what a coroutine function has returned."""
    if isinstance(result, AsyncIterator):
        _asks(call, getattr(result, "custom_llm_provider", None))
        return LiteLLMStream(result, call)
    return _deliver(result, call, asked)


def _asks(call: Call, provider: object) -> None:
    if isinstance(provider, str) and provider:
        call.annotate(provider=named(provider))


class LiteLLMStream(Proxy):
    """A stream of chunks. LiteLLM's are read with ``for`` or with ``async for``."""

    __slots__ = ("_self_chunks",)

    def __init__(self, stream: Any, call: Call) -> None:
        super().__init__(stream)
        self._self_chunks: Any = call.observe(stream)

    def __iter__(self) -> ObservedIterator[object]:
        # What cannot be read so raises as LiteLLM's own does.
        _ = self._self_sdks.__iter__
        chunks: ObservedIterator[object] = self._self_chunks
        return chunks

    def __next__(self) -> object:
        return next(self._self_chunks)

    def __aiter__(self) -> ObservedAsyncIterator[object]:
        _ = self._self_sdks.__aiter__
        chunks: ObservedAsyncIterator[object] = self._self_chunks
        return chunks

    async def __anext__(self) -> object:
        return await anext(self._self_chunks)

    @property
    def aclose(self) -> Callable[[], Any]:
        """Close as LiteLLM does, then end the call.

        Raises:
            AttributeError: This kind of stream cannot be closed.
        """
        return partial(self._self_close, self._self_sdks.aclose)

    async def _self_close(self, close: Callable[[], Any]) -> Any:
        try:
            return await close()
        finally:
            self._self_chunks._ended()  # noqa: SLF001  # its aclose() would close generators
