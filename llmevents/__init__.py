"""Telemetry for LLM applications.

The functions here are the methods of one bus, the default one. What an import costs
is paid when it is used: everything that is not the bus, spans and context is loaded
on first access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents._bus import Bus, default_bus
from llmevents._context import context, propagate
from llmevents._errors import (
    BudgetExceededError,
    DecoratorError,
    EventNameError,
    EventPayloadError,
    HandlerError,
    HandlerExistsError,
    HandlerNotFoundError,
    LLMEventsError,
    OptionError,
    UndeclaredEventError,
)
from llmevents._registration import HandlerInfo
from llmevents._scope import span
from llmevents._span import Span, start_span
from llmevents._subscription import Subscription
from llmevents._types import (
    EventName,
    FailurePolicy,
    Handler,
    Measurements,
    Metadata,
    Name,
)


if TYPE_CHECKING:
    from llmevents import (
        config,
        events,
        instrumentation,
        ledger,
        llm,
        logger,
        metrics,
        poller,
        reporting,
        signals,
        testing,
        web,
    )
    from llmevents._background import Background, background
    from llmevents.config import ConfigError, Telemetry, configure, get_config
    from llmevents.instrumentation import instrument, uninstrument
    from llmevents.logger import attach_default_logger, detach_default_logger

__all__ = [
    "Background",
    "BudgetExceededError",
    "Bus",
    "ConfigError",
    "DecoratorError",
    "EventName",
    "EventNameError",
    "EventPayloadError",
    "FailurePolicy",
    "Handler",
    "HandlerError",
    "HandlerExistsError",
    "HandlerInfo",
    "HandlerNotFoundError",
    "LLMEventsError",
    "Measurements",
    "Metadata",
    "Name",
    "OptionError",
    "Span",
    "Subscription",
    "Telemetry",
    "UndeclaredEventError",
    "attach",
    "attach_default_logger",
    "background",
    "config",
    "configure",
    "context",
    "default_bus",
    "detach",
    "detach_default_logger",
    "events",
    "execute",
    "get_config",
    "has_handlers",
    "instrument",
    "instrumentation",
    "ledger",
    "list_handlers",
    "llm",
    "logger",
    "metrics",
    "on",
    "poller",
    "propagate",
    "reporting",
    "signals",
    "span",
    "start_span",
    "stats",
    "testing",
    "uninstrument",
    "web",
]

attach = default_bus.attach
detach = default_bus.detach
execute = default_bus.execute
has_handlers = default_bus.has_handlers
list_handlers = default_bus.list_handlers
on = default_bus.on
stats = default_bus.stats

_LAZY = {
    "Background": "llmevents._background",
    "ConfigError": "llmevents.config",
    "Telemetry": "llmevents.config",
    "attach_default_logger": "llmevents.logger",
    "background": "llmevents._background",
    "configure": "llmevents.config",
    "detach_default_logger": "llmevents.logger",
    "get_config": "llmevents.config",
    "instrument": "llmevents.instrumentation",
    "uninstrument": "llmevents.instrumentation",
}


def __getattr__(name: str) -> object:
    """Load a submodule, or a function that lives in one, on first access."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    if name in _LAZY:
        loaded: object = getattr(import_module(_LAZY[name]), name)
    else:
        loaded = import_module(f"{__name__}.{name}")
    globals()[name] = loaded
    return loaded


def __dir__() -> list[str]:
    return sorted(__all__)
