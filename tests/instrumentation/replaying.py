"""Recorded exchanges through an SDK, with and without instrumentation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
)
from functools import cache
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

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

# What provides the function above, with a client of that server, for a while.
Asking = Callable[[FakeProvider], AbstractContextManager[Ask]]
AskingLater = Callable[[FakeProvider], AbstractAsyncContextManager[AskLater]]

PREFIXES: Mapping[str, str] = {
    "text_completion": "llm.completion",
    "embeddings": "llm.embedding",
    "rerank": "llm.rerank",
}
"""Operation of a recording -> prefix of its events, where it is no chat."""

BEDROCK_COMPLETIONS = ("titan-text", "command-light-text")
"""Models of Bedrock of which an invocation is a completion."""


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


def root(provider: FakeProvider) -> str:
    """Return the address of a server, for an SDK that adds the version itself."""
    return provider.base_url.removesuffix("/v1")


def replay(
    provider: FakeProvider, exchanges: Sequence[Exchange], bus: Bus, asking: Asking
) -> list[Replayed]:
    """Send every request through the SDK and read the whole answer."""
    replayed = []
    with asking(provider) as ask:
        for exchange in exchanges:
            with provider.serve(exchange), capture(bus=bus, scope="process") as events:
                seen = ask(exchange)
            replayed.append(Replayed(exchange, seen, events))
    return replayed


def replay_async(
    provider: FakeProvider,
    exchanges: Sequence[Exchange],
    bus: Bus,
    asking: AskingLater,
) -> list[Replayed]:
    """Do the same with the asynchronous client, in an event loop of its own."""

    async def main() -> list[Replayed]:
        replayed = []
        async with asking(provider) as ask:
            for exchange in exchanges:
                serving = provider.serve(exchange)
                with serving, capture(bus=bus, scope="process") as events:
                    seen = await ask(exchange)
                replayed.append(Replayed(exchange, seen, events))
        return replayed

    return in_loop(main)


def replay_unnoticed(
    sdk: str, ask_all: Callable[[Bus], list[Replayed]]
) -> list[Replayed]:
    """Return what instrumented exchanges came to, which the caller does not notice."""
    bus = Bus(strict=True)
    bare = ask_all(bus)
    with instrumented(sdk, bus):
        watched = ask_all(bus)
    assert not any(each.events for each in bare)
    assert [each.seen for each in watched] == [each.seen for each in bare]
    assert set(bus.stats().values()) == {0}
    return watched


def prefix_of(exchange: Exchange) -> str:
    """Return the prefix of the events of an exchange."""
    if exchange.operation == "invoke":
        completes = any(part in exchange.path for part in BEDROCK_COMPLETIONS)
        return "llm.completion" if completes else "llm.chat"
    return PREFIXES.get(exchange.operation, "llm.chat")


def model_in(exchange: Exchange) -> object:
    """Return the model that was asked for: in the body, or else in the path."""
    if exchange.provider == "bedrock":
        return unquote(exchange.path.split("/")[2])
    if exchange.provider in {"google", "vertex"}:
        return exchange.path.rpartition("/")[2].partition(":")[0]
    return exchange.request.get("model")


def wrongs(replayed: list[Replayed]) -> list[str]:
    """Return what events say wrongly about exchanges; one line each."""
    return [
        line
        for each in replayed
        for line in complaints(each.exchange, each.events, prefix_of(each.exchange))
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
