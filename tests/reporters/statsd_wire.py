"""A StatsD server's end of the wire, and a strict reader of DogStatsD lines."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from llmevents import Bus
from llmevents.metrics import Metric, MetricStore
from llmevents_statsd import StatsDReporter


SECONDS = 60.0
"""Long enough for a busy machine; it only runs out where something is broken."""

NEVER = 86_400.0
"""An interval that does not pass: what is sent was asked for by flush or stop."""


class Server:
    """A datagram socket that keeps what it gets, in a thread so that none is lost."""

    def __init__(self, path: Path | None = None, port: int = 0) -> None:
        family = socket.AF_INET if path is None else socket.AF_UNIX
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(0.01)
        # What comes while the thread does not get its turn is lost if there is no
        # room; the system has its own idea of the most.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind(("127.0.0.1", port) if path is None else str(path))
        self.port: int = 0 if path else self._socket.getsockname()[1]
        self.packets: list[bytes] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self.packets.append(self._socket.recv(65_536))
            except TimeoutError:
                # What was sent before the end was asked for has been read by now.
                if self._ends.is_set():
                    return

    def close(self) -> None:
        """Read what was sent so far, and stop listening."""
        self._ends.set()
        self._thread.join(SECONDS)
        self._socket.close()

    def lines(self, count: int) -> list[str]:
        """Wait for *count* lines; return all there are."""
        wait_for(lambda: self.received() >= count)
        return b"\n".join(self.packets).decode("ascii").splitlines()

    def received(self) -> int:
        """Return how many lines have come in so far."""
        return sum(packet.count(b"\n") + 1 for packet in self.packets)


@contextmanager
def listening(path: Path | None = None, port: int = 0) -> Iterator[Server]:
    server = Server(path, port)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def reporting(store: MetricStore, **options: object) -> Iterator[StatsDReporter]:
    """Run a reporter that looks when it is told to; the server listens already."""
    reporter = StatsDReporter(**{"interval": NEVER, **options})  # type: ignore[arg-type]  # any
    reporter.start(Bus(), store)
    try:
        yield reporter
    finally:
        reporter.stop(SECONDS)


def store_of(*definitions: Metric) -> tuple[Bus, MetricStore]:
    bus = Bus()
    store = MetricStore(definitions)
    store.attach(bus)
    return bus, store


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.002)


def totals(lines: list[str]) -> dict[str, Decimal]:
    """Return what a server's counters come to; by name, with the tags if any."""
    counted: Tally[str] = Tally()
    for line in lines:
        name, _, fields = line.partition(":")
        value, kind, *more = fields.split("|")
        if kind == "c":
            assert not more or more[0].startswith("#")
            counted["|".join((name, *more))] += Decimal(value)  # type: ignore[assignment]  # exact
    return {name: Decimal(total) for name, total in counted.items()}


# --- DogStatsD ---------------------------------------------------------------------

_DOG = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]{1,200})"
    r":(?P<value>-?[0-9]+(\.[0-9]+)?)"
    r"\|(?P<type>c|g|d|h)"
    r"(\|@(?P<rate>0\.[0-9]+))?"
    r"(\|#(?P<tags>[A-Za-z0-9_.-]+:[A-Za-z0-9_./-]+(,[A-Za-z0-9_.-]+:[A-Za-z0-9_./-]+)*))?",
    re.ASCII,
)


@dataclass(frozen=True)
class DogLine:
    """One line of DogStatsD, read strictly."""

    name: str
    value: Decimal
    type: str
    count: int
    tags: dict[str, str]


def read_dog(line: str) -> DogLine:
    """Read a line, of the subset of protocol v1.0 that the reporter is to write."""
    found = _DOG.fullmatch(line)
    assert found is not None, f"not a line: {line!r}"
    rate = found["rate"]
    count = 1.0 if rate is None else 1 / float(rate)
    assert count.is_integer(), f"no whole number of values: {line!r}"
    assert rate is None or found["type"] in "dh", f"what is sampled here? {line!r}"
    fields = [field.partition(":") for field in (found["tags"] or "").split(",")]
    pairs = [(name, value) for name, _, value in fields if name]
    tags = dict(pairs)
    assert len(tags) == len(pairs), f"a tag twice: {line!r}"
    assert all(len(f"{name}:{value}") <= 200 for name, value in pairs)
    return DogLine(
        found["name"], Decimal(found["value"]), found["type"], int(count), tags
    )
