from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from llmevents import Bus, LLMEventsError
from llmevents.llm.pricing import CostThreshold, CostThresholds
from llmevents.llm.pricing._thresholds import WINDOWS, Window
from llmevents.testing import CapturedEvents, ManualClock, capture


EVENT = "llm.cost.threshold_exceeded"
CENT = 10_000_000


@pytest.fixture
def bus() -> Bus:
    return Bus(strict=True)


@pytest.fixture
def exceeded(bus: Bus) -> Iterator[CapturedEvents]:
    with capture(EVENT, bus=bus, scope="process") as captured:
        yield captured


def _call(bus: Bus, cents: int, **metadata: object) -> None:
    bus.execute("llm.chat.stop", {"cost_nano_usd": cents * CENT}, metadata)


def _told(exceeded: CapturedEvents) -> list[tuple[int, int, dict[str, object]]]:
    return [
        (
            int(event.measurements["cost_nano_usd"]) // CENT,
            int(event.measurements["threshold_nano_usd"]) // CENT,
            dict(event.metadata),
        )
        for event in exceeded
    ]


def test_each_call_that_costs_more_is_told_of(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    with CostThresholds(bus, [{"usd": 0.05, "scope": "call"}]):
        facts = {"provider": "openai", "model": "gpt-4", "span_id": "7", "user_id": "u"}
        for cents in (4, 5, 6, 7):
            _call(bus, cents, **facts)
        _call(bus, 9)
    told = {"scope": "call", "provider": "openai", "model": "gpt-4", "key": "7"}
    assert _told(exceeded) == [(6, 5, told), (7, 5, told), (9, 5, {"scope": "call"})]


def test_a_total_is_told_of_once_when_it_is_passed(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    with CostThresholds(bus, [CostThreshold(usd="0.05"), CostThreshold(usd="0.10")]):
        for _ in range(7):
            _call(bus, 2)
    assert _told(exceeded) == [(6, 5, {"scope": "total"}), (12, 10, {"scope": "total"})]


def test_each_user_has_a_threshold_of_their_own(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    with CostThresholds(bus, [CostThreshold(usd="0.05", scope="user_id")]):
        for user in ("ada", "grace", "ada", None, "ada", 7, 7):
            _call(bus, 3, **({} if user is None else {"user_id": user}))
    assert _told(exceeded) == [
        (6, 5, {"scope": "user_id", "key": "ada"}),
        (6, 5, {"scope": "user_id", "key": "7"}),
    ]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_begins_anew(
    window: Window, bus: Bus, exceeded: CapturedEvents
) -> None:
    """All of them do at once: it is a Monday, and the first of a month."""
    midnight = int(datetime(2026, 6, 1, tzinfo=timezone.utc).timestamp()) * 10**9
    clock = ManualClock(time_ns=midnight - 1)
    threshold = CostThreshold(usd="0.05", window=window)
    with CostThresholds(bus, [threshold], clock=clock):
        _call(bus, 6)
        _call(bus, 6)
        clock.advance(1)
        _call(bus, 5)
        assert len(exceeded) == 1
        _call(bus, 1)
    assert [cost for cost, _, _ in _told(exceeded)] == [6, 6]


def test_all_calls_count_failed_ones_and_every_operation_too(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    """What is no inference, or has no cost, does not."""
    with CostThresholds(bus, [CostThreshold(usd="0.05")]):
        bus.execute("llm.embedding.exception", {"cost_nano_usd": 3 * CENT})
        bus.execute("llm.chat.stop", {"duration": 5})
        bus.execute("llm.cost.calculated", {"cost_nano_usd": 90 * CENT})
        assert len(exceeded) == 0
        bus.execute("llm.ocr.stop", {"cost_nano_usd": 3 * CENT})
    assert _told(exceeded) == [(6, 5, {"scope": "total"})]


def test_memory_is_bounded_and_what_is_forgotten_is_counted(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    threshold = CostThreshold(usd="0.05", scope="user_id")
    with CostThresholds(bus, [threshold], max_keys=2) as thresholds:
        for user in ("ada", "grace", "ada", "edsger", "grace", "ada"):
            _call(bus, 3, user_id=user)
        assert thresholds.forgotten == 3
    assert _told(exceeded) == [(6, 5, {"scope": "user_id", "key": "ada"})]


def test_threads_pass_a_threshold_exactly_once(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    thresholds = [CostThreshold(usd=usd, scope="user_id") for usd in (1, 5, "9.99")]
    thresholds.append(CostThreshold(usd="79.99"))

    def spend() -> None:
        for _ in range(250):
            for user in ("ada", "grace", "edsger", "barbara"):
                _call(bus, 1, user_id=user)

    with CostThresholds(bus, thresholds):
        threads = [threading.Thread(target=spend, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    told = sorted((limit, str(facts.get("key"))) for _, limit, facts in _told(exceeded))
    users = sorted(["ada", "grace", "edsger", "barbara"])
    assert told == [
        *((100, user) for user in users),
        *((500, user) for user in users),
        *((999, user) for user in users),
        (7999, "None"),
    ]
    assert all(cost == limit + 1 for cost, limit, _ in _told(exceeded))


def test_a_handler_of_the_event_may_make_calls_itself(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    bus.attach("ask", EVENT, lambda *_: _call(bus, 50))
    with CostThresholds(bus, [CostThreshold(usd="0.05"), CostThreshold(usd="0.60")]):
        _call(bus, 20)
        _call(bus, 1)
    assert [(cost, limit) for cost, limit, _ in _told(exceeded)] == [(20, 5), (70, 60)]


def test_while_somebody_adds_up_nobody_waits(
    bus: Bus, exceeded: CapturedEvents
) -> None:
    """A finalizer may interrupt the very thread that holds the turn."""
    with CostThresholds(bus, [CostThreshold(usd="0.05")]) as thresholds:
        thresholds._turn.acquire()
        _call(bus, 6)
        assert len(exceeded) == 0
        thresholds._turn.release()
        _call(bus, 1)
    assert [cost for cost, _, _ in _told(exceeded)] == [6]


def test_detaching_twice_does_nothing(bus: Bus, exceeded: CapturedEvents) -> None:
    thresholds = CostThresholds(bus, [CostThreshold(usd=0)])
    thresholds.detach()
    thresholds.detach()
    _call(bus, 5)
    assert len(exceeded) == 0


def test_a_forked_child_begins_at_0(bus: Bus, exceeded: CapturedEvents) -> None:
    with CostThresholds(bus, [CostThreshold(usd="0.05")]) as thresholds:
        _call(bus, 4)
        thresholds._turn.acquire()
        thresholds.after_fork_in_child()
        _call(bus, 5)
        assert len(exceeded) == 0
        _call(bus, 1)
    assert [cost for cost, _, _ in _told(exceeded)] == [6]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        pytest.param({"usd": "much"}, "usd to be a number", id="amount"),
        pytest.param({"usd": 1, "scope": ""}, "scope to be text", id="scope"),
        pytest.param({"usd": 1, "window": "year"}, "'hour', 'day'", id="window"),
        pytest.param({"scope": "call"}, "a table with usd", id="no-amount"),
        pytest.param({"usd": 1, "per": "day"}, "a table with usd", id="unknown"),
        pytest.param(5, "a table with usd", id="no-table"),
    ],
)
def test_a_wrong_threshold_is_refused(bus: Bus, table: object, complaint: str) -> None:
    with pytest.raises(LLMEventsError, match=complaint):
        CostThresholds(bus, [table])  # type: ignore[list-item]  # the mistake
