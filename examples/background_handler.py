"""A handler that takes its time, on a thread of its own, with a bound."""

from __future__ import annotations

import json

import llmevents
from llmevents import llm


def send(
    event: llmevents.EventName,
    measurements: llmevents.Measurements,
    metadata: llmevents.Metadata,
    config: object,
) -> None:
    """Stands for a request to somewhere slow."""
    line = {"event": ".".join(event), "tokens": measurements.get("input_tokens")}
    print(json.dumps(line))


sender = llmevents.background(send, max_events=1_000, on_full="drop_old")
with llmevents.attach("send", "llm.*.stop", sender):
    for size in (10, 20, 30):
        with llm.chat(provider="acme", model="tiny-1") as call:
            call.usage(input_tokens=size)

sender.shutdown()
