"""The cohere SDK, majors 5 (from 5.16 on) to 7: both versions of its API.

The raw clients are wrapped, through which every client goes, and which
``with_raw_response`` gives; a client keeps its own methods from when it was made. What
streams is wrapped twice, as a stream sends nothing until its first step, but belongs to
where it is asked for.

The client of version 1 embeds many texts in several requests in threads of its own.
Each is a call of its own then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents.instrumentation import _http
from llmevents.instrumentation._asked import NUMBERS, features, numbers, text, texts_in
from llmevents.instrumentation._calls import (
    Facts,
    Method,
    Parameters,
    Request,
    no_texts,
    nobody_listens,
    wrap,
    wrap_async,
)
from llmevents.instrumentation._generators import (
    AsyncGeneratorProxy,
    GeneratorProxy,
    wrap_lazy,
)
from llmevents.instrumentation._http import NO_CLIENT, attribute
from llmevents.instrumentation._patching import is_supported
from llmevents.instrumentation._streams import Proxy


if TYPE_CHECKING:
    from types import ModuleType

    from llmevents._bus import Bus
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches, Wrapper
    from llmevents.llm import Call

MAJORS = (5, 6, 7)

PARAMETERS = {**NUMBERS, "p": "top_p", "k": "top_k"}


class _Operation(NamedTuple):
    """A method that answers at once."""

    prefix: str
    operation: str
    name: str


CHAT = _Operation("llm.chat", "chat", "chat")
COMPLETION = _Operation("llm.completion", "text_completion", "generate")
EMBED = _Operation("llm.embedding", "embeddings", "embed")
RERANK = _Operation("llm.rerank", "rerank", "rerank")
PARSE = _Operation("llm.ocr", "ocr", "parse")
CLASSIFY = _Operation("llm.moderation", "classification", "classify")
SUMMARIZE = _Operation("llm.completion", "text_completion", "summarize")
TRANSCRIBE = _Operation("llm.transcription", "transcription", "create")


class _Client(NamedTuple):
    """What a client of the SDK is called, and what it does.

    Attributes:
        module: Of the client; the raw one is in the module in `raw`.
        name: The class; ``Async`` goes before that of the asynchronous one.
        raw: Module of the raw client.
        raw_name: Its class.
        operations: Methods that answer at once.
        streams: Operations that have a method ``chat_stream`` beside ``chat``.
    """

    module: str
    name: str
    raw: str
    raw_name: str
    operations: tuple[_Operation, ...]
    streams: tuple[_Operation, ...] = ()


CLIENTS = (
    _Client(
        "v2.client",
        "V2Client",
        "v2.raw_client",
        "RawV2Client",
        (CHAT, EMBED, RERANK, PARSE),
        (CHAT,),
    ),
    _Client(
        "base_client",
        "BaseCohere",
        "raw_base_client",
        "RawBaseCohere",
        (CHAT, COMPLETION, EMBED, RERANK, CLASSIFY, SUMMARIZE),
        (CHAT, COMPLETION),
    ),
    _Client(
        "audio.transcriptions.client",
        "TranscriptionsClient",
        "audio.transcriptions.raw_client",
        "RawTranscriptionsClient",
        (TRANSCRIBE,),
    ),
)


def patch(cohere: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap the SDK's methods; False, with a warning, for a version not supported."""
    if not is_supported("cohere", cohere.__version__, MAJORS):
        return False
    if find_spec(f"{cohere.__name__}.raw_base_client") is None:
        msg = "it has no raw clients; install cohere 5.16 or later"
        raise ImportError(msg)
    _http.patch(patches)
    for client in CLIENTS:
        given = client, choice.bus, patches
        patches.when_imported(
            f"{cohere.__name__}.{client.raw}", partial(_patch_raw, *given)
        )
        patches.when_imported(
            f"{cohere.__name__}.{client.module}", partial(_patch_streams, *given)
        )
    return True


def _patch_raw(client: _Client, bus: Bus, patches: Patches, module: ModuleType) -> None:
    raw = getattr(module, client.raw_name)
    raw_async = getattr(module, f"Async{client.raw_name}")
    for operation in client.operations:
        # Not every version has every operation.
        if operation.name in vars(raw):
            method = _method(operation, is_stream=False)
            patches.wrap(raw, operation.name, wrap(method, bus))
            patches.wrap(raw_async, operation.name, wrap_async(method, bus))
    for operation in client.streams:
        method = _method(operation, is_stream=True)
        name = f"{operation.name}_stream"
        patches.wrap(raw, name, _wrap_opening(method, bus, _SyncOpening))
        patches.wrap(raw_async, name, _wrap_opening(method, bus, _AsyncOpening))


def _patch_streams(
    client: _Client, bus: Bus, patches: Patches, module: ModuleType
) -> None:
    for operation in client.streams:
        method = _method(operation, is_stream=True, sends_within=True)
        for owner in (client.name, f"Async{client.name}"):
            name = f"{operation.name}_stream"
            patches.wrap(
                getattr(module, owner), name, wrap_lazy(method, bus, reads=False)
            )


def _method(
    operation: _Operation, *, is_stream: bool, sends_within: bool = False
) -> Method:
    """Return the operation as a method.

    Args:
        operation: What it does.
        is_stream: Whether its answer is streamed.
        sends_within: Whether what sends is wrapped too, as a call within this one.
    """
    return Method(
        prefix=operation.prefix,
        facts=partial(_facts, operation.operation, is_stream),
        deliver=_deliver,
        texts=texts_in("texts") if operation is EMBED else no_texts,
        sends=True,
        client=(lambda _client: NO_CLIENT) if sends_within else _http_client,
    )


def _http_client(raw: Any) -> object:
    return raw._client_wrapper.httpx_client.httpx_client  # noqa: SLF001  # it has no other name


def _facts(
    operation: str,
    is_stream: bool,  # noqa: FBT001  # bound by partial()
    _client: Any,
    asked: Parameters,
) -> Facts:
    """Return the start event's metadata; no content is among it."""
    facts: Facts = {"operation": operation, "provider": "cohere"}
    model = text(asked, "model")
    if model is not None:
        facts["model"] = model
    if is_stream:
        facts["stream"] = True
    form = asked.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else attribute(form, "type")
    tools = asked.get("tools")
    return (
        facts
        | numbers(asked, PARAMETERS)
        | features(
            (
                ("tools", isinstance(tools, (list, tuple)) and tools),
                ("structured_output", kind == "json_object"),
            )
        )
    )


def _deliver(result: Any, call: Call, _asked: Parameters) -> Any:
    """Read the answer, or watch the stream, that is in a raw response."""
    data = attribute(result, "data")
    if isinstance(data, GeneratorType):
        return _StreamedResponse(result, GeneratorProxy(data, call, call.record))
    if isinstance(data, AsyncGeneratorType):
        return _StreamedResponse(result, AsyncGeneratorProxy(data, call, call.record))
    call.record(data)
    call.stop()
    return result


class _StreamedResponse(Proxy):
    """A raw response, of which the data is a watched stream."""

    __slots__ = ("_self_data",)

    def __init__(
        self, response: Any, data: GeneratorProxy | AsyncGeneratorProxy
    ) -> None:
        super().__init__(response)
        self._self_data = data

    @property
    def data(self) -> GeneratorProxy | AsyncGeneratorProxy:
        return self._self_data


def _wrap_opening(
    method: Method, bus: Bus, proxy: Callable[[Any, Callable[[], Request]], Any]
) -> Wrapper:
    """Return what goes around a function that gives the context of a stream."""

    def calling(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if nobody_listens(method, bus):
            return wrapped(*args, **kwargs)
        make = partial(Request, method, bus, instance, args, kwargs)
        return proxy(wrapped(*args, **kwargs), make)

    return calling


class _Opening(Proxy):
    """A context within which a stream is open; the call begins as it is entered."""

    __slots__ = ("_self_make", "_self_opened")

    def __init__(self, context: Any, make: Callable[[], Request]) -> None:
        super().__init__(context)
        self._self_make = make
        self._self_opened: Any = None

    # These contexts are decorators too, as whatever contextlib makes.
    def __call__(self, function: Any) -> Any:
        return self._self_sdks(function)


class _SyncOpening(_Opening):
    __slots__ = ()

    def __enter__(self) -> Any:
        request = self._self_make()
        try:
            request.begin()
            response = self._self_sdks.__enter__()
        except BaseException as error:
            request.failed(error)
            raise
        finally:
            request.left()
        self._self_opened = request.deliver(response)
        return self._self_opened

    def __exit__(self, *exception: object) -> Any:
        try:
            return self._self_sdks.__exit__(*exception)
        finally:
            _end(self._self_opened)


class _AsyncOpening(_Opening):
    __slots__ = ()

    async def __aenter__(self) -> Any:
        request = self._self_make()
        try:
            request.begin()
            response = await self._self_sdks.__aenter__()
        except BaseException as error:
            request.failed(error)
            raise
        finally:
            request.left()
        self._self_opened = request.deliver(response)
        return self._self_opened

    async def __aexit__(self, *exception: object) -> Any:
        try:
            return await self._self_sdks.__aexit__(*exception)
        finally:
            _end(self._self_opened)


def _end(opened: object) -> None:
    """End the call of a stream that has been left, if it is not over yet."""
    if type(opened) is _StreamedResponse:
        opened.data._self_end()  # noqa: SLF001  # one of us
