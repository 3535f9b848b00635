"""Files that are set aside: nothing lost on the way, and no more kept than asked for."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from llmevents import OptionError
from llmevents.ledger import JsonlStore, decode, encode
from llmevents.ledger import _rotation as rotating
from llmevents.ledger._append import LockedError, lock
from llmevents.ledger._record import timestamp
from llmevents.ledger._rotation import Rotation, pack, set_aside
from llmevents.testing import ManualClock
from tests.outcomes import JOIN_TIMEOUT, in_child, in_threads


NOON = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z
HOUR = 3_600_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time_ns=NOON)


def every_id(path: Path) -> list[str]:
    """Return the ids in a file and in all that were set aside of it."""
    found = []
    for file in [*set_aside(path), path]:
        content = file.read_bytes()
        whole = gzip.decompress(content) if file.suffix == ".gz" else content
        for line in whole.splitlines():
            record = decode(line)
            assert record is not None
            found.append(record["id"])
    return found


def add(store: JsonlStore, clock: ManualClock, *ids: object) -> None:
    for one in ids:
        store.add({"id": str(one), "timestamp": timestamp(clock.time_ns())})


def test_no_file_is_larger_than_asked_for(path: Path, clock: ManualClock) -> None:
    rotation = Rotation(size=300, pack=False, clock=clock)
    store = JsonlStore(path, rotation=rotation)
    add(store, clock, *range(40))
    files = list(set_aside(path))
    assert len(files) > 5
    assert max(file.stat().st_size for file in [*files, path]) <= 300
    assert sorted(every_id(path), key=int) == [str(number) for number in range(40)]


def test_a_record_that_is_larger_than_that_has_a_file_of_its_own(
    path: Path, clock: ManualClock
) -> None:
    store = JsonlStore(path, rotation=Rotation(size=10, pack=False, clock=clock))
    add(store, clock, 1, 2)
    assert len(list(set_aside(path))) == 1
    assert sorted(every_id(path)) == ["1", "2"]


@pytest.mark.parametrize(
    ("period", "before", "after"),
    [
        pytest.param("hour", HOUR // 2, HOUR, id="hour"),
        pytest.param("day", HOUR, 2 * HOUR, id="day"),
        pytest.param("month", 16 * 24 * HOUR, 17 * 24 * HOUR, id="month"),
    ],
)
def test_a_file_belongs_to_the_period_of_its_first_record(
    period: str, before: int, after: int, path: Path, clock: ManualClock
) -> None:
    def store() -> JsonlStore:
        # One that has just been started knows the file only from what is in it.
        rotation = Rotation(period=period, pack=False, clock=clock)  # type: ignore[arg-type]  # one of them
        return JsonlStore(path, rotation=rotation)

    add(store(), clock, 1)
    clock.advance(before)
    same = store()
    add(same, clock, 2)
    assert list(set_aside(path)) == []
    clock.advance(after - before)
    add(same, clock, 3)
    assert len(list(set_aside(path))) == 1
    assert sorted(every_id(path)) == ["1", "2", "3"]


def test_what_is_set_aside_is_packed_and_the_owners_alone(
    path: Path, clock: ManualClock
) -> None:
    rotation = Rotation(size=100, clock=clock)
    store = JsonlStore(path, rotation=rotation)
    add(store, clock, *range(5))
    rotation.join()
    files = list(set_aside(path))
    assert {file.suffix for file in files} == {".gz"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert sorted(every_id(path)) == ["0", "1", "2", "3", "4"]


def test_what_a_crash_has_left_unpacked_is_packed_the_next_time(
    path: Path, clock: ManualClock
) -> None:
    store = JsonlStore(path, rotation=Rotation(size=1, pack=False, clock=clock))
    add(store, clock, 1, 2, 3)
    assert {file.suffix for file in set_aside(path)} == {".jsonl"}
    Rotation(clock=clock).look_after(path)
    assert {file.suffix for file in set_aside(path)} == {".gz"}
    assert sorted(every_id(path)) == ["1", "2", "3"]


def test_what_cannot_be_packed_stays_as_it_is(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError("no room")  # noqa: EM101  # the text is looked at

    store = JsonlStore(path, rotation=Rotation(size=1, pack=False, clock=clock))
    add(store, clock, 1, 2)
    monkeypatch.setattr("shutil.copyfileobj", fail)
    Rotation(clock=clock).look_after(path)
    (file,) = set_aside(path)
    with pytest.raises(OSError, match="no room"):
        pack(file)
    assert {each.name for each in path.parent.iterdir()} == {path.name, file.name}


@pytest.fixture
def aside(path: Path) -> Path:
    """One file that was set aside, and is not packed yet."""
    aside = path.with_name("calls-20231114T221320000000Z.jsonl")
    aside.write_bytes(encode({"id": "1"}))
    return aside


def test_a_file_that_two_pack_at_once_is_packed_whole(
    path: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads of a process, or process 1 of two containers."""
    begun, go_on = Event(), Event()

    def copy(source: Any, target: Any) -> None:  # noqa: ANN401  # as in shutil
        begun.set()
        assert go_on.wait(JOIN_TIMEOUT)
        target.write(source.read())

    def be_late() -> None:
        assert begun.wait(JOIN_TIMEOUT)
        try:
            with pytest.raises(LockedError, match="was locked for 0"):
                pack(aside)
        finally:
            go_on.set()

    monkeypatch.setattr(shutil, "copyfileobj", copy)
    monkeypatch.setattr(rotating, "PATIENCE", 0.01)
    in_threads(lambda: pack(aside), be_late)
    assert {file.suffix for file in path.parent.iterdir()} == {".gz"}
    assert gzip.decompress(aside.with_name(f"{aside.name}.gz").read_bytes()) == (
        encode({"id": "1"})
    )


def test_a_file_that_another_has_packed_meanwhile_is_left_alone(
    path: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(descriptor: int, patience: float) -> bool:
        monkeypatch.undo()
        pack(aside)
        return lock(descriptor, patience)

    monkeypatch.setattr(rotating, "lock", wait)
    pack(aside)
    (packed,) = path.parent.iterdir()
    assert gzip.decompress(packed.read_bytes()) == encode({"id": "1"})


def test_a_file_that_is_gone_costs_no_descriptor(path: Path, aside: Path) -> None:
    aside.unlink()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError, match=aside.name):
        pack(aside)
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_packer_has_left_is_used_again(path: Path, aside: Path) -> None:
    aside.with_name(f"{aside.name}.gz.tmp").write_bytes(b"x" * 1_000)
    Rotation().look_after(path)
    assert [file.name for file in path.parent.iterdir()] == [f"{aside.name}.gz"]
    packed = aside.with_name(f"{aside.name}.gz")
    assert gzip.decompress(packed.read_bytes()) == encode({"id": "1"})


def test_what_a_killed_packer_has_left_goes_with_the_file(
    path: Path, aside: Path
) -> None:
    others = [
        path.with_name(name)
        for name in (
            f"{aside.name}.gz.tmp",
            "calls-1.jsonl.gz.tmp",
            f"x{aside.name}.gz.tmp",
        )
    ]
    for other in others:
        other.touch()
    Rotation(pack=False, keep=1).look_after(path)
    assert [other.exists() for other in others] == [True] * 3
    aside.unlink()
    Rotation(pack=False, keep=1).look_after(path)
    assert [other.exists() for other in others] == [False, True, True]


def test_a_link_in_place_of_the_packed_file_is_not_followed(
    path: Path, aside: Path
) -> None:
    target = path.with_name("somebody's")
    target.write_text("mine")
    link = aside.with_name(f"{aside.name}.gz.tmp")
    link.symlink_to(target)
    with pytest.raises(OSError, match=link.name):
        pack(aside)
    assert link.is_symlink()
    assert target.read_text() == "mine"
    assert aside.read_bytes() == encode({"id": "1"})


def test_a_file_that_cannot_be_packed_costs_the_others_nothing(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JsonlStore(path, rotation=Rotation(size=1, pack=False, clock=clock))
    add(store, clock, 1, 2, 3, 4)

    def fail(file: Path) -> None:
        monkeypatch.undo()
        raise PermissionError(file)

    monkeypatch.setattr(rotating, "pack", fail)
    Rotation(clock=clock, max_age=timedelta(hours=1)).look_after(path)
    assert sorted(file.suffix for file in set_aside(path)) == [".gz", ".gz", ".jsonl"]
    assert sorted(every_id(path)) == ["1", "2", "3", "4"]


def test_a_file_that_cannot_be_deleted_or_packed_keeps_no_other_one(
    path: Path, clock: ManualClock
) -> None:
    """A directory that has such a name, say: it is the oldest."""
    strange = path.with_name("calls-20000101T000000000000Z.jsonl")
    strange.mkdir()
    store = JsonlStore(path, rotation=Rotation(size=1, pack=False, clock=clock))
    for number in range(4):
        clock.advance(1_000)
        add(store, clock, number)
    Rotation(clock=clock, keep=1).look_after(path)
    strange.rmdir()
    assert {file.suffix for file in set_aside(path)} == {".gz"}
    assert sorted(every_id(path)) == ["2", "3"]


def test_only_so_many_are_kept(path: Path, clock: ManualClock) -> None:
    rotation = Rotation(size=1, keep=2, clock=clock)
    store = JsonlStore(path, rotation=rotation)
    for number in range(6):
        clock.advance(1_000)
        add(store, clock, number)
    rotation.join()
    assert sorted(every_id(path)) == ["3", "4", "5"]


def test_they_are_kept_only_so_long(path: Path, clock: ManualClock) -> None:
    rotation = Rotation(size=1, max_age=timedelta(hours=1), pack=False, clock=clock)
    store = JsonlStore(path, rotation=rotation)
    add(store, clock, 1, 2)
    clock.advance(HOUR)
    add(store, clock, 3)
    rotation.join()
    assert sorted(every_id(path)) == ["1", "2", "3"]
    clock.advance(1_000)
    add(store, clock, 4)
    rotation.join()
    assert sorted(every_id(path)) == ["2", "3", "4"]


def test_other_files_beside_it_are_left_alone(path: Path, clock: ManualClock) -> None:
    others = [
        path.with_name(name)
        for name in ("calls-old.jsonl", "calls-2.jsonl.gz", "calls.json", "notes.txt")
    ]
    for other in others:
        other.write_text("mine")
    rotation = Rotation(size=1, keep=1, clock=clock)
    store = JsonlStore(path, rotation=rotation)
    add(store, clock, 1, 2, 3)
    rotation.join()
    assert [other.read_text() for other in others] == ["mine"] * 4


def test_threads_and_processes_lose_nothing_while_files_are_set_aside(
    path: Path, clock: ManualClock
) -> None:
    rotation = Rotation(size=2_000, clock=clock)
    store = JsonlStore(path, rotation=rotation)
    # As long as one of them waits for its turn on a busy machine nothing is refused.
    store._file._patience = JOIN_TIMEOUT

    def work(who: str) -> object:
        add(store, clock, *(f"{who}-{number}" for number in range(150)))
        rotation.join()
        return [*store.counts()]

    in_threads(
        lambda: work("a"),
        lambda: work("b"),
        lambda: in_child(lambda: work("c")),
        lambda: in_child(lambda: work("d")),
    )
    rotation.join()
    found = every_id(path)
    assert len(found) == len(set(found)) == 600


@pytest.mark.parametrize(
    ("option", "value"),
    [
        pytest.param("period", "week", id="period"),
        pytest.param("size", 0, id="size"),
        pytest.param("keep", -1, id="keep"),
        pytest.param("max_age", timedelta(0), id="max_age"),
    ],
)
def test_a_wrong_option_is_refused(option: str, value: object) -> None:
    with pytest.raises(OptionError, match=option):
        Rotation(**{option: value})  # type: ignore[arg-type]  # the mistake
