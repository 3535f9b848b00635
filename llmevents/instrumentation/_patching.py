"""Putting wrappers around an SDK's functions, and taking them off again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import wrapt


# What is wrapped, and what it takes and returns, is the SDK's business.
Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


class Patches:
    """The wrappers that one SDK was given."""

    def __init__(self) -> None:
        self._wrapped: list[tuple[type, str, object, object]] = []
        self._are_on = True

    def wrap(self, owner: type, name: str, wrapper: Wrapper) -> None:
        """Put *wrapper* around ``owner.name``, as `wrapt.FunctionWrapper` does."""
        original = owner.__dict__[name]
        ours = wrapt.FunctionWrapper(original, wrapper, enabled=lambda: self._are_on)
        self._wrapped.append((owner, name, original, ours))
        setattr(owner, name, ours)

    def undo(self) -> None:
        """Put the originals back, the last one first.

        Methods that somebody has kept, and those that another tool has wrapped
        since, cannot be taken back: in these our wrappers stay, and do nothing.
        """
        self._are_on = False
        while self._wrapped:
            owner, name, original, ours = self._wrapped.pop()
            if owner.__dict__.get(name) is ours:
                setattr(owner, name, original)


def is_supported(sdk: str, version: str, majors: tuple[int, ...]) -> bool:
    """Whether the SDK's major version is one of *majors*; warns if it is not."""
    major = version.split(".", 1)[0]
    if major in map(str, majors):
        return True
    supported = " and ".join(f"{each}.x" for each in majors)
    warnings.warn(
        f"{sdk} {version} is not instrumented: llmevents supports {sdk} {supported}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
