"""A guard reserves before a call, settles after it, and says so once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pytest

from llmevents import Bus, OptionError
from llmevents.llm.budgets import (
    Account,
    Budget,
    BudgetExceededError,
    BudgetGuard,
    Hold,
    MemoryBudgetStore,
    Outcome,
    Reading,
    active_guards,
    reserve,
)
from llmevents.llm.budgets._budget import Action, UnitName
from llmevents.testing import CapturedEvents, ManualClock
from tests.outcomes import in_child


HOUR = 3_600_000_000_000
DAY = 24 * HOUR
USD = 1_000_000_000

Make = Callable[..., BudgetGuard]


@pytest.fixture
def make(bus: Bus) -> Make:
    def make(*budgets: Budget, **options: object) -> BudgetGuard:
        given: dict[str, Any] = options
        return BudgetGuard(bus, budgets, **given)

    return make


def call(guard: BudgetGuard, cost: int | None = None, **metadata: object) -> None:
    measured = {} if cost is None else {"cost_nano_usd": cost}
    guard.settle(guard.begin(metadata), measured)


def spent(guard: BudgetGuard) -> list[int]:
    return [status.spent for status in guard.status()]


def said(events: CapturedEvents) -> list[tuple[object, ...]]:
    """Return warnings and the like, with their level."""
    return [
        (event.event[-1], event.metadata["key"], event.metadata.get("level"))
        for event in events
        if event.event[-1] in {"warning", "exceeded"}
    ]


def test_a_call_reserves_its_upper_bound_and_settles_what_it_cost(
    make: Make, events: CapturedEvents
) -> None:
    guard = make(
        Budget("team", limit=10, per="team", window="month"),
        upper_bound=lambda metadata: metadata["max_tokens"] * 1_000,
    )
    reservation = guard.begin({"team": "red", "max_tokens": 500_000})
    assert reservation.amounts == {"team": USD // 2}
    reservation.settle({"cost_nano_usd": USD // 4})
    metadata = {"budget": "team", "unit": "nano_usd", "key": "red", "window": "month"}
    assert events == [
        (
            ("llm", "budget", "reserved"),
            {"amount": USD // 2, "spent": 0, "limit": 10 * USD, "ratio": 0.0},
            metadata,
        ),
        (
            ("llm", "budget", "settled"),
            {
                "amount": USD // 4,
                "spent": USD // 4,
                "limit": 10 * USD,
                "ratio": 0.025,
            },
            metadata,
        ),
    ]


def test_a_call_without_room_is_refused_with_all_that_is_known(
    make: Make, clock: ManualClock
) -> None:
    guard = make(
        Budget("team", limit="0.50", per=("team", "model"), window="month"),
        upper_bound=lambda _: 200_000_000,
    )
    who = {"team": "red", "model": "gpt-4o"}
    guard.settle(guard.begin(who), {"cost_nano_usd": 300_000_000})
    guard.begin({**who, "team": "blue"})
    held = guard.begin(who)
    with pytest.raises(BudgetExceededError) as refused:
        guard.begin(who)
    error = refused.value
    assert str(error) == (
        "budget 'team' of 'red, gpt-4o' has no room for a call of up to 0.20 USD: "
        "0.30 USD spent and 0.20 USD reserved of 0.50 USD, window month; room comes "
        "back from 2026-08-01T00:00:00+00:00 on; wait, or raise limit"
    )
    assert (error.budget, error.key, error.unit) == ("team", "red, gpt-4o", "nano_usd")
    assert (error.amount, error.spent, error.reserved, error.limit, error.window) == (
        200_000_000,
        300_000_000,
        200_000_000,
        500_000_000,
        "month",
    )
    assert error.resets_at == datetime(2026, 8, 1, tzinfo=timezone.utc)
    assert isinstance(error, RuntimeError)
    assert guard.stats()["refused"] == 1
    held.release()
    guard.begin(who)


@pytest.mark.parametrize(
    ("window", "before", "remedy"),
    [
        pytest.param(None, "hold", "try again when calls under way have", id="held"),
        pytest.param("1h", "hold", "try again when calls under way", id="rolling_held"),
        pytest.param(None, "spend", "it never resets; raise limit", id="spent"),
        pytest.param("1h", "spend", "back from 2026-07-01T13:00:00", id="rolling"),
        pytest.param(None, "large", "lower what the call may use", id="large"),
    ],
)
def test_a_refusal_says_what_helps(
    make: Make, window: str | None, before: str, remedy: str
) -> None:
    guard = make(Budget("b", limit=5, unit="tokens", window=window))
    if before == "large":
        with pytest.raises(BudgetExceededError, match=f"up to 6 tokens.*{remedy}"):
            guard.begin({"max_tokens": 6})
        return
    reservation = guard.begin({"max_tokens": 5})
    if before == "spend":
        guard.settle(reservation, {"total_tokens": 5})
    with pytest.raises(BudgetExceededError, match=rf"up to 1 token: .*{remedy}"):
        guard.begin({"max_tokens": 1})


def test_a_refusal_goes_through_a_process_pool(make: Make) -> None:
    guard = make(Budget("b", limit=1, unit="calls", window="day"))
    guard.begin({})
    with pytest.raises(BudgetExceededError) as refused:
        guard.begin({})
    copy = pickle.loads(pickle.dumps(refused.value))  # noqa: S301  # our own
    assert (str(copy), vars(copy)) == (str(refused.value), vars(refused.value))


def test_a_call_counts_for_all_budgets_or_for_none(make: Make) -> None:
    guard = make(
        Budget("calls", limit=5, unit="calls"),
        Budget("tokens", limit=10, unit="tokens"),
    )
    with pytest.raises(BudgetExceededError, match="'tokens'"):
        guard.begin({"max_tokens": 11})
    reservation = guard.begin({"max_tokens": 10})
    assert reservation.amounts == {"calls": 1, "tokens": 10}
    assert [status.reserved for status in guard.status()] == [1, 10]


@pytest.mark.parametrize(
    ("unit", "options", "metadata", "amount"),
    [
        ("calls", {}, {}, 1),
        ("tokens", {}, {"max_tokens": 100}, 100),
        ("tokens", {"max_input_tokens": 50}, {"max_tokens": 100}, 150),
        ("tokens", {}, {"max_tokens": 100, "choice_count": 3}, 300),
        ("tokens", {"reserve": 70}, {}, 70),
        ("tokens", {"reserve": 70}, {"max_tokens": 100}, 100),
        ("tokens", {"reserve": 70}, {"max_tokens": True}, 70),
        ("tokens", {"reserve": 70}, {"max_tokens": "many"}, 70),
        ("tokens", {}, {}, 0),
        ("output_tokens", {"max_input_tokens": 50}, {"max_tokens": 100}, 100),
        ("input_tokens", {"max_input_tokens": 50}, {"max_tokens": 100}, 50),
        ("input_tokens", {}, {"max_tokens": 100}, 0),
        ("nano_usd", {"reserve": 70}, {"max_tokens": 100}, 70),
    ],
    ids=str,
)
def test_what_a_call_reserves(
    make: Make,
    unit: UnitName,
    options: dict[str, int],
    metadata: dict[str, object],
    amount: int,
) -> None:
    given: dict[str, Any] = options
    guard = make(Budget("b", limit=1_000, unit=unit, **given))
    assert guard.begin(metadata).amounts == {"b": amount}


@pytest.mark.parametrize(
    ("stated", "amount"),
    [(5, 5), (0.5, 1), (0, 0), (-1, 70), (None, 70), ("5", 70), (float("nan"), 70)],
    ids=str,
)
def test_an_upper_bound_is_a_number_of_nano_dollars(
    make: Make, stated: object, amount: int
) -> None:
    budget = Budget("b", limit=1_000, unit="nano_usd", reserve=70)
    guard = make(budget, upper_bound=lambda _: stated)
    assert guard.begin({}).amounts == {"b": amount}


def test_an_upper_bound_is_asked_for_once_and_only_for_money(make: Make) -> None:
    asked: list[Mapping[str, object]] = []

    def bound(metadata: Mapping[str, object]) -> int:
        asked.append(metadata)
        return 7

    one, other = Budget("one", limit=1), Budget("other", limit=1)
    guard = make(one, other, Budget("c", limit=9, unit="calls"), upper_bound=bound)
    assert guard.begin({"model": "m"}).amounts == {"one": 7, "other": 7, "c": 1}
    assert asked == [{"model": "m"}]
    make(Budget("c", limit=9, unit="calls"), upper_bound=bound).begin({})
    assert len(asked) == 1


def test_an_upper_bound_that_raises_is_unknown(make: Make) -> None:
    guard = make(Budget("b", limit=1, reserve="0.25"), upper_bound=lambda _: 1 // 0)
    assert guard.begin({}).amounts == {"b": USD // 4}
    assert guard.stats()["store_failures"] == 1


def test_a_call_of_which_nothing_is_known_reserves_what_others_have_used(
    make: Make,
) -> None:
    """Else a thousand of them at once would all find room for themselves."""
    guard = make(Budget("b", limit=100, unit="tokens"))
    first = guard.begin({})
    guard.settle(first, {"total_tokens": 40})
    assert first.amounts == {"b": 0}
    assert [guard.begin({}).amounts["b"] for _ in range(2)] == [40, 40]
    with pytest.raises(BudgetExceededError, match="call of up to 40 tokens: 40 tokens"):
        guard.begin({})


def test_a_guess_shuts_nobody_out_while_anything_is_left(make: Make) -> None:
    """36926, the reverse of 51: calls were refused although money was left."""
    guard = make(Budget("b", limit=100, unit="tokens"))
    for used in (60, 39):
        guard.settle(guard.begin({}), {"total_tokens": used})
    reservation = guard.begin({})
    assert reservation.amounts == {"b": 57}
    guard.settle(reservation, {"total_tokens": 1})
    with pytest.raises(BudgetExceededError, match="100 tokens spent"):
        guard.begin({})


@pytest.mark.parametrize(
    ("measurements", "status", "complete", "counts"),
    [
        pytest.param({"total_tokens": 30}, "success", True, 30, id="less"),
        pytest.param({"total_tokens": 90}, "success", True, 90, id="overshoot"),
        pytest.param(
            {"input_tokens": 3, "output_tokens": 4}, "success", True, 7, id="parts"
        ),
        pytest.param({"input_tokens": 3}, "success", True, 3, id="one_part"),
        pytest.param({}, "success", True, 50, id="unknown"),
        pytest.param({"total_tokens": -1}, "success", True, 50, id="negative"),
        pytest.param({}, "cancelled", False, 50, id="cancelled"),
        pytest.param({"total_tokens": 3}, "cancelled", False, 50, id="incomplete"),
        pytest.param({"total_tokens": 60}, "cancelled", False, 60, id="more"),
        pytest.param({}, "timeout", True, 50, id="timeout"),
        pytest.param({}, "error", True, 0, id="error"),
        pytest.param({"total_tokens": 9}, "error", True, 9, id="error_with_usage"),
        pytest.param(
            {"time_to_first_chunk": 1}, "error", False, 50, id="error_in_stream"
        ),
    ],
)
def test_what_a_call_counts(
    make: Make,
    measurements: dict[str, int],
    status: str,
    complete: bool,
    counts: int,
) -> None:
    guard = make(Budget("b", limit=100, unit="tokens"))
    reservation = guard.begin({"max_tokens": 50})
    guard.settle(reservation, measurements, status, complete=complete)
    (stands,) = guard.status()
    assert (stands.spent, stands.reserved) == (counts, 0)
    assert guard.stats()["overshoots"] == int(counts > 50)


@pytest.mark.parametrize("status", ["success", "error", "timeout", "cancelled"])
def test_a_call_that_was_sent_is_a_call(make: Make, status: str) -> None:
    guard = make(Budget("b", limit=100, unit="calls"))
    guard.settle(guard.begin({}), {}, status)
    assert spent(guard) == [1]


def test_a_call_that_was_never_sent_is_given_back(
    make: Make, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=1, unit="calls"))
    guard.begin({}).release()
    assert spent(guard) == [0]
    assert events[-1].measurements["amount"] == 0
    guard.begin({})


def test_a_reservation_ends_once(make: Make, events: CapturedEvents) -> None:
    guard = make(Budget("b", limit=3, unit="calls"))
    reservation = guard.begin({})
    for end in (reservation.release, lambda: reservation.settle({})) * 2:
        end()
    assert spent(guard) == [0]
    assert [event.event[-1] for event in events] == ["reserved", "settled"]


def test_a_budget_counts_what_it_matches(make: Make) -> None:
    guard = make(
        Budget("gpt", limit=9, unit="calls", match={"model": "gpt-4?-*"}),
        Budget(
            "two",
            limit=9,
            unit="calls",
            match={"provider": ["openai", "azure"], "tier": 1},
        ),
        Budget("mixed", limit=9, unit="calls", match={"model": ["o1", "o3*"]}),
    )
    assert guard.begin({"model": "gpt-4o-mini"}).amounts == {"gpt": 1}
    assert guard.begin({"model": "xgpt-4o-mini"}).amounts == {}
    assert guard.begin({"model": "gpt-4.1"}).amounts == {}
    assert guard.begin({"provider": "azure", "tier": 1}).amounts == {"two": 1}
    assert guard.begin({"provider": "azure", "tier": 2}).amounts == {}
    assert guard.begin({"provider": "azure"}).amounts == {}
    assert guard.begin({"model": "o1"}).amounts == {"mixed": 1}
    assert guard.begin({"model": "o1-mini"}).amounts == {}
    assert guard.begin({"model": "o3-mini"}).amounts == {"mixed": 1}


def test_a_call_without_the_key_is_left_out_or_shares_one_limit(make: Make) -> None:
    skip = Budget("skip", limit=9, unit="calls", per="user_id")
    share = Budget("share", limit=1, unit="calls", per="user_id", missing="share")
    guard = make(skip, share)
    assert guard.begin({"user_id": 7}).amounts == {"skip": 1, "share": 1}
    assert guard.begin({}).amounts == {"share": 1}
    with pytest.raises(BudgetExceededError, match="budget 'share' has no room"):
        guard.begin({"user_id": None})
    keys = [(status.budget, status.key) for status in guard.status()]
    assert keys == [
        ("skip", {"user_id": "7"}),
        ("share", {"user_id": "7"}),
        ("share", {"user_id": ""}),
    ]


def test_values_of_any_kind_do_no_harm(make: Make) -> None:
    """What NumPy and the like compare to is no truth value."""

    class Odd:
        __hash__ = None  # type: ignore[assignment]  # as odd as can be

        def __eq__(self, other: object) -> bool:
            msg = "the truth value is ambiguous"
            raise ValueError(msg)

        __repr__ = __str__ = None  # type: ignore[assignment]  # likewise

    guard = make(
        Budget("per", limit=9, unit="calls", per="user_id"),
        Budget("equal", limit=9, unit="calls", match={"user_id": "u"}),
        Budget("like", limit=9, unit="calls", match={"user_id": "u*"}),
        Budget("tokens", limit=9, unit="tokens", reserve=3),
    )
    held = guard.begin({"user_id": Odd(), "max_tokens": Odd(), "choice_count": Odd()})
    assert held.amounts == {"per": 1, "tokens": 3}


def test_a_user_seen_for_the_first_time_is_within_budget(make: Make) -> None:
    """51: users without a row in the table had no limit at all."""
    guard = make(Budget("users", limit=5, unit="tokens", per="user_id"))
    for user in ("u-1", "u-2"):
        with pytest.raises(BudgetExceededError, match=f"of '{user}' has no room"):
            guard.begin({"user_id": user, "max_tokens": 6})
        guard.begin({"user_id": user, "max_tokens": 5})
        with pytest.raises(BudgetExceededError, match=f"of '{user}' has no room"):
            guard.begin({"user_id": user, "max_tokens": 1})


def test_each_warn_level_is_told_once_a_period_and_key(
    make: Make, clock: ManualClock, events: CapturedEvents
) -> None:
    """52: three levels, once each; a hundred calls are not a hundred alerts."""
    guard = make(
        Budget(
            "b",
            limit=100,
            unit="nano_usd",
            per="user_id",
            window="day",
            warn=(0.8, 0.85, 0.95),
            on_exceeded="warn",
        )
    )
    for _ in range(2):
        for user in ("u-1", "u-2"):
            for _ in range(120):
                call(guard, 1, user_id=user)
        assert said(events) == [
            (what, user, level)
            for user in ("u-1", "u-2")
            for what, level in [
                ("warning", 0.8),
                ("warning", 0.85),
                ("warning", 0.95),
                ("exceeded", None),
            ]
        ]
        assert [
            event.measurements["ratio"]
            for event in events.named("llm.budget.warning")[:3]
        ] == [0.8, 0.85, 0.95]
        events.clear()
        clock.advance(DAY)


def test_one_large_call_reaches_all_levels_at_once(
    make: Make, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=100, unit="nano_usd"))
    call(guard, 100)
    assert said(events) == [
        ("warning", "", 0.8),
        ("warning", "", 0.95),
        ("exceeded", "", None),
    ]


def test_levels_are_where_they_are_written(make: Make, events: CapturedEvents) -> None:
    """0.07 * 100 is 7.000000000000001."""
    guard = make(Budget("b", limit=100, unit="nano_usd", warn=(0.07, 0.081)))
    call(guard, 7)
    call(guard, 1)
    assert said(events) == [("warning", "", 0.07)]
    call(guard, 1)
    assert said(events)[1:] == [("warning", "", 0.081)]


def test_a_rolling_window_warns_again_after_its_length(
    make: Make, clock: ManualClock, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=10, unit="nano_usd", window="1h", warn=0.8))
    call(guard, 8)
    call(guard, 1)
    clock.advance(HOUR - 1)
    call(guard, 0)
    assert len(said(events)) == 1
    clock.advance(1)
    call(guard, 8)
    assert len(said(events)) == 2


def test_exceeded_is_told_once_however_many_calls_are_refused(
    make: Make, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=1, unit="calls", warn=()))
    held = guard.begin({})
    for _ in range(5):
        with pytest.raises(BudgetExceededError, match="1 call reserved"):
            guard.begin({})
    guard.settle(held, {})
    assert said(events) == [("exceeded", "", None)]
    assert guard.stats()["refused"] == 5


def test_a_call_too_large_for_what_is_left_does_not_hide_the_end(
    make: Make, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=10, unit="tokens", warn=()))
    for _ in range(2):
        with pytest.raises(BudgetExceededError, match="up to 11 tokens"):
            guard.begin({"max_tokens": 11})
    assert [event.measurements["ratio"] for event in events] == [0.0]
    guard.settle(guard.begin({"max_tokens": 10}), {"total_tokens": 10})
    assert [event.measurements["ratio"] for event in events][1:] == [0.0, 1.0, 1.0]
    assert len(said(events)) == 2


def test_a_budget_that_warns_refuses_nothing(
    make: Make, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=1, unit="calls", on_exceeded="warn", warn=()))
    for _ in range(3):
        call(guard)
    assert spent(guard) == [3]
    assert said(events) == [("exceeded", "", None)]


def test_a_period_of_the_calendar_begins_on_time(
    make: Make, clock: ManualClock
) -> None:
    guard = make(Budget("b", limit=1, unit="calls", window="month"))
    call(guard)
    clock.advance(30 * DAY + 12 * HOUR - 1)
    with pytest.raises(BudgetExceededError, match="from 2026-08-01T00:00:00"):
        guard.begin({})
    clock.advance(1)
    call(guard)
    with pytest.raises(BudgetExceededError, match="from 2026-09-01T00:00:00"):
        guard.begin({})


def test_a_call_that_was_killed_gives_back_within_its_lease(
    make: Make, clock: ManualClock
) -> None:
    guard = make(Budget("b", limit=10, unit="tokens", lease="60s"))
    guard.begin({"max_tokens": 10})
    clock.advance(60_000_000_000 - 1)
    with pytest.raises(BudgetExceededError, match="10 tokens reserved"):
        guard.begin({"max_tokens": 10})
    clock.advance(1)
    guard.begin({"max_tokens": 10})


def test_the_status_of_a_budget(make: Make, clock: ManualClock) -> None:
    guard = make(
        Budget("all", limit=10, unit="calls"),
        Budget("users", limit=4, unit="calls", per="user_id", window="24h"),
    )
    (everything,) = guard.status()
    assert (everything.key, everything.remaining, everything.resets_at) == (
        {},
        10,
        None,
    )
    call(guard, user_id="u-1")
    clock.advance(HOUR)
    guard.begin({"user_id": "u-1"})
    _, user = guard.status()
    assert (user.budget, user.unit, user.key) == ("users", "call", {"user_id": "u-1"})
    assert (user.spent, user.reserved, user.limit, user.window) == (1, 1, 4, "24h")
    assert (user.ratio, user.remaining) == (0.25, 2)
    assert user.resets_at == datetime(2026, 7, 2, 12, tzinfo=timezone.utc)


def test_the_status_is_that_of_the_present_period(
    make: Make, clock: ManualClock
) -> None:
    guard = make(Budget("b", limit=10, unit="calls", window="day"))
    call(guard)
    assert spent(guard) == [1]
    clock.advance(DAY)
    assert spent(guard) == [0]


def test_budgets_have_names_of_their_own(make: Make) -> None:
    budget = Budget("b", limit=1)
    with pytest.raises(OptionError, match="the only one of its name"):
        make(budget, budget)
    with pytest.raises(OptionError, match="each of budgets to be a Budget"):
        make({"limit": 1})
    with pytest.raises(OptionError, match="on_store_failure to be 'open' or 'closed'"):
        make(budget, on_store_failure="maybe")
    assert make(budget).budgets == (budget,)


def test_guards_may_share_a_store(make: Make, bus: Bus, clock: ManualClock) -> None:
    store = MemoryBudgetStore(clock=clock)
    budget = Budget("b", limit=1, unit="calls")
    guard, other = make(budget, store=store), BudgetGuard(Bus(), [budget], store)
    call(guard)
    with pytest.raises(BudgetExceededError, match="1 call spent"):
        other.begin({})


class Broken:
    """A store whose database is away now and then."""

    def __init__(self, store: MemoryBudgetStore, *broken: str) -> None:
        self._store = store
        self._broken = broken

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any method
        if name in self._broken:
            msg = "no connection"
            raise ConnectionError(msg)
        return getattr(self._store, name)


@pytest.mark.parametrize("on_exceeded", ["block", "warn"])
def test_a_store_that_fails_lets_calls_through(
    make: Make, on_exceeded: Action, caplog: pytest.LogCaptureFixture
) -> None:
    store: Any = Broken(MemoryBudgetStore(), "reserve")
    guard = make(
        Budget("b", limit=1, unit="calls", on_exceeded=on_exceeded), store=store
    )
    for _ in range(3):
        call(guard)
    assert guard.stats()["store_failures"] == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "store of budgets failed: ConnectionError" in caplog.text


def test_a_store_that_fails_refuses_calls_where_it_is_told_to(make: Make) -> None:
    store: Any = Broken(MemoryBudgetStore(), "reserve")
    warn = Budget("warn", limit=1, unit="calls", on_exceeded="warn")
    block = Budget("block", limit=1, per="user_id")
    guard = make(warn, block, store=store, on_store_failure="closed")
    call(guard)
    with pytest.raises(BudgetExceededError, match="'block' of 'u' could not be") as no:
        guard.begin({"user_id": "u"})
    assert isinstance(no.value.__cause__, ConnectionError)
    assert (no.value.spent, no.value.reserved) == (None, None)
    assert guard.stats()["refused"] == 1


def test_a_store_that_fails_after_the_call_raises_nothing(
    make: Make, clock: ManualClock
) -> None:
    store = MemoryBudgetStore(clock=clock)
    budget = Budget("b", limit=5, unit="nano_usd")
    for broken in ("settle", "announce"):
        guard = make(budget, store=Broken(store, broken))
        call(guard, 9)
        assert guard.stats()["store_failures"] == 1


class Late(MemoryBudgetStore):
    """A store that is in the middle of something else whenever a call ends."""

    def settle(self, token: object, amounts: Sequence[int], /) -> None:
        super().settle(token, amounts)


def test_what_could_not_be_told_is_told_next_time(
    make: Make, clock: ManualClock, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=2, unit="calls", warn=()), store=Late(clock=clock))
    first, second = guard.begin({}), guard.begin({})
    first.settle({})
    assert [event.event[-1] for event in events] == ["reserved", "reserved"]
    second.settle({})
    with pytest.raises(BudgetExceededError, match="2 calls spent"):
        guard.begin({})
    assert [event.event[-1] for event in events[2:]] == [
        "exceeded",
        "settled",
        "settled",
    ]


def test_what_cannot_be_told_while_the_store_is_away_is_told_when_it_is_back(
    make: Make, clock: ManualClock, events: CapturedEvents
) -> None:
    store: Any = Broken(Late(clock=clock), "read")
    guard = make(Budget("b", limit=9, unit="calls"), store=store)
    for _ in range(3):
        call(guard)
    assert guard.stats()["store_failures"] == 2
    assert [event.event[-1] for event in events] == ["reserved"] * 3
    store._broken = ()
    call(guard)
    assert [event.event[-1] for event in events[3:]] == ["reserved", *["settled"] * 3]


class Unseen(MemoryBudgetStore):
    """A store that is asked by a signal handler, in the middle of its own work."""

    def reserve(self, holds: Sequence[Hold], /) -> Outcome:
        return super().reserve(holds)._replace(readings=())


def test_a_reservation_that_is_granted_unseen_is_settled(
    make: Make, clock: ManualClock, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=2, unit="calls"), store=Unseen(clock=clock))
    call(guard)
    assert [event.event[-1] for event in events] == ["settled"]


def test_a_store_may_refuse_what_it_could_not_look_at(
    make: Make, clock: ManualClock, events: CapturedEvents
) -> None:
    guard = make(Budget("b", limit=1, unit="calls"), store=Unseen(clock=clock))
    guard.begin({})
    with pytest.raises(BudgetExceededError, match="'b' could not be") as no:
        guard.begin({})
    assert (no.value.spent, no.value.reserved, no.value.__cause__) == (None, None, None)
    assert guard.stats()["refused"] == 1
    assert list(events) == []


def test_what_a_store_cannot_tell_is_left_out_of_the_status(
    make: Make, clock: ManualClock
) -> None:
    class Torn(MemoryBudgetStore):
        def accounts(self, budget: str, /) -> list[Account]:
            if budget == "torn":
                raise ConnectionError
            return super().accounts(budget)

    budgets = [Budget(name, limit=2, unit="calls") for name in ("a", "torn", "b")]
    guard = make(*budgets, store=Torn(clock=clock))
    call(guard)
    assert [(one.budget, one.spent) for one in guard.status()] == [("a", 1), ("b", 1)]
    assert guard.stats()["store_failures"] == 1


def test_another_process_may_have_told(make: Make, events: CapturedEvents) -> None:
    """Between the reading and the attempt to be the first to say so."""

    class Told(MemoryBudgetStore):
        def announce(self, account: Account, bits: int, /) -> int:
            return 0

    guard = make(Budget("b", limit=1, unit="calls"), store=Told())
    call(guard)
    with pytest.raises(BudgetExceededError, match="1 call spent"):
        guard.begin({})
    assert said(events) == []


def test_an_interrupted_handler_leaves_no_reservation(make: Make, bus: Bus) -> None:
    """Who called `begin` never got hold of it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    guard = make(Budget("b", limit=1, unit="calls"))
    subscription = bus.attach("ctrl-c", "llm.budget.reserved", interrupt)
    with subscription, pytest.raises(KeyboardInterrupt):
        guard.begin({})
    assert [status.reserved for status in guard.status()] == [0]


def test_attached_guards_are_found_by_their_bus(make: Make, bus: Bus) -> None:
    assert active_guards(bus) == ()
    first, second = make(Budget("b", limit=1)), make(Budget("b", limit=2))
    other = BudgetGuard(Bus(), [])
    for guard in (first, second, other, first):
        guard.attach()
    try:
        assert active_guards(bus) == (first, second)
        assert active_guards(other.bus) == (other,)
        first.detach()
        assert active_guards(bus) == (second,)
    finally:
        for guard in (first, second, other, first):
            guard.detach()
    assert active_guards(bus) == ()


def test_a_guard_is_a_reason_to_make_calls_that_nobody_listens_to() -> None:
    bus = Bus()
    guard = BudgetGuard(bus, [])
    operations = ("chat", "embedding", "rerank")
    assert not any(bus.has_handlers(("llm", name, "stop")) for name in operations)
    guard.attach()
    bus.execute("llm.chat.stop", {"duration": 1})
    assert all(bus.has_handlers(("llm", name, "stop")) for name in operations)
    assert not bus.has_handlers("llm.tool.stop")
    guard.detach()
    assert bus.list_handlers() == []


def test_several_guards_reserve_together_or_not_at_all(make: Make, bus: Bus) -> None:
    assert reserve(bus, {}) == ()
    wide = make(Budget("wide", limit=9, unit="calls"))
    narrow = make(Budget("narrow", limit=1, unit="calls"))
    wide.attach()
    try:
        (alone,) = reserve(bus, {})
        alone.release()
        narrow.attach()
        first, second = reserve(bus, {})
        assert (first.amounts, second.amounts) == ({"wide": 1}, {"narrow": 1})
        with pytest.raises(BudgetExceededError, match="'narrow'"):
            reserve(bus, {})
        assert [status.reserved for status in wide.status()] == [1]
    finally:
        wide.detach()
        narrow.detach()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_does_not_settle_the_calls_of_its_parent(make: Make) -> None:
    guard = make(Budget("b", limit=5, unit="calls"))
    reservation = guard.begin({})

    def settle() -> list[int]:
        reservation.settle({})
        reservation.release()
        (stands,) = guard.status()
        return [stands.spent, stands.reserved]

    assert in_child(settle) == [0, 0]
    reservation.settle({})
    assert spent(guard) == [1]


def test_a_fork_ends_the_reservations_of_the_parent(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in this process, where it is seen which lines run."""
    from llmevents import _forksafe

    guard = make(Budget("b", limit=5, unit="calls"))
    reservation = guard.begin({})
    monkeypatch.setattr(
        _forksafe.registry, "generation", _forksafe.registry.generation + 1
    )
    reservation.settle({})
    assert spent(guard) == [0]


def test_a_reading_is_plain_data() -> None:
    assert Reading(1, 2, 3, None)._asdict() == {
        "spent": 1,
        "reserved": 2,
        "announced": 3,
        "frees_in": None,
    }
