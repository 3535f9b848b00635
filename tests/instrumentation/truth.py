"""What recorded exchanges state, compared with what events say."""

from __future__ import annotations

from llmevents.testing import CapturedEvents
from llmevents.testing.provider import Exchange


MEASURED = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}
"""Key of the truth -> measurement that states it."""

ZERO_IS_UNKNOWN = {"cache_read", "cache_write", "reasoning"}
"""Counts of which 0 and "not stated" are equal; see the data's README."""


def complaints(exchange: Exchange, events: CapturedEvents, prefix: str) -> list[str]:
    """Return what *events* say wrongly about *exchange*; one line each."""
    ending = "stop" if exchange.status < 400 else "exception"
    names = [
        each.name
        for each in events
        if each.event[-1] in {"start", "stop", "exception"}
        and each.event[:3] != ("llm", "provider", "request")
    ]
    if names != [f"{prefix}.start", f"{prefix}.{ending}"]:
        return [f"{exchange.id}: {names}"]
    truth = exchange.truth or {}
    found = []
    for key, measurement in MEASURED.items():
        stated, measured = truth.get(key), events[-1].measurements.get(measurement)
        unknown = key in ZERO_IS_UNKNOWN and not stated and not measured
        if stated != measured and not unknown:
            found.append(f"{exchange.id}: {key} is {stated}, measured {measured}")
    attempts = [each.name for each in events if each.event[2] == "request"]
    if attempts != ["llm.provider.request.start", "llm.provider.request.stop"]:
        found.append(f"{exchange.id}: attempts {attempts}")
    return found
