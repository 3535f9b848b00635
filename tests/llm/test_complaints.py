"""What users of other tools complain about, where no other test is about just that.

The numbers are those of ``docs/complaints.md``.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
import threading
from pathlib import Path

import pytest

from llmevents import Bus, llm, propagate
from llmevents.llm.budgets import Budget, BudgetGuard
from llmevents.testing import CapturedEvents


PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_10_a_call_that_is_cancelled_states_no_part_of_its_cost(
    bus: Bus, events: CapturedEvents
) -> None:
    """The provider may bill all of it: a part would pass for the whole."""
    guard = BudgetGuard(bus, [Budget("t", limit=100, unit="tokens", reserve=40)])
    guard.attach()

    async def ask(is_sent: asyncio.Event) -> None:
        with llm.chat(provider="openai", model="gpt-4o", bus=bus):
            is_sent.set()
            await asyncio.Event().wait()

    async def main() -> None:
        is_sent = asyncio.Event()
        task = asyncio.create_task(ask(is_sent))
        await is_sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    guard.detach()
    end = events[-1]
    assert end.metadata["status"] == "cancelled"
    assert not {"input_tokens", "total_tokens", "cost_nano_usd"} & set(end.measurements)
    assert [status.spent for status in guard.status()] == [40]


def test_38_a_process_pool_refuses_a_propagated_function() -> None:
    """It would begin without the context there, and nobody would notice."""
    with pytest.raises((pickle.PicklingError, AttributeError), match="pickle"):
        pickle.dumps(propagate(PYPROJECT.exists))


def test_41_handlers_of_langchain_start_no_threads(bus: Bus) -> None:
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from llmevents.instrumentation.langchain import LLMEventsCallbackHandler

    before = set(threading.enumerate())
    kept = [LLMEventsCallbackHandler(bus=bus) for _ in range(50)]
    # Threads of other tests may end meanwhile.
    assert set(threading.enumerate()) <= before
    assert len(kept) == 50


class Request:
    """Of a web framework, as large as these are."""

    def __init__(self) -> None:
        self.body = "x" * 1_000_000

    def __repr__(self) -> str:
        return self.body


def test_41_a_web_request_among_the_metadata_is_not_kept(
    bus: Bus, events: CapturedEvents
) -> None:
    with llm.chat(provider="acme", model="m-1", bus=bus, request=Request()):
        pass
    said = events[-1].metadata["request"]
    assert isinstance(said, str)
    assert len(said) < 100


def test_44_nothing_is_printed_unasked(
    bus: Bus, events: CapturedEvents, capfd: pytest.CaptureFixture[str]
) -> None:
    with llm.chat(provider="acme", model="m-1", bus=bus) as call:
        call.usage(input_tokens=1)
    assert events
    assert capfd.readouterr() == ("", "")


def test_44_what_is_said_of_failures_can_be_silenced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it goes through one logger of the standard library."""

    def fail(*_: object) -> None:
        raise ValueError

    def heard() -> list[str]:
        bus = Bus()
        bus.attach("failing", "llm.**", fail)
        caplog.clear()
        llm.record(provider="acme", model="m-1", bus=bus)
        return [record.name.partition(".")[0] for record in caplog.records]

    assert set(heard()) == {"llmevents"}
    monkeypatch.setattr(logging.getLogger("llmevents"), "disabled", True)
    assert heard() == []


def test_53_no_dependency_on_opentelemetry_is_pinned() -> None:
    """It is an extra, and any version from the oldest that works will do."""
    wanted, _, _ = PYPROJECT.read_text().partition("\ndev = [")
    required = re.findall(r'"(opentelemetry-[^"]*)"', wanted)
    assert required
    assert not [each for each in required if re.search(r"<|==|~=|!=", each)]
    core, _, _ = wanted.partition("[project.optional-dependencies]")
    assert "opentelemetry-" not in core.partition("\ndependencies")[2]
