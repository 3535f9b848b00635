"""What disks, databases, forks and exits do to the ledger, and never to its host."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from llmevents import Bus, llm
from llmevents.ledger import NewerLedgerError, Record, SqlStore, read
from llmevents.metrics import MetricStore
from llmevents.reporting import ReporterStatus
from llmevents_ledger import LedgerReporter
from tests.ledger.sqlstores import Server, needed_server
from tests.outcomes import JOIN_TIMEOUT, in_child, in_threads


GRACE = 2.0
"""Seconds that a busy machine may need beside a deadline."""


@pytest.fixture
def bus() -> Bus:
    return Bus(strict=True)


class Ledger:
    """A reporter with a file and a database in a directory, and what is in them."""

    def __init__(self, bus: Bus, directory: Path, **options: Any) -> None:  # noqa: ANN401  # of any type
        self.bus = bus
        self.file, self.database = directory / "calls.jsonl", directory / "usage.db"
        options = {
            "jsonl": self.file,
            "url": f"sqlite:///{self.database}",
            **options,
        }
        self.reporter = LedgerReporter(
            **{name: value for name, value in options.items() if value is not None}
        )
        self.reporter.start(bus, MetricStore([]))

    def wait_for_locks(self, seconds: float = JOIN_TIMEOUT) -> None:
        """Have both stores wait for a lock for as long as anything may take here.

        By themselves they give up after 1 s and 5 s, in which a busy machine may not
        get to the next line of a test.
        """
        file, database = self.reporter._file, self.reporter._database
        if file is not None:
            file._file._patience = seconds
        if database is not None:
            # SQLite is told by the connection, which the next record opens.
            database.close()
            database._patience = database._database._patience = seconds
            database._database.renew()

    def call(self, *names: str) -> None:
        for name in names:
            llm.record(model=name, usage=llm.Usage(input_tokens=1), bus=self.bus)

    def in_file(self) -> bool:
        """Whether somebody is writing to it, or waits for another process's lock."""
        file = self.reporter._file
        return file is not None and file._lock.locked()

    def in_database(self) -> bool:
        """Likewise."""
        database = self.reporter._database
        return database is not None and bool(database._gate._inside)

    @property
    def status(self) -> ReporterStatus:
        status = self.reporter.status()
        assert status.is_balanced
        return status

    @property
    def lines(self) -> list[str]:
        """The models in the file; none is damaged."""
        return [str((line.record or {})["model"]) for line in read(self.file)]

    @property
    def rows(self) -> list[str]:
        """The models in the database."""
        with closing(sqlite3.connect(self.database)) as connection:
            found = connection.execute("SELECT model FROM calls ORDER BY model")
            return [model for (model,) in found]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + JOIN_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.001)


@contextmanager
def locked_by_another_process(ledger: Ledger) -> Iterator[Callable[[], None]]:
    """Have another process keep both stores locked until the block, or the call, ends."""
    held, release = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            file = os.open(ledger.file, os.O_RDONLY)
            fcntl.flock(file, fcntl.LOCK_EX)
            other = sqlite3.connect(ledger.database, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            os.write(held[1], b".")
            os.read(release[0], 1)
            other.execute("COMMIT")
        finally:
            os._exit(0)
    os.close(held[1])
    assert os.read(held[0], 1), "the other process has ended without a lock"

    def let_go() -> None:
        os.write(release[1], b".")

    try:
        yield let_go
    finally:
        let_go()
        os.waitpid(child, 0)
        for descriptor in (held[0], *release):
            os.close(descriptor)


@contextmanager
def locked_database(ledger: Ledger) -> Iterator[None]:
    """Keep everybody from writing to the database meanwhile."""
    with closing(sqlite3.connect(ledger.database, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("COMMIT")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    directory = tempfile.mkdtemp(prefix="ledger-disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        os.rmdir(directory)
        pytest.skip("only root may mount a file system")
    try:
        yield Path(directory)
    finally:
        subprocess.run(["umount", "-l", directory], check=True)  # noqa: S607  # wherever it is
        os.rmdir(directory)


@pytest.mark.parametrize("durability", ["process", "power", "batch"])
def test_a_full_disk_refuses_and_counts_and_is_written_again_when_there_is_room(
    durability: str, bus: Bus, small_disk: Path
) -> None:
    """Row 6: nothing of before is lost, nothing is glued, and nobody is told twice."""
    ledger = Ledger(bus, small_disk, durability=durability)
    ledger.call("before")
    assert ledger.reporter.flush(10)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    refused = [f"{number:04}" * 500 for number in range(20)]
    for name in refused:
        ledger.call(name)
        ledger.reporter.flush(10)
    dropped = ledger.status.dropped
    assert set(dropped) == {"disk_full"}
    # What fits into blocks that are half full already is kept.
    assert ledger.status.accepted == 42
    assert dropped["disk_full"] >= 36
    ballast.unlink()
    ledger.call("after")
    assert ledger.reporter.flush(10)
    ledger.reporter.stop(10)
    assert ledger.status.dropped == dropped
    assert ledger.status.delivered == 44 - dropped["disk_full"]
    for found in (ledger.lines, ledger.rows):
        assert len(found) == len(set(found))
        assert {"before", "after"} <= set(found) <= {"before", "after", *refused}
    assert len(ledger.lines) + len(ledger.rows) == ledger.status.delivered


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_directory_that_may_not_be_written_is_counted_until_it_may() -> None:
    """Row 7; root may write everywhere, so a child becomes somebody else."""
    directory = Path(tempfile.mkdtemp(prefix="ledger"))
    directory.chmod(0o555)
    changed, told = os.pipe(), os.pipe()

    def somebody() -> object:
        os.setuid(65_534)
        ledger = Ledger(Bus(strict=True), directory)
        ledger.call("refused")
        dropped = dict(ledger.status.dropped)
        os.write(told[1], b".")
        os.read(changed[0], 1)
        ledger.call("after")
        ledger.reporter.stop(10)
        return [dropped, ledger.status.delivered, ledger.lines, ledger.rows]

    def allow() -> None:
        os.read(told[0], 1)
        directory.chmod(0o777)
        os.write(changed[1], b".")

    thread = Thread(target=allow)
    thread.start()
    try:
        assert in_child(somebody) == [{"read_only": 2}, 2, ["after"], ["after"]]
    finally:
        os.write(told[1], b".")
        thread.join(JOIN_TIMEOUT)
        shutil.rmtree(directory)
        for descriptor in (*changed, *told):
            os.close(descriptor)


@pytest.mark.parametrize("durability", ["process", "batch"])
def test_files_that_somebody_deletes_are_made_anew(
    durability: str, bus: Bus, tmp_path: Path
) -> None:
    """Row 7: as a rotation of logs does that knows nothing of us."""
    ledger = Ledger(bus, tmp_path, durability=durability)
    ledger.call("before")
    assert ledger.reporter.flush(10)
    ledger.file.unlink()
    ledger.database.unlink()
    calls = 0
    deadline = time.monotonic() + JOIN_TIMEOUT
    # The path is looked at a hundred times a second.
    while not ledger.file.exists():
        assert time.monotonic() < deadline
        ledger.call("after")
        assert ledger.reporter.flush(10)
        calls += 1
    ledger.reporter.stop(10)
    assert ledger.lines == ["after"]
    assert ledger.rows == ["after"] * calls
    assert (ledger.status.delivered, ledger.status.dropped) == (2 + 2 * calls, {})


def test_stores_that_are_locked_hold_up_no_call_in_batches(
    bus: Bus, tmp_path: Path
) -> None:
    """Row 5: what waits is queued, and written once the lock is gone."""
    ledger = Ledger(bus, tmp_path, durability="batch")
    ledger.wait_for_locks()
    ledger.call("before")
    assert ledger.reporter.flush(10)
    names = [f"call-{number:03}" for number in range(200)]
    with locked_by_another_process(ledger) as let_go:
        started = time.monotonic()
        ledger.call(*names)
        assert time.monotonic() - started < GRACE
        assert not ledger.reporter.flush(0.05)
        assert (ledger.status.accepted, ledger.status.queued) == (402, 400)
        let_go()
        assert ledger.reporter.flush(10)
    assert ledger.lines == ["before", *names]
    assert ledger.rows == ["before", *names]
    assert (ledger.status.delivered, ledger.status.dropped) == (402, {})
    ledger.reporter.stop(10)


def test_a_database_that_is_locked_for_long_loses_nothing_in_batches(
    bus: Bus, tmp_path: Path
) -> None:
    """Row 5: it is tried until it can be written; the file does not wait for it."""
    ledger = Ledger(bus, tmp_path, durability="batch")
    ledger.wait_for_locks(0.01)
    ledger.call("before")
    assert ledger.reporter.flush(JOIN_TIMEOUT)
    database = ledger.reporter._database
    assert database is not None
    names = [f"call-{number:03}" for number in range(20)]
    tried: list[bool] = []
    try_add = database.try_add

    def trying(*records: Record) -> bool:
        tried.append(try_add(*records))
        return tried[-1]

    database.try_add = trying  # type: ignore[method-assign]  # it is watched
    with locked_database(ledger):
        ledger.call(*names)
        wait_for(lambda: len(tried) >= 3)
        wait_for(lambda: ledger.lines == ["before", *names])
        assert ledger.status.dropped == {}
        assert not ledger.reporter.flush(0.01)
    assert ledger.reporter.flush(JOIN_TIMEOUT)
    assert set(tried[:3]) == {False}
    assert ledger.rows == ["before", *names]
    assert (ledger.status.delivered, ledger.status.dropped) == (42, {})
    ledger.reporter.stop(10)


def test_a_database_that_stays_locked_is_given_up_at_the_end(
    bus: Bus, tmp_path: Path
) -> None:
    ledger = Ledger(bus, tmp_path, durability="batch")
    ledger.wait_for_locks(0.01)
    ledger.call("before")
    assert ledger.reporter.flush(JOIN_TIMEOUT)
    with locked_database(ledger):
        ledger.call("lost")
        wait_for(lambda: ledger.lines == ["before", "lost"])
        wait_for(ledger.in_database)
        ledger.reporter.stop(0.1)
        wait_for(lambda: ledger.status.queued == 0)
    assert ledger.rows == ["before"]
    assert (ledger.status.delivered, ledger.status.dropped) == (3, {"locked": 1})


HELD = 5.0


@pytest.mark.long
def test_a_database_that_is_locked_for_five_seconds_loses_nothing(
    bus: Bus, tmp_path: Path
) -> None:
    """Row 5: where each call waits for its record, it waits for the lock."""
    ledger = Ledger(bus, tmp_path)
    database = ledger.reporter._database
    assert database is not None
    # That long it waits by itself. Here longer, because this test, on a busy machine,
    # may let go late.
    assert database._patience == HELD
    ledger.wait_for_locks()
    ledger.call("before")
    with locked_database(ledger):
        calls = [
            Thread(target=ledger.call, args=(f"call-{number}",)) for number in range(4)
        ]
        for thread in calls:
            thread.start()
        started = time.monotonic()
        while time.monotonic() < started + HELD:
            calls[0].join(0.1)
        assert all(thread.is_alive() for thread in calls)
    for thread in calls:
        thread.join(JOIN_TIMEOUT)
    names = [f"call-{number}" for number in range(4)]
    assert ledger.rows == ["before", *names]
    assert sorted(ledger.lines) == ["before", *names]
    assert ledger.status.dropped == {}
    ledger.reporter.stop(10)


@pytest.mark.parametrize("durability", ["process", "batch"])
def test_it_stops_in_time_although_its_stores_are_locked(
    durability: str, bus: Bus, tmp_path: Path
) -> None:
    """What is under way then ends by itself, and is counted when it does."""
    ledger = Ledger(bus, tmp_path, durability=durability)
    ledger.wait_for_locks()
    ledger.call("before")
    assert ledger.reporter.flush(10)
    calling = Thread(target=ledger.call, args=("under way",))
    with locked_by_another_process(ledger):
        calling.start()
        wait_for(ledger.in_file)
        # Where each call waits for its record, it goes on to the other store then.
        wait_for(lambda: durability == "process" or ledger.in_database())
        started = time.monotonic()
        ledger.reporter.stop(0.1)
        assert time.monotonic() - started < 0.1 + GRACE
        ledger.reporter.stop(0.1)
    calling.join(JOIN_TIMEOUT)
    wait_for(lambda: ledger.status.delivered == 4)
    assert (ledger.status.queued, ledger.status.dropped) == (0, {})
    assert ledger.lines == ledger.rows == ["before", "under way"]


def test_what_there_was_no_time_for_is_counted_as_dropped(
    bus: Bus, tmp_path: Path
) -> None:
    ledger = Ledger(bus, tmp_path, durability="batch")
    ledger.wait_for_locks()
    ledger.call("before")
    assert ledger.reporter.flush(10)
    with locked_by_another_process(ledger):
        ledger.call("under way")
        wait_for(lambda: ledger.in_file() and ledger.in_database())
        ledger.call(*map(str, range(10)))
        ledger.reporter.stop(0.1)
        assert ledger.status.dropped["shutdown"] == 20
    wait_for(lambda: not ledger.status.queued)
    assert ledger.status.accepted == 24


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with needed_server() as server:
        yield server


def kept_by(url: str) -> list[str]:
    """Return the models in a database of PostgreSQL."""
    from sqlalchemy import create_engine

    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT model FROM calls ORDER BY id")
        models = [str(model) for (model,) in found]
    engine.dispose()
    return models


def test_a_server_that_is_gone_for_a_while_loses_nothing_in_batches(
    server: Server, bus: Bus, tmp_path: Path
) -> None:
    """Row 4: what waits is written to it again by itself."""
    url = server.new_url()
    ledger = Ledger(bus, tmp_path, url=url, durability="batch")
    ledger.call("before")
    assert ledger.reporter.flush(10)
    server.stop()
    for name in ("gone-1", "gone-2"):
        ledger.call(name)
        assert not ledger.reporter.flush(0.2)
    wait_for(lambda: ledger.lines == ["before", "gone-1", "gone-2"])
    assert (ledger.status.queued, ledger.status.dropped) == (2, {})
    server.start()
    assert ledger.reporter.flush(JOIN_TIMEOUT)
    ledger.reporter.stop(10)
    assert sorted(kept_by(url)) == ["before", "gone-1", "gone-2"]


def test_a_server_that_is_gone_for_a_while_costs_what_came_meanwhile_only(
    server: Server, bus: Bus, tmp_path: Path
) -> None:
    """Calls go on, are counted, and are written to it again by themselves."""
    url = server.new_url()
    ledger = Ledger(bus, tmp_path, jsonl=None, url=url)
    ledger.call("before")
    assert ledger.reporter.flush(10)
    server.stop()
    for name in ("gone-1", "gone-2"):
        ledger.call(name)
        assert ledger.reporter.flush(10)
    assert ledger.status.dropped == {"unreachable": 2}
    server.start()
    deadline = time.monotonic() + JOIN_TIMEOUT
    while ledger.status.delivered < 2:
        assert time.monotonic() < deadline
        ledger.call("after")
        assert ledger.reporter.flush(10)
    ledger.reporter.stop(10)
    assert kept_by(url) == ["before", "after"]


def test_it_stops_in_time_although_the_server_is_frozen(
    server: Server, bus: Bus, tmp_path: Path
) -> None:
    url = server.new_url()
    ledger = Ledger(bus, tmp_path, jsonl=None, url=url, durability="batch")
    ledger.wait_for_locks()
    ledger.call("before")
    assert ledger.reporter.flush(10)
    with frozen(server):
        ledger.call("under way")
        wait_for(ledger.in_database)
        assert not ledger.reporter.flush(0.05)
        started = time.monotonic()
        ledger.reporter.stop(0.1)
        assert time.monotonic() - started < 0.1 + GRACE
        assert (ledger.status.delivered, ledger.status.queued) == (1, 1)
    wait_for(lambda: not ledger.status.queued)
    assert kept_by(url) == ["before", "under way"]
    ledger.reporter._stores[0].close()


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Have all processes of a server do nothing meanwhile."""
    main = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    processes = [main, *map(int, children)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


# --- Batches --------------------------------------------------------------------------


def test_what_was_recorded_before_a_flush_is_written_while_others_go_on(
    bus: Bus, tmp_path: Path
) -> None:
    """A thread that flushes must not be told of what is only collected."""
    ledger = Ledger(bus, tmp_path, url=None, durability="batch")
    missing: list[str] = []
    is_over = Event()

    def go_on() -> None:
        while not is_over.is_set():
            ledger.call("other")
            # On a busy machine more might come than is written, until a flush has no
            # time for what was there before it, or the queue has no room.
            while ledger.status.queued > 2_000 and not is_over.is_set():
                is_over.wait(0.001)

    def flush(who: str) -> None:
        try:
            for number in range(15):
                ledger.call(name := f"{who}-{number}")
                assert ledger.reporter.flush(JOIN_TIMEOUT)
                if name not in set(ledger.lines):
                    missing.append(name)
        finally:
            is_over.set()

    in_threads(go_on, lambda: flush("a"), lambda: flush("b"))
    assert missing == []
    ledger.reporter.stop(10)
    assert ledger.status.delivered == ledger.status.accepted == len(ledger.lines)


def test_what_is_collected_is_queued_until_it_is_written(
    bus: Bus, tmp_path: Path
) -> None:
    ledger = Ledger(bus, tmp_path, url=None, durability="batch")
    batches = ledger.reporter._batches[0]
    ledger.call("before")
    assert ledger.reporter.flush(10)
    with batches._lock:
        ledger.call("1", "2")
        assert not ledger.reporter.flush(0.01)
        assert (ledger.status.accepted, ledger.status.queued) == (3, 2)
    # As it is found if an event has been offered that is not delivered yet.
    assert ledger.reporter.flush(10)
    batches._collected.append({"id": "c", "model": "collected"})
    assert ledger.reporter.flush(10)
    assert ledger.lines == ["before", "1", "2", "collected"]
    ledger.reporter.stop(10)


def test_a_rest_is_written_although_no_thread_can_be_started(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of the process, from Python 3.12 on."""
    ledger = Ledger(bus, tmp_path, url=None, durability="batch")
    batches = ledger.reporter._batches[0]

    def refuse(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")  # noqa: EM101  # as Python says

    ledger.call("before")
    assert ledger.reporter.flush(10)
    batches._collected.append({"id": "c", "model": "collected"})
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", refuse)
        assert ledger.reporter.flush(10)
    assert ledger.lines == ["before", "collected"]
    batches._collected.append({"id": "d", "model": "late"})
    with batches._lock:
        assert not ledger.reporter.flush(0.01)
    ledger.reporter.stop(0)
    # What was put into it by hand above is written, but was never accepted.
    wait_for(lambda: ledger.status.queued <= 0)


def test_a_forked_child_does_not_write_what_its_parent_has_collected(
    bus: Bus, tmp_path: Path
) -> None:
    """Row 20: or it would be there twice."""
    ledger = Ledger(bus, tmp_path, durability="batch")
    batches = ledger.reporter._batches[0]
    ledger.call("before")
    assert ledger.reporter.flush(10)

    def child() -> object:
        started = ledger.status
        ledger.call("child")
        assert ledger.reporter.flush(10)
        return [started.accepted, ledger.status.accepted, ledger.status.delivered]

    with batches._lock:
        batches._collected.append({"id": "c", "model": "collected"})
        ledger.call("parent")
        assert in_child(child) == [0, 2, 2]
    ledger.reporter.stop(10)
    # It has no timestamp, so that only the file takes what the test made up.
    assert sorted(ledger.lines) == ["before", "child", "collected", "parent"]
    assert ledger.rows == ["before", "child", "parent"]


def test_it_can_be_started_again_and_its_counts_go_on(bus: Bus, tmp_path: Path) -> None:
    ledger = Ledger(bus, tmp_path, url=None, durability="batch")
    ledger.call("1")
    ledger.reporter.stop(10)
    handler = ledger.reporter._batches[0].handler
    handler(("llm", "chat", "stop"), {}, {"span_id": "late"}, None)
    ledger.reporter.start(bus, MetricStore([]))
    ledger.call("2")
    ledger.reporter.stop(10)
    status = ledger.status
    assert (status.accepted, status.delivered, status.queued) == (3, 2, 0)
    assert status.dropped == {"shutdown": 1}
    assert ledger.lines == ["1", "2"]


@pytest.mark.parametrize("durability", ["process", "batch"])
def test_what_one_store_raises_costs_the_other_nothing(
    durability: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, failures = Bus(), []
    bus.attach("failures", "llmevents.handler.failure", lambda *e: failures.append(e))
    ledger = Ledger(bus, tmp_path, durability=durability)

    def fail(*records: object) -> None:
        raise ZeroDivisionError

    for name in ("add", "try_add"):
        monkeypatch.setattr(ledger.reporter._stores[0], name, fail)
    ledger.call("1")
    assert ledger.reporter.flush(10)
    assert ledger.rows == ["1"]
    assert (ledger.status.delivered, ledger.status.dropped) == (1, {"error": 1})
    assert ledger.status.queued == 0
    assert len(failures) == 1
    ledger.reporter.stop(10)


@pytest.mark.parametrize("durability", ["process", "batch"])
def test_an_event_that_no_record_can_be_made_of_is_counted(
    durability: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus()
    ledger = Ledger(bus, tmp_path, durability=durability)

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("llmevents_ledger._records.record_of", fail)
        ledger.call("1")
        assert ledger.reporter.flush(10)
    bus.execute("llm.chat.stop", {}, {})
    ledger.call("2")
    assert ledger.reporter.flush(10)
    assert ledger.status.dropped == {"error": 2, "no_span_id": 2}
    assert (ledger.status.delivered, ledger.status.queued) == (2, 0)
    ledger.reporter.stop(10)


def test_an_interrupted_write_is_counted(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(bus, tmp_path, url=None)
    write = os.write

    def interrupt(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:10])
        raise KeyboardInterrupt

    ledger.call("1")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ledger.call("2")
    ledger.call("3")
    assert ledger.lines == ["1", "3"]
    assert ledger.status.dropped == {"interrupted": 1}
    ledger.reporter.stop(10)


def test_a_record_that_is_there_already_is_delivered(bus: Bus, tmp_path: Path) -> None:
    """As after a commit whose answer got lost on the way."""
    ledger = Ledger(bus, tmp_path, jsonl=None, durability="batch")
    for _ in range(2):
        bus.execute(
            "llm.chat.stop",
            {"duration": 1},
            {"span_id": "same", "operation": "chat", "status": "success"},
        )
        assert ledger.reporter.flush(10)
    assert (ledger.status.delivered, ledger.status.queued) == (2, 0)
    assert len(ledger.rows) == 1
    ledger.reporter.stop(10)


# --- Exits ----------------------------------------------------------------------------

EXITS = """
import atexit, os, signal, sys
from multiprocessing import get_context
from pathlib import Path
from llmevents import Bus, _at_exit, llm
from llmevents.metrics import MetricStore
from llmevents_ledger import LedgerReporter

# On a busy machine 2 s may not be enough, and this is not about how many they are.
_at_exit.EXIT_TIMEOUT = 30.0

def work(directory, durability, how):
    bus = Bus(strict=True)
    place = Path(directory)
    reporter = LedgerReporter(
        jsonl=place / f"{how}.jsonl",
        url=f"sqlite:///{place / how}.db",
        durability=durability,
    )
    reporter.start(bus, MetricStore([]))
    def call():
        llm.record(bus=bus)
    if how == "atexit":
        atexit.register(call)
    for _ in range(3):
        call()
    if how == "exit":
        sys.exit(0)
    if how == "raise":
        sys.stderr = open(os.devnull, "w")
        raise ValueError
    if how == "terminated":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "_exit":
        os._exit(0)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)

directory, durability, *ways = sys.argv[1:]
child = get_context("fork").Process(target=work, args=(directory, durability, "child"))
child.start()
child.join()
for how in ways:
    # Each ends as a process of its own.
    if os.fork() == 0:
        work(directory, durability, how)
        break
    os.wait()
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("durability", "ways"),
    [
        (
            "process",
            ("end", "exit", "raise", "terminated", "atexit", "_exit", "killed"),
        ),
        ("batch", ("end", "exit", "raise", "terminated", "atexit")),
    ],
)
def test_however_a_process_ends_its_records_are_there(
    durability: str, ways: tuple[str, ...], tmp_path: Path
) -> None:
    """Row 22: batches are lost by `os._exit` and kills only, and that is stated."""
    done = subprocess.run(
        [sys.executable, "-c", EXITS, str(tmp_path), durability, *ways],
        capture_output=True,
        text=True,
        timeout=2 * JOIN_TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for how in ("child", *ways):
        lines = list(read(tmp_path / f"{how}.jsonl"))
        with closing(sqlite3.connect(tmp_path / f"{how}.db")) as database:
            ((rows,),) = database.execute("SELECT count(*) FROM calls")
        # What an exit function of the program's does after ours is too late.
        least = 3 if durability == "batch" else 3 + (how == "atexit")
        assert (how, min(len(lines), rows) >= least) == (how, True)


def test_a_ledger_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Row 43: a downgrade says so at the start."""
    database = tmp_path / "usage.db"
    url = f"sqlite:///{database}"
    SqlStore(url).close()
    with closing(sqlite3.connect(database)) as other:
        other.execute("UPDATE ledger_schema SET version = 99")
        other.commit()
    before = database.read_bytes()
    reporter = LedgerReporter(url=url)
    with pytest.raises(NewerLedgerError, match="99"):
        reporter.start(Bus(), MetricStore(()))
    assert database.read_bytes() == before


def test_lines_of_a_later_version_stay_as_they_are(bus: Bus, tmp_path: Path) -> None:
    """Row 43: who reads the file takes or leaves each line by itself."""
    later = b'{"schema_version":99,"id":"later","model":"m","unheard":{"of":[1]}}\n'
    (tmp_path / "calls.jsonl").write_bytes(later)
    ledger = Ledger(bus, tmp_path, url=None)
    ledger.call("now")
    ledger.reporter.stop(10)
    assert ledger.file.read_bytes().startswith(later)
    assert ledger.lines == ["m", "now"]


def test_a_device_that_fails_is_counted(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(bus, tmp_path, url=None)
    ledger.call("1")

    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")  # as the system says

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        ledger.call("2")
    ledger.call("3")
    assert ledger.lines == ["1", "3"]
    assert ledger.status.dropped == {"error": 1}
    ledger.reporter.stop(10)
