"""Failures that come by the thousand reach the log one a second, all of them counted."""

from __future__ import annotations

import pytest

from llmevents._throttle import LOG_INTERVAL_NS, FailureLog
from llmevents.testing import ManualClock


def test_an_error_that_was_never_raised_has_no_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    FailureLog(ManualClock()).report("it", ValueError("no luck"))

    assert "it failed: ValueError: no luck (raised elsewhere, 1 " in caplog.text


class InterruptedClock(ManualClock):
    """A clock that is asked the time while something else fails, once."""

    def __init__(self) -> None:
        super().__init__()
        self.log: FailureLog | None = None

    def monotonic_ns(self) -> int:
        log, self.log = self.log, None
        if log is not None:
            log.report("the other", ValueError("no luck"))
        return super().monotonic_ns()


def test_a_failure_in_the_middle_of_another_is_counted_in_the_next_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = InterruptedClock()
    log = clock.log = FailureLog(clock)

    log.report("it", ValueError("no luck"))
    clock.advance(LOG_INTERVAL_NS)
    log.report("it", ValueError("no luck"))

    assert [record.getMessage().split(", ")[-1] for record in caplog.records] == [
        "1 since the last report)",
        "2 since the last report)",
    ]
