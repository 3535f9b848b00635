"""Kills at random moments: what was acknowledged is there, once, and whole.

Writers are forked from here, where everything is imported already, and tell of each
record over a pipe once they have been told that it is kept.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmevents.ledger import Durability, JsonlStore, Record, SqlStore, encode, read
from llmevents.ledger import _append as appending
from tests.ledger.sqlstores import (
    Server,
    brute_force,
    ids,
    made,
    needed_server,
    rolled_up,
    stored,
)
from tests.outcomes import JOIN_TIMEOUT


KILLS = 200
LONGEST = 0.01
"""Seconds that a writer lives at most, once it has written something."""


class Store(Protocol):
    """What writers write to."""

    def add(self, *records: Record) -> None:
        """Keep records."""

    def counts(self) -> Any:  # noqa: ANN401  # of either kind
        """Tell what became of them."""


Write = Callable[[Store, Record, Callable[[], object]], None]
"""Writes one record, and calls what acknowledges it."""


def properly(store: Store, record: Record, acknowledge: Callable[[], object]) -> None:
    """Acknowledge what the store has not refused, once it is written."""
    before = sum(store.counts().refused.values())
    store.add(record)
    if sum(store.counts().refused.values()) == before:
        acknowledge()


class Verdict(NamedTuple):
    """What is wrong with what is found after all kills."""

    lost: list[str]
    repeated: list[str]
    damaged: int


INNOCENT = Verdict([], [], 0)


def judge(acknowledged: list[str], found: list[str], damaged: int = 0) -> Verdict:
    """Return what was lost and what is there more than once."""
    counted = Counter(found)
    return Verdict(
        [one for one in acknowledged if one not in counted],
        [one for one, times in counted.items() if times > 1],
        damaged,
    )


class Writer:
    """A forked process that writes until it is killed."""

    def __init__(
        self,
        make: Callable[[], Store],
        name: str,
        write: Write = properly,
        pause: float = 0.0,
    ) -> None:
        self._pipe, theirs = os.pipe()
        self._told = b""
        self.process = os.fork()
        if self.process == 0:
            try:
                self._write_on(make(), name, write, theirs, pause)
            finally:
                os._exit(1)
        os.close(theirs)

    @staticmethod
    def _write_on(
        store: Store, name: str, write: Write, pipe: int, pause: float
    ) -> None:
        number = 0
        while True:
            one = f"{name}-{number}"
            # Longer than a page now and then: a write of several may be cut short.
            text = "x" * (number * 397 % 9_000)
            record = made(one, error_message=text, input_tokens=number)
            write(store, record, lambda: os.write(pipe, one.encode() + b"\n"))  # noqa: B023  # called at once
            number += 1
            time.sleep(pause)

    def wait(self, records: int = 1) -> None:
        """Wait until it has acknowledged so many more."""
        goal = self._told.count(b"\n") + records
        while self._told.count(b"\n") < goal:
            ready, _, _ = select.select([self._pipe], [], [], JOIN_TIMEOUT)
            assert ready, "the writer writes nothing"
            more = os.read(self._pipe, 1 << 16)
            assert more, "the writer has ended"
            self._told += more

    def kill(self) -> list[str]:
        """Kill it, and return what it has acknowledged."""
        os.kill(self.process, signal.SIGKILL)
        while more := os.read(self._pipe, 1 << 16):
            self._told += more
        os.close(self._pipe)
        os.waitpid(self.process, 0)
        return [line.decode() for line in self._told.split(b"\n")[:-1]]


@contextmanager
def going_on(writer: Writer) -> Iterator[list[str]]:
    """Have a writer that nobody kills meanwhile; gives what it acknowledged, later."""
    acknowledged: list[str] = []
    try:
        yield acknowledged
    finally:
        acknowledged += writer.kill()


def seeded() -> random.Random:
    """Return random numbers, and say where they begin, should the test fail."""
    seed = int.from_bytes(os.urandom(4), "big")
    sys.stdout.write(f"seed: {seed}\n")
    return numbers_of(seed)


def numbers_of(seed: int) -> random.Random:
    """Return random numbers."""
    return random.Random(seed)  # noqa: S311  # they keep no secret


def killed(
    make: Callable[[], Store],
    write: Write = properly,
    kills: int = KILLS,
    *,
    has_company: bool = True,
    is_over: Callable[[list[str]], bool] = lambda acknowledged: False,
) -> list[str]:
    """Kill writers at random moments; return what they acknowledged.

    Args:
        make: Makes the store, in the writer.
        write: How it is written to.
        kills: How many writers are killed.
        has_company: Whether another process writes all the time, and is killed last.
        is_over: Whether what was acknowledged so far is enough.
    """
    numbers = seeded()
    acknowledged: list[str] = []
    if not has_company:
        return _killed(make, write, kills, numbers, is_over)
    other = Writer(make, "other", pause=0.002)
    other.wait()
    with going_on(other) as its:
        acknowledged += _killed(make, write, kills, numbers, is_over)
        other.wait()
    return acknowledged + its


def _killed(
    make: Callable[[], Store],
    write: Write,
    kills: int,
    numbers: random.Random,
    is_over: Callable[[list[str]], bool],
) -> list[str]:
    acknowledged: list[str] = []
    for number in range(kills):
        writer = Writer(make, str(number), write)
        try:
            # Some have only just begun; together they write two each, or more, on any
            # machine.
            writer.wait(1 + number % 2 * 2)
            time.sleep(numbers.random() * LONGEST)
        finally:
            acknowledged += writer.kill()
        if is_over(acknowledged):
            break
    return acknowledged


# --- A file ---------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def patient(path: Path, durability: Durability = "process") -> JsonlStore:
    """Return a store that waits for a lock as long as a busy machine may take."""
    store = JsonlStore(path, durability=durability)
    store._file._patience = JOIN_TIMEOUT
    return store


def judge_file(path: Path, acknowledged: list[str]) -> Verdict:
    """Open the file once more, as the next process does, and judge it."""
    JsonlStore(path).add({"id": "after"})
    assert path.read_bytes().endswith(b"\n")
    return judge_lines(path, [*acknowledged, "after"])


def judge_lines(path: Path, acknowledged: list[str]) -> Verdict:
    """Judge a file as it is."""
    lines = list(read(path))
    damaged = sum(line.record is None for line in lines)
    found = [line.record["id"] for line in lines if line.record is not None]
    return judge(acknowledged, found, damaged)


@pytest.mark.long
@pytest.mark.parametrize("durability", ["process", "power"])
def test_200_kills_lose_nothing_of_a_file(durability: Durability, path: Path) -> None:
    acknowledged = killed(lambda: patient(path, durability))
    assert len(acknowledged) > 2 * KILLS
    assert judge_file(path, acknowledged) == INNOCENT


def in_two(descriptor: int, data: bytes) -> int:
    """Write as a kernel does that a kill has interrupted: a part, and then the rest."""
    half = len(data) // 2
    written = _write(descriptor, data[:half])
    # Kills come just here, most of the time.
    time.sleep(0.002)
    return written + _write(descriptor, data[half:])


_write = os.write


def with_torn_writes(store: Store, record: Record, acknowledge: Any) -> None:  # noqa: ANN401  # as in `Write`
    """Write properly, while the system often leaves the half of a line at a kill."""
    appending.os.write = in_two  # type: ignore[attr-defined]  # in a child that is killed
    before = sum(store.counts().refused.values())
    store.add(record)
    appending.os.write = _write  # type: ignore[attr-defined]  # likewise
    assert sum(store.counts().refused.values()) == before
    acknowledge()


def test_torn_lines_of_killed_writers_take_nothing_of_the_others_with_them(
    path: Path,
) -> None:
    """Another process that has the file open goes on behind what was torn."""
    torn = JsonlStore(path)
    acknowledged = killed(lambda: patient(path), with_torn_writes, kills=30)
    assert judge_file(path, acknowledged) == INNOCENT
    torn.add({"id": "torn"})
    assert torn.counts().refused == {}


def too_early(store: Store, record: Record, acknowledge: Callable[[], object]) -> None:
    """Acknowledge before it is written."""
    acknowledge()
    store.add(record)


def torn(store: Store, record: Record, acknowledge: Callable[[], object]) -> None:
    """Write a line in two, and repair nothing."""
    assert isinstance(store, JsonlStore)
    with store.path.open("ab", buffering=0) as file:
        in_two(file.fileno(), encode(record))
    acknowledge()


def twice(store: Store, record: Record, acknowledge: Callable[[], object]) -> None:
    """Write a record again, as who retries without looking does."""
    store.add(record)
    store.add(record)
    acknowledge()


@pytest.mark.parametrize(
    ("write", "what"), [(too_early, "lost"), (torn, "damaged"), (twice, "repeated")]
)
def test_a_broken_writer_of_a_file_is_found_out(
    write: Write, what: str, path: Path
) -> None:
    """The tests above can fail."""
    # A writer that acknowledges too early may be killed before it has made the file.
    path.touch()

    def is_found_out(acknowledged: list[str]) -> bool:
        # Without a store, which would repair the file.
        return bool(getattr(judge_lines(path, acknowledged), what))

    acknowledged = killed(
        lambda: JsonlStore(path), write, has_company=False, is_over=is_found_out
    )
    assert is_found_out(acknowledged)


@given(seed=st.integers(0, 2**32), flips=st.integers(1, 8), records=st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_bits_that_flip_cost_the_lines_that_they_are_in(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flips: int, records: int
) -> None:
    """Row 8: all others are read, and whoever writes goes on behind them."""
    numbers = numbers_of(seed)
    path = tmp_path_factory.mktemp("flipped") / "calls.jsonl"
    JsonlStore(path).add(*(made(number) for number in range(records)))
    before = path.read_bytes()
    damaged = bytearray(before)
    for _ in range(flips):
        damaged[numbers.randrange(len(damaged))] ^= 1 << numbers.randrange(8)
    path.write_bytes(damaged)
    untouched = set(before.splitlines(keepends=True)) & set(
        bytes(damaged).splitlines(keepends=True)
    )
    store = JsonlStore(path)
    store.add(made("after"))
    found = {encode(line.record) for line in read(path) if line.record is not None}
    assert untouched | {encode(made("after"))} <= found


class Disk:
    """What is on the disk of a file: what was there at the last ``fsync``."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self._kept = b""
        self._has_name = False
        fsync = os.fsync

        def syncing(descriptor: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                self._has_name |= path.exists()
            else:
                self._kept = path.read_bytes()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", syncing)

    def lose_power(self, numbers: random.Random) -> None:
        """Leave what is on the disk, and any part of what is not, or zeros for it."""
        if not self._has_name:
            self._path.unlink(missing_ok=True)
            return
        lost = self._path.read_bytes()[len(self._kept) :]
        part = lost[: numbers.randint(0, len(lost))]
        zeros = b"\0" * numbers.choice([0, 0, 5])
        self._path.write_bytes(self._kept + part + zeros)


@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_a_loss_of_power_loses_nothing_of_a_file(
    tmp_path_factory: pytest.TempPathFactory, seed: int, counts: list[int]
) -> None:
    """Row 3: simulated; whatever is not synchronised may be lost."""
    numbers = numbers_of(seed)
    path = tmp_path_factory.mktemp("power") / "new" / "calls.jsonl"
    acknowledged: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(path, monkeypatch)
        for count in counts:
            store = JsonlStore(path, durability="power")
            for _ in range(count):
                one = f"r-{len(acknowledged)}"
                store.add({"id": one, "text": "x" * numbers.randrange(100)})
                acknowledged.append(one)
            store.close()
            # One that was being written.
            if path.exists():
                with path.open("ab") as file:
                    file.write(encode({"id": "unfinished"})[: numbers.randrange(20)])
            disk.lose_power(numbers)
    assert judge_file(path, acknowledged) == INNOCENT


def test_a_writer_that_synchronises_nothing_would_be_found_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    disk = Disk(path, monkeypatch)
    JsonlStore(path, durability="process").add({"id": "1"})
    disk.lose_power(numbers_of(1))
    assert judge_file(path, ["1"]).lost == ["1"]


# --- A database -----------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


def judge_database(url: str, acknowledged: list[str]) -> Verdict:
    """Open the database once more, as the next process does, and judge it."""
    store = SqlStore(url)
    store.add(made("after"))
    verdict = judge([*acknowledged, "after"], ids(store))
    assert rolled_up(store) == brute_force(stored(store))
    store.close()
    return verdict


@pytest.mark.long
@pytest.mark.parametrize("durability", ["process", "power"])
def test_200_kills_lose_nothing_of_a_database(
    durability: Durability, database: Path
) -> None:
    url = f"sqlite:///{database}"
    SqlStore(url).close()
    acknowledged = killed(lambda: SqlStore(url, durability=durability))
    assert len(acknowledged) > 2 * KILLS
    assert judge_database(url, acknowledged) == INNOCENT
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("write", [too_early])
def test_a_broken_writer_of_a_database_is_found_out(
    write: Write, database: Path
) -> None:
    """The test above can fail."""
    url = f"sqlite:///{database}"

    def is_found_out(acknowledged: list[str]) -> bool:
        return bool(judge_database(url, acknowledged).lost)

    acknowledged = killed(
        lambda: SqlStore(url), write, has_company=False, is_over=is_found_out
    )
    assert is_found_out(acknowledged)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_a_log_that_is_cut_off_costs_the_end_only(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Row 8: each transaction of what is left is whole, roll-ups and all."""
    directory = tmp_path_factory.mktemp("cut")
    url = f"sqlite:///{directory}/usage.db"
    store = SqlStore(url)
    for number in range(10):
        store.add(made(number, input_tokens=number))
    copy = directory / "copy.db"
    log = (directory / "usage.db-wal").read_bytes()
    copy.write_bytes((directory / "usage.db").read_bytes())
    cut = numbers_of(seed).randrange(len(log))
    (directory / "copy.db-wal").write_bytes(log[:cut])
    store.close()
    again = SqlStore(f"sqlite:///{copy}")
    again.add(made("after"))
    found = [one for one in ids(again) if one != "after"]
    assert found == [str(number) for number in range(len(found))]
    assert rolled_up(again) == brute_force(stored(again))
    again.close()


# --- A server -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with needed_server() as server:
        yield server


@pytest.mark.long
def test_ten_kills_of_a_server_lose_nothing_of_eight_writers(server: Server) -> None:
    url = server.new_url()
    SqlStore(url).close()
    numbers = seeded()
    writers = [Writer(lambda: SqlStore(url), f"w{number}") for number in range(8)]
    acknowledged: list[str] = []
    try:
        for _ in range(10):
            for writer in writers:
                writer.wait()
            time.sleep(numbers.random() * 0.05)
            server.stop("immediate")
            server.start()
        for writer in writers:
            # Each has come back by itself.
            writer.wait(2)
    finally:
        for writer in writers:
            acknowledged += writer.kill()
    assert judge_database(url, acknowledged) == INNOCENT
