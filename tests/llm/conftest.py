"""A strict bus, and what is emitted on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmevents import Bus
from llmevents.testing import CapturedEvents, capture
from tests.llm.calls import SPANS


@pytest.fixture
def bus() -> Bus:
    return Bus(strict=True)


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    with capture(*SPANS, bus=bus, scope="process") as captured:
        yield captured
