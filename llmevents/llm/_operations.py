"""The inference operations as blocks and decorators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents._context import current_span
from llmevents._scope import Scope
from llmevents.llm._call import Call


if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmevents._bus import Bus
    from llmevents._types import Metadata

OPERATIONS: Mapping[str, tuple[str, str]] = {
    "chat": ("llm.chat", "chat"),
    "completion": ("llm.completion", "text_completion"),
    "embedding": ("llm.embedding", "embeddings"),
    "ocr": ("llm.ocr", "ocr"),
    "transcription": ("llm.transcription", "transcription"),
    "speech": ("llm.speech", "speech"),
    "translation": ("llm.translation", "translation"),
    "image": ("llm.image", "image"),
    "rerank": ("llm.rerank", "rerank"),
    "search": ("llm.search", "search"),
    "moderation": ("llm.moderation", "moderation"),
}
"""Name of an operation here -> prefix of its events, and its metadata ``operation``.

The latter is OpenTelemetry's ``gen_ai.operation.name`` where there is one (GenAI
semantic conventions v1.41.0), and our own otherwise.
"""


class CallScope(Scope[Call]):
    """A `Call` around a block or around each call of a function.

    Works like `llmevents.span`. What a decorated function returns, and each item
    that a decorated generator gives, is recorded as `Call.record` would. A function
    may return the stream of an instrumented SDK: the call then ends with the stream.
    """

    __slots__ = ()

    _span_type = Call
    _silent = Call.silent()

    def __enter__(self) -> Call:
        # Within a call somebody may listen to that one, to which this one belongs.
        around = current_span.get()
        if self._span is None and around is not None and around.call is not None:
            return self._enter()
        return super().__enter__()


def chat(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.chat`` events around a chat call that no instrumented SDK makes.

    Args:
        provider: OpenTelemetry's name of the provider, ``"openai"``,
            ``"mistral_ai"``; any other text for others.
        model: The model that is asked for.
        bus: The default bus unless given.
        metadata: Further metadata, such as ``use_case`` or ``temperature``.

    Returns:
        A block and a decorator. As a block it gives a `Call`.

    Raises:
        BudgetExceededError: On entry, if a budget has no room for the call.

    Examples:
        >>> from llmevents import llm
        >>> from llmevents.testing import capture
        >>> with capture("llm.chat.stop") as events:
        ...     with llm.chat(provider="acme", model="tiny-1") as call:
        ...         call.usage(input_tokens=1000, output_tokens=500)
        >>> events[0].measurements["input_tokens"], events[0].metadata["model"]
        (1000, 'tiny-1')
    """
    return scope("chat", provider, model, bus, metadata)


def completion(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.completion`` events: text that goes on from a prompt; see `chat`."""
    return scope("completion", provider, model, bus, metadata)


def embedding(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.embedding`` events around an embedding call; see `chat`."""
    return scope("embedding", provider, model, bus, metadata)


def ocr(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.ocr`` events; state ``call.usage(pages=3)``; see `chat`."""
    return scope("ocr", provider, model, bus, metadata)


def transcription(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.transcription`` events: speech to text; see `chat`.

    State the length with ``call.usage(audio_duration=...)``, in nanoseconds.
    """
    return scope("transcription", provider, model, bus, metadata)


def speech(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.speech`` events: text to speech; see `chat`.

    State what it was made of with ``call.usage(characters=...)``.
    """
    return scope("speech", provider, model, bus, metadata)


def translation(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.translation`` events, of text or audio; see `chat`."""
    return scope("translation", provider, model, bus, metadata)


def image(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.image`` events; state ``call.usage(images=1)``; see `chat`."""
    return scope("image", provider, model, bus, metadata)


def rerank(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.rerank`` events; state ``call.usage(searches=1)``; see `chat`."""
    return scope("rerank", provider, model, bus, metadata)


def search(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.search`` events; state ``call.usage(searches=1)``; see `chat`."""
    return scope("search", provider, model, bus, metadata)


def moderation(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.moderation`` events around a check of content; see `chat`."""
    return scope("moderation", provider, model, bus, metadata)


def scope(
    name: str,
    provider: str | None,
    model: str | None,
    bus: Bus | None,
    metadata: Metadata,
) -> CallScope:
    """Return the block of the operation called *name*."""
    prefix, operation = OPERATIONS[name]
    return CallScope(prefix, described(operation, provider, model, metadata), bus=bus)


def described(
    operation: str, provider: str | None, model: str | None, metadata: Metadata
) -> dict[str, object]:
    """Return the metadata of a start event; what is None is not known."""
    named = {"operation": operation, "provider": provider, "model": model}
    known = {key: value for key, value in named.items() if value is not None}
    return {**metadata, **known}
