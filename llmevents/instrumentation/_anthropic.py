"""The anthropic SDK, majors 1 and 2: messages, however asked for, and batches' results.

Every way to ask for a message ends in the client's ``request``: ``create``, ``parse``
and ``stream``, those of ``beta``, raw responses, and each step of the tool runner. So
that is what is wrapped, and which call it is says the path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from llmevents._carriers import stand_in
from llmevents._context import current_span
from llmevents.instrumentation import _http
from llmevents.instrumentation._anthropic_batches import Batches
from llmevents.instrumentation._asked import NUMBERS, features, numbers
from llmevents.instrumentation._calls import Facts, Method, wrap, wrap_async
from llmevents.instrumentation._patching import is_supported
from llmevents.instrumentation._streams import (
    RawResponseProxy,
    Streams,
    watch_stream,
)
from llmevents.llm import Call


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches, Wrapper

MAJORS = (1, 2)

MESSAGES = "/v1/messages"
"""Path of the only endpoint that makes messages; ``count_tokens`` is another one."""

PARSING = {
    "anthropic.resources.messages.messages": "parse_response",
    "anthropic.resources.beta.messages.messages": "parse_beta_response",
}
"""Module -> its function that makes the caller's type of a message."""


def patch(anthropic: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap the SDK's clients; False, with a warning, for a version not supported."""
    if not is_supported("anthropic", anthropic.__version__, MAJORS):
        return False
    client = import_module("anthropic._base_client")
    streams = (anthropic.Stream, anthropic.AsyncStream)
    method = Method(
        prefix="llm.chat",
        facts=_facts,
        deliver=partial(_deliver, streams),
        positional=("cast_to", "options"),
        sends=True,
        client=lambda client: client._client,  # noqa: SLF001  # it has no other name
    )
    batches = Batches(choice.bus, provider_of)
    for owner, messages, results in (
        (client.SyncAPIClient, wrap(method, choice.bus), _results(batches)),
        (
            client.AsyncAPIClient,
            wrap_async(method, choice.bus),
            _results_async(batches),
        ),
    ):
        patches.wrap(owner, "request", _choose(messages, results, batches))
    for name, parse in PARSING.items():
        patches.wrap(import_module(name), parse, _parsing)
    if "start_api_call_span" in vars(client):
        patches.wrap(client, "start_api_call_span", partial(_span, choice.bus))
    _http.patch(patches)
    return True


def _choose(messages: Wrapper, results: Wrapper, batches: Batches) -> Wrapper:
    """Return what goes around a client's ``request``, whatever that is for."""

    def requesting(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = _path(args, kwargs)
        if path.endswith(MESSAGES):
            return messages(wrapped, instance, args, kwargs)
        if batches.find(path) is not None:
            return results(wrapped, instance, args, kwargs)
        return wrapped(*args, **kwargs)

    return requesting


def _path(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the path that a client's ``request`` is for; it may be a whole URL."""
    options = args[1] if len(args) > 1 else kwargs.get("options")
    url = getattr(options, "url", None)
    return url.partition("?")[0] if isinstance(url, str) else ""


def _results(batches: Batches) -> Wrapper:
    def requesting(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        batch = batches.find(_path(args, kwargs)) or ""
        return batches.watch(wrapped(*args, **kwargs), batch, instance)

    return requesting


def _results_async(batches: Batches) -> Wrapper:
    async def requesting(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        batch = batches.find(_path(args, kwargs)) or ""
        return batches.watch(await wrapped(*args, **kwargs), batch, instance)

    return requesting


def _deliver(
    streams: Streams,
    result: Any,
    call: Call,
    _asked: Mapping[str, Any],
) -> Any:
    """Return *result* for the caller, and end the call now or when it is read."""
    watch = partial(watch_stream, streams=streams)
    watched = watch(result, call)
    if watched is not None:
        return watched
    # Asked of the type: a provider may put any field into its responses.
    if not hasattr(type(result), "http_request"):
        call.record(result)
    elif result.http_response.is_closed:
        # Not with parse(): it may fail, and is the caller's to call.
        call.record(result.http_response.content)
    else:
        return RawResponseProxy(result, call, watch)
    call.stop()
    return result


def _facts(client: Any, asked: Mapping[str, Any]) -> Facts:
    """Return the start event's metadata; no content is among it."""
    facts: Facts = {"operation": "chat", "provider": provider_of(client)}
    if asked.get("stream") is True:
        facts["stream"] = True
    body = _body(asked["options"])
    if isinstance(body.get("model"), str):
        facts["model"] = body["model"]
    asked_for = ((name, asks_for(body)) for name, asks_for in FEATURES.items())
    return facts | numbers(body, NUMBERS) | features(asked_for)


def _body(options: Any) -> Mapping[str, Any]:
    """Return what is sent: the method's parameters, and over them ``extra_body``.

    Parameters that the SDK does not know any more, ``temperature`` in 2.x, are there.
    """
    body, extra = options.json_data, options.extra_json
    known = body if isinstance(body, Mapping) else {}
    return {**known, **extra} if isinstance(extra, Mapping) else known


def provider_of(client: Any) -> str:
    """Return whom *client* asks, by the name that the SDK's own spans have for it.

    That is ``aws.bedrock`` and ``gcp.vertex_ai`` for the clients of these; Anthropic's
    own API on other platforms is ``anthropic``.
    """
    name = getattr(client, "_gen_ai_provider_name", None)
    return name if isinstance(name, str) and name else "anthropic"


def _tools(body: Mapping[str, Any]) -> list[Any]:
    tools = body.get("tools")
    return tools if isinstance(tools, list) else []


def _asks_for_structure(body: Mapping[str, Any]) -> bool:
    """Whether the answer is to be JSON; ``output_format`` is the older place."""
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, Mapping) else None
    return isinstance(form or body.get("output_format"), Mapping)


def _searches(tool: object) -> bool:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    return isinstance(kind, str) and kind.startswith("web_search")


FEATURES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "tools": lambda body: bool(_tools(body)),
    "structured_output": _asks_for_structure,
    "search_grounding": lambda body: any(map(_searches, _tools(body))),
}
"""Feature of a call -> whether its body asks for it."""


def _parsing(
    wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Read a message before it is parsed: one that cannot be has been paid for too."""
    call = current_span.get()
    if isinstance(call, Call):
        call.record(kwargs.get("response"))
    return wrapped(*args, **kwargs)


def _span(
    bus: Bus,
    wrapped: Any,
    _instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Let the SDK make no span of its own where a reporter has one of this call.

    It uses the reporter's: its spans' parent, and the trace that its requests carry
    on, are as they would be. Requests that are no call of ours keep the SDK's span.
    """
    call = current_span.get()
    if isinstance(call, Call) and call.is_open:
        span = stand_in(bus, call.span_id)
        if span is not None:
            return span
    return wrapped(*args, **kwargs)
