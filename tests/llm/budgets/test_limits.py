"""S1.28: whether what is spent is within limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmevents import Bus, OptionError
from llmevents.llm.budgets import Budget, BudgetGuard, check_usage_limits


USD = 1_000_000_000


@pytest.fixture
def guard(bus: Bus) -> Iterator[BudgetGuard]:
    guard = BudgetGuard(
        bus,
        [
            Budget("users", limit=100, per="user_id", on_exceeded="warn"),
            Budget("tasks", limit=10, per="task_id", on_exceeded="warn"),
            Budget("tokens", limit=50, unit="tokens", per="user_id"),
            Budget("output", limit=50, unit="output_tokens", per="user_id"),
            Budget("models", limit=9, unit="calls", per="model"),
        ],
    )
    guard.attach()
    for user, task, dollars in (
        ("u-1", "t-1", 8),
        ("u-1", "t-2", 9),
        ("u-2", "t-1", 7),
    ):
        reservation = guard.begin({"user_id": user, "task_id": task, "model": "m"})
        used = {"cost_nano_usd": dollars * USD, "total_tokens": 10, "output_tokens": 4}
        guard.settle(reservation, used)
    yield guard
    guard.detach()


def test_within_limits(bus: Bus, guard: BudgetGuard) -> None:
    limits = check_usage_limits(bus=bus, max_cost_per_task=15, max_cost_per_user="17")
    assert limits.within_limits
    assert limits.violations == ()


@pytest.mark.parametrize(
    ("limits", "violations"),
    [
        pytest.param(
            {"max_cost_per_task": 10.0, "max_cost_per_user": 16.5},
            [
                ("max_cost_per_task", "tasks", {"task_id": "t-1"}, 15 * USD, 10 * USD),
                (
                    "max_cost_per_user",
                    "users",
                    {"user_id": "u-1"},
                    17 * USD,
                    16_500_000_000,
                ),
            ],
            id="cost",
        ),
        pytest.param(
            {"max_tokens_per_user": 15},
            [("max_tokens_per_user", "tokens", {"user_id": "u-1"}, 20, 15)],
            id="tokens",
        ),
        pytest.param(
            {"max_calls_per_model": 2},
            [("max_calls_per_model", "models", {"model": "m"}, 3, 2)],
            id="calls_of_any_key",
        ),
        pytest.param(
            {},
            [("tasks", "tasks", {"task_id": "t-1"}, 15 * USD, 10 * USD)],
            id="own_limits",
        ),
    ],
)
def test_who_is_beyond(
    bus: Bus,
    guard: BudgetGuard,
    limits: dict[str, Any],
    violations: list[tuple[object, ...]],
) -> None:
    checked = check_usage_limits(bus=bus, **limits)
    assert not checked.within_limits
    assert [
        (v.limit, v.budget, v.key, v.spent, v.allowed) for v in checked.violations
    ] == violations


def test_one_user_may_be_asked_about(bus: Bus, guard: BudgetGuard) -> None:
    for user, within in (("u-1", False), ("u-2", True)):
        limits = check_usage_limits(bus=bus, of={"user_id": user}, max_cost_per_user=10)
        assert limits.within_limits is within


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        pytest.param({"max_cost_per_session": 1}, "per='session_id'", id="uncounted"),
        pytest.param({"max_calls_per_user": 1}, "unit='calls'", id="other_unit"),
        pytest.param({"max_euros_per_user": 1}, "max_cost_per_KEY", id="unknown"),
        pytest.param({"max_cost_per_user": -1}, "US dollars above 0", id="negative"),
    ],
)
def test_a_limit_that_nobody_can_check_is_an_error(
    bus: Bus, guard: BudgetGuard, limits: dict[str, Any], complaint: str
) -> None:
    """Silence would look as if all were well."""
    with pytest.raises(OptionError, match=complaint):
        check_usage_limits(bus=bus, **limits)


def test_without_budgets_all_is_within_limits() -> None:
    assert check_usage_limits().within_limits
