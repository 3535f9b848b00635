"""The console reporter keeps what every reporter promises."""

from __future__ import annotations

import io
from typing import Any

import pytest

from llmevents.testing import ReporterConformance
from llmevents_console import ConsoleReporter


class _Console(ReporterConformance):
    bad_options = (
        {"interval": 0},
        {"interval": float("nan")},
        {"interval": "1"},
        {"live": "yes"},
    )
    live = False

    @pytest.fixture(autouse=True)
    def _stream(self) -> None:
        self.stream = io.StringIO()

    def make(self, **options: Any) -> ConsoleReporter:  # noqa: ANN401  # wrong ones as well
        chosen = {"live": self.live, "stream": self.stream, **options}
        return ConsoleReporter(**chosen)

    def vanish(self) -> None:
        self.stream.close()


class TestLines(_Console):
    """As in a file or a pipe; one line counts as one."""

    def received(self) -> int:
        return len(self.stream.getvalue().splitlines())


class TestLiveTable(_Console):
    """As in a terminal; one refresh counts as one."""

    live = True
