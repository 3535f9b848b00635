"""The store in memory: exact, bounded, and nobody waits for ever."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from llmevents import OptionError
from llmevents.llm.budgets import MemoryBudgetStore, Reading
from llmevents.llm.budgets._book import MAX_ENTRIES
from llmevents.testing import ManualClock
from tests.llm.budgets.store_contract import (
    HOUR,
    LEASE,
    ROLLING,
    TOTAL,
    StoreContract,
    hold,
    read,
    spend,
)
from tests.outcomes import in_child


@pytest.fixture
def store(clock: ManualClock) -> MemoryBudgetStore:
    return MemoryBudgetStore(clock=clock)


def test_what_comes_after_its_account_was_forgotten_counts_in_a_new_one(
    clock: ManualClock,
) -> None:
    store = MemoryBudgetStore(max_keys=1, clock=clock)
    other = TOTAL._replace(key=("other",))
    token = store.reserve([hold(TOTAL, 4)]).token
    clock.advance(LEASE)
    spend(store, other)
    assert store.accounts("b") == [other]
    assert store.settle(token, [3]) == (Reading(3, 0, 0, None),)
    assert read(store, TOTAL).spent == 3


def test_a_busy_rolling_window_is_bounded_and_never_forgets_early(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    step = HOUR // 10_000
    for _ in range(5_000):
        spend(store, ROLLING)
        clock.advance(step)
    entry = store._books["b"][ROLLING]
    assert len(entry._recent) <= MAX_ENTRIES
    assert read(store, ROLLING).spent == 5_000
    clock.advance(HOUR - 5_000 * step)
    late = HOUR // 500 // step + 1
    for left in range(4_999, -1, -1):
        assert left <= read(store, ROLLING).spent <= left + late
        clock.advance(step)


def test_beyond_the_bound_the_least_recent_key_goes_unless_a_call_holds_it(
    clock: ManualClock,
) -> None:
    store = MemoryBudgetStore(max_keys=3, clock=clock)
    one, two, three, four, five = (TOTAL._replace(key=(key,)) for key in "12345")
    for account in (one, two, three):
        spend(store, account)
    store.reserve([hold(one)])
    spend(store, four)
    assert store.accounts("b") == [three, one, four]
    for account in (three, four):
        store.reserve([hold(account)])
    spend(store, five)
    assert store.accounts("b") == [one, three, four, five]
    assert store.evicted == 1
    with pytest.raises(OptionError, match="max_keys to be an integer of 1 or more"):
        MemoryBudgetStore(max_keys=0)


class TestContract(StoreContract):
    """What every store does."""

    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryBudgetStore:
        return MemoryBudgetStore(clock=clock)


class Interrupting:
    """A clock that lets something happen in the middle of the store's work."""

    def __init__(self) -> None:
        self.work: Callable[[], object] | None = None

    def monotonic_ns(self) -> int:
        work, self.work = self.work, None
        if work is not None:
            work()
        return 0

    def time_ns(self) -> int:
        return 0


def within(timeout: float, work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    assert not thread.is_alive(), "deadlock"


def test_settling_in_the_middle_of_the_stores_own_work_does_not_hang() -> None:
    """A stream may be garbage collected, or a signal come, wherever Python is."""
    clock = Interrupting()
    store = MemoryBudgetStore(clock=clock)
    token = store.reserve([hold(TOTAL, 6)]).token
    seen: list[object] = []

    def interrupt() -> None:
        seen.append(store.settle(token, [2]))
        seen.append(store.read([TOTAL]))
        seen.append(store.announce(TOTAL, 1))
        seen.append(store.accounts("b"))

    clock.work = interrupt
    within(10, lambda: seen.append(store.reserve([hold(TOTAL, 6)]).token is not None))
    assert seen == [None, (Reading(0, 6, 0, None),), 0, [], True]
    assert read(store, TOTAL) == Reading(2, 6, 0, None)


def test_reserving_in_the_middle_of_it_is_granted_and_counted() -> None:
    clock = Interrupting()
    store = MemoryBudgetStore(clock=clock)
    granted: list[Any] = []

    def interrupt() -> None:
        granted.append(store.reserve([hold(TOTAL, 6)]))
        granted.append(store.settle(granted[0].token, [5]))

    clock.work = interrupt
    within(10, lambda: store.read([TOTAL]))
    assert granted[0].readings == ()
    assert granted[1] is None
    assert read(store, TOTAL) == Reading(5, 0, 0, None)


def test_a_finalizer_that_settles_wherever_the_collector_runs_it() -> None:
    """The collector runs whenever a container is made, so in `reserve` as well."""

    class Stream:
        itself: Stream

    store = MemoryBudgetStore()
    unlimited = hold(TOTAL)._replace(limit=None)

    def work() -> None:
        for _ in range(3_000):
            stream = Stream()
            stream.itself = stream
            weakref.finalize(
                stream, store.settle, store.reserve([unlimited]).token, [1]
            )
            del stream

    threshold = gc.get_threshold()
    gc.set_threshold(7, 2, 2)
    try:
        within(60, work)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert read(store, TOTAL) == Reading(3_000, 0, 0, None)


def test_a_lock_that_is_never_released_holds_nobody_up_for_long(
    store: MemoryBudgetStore,
) -> None:
    """Foreign code that the collector runs may wait for whoever waits for this."""
    token = store.reserve([hold(TOTAL)]).token
    store._lock_wait = 0.01
    held, done = threading.Event(), threading.Event()

    def hold_on() -> None:
        with store._lock:
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold_on, daemon=True)
    holder.start()
    assert held.wait(10)
    assert store.settle(token, [1]) is None
    assert store.reserve([hold(TOTAL)]).readings == ()
    done.set()
    holder.join(10)
    assert read(store, TOTAL) == Reading(1, 1, 0, None)


def test_an_interrupted_step_leaves_the_store_usable(store: MemoryBudgetStore) -> None:
    def interrupt(now: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._exclusively(interrupt)
    spend(store, TOTAL)
    assert read(store, TOTAL).spent == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_goes_on_with_what_was_spent_and_holds_nothing(
    store: MemoryBudgetStore,
) -> None:
    """The parent settles its calls; the child would count them a second time."""
    spend(store, TOTAL, 3)
    token = store.reserve([hold(TOTAL, 5)]).token
    locked, done = threading.Event(), threading.Event()

    def hold_on() -> None:
        with store._lock:
            locked.set()
            done.wait(30)

    holder = threading.Thread(target=hold_on, daemon=True)
    holder.start()
    assert locked.wait(10)
    try:
        # A lock that another thread held at the fork would never be opened.
        assert in_child(lambda: store.read([TOTAL])[0][:2]) == [3, 0]
    finally:
        done.set()
        holder.join(10)
    assert read(store, TOTAL)[:2] == (3, 5)
    store.settle(token, [5])
    assert read(store, TOTAL)[:2] == (8, 0)


def test_what_a_fork_leaves_behind(store: MemoryBudgetStore) -> None:
    """The same in this process, where it is seen which lines run."""
    token = store.reserve([hold(TOTAL, 5)]).token
    store.after_fork_in_child()
    assert read(store, TOTAL)[:2] == (0, 0)
    store.settle(token, [2])
    assert read(store, TOTAL)[:2] == (2, 0)
