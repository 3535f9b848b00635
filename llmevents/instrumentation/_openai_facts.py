"""What the parameters of openai's methods say about a call; never content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmevents.instrumentation._asked import NUMBERS, numbers
from llmevents.instrumentation._compatible import server_of


Parameters = Mapping[str, Any]

OUTPUTS: Mapping[str, str] = {"image": "image", "speech": "speech"}
"""Operation -> ``output_type``, where there is but one."""


def facts(operation: str, resource: Any, asked: Parameters) -> dict[str, object]:
    """Return the start event's metadata for a method of *resource*.

    Args:
        operation: Its name by OpenTelemetry, or our own.
        resource: The SDK's object that has the method.
        asked: The keyword arguments.
    """
    found: dict[str, object] = {
        "operation": operation,
        **server_of(getattr(resource, "_client", None)),
    }
    model = asked.get("model")
    if isinstance(model, str):
        found["model"] = model
    if asked.get("stream") is True:
        found["stream"] = True
    found |= numbers(asked, NUMBERS)
    choices = asked.get("n")
    if isinstance(choices, int) and choices != 1 and operation not in OUTPUTS:
        found["choice_count"] = choices
    if operation in OUTPUTS or not ASKED_RARELY.isdisjoint(asked):
        for key, read in READ.items():
            value = read(operation, asked)
            if value:
                found[key] = value
    return found


def _features(_operation: str, asked: Parameters) -> list[str]:
    return [name for name, is_asked in FEATURES.items() if is_asked(asked)]


def _output_type(operation: str, asked: Parameters) -> str | None:
    known = OUTPUTS.get(operation)
    if known is not None:
        return known
    modalities = asked.get("modalities")
    if isinstance(modalities, (list, tuple)) and "audio" in modalities:
        return "speech"
    kind = _form(asked)
    return None if kind is None else "text" if kind == "text" else "json"


def _conversation(_operation: str, asked: Parameters) -> str | None:
    given = asked.get("conversation")
    if isinstance(given, dict):
        given = given.get("id")
    return given if isinstance(given, str) else None


READ: Mapping[str, Callable[[str, Parameters], object]] = {
    "output_type": _output_type,
    "conversation_id": _conversation,
    "features": _features,
}
"""Metadata -> how it is read from operation and parameters; nothing where empty."""

ASKED_RARELY = frozenset(
    {
        "conversation",
        "modalities",
        "response_format",
        "text",
        "text_format",
        "tools",
        "web_search_options",
    }
)
"""The parameters that these look at."""


def _form(asked: Parameters) -> str | None:
    """Return the format that the answer is to have: ``"json_schema"`` for a class."""
    if any(
        isinstance(asked.get(key), type) for key in ("response_format", "text_format")
    ):
        return "json_schema"
    form = asked.get("response_format")  # of chats
    text = asked.get("text")  # of responses
    if isinstance(text, dict):
        form = text.get("format")
    kind = form.get("type") if isinstance(form, dict) else None
    return kind if isinstance(kind, str) else None


def _tools(asked: Parameters) -> list[Any] | tuple[Any, ...]:
    tools = asked.get("tools")
    return tools if isinstance(tools, (list, tuple)) else ()


def _searches(asked: Parameters) -> bool:
    """Whether the web may be searched: an option of chats, a tool of responses."""
    return isinstance(asked.get("web_search_options"), dict) or any(
        str(tool.get("type")).startswith("web_search")
        for tool in _tools(asked)
        if isinstance(tool, dict)
    )


FEATURES: Mapping[str, Callable[[Parameters], bool]] = {
    "tools": lambda asked: bool(_tools(asked)),
    "structured_output": lambda asked: _form(asked) not in (None, "text"),
    "search_grounding": _searches,
}
"""Feature of a call -> whether its parameters ask for it."""
