"""The openai SDK, majors 2 and 3: chat completions and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from importlib import import_module
from json import loads
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents._context import current_span
from llmevents._redact import clean_metadata
from llmevents.instrumentation._patching import is_supported
from llmevents.instrumentation._streams import (
    AsyncStreamProxy,
    RawResponseProxy,
    StreamProxy,
)
from llmevents.llm import Call


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.instrumentation._patching import Patches, Wrapper

MAJORS = (2, 3)

NANOSECONDS = {"retry-after-ms": 1_000_000, "retry-after": 1_000_000_000}
"""Header that says how long to wait -> nanoseconds of its unit."""

REMAINING = {
    "x-ratelimit-remaining-requests": "remaining_requests",
    "x-ratelimit-remaining-tokens": "remaining_tokens",
}

PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""Numeric parameter of the SDK -> metadata."""

RATE_LIMIT = "llm.provider.rate_limit"

Streams = tuple[type[Any], type[Any]]
"""The SDK's synchronous and asynchronous stream."""


class _Operation(NamedTuple):
    """What the SDK's methods for one operation are called, sync and async."""

    prefix: str
    operation: str
    # ``openai.resources`` is imported lazily by the SDK, so these are paths.
    module: str
    sync_class: str
    async_class: str
    methods: tuple[str, ...]


OPERATIONS = (
    # ``parse`` sends its request by itself; ``stream`` does so through ``create``.
    _Operation(
        "llm.chat",
        "chat",
        "openai.resources.chat.completions",
        "Completions",
        "AsyncCompletions",
        ("create", "parse"),
    ),
    _Operation(
        "llm.embedding",
        "embeddings",
        "openai.resources.embeddings",
        "Embeddings",
        "AsyncEmbeddings",
        ("create",),
    ),
)


def patch(openai: ModuleType, bus: Bus, patches: Patches) -> bool:
    """Wrap the SDK's methods; False, with a warning, for a version not supported."""
    if not is_supported("openai", openai.__version__, MAJORS):
        return False
    streams = (openai.Stream, openai.AsyncStream)
    for operation in OPERATIONS:
        module = import_module(operation.module)
        for name, make in (
            (operation.sync_class, _wrapper),
            (operation.async_class, _async_wrapper),
        ):
            for method in operation.methods:
                owner = getattr(module, name)
                patches.wrap(owner, method, make(operation, streams, bus))
    return True


def _wrapper(operation: _Operation, streams: Streams, bus: Bus) -> Wrapper:
    def create(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if _nobody_listens(operation, bus):
            return wrapped(*args, **kwargs)
        request = _Request(operation, bus, instance, kwargs)
        try:
            request.begin()
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            request.failed(error)
            raise
        return request.deliver(result, streams)

    return create


def _async_wrapper(operation: _Operation, streams: Streams, bus: Bus) -> Wrapper:
    def create(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if _nobody_listens(operation, bus):
            return wrapped(*args, **kwargs)
        return awaited(wrapped, instance, args, kwargs)

    # Nothing has happened before it is awaited, and possibly nothing ever does.
    async def awaited(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        request = _Request(operation, bus, instance, kwargs)
        try:
            request.begin()
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            request.failed(error)
            raise
        return request.deliver(result, streams)

    return create


def _nobody_listens(operation: _Operation, bus: Bus) -> bool:
    """Whether no handler, and no call around this one, would learn of it."""
    prefix = operation.prefix
    return (
        (prefix in bus.quiet or bus.span_names(prefix) is None)
        and current_span.get() is None
        and not bus.has_handlers(RATE_LIMIT)
    )


class _Request:
    """One call of the SDK on its way."""

    __slots__ = ("_bus", "_call", "_facts", "_is_stream")

    def __init__(
        self,
        operation: _Operation,
        bus: Bus,
        resource: Any,
        kwargs: Mapping[str, Any],
    ) -> None:
        self._bus = bus
        self._facts = _facts(operation, resource, kwargs)
        self._is_stream = kwargs.get("stream") is True
        texts = _count_texts(kwargs.get("input"))
        self._call = Call(bus, operation.prefix, scoped=False, texts=texts)

    def begin(self) -> None:
        self._call.begin(self._facts)

    def deliver(self, result: Any, streams: Streams) -> Any:
        """Return *result* for the caller, and end the call now or when it is read."""
        call = self._call
        watch = partial(_watch, streams=streams)
        watched = watch(result, call)
        if watched is not None:
            return watched
        # Asked of the type: a provider may put any field into its responses.
        if not hasattr(type(result), "http_request"):
            call.record(result)
        elif self._is_stream or hasattr(result, "close"):
            return RawResponseProxy(result, call, watch)
        else:
            # Not with parse(): it may fail, and is the caller's to call.
            with suppress(Exception):
                call.record(loads(result.http_response.content))
        call.stop()
        return result

    def failed(self, error: BaseException) -> None:
        """End the call with *error*; a rate limit is an event of its own as well."""
        try:
            limits = _limits_in(error)
            if limits is not None:
                self._bus.execute(RATE_LIMIT, limits, self._limited())
        finally:
            # What parse() could not parse has been paid for all the same.
            self._call.record(_attribute(error, "completion"))
            self._call.leave(error)

    def _limited(self) -> dict[str, object]:
        wanted = {key: self._facts.get(key) for key in ("provider", "model")}
        known = {**wanted, "span_id": self._call.span_id or None}
        facts = {key: value for key, value in known.items() if value is not None}
        status = int(HTTPStatus.TOO_MANY_REQUESTS)
        return {**clean_metadata(facts), "http_status": status}


def _watch(result: Any, call: Call, *, streams: Streams) -> Any:
    """Return *result* as a stream that ends *call*, or None if it is no stream."""
    if isinstance(result, streams[0]):
        return StreamProxy(result, call)
    if isinstance(result, streams[1]):
        return AsyncStreamProxy(result, call)
    return None


def _facts(
    operation: _Operation, resource: Any, kwargs: Mapping[str, Any]
) -> dict[str, object]:
    """Return the start event's metadata; no content is among it."""
    # By name: openai's Azure clients are imported lazily by nobody but their users.
    client = type(getattr(resource, "_client", None)).__name__
    facts: dict[str, object] = {
        "operation": operation.operation,
        "provider": "azure.ai.openai" if "Azure" in client else "openai",
    }
    if isinstance(kwargs.get("model"), str):
        facts["model"] = kwargs["model"]
    if kwargs.get("stream") is True:
        facts["stream"] = True
    for parameter, key in PARAMETERS.items():
        if isinstance(kwargs.get(parameter), (int, float)):
            facts[key] = kwargs[parameter]
    choices = kwargs.get("n")
    if isinstance(choices, int) and choices != 1:
        facts["choice_count"] = choices
    features = [name for name, asked in FEATURES.items() if asked(kwargs)]
    if features:
        facts["features"] = features
    return facts


def _asks_for_structure(kwargs: Mapping[str, Any]) -> bool:
    """Whether the format is a class, of ``parse``, or anything but plain text."""
    form = kwargs.get("response_format")
    is_form = isinstance(form, dict) and form.get("type", "text") != "text"
    return is_form or isinstance(form, type)


FEATURES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "tools": lambda kwargs: bool(
        isinstance(kwargs.get("tools"), (list, tuple)) and kwargs["tools"]
    ),
    "structured_output": _asks_for_structure,
    "search_grounding": lambda kwargs: isinstance(
        kwargs.get("web_search_options"), dict
    ),
}
"""Feature of a call -> whether its parameters ask for it."""


def _count_texts(given: object) -> int | None:
    """Return how many texts *given* is: text, token ids, or a list of either."""
    if isinstance(given, str):
        return 1
    if isinstance(given, (list, tuple)):
        return 1 if given and isinstance(given[0], int) else len(given)
    return None


def _limits_in(error: BaseException) -> dict[str, int] | None:
    """Return what the headers of a refusal say; None if *error* is no such refusal."""
    if _attribute(error, "status_code") != HTTPStatus.TOO_MANY_REQUESTS:
        return None
    headers = _attribute(_attribute(error, "response"), "headers")
    return _limits(headers) if isinstance(headers, Mapping) else {}


def _attribute(source: object, name: str) -> object:
    """Return an attribute, or None; a property of a foreign class may raise anything."""
    try:
        return getattr(source, name, None)
    except Exception:  # noqa: BLE001  # see above
        return None


def _limits(headers: Mapping[str, str]) -> dict[str, int]:
    """Return the limits that *headers* state; a date instead of a delay is left out."""
    limits: dict[str, int] = {}
    for header, nanoseconds in NANOSECONDS.items():
        with suppress(ValueError, TypeError, OverflowError, KeyError):
            limits.setdefault(
                "retry_after", round(float(headers[header]) * nanoseconds)
            )
    for header, key in REMAINING.items():
        with suppress(ValueError, TypeError, KeyError):
            limits[key] = int(headers[header])
    return {key: value for key, value in limits.items() if value >= 0}
