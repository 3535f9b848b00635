"""Budgets of several processes: not one call too many, and none too few."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmevents.ledger._budgets import SqlBudgetStore
from llmevents.testing import ManualClock
from tests.ledger.sqlstores import needed_server
from tests.llm.budgets.store_contract import LEASE, TOTAL, hold, read


PROCESSES = 4
THREADS = 5
CALLS = 1_000
ROOM = 100
TIMEOUT = 120

CALLING = f"""
import json, sys
from collections import Counter
from threading import Thread

from llmevents import Bus
from llmevents.ledger._budgets import SqlBudgetStore
from llmevents.llm.budgets import Budget, BudgetExceededError, BudgetGuard

bus, told, passed = Bus(), Counter(), []
bus.attach("t", "llm.budget.*", lambda name, *_: told.update([name[-1]]))
store = SqlBudgetStore(sys.argv[1], patience={TIMEOUT})
budgets = [
    Budget("b", limit={ROOM}, unit="calls", per="user_id", warn=[0.5, 0.9]),
    Budget("hourly", limit={ROOM}, unit="calls", window="1h"),
]
guard = BudgetGuard(bus, budgets, store)
guard.status()
print("ready", flush=True)
sys.stdin.readline()

def calls():
    held = []
    for turn in range({CALLS // PROCESSES // THREADS}):
        try:
            reservation = guard.begin({{"user_id": "seen-for-the-first-time"}})
        except BudgetExceededError:
            continue
        passed.append(turn)
        # Some calls end while others begin, the rest when all have begun.
        if turn % 2:
            reservation.settle({{}})
        else:
            held.append(reservation)
    for reservation in held:
        reservation.settle({{}})

threads = [Thread(target=calls) for _ in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([len(passed), told, store.counts(), guard.stats()["refused"]]))
"""

HOLDING = f"""
import sys
from llmevents.ledger._budgets import SqlBudgetStore
from llmevents.llm.budgets import Account, Hold

store = SqlBudgetStore(sys.argv[1], patience={TIMEOUT})
hold = Hold(Account("b", (), 0, 0, 0), 10, 10, 10, int(sys.argv[2]))
assert store.reserve([hold]).readings
print("holding", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with needed_server() as server:
        yield server.new_url()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/usage.db"
    found: str = request.getfixturevalue("server_url")
    return found


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait(process: subprocess.Popen[str]) -> None:
    """Wait until a process says that it is ready."""
    assert process.stdout is not None
    assert process.stdout.readline()


def answer(process: subprocess.Popen[str]) -> Any:  # noqa: ANN401  # of JSON
    """Have a process go on, and return what it prints."""
    out, _ = process.communicate("go\n", timeout=TIMEOUT)
    assert process.returncode == 0
    return json.loads(out)


def test_of_a_thousand_calls_in_four_processes_a_hundred_pass(url: str) -> None:
    """51: budgets that are checked first and added to later let more of them pass."""
    processes = [run(CALLING, url) for _ in range(PROCESSES)]
    for process in processes:
        wait(process)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [answer(process) for process in processes]
    assert [counts for _, _, counts, _ in answers] == [[0, 0, 0, 0, {}]] * PROCESSES
    assert sum(passed for passed, _, _, _ in answers) == ROOM
    assert sum(refused for _, _, _, refused in answers) == CALLS - ROOM
    told: dict[str, int] = {}
    for _, names, _, _ in answers:
        for name, number in names.items():
            told[name] = told.get(name, 0) + number
    # Of two budgets; one has the levels 0.5 and 0.9, the other 0.8 and 0.95.
    assert told == {
        "reserved": 2 * ROOM,
        "settled": 2 * ROOM,
        "warning": 4,
        "exceeded": 2,
    }
    store = SqlBudgetStore(url, patience=TIMEOUT)
    for name in ("b", "hourly"):
        (account,) = store.accounts(name)
        assert read(store, account)[:2] == (ROOM, 0)
    store.close()


def test_what_a_killed_process_held_is_given_back_within_its_lease(url: str) -> None:
    process = run(HOLDING, url, str(LEASE))
    wait(process)
    process.kill()
    process.communicate(timeout=TIMEOUT)
    store = SqlBudgetStore(url, patience=TIMEOUT)
    assert store.reserve([hold(TOTAL)]).refused == 0
    assert read(store, TOTAL)[:2] == (0, 10)
    clock = ManualClock(time_ns=time.time_ns() + LEASE)
    later = SqlBudgetStore(url, clock=clock, patience=TIMEOUT)
    assert later.reserve([hold(TOTAL, 10)]).token is not None
    assert later.counts() == store.counts() == (0, 0, 0, 0, {})
    store.close()
    later.close()
