"""The store in memory: exact, bounded, and nobody waits for ever."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from llmevents import OptionError
from llmevents.llm.budgets import Account, Hold, MemoryBudgetStore, Reading
from llmevents.llm.budgets._book import MAX_ENTRIES, SLACK_NS
from llmevents.testing import ManualClock
from tests.outcomes import in_child


HOUR = 3_600_000_000_000
LEASE = 600_000_000_000
TOTAL = Account("b", (), 0, 0, 0)
ROLLING = Account("b", (), 0, 0, HOUR)


@pytest.fixture
def store(clock: ManualClock) -> MemoryBudgetStore:
    return MemoryBudgetStore(clock=clock)


def hold(account: Account, amount: int = 1, limit: int | None = 10) -> Hold:
    return Hold(account, amount, amount, limit, LEASE)


def spend(store: MemoryBudgetStore, account: Account, amount: int = 1) -> None:
    outcome = store.reserve([hold(account, amount, None)])
    store.settle(outcome.token, [amount])


def read(store: MemoryBudgetStore, account: Account) -> Reading:
    (reading,) = store.read([account])
    return reading


def test_what_is_reserved_is_settled_by_the_real_amount(
    store: MemoryBudgetStore,
) -> None:
    outcome = store.reserve([hold(TOTAL, 4)])
    assert outcome.readings == (Reading(0, 4, 0, None),)
    assert store.settle(outcome.token, [7]) == (Reading(7, 0, 0, None),)
    assert read(store, TOTAL) == Reading(7, 0, 0, None)


def test_all_amounts_are_held_or_none(store: MemoryBudgetStore) -> None:
    other = TOTAL._replace(budget="other")
    spend(store, other, 10)
    outcome = store.reserve([hold(TOTAL), hold(other)])
    assert (outcome.token, outcome.refused) == (None, 1)
    assert outcome.readings[1].spent == 10
    assert read(store, TOTAL) == Reading(0, 0, 0, None)


def test_an_overshoot_counts_in_full(store: MemoryBudgetStore) -> None:
    outcome = store.reserve([hold(TOTAL, 1)])
    store.settle(outcome.token, [25])
    assert read(store, TOTAL).spent == 25
    assert store.reserve([hold(TOTAL)]).refused == 0


def test_an_account_that_nobody_knows_is_empty(store: MemoryBudgetStore) -> None:
    assert store.read([TOTAL, TOTAL._replace(budget="c")]) == (
        Reading(0, 0, 0, None),
        Reading(0, 0, 0, None),
    )
    spend(store, TOTAL)
    assert read(store, TOTAL._replace(key=("u",))) == Reading(0, 0, 0, None)
    assert store.accounts("b") == [TOTAL]
    assert store.accounts("c") == []


def test_a_lease_is_over_in_its_last_nanosecond(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    """A process that was killed never settles."""
    store.reserve([hold(TOTAL, 10)])
    clock.advance(LEASE - 1)
    assert store.reserve([hold(TOTAL)]).token is None
    clock.advance(1)
    assert store.reserve([hold(TOTAL, 10)]).token is not None


def test_what_comes_after_the_lease_counts(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    token = store.reserve([hold(TOTAL, 4)]).token
    clock.advance(LEASE)
    assert read(store, TOTAL) == Reading(0, 0, 0, None)
    assert store.settle(token, [3]) == (Reading(3, 0, 0, None),)


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


def test_an_amount_leaves_a_rolling_window_after_exactly_its_length(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    spend(store, ROLLING, 10)
    clock.advance(HOUR - 1)
    assert read(store, ROLLING) == Reading(10, 0, 0, 1)
    assert store.reserve([hold(ROLLING)]).token is None
    clock.advance(1)
    assert read(store, ROLLING) == Reading(0, 0, 0, None)
    assert store.reserve([hold(ROLLING)]).token is not None


def test_an_amount_belongs_to_the_moment_of_its_reservation(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    """Ten an hour are ten an hour, however long each of them takes."""
    lasting = hold(ROLLING, 1)._replace(lease=2 * HOUR)
    first = store.reserve([lasting])
    clock.advance(HOUR // 2)
    second = store.reserve([lasting])
    store.settle(second.token, [1])
    store.settle(first.token, [1])
    assert read(store, ROLLING) == Reading(2, 0, 0, HOUR // 2)
    clock.advance(HOUR // 2)
    assert read(store, ROLLING) == Reading(1, 0, 0, HOUR // 2)


@pytest.mark.parametrize(
    ("amount", "counts"), [(5, 1), (4, 0), (0, 0)], ids=["over", "exact", "nothing"]
)
def test_a_call_longer_than_the_window_counts_what_nothing_was_held_for(
    store: MemoryBudgetStore, clock: ManualClock, amount: int, counts: int
) -> None:
    """Else no call that outlasts its window would ever count."""
    lasting = hold(ROLLING, 4)._replace(lease=2 * HOUR)
    token = store.reserve([lasting]).token
    clock.advance(HOUR)
    assert read(store, ROLLING) == Reading(0, 0, 0, None)
    store.settle(token, [amount])
    assert read(store, ROLLING).spent == counts


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


def test_bits_are_said_once_and_in_a_rolling_window_once_in_its_length(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    for account in (TOTAL, ROLLING):
        assert store.announce(account, 0b101) == 0b101
        assert store.announce(account, 0b111) == 0b010
        assert store.announce(account, 0b111) == 0
        assert read(store, account).announced == 0b111
    clock.advance(HOUR - 1)
    assert store.announce(ROLLING, 0b1) == 0
    clock.advance(1)
    assert store.announce(ROLLING, 0b1) == 0b1
    assert store.announce(TOTAL, 0b1) == 0


def day(clock: ManualClock, key: str, length: int = 24 * HOUR) -> Account:
    start = clock.time_ns() // length * length
    return Account("b", (key,), start, start + length, 0)


def test_days_that_have_passed_are_forgotten(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    for _ in range(20):
        for user in range(10):
            spend(store, day(clock, f"u{user}"))
        clock.advance(24 * HOUR)
    assert len(store.accounts("b")) <= 30
    assert store.evicted == 0


def test_a_wall_clock_that_is_put_back_begins_no_day_twice(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    yesterday = day(clock, "u")
    spend(store, yesterday, 3)
    clock.advance(12 * HOUR)
    today = day(clock, "u")
    assert today != yesterday
    spend(store, today, 2)
    clock.step_wall_clock(-HOUR)
    assert day(clock, "u") == yesterday
    spend(store, day(clock, "u"), 1)
    clock.step_wall_clock(HOUR)
    assert (read(store, yesterday).spent, read(store, today).spent) == (4, 2)
    clock.advance(24 * HOUR + SLACK_NS)
    spend(store, day(clock, "v"))
    assert yesterday not in store.accounts("b")


def test_an_empty_rolling_window_is_forgotten_but_not_one_that_is_in_use(
    store: MemoryBudgetStore, clock: ManualClock
) -> None:
    idle, warned, busy = (ROLLING._replace(key=(key,)) for key in "abc")
    spend(store, idle)
    clock.advance(HOUR // 2)
    store.announce(warned, 1)
    clock.advance(HOUR // 2)
    store.reserve([hold(busy)])
    spend(store, ROLLING)
    assert store.accounts("b") == [warned, busy, ROLLING]


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
