"""What all tests of reporters have."""

from __future__ import annotations

import pytest

from llmevents.testing import _conformance_run


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have conformance allow for a machine that is busier than users' tests expect.

    It finds as much: who does not keep a deadline here waits for the other side after
    it has gone, and that lasts for a minute or has no end.
    """
    monkeypatch.setattr(_conformance_run, "GRACE_SECONDS", 20.0)
