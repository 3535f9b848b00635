"""Recorded exchanges through an SDK, with and without instrumentation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, TypeVar

import llmevents
from llmevents import Bus
from llmevents.testing import CapturedEvents, FakeProvider, capture
from llmevents.testing.provider import Exchange, read_exchanges
from tests.data import EXCHANGES
from tests.instrumentation.truth import complaints


T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
"""How long a test may take before it counts as hanging."""

# Sends what was asked, reads the whole answer, and returns it described.
Ask = Callable[[Exchange], object]
AskLater = Callable[[Exchange], Awaitable[object]]


class Replayed(NamedTuple):
    """What one exchange came to."""

    exchange: Exchange
    seen: object
    events: CapturedEvents


@cache
def recorded(*providers: str) -> tuple[Exchange, ...]:
    return tuple(
        exchange
        for exchange in read_exchanges(EXCHANGES)
        if exchange.provider in providers
    )


def replay(
    provider: FakeProvider, exchanges: Sequence[Exchange], bus: Bus, ask: Ask
) -> list[Replayed]:
    replayed = []
    for exchange in exchanges:
        with provider.serve(exchange), capture(bus=bus, scope="process") as events:
            seen = ask(exchange)
        replayed.append(Replayed(exchange, seen, events))
    return replayed


async def replay_async(
    provider: FakeProvider, exchanges: Sequence[Exchange], bus: Bus, ask: AskLater
) -> list[Replayed]:
    replayed = []
    for exchange in exchanges:
        with provider.serve(exchange), capture(bus=bus, scope="process") as events:
            seen = await ask(exchange)
        replayed.append(Replayed(exchange, seen, events))
    return replayed


def wrongs(replayed: list[Replayed], prefixes: dict[str, str]) -> list[str]:
    """Return what events say wrongly about exchanges; one line each."""
    return [
        line
        for each in replayed
        for line in complaints(
            each.exchange, each.events, prefixes[each.exchange.operation]
        )
    ]


def in_loop(main: Callable[[], Awaitable[T]]) -> T:
    """Return what *main* returns in an event loop of its own."""

    async def limited() -> T:
        return await asyncio.wait_for(main(), TIMEOUT_SECONDS)

    return asyncio.run(limited())


@contextmanager
def instrumented(sdk: str, bus: Bus) -> Iterator[None]:
    """Emit what an SDK does in a block on *bus*."""
    llmevents.instrument(sdk, bus=bus)
    try:
        yield
    finally:
        llmevents.uninstrument(sdk)


class Compared(NamedTuple):
    """What a program saw without instrumentation, and with it, and what was emitted."""

    bare: object
    watched: object
    events: CapturedEvents


def compare(sdk: str, program: Callable[[], object]) -> Compared:
    """Run *program* without and with instrumentation; it returns all that it saw."""
    bus = Bus(strict=True)
    bare = program()
    with instrumented(sdk, bus), capture(bus=bus, scope="process") as events:
        watched = program()
    assert set(bus.stats().values()) == {0}
    return Compared(bare, watched, events)


def phases(events: CapturedEvents, prefix: str = "llm") -> list[str]:
    """Return the names of the events that begin or end something."""
    return [
        each.name
        for each in events
        if each.event[-1] in ("start", "stop", "exception")
        and each.name.startswith(prefix)
    ]


def raised(operation: Callable[[], object]) -> tuple[object, ...]:
    """Return what *operation* raises, or else what it returns."""
    try:
        return ("returned", operation())
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is the same without us
        return (type(error), str(error), type(error.__cause__))


async def raised_later(operation: Awaitable[object]) -> tuple[object, ...]:
    try:
        return ("returned", await operation)
    except BaseException as error:  # noqa: BLE001  # likewise
        return (type(error), str(error), type(error.__cause__))
