"""A reporter of one's own: what has changed, as JSON lines in a file.

Run it to see what it writes; run it with pytest to see that it is a reporter.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from llmevents import Bus, LLMEventsError, OptionError, llm
from llmevents.metrics import (
    ExponentialHistogram,
    Family,
    Histogram,
    MetricStore,
    Series,
    Snapshot,
    presets,
)
from llmevents.reporting import Reporter, ReporterStatus
from llmevents.testing import ReporterConformance


class JSONLinesReporter:
    """Appends a line to a file for each series that has changed, now and then.

    What could not be written is part of the next line of its series.

    Args:
        path: The file; made if it is not there.
        interval: Seconds between two looks at the metrics.

    Raises:
        OptionError: *interval* is not positive.
        TypeError: An option is of no type that would do.
    """

    def __init__(self, *, path: str | Path, interval: float = 10.0) -> None:
        if not interval > 0:
            raise OptionError(interval, "interval", "a positive number of seconds")
        self._path = Path(path)
        self._interval = interval
        self._status = ReporterStatus()
        self._worker: threading.Thread | None = None
        self._pid = 0
        # Who waits for a write; None ends the worker.
        self._requests: SimpleQueue[threading.Event | None] = SimpleQueue()

    def start(self, bus: Bus, metrics: MetricStore) -> None:  # noqa: ARG002  # the protocol's
        """Begin to write; everything that *metrics* has by now comes first."""
        if self._is_running():
            msg = "the reporter is started already; stop() it first"
            raise LLMEventsError(msg)
        self._pid = os.getpid()
        self._requests = SimpleQueue()
        # A daemon: a program that forgets stop() can end all the same.
        self._worker = threading.Thread(
            target=self._work, args=(metrics, self._requests), daemon=True
        )
        self._worker.start()

    def flush(self, timeout: float) -> bool:
        """Write what has changed, in at most *timeout* seconds."""
        if not self._is_running():
            return True
        written = threading.Event()
        self._requests.put(written)
        return written.wait(max(0.0, timeout))

    def stop(self, timeout: float) -> None:
        """Write for the last time."""
        if self._worker is not None and self._is_running():
            self._requests.put(None)
            self._worker.join(max(0.0, timeout))

    def status(self) -> ReporterStatus:
        """Return how many lines were written."""
        return self._status

    def _is_running(self) -> bool:
        # A forked child has a copy of the object, but not the thread.
        worker = self._worker
        return worker is not None and self._pid == os.getpid() and worker.is_alive()

    def _work(
        self, metrics: MetricStore, requests: SimpleQueue[threading.Event | None]
    ) -> None:
        cursor: Snapshot | None = None
        waiting: threading.Event | None = threading.Event()
        while waiting is not None:
            try:
                waiting = requests.get(timeout=self._interval)
            except Empty:
                waiting = threading.Event()
            changed, now = metrics.deltas(cursor)
            if self._append(changed):
                cursor = now
            if waiting is not None:
                waiting.set()

    def _append(self, changed: Snapshot) -> bool:
        lines = [
            line_of(family, series)
            for family in changed.families.values()
            for series in family.series
        ]
        known, count = self._status, len(lines)
        try:
            if lines:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            reason = type(error).__name__
            dropped = {**known.dropped, reason: known.dropped.get(reason, 0) + count}
            # Replaced as a whole, so that whoever reads it sees counts that add up.
            self._status = replace(
                known, accepted=known.accepted + count, dropped=dropped
            )
            return False
        self._status = replace(
            known,
            accepted=known.accepted + count,
            delivered=known.delivered + count,
        )
        return True


def line_of(family: Family, series: Series) -> str:
    """Return a series as JSON, whatever text its tags have."""
    value = series.value
    shown: object = value
    if isinstance(value, (Histogram, ExponentialHistogram)):
        shown = {"count": value.count, "sum": value.sum, "p50": value.quantile(0.5)}
    definition = family.definition
    return json.dumps(
        {
            "metric": definition.name,
            "unit": definition.unit,
            "tags": dict(series.tags),
            "value": shown,
        }
    )


class TestJSONLinesReporter(ReporterConformance):
    """All that holds for every reporter, and what this one says about arrival."""

    bad_options = ({"interval": 0}, {"interval": "1"}, {"path": None})

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "metrics" / "metrics.jsonl"
        self.path.parent.mkdir()

    def make(self, **options: Any) -> Reporter:  # noqa: ANN401  # wrong ones as well
        """Return a new one, with these options instead of good ones."""
        return JSONLinesReporter(**{"path": self.path, **options})

    def received(self) -> int:
        """Return how many lines have arrived."""
        return len(self.path.read_text().splitlines()) if self.path.exists() else 0

    def vanish(self) -> None:
        """Take the folder away."""
        self.path.unlink()
        self.path.parent.rmdir()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "metrics.jsonl"
        bus, store = Bus(), MetricStore(presets.default())
        store.attach(bus)
        reporter = JSONLinesReporter(path=target)
        reporter.start(bus, store)
        with llm.chat(provider="acme", model="tiny-1", bus=bus) as call:
            call.usage(input_tokens=1000, output_tokens=500)
        reporter.stop(timeout=5)
        print(target.read_text(), end="")
        print(reporter.status())
