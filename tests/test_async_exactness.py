"""Ten thousand tasks at once: every event is in the right one, and every start ends."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llmevents import Bus, Measurements, Metadata, context, span, start_span
from llmevents._bus import ambient
from llmevents._context import current_span
from llmevents._types import EventName


TASKS = 10_000

EAGER = "eager_task_factory"
"""New in Python 3.12: a task begins in its creator's time."""

factories = pytest.mark.parametrize(
    "factory",
    [
        pytest.param(None, id="lazy"),
        pytest.param(
            EAGER,
            id="eager",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 12), reason="eager tasks are new in 3.12"
            ),
        ),
    ],
)

Event = tuple[str, str, dict[str, Any]]
"""Operation, phase, metadata."""


class Recorder:
    """Every event of a bus, and the request that it was really emitted in."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.events: list[Event] = []
        self.bus.attach("record", "app.**", self.record)

    def record(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,
    ) -> None:
        self.events.append((event[1], event[2], dict(metadata)))


async def pause(random_: random.Random) -> None:
    for _ in range(random_.randrange(3)):
        await asyncio.sleep(0)


class Service:
    """Requests of two levels, with blocks, decorators, streams and handles."""

    def __init__(self, recorder: Recorder, seed: int) -> None:
        self.bus = recorder.bus
        self.seed = seed
        self.closing_time = asyncio.Event()
        decorate = span("app.decorated", bus=self.bus)
        self.decorated = decorate(self._decorated)
        self.numbers = span("app.numbers", bus=self.bus)(self._numbers)

    async def request(self, number: int) -> None:
        random_ = random.Random(self.seed + number)  # noqa: S311  # no secret
        with (
            context(request=number, deep="outer"),
            span("app.request", {"own": number}, bus=self.bus),
        ):
            await pause(random_)
            with (
                context(deep="inner"),
                span("app.inner", {"own": number}, bus=self.bus),
            ):
                await pause(random_)
                await self.decorated(number, random_)
            if number % 5 == 0:
                await self._fan_out(number, random_)
            await self.closing_time.wait()

    async def _fan_out(self, number: int, random_: random.Random) -> None:
        child = asyncio.create_task(self._child(number, random_))
        try:
            await self._read(number, random_)
            await child
        finally:
            child.cancel()

    async def _decorated(self, number: int, random_: random.Random) -> None:
        await pause(random_)
        self.bus.execute("app.point.here", {}, {"own": number})

    async def _child(self, number: int, random_: random.Random) -> None:
        with span("app.child", {"own": number}, bus=self.bus):
            await pause(random_)

    async def _numbers(self, number: int, random_: random.Random) -> AsyncIterator[int]:
        for item in range(3):
            with span("app.step", {"own": number}, bus=self.bus):
                await pause(random_)
            yield item

    async def _read(self, number: int, random_: random.Random) -> None:
        handle = start_span("app.handle", {"own": number}, bus=self.bus)
        async for item in handle.iterate(self.numbers(number, random_)):
            await pause(random_)
            if random_.random() < 0.2 and item:
                break


def run(service: Service, factory: str | None, *, cancel_every: int = 0) -> int:
    """Make all requests at once; return how many of them were cancelled."""

    async def main() -> int:
        if factory is not None:
            asyncio.get_running_loop().set_task_factory(vars(asyncio)[factory])
        tasks = [asyncio.create_task(service.request(n)) for n in range(TASKS)]
        for turn in range(8 if cancel_every else 0):
            await asyncio.sleep(0)
            for task in tasks[turn * cancel_every :: 8 * cancel_every]:
                task.cancel()
        service.closing_time.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if not isinstance(result, asyncio.CancelledError):
                assert result is None
        return sum(isinstance(r, asyncio.CancelledError) for r in results)

    cancelled = asyncio.run(main())
    assert current_span.get() is None
    assert ambient.get() is None
    return cancelled


# Where each operation is done: in which other one of the same request.
PLACES = {
    "request": None,
    "inner": "request",
    "decorated": "inner",
    "child": "request",
    "handle": "request",
    "numbers": "request",
    "step": "numbers",
}


def check(events: list[Event]) -> None:
    """Compare what each event says with what is true of its task."""
    operations: dict[str, tuple[str, int]] = {}
    for operation, phase, metadata in events:
        if phase == "start":
            assert metadata["span_id"] not in operations
            operations[metadata["span_id"]] = (operation, metadata["request"])
    ended: Counter[str] = Counter()
    for operation, phase, metadata in events:
        number = metadata["request"]
        assert metadata.get("own", number) == number
        inner = operation in {"inner", "decorated", "point"}
        assert metadata["deep"] == ("inner" if inner else "outer")
        if operation == "point":
            continue
        span_id = metadata["span_id"]
        assert operations[span_id] == (operation, number)
        around = PLACES[operation]
        parent = metadata.get("parent_span_id")
        assert (around is None) == (parent is None)
        if around is not None:
            assert operations[str(parent)] == (around, number)
        ended[span_id] += phase in {"stop", "exception"}
    assert len(ended) == len(operations)
    assert set(ended.values()) == {1}


@factories
def test_events_of_concurrent_tasks_do_not_mix(factory: str | None) -> None:
    recorder = Recorder()

    assert run(Service(recorder, seed=1), factory) == 0

    check(recorder.events)
    starts = Counter(op for op, phase, _ in recorder.events if phase == "start")
    always = dict.fromkeys(("request", "inner", "decorated"), TASKS)
    sometimes = dict.fromkeys(("child", "handle", "numbers"), TASKS // 5)
    del starts["step"]
    assert starts == {**always, **sometimes}
    failed = [event for event in recorder.events if event[1] == "exception"]
    assert failed == []


@factories
def test_every_span_ends_once_when_a_third_of_the_tasks_is_cancelled(
    factory: str | None,
) -> None:
    recorder = Recorder()

    cancelled = run(Service(recorder, seed=2), factory, cancel_every=3)

    assert cancelled == len(range(0, TASKS, 3))
    check(recorder.events)
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for operation, phase, metadata in recorder.events:
        if phase in {"stop", "exception"}:
            outcomes[operation][metadata.get("kind", phase)] += 1
    assert outcomes["request"] == {"stop": TASKS - cancelled, "cancelled": cancelled}
    assert outcomes["inner"]["cancelled"] > 0
    assert outcomes["child"]["cancelled"] > 0
