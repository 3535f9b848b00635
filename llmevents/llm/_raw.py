"""Usage as the provider has put it, as plain data, for audits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from llmevents.llm._counts import Plan
from llmevents.llm._fields import as_text, fields


Plain: TypeAlias = "dict[str, object]"

DEEPEST = 4
"""Levels of a usage object; no provider's has more than three."""

LARGEST = 100
"""Entries of one level."""


def plain(plan: Plan, source: object, *, whole: bool) -> Plain:
    """Return a usage object as plain dicts, lists, numbers and names.

    Args:
        plan: Of its shape.
        source: The object.
        whole: Whether it is the response itself. Then only the counts are taken: what
            else is there may be content.
    """
    found = fields(source) or {}
    if whole or not isinstance(found, Mapping):
        found = {key: found.get(key) for key in plan.keys}
        found = {key: value for key, value in found.items() if value is not None}
    made = _plain(found, DEEPEST)
    return made if isinstance(made, dict) else {}


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return as_text(value)
    if depth == 0:
        return None
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value[:LARGEST]]
    found = fields(value)
    # What is empty stands for nothing: Mistral's SDK has an object for "unset".
    if not isinstance(found, Mapping) or not found:
        return None
    return {
        str(key): _plain(item, depth - 1)
        for key, item in list(found.items())[:LARGEST]
        if not (isinstance(key, str) and key.startswith("_"))
    }
