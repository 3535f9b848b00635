"""What the parameters of a call state, as metadata of its start event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from llmevents.instrumentation._calls import Facts, Parameters

NUMBERS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""Numeric parameter, by the name that most SDKs give it -> metadata."""


def numbers(asked: Parameters, names: Mapping[str, str]) -> Facts:
    """Return the numeric parameters of *asked* under the names of the metadata."""
    found: Facts = {}
    for parameter, key in names.items():
        value = asked.get(parameter)
        if isinstance(value, (int, float)):
            found[key] = value
    return found


def text(asked: Parameters, *names: str) -> str | None:
    """Return the first of these parameters that is a text, and not empty."""
    for name in names:
        value = asked.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def count(given: object) -> int | None:
    """Return how many texts *given* is: one, or as many as its items."""
    if isinstance(given, str):
        return 1
    return len(given) if isinstance(given, (list, tuple)) else None


def features(asked_for: Iterable[tuple[str, object]]) -> Facts:
    """Return the names of what is asked for, as metadata, if anything is."""
    found = [name for name, asked in asked_for if asked]
    return {"features": found} if found else {}
