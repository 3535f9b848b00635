"""Calls whose request is sent at the first step of a generator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llmevents import Bus
from llmevents.instrumentation._calls import Method
from llmevents.instrumentation._generators import wrap_lazy, wrap_lazy_async
from llmevents.instrumentation._patching import Patches
from llmevents.reporting import carry
from llmevents.testing import capture


METHOD = Method("llm.chat", lambda _instance, _asked: {"operation": "chat"})


class Keeper:
    """Knows what is current in another library."""

    def __init__(self) -> None:
        self.current: list[str] = []

    def enter(self, span_id: str) -> object:
        self.current.append(span_id)
        return span_id

    def leave(self, entered: object) -> None:
        assert self.current.pop() == entered

    def stand_in(self, span_id: str) -> object:
        return None


class SDK:
    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def stream(self) -> Iterator[int]:
        for _ in range(2):
            yield len(self.keeper.current)

    async def stream_async(self) -> AsyncIterator[int]:
        async def chunks() -> AsyncIterator[int]:
            for _ in range(2):
                yield len(self.keeper.current)

        return chunks()


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def bus(keeper: Keeper) -> Iterator[Bus]:
    made = Bus()
    patches = Patches()
    patches.wrap(SDK, "stream", wrap_lazy(METHOD, made))
    patches.wrap(SDK, "stream_async", wrap_lazy_async(METHOD, made))
    stop = carry(made, keeper)
    yield made
    stop()
    patches.undo()


def test_the_call_is_current_elsewhere_while_its_request_is_sent_and_not_after(
    bus: Bus, keeper: Keeper
) -> None:
    """What stays current in another library would be a parent of all that follows."""
    with capture("llm.chat.stop", bus=bus, scope="process") as events:
        stream = SDK(keeper).stream()
        assert keeper.current == []
        assert next(stream) == 1
        assert keeper.current == []
        assert list(stream) == [0]
    assert events[0].measurements["chunks"] == 2


def test_so_is_an_asynchronous_one(bus: Bus, keeper: Keeper) -> None:
    async def use() -> list[Any]:
        stream = await SDK(keeper).stream_async()
        assert keeper.current == []
        return [chunk async for chunk in stream]

    with capture("llm.chat.stop", bus=bus, scope="process") as events:
        assert asyncio.run(use()) == [1, 0]
    assert keeper.current == []
    assert len(events) == 1
