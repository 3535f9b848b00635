"""The openai SDK, majors 2 and 3: every method that has a model make something.

What only looks at what was made, such as ``responses.retrieve``, which repeats usage
that was counted before, is left alone. So is a response that is made in the
background: it has no usage yet when it is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents.instrumentation import _http
from llmevents.instrumentation._asked import texts_in
from llmevents.instrumentation._calls import Method, no_texts, wrap, wrap_async
from llmevents.instrumentation._openai_facts import facts
from llmevents.instrumentation._patching import is_supported
from llmevents.instrumentation._streams import (
    SHOWN_WHOLE,
    RawResponseProxy,
    Streams,
    watch_stream,
)


if TYPE_CHECKING:
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches
    from llmevents.llm import Call

Parameters = Mapping[str, Any]

MAJORS = (2, 3)

RAW_HEADER = "X-Stainless-Raw-Response"
"""Request header by which the SDK asks itself for a raw response; never sent.

openai 3.54, ``_constants.py``; ``stream`` is that of ``with_streaming_response``.
"""


class _Operation(NamedTuple):
    """Methods of the SDK for one operation.

    Attributes:
        prefix: Of the events.
        operation: OpenTelemetry's name, or our own.
        module: Below ``openai.resources``; they are imported lazily by the SDK.
        name: Of the class; the asynchronous one's begins with ``Async``.
        methods: Those that send a request by themselves. Older versions lack some.
        streams: Whether streams state their usage on request only.
        used: ``used(parameters, response)``: what is used that no response states.
    """

    prefix: str
    operation: str
    module: str
    name: str
    methods: tuple[str, ...] = ("create",)
    streams: bool = False
    used: Callable[[Parameters, Any], dict[str, int]] | None = None


def _spoken(asked: Parameters, _response: Any) -> dict[str, int]:
    """Speech is billed by the character of its text, or by tokens that nobody states."""
    text = asked.get("input")
    return {"characters": len(text)} if isinstance(text, str) else {}


OPERATIONS = (
    # ``parse`` sends its request by itself; ``stream`` does so through ``create``.
    _Operation(
        "llm.chat",
        "chat",
        "chat.completions",
        "Completions",
        ("create", "parse"),
        streams=True,
    ),
    _Operation(
        "llm.chat", "chat", "responses", "Responses", ("create", "parse", "compact")
    ),
    _Operation(
        "llm.chat", "chat", "beta.responses", "Responses", ("create", "compact")
    ),
    _Operation(
        "llm.completion", "text_completion", "completions", "Completions", streams=True
    ),
    _Operation("llm.embedding", "embeddings", "embeddings", "Embeddings"),
    _Operation(
        "llm.image",
        "image",
        "images",
        "Images",
        ("generate", "edit", "create_variation"),
    ),
    _Operation(
        "llm.transcription", "transcription", "audio.transcriptions", "Transcriptions"
    ),
    _Operation("llm.translation", "translation", "audio.translations", "Translations"),
    _Operation("llm.speech", "speech", "audio.speech", "Speech", used=_spoken),
    _Operation("llm.moderation", "moderation", "moderations", "Moderations"),
)


def patch(openai: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap the SDK's methods; False, with a warning, for a version not supported."""
    if not is_supported("openai", openai.__version__, MAJORS):
        return False
    _http.patch(patches)
    for operation in OPERATIONS:
        sdk = _Sdk(operation, openai, include_usage=choice.include_stream_usage)
        method = Method(
            prefix=operation.prefix,
            facts=partial(facts, operation.operation),
            deliver=sdk.deliver,
            texts=texts_in("input")
            if operation.operation == "embeddings"
            else no_texts,
            sends=True,
            client=_client,
            prepare=sdk.prepare,
        )
        patches.when_imported(
            f"openai.resources.{operation.module}",
            partial(
                _wrap_all,
                patches,
                operation,
                {"": wrap(method, choice.bus), "Async": wrap_async(method, choice.bus)},
            ),
        )
    return True


def _wrap_all(
    patches: Patches,
    operation: _Operation,
    wrappers: Mapping[str, Any],
    module: ModuleType,
) -> None:
    for kind, wrapper in wrappers.items():
        owner = getattr(module, f"{kind}{operation.name}")
        for method in operation.methods:
            # The first one is what the resource is for.
            if method == operation.methods[0] or method in vars(owner):
                patches.wrap(owner, method, wrapper)


def _client(resource: Any) -> object:
    """Return the HTTP client that the SDK's client sends by."""
    return resource._client._client  # noqa: SLF001  # it has no other name


class _Sdk:
    """What is done to the parameters and the results of an operation's methods."""

    def __init__(
        self, operation: _Operation, openai: ModuleType, *, include_usage: bool
    ) -> None:
        self._streams: Streams = (openai.Stream, openai.AsyncStream)
        self._used = operation.used
        self._asks = include_usage and operation.streams

    def prepare(self, asked: Parameters) -> Parameters:
        """Return the parameters to send: those given, or a copy that asks for usage."""
        if not self._adds_usage(asked):
            return asked
        options = {**(asked.get("stream_options") or {}), "include_usage": True}
        return {**asked, "stream_options": options}

    def deliver(self, result: Any, call: Call, asked: Parameters) -> Any:
        """Return *result* for the caller, and end the call now or when it is read."""
        shown = (_shown, _shown_later) if self._adds_usage(asked) else SHOWN_WHOLE
        watch = partial(watch_stream, streams=self._streams, shown=shown)
        watched = watch(result, call)
        if watched is not None:
            return watched
        if self._used is not None:
            call.usage(**self._used(asked, result))
        # Asked of the type: a provider may put any field into its responses.
        if not hasattr(type(result), "http_request"):
            call.record(result)
        elif asked.get("stream") is True or hasattr(result, "close"):
            return RawResponseProxy(result, call, watch)
        else:
            # Not with parse(): it may fail, and is the caller's to call.
            call.record(result.http_response.content)
        call.stop()
        return result

    def _adds_usage(self, asked: Parameters) -> bool:
        """Whether a stream is asked for its usage by us, and not by the caller."""
        if not self._asks or asked.get("stream") is not True:
            return False
        options = asked.get("stream_options")
        if isinstance(options, dict) and "include_usage" in options:
            return False
        further = asked.get("extra_body")
        if isinstance(further, Mapping) and "stream_options" in further:
            return False
        # Who reads the body by hand would come across what we have asked for.
        headers = asked.get("extra_headers")
        return not (
            isinstance(headers, Mapping) and headers.get(RAW_HEADER) == "stream"
        )


def _shown(stream: Any, call: Call) -> Iterator[Any]:
    """Yield the chunks of *stream* but for the one that is there for its usage."""
    for chunk in stream:
        if not _is_usage_alone(chunk, call):
            yield chunk


async def _shown_later(stream: Any, call: Call) -> AsyncIterator[Any]:
    async for chunk in stream:
        if not _is_usage_alone(chunk, call):
            yield chunk


def _is_usage_alone(chunk: Any, call: Call) -> bool:
    is_alone = chunk.usage is not None and not chunk.choices
    if is_alone:
        call.record(chunk)
    return is_alone
