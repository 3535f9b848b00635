"""A strict bus, what is emitted on it, and proof that no request leaves a context."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmevents import Bus
from llmevents._bus import ambient
from llmevents._context import current_span
from llmevents.testing import CapturedEvents, capture


@pytest.fixture
def bus() -> Bus:
    return Bus(strict=True)


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    with capture(bus=bus, scope="process") as captured:
        yield captured


@pytest.fixture(autouse=True)
def nothing_stays_ambient() -> Iterator[None]:
    yield
    assert (ambient.get(), current_span.get()) == (None, None)
