"""Span ids: unique everywhere, in the order of time, 32 hexadecimal digits."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import Bus, start_span
from llmevents._ids import SpanIds, span_ids
from llmevents.testing import ManualClock, capture
from tests.outcomes import in_child, in_threads


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def _switching_often() -> Iterator[None]:
    """Let threads get in each other's way as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@given(st.integers(-(2**63), 2**64 - 1))
def test_an_id_is_32_hexadecimal_digits_at_any_time(time_ns: int) -> None:
    assert re.fullmatch("[0-9a-f]{32}", span_ids.make(time_ns))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_ids_sort_as_their_times_do(times: list[int]) -> None:
    ids = [(time, span_ids.make(time)) for time in times]

    assert [i for _, i in sorted(ids)] == sorted(i for _, i in ids)


def test_ids_of_one_moment_sort_as_they_were_made() -> None:
    ids = [span_ids.make(1_700_000_000_000_000_000) for _ in range(1_000)]

    assert ids == sorted(set(ids))


@pytest.mark.usefixtures("_switching_often")
def test_ids_of_many_threads_are_unique_within_a_nanosecond() -> None:
    made: list[list[str]] = [[] for _ in range(8)]

    def make(mine: list[str]) -> None:
        for _ in range(5_000):
            mine.append(span_ids.make(7))  # noqa: PERF401  # switches between calls

    in_threads(*[lambda mine=mine: make(mine) for mine in made])

    assert len({i for mine in made for i in mine}) == 40_000


def test_two_sources_do_not_make_the_same_ids() -> None:
    """As those of two processes; each draws a part of its own at random."""
    assert SpanIds().make(7)[:24] != SpanIds().make(7)[:24]


@forks
def test_ids_of_a_forked_child_are_its_own() -> None:
    """Even of the same nanosecond, which clocks that are coarse will see."""

    def child() -> list[str]:
        return [span_ids.make(7) for _ in range(1_000)]

    before = span_ids.make(7)
    of_children = [i for _ in range(3) for i in cast("list[str]", in_child(child))]
    of_parent = [span_ids.make(7) for _ in range(1_000)]

    assert len({before, *of_children, *of_parent}) == 4_001
    assert before[16:24] == of_parent[0][16:24]
    assert len({i[16:24] for i in (*of_children, before)}) == 4


def test_the_process_part_is_drawn_again_after_a_fork_and_the_count_goes_on() -> None:
    ids = SpanIds()
    before = ids.make(7)
    ids.after_fork_in_child()
    after = ids.make(7)

    assert before[:16] == after[:16]
    assert before[16:24] != after[16:24]
    assert int(after[24:], 16) == int(before[24:], 16) + 1


@forks
def test_ids_of_a_child_of_a_child_are_its_own() -> None:
    def child() -> list[str]:
        return [span_ids.make(7), cast("str", in_child(lambda: span_ids.make(7)))]

    ids = {span_ids.make(7), *cast("list[str]", in_child(child))}

    assert len({i[16:24] for i in ids}) == 3


def test_a_span_has_the_id_of_its_start() -> None:
    bus = Bus(clock=ManualClock(time_ns=0x1234))

    with capture(bus=bus) as events:
        s = start_span("app.job", bus=bus)

    assert s.span_id.startswith("0000000000001234")
    assert events[0].metadata["span_id"] == s.span_id
