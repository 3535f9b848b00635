"""The google-genai SDK, majors 2 and 3, for the Gemini API and for Vertex AI.

One ``generate_content`` may send several requests: where the model asks for functions
that the SDK calls by itself, and where an answer is continued. It is one call, and the
requests in it add up, those too that the functions make. So each operation is wrapped
twice: the method that is called, and the one under it that makes one request.

Chats go through ``generate_content``, one call for each request. Counting tokens,
videos, the Live API and batches are not calls of a model that answer with what they
used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from json import loads
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents.instrumentation import _http
from llmevents.instrumentation._asked import NUMBERS, count, features, numbers, text
from llmevents.instrumentation._calls import (
    Facts,
    Method,
    Parameters,
    no_texts,
    stream,
    wrap,
    wrap_async,
)
from llmevents.instrumentation._generators import (
    AsyncGeneratorProxy,
    wrap_lazy,
    wrap_lazy_async,
)
from llmevents.instrumentation._http import NO_CLIENT, attribute
from llmevents.instrumentation._patching import is_supported


if TYPE_CHECKING:
    from types import ModuleType

    from llmevents._bus import Bus
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches, Wrapper
    from llmevents.llm import Call

MAJORS = (2, 3)

PARAMETERS = {
    **NUMBERS,
    "max_output_tokens": "max_tokens",
    "candidate_count": "choice_count",
}
"""Numeric field of a configuration -> metadata."""

SEARCHES = ("google_search", "google_search_retrieval", "enterprise_web_search")
"""Fields of a tool that searches the web."""

Make = Callable[[Method, "Bus"], "Wrapper"]


class _Operation(NamedTuple):
    """What an operation is called, and what its methods are made of.

    Attributes:
        prefix: Of its events.
        operation: OpenTelemetry's name of it.
        name: Of the method; that which sends has an underscore before it.
        is_stream: Whether its answer is a stream.
    """

    prefix: str
    operation: str
    name: str
    is_stream: bool = False


OPERATIONS = (
    _Operation("llm.chat", "generate_content", "generate_content"),
    _Operation(
        "llm.chat", "generate_content", "generate_content_stream", is_stream=True
    ),
    _Operation("llm.embedding", "embeddings", "embed_content"),
    _Operation("llm.image", "image", "generate_images"),
    _Operation("llm.image", "image", "edit_image"),
    _Operation("llm.image", "image", "upscale_image"),
)

INTERACTIONS = (
    ("GeminiNextGenInteractions", wrap),
    ("AsyncGeminiNextGenInteractions", wrap_async),
)
"""Class that has a method ``create``, and what goes around that."""


def patch(genai: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap the SDK's methods; False, with a warning, for a version not supported."""
    if not is_supported("google-genai", genai.__version__, MAJORS):
        return False
    _http.patch(patches)
    for operation in OPERATIONS:
        _patch(genai.models.Models, operation, choice.bus, patches, is_async=False)
        _patch(genai.models.AsyncModels, operation, choice.bus, patches, is_async=True)
    patches.when_imported(
        f"{genai.__name__}._gaos.google_genai",
        partial(_patch_interactions, choice.bus, patches),
    )
    return True


def _patch(
    owner: type, operation: _Operation, bus: Bus, patches: Patches, *, is_async: bool
) -> None:
    """Wrap what is called, and what sends within it."""
    called, sends = _makers(operation, is_async=is_async)
    method = Method(
        prefix=operation.prefix,
        facts=partial(_facts, operation),
        deliver=_ended,
        sends=True,
        client=lambda _models: NO_CLIENT,  # attempts are the requests' within it
    )
    patches.wrap(owner, operation.name, called(method, bus))
    request = Method(
        prefix=operation.prefix,
        facts=partial(_request_facts, operation),
        deliver=_deliver,
        texts=_texts if operation.operation == "embeddings" else no_texts,
        sends=True,
    )
    wrapper = sends(request, bus)
    if is_async:
        wrapper = _by_transport(wrapper, sends(replace(request, sends=False), bus))
    patches.wrap(owner, f"_{operation.name}", wrapper)


def _makers(operation: _Operation, *, is_async: bool) -> tuple[Make, Make]:
    """Return what makes the wrappers of the method and of what sends.

    A generator sends at its first step. Of the asynchronous ones, only the one that
    the caller gets is such.
    """
    if not operation.is_stream:
        return (wrap_async, wrap_async) if is_async else (wrap, wrap)
    if is_async:
        return partial(wrap_lazy_async, reads=False), wrap_async
    return partial(wrap_lazy, reads=False), wrap_lazy


def _by_transport(seen: Wrapper, unseen: Wrapper) -> Wrapper:
    """Return the wrapper for how the client sends: aiohttp's attempts are not seen.

    Asynchronous clients use aiohttp where it is installed and nothing else is asked
    for (google-genai 3.4, ``BaseApiClient._use_aiohttp``). What is not seen on the
    wire is stated by the call itself, as one request.
    """

    def calling(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        chosen = unseen if _uses_aiohttp(instance) else seen
        return chosen(wrapped, instance, args, kwargs)

    return calling


def _uses_aiohttp(models: Any) -> bool:
    asks = attribute(attribute(models, "_api_client"), "_use_aiohttp")
    return bool(asks()) if callable(asks) else False


def _patch_interactions(bus: Bus, patches: Patches, module: ModuleType) -> None:
    method = Method(
        prefix="llm.chat", facts=_interaction_facts, deliver=stream, sends=True
    )
    for name, make in INTERACTIONS:
        patches.wrap(getattr(module, name), "create", make(method, bus))


def _ended(result: Any, call: Call, _asked: Parameters) -> Any:
    """End a call of which the requests have been read."""
    call.stop()
    return result


def _deliver(result: Any, call: Call, _asked: Parameters) -> Any:
    """Read a finished response; a generator that has been sent for is watched."""
    if isinstance(result, AsyncGeneratorType):
        return AsyncGeneratorProxy(result, call, call.record)
    raw = attribute(attribute(result, "sdk_http_response"), "body")
    # Of the response as it came, where the caller asked for that instead.
    call.record(loads(raw) if isinstance(raw, str) and raw else result)
    call.stop()
    return result


def _facts(operation: _Operation, models: Any, asked: Parameters) -> Facts:
    """Return the start event's metadata; no content is among it."""
    facts = _request_facts(operation, models, asked)
    config = asked.get("config")
    if config is not None:
        facts |= _configured(_fields(config))
    return facts


def _request_facts(operation: _Operation, models: Any, asked: Parameters) -> Facts:
    """Return what a request within a call says: whom it asks, and how."""
    facts: Facts = {
        "operation": operation.operation,
        "provider": _provider(attribute(models, "_api_client")),
    }
    model = text(asked, "model")
    if model is not None:
        facts["model"] = _model(model)
    if operation.is_stream:
        facts["stream"] = True
    return facts


def _provider(api_client: object) -> str:
    return "gcp.vertex_ai" if attribute(api_client, "vertexai") else "gcp.gemini"


def _model(name: str) -> str:
    """Return a model's own name: resources are named ``.../models/gemini-2.5-flash``."""
    before, found, own = name.rpartition("models/")
    is_resource = found and (not before or before.endswith("/"))
    return own if is_resource and own else name


def _fields(config: Any) -> Mapping[str, Any]:
    """Return the fields of a configuration that have been set."""
    return config if isinstance(config, Mapping) else vars(config)


def _configured(config: Mapping[str, Any]) -> Facts:
    facts = numbers(config, PARAMETERS)
    if facts.get("choice_count") == 1:
        del facts["choice_count"]
    tools = config.get("tools")
    tools = tools if isinstance(tools, (list, tuple)) else ()
    is_json = config.get("response_mime_type") == "application/json"
    schemas = (config.get("response_schema"), config.get("response_json_schema"))
    return facts | features(
        (
            ("tools", any(not _searches(tool) for tool in tools)),
            ("structured_output", is_json or any(one is not None for one in schemas)),
            ("search_grounding", any(map(_searches, tools))),
        )
    )


def _searches(tool: Any) -> bool:
    """Whether *tool* is the provider's own search; functions are no such tool."""
    known = tool if isinstance(tool, Mapping) else getattr(tool, "__dict__", {})
    return any(known.get(name) is not None for name in SEARCHES)


def _texts(asked: Parameters) -> int | None:
    contents = asked.get("contents")
    return count(contents) if isinstance(contents, (str, list, tuple)) else 1


def _interaction_facts(interactions: Any, asked: Parameters) -> Facts:
    """Return the start event's metadata of an interaction, given in either way."""
    request = asked.get("request")
    given = asked if request is None else _fields(_fields(request).get("body") or {})
    url = attribute(attribute(interactions, "sdk_configuration"), "server_url")
    is_vertex = isinstance(url, str) and "aiplatform" in url
    facts: Facts = {
        "operation": "generate_content",
        "provider": "gcp.vertex_ai" if is_vertex else "gcp.gemini",
    }
    model = text(given, "model")
    if model is not None:
        facts["model"] = _model(model)
    if given.get("stream") is True:
        facts["stream"] = True
    config = given.get("generation_config")
    return facts | (numbers(_fields(config), PARAMETERS) if config is not None else {})
