"""A thousand calls at once: not one too many, and none too few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from llmevents import Bus
from llmevents.llm.budgets import (
    Budget,
    BudgetExceededError,
    BudgetGuard,
    MemoryBudgetStore,
)
from llmevents.testing import CapturedEvents
from tests.outcomes import in_threads


CALLS = 1_000
ROOM = 100
COST = 1_000_000
BUDGETS = {
    "calls": Budget("b", limit=ROOM, unit="calls", per="user_id"),
    "tokens": Budget("b", limit=ROOM * 10, unit="tokens", per="user_id"),
    "money": Budget("b", limit=ROOM * COST, unit="nano_usd", reserve=COST),
}
USED = {"total_tokens": 10, "cost_nano_usd": COST}
CALL = {"user_id": "seen-for-the-first-time", "max_tokens": 10}


def make(bus: Bus, unit: str) -> BudgetGuard:
    store = MemoryBudgetStore(clock=bus.clock)
    # Who cannot have the lock in time lets the call through. These tests count calls.
    store._lock_wait = 300
    return BudgetGuard(bus, [BUDGETS[unit]], store)


def check(guard: BudgetGuard, events: CapturedEvents, passed: int) -> None:
    assert passed == ROOM
    (stands,) = guard.status()
    assert (stands.spent, stands.reserved, stands.ratio) == (stands.limit, 0, 1.0)
    assert guard.stats()["refused"] == CALLS - ROOM
    names = [event.event[-1] for event in events]
    assert (names.count("reserved"), names.count("settled")) == (ROOM, ROOM)
    assert (names.count("warning"), names.count("exceeded")) == (2, 1)


@pytest.mark.parametrize("unit", BUDGETS)
def test_of_a_thousand_threads_a_hundred_pass(
    bus: Bus, events: CapturedEvents, unit: str
) -> None:
    """51: budgets that are checked first and added to later let all of them pass."""
    guard = make(bus, unit)
    passed: list[int] = []
    threads = 20

    def calls() -> None:
        held = []
        for turn in range(CALLS // threads):
            try:
                reservation = guard.begin(CALL)
            except BudgetExceededError:
                continue
            passed.append(turn)
            # Some calls end while others begin, the rest when all have begun.
            if turn % 2:
                guard.settle(reservation, USED)
            else:
                held.append(reservation)
        for reservation in held:
            guard.settle(reservation, USED)

    in_threads(*[calls] * threads)
    check(guard, events, len(passed))


@pytest.mark.parametrize("unit", BUDGETS)
def test_of_a_thousand_tasks_a_hundred_pass(
    bus: Bus, events: CapturedEvents, unit: str
) -> None:
    guard = make(bus, unit)

    async def call(steps: int) -> int:
        await asyncio.sleep(0)
        try:
            reservation = guard.begin(CALL)
        except BudgetExceededError:
            return 0
        for _ in range(steps):
            await asyncio.sleep(0)
        guard.settle(reservation, USED)
        return 1

    async def main() -> int:
        return sum(await asyncio.gather(*[call(n * 7 % 20) for n in range(CALLS)]))

    check(guard, events, asyncio.run(main()))


def test_calls_that_give_back_leave_nothing_behind(bus: Bus) -> None:
    """36926: reservations that leaked refused calls although nothing was spent."""
    guard = make(bus, "calls")

    def calls() -> None:
        ends: list[Callable[[], None]] = []
        for turn in range(200):
            try:
                reservation = guard.begin(CALL)
            except BudgetExceededError:
                continue
            ends.append(reservation.release)
            if turn % 3:
                ends.pop()()
                reservation.release()
        for end in ends:
            end()

    in_threads(*[calls] * 8)
    (stands,) = guard.status()
    assert (stands.spent, stands.reserved) == (0, 0)
    assert len(guard.begin(CALL).amounts) == 1
