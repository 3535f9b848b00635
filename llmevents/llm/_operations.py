"""The operations as blocks and decorators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents._scope import Scope
from llmevents.llm._call import Call


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._types import Metadata


class CallScope(Scope[Call]):
    """A `Call` around a block or around each call of a function.

    Works like `llmevents.span`. What a decorated function returns, and each item
    that a decorated generator gives, is recorded as `Call.record` would. A function
    may return the stream of an instrumented SDK: the call then ends with the stream.
    """

    __slots__ = ()

    _span_type = Call
    _silent = Call.silent()


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

    Examples:
        >>> from llmevents import llm
        >>> from llmevents.testing import capture
        >>> with capture("llm.chat.stop") as events:
        ...     with llm.chat(provider="acme", model="tiny-1") as call:
        ...         call.usage(input_tokens=1000, output_tokens=500)
        >>> events[0].measurements["input_tokens"], events[0].metadata["model"]
        (1000, 'tiny-1')
    """
    return _scope(
        "llm.chat", bus, metadata, operation="chat", provider=provider, model=model
    )


def embedding(
    *,
    provider: str | None = None,
    model: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> CallScope:
    """Emit ``llm.embedding`` events around an embedding call; see `chat`."""
    return _scope(
        "llm.embedding",
        bus,
        metadata,
        operation="embeddings",
        provider=provider,
        model=model,
    )


def _scope(
    prefix: str, bus: Bus | None, metadata: Metadata, **named: str | None
) -> CallScope:
    known = {key: value for key, value in named.items() if value is not None}
    return CallScope(prefix, {**metadata, **known}, bus=bus)
