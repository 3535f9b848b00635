"""What the parameters of a call state, as metadata of its start event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from llmevents.instrumentation._calls import Facts, Parameters

NUMBERS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""Numeric parameter, by the names that most SDKs give it -> metadata.

``dimensions`` and the like, that the response shows, are not among them.
"""


def numbers(asked: Parameters, names: Mapping[str, str]) -> Facts:
    """Return the numeric parameters of *asked* under the names of the metadata.

    Of two parameters for the same thing the one that is named last counts.
    """
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
    """Return how many texts *given* is: text, token ids, or a list of either."""
    if isinstance(given, str):
        return 1
    if isinstance(given, (list, tuple)):
        return 1 if given and isinstance(given[0], int) else len(given)
    return None


def texts_in(name: str) -> Callable[[Parameters], int | None]:
    """Return what counts the texts that the parameter *name* has."""
    return lambda asked: count(asked.get(name))


def features(asked_for: Iterable[tuple[str, object]]) -> Facts:
    """Return the names of what is asked for, as metadata, if anything is."""
    found = [name for name, asked in asked_for if asked]
    return {"features": found} if found else {}
