"""The pytest plugin: fixtures for tests of code that emits events.

pytest finds it through the entry point of the distribution; nothing needs to be
imported or switched on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from llmevents import Bus
    from llmevents.testing import CapturedEvents


@pytest.fixture
def llmevents_bus() -> Bus:
    """A strict bus of the test's own: undeclared events are errors."""
    from llmevents import Bus

    return Bus(strict=True)


@pytest.fixture
def llmevents_capture() -> Iterator[CapturedEvents]:
    """What the test emits on the default bus, in its own context."""
    from llmevents.testing import capture

    with capture() as events:
        yield events
