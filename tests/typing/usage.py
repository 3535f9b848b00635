"""What users' type checkers see. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from typing_extensions import assert_type

import llmevents
from llmevents import Bus, Span, Subscription, llm
from llmevents.llm import Call
from llmevents.metrics import Counter, MetricStore, Sum
from llmevents.testing import CapturedEvents, capture


def handler(
    event: llmevents.EventName,
    measurements: llmevents.Measurements,
    metadata: llmevents.Metadata,
    config: object,
) -> None: ...


@llmevents.span("myapp.plain")
def plain(text: str, *, times: int = 1) -> int:
    return len(text) * times


@llmevents.span("myapp.pages")
def pages() -> Iterator[int]:
    yield 1


@llm.chat(provider="acme")
async def ask(question: str) -> str:
    return question


@llmevents.on("a.b", "c.**")
def attached(
    event: llmevents.EventName,
    measurements: llmevents.Measurements,
    metadata: llmevents.Metadata,
    config: object,
) -> bool:
    return True


async def check(stream: AsyncIterator[bytes], names: list[str]) -> None:
    assert_type(plain("x", times=2), int)
    assert_type(pages(), Iterator[int])
    assert_type(await ask("why"), str)
    assert_type(attached(("a",), {}, {}, None), bool)
    assert_type(llmevents.attach("id", names, handler), Subscription)
    assert_type(
        llmevents.attach("id", "llm.**", llmevents.background(handler)), Subscription
    )
    with llmevents.span("myapp.block") as block:
        assert_type(block, Span)
    with llm.chat(model="m") as call:
        assert_type(call, Call)
    with capture("llm.**", bus=Bus()) as events:
        assert_type(events, CapturedEvents)
    started = llmevents.start_span("myapp.stream")
    for item in started.iterate([1, 2]):
        assert_type(item, int)
    async for part in started.iterate(stream):
        assert_type(part, bytes)
    assert_type(llmevents.propagate(plain)("x"), int)
    MetricStore([Counter("llm.calls", event="llm.*.stop"), Sum("llm.chat.stop.chunks")])
