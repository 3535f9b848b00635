"""Helpers for tests of code that emits events or calls models.

`capture` collects what a test emits, `ManualClock` makes times predictable, and
`FakeProvider` is an OpenAI-compatible server on loopback. `ReporterConformance` has
the tests that every reporter passes. pytest gets the fixtures ``llmevents_bus`` and
``llmevents_capture`` by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents.testing._capture import CapturedEvent, CapturedEvents, capture
from llmevents.testing._clock import ManualClock


if TYPE_CHECKING:
    from llmevents.testing._conformance import ReporterConformance
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
    "ReporterConformance",
    "ServedCall",
    "ServedTotals",
    "capture",
    "read_exchanges",
]


def __getattr__(name: str) -> object:
    """Load on first access what costs: `http.server` is slow to import."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    if name == "ReporterConformance":
        from llmevents.testing._conformance import ReporterConformance

        return ReporterConformance
    from llmevents.testing import provider

    return getattr(provider, name)
