"""Files that are set aside: nothing lost on the way, and no more kept than asked for."""

from __future__ import annotations

import gzip
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from llmevents import OptionError
from llmevents.ledger import JsonlStore, decode
from llmevents.ledger._record import timestamp
from llmevents.ledger._rotation import Rotation, pack, set_aside
from llmevents.testing import ManualClock
from tests.outcomes import in_child, in_threads


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
