"""A tally is exact, whoever counts and reads when and where."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from llmevents._tally import Tally


def test_a_new_tally_is_zero() -> None:
    assert Tally().value() == 0


def test_reading_counts_nothing() -> None:
    tally = Tally()
    for expected in range(5):
        assert [tally.value() for _ in range(3)] == [expected] * 3
        tally.add()


def test_tallies_are_independent() -> None:
    one, other = Tally(), Tally()
    one.add()
    assert (one.value(), other.value()) == (1, 0)


def test_threads_count_exactly_while_others_read() -> None:
    """``n += 1`` loses counts here."""
    tally = Tally()
    seen: list[int] = []
    done = threading.Event()

    def count() -> None:
        for _ in range(50_000):
            tally.add()

    def read() -> None:
        while not done.is_set():
            seen.append(tally.value())

    counters = [threading.Thread(target=count, daemon=True) for _ in range(4)]
    readers = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in (*counters, *readers):
            thread.start()
        for thread in counters:
            thread.join(300)
        done.set()
        for thread in readers:
            thread.join(300)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in (*counters, *readers))
    assert tally.value() == 200_000
    assert max(seen, default=0) <= 200_000


def read_interrupted(tally: Tally, line: int, action: Callable[[], object]) -> bool:
    """Read *tally* and act before the n-th line of that; return if it has so many."""
    lines = itertools.count()
    acted = False

    def trace(frame: FrameType, what: str, argument: object) -> Any:  # noqa: ANN401  # a trace function, as the protocol has it
        nonlocal acted
        if frame.f_code is not Tally.value.__code__:
            return None
        if what == "line" and next(lines) == line:
            acted = True
            action()
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        tally.value()
    finally:
        sys.settrace(outer)
    return acted


def test_an_interrupted_read_leaves_the_count_right() -> None:
    """Ctrl-C hits wherever it likes."""
    tally = Tally()
    tally.add()

    def interrupt() -> None:
        raise KeyboardInterrupt

    for line in itertools.count():
        try:
            if not read_interrupted(tally, line, interrupt):
                break
        except KeyboardInterrupt:
            pass
        assert tally.value() == 1, f"interrupted before line {line} of value()"
    assert line > 0


def test_a_read_within_a_read_does_not_hang() -> None:
    """A signal handler that shows the counts may interrupt one who reads them."""
    tally = Tally()
    tally.add()
    inner: list[int] = []

    def read_everywhere() -> None:
        line = 0
        while read_interrupted(tally, line, lambda: inner.append(tally.value())):
            line += 1

    reader = threading.Thread(target=read_everywhere, daemon=True)
    reader.start()
    reader.join(300)
    assert not reader.is_alive()
    assert set(inner) == {1}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_goes_on_from_the_parents_count() -> None:
    """Also if another thread was reading, whose lock nobody would open."""
    tally = Tally()
    done = threading.Event()

    def read() -> None:
        sys.settrace(None)  # coverage.py has a lock as well, which it does not replace
        while not done.is_set():
            tally.value()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        for count in range(20):
            tally.add()
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                tally.add()
                os._exit(tally.value())
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == count + 2
    finally:
        done.set()
        reader.join(60)
    assert tally.value() == 20
