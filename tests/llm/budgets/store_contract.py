"""What every store of budgets does, wherever it keeps them."""

from __future__ import annotations

import pytest

from llmevents.llm.budgets import Account, BudgetStore, Hold, Reading
from llmevents.llm.budgets._book import SLACK_NS
from llmevents.testing import ManualClock


HOUR = 3_600_000_000_000
LEASE = 600_000_000_000
TOTAL = Account("b", (), 0, 0, 0)
ROLLING = Account("b", (), 0, 0, HOUR)


def hold(account: Account, amount: int = 1, limit: int | None = 10) -> Hold:
    return Hold(account, amount, amount, limit, LEASE)


def spend(store: BudgetStore, account: Account, amount: int = 1) -> None:
    outcome = store.reserve([hold(account, amount, None)])
    store.settle(outcome.token, [amount])


def read(store: BudgetStore, account: Account) -> Reading:
    (reading,) = store.read([account])
    return reading


def day(clock: ManualClock, key: str, length: int = 24 * HOUR) -> Account:
    start = clock.time_ns() // length * length
    return Account("b", (key,), start, start + length, 0)


class StoreContract:
    """Tests for any store; a subclass has the fixture ``store``, with that clock."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(time_ns=1_782_907_200_000_000_000)

    def test_what_is_reserved_is_settled_by_the_real_amount(
        self,
        store: BudgetStore,
    ) -> None:
        outcome = store.reserve([hold(TOTAL, 4)])
        assert outcome.readings == (Reading(0, 4, 0, None),)
        assert store.settle(outcome.token, [7]) == (Reading(7, 0, 0, None),)
        assert read(store, TOTAL) == Reading(7, 0, 0, None)

    def test_all_amounts_are_held_or_none(self, store: BudgetStore) -> None:
        other = TOTAL._replace(budget="other")
        spend(store, other, 10)
        outcome = store.reserve([hold(TOTAL), hold(other)])
        assert (outcome.token, outcome.refused) == (None, 1)
        assert outcome.readings[1].spent == 10
        assert read(store, TOTAL) == Reading(0, 0, 0, None)

    def test_an_overshoot_counts_in_full(self, store: BudgetStore) -> None:
        outcome = store.reserve([hold(TOTAL, 1)])
        store.settle(outcome.token, [25])
        assert read(store, TOTAL).spent == 25
        assert store.reserve([hold(TOTAL)]).refused == 0

    def test_an_account_that_nobody_knows_is_empty(self, store: BudgetStore) -> None:
        assert store.read([TOTAL, TOTAL._replace(budget="c")]) == (
            Reading(0, 0, 0, None),
            Reading(0, 0, 0, None),
        )
        spend(store, TOTAL)
        assert read(store, TOTAL._replace(key=("u",))) == Reading(0, 0, 0, None)
        assert store.accounts("b") == [TOTAL]
        assert store.accounts("c") == []

    def test_a_lease_is_over_in_its_last_nanosecond(
        self, store: BudgetStore, clock: ManualClock
    ) -> None:
        """A process that was killed never settles."""
        store.reserve([hold(TOTAL, 10)])
        clock.advance(LEASE - 1)
        assert store.reserve([hold(TOTAL)]).token is None
        clock.advance(1)
        assert store.reserve([hold(TOTAL, 10)]).token is not None

    def test_what_comes_after_the_lease_counts(
        self, store: BudgetStore, clock: ManualClock
    ) -> None:
        token = store.reserve([hold(TOTAL, 4)]).token
        clock.advance(LEASE)
        assert read(store, TOTAL) == Reading(0, 0, 0, None)
        assert store.settle(token, [3]) == (Reading(3, 0, 0, None),)

    def test_an_amount_leaves_a_rolling_window_after_exactly_its_length(
        self, store: BudgetStore, clock: ManualClock
    ) -> None:
        spend(store, ROLLING, 10)
        clock.advance(HOUR - 1)
        assert read(store, ROLLING) == Reading(10, 0, 0, 1)
        assert store.reserve([hold(ROLLING)]).token is None
        clock.advance(1)
        assert read(store, ROLLING) == Reading(0, 0, 0, None)
        assert store.reserve([hold(ROLLING)]).token is not None

    def test_an_amount_belongs_to_the_moment_of_its_reservation(
        self, store: BudgetStore, clock: ManualClock
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
        self, store: BudgetStore, clock: ManualClock, amount: int, counts: int
    ) -> None:
        """Else no call that outlasts its window would ever count."""
        lasting = hold(ROLLING, 4)._replace(lease=2 * HOUR)
        token = store.reserve([lasting]).token
        clock.advance(HOUR)
        assert read(store, ROLLING) == Reading(0, 0, 0, None)
        store.settle(token, [amount])
        assert read(store, ROLLING).spent == counts

    def test_bits_are_said_once_and_in_a_rolling_window_once_in_its_length(
        self, store: BudgetStore, clock: ManualClock
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

    def test_days_that_have_passed_are_forgotten(
        self, store: BudgetStore, clock: ManualClock
    ) -> None:
        for _ in range(20):
            for user in range(10):
                spend(store, day(clock, f"u{user}"))
            clock.advance(24 * HOUR)
        assert len(store.accounts("b")) <= 30

    def test_a_wall_clock_that_is_put_back_begins_no_day_twice(
        self, store: BudgetStore, clock: ManualClock
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
        self, store: BudgetStore, clock: ManualClock
    ) -> None:
        idle, warned, busy = (ROLLING._replace(key=(key,)) for key in "abc")
        spend(store, idle)
        clock.advance(HOUR // 2)
        store.announce(warned, 1)
        clock.advance(HOUR // 2)
        store.reserve([hold(busy)])
        spend(store, ROLLING)
        assert sorted(store.accounts("b")) == [ROLLING, warned, busy]
