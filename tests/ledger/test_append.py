"""A file that others write to, rename, lock and tear at the same time."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from threading import Event, Thread

import pytest

from llmevents.ledger import JsonlStore, encode, read
from llmevents.ledger import _append as appending
from llmevents.ledger._append import AppendFile
from llmevents.ledger._rotation import Rotation, set_aside
from tests.outcomes import JOIN_TIMEOUT, in_threads


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def ids(path: Path) -> list[str]:
    lines = list(read(path))
    assert all(line.record is not None for line in lines)
    return [str((line.record or {})["id"]) for line in lines]


def record(one: str) -> dict[str, object]:
    return {"id": one}


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        pytest.param(encode({"id": "torn"})[:5], ["1", "2"], id="torn"),
        pytest.param(encode({"id": "whole"})[:-1], ["1", "whole", "2"], id="whole"),
        pytest.param(encode({"id": "other"}), ["1", "other", "2"], id="none"),
    ],
)
def test_what_another_process_has_torn_is_repaired_while_the_file_is_open(
    tail: bytes, found: list[str], path: Path
) -> None:
    """Or the next record is glued to it, and lost."""
    store = JsonlStore(path)
    store.add(record("1"))
    with path.open("ab") as other:
        other.write(tail)
    store.add(record("2"))
    assert ids(path) == found
    assert store.counts().repaired == (len(tail) if found == ["1", "2"] else 0)


def test_a_file_that_is_locked_when_it_is_to_be_opened_is_opened_later(
    path: Path,
) -> None:
    path.write_bytes(encode(record("0")))
    store = JsonlStore(path)
    store._file = AppendFile(path, patience=0.01)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        store.add(record("1"))
    store.add(record("2"))
    assert ids(path) == ["0", "2"]
    assert store.counts().refused == {"locked": 1}


def test_a_file_system_without_locks_is_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JsonlStore(path)

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuse)
        store.add(record("1"))
    store.add(record("2"))
    assert ids(path) == ["2"]
    assert store.counts().refused == {"error": 1}


def test_a_write_of_which_a_part_is_done_is_completed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda d, data: write(d, data[:3]))
    JsonlStore(path).add(record("1"), record("2"))
    assert ids(path) == ["1", "2"]


def test_a_file_that_somebody_has_replaced_is_not_renamed_when_it_is_due(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JsonlStore(path, rotation=Rotation(size=20, pack=False))
    store._file._every = JOIN_TIMEOUT
    store.add(record("1"))
    store.add(record("2"))
    (aside,) = set_aside(path)
    path.rename(path.with_suffix(".old"))
    path.write_bytes(encode(record("others")))
    store.add(record("3"))
    # The other's file was full as well; it was set aside itself.
    files = [aside, path.with_suffix(".old"), *set(set_aside(path)) - {aside}, path]
    assert [ids(file) for file in files] == [["1"], ["2"], ["others"], ["3"]]


def test_records_that_come_together_make_no_file_too_large(path: Path) -> None:
    line = len(encode(record("0")))
    store = JsonlStore(path, rotation=Rotation(size=3 * line, pack=False))
    store.add(*(record(str(number)) for number in range(8)))
    files = [*set_aside(path), path]
    assert sorted(len(ids(file)) for file in files) == [2, 3, 3]
    assert sorted(one for file in files for one in ids(file)) == list("01234567")


def test_threads_that_wait_share_a_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JsonlStore(path)
    append, sizes = store._file.append, []

    def counting(lines: bytes, *, sync: bool = False) -> None:
        sizes.append(lines.count(b"\n"))
        append(lines, sync=sync)

    monkeypatch.setattr(store._file, "append", counting)
    names = [str(number) for number in range(5)]

    def begin() -> None:
        with store._lock:
            threads = [Thread(target=store.add, args=(record(name),)) for name in names]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + JOIN_TIMEOUT
            while len(store._waiting) < len(names):
                assert time.monotonic() < deadline
                threads[0].join(0.001)
        for thread in threads:
            thread.join(JOIN_TIMEOUT)

    begin()
    assert sizes == [5]
    assert sorted(ids(path)) == names
    assert store.counts().written == 5


def test_a_record_that_comes_after_the_last_look_is_written_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a finalizer that runs when the lock is let go."""
    store = JsonlStore(path)
    inside = store._inside

    class Inside(set[int]):
        def discard(self, element: object) -> None:
            if not list(path.parent.glob("told")):
                (path.parent / "told").touch()
                store.add(record("inner"))
            super().discard(element)

    monkeypatch.setattr(store, "_inside", Inside(inside))
    store.add(record("outer"))
    assert ids(path) == ["outer", "inner"]


def test_closing_waits_no_longer_than_asked_for(path: Path) -> None:
    store = JsonlStore(path)
    store.add(record("1"))
    held, release = Event(), Event()

    def hold() -> None:
        with store._lock:
            held.set()
            release.wait(JOIN_TIMEOUT)

    def close() -> None:
        held.wait(JOIN_TIMEOUT)
        assert not store.close(0.01)
        release.set()
        assert store.close(JOIN_TIMEOUT)

    in_threads(hold, close)
    assert store._file._descriptor is None


def test_directories_that_are_made_are_on_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(appending, "sync_directory", synced.append)
    store = JsonlStore(tmp_path / "a" / "b" / "calls.jsonl", durability="power")
    store.add(record("1"))
    store.add(record("2"))
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_directories_are_on_the_disk_too_if_the_first_record_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(appending, "sync_directory", synced.append)

    def fail(descriptor: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    store = JsonlStore(tmp_path / "a" / "calls.jsonl", durability="power")
    with monkeypatch.context() as patched:
        patched.setattr(appending, "repair", fail)
        store.add(record("1"))
    store.add(record("2"))
    assert synced == [tmp_path, tmp_path / "a"]


def test_a_file_that_is_being_packed_holds_nobody_up(path: Path) -> None:
    """Whoever packs it keeps it locked, under its new name, for as long as it takes."""
    store = JsonlStore(path)
    store._file = AppendFile(path, patience=0.5)
    store.add(record("1"))
    aside = path.rename(path.with_suffix(".aside"))
    with aside.open("rb") as packer:
        fcntl.flock(packer, fcntl.LOCK_EX)
        store.add(record("2"))
    assert store.counts() == (2, {}, 0)
    assert [ids(aside), ids(path)] == [["1"], ["2"]]


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("patience", [0.0, JOIN_TIMEOUT])
def test_a_file_that_is_renamed_while_somebody_waits_for_it_is_made_anew(
    patience: float, is_open: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(encode(record("0")))
    aside = path.with_suffix(".aside")
    store = JsonlStore(path)
    store._file = AppendFile(path, patience=patience)
    if is_open:
        store._file._open()
    try_lock = appending.try_lock

    def renaming(descriptor: int) -> bool:
        is_locked = try_lock(descriptor)
        if not is_locked and not aside.exists():
            path.rename(aside)
        return is_locked

    monkeypatch.setattr(appending, "try_lock", renaming)
    with path.open("rb") as packer:
        fcntl.flock(packer, fcntl.LOCK_EX)
        store.add(record("1"))
    assert store.counts() == (1, {}, 0)
    assert [ids(aside), ids(path)] == [["0"], ["1"]]


@pytest.mark.parametrize("name", ["try_lock", "unlock"])
def test_an_interruption_leaves_no_lock(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as of a signal handler, just after it was taken or before it is let go."""
    store = JsonlStore(path)
    store.add(record("1"))
    try_lock = appending.try_lock

    def interrupt(descriptor: int) -> bool:
        try_lock(descriptor)
        monkeypatch.undo()
        raise KeyboardInterrupt(name)

    monkeypatch.setattr(appending, name, interrupt)
    with pytest.raises(KeyboardInterrupt, match=name):
        store.add(record("2"))
    with path.open("rb") as other:
        assert try_lock(other.fileno())
    store.add(record("3"))
    assert [one for one in ids(path) if one != "2"] == ["1", "3"]


def test_what_an_interrupted_write_has_written_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JsonlStore(path)
    store.add(record("1"))
    write = os.write

    def interrupt(descriptor: int, data: bytes) -> int:
        write(descriptor, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            store.add(record("2"))
    store.add(record("3"))
    assert ids(path) == ["1", "3"]
    assert store.counts() == (2, {"interrupted": 1}, 0)


def test_a_file_that_cannot_be_renamed_is_written_further(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that may be written, in a directory that may not."""

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(source))

    store = JsonlStore(path, rotation=Rotation(size=1, pack=False))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        store.add(record("1"))
        store.add(record("2"))
    store.add(record("3"))
    (aside,) = set_aside(path)
    assert [ids(aside), ids(path)] == [["1", "2"], ["3"]]
    assert store.counts() == (3, {}, 0)
