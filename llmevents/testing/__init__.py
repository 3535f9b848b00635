"""Helpers for tests of code that emits events or calls models.

`capture` collects what a test emits, `ManualClock` makes times predictable, and
`FakeProvider` is an OpenAI-compatible server on loopback. pytest gets the fixtures
``llmevents_bus`` and ``llmevents_capture`` by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents.testing._capture import CapturedEvent, CapturedEvents, capture
from llmevents.testing._clock import ManualClock


if TYPE_CHECKING:
    from llmevents.testing.provider import (
        FAULTS,
        Exchange,
        FakeProvider,
        Reply,
        ServedCall,
        ServedTotals,
        read_exchanges,
    )

__all__ = [
    "FAULTS",
    "CapturedEvent",
    "CapturedEvents",
    "Exchange",
    "FakeProvider",
    "ManualClock",
    "Reply",
    "ServedCall",
    "ServedTotals",
    "capture",
    "read_exchanges",
]


def __getattr__(name: str) -> object:
    """Load the fake provider on first access: `http.server` is slow to import."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from llmevents.testing import provider

    return getattr(provider, name)
