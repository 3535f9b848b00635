"""Putting wrappers around an SDK's functions, and taking them off again."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import wrapt


# What is wrapped, and what it takes and returns, is the SDK's business.
Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


class Patches:
    """The wrappers that one SDK was given."""

    def __init__(self) -> None:
        self._wrapped: list[tuple[type | ModuleType, str, object, object]] = []
        self._undoings: list[Callable[[], object]] = []
        self._are_on = True

    def wrap(self, owner: type | ModuleType, name: str, wrapper: Wrapper) -> None:
        """Put *wrapper* around ``owner.name``, as `wrapt.FunctionWrapper` does."""
        original = owner.__dict__[name]
        ours = wrapt.FunctionWrapper(original, wrapper, enabled=lambda: self._are_on)
        self._wrapped.append((owner, name, original, ours))
        setattr(owner, name, ours)

    def when_imported(self, name: str, patch: Callable[[ModuleType], object]) -> None:
        """Call *patch* with a module of the SDK, now or when the SDK imports it.

        SDKs import most of what they have when it is first used, which then takes
        as long as the rest of them. What *patch* lacks is a warning then, as the
        import is the application's.
        """
        if sys.modules.get(name) is not None:
            patch(import_module(name))
            return
        waiting = _waiting.get(name)
        if waiting is None:
            waiting = _waiting[name] = []
            wrapt.register_post_import_hook(_imported, name)
        waiting.append(patch)
        self.when_undone(partial(waiting.remove, patch))

    def when_undone(self, undoing: Callable[[], object]) -> None:
        """Call *undoing*, once, when the originals are put back."""
        self._undoings.append(undoing)

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
        while self._undoings:
            self._undoings.pop()()


_waiting: dict[str, list[Callable[[ModuleType], object]]] = {}
"""Module that is not imported yet -> what is to be done when it is."""


def _imported(module: ModuleType) -> None:
    name = module.__name__
    for patch in list(_waiting[name]):
        try:
            patch(module)
        except (AttributeError, ImportError, KeyError) as error:
            warnings.warn(
                f"{name} is not instrumented: it is not built as expected ({error!r})",
                RuntimeWarning,
                stacklevel=2,
            )


def is_supported(sdk: str, version: str, majors: tuple[int | str, ...]) -> bool:
    """Whether the SDK's version is one of *majors*; warns if it is not.

    Args:
        sdk: Its name.
        version: As it is installed: ``"2.1.0"``.
        majors: ``2`` for 2.x; ``"0.6"`` for 0.6.x, where that is what a major
            version is elsewhere.
    """
    if any(f"{version}.".startswith(f"{major}.") for major in majors):
        return True
    supported = " and ".join(f"{each}.x" for each in majors)
    warnings.warn(
        f"{sdk} {version} is not instrumented: llmevents supports {sdk} {supported}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
