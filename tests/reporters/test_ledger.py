"""The ledger reporter: each call is one record in each store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmevents import Bus, LLMEventsError, OptionError, configure, llm
from llmevents.config import Usage
from llmevents.ledger import read
from llmevents.metrics import MetricStore
from llmevents_ledger import LedgerReporter
from tests.outcomes import in_child, in_threads


@pytest.fixture
def bus() -> Bus:
    return Bus(strict=True)


def start(bus: Bus, **options: Any) -> LedgerReporter:  # noqa: ANN401  # of any type
    reporter = LedgerReporter(**options)
    reporter.start(bus, MetricStore([]))
    return reporter


def ids(path: Path) -> list[str]:
    return [line.record["id"] for line in read(path) if line.record]


@pytest.mark.parametrize("durability", ["process", "power", "batch"])
def test_calls_of_threads_and_children_are_each_one_record(
    durability: str, bus: Bus, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    reporter = start(bus, jsonl=path, durability=durability)

    def call(times: int = 25) -> None:
        for _ in range(times):
            llm.record(usage=llm.Usage(input_tokens=1), bus=bus)

    def child() -> object:
        call()
        return reporter.flush(10)

    in_threads(call, call, lambda: in_child(child))
    assert reporter.flush(10)
    status = reporter.status()
    assert (status.accepted, status.delivered, status.queued) == (50, 50, 0)
    found = ids(path)
    assert len(found) == len(set(found)) == 75
    reporter.stop(10)
    call(1)
    assert len(ids(path)) == 75


def test_a_file_and_a_database_say_the_same(bus: Bus, tmp_path: Path) -> None:
    import sqlite3

    path, url = tmp_path / "calls.jsonl", f"sqlite:///{tmp_path / 'usage.db'}"
    reporter = start(bus, jsonl=path, url=url)
    with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
        call.usage(input_tokens=1000)
    reporter.stop(10)
    (line,) = read(path)
    assert line.record is not None
    with sqlite3.connect(tmp_path / "usage.db") as database:
        rows = database.execute("select id, model, input_tokens from calls").fetchall()
    database.close()
    assert rows == [(line.record["id"], "tiny-1", 1000)]
    assert reporter.status().delivered == 2


def test_without_a_place_it_is_a_database_in_the_working_directory(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reporter = start(bus)
    llm.record(bus=bus)
    reporter.stop(10)
    assert (tmp_path / "llmevents.db").exists()
    assert reporter.status().delivered == 1


def test_what_cannot_be_written_is_counted_and_hurts_nobody(
    bus: Bus, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    reporter = start(bus, jsonl=path)
    path.mkdir()
    llm.record(bus=bus)
    status = reporter.status()
    assert (status.delivered, dict(status.dropped)) == (0, {"error": 1})
    assert status.is_balanced
    reporter.stop(10)


def test_an_event_that_says_not_which_call_it_is_of_is_counted(tmp_path: Path) -> None:
    bus = Bus()
    reporter = start(bus, jsonl=tmp_path / "calls.jsonl")
    bus.execute("llm.chat.stop", {"input_tokens": 1}, {})
    assert dict(reporter.status().dropped) == {"no_span_id": 1}
    reporter.stop(10)


def test_it_is_started_once_and_can_be_started_again(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    reporter = start(bus, jsonl=path)
    with pytest.raises(LLMEventsError, match="started already"):
        reporter.start(bus, MetricStore([]))
    reporter.stop(10)
    reporter.stop(10)
    reporter.start(bus, MetricStore([]))
    llm.record(bus=bus)
    reporter.stop(10)
    assert len(ids(path)) == 1


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: LedgerReporter(jsonl="x", keep_days=0), id="keep_days"),
        pytest.param(lambda: LedgerReporter(jsonl="x", keep_files=0), id="keep_files"),
    ],
)
def test_a_wrong_option_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(OptionError):
        make()


def test_a_reporter_that_is_not_started_makes_no_file(tmp_path: Path) -> None:
    """`llmevents config check` makes one, to see whether it would run."""
    LedgerReporter(jsonl=tmp_path / "calls.jsonl", url=f"sqlite:///{tmp_path}/usage.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("url",), id="database"),
        pytest.param(("jsonl",), id="file"),
        pytest.param(("url", "jsonl"), id="both"),
    ],
)
@pytest.mark.parametrize("durability", ["process", "batch"])
def test_usage_is_that_of_the_ledger(
    bus: Bus, tmp_path: Path, durability: str, options: tuple[str, ...]
) -> None:
    """Of runs before this one too."""
    places = {
        "url": f"sqlite:///{tmp_path}/usage.db",
        "jsonl": str(tmp_path / "calls.jsonl"),
    }
    ledger = {name: places[name] for name in options} | {"durability": durability}
    usage = Usage()
    for _ in range(2):
        telemetry = configure(reporters={"ledger": ledger}, logger=False, bus=bus)
        llm.record(model="m", usage=llm.Usage(input_tokens=2, output_tokens=1), bus=bus)
        llm.record(error="it broke", bus=bus)
        usage = telemetry.usage()
        telemetry.shutdown()
    known = Usage(calls=2, errors=0, input_tokens=4, output_tokens=2)
    unknown = Usage(calls=2, errors=2, input_tokens=0, output_tokens=0)
    assert usage == Usage(
        calls=4,
        errors=2,
        input_tokens=4,
        output_tokens=2,
        by_model={"m": known, "": unknown},
    )
