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
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from llmevents._bus import Bus, default_bus
from llmevents._errors import OptionError
from llmevents._switch import disabled


if TYPE_CHECKING:
    from llmevents.instrumentation._patching import Patches

__all__ = ["SUPPORTED", "instrument", "uninstrument"]

SUPPORTED: tuple[str, ...] = ("openai",)
"""SDKs by the name they are imported under."""

_lock = threading.RLock()
wanted: dict[str, Bus] = {}
_patched: dict[str, Patches] = {}
_hooked: set[str] = set()


def instrument(*sdks: str, bus: Bus | None = None) -> None:
    """Emit events for the calls of these SDKs; doing it twice is doing it once.

    No SDK is imported: one that is not imported yet is instrumented when it is. An
    SDK of a version that is not supported stays as it is, with a warning that names
    both. Does nothing while ``LLMEVENTS_DISABLED`` is set. Instrument before clients
    are used: ``with_raw_response`` and the like keep the method that they first saw.

    Args:
        sdks: Names as imported, ``"openai"``; all supported ones by default.
        bus: Where to emit; the default bus unless given.

    Raises:
        OptionError: A name is unknown.
        ModuleNotFoundError: wrapt is missing:
            ``pip install "llmevents[instrumentation]"``.
    """
    names = _checked(sdks)
    if disabled():
        return
    require_wrapt()
    chosen = default_bus if bus is None else bus
    # Not under the lock, which an import under way needs for its hook.
    imported = {name: _imported(name) for name in names}
    with _lock:
        for name, module in imported.items():
            wanted.setdefault(name, chosen)
            if module is not None:
                _patch(module)
            elif name not in _hooked:
                _hooked.add(name)
                _when_imported(name, _patch)


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


def _patch(module: ModuleType) -> None:
    """Instrument an SDK that has been imported, if that is still wanted.

    As a hook it runs inside the application's import, which must not fail because
    an SDK looks different from what we know.
    """
    with _lock:
        name = module.__name__
        bus = wanted.get(name)
        if bus is None or name in _patched:
            return
        from llmevents.instrumentation._patching import Patches

        sdk = import_module(f"llmevents.instrumentation._{name}")
        patches = Patches()
        try:
            is_patched = sdk.patch(module, bus, patches)
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
        if name not in SUPPORTED:
            expected = f"one of {', '.join(map(repr, SUPPORTED))}"
            close = get_close_matches(str(name), SUPPORTED, 1)
            raise OptionError(
                name, "an SDK", expected + (f" ({close[0]!r}?)" if close else "")
            )
    return sdks or SUPPORTED
