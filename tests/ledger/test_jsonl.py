"""A file of records: nothing lost, nothing twice, whatever happens to whom."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import OptionError
from llmevents.ledger import Durability, JsonlStore, encode, read
from llmevents.ledger import _append as appending
from llmevents.ledger._append import AppendFile
from llmevents.ledger._rotation import Rotation, set_aside
from tests.outcomes import JOIN_TIMEOUT, in_child, in_threads


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def record(number: object) -> dict[str, Any]:
    return {"id": str(number), "event": "llm.chat"}


def ids(path: Path) -> list[str]:
    lines = list(read(path))
    assert all(line.record is not None for line in lines)
    return [str((line.record or {})["id"]) for line in lines]


def test_a_record_is_in_the_file_when_add_returns(path: Path) -> None:
    store = JsonlStore(path)
    store.add(record(1))
    assert ids(path) == ["1"]
    store.add(record(2), record(3))
    store.add()
    assert ids(path) == ["1", "2", "3"]
    assert store.counts() == (3, {}, 0)


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "calls.jsonl"
    JsonlStore(path).add(record(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("durability", ["process", "power"])
def test_threads_and_processes_lose_nothing_and_write_nothing_twice(
    durability: Durability, path: Path
) -> None:
    store = JsonlStore(path, durability=durability)
    # As long as one of them waits for its turn on a busy machine nothing is refused.
    store._file._patience = JOIN_TIMEOUT
    each = 200 if durability == "process" else 20

    def add(who: str) -> None:
        for number in range(each):
            store.add(record(f"{who}-{number}"))

    def child(who: str) -> object:
        in_threads(*(lambda t=t: add(f"{who}.{t}") for t in range(2)))
        return store.counts().written

    written: list[object] = []
    in_threads(
        lambda: add("a"),
        lambda: add("b"),
        lambda: written.append(in_child(lambda: child("c"))),
        lambda: written.append(in_child(lambda: child("d"))),
    )
    assert written == [2 * each] * 2
    found = ids(path)
    assert len(found) == len(set(found)) == 6 * each


KILLED = """
import os, sys
from llmevents.ledger import JsonlStore
{broken}
store = JsonlStore(sys.argv[1], durability=sys.argv[2])
number = 0
while True:
    one = f"{{os.getpid()}}-{{number}}"
    store.add({{"id": one, "text": "x" * (number % 3000)}})
    os.write(1, one.encode() + b"\\n")
    number += 1
"""

BUFFERED = """
file = open(sys.argv[1], "ab", buffering=1 << 24)
from llmevents.ledger import encode
JsonlStore.add = lambda self, record: file.write(encode(record))
"""


def _acknowledged_by_killed(path: Path, durability: str, broken: str = "") -> list[str]:
    """Return what a process was told is written before it was killed."""
    source = KILLED.format(broken=broken)
    command = [sys.executable, "-c", source, str(path), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(50)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read().splitlines(keepends=True)
    return [line.decode().strip() for line in told if line.endswith(b"\n")]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_kill_loses_nothing_that_was_acknowledged(
    durability: str, path: Path
) -> None:
    acknowledged: list[str] = []
    for _ in range(5):
        acknowledged += _acknowledged_by_killed(path, durability)
    JsonlStore(path).add(record("after"))
    found = Counter(ids(path))
    assert [one for one in acknowledged if one not in found] == []
    assert set(found.values()) == {1}


def test_a_writer_with_a_buffer_would_be_found_out(path: Path) -> None:
    """The test above can fail."""
    acknowledged = _acknowledged_by_killed(path, "process", BUFFERED)
    found = {line.record["id"] for line in read(path) if line.record}
    assert set(acknowledged) - found


@given(
    whole=st.lists(st.integers(), max_size=3),
    cut=st.integers(1, 30),
    is_zero=st.booleans(),
)
def test_a_torn_tail_is_cut_off_when_the_file_is_opened(
    tmp_path_factory: pytest.TempPathFactory,
    whole: list[int],
    cut: int,
    is_zero: bool,
) -> None:
    path = tmp_path_factory.mktemp("torn") / "calls.jsonl"
    torn = b"\0" * cut if is_zero else encode(record("torn"))[:cut]
    path.write_bytes(b"".join(encode(record(number)) for number in whole) + torn)
    store = JsonlStore(path)
    store.add(record("next"))
    assert ids(path) == [*map(str, whole), "next"]
    assert store.counts().repaired == len(torn)


def test_a_tail_that_lacks_its_end_alone_is_kept(path: Path) -> None:
    path.write_bytes(encode(record("whole"))[:-1])
    store = JsonlStore(path)
    store.add(record("next"))
    assert ids(path) == ["whole", "next"]
    assert store.counts().repaired == 0


def test_a_torn_tail_longer_than_a_block_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "BLOCK", 7)
    path.write_bytes(encode(record("whole")) + encode(record("x" * 200))[:100])
    store = JsonlStore(path)
    store.add(record("next"))
    assert ids(path) == ["whole", "next"]
    assert store.counts().repaired == 100


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"a": 1}', id="JSON"),
        pytest.param(b'{"id":7}', id="JSON like ours"),
        pytest.param(b'{"name":', id="JSON that is torn"),
        pytest.param(b"notes\nof somebody", id="text"),
        pytest.param(encode(record("1")) + b"notes", id="text behind ours"),
        pytest.param(b"\x7fELF\n" + b"\0" * 512, id="zeros"),
        pytest.param(b"\0\0\1\0", id="zeros at first"),
        pytest.param(b'# settings\n{"id":', id="like ours at the end"),
    ],
)
def test_nothing_of_a_file_that_is_none_of_ours_is_cut_off(
    content: bytes, path: Path
) -> None:
    path.write_bytes(content)
    store = JsonlStore(path)
    store.add(record("next"))
    assert path.read_bytes() == content + b"\n" + encode(record("next"))
    assert store.counts() == (1, {}, 0)


@pytest.mark.parametrize("whole", [[], ["1"]])
def test_a_torn_line_of_a_call_is_cut_off(whole: list[str], path: Path) -> None:
    lines = b"".join(encode(record(one)) for one in whole)
    torn = encode({"schema_version": 1, **record("torn")})
    for cut in range(1, len(torn) - 1):
        path.write_bytes(lines + torn[:cut])
        store = JsonlStore(path)
        store.add(record("next"))
        assert ids(path) == [*whole, "next"]
        assert store.counts().repaired == cut


@pytest.mark.parametrize(
    "torn", [b'{"i\0\0{"id":"', b'\0\0{"schema', b'{"id":"1\0\0"}', b"\0\0"]
)
def test_zeros_for_a_part_of_a_torn_line_are_cut_off(torn: bytes, path: Path) -> None:
    """A loss of power may leave them."""
    path.write_bytes(encode(record(1)) + torn)
    store = JsonlStore(path)
    store.add(record("next"))
    assert ids(path) == ["1", "next"]
    assert store.counts().repaired == len(torn)


def test_a_relative_path_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    store = JsonlStore("calls.jsonl")
    monkeypatch.chdir(other)
    store.add(record(1))
    assert store.path == tmp_path / "calls.jsonl"
    assert ids(store.path) == ["1"]
    assert list(other.iterdir()) == []


def test_damaged_lines_are_told_of_with_their_place(path: Path) -> None:
    first = encode(record(1))
    path.write_bytes(first + b"\x00{broken\n\n" + encode(record(2)) + b'{"id": "3"')
    lines = list(read(path))
    assert [line.record and line.record["id"] for line in lines] == ["1", None, "2"]
    assert lines[1].offset == len(first)


def test_a_full_disk_refuses_and_counts_and_leaves_no_stump(path: Path) -> None:
    """A limit on the size of files stands for the disk."""

    def fill() -> object:
        store = JsonlStore(path)
        store.add(record("before"))
        full = path.stat().st_size + 10
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
        for number in range(3):
            store.add(record(f"refused-{number}"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        store.add(record("after"))
        return [*store.counts()]

    assert in_child(fill) == [2, {"disk_full": 3}, 0]
    assert ids(path) == ["before", "after"]


@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_a_file_that_is_gone_is_made_anew(how: str, path: Path) -> None:
    store = JsonlStore(path)
    store._file = AppendFile(path, every=0)
    store.add(record(1))
    if how == "deleted":
        path.unlink()
    else:
        path.rename(path.with_suffix(".old"))
    store.add(record(2))
    assert ids(path) == ["2"]


def test_a_directory_in_its_place_is_counted(path: Path) -> None:
    store = JsonlStore(path)
    path.mkdir()
    store.add(record(1))
    assert store.counts() == (0, {"error": 1}, 0)
    path.rmdir()
    store.add(record(2))
    assert ids(path) == ["2"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_counted(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    store = JsonlStore(tmp_path / "calls.jsonl")
    store.add(record(1))
    assert store.counts().refused == {"read_only": 1}
    tmp_path.chmod(0o700)


def test_a_file_that_somebody_keeps_locked_holds_nobody_up_for_long(
    path: Path,
) -> None:
    import fcntl

    file = AppendFile(path, patience=0.01)
    store = JsonlStore(path)
    store._file = file
    store.add(record(1))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        store.add(record(2))
    store.add(record(3))
    assert ids(path) == ["1", "3"]
    assert store.counts().refused == {"locked": 1}


def test_a_record_in_the_middle_of_a_write_follows_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a finalizer that runs in the thread that is writing."""
    store = JsonlStore(path)
    write, inner = os.write, iter(["inner"])

    def writing(descriptor: int, data: bytes) -> int:
        for one in inner:
            store.add(record(one))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", writing)
    store.add(record("outer"))
    assert ids(path) == ["outer", "inner"]


def test_a_child_writes_by_a_descriptor_of_its_own(path: Path) -> None:
    """Or its locks and those of the parent would be one."""
    store = JsonlStore(path)
    store.add(record("parent"))

    def add() -> object:
        store.add(record("child"))
        return [*store.counts()]

    with store._lock:
        assert in_child(add) == [1, {}, 0]
    assert ids(path) == ["parent", "child"]


def test_a_closed_store_opens_its_file_again(path: Path) -> None:
    store = JsonlStore(path)
    store.add(record(1))
    store.close()
    store.close()
    store.add(record(2))
    assert ids(path) == ["1", "2"]


def test_an_unknown_durability_is_refused(path: Path) -> None:
    with pytest.raises(OptionError, match=r"durability.*'process' or.*got 'disk'"):
        JsonlStore(path, durability="disk")  # type: ignore[arg-type]  # the mistake


def test_finalizers_of_other_threads_wait_their_turn(path: Path) -> None:
    store = JsonlStore(path)
    with store._lock:
        thread = threading.Thread(target=lambda: store.add(record("late")))
        thread.start()
        store._file.append(encode(record("first")))
    thread.join()
    assert ids(path) == ["first", "late"]


def add_at_once(store: JsonlStore, threads: int, each: int) -> list[str]:
    """Add records in threads that share a write; return those that are acknowledged."""
    acknowledged: list[str] = []

    def add(who: int) -> None:
        names = [f"{who}-{number}" for number in range(each)]
        try:
            store.add(*map(record, names))
        except KeyboardInterrupt:
            return
        acknowledged.extend(names)

    def begin() -> None:
        with store._lock:
            for worker in workers:
                worker.start()
            deadline = time.monotonic() + JOIN_TIMEOUT
            while len(store._waiting) < threads:
                assert time.monotonic() < deadline
                workers[0].join(0.001)
        for worker in workers:
            worker.join(JOIN_TIMEOUT)
            assert not worker.is_alive()

    workers = [
        threading.Thread(target=add, args=(who,), daemon=True) for who in range(threads)
    ]
    begin()
    return acknowledged


@pytest.mark.parametrize("interrupted", [{1}, {2}, {1, 2}, {2, 3}, {2, 4}, {1, 2, 3}])
def test_who_is_interrupted_costs_the_other_threads_nothing(
    interrupted: set[int], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes for all, and how much of it is done: each is there once."""
    line = len(encode(record("0-0")))
    store = JsonlStore(path, rotation=Rotation(size=3 * line, pack=False))
    append, pieces = store._file.append, iter(range(1, 100))

    def interrupting(lines: bytes, *, sync: bool = False) -> None:
        if next(pieces) in interrupted:
            raise KeyboardInterrupt
        append(lines, sync=sync)

    monkeypatch.setattr(store._file, "append", interrupting)
    acknowledged = add_at_once(store, threads=4, each=4)
    found = [
        one for file in [*set_aside(path), path] if file.exists() for one in ids(file)
    ]
    assert len(acknowledged) == 4 * (4 - len(interrupted))
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found)) == store.counts().written
    assert sum(store.counts().refused.values()) == 16 - len(found)


@pytest.mark.parametrize(
    ("durability", "where", "counts"),
    [
        pytest.param("process", (appending, "unlock"), (12, {}, 0), id="process"),
        pytest.param("power", (os, "fsync"), (0, {"interrupted": 12}, 0), id="power"),
    ],
)
def test_what_is_in_the_file_when_somebody_is_interrupted_is_not_written_again(
    durability: Durability,
    where: tuple[object, str],
    counts: object,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = JsonlStore(path, durability=durability)
    store._file._open()

    def interrupt(descriptor: int) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(*where, interrupt)
    acknowledged = add_at_once(store, threads=4, each=3)
    found = ids(path)
    assert len(acknowledged) == 9
    assert len(found) == len(set(found)) == 12
    assert store.counts() == counts


def test_a_disk_that_fails_counts_what_is_in_the_file_as_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether it would be there after a loss of power."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    store = JsonlStore(path, durability="power")
    store.add(record(1))
    assert store.counts() == (0, {"error": 1}, 0)
    assert ids(path) == ["1"]
