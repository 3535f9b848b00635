"""Events from the SDKs of model providers, without a change to the code that calls.

    import llmevents
    llmevents.instrument("openai")

From then on every call of the SDK emits events; what callers get is untouched, and
nothing is added to a request.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from llmevents._bus import Bus, default_bus
from llmevents._errors import OptionError
from llmevents._switch import disabled


if TYPE_CHECKING:
    from llmevents.instrumentation._patching import Patches

__all__ = ["SUPPORTED", "instrument", "uninstrument"]

MODULES: Mapping[str, str] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "bedrock": "botocore.client",
    "google_genai": "google.genai",
    "ollama": "ollama",
    "mistral": "mistralai.client",
    "cohere": "cohere",
    # What all its chat models, and so nearly all who use it, import.
    "langchain": "langchain_core.language_models.chat_models",
    "litellm": "litellm",
}
"""Name of an SDK -> the module that is imported when it is used."""

SUPPORTED: tuple[str, ...] = tuple(MODULES)
"""SDKs by the name that `instrument` takes."""

_lock = threading.RLock()
wanted: dict[str, Choice] = {}
_patched: dict[str, Patches] = {}
_hooked: set[str] = set()


class Choice(NamedTuple):
    """How an SDK is instrumented.

    Attributes:
        bus: Where to emit.
        include_stream_usage: Whether streams are asked for their usage.
    """

    bus: Bus
    include_stream_usage: bool = False


def instrument(
    *sdks: str, bus: Bus | None = None, include_stream_usage: bool = False
) -> None:
    """Emit events for the calls of these SDKs; doing it twice is doing it once.

    No SDK is imported: one that is not imported yet is instrumented when it is. An
    SDK of a version that is not supported stays as it is, with a warning that names
    both. Does nothing while ``LLMEVENTS_DISABLED`` is set. Instrument before clients
    are used: ``with_raw_response`` and the like keep the method that they first saw.

    Args:
        sdks: ``"openai"`` and the like; all supported ones by default.
        bus: Where to emit; the default bus unless given.
        include_stream_usage: Ask for the usage of streams where an API states it on
            request only (OpenAI's chat completions). The chunk that comes in
            addition is kept from the caller. Off by default: nothing is added to a
            request, and servers exist that refuse the option.

    Raises:
        OptionError: A name is unknown.
        ModuleNotFoundError: wrapt is missing:
            ``pip install "llmevents[instrumentation]"``.
    """
    names = _checked(sdks)
    if disabled():
        return
    require_wrapt()
    chosen = Choice(
        default_bus if bus is None else bus, include_stream_usage=include_stream_usage
    )
    # Now, so that the first call need not, which may be on an event loop.
    import_module("llmevents.llm.pricing")
    # Not under the lock, which an import under way needs for its hook.
    imported = {name: _imported(MODULES[name]) for name in names}
    with _lock:
        for name, module in imported.items():
            wanted.setdefault(name, chosen)
            hook = partial(_patch, name)
            if module is not None:
                hook(module)
            elif name not in _hooked:
                _hooked.add(name)
                _when_imported(MODULES[name], hook)


def uninstrument(*sdks: str) -> None:
    """Give these SDKs their own functions back; all by default.

    Calls and streams under way still emit their terminal events.

    Raises:
        OptionError: A name is unknown.
    """
    with _lock:
        for name in _checked(sdks):
            wanted.pop(name, None)
            patches = _patched.pop(name, None)
            if patches is not None:
                patches.undo()


def _imported(name: str) -> ModuleType | None:
    """Return an SDK that has been imported; waits if another thread is about to."""
    if sys.modules.get(name) is not None:
        with suppress(Exception):
            return import_module(name)
    return None


def _patch(name: str, module: ModuleType) -> None:
    """Instrument an SDK that has been imported, if that is still wanted.

    As a hook it runs inside the application's import, which must not fail because
    an SDK looks different from what we know.
    """
    with _lock:
        choice = wanted.get(name)
        if choice is None or name in _patched:
            return
        from llmevents.instrumentation._patching import Patches

        sdk = import_module(f"llmevents.instrumentation._{name}")
        patches = Patches()
        try:
            is_patched = sdk.patch(module, choice, patches)
        except (AttributeError, ImportError, KeyError) as error:
            patches.undo()
            warnings.warn(
                f"{name} is not instrumented: it is not built as expected ({error!r})",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            if is_patched:
                _patched[name] = patches


def _when_imported(name: str, hook: Callable[[ModuleType], None]) -> None:
    import wrapt

    wrapt.register_post_import_hook(hook, name)


def require_wrapt() -> None:
    try:
        import wrapt  # noqa: F401  # only whether it is there
    except ModuleNotFoundError as error:
        msg = (
            f"instrument() needs {error.name}, which is not installed; "
            'run: pip install "llmevents[instrumentation]"'
        )
        raise ModuleNotFoundError(msg, name=error.name) from error


def _checked(sdks: tuple[str, ...]) -> tuple[str, ...]:
    for name in sdks:
        if name not in MODULES:
            expected = f"one of {', '.join(map(repr, MODULES))}"
            close = get_close_matches(str(name), MODULES, 1)
            raise OptionError(
                name, "an SDK", expected + (f" ({close[0]!r}?)" if close else "")
            )
    return sdks or tuple(MODULES)
