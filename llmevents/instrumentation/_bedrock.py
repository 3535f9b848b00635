"""Bedrock's runtime through boto3: botocore 1.

Clients of botocore are made at run time, from a description of the service; the one
method that all of them share is ``BaseClient._make_api_call``. What is no call of a
model passes through it for the price of a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from importlib import import_module
from json import loads
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents.instrumentation._asked import features, numbers
from llmevents.instrumentation._bedrock_bodies import (
    EventStreamProxy,
    record_headers,
    watch_body,
)
from llmevents.instrumentation._bedrock_http import attempting
from llmevents.instrumentation._calls import Facts, Method, no_texts, wrap
from llmevents.instrumentation._patching import is_supported
from llmevents.llm import Call


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches, Wrapper

MAJORS = (1,)

SERVICE = "bedrock-runtime"

PROVIDER = "aws.bedrock"

Deliver = Callable[["Bus", dict[str, Any], Call, Mapping[str, Any]], Any]


class Kind(NamedTuple):
    """What a model does, as far as ``InvokeModel`` does not say it."""

    prefix: str
    operation: str


CHAT = Kind("llm.chat", "chat")
COMPLETION = Kind("llm.completion", "text_completion")
EMBEDDING = Kind("llm.embedding", "embeddings")
IMAGE = Kind("llm.image", "image")
RERANK = Kind("llm.rerank", "rerank")

KINDS: tuple[tuple[str, Kind], ...] = (
    ("embed", EMBEDDING),
    ("rerank", RERANK),
    ("image", IMAGE),
    ("canvas", IMAGE),
    ("stability.", IMAGE),
    ("titan-text", COMPLETION),
    ("command-text", COMPLETION),
    ("command-light-text", COMPLETION),
    ("j2-", COMPLETION),
)
"""Part of a model's id -> what it does; the first that fits. All others chat.

Amazon Bedrock user guide, "Supported foundation models in Amazon Bedrock": ids are
``amazon.titan-embed-text-v2:0``, ``cohere.embed-english-v3``, ``amazon.rerank-v1:0``,
``amazon.nova-canvas-v1:0``, ``amazon.titan-image-generator-v2:0``,
``stability.sd3-5-large-v1:0``, and of models that go on from a prompt
``amazon.titan-text-lite-v1``, ``cohere.command-text-v14``, ``ai21.j2-mid-v1``.
"""

PLAIN_RESOURCES = ("foundation-model", "inference-profile")
"""Resources of which the name alone is a model's id."""

PARAMETERS = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}
"""Numeric parameter of Converse -> metadata."""


def patch(client: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap botocore's clients; False, with a warning, for a version not supported."""
    version = import_module("botocore").__version__
    if not is_supported("botocore", version, MAJORS):
        return False
    endpoint = import_module("botocore.endpoint").Endpoint
    patches.wrap(client.BaseClient, "_make_api_call", _choose(choice.bus))
    patches.wrap(endpoint, "_get_response", attempting(SERVICE))
    return True


def _choose(bus: Bus) -> Wrapper:
    """Return what goes around every operation of every service."""
    deliveries = {name: partial(deliver, bus) for name, deliver in OPERATIONS.items()}

    @cache  # of four operations and five kinds
    def wrapper(operation: str, kind: Kind) -> Wrapper:
        method = Method(
            prefix=kind.prefix,
            facts=partial(_facts, kind.operation),
            deliver=deliveries[operation],
            failed=_failed,
            texts=_texts if kind is EMBEDDING else no_texts,
            positional=("operation_name", "api_params"),
            sends=True,
            client=lambda client: client._endpoint,  # noqa: SLF001  # it has no other name
        )
        return wrap(method, bus)

    def calling(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        operation = args[0] if args else kwargs.get("operation_name")
        if operation not in OPERATIONS or _service(instance) != SERVICE:
            return wrapped(*args, **kwargs)
        invokes = operation in INVOCATIONS
        kind = kind_of(_model_id(args, kwargs)) if invokes else CHAT
        return wrapper(operation, kind)(wrapped, instance, args, kwargs)

    return calling


def _service(client: Any) -> object:
    model = getattr(getattr(client, "meta", None), "service_model", None)
    return getattr(model, "service_name", None)


def _model_id(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    asked = args[1] if len(args) > 1 else kwargs.get("api_params")
    given = asked.get("modelId") if isinstance(asked, Mapping) else None
    return given if isinstance(given, str) else ""


@lru_cache(maxsize=256)
def model_of(model_id: str) -> str:
    """Return what a ``modelId`` names, without account and region.

    Of an ARN that is the model's id; or, where that is not in it, the kind and name
    of the resource: ``application-inference-profile/a1b2c3d4``. Amazon Bedrock API
    reference, "InvokeModel", ``modelId``, says which ARNs there are.
    """
    if not model_id.startswith("arn:"):
        return model_id
    resource = model_id.split(":", 5)[-1]
    kind, _, name = resource.partition("/")
    return name if kind in PLAIN_RESOURCES and name else resource


@lru_cache(maxsize=256)
def kind_of(model_id: str) -> Kind:
    """Return what a model does, by its id."""
    model = model_of(model_id)
    return next((kind for part, kind in KINDS if part in model), CHAT)


def _facts(operation: str, _client: Any, asked: Mapping[str, Any]) -> Facts:
    """Return the start event's metadata; no content is among it."""
    given: Mapping[str, Any] = asked["api_params"]
    facts: Facts = {"operation": operation, "provider": PROVIDER}
    if isinstance(given.get("modelId"), str):
        facts["model"] = model_of(given["modelId"])
    if asked["operation_name"] in STREAMED:
        facts["stream"] = True
    config, tools = given.get("inferenceConfig"), given.get("toolConfig")
    if isinstance(config, Mapping):
        facts |= numbers(config, PARAMETERS)
    has_tools = isinstance(tools, Mapping) and tools.get("tools")
    return facts | features((("tools", has_tools),))


def _failed(error: BaseException, call: Call, _facts: Facts) -> None:
    """Say with which status the provider refused."""
    status = http_status_of(error)
    if status is not None:
        call.annotate(http_status=status)


def http_status_of(error: BaseException) -> int | None:
    """Return the status that botocore's error states, or None."""
    response = getattr(error, "response", None)
    about = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    status = about.get("HTTPStatusCode") if isinstance(about, Mapping) else None
    return status if isinstance(status, int) else None


def _texts(asked: Mapping[str, Any]) -> int | None:
    """Return how many texts an embedding is asked for: Titan takes one, Cohere a list."""
    body = loads(asked["api_params"]["body"])
    texts = body.get("texts")
    if isinstance(texts, list):
        return len(texts)
    return 1 if isinstance(body.get("inputText"), str) else None


def _conversed(
    _bus: Bus, result: dict[str, Any], call: Call, _asked: Mapping[str, Any]
) -> Any:
    call.record(result)
    call.stop()
    return result


def _invoked(
    _bus: Bus, result: dict[str, Any], call: Call, _asked: Mapping[str, Any]
) -> Any:
    """Watch what the caller reads of the body, and have the headers to fall back on."""
    is_known = record_headers(result, call)
    if not watch_body(result.get("body"), call, is_known=is_known):
        call.stop()
    return result


def _streamed(
    key: str,
    bus: Bus,
    result: dict[str, Any],
    call: Call,
    _asked: Mapping[str, Any],
) -> Any:
    """Return a result whose stream ends the call."""
    events = result.get(key)
    if not hasattr(type(events), "get_initial_response"):
        return _conversed(bus, result, call, _asked)
    return {**result, key: EventStreamProxy(events, call, bus)}


OPERATIONS: Mapping[str, Deliver] = {
    "Converse": _conversed,
    "ConverseStream": partial(_streamed, "stream"),
    "InvokeModel": _invoked,
    "InvokeModelWithResponseStream": partial(_streamed, "body"),
}
"""Operation that calls a model -> what becomes of its result."""

INVOCATIONS = frozenset({"InvokeModel", "InvokeModelWithResponseStream"})

STREAMED = frozenset({"ConverseStream", "InvokeModelWithResponseStream"})
