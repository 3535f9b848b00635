"""What tests of calls have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings

from llmevents import Bus
from llmevents.llm import Call
from llmevents.testing import CapturedEvents


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that have other things to do as well."""

SPANS = [
    f"llm.{prefix}.{phase}"
    for prefix in ("*", "provider.request")
    for phase in ("start", "stop", "exception", "first_chunk", "chunk")
]
"""What calls cost is told by events of its own, which has tests of its own."""

TIMES = {"duration", "monotonic_time", "system_time"}

RESPONSE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "tiny-1-2026",
    "choices": [{"index": 0, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}


def numbers(
    events: CapturedEvents, name: str = "llm.chat.stop"
) -> list[dict[str, int]]:
    """Return what the terminal events of *name* measured, times aside."""
    return [
        {
            key: int(value)
            for key, value in event.measurements.items()
            if key not in TIMES
        }
        for event in events.named(name)
    ]


def handle(bus: Bus, prefix: str = "llm.chat") -> Call:
    call = Call(bus, prefix, scoped=False)
    call.begin({})
    return call


def chunks() -> Iterator[dict[str, object]]:
    """Stream what amounts to RESPONSE, usage in a chunk of its own at the end."""
    yield {"choices": [{"index": 0}], "usage": None}
    yield {"choices": [{"index": 0, "finish_reason": "stop"}], "usage": None}
    yield {"choices": [], "usage": RESPONSE["usage"]}
