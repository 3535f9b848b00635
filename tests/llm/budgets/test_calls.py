"""Budgets as calls meet them: `llm.chat`, `llm.record`, threads and tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmevents import BudgetExceededError, Bus, llm
from llmevents.llm.budgets import (
    Budget,
    BudgetGuard,
    Hold,
    MemoryBudgetStore,
    Outcome,
)
from llmevents.testing import capture


CALLS = 1_000
ALLOWED = 100


def _ask(bus: Bus) -> bool:
    try:
        with llm.chat(bus=bus) as call:
            call.usage(total_tokens=7)
    except BudgetExceededError:
        return False
    return True


def _guarded(bus: Bus, budget: Budget) -> BudgetGuard:
    store = MemoryBudgetStore(clock=bus.clock)
    # Who cannot have the lock in time lets the call through. These tests count calls.
    store._lock_wait = 300
    guard = BudgetGuard(bus, [budget], store)
    guard.attach()
    return guard


def test_of_1000_calls_in_threads_a_limit_lets_100_through() -> None:
    bus = Bus(strict=True)
    guard = _guarded(bus, Budget("hundred", limit=ALLOWED, unit="calls"))
    stopped = capture("llm.chat.stop", bus=bus, scope="process")
    with stopped as stops, ThreadPoolExecutor(64) as pool:
        let_through = sum(pool.map(_ask, [bus] * CALLS))
    assert (let_through, len(stops)) == (ALLOWED, ALLOWED)
    assert guard.status()[0].spent == ALLOWED
    assert guard.stats()["refused"] == CALLS - ALLOWED


def test_of_1000_calls_in_tasks_a_limit_lets_100_through() -> None:
    """All are under way at once, so that only what is reserved can tell."""
    bus = Bus(strict=True)
    guard = _guarded(bus, Budget("tokens", limit=700, unit="tokens", reserve=7))

    async def ask(gate: asyncio.Event) -> bool:
        try:
            with llm.chat(bus=bus) as call:
                await gate.wait()
                call.usage(total_tokens=7)
        except BudgetExceededError:
            return False
        return True

    async def ask_all() -> int:
        gate = asyncio.Event()
        asked = [asyncio.ensure_future(ask(gate)) for _ in range(CALLS)]
        await asyncio.sleep(0)
        gate.set()
        return sum(await asyncio.gather(*asked))

    assert asyncio.run(ask_all()) == ALLOWED
    (status,) = guard.status()
    assert (status.spent, status.reserved) == (700, 0)


def test_a_refused_call_says_nothing_of_itself() -> None:
    """It was never made: it is no request, and no failed one either."""
    bus = Bus(strict=True)
    _guarded(bus, Budget("one", limit=1, unit="calls"))
    assert _ask(bus)
    refused = pytest.raises(BudgetExceededError, match="'one' has no room")
    with capture("llm.chat.*", "llm.provider.**", bus=bus) as events, refused:
        llm.chat(bus=bus).__enter__()
    assert not events


def test_a_call_within_a_call_asks_for_nothing_more() -> None:
    bus = Bus(strict=True)
    guard = _guarded(bus, Budget("one", limit=1, unit="calls"))
    with llm.chat(bus=bus), llm.chat(bus=bus):
        pass
    assert guard.status()[0].spent == 1


def test_a_call_that_is_over_is_counted_and_not_refused() -> None:
    bus = Bus(strict=True)
    guard = _guarded(bus, Budget("tokens", limit=10, unit="tokens"))
    for _ in range(3):
        llm.record(input_tokens=9, output_tokens=1, bus=bus)
    assert guard.status()[0].spent == 30
    with pytest.raises(BudgetExceededError):
        llm.chat(bus=bus).__enter__()


def test_a_budget_is_kept_while_nobody_listens() -> None:
    bus = Bus()
    guard = _guarded(bus, Budget("one", limit=1, unit="calls"))
    assert [_ask(bus), _ask(bus)] == [True, False]
    guard.detach()
    assert _ask(bus)


def test_a_stream_that_is_dropped_keeps_what_it_reserved() -> None:
    """Nobody knows what it used; it was not nothing."""
    bus = Bus()
    guard = _guarded(bus, Budget("tokens", limit=100, unit="tokens", reserve=40))
    call = llm.Call(bus, "llm.chat", scoped=False)
    call.begin({})
    parts: list[dict[str, object]] = [{"choices": []}, {"choices": []}]
    stream = call.observe(iter(parts))
    next(stream)
    del stream
    (status,) = guard.status()
    assert (status.spent, status.reserved) == (40, 0)


def test_the_key_of_a_budget_is_free_of_secrets() -> None:
    bus = Bus(strict=True)
    guard = _guarded(bus, Budget("users", limit=5, unit="calls", per="user_id"))
    secret = "sk-proj-" + "a1B2" * 12
    with llm.chat(bus=bus, user_id=secret):
        pass
    assert secret not in repr(guard.status())


def test_threads_that_wait_for_a_call_in_the_middle_lose_nothing() -> None:
    bus = Bus(strict=True)
    guard = _guarded(bus, Budget("tokens", limit=10_000_000, unit="tokens"))
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait(300)
        for _ in range(200):
            assert _ask(bus)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert guard.status()[0].spent == 8 * 200 * 7


class _BrokenStore(MemoryBudgetStore):
    def reserve(self, holds: Sequence[Hold], /) -> Outcome:
        raise OSError(str(len(holds)))


def test_a_call_that_is_over_is_told_even_if_no_budget_can_count_it() -> None:
    bus = Bus(strict=True)
    budget = Budget("one", limit=1, unit="calls")
    BudgetGuard(bus, [budget], _BrokenStore(), on_store_failure="closed").attach()
    with capture("llm.chat.stop", bus=bus) as events:
        llm.record(bus=bus)
    assert len(events) == 1
