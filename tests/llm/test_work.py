"""Tools, agents and tasks: what surrounds calls, and never carries tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.llm import WorkScope
from llmevents.metrics import MetricStore
from llmevents.metrics.presets import service
from llmevents.testing import CapturedEvents, capture
from tests.llm.calls import RESPONSE, numbers


@pytest.mark.parametrize(
    ("make", "prefix", "said"),
    [
        pytest.param(
            lambda bus: llm.tool("add", call_id="c-1", bus=bus, tool_type="function"),
            "llm.tool",
            {
                "operation": "execute_tool",
                "tool_name": "add",
                "tool_call_id": "c-1",
                "tool_type": "function",
            },
            id="tool",
        ),
        pytest.param(
            lambda bus: llm.agent("helper", agent_id="a-1", bus=bus, model="tiny-1"),
            "llm.agent",
            {
                "operation": "invoke_agent",
                "agent_name": "helper",
                "agent_id": "a-1",
                "model": "tiny-1",
            },
            id="agent",
        ),
        pytest.param(
            lambda bus: llm.task("report", task_id="t-1", bus=bus, source_id="s"),
            "llm.task",
            {
                "operation": "invoke_workflow",
                "workflow_name": "report",
                "task_id": "t-1",
                "source_id": "s",
            },
            id="task",
        ),
        pytest.param(
            lambda bus: llm.agent(bus=bus),
            "llm.agent",
            {"operation": "invoke_agent"},
            id="nameless",
        ),
    ],
)
def test_a_block_says_what_it_was_told(
    make: Callable[[Bus], WorkScope],
    prefix: str,
    said: dict[str, str],
    bus: Bus,
    events: CapturedEvents,
) -> None:
    with make(bus):
        pass
    assert events.names() == [f"{prefix}.start", f"{prefix}.stop"]
    start = dict(events[0].metadata)
    assert start.pop("scoped") is True
    assert len(str(start.pop("span_id"))) == 32
    assert start == said


def test_the_tokens_of_an_agents_calls_are_stated_by_the_calls_alone(
    bus: Bus, events: CapturedEvents
) -> None:
    """A parent that repeats its children's tokens doubles the bill."""
    with llm.task(bus=bus), llm.agent("helper", bus=bus):
        for _ in range(2):
            with llm.chat(bus=bus) as call, llm.tool("add", bus=bus):
                call.record(RESPONSE)
    assert [found["total_tokens"] for found in numbers(events)] == [7, 7]
    for name in ("llm.task.stop", "llm.agent.stop", "llm.tool.stop"):
        assert not any(numbers(events, name))
    assert "llm.provider.request.stop" not in events.names()


def test_everything_in_a_task_says_which_one_it_is(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.task(task_id="outer", bus=bus):
        with llm.task(task_id="inner", bus=bus), llm.chat(bus=bus):
            pass
        with llm.chat(bus=bus):
            pass
    with llm.chat(bus=bus):
        pass
    stops = events.named("llm.chat.stop")
    assert [stop.metadata.get("task_id") for stop in stops] == ["inner", "outer", None]


def test_a_task_nobody_hears_still_names_what_is_in_it() -> None:
    bus = Bus()
    with capture("llm.chat.stop", bus=bus) as events:

        @llm.task(task_id="t-1", bus=bus)
        def work() -> None:
            with llm.chat(bus=bus):
                pass

        @llm.task(task_id="t-2", bus=bus)
        async def work_async() -> None:
            work()

        work()
        asyncio.run(work_async())
        with llm.chat(bus=bus):
            pass
    stops = [event.metadata.get("task_id") for event in events]
    assert stops == ["t-1", "t-1", None]


def test_a_generators_consumer_is_not_in_its_task(
    bus: Bus, events: CapturedEvents
) -> None:
    @llm.task(task_id="t-1", bus=bus)
    def work() -> Iterator[int]:
        yield 1

    for _ in work():
        with llm.chat(bus=bus):
            pass
    assert "task_id" not in events.named("llm.chat.stop")[0].metadata
    assert events.named("llm.task.stop")[0].metadata["task_id"] == "t-1"


def test_a_decorator_without_an_id_costs_nothing_while_nobody_listens() -> None:
    bus = Bus()

    @llm.tool("add", bus=bus)
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3
    assert "llm.tool" in bus.quiet
    assert llmevents.stats() is not None


def test_an_error_ends_a_task_and_its_ambient_id(
    bus: Bus, events: CapturedEvents
) -> None:
    with pytest.raises(ZeroDivisionError), llm.task(task_id="t-1", bus=bus):
        raise ZeroDivisionError
    with llm.chat(bus=bus):
        pass
    assert events.named("llm.task.exception")[0].metadata["task_id"] == "t-1"
    assert "task_id" not in events.named("llm.chat.stop")[0].metadata


def test_tasks_give_the_service_metrics(bus: Bus) -> None:
    store = MetricStore(service())
    store.attach(bus)

    def total(name: str) -> dict[str, object]:
        family = store.snapshot().families[name]
        return {one.tags.get("status", ""): one.value for one in family.series}

    with llm.task(bus=bus):
        with pytest.raises(ZeroDivisionError), llm.task(bus=bus):
            raise ZeroDivisionError
        assert total("active_tasks") == {"": 1}
    assert total("active_tasks") == {"": 0}
    assert total("task.success.total") == {"success": 1, "error": 1}
