"""A store against a model that is too simple to be wrong: here the one in memory."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmevents.llm.budgets import Account, BudgetStore, Hold, MemoryBudgetStore
from llmevents.testing import ManualClock


LEASES = {"total": 7, "rolling": 30, "day": 12}
WINDOW = 20
DAY = 25
KEYS = ("u", "v")
LIMIT = 10


class Booking:
    """One amount: held, until it is settled or its lease is over."""

    def __init__(self, account: Account, amount: int, began: int, lease: int) -> None:
        self.account = account
        self.held = amount
        self.began = began
        self.lease = min(lease, account.rolling or lease)
        self.spent: int | None = None
        self.counts_from = began

    def settle(self, amount: int, now: int) -> None:
        if self.account.rolling and now - self.began >= self.account.rolling:
            amount, self.counts_from = max(0, amount - self.held), now
        self.spent = amount

    def reserved_at(self, now: int) -> int:
        return self.held if self.spent is None and now - self.began < self.lease else 0

    def spent_at(self, now: int) -> int:
        rolling = self.account.rolling
        over = rolling and now - self.counts_from >= rolling
        return 0 if over else self.spent or 0


class StoreMachine(RuleBasedStateMachine):
    """Reserves, settles and lets time pass, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = self.make_store()
        self.bookings: list[Booking] = []
        self.open: list[tuple[object, list[Booking]]] = []

    def make_store(self) -> BudgetStore:
        """Return the store that is tried, with the clock of the machine."""
        return MemoryBudgetStore(clock=self.clock)

    def account(self, budget: str, key: str) -> Account:
        start = self.clock.time_ns() // DAY * DAY
        period = (start, start + DAY) if budget == "day" else (0, 0)
        return Account(budget, (key,), *period, WINDOW if budget == "rolling" else 0)

    def state(self, account: Account) -> tuple[int, int]:
        now = self.clock.monotonic_ns()
        mine = [b for b in self.bookings if b.account == account]
        return sum(b.spent_at(now) for b in mine), sum(b.reserved_at(now) for b in mine)

    @rule(
        budgets=st.sets(st.sampled_from(sorted(LEASES)), min_size=1),
        key=st.sampled_from(KEYS),
        amount=st.integers(0, 6),
        blocks=st.booleans(),
        is_guess=st.booleans(),
    )
    def reserve(
        self, budgets: set[str], key: str, amount: int, blocks: bool, is_guess: bool
    ) -> None:
        limit = LIMIT if blocks else None
        needs = 1 if is_guess else amount
        holds = [
            Hold(self.account(budget, key), amount, needs, limit, LEASES[budget])
            for budget in sorted(budgets)
        ]
        full = [
            index
            for index, hold in enumerate(holds)
            if blocks and sum(self.state(hold.account)) + needs > LIMIT
        ]
        outcome = self.store.reserve(holds)
        assert outcome.refused == (full[0] if full else -1)
        assert (outcome.token is None) == bool(full)
        if not full:
            now = self.clock.monotonic_ns()
            bookings = [Booking(h.account, h.amount, now, h.lease) for h in holds]
            self.bookings += bookings
            self.open.append((outcome.token, bookings))
            readings = [self.state(hold.account) for hold in holds]
            assert [reading[:2] for reading in outcome.readings] == readings

    @rule(data=st.data(), amount=st.integers(0, 12))
    def settle(self, data: st.DataObject, amount: int) -> None:
        if not self.open:
            return
        index = data.draw(st.integers(0, len(self.open) - 1))
        token, bookings = self.open.pop(index)
        for booking in bookings:
            booking.settle(amount, self.clock.monotonic_ns())
        readings = self.store.settle(token, [amount] * len(bookings))
        assert readings is not None
        assert [reading[:2] for reading in readings] == [
            self.state(booking.account) for booking in bookings
        ]

    @rule(time=st.integers(1, 30))
    def wait(self, time: int) -> None:
        self.clock.advance(time)

    @invariant()
    def all_accounts_agree(self) -> None:
        accounts = [self.account(budget, key) for budget in LEASES for key in KEYS]
        readings = self.store.read(accounts)
        assert [r[:2] for r in readings] == [self.state(a) for a in accounts]


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestStore = StoreMachine.TestCase
