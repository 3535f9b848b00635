"""One thread at a time, whatever signals, finalizers and forks do."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import FrameType

import pytest

from llmevents.ledger import JsonlStore, SqlStore
from llmevents.ledger._gate import Gate, NestedError
from tests.ledger.sqlstores import held, made
from tests.outcomes import JOIN_TIMEOUT


class InterruptionError(BaseException):
    """What a handler of the host's raises, and the host survives."""


@pytest.fixture
def untraced() -> Iterator[None]:
    """Let no exception come out of coverage.py, which would leave its lock taken."""
    trace = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(trace)


def others_get_in(gate: Gate) -> bool:
    """Return whether another thread gets in at once."""
    seen: list[bool] = []

    def enter() -> None:
        with gate.alone(0) as is_alone:
            seen.append(is_alone)

    thread = Thread(target=enter)
    thread.start()
    thread.join(JOIN_TIMEOUT)
    return seen == [True]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_an_exception_out_of_a_signal_handler_never_leaves_it_locked(
    timeout: float | None,
) -> None:
    gate = Gate()

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise InterruptionError

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for delay in range(3_000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + delay % 50 * 1e-6)
                for _ in range(500):
                    with gate.alone(timeout):
                        pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptionError:
                interrupted += 1
            assert not gate.is_inside
            assert others_get_in(gate)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 1_000


def test_who_is_inside_does_not_get_in_again_and_stays_inside() -> None:
    gate = Gate()
    with gate.alone():
        with pytest.raises(NestedError, match="outside of the handler"), gate.alone():
            pass
        assert gate.is_inside
        assert not others_get_in(gate)
    assert others_get_in(gate)


def test_a_fork_gives_up_on_who_is_inside_for_too_long() -> None:
    gate = Gate()
    with held(gate):
        gate.before_fork(0.01)
        assert not gate.is_forking
        assert not gate.is_inside
        assert not gate.after_fork_in_parent()
    assert others_get_in(gate)


def test_a_fork_keeps_everybody_out() -> None:
    gate = Gate()
    gate.before_fork(0.01)
    assert gate.is_forking
    assert not others_get_in(gate)
    assert gate.after_fork_in_parent()
    assert others_get_in(gate)


def test_a_fork_in_the_middle_of_its_own_work_waits_for_nothing() -> None:
    gate = Gate()
    with gate.alone():
        gate.before_fork(JOIN_TIMEOUT)
        assert not gate.after_fork_in_parent()
        assert gate.is_inside


def test_a_store_is_not_closed_in_the_middle_of_its_own_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal handler that ends the program."""
    database = SqlStore(f"sqlite:///{tmp_path}/usage.db")
    with database._gate.alone():
        assert not database.close()
        assert not database.close(0.01)
    assert database.close()
    file = JsonlStore(tmp_path / "calls.jsonl")
    append, closed = file._file.append, []

    def appending(lines: bytes, *, sync: bool) -> None:
        closed.append(file.close())
        append(lines, sync=sync)

    monkeypatch.setattr(file._file, "append", appending)
    file.add(made("1"))
    assert closed == [False]
    assert file.close()
    assert file.counts().written == 1
