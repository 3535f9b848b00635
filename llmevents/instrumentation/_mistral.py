"""The mistralai SDK, majors 2 and 3: all operations that run a model.

Its modules for clouds, ``mistralai.azure`` and ``mistralai.gcp``, are SDKs of their own
that are not instrumented.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from llmevents.instrumentation import _http
from llmevents.instrumentation._asked import NUMBERS, features, numbers, text, texts_in
from llmevents.instrumentation._calls import (
    Facts,
    Method,
    Parameters,
    no_texts,
    record,
    wrap,
    wrap_async,
)
from llmevents.instrumentation._http import attribute
from llmevents.instrumentation._patching import is_supported
from llmevents.instrumentation._streams import AsyncStreamProxy, StreamProxy


if TYPE_CHECKING:
    from types import ModuleType

    from llmevents._bus import Bus
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches
    from llmevents.llm import Call

MAJORS = (2, 3)

PARAMETERS = {**NUMBERS, "random_seed": "seed"}


class _Operation(NamedTuple):
    """What the SDK's methods for one operation are called.

    Each has an asynchronous twin, of which the name ends in ``_async``.
    """

    module: str
    owner: str
    prefix: str
    operation: str
    methods: tuple[str, ...]


OPERATIONS = (
    _Operation("chat", "Chat", "llm.chat", "chat", ("complete", "stream")),
    _Operation("agents", "Agents", "llm.chat", "chat", ("complete", "stream")),
    _Operation(
        "conversations",
        "Conversations",
        "llm.chat",
        "chat",
        (
            "start",
            "append",
            "restart",
            "start_stream",
            "append_stream",
            "restart_stream",
        ),
    ),
    _Operation("responses", "Responses", "llm.chat", "chat", ("create",)),
    _Operation(
        "fim", "Fim", "llm.completion", "text_completion", ("complete", "stream")
    ),
    _Operation("embeddings", "Embeddings", "llm.embedding", "embeddings", ("create",)),
    _Operation("ocr", "Ocr", "llm.ocr", "ocr", ("process",)),
    _Operation(
        "transcriptions",
        "Transcriptions",
        "llm.transcription",
        "transcription",
        ("complete", "stream"),
    ),
    _Operation("speech", "Speech", "llm.speech", "speech", ("complete",)),
    _Operation(
        "classifiers",
        "Classifiers",
        "llm.moderation",
        "moderation",
        ("moderate", "moderate_chat"),
    ),
    _Operation(
        "classifiers",
        "Classifiers",
        "llm.moderation",
        "classification",
        ("classify", "classify_chat"),
    ),
)


def patch(mistralai: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap the SDK's methods; False, with a warning, for a version not supported."""
    if not is_supported("mistralai", mistralai.__version__, MAJORS):
        return False
    _http.patch(patches)
    for operation in OPERATIONS:
        patches.when_imported(
            f"{mistralai.__name__}.{operation.module}",
            partial(_patch, operation, choice.bus, patches),
        )
    return True


def _patch(
    operation: _Operation, bus: Bus, patches: Patches, module: ModuleType
) -> None:
    owner = getattr(module, operation.owner)
    for name in operation.methods:
        method = _method(operation, name)
        patches.wrap(owner, name, wrap(method, bus))
        patches.wrap(owner, f"{name}_async", wrap_async(method, bus))


def _method(operation: _Operation, name: str) -> Method:
    return Method(
        prefix=operation.prefix,
        facts=partial(_facts, operation.operation, name.endswith("stream")),
        deliver=_deliver,
        texts=texts_in("inputs") if operation.operation == "embeddings" else no_texts,
        sends=True,
    )


def _facts(
    operation: str,
    is_stream: bool,  # noqa: FBT001  # bound by partial()
    _resource: Any,
    asked: Parameters,
) -> Facts:
    """Return the start event's metadata; no content is among it."""
    facts: Facts = {"operation": operation, "provider": "mistral_ai"}
    model = text(asked, "model")
    if model is not None:
        facts["model"] = model
    if is_stream or asked.get("stream") is True:
        facts["stream"] = True
    choices = asked.get("n")
    if isinstance(choices, int) and choices != 1:
        facts["choice_count"] = choices
    form = asked.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else attribute(form, "type")
    return (
        facts
        | numbers(asked, PARAMETERS)
        | features(
            (
                ("tools", isinstance(asked.get("tools"), list) and asked["tools"]),
                ("structured_output", kind in ("json_object", "json_schema")),
            )
        )
    )


def _deliver(result: Any, call: Call, asked: Parameters) -> Any:
    """Return *result*, or a stream of events that ends the call."""
    read = partial(_read_event, call)
    if isinstance(result, AsyncIterator):
        return AsyncStreamProxy(result, call, read)
    if isinstance(result, Iterator):
        return StreamProxy(result, call, read)
    return record(result, call, asked)


def _read_event(call: Call, event: Any) -> None:
    """Read what an event of a stream says; its envelope says nothing."""
    call.record(event.data)
