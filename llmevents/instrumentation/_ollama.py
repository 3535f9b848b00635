"""The ollama SDK, 0.5 and 0.6: chat, generate and embeddings.

What every method of a client goes through is wrapped, not the methods: ``ollama.chat``
and the other functions of the module are methods of a client that it made at import,
so that whoever has imported them has what was there before.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from llmevents.instrumentation import _http
from llmevents.instrumentation._asked import NUMBERS, count, features, numbers
from llmevents.instrumentation._calls import Facts, Method, Parameters, no_texts
from llmevents.instrumentation._generators import wrap_lazy, wrap_lazy_async
from llmevents.instrumentation._patching import is_supported


if TYPE_CHECKING:
    from types import ModuleType

    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches, Wrapper

MAJORS = ("0.5", "0.6")

OPERATIONS = {
    "/api/chat": ("llm.chat", "chat"),
    "/api/generate": ("llm.completion", "text_completion"),
    "/api/embed": ("llm.embedding", "embeddings"),
    "/api/embeddings": ("llm.embedding", "embeddings"),
}
"""Path -> prefix and name of the operation (ollama, docs/api.md)."""

POSITIONAL = ("cls", "method", "path")
"""Of ``_request``, which hands the last two on to the HTTP client."""

PARAMETERS = {**NUMBERS, "num_predict": "max_tokens"}
"""Option of a model -> metadata."""


def patch(ollama: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap what sends; False, with a warning, for a version not supported."""
    if not is_supported("ollama", version("ollama"), MAJORS):
        return False
    _http.patch(patches)
    for owner, make in (
        (ollama.Client, wrap_lazy),
        (ollama.AsyncClient, wrap_lazy_async),
    ):
        by_path = {path: make(_method(path), choice.bus) for path in OPERATIONS}
        patches.wrap(owner, "_request", _by_path(by_path))
    return True


def _by_path(wrappers: Mapping[str, Wrapper]) -> Wrapper:
    """Return what calls the wrapper of an operation; what is none is passed on."""

    def calling(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = args[2] if len(args) > 2 else None  # noqa: PLR2004  # see POSITIONAL
        wrapper = wrappers.get(path) if isinstance(path, str) else None
        if wrapper is None:
            return wrapped(*args, **kwargs)
        return wrapper(wrapped, instance, args, kwargs)

    return calling


def _method(path: str) -> Method:
    prefix, operation = OPERATIONS[path]
    return Method(
        prefix=prefix,
        facts=lambda _client, asked: _facts(operation, asked),
        texts=_texts if operation == "embeddings" else no_texts,
        positional=POSITIONAL,
        sends=True,
        client=lambda client: client._client,  # noqa: SLF001  # it has no other name
    )


def _facts(operation: str, asked: Parameters) -> Facts:
    """Return the start event's metadata, from the body that is sent."""
    body = asked["json"]
    facts: Facts = {
        "operation": operation,
        "provider": "ollama",
        "model": body["model"],
    }
    if asked.get("stream") is True:
        facts["stream"] = True
    asked_for = (
        ("tools", body.get("tools")),
        ("structured_output", body.get("format")),
    )
    return facts | numbers(body.get("options") or {}, PARAMETERS) | features(asked_for)


def _texts(asked: Parameters) -> int | None:
    # Of the older path, which takes one text, ``prompt`` is the name.
    return count(asked["json"].get("input", ""))
