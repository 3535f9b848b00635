"""LangChain, langchain-core 0.3 and 1.x: a handler for every run."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

from llmevents.instrumentation._langchain_models import models
from llmevents.instrumentation._langchain_runs import around
from llmevents.instrumentation.langchain import (
    EveryRunsHandler,
    LLMEventsCallbackHandler,
)


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.instrumentation import Choice
    from llmevents.instrumentation._patching import Patches, Wrapper

SERIES = ("1", "0.3")
"""Major versions; below 1.0 the minor one counts."""

PREFIXES = ("llm.chat", "llm.completion", "llm.tool", "llm.agent")
"""What the handler emits."""

MANAGERS = ("CallbackManager", "AsyncCallbackManager")


def patch(_chat_models: ModuleType, choice: Choice, patches: Patches) -> bool:
    """Wrap LangChain's managers and models; False for a version not supported."""
    if not _is_supported(sys.modules["langchain_core"].__version__):
        return False
    managers = sys.modules["langchain_core.callbacks.manager"]
    configured = _configuring(EveryRunsHandler(bus=choice.bus))
    for name in MANAGERS:
        patches.wrap(getattr(managers, name), "configure", configured)
    models.acquire()
    patches.when_undone(models.release)
    return True


def _configuring(handler: LLMEventsCallbackHandler) -> Wrapper:
    """Add *handler* to every manager, unless one for its bus is there."""
    bus = handler.bus

    def configuring(
        wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        manager = wrapped(*args, **kwargs)
        if not _nobody_listens(bus) and not any(
            isinstance(each, LLMEventsCallbackHandler) and each.bus is bus
            for each in manager.handlers
        ):
            manager.add_handler(handler, inherit=True)
        return manager

    return configuring


def _nobody_listens(bus: Bus) -> bool:
    return around() is None and all(bus.is_quiet(prefix) for prefix in PREFIXES)


def _is_supported(version: str) -> bool:
    major, minor = version.split(".")[:2]
    if (f"{major}.{minor}" if major == "0" else major) in SERIES:
        return True
    supported = " and ".join(f"{each}.x" for each in reversed(SERIES))
    warnings.warn(
        f"langchain-core {version} is not instrumented: "
        f"llmevents supports langchain-core {supported}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
