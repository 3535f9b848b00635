"""A clock that stands still, and a strict bus on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, ManualClock, capture


NOON = 1_782_907_200_000_000_000
"""1 July 2026, 12:00 UTC, a Wednesday."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time_ns=NOON)


@pytest.fixture
def bus(clock: ManualClock) -> Bus:
    return Bus(strict=True, clock=clock)


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    with capture("llm.budget.*", bus=bus, scope="process") as captured:
        yield captured
