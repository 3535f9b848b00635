"""Files of several processes: damaged, foreign, cut off, in the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmevents import Bus, OptionError
from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    MetricStore,
    Sum,
    Summary,
)
from llmevents_prometheus._files import ENDED, SharedDirectory, kind_of
from llmevents_prometheus._format import UnusableError, decode
from llmevents_prometheus._processes import SharedSnapshots
from llmevents_prometheus._session import Session


pytestmark = pytest.mark.long


NEVER = 3600.0
SECONDS = 30.0
FOREIGN_NAME = "process-1-0123456789abcdef.json"


class Process:
    """A store that adds up tokens, and its part in the totals."""

    def __init__(self, directory: Path) -> None:
        self.bus = Bus()
        self.store = MetricStore(
            [
                Sum("a.b.tokens"),
                Distribution("a.b.took", buckets=(1, 2)),
                Summary("a.b.length"),
                LastValue("a.b.size"),
                Counter("a.b.calls", event="a.b", tags=("model",)),
            ]
        )
        self.store.attach(self.bus)
        self.shared = SharedSnapshots(str(directory), NEVER)
        self.shared.start(self.store)

    def emit(self, tokens: int = 1) -> None:
        self.bus.execute(
            "a.b",
            {"tokens": tokens, "took": 1.5, "length": 3, "size": tokens},
            {"model": "x"},
        )

    def total(self) -> float:
        """Return the tokens of all processes."""
        merged = self.shared.merged(self.store.snapshot())
        series = merged.families["a.b.tokens"].series
        return sum(each.raw for each in series if isinstance(each.raw, (int, float)))

    def stop(self) -> None:
        self.shared.stop(SECONDS)


@pytest.fixture(autouse=True)
def _without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens here happens when it is told to."""
    monkeypatch.setattr(Session, "start_thread", lambda self: None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def process(directory: Path) -> Iterator[Process]:
    process = Process(directory)
    process.emit()
    assert process.total() == 1
    yield process
    process.stop()


@pytest.fixture
def living(directory: Path, process: Process) -> Iterator[Path]:
    """The file of another process, which has 10 tokens."""
    before = {*directory.iterdir()}
    other = Process(directory)
    other.emit(10)
    other.shared.publish()
    (path,) = {*directory.iterdir()} - before
    yield path
    other.stop()


def ended(directory: Path, tokens: int) -> None:
    """Let a process come and go."""
    other = Process(directory)
    other.emit(tokens)
    other.stop()


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- Files that cannot be used ---------------------------------------------------


def reframed(data: bytes, **changes: object) -> bytes:
    """Return a file with another header, or another body and the right checksum."""
    first, _, body = data.partition(b"\n")
    new_body = changes.pop("body", None)
    if isinstance(new_body, bytes):
        body = new_body
        changes["crc32"] = crc32(body)
    return json.dumps({**json.loads(first), **changes}).encode() + b"\n" + body


def edited(data: bytes, edit: Callable[[list[object]], object]) -> bytes:
    """Return a file whose first series was edited."""
    metric, first, *rest = data.partition(b"\n")[2].splitlines()
    entry = json.loads(first)
    edit(entry)
    return reframed(data, body=b"\n".join((metric, json.dumps(entry).encode(), *rest)))


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "damaged"),
    "cut off at once": (lambda data: data[:20], "damaged"),
    "cut off": (lambda data: data[:-1], "damaged"),
    "cut off early": (lambda data: data[:50], "damaged"),
    "zeros at the end": (lambda data: data[:-9] + bytes(9), "damaged"),
    "one digit": (lambda data: data.replace(b"[10]", b"[11]", 1), "damaged"),
    "no schema": (
        lambda data: data.replace(b'"schema": 1', b'"schema": {}'),
        "damaged",
    ),
    "no start": (lambda data: reframed(data, start_ns=None), "damaged"),
    "no JSON": (lambda data: reframed(data, body=b"nothing"), "damaged"),
    "deep JSON": (lambda data: reframed(data, body=b"[" * 100_000), "damaged"),
    "other JSON": (lambda data: reframed(data, body=b"[1]"), "damaged"),
    "no metric": (lambda data: reframed(data, body=b"[{}, [], [], 0, []]"), "damaged"),
    "no ASCII": (lambda data: reframed(data, body="é".encode()), "damaged"),
    "a tag": (
        lambda data: edited(data, lambda it: it.__setitem__(0, {"a": 1})),
        "damaged",
    ),
    "text": (lambda data: edited(data, lambda it: it.__setitem__(1, ["1"])), "damaged"),
    "true": (
        lambda data: edited(data, lambda it: it.__setitem__(1, [True])),
        "damaged",
    ),
    "NaN": (
        lambda data: edited(data, lambda it: it.__setitem__(1, [float("nan")])),
        "damaged",
    ),
    "huge": (
        lambda data: edited(data, lambda it: it.__setitem__(1, [10**999])),
        "damaged",
    ),
    "counts": (
        lambda data: edited(data, lambda it: it.__setitem__(2, [[1, 0.5]])),
        "damaged",
    ),
    "short": (lambda data: edited(data, lambda it: it.clear()), "damaged"),
    "a later version": (
        lambda data: reframed(data, schema=2, crc32=0),
        "future_version",
    ),
    "somebody's": (lambda data: b'{"format": "other"}\n', "foreign"),
    "binary": (lambda data: bytes(range(255, 0, -1)), "foreign"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=[*DAMAGES])
def test_a_file_that_cannot_be_used_is_skipped_and_counted(
    process: Process, living: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    living.write_bytes(damage(living.read_bytes()))

    assert process.total() == 1
    assert process.total() == 1
    process.shared.publish()
    assert process.shared.problems() == {reason: 1}


@given(st.data())
@settings(max_examples=200)
def test_no_change_of_a_file_is_read_as_something_else(data: st.DataObject) -> None:
    """One byte or more, anywhere."""
    original = _EXAMPLE
    position = data.draw(st.integers(0, len(original) - 1))
    insert = data.draw(st.binary(max_size=3))
    removed = data.draw(st.integers(0, 3))
    changed = original[:position] + insert + original[position + removed :]
    families = decode(original).families
    with suppress(UnusableError):
        assert decode(changed).families == families


_BODY = (
    b'{"name": "a.b.tokens", "kind": "Sum", "unit": "", "scale": "1", '
    b'"is_monotonic": true, "tag_names": [], "buckets": []}\n'
    b"[{}, [10], [], 0, []]"
)
_EXAMPLE = (
    b'{"format": "llmevents-prometheus", "schema": 1, "id": "0", '
    b'"crc32": %d, "start_ns": 7, "folded": []}\n%b' % (crc32(_BODY), _BODY)
)


def test_the_format_stays_as_it_is(process: Process, directory: Path) -> None:
    """A file of this version, word for word: others have been written by now."""
    (directory / FOREIGN_NAME).write_bytes(_EXAMPLE)

    assert process.total() == 11
    process.shared.publish()
    assert files(directory)[:2] == ["ended-v1.json", "lock"]
    assert process.total() == 11


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    ],
    ids=["directory", "pipe", "device", "loop", "socket"],
)
@pytest.mark.parametrize("name", [FOREIGN_NAME, ENDED])
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_is_in_the_way_keeps_nobody_waiting(
    process: Process,
    living: Path,
    make: Callable[[Path], object],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(living.parent)
    make(Path(name))

    assert process.total() == 11
    assert process.total() == 11
    assert process.shared.problems()["unreadable"] == 1
    process.shared.publish()
    assert process.total() == 11


@pytest.mark.parametrize("name", [FOREIGN_NAME, ENDED])
def test_links_are_not_followed(process: Process, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").write_bytes(_EXAMPLE)
    (tmp_path / "shared" / name).symlink_to("../elsewhere")

    assert process.total() == 1
    process.shared.publish()
    assert process.total() == 1
    assert (tmp_path / "elsewhere").exists()


def test_files_of_others_are_counted_once_and_left_alone(
    process: Process, directory: Path
) -> None:
    for name in ("counter_12.db", "ended-v2.json", "process-1.json"):
        (directory / name).write_bytes(b"{}")
    for _ in range(3):
        assert process.total() == 1
        process.shared.publish()

    assert process.shared.problems() == {"foreign": 2, "future_version": 1}
    assert {"counter_12.db", "ended-v2.json", "process-1.json"} <= {*files(directory)}
    (directory / "counter_12.db").unlink()
    process.total()
    (directory / "counter_12.db").write_bytes(b"{}")
    process.total()
    assert process.shared.problems()["foreign"] == 3


@pytest.mark.parametrize("data", [b"", b'{"format": "llmevents-prometheus", "sch'])
def test_what_a_power_cut_leaves_is_removed(
    process: Process, directory: Path, data: bytes
) -> None:
    """A file can be empty then. Whose it was is no more."""
    (directory / FOREIGN_NAME).write_bytes(data)
    (directory / f"{FOREIGN_NAME}.tmp").write_bytes(data)
    long_ago = time.time() - 3600
    os.utime(directory / f"{FOREIGN_NAME}.tmp", (long_ago, long_ago))
    (directory / "process-2-0123456789abcdef.json.tmp").write_bytes(data)
    process.shared.publish()

    assert [name for name in files(directory) if name.startswith("process-1-")] == []
    assert "process-2-0123456789abcdef.json.tmp" in files(directory)
    assert process.total() == 1


def test_damaged_numbers_of_the_ended_are_set_aside(
    process: Process, directory: Path
) -> None:
    ended(directory, 10)
    (directory / ENDED).write_bytes((directory / ENDED).read_bytes()[:-1])
    assert process.total() == 1
    ended(directory, 100)

    assert process.total() == 101
    assert "ended-v1.damaged" in files(directory)


def test_a_directory_that_is_emptied_is_filled_again(
    process: Process, living: Path
) -> None:
    """Everybody who lives writes again."""
    shutil.rmtree(living.parent)
    assert process.total() == 1
    process.emit()
    assert process.total() == 2

    assert [kind_of(name) for name in files(living.parent)] == ["process"]


def test_a_directory_that_is_gone_shows_nothing(directory: Path) -> None:
    process = Process(directory)
    shutil.rmtree(directory)
    assert process.total() == 0
    assert process.shared.problems() == {}
    process.stop()


@pytest.mark.parametrize("name", ["a file", "below a file"])
def test_a_directory_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / ("" if name == "a file" else "directory")
    shared = SharedSnapshots(str(path))

    with pytest.raises(
        OptionError, match=r"files can be written and locked \(.*\), got"
    ):
        shared.start(MetricStore([]))


def test_a_directory_that_everybody_can_write_to_is_warned_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    shared = SharedSnapshots(str(tmp_path))
    with pytest.warns(RuntimeWarning, match="run: chmod o-w"):
        shared.start(MetricStore([]))
    shared.stop(SECONDS)


# --- Calls that fail -------------------------------------------------------------


@contextmanager
def failing(call: str, code: int) -> Iterator[None]:
    """Let one of the system's calls fail in this thread's work."""

    def fail(*_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fail)
        yield


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("write", errno.ENOSPC),
        ("open", errno.EMFILE),
        ("rename", errno.EROFS),
        ("listdir", errno.EIO),
    ],
)
def test_what_cannot_be_written_now_is_written_later(
    process: Process, directory: Path, call: str, code: int
) -> None:
    with failing(call, code):
        process.emit()
        process.shared.publish()
    assert process.shared.problems()["write_error"] >= 1
    process.shared.publish()

    assert not [name for name in files(directory) if name.endswith(".tmp")]
    other = Process(directory)
    assert other.total() == 2
    other.stop()


@pytest.mark.parametrize(
    ("call", "code"),
    [("open", errno.EMFILE), ("read", errno.EIO), ("listdir", errno.EIO)],
)
def test_what_cannot_be_read_now_is_shown_as_it_was(
    process: Process, living: Path, call: str, code: int
) -> None:
    """To show less, and more the next time, would be a false alarm."""
    assert process.total() == 11
    with failing(call, code):
        assert process.total() == 11

    assert process.shared.problems()["read_error"] == 1
    assert process.total() == 11


def test_a_disk_that_writes_little_by_little_is_no_problem(
    process: Process, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda to, data: write(to, data[:7]))
        process.emit()
        process.shared.publish()
    other = Process(directory)

    assert other.total() == 2
    other.stop()


def test_a_failed_move_loses_nothing(process: Process, directory: Path) -> None:
    """Disk full, for example."""
    with failing("rename", errno.ENOSPC):
        ended(directory, 10)  # could not even write
    other = Process(directory)
    other.emit(10)
    other.shared.publish()
    with failing("rename", errno.ENOSPC):
        other.stop()
        process.shared.publish()
    assert process.total() == 11
    process.shared.publish()

    assert process.total() == 11
    assert ENDED in files(directory)


def test_two_do_not_move_at_once(process: Process, directory: Path) -> None:
    with SharedDirectory(str(directory)).exclusive() as is_acquired:
        ended(directory, 10)
        process.shared.publish()
        assert is_acquired
        assert ENDED not in files(directory)
        assert process.total() == 11
    process.shared.publish()

    assert ENDED in files(directory)
    assert process.total() == 11


# --- Moves that are cut off ------------------------------------------------------

CALLS = ("open", "write", "rename", "unlink", "close", "listdir", "read")


def cut_off(directory: Path, steps: int) -> bool:
    """Tidy up in a process that dies at a given step; return whether it did."""
    pid = os.fork()
    if pid == 0:
        countdown = iter(range(steps))

        def wrap(call: Callable[..., object]) -> Callable[..., object]:
            def dying(*args: object, **options: object) -> object:
                if next(countdown, None) is None:
                    os._exit(99)
                return call(*args, **options)

            return dying

        status = 1
        try:
            process = Process(directory)
            for name in CALLS:
                setattr(os, name, wrap(getattr(os, name)))
            process.shared.publish()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 99)
    return status == 99


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_move_that_is_cut_off_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """At each single step of it, twice in a row."""
    template = tmp_path / "template"
    with SharedDirectory(str(prepared(template))).exclusive():
        for tokens in (10, 100):
            ended(template, tokens)
    steps = 0
    while True:
        directory = tmp_path / str(steps)
        shutil.copytree(template, directory)
        was_cut_off = cut_off(directory, steps)
        cut_off(directory, steps // 2)
        witness = Process(directory)
        assert witness.total() == 110, steps
        witness.shared.publish()
        assert witness.total() == 110, steps
        witness.shared.publish()
        kinds = {kind_of(name) for name in files(directory)}
        assert "process" not in kinds, steps
        witness.stop()
        if not was_cut_off:
            break
        steps += 1

    assert steps > 15  # or the test has missed what it is about


def prepared(directory: Path) -> Path:
    SharedDirectory(str(directory)).prepare()
    return directory


def test_a_scrape_during_a_move_sees_all_or_nothing_of_it(
    process: Process, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any moment of the reading, as it happens to fall."""
    read = SharedDirectory.read
    names = SharedDirectory.names
    busy = False

    def move() -> None:
        nonlocal busy
        if not busy:
            busy = True
            other = next(moving, None)
            if other is not None:
                other.stop()
            busy = False

    def reading(self: SharedDirectory, name: str, **options: bool) -> object:
        move()
        found = read(self, name, **options)
        move()
        return found

    def listing(self: SharedDirectory) -> list[str]:
        found = names(self)
        move()
        return found

    for count in range(1, 8):
        others = [Process(directory) for _ in range(count)]
        for other in others:
            other.emit()
            other.shared.publish()
        before = process.total()
        moving = iter(others)
        with monkeypatch.context() as patch:
            patch.setattr(SharedDirectory, "read", reading)
            patch.setattr(SharedDirectory, "names", listing)
            assert process.total() == before
        for other in others:
            other.stop()
        assert process.total() == before


def test_a_file_that_is_replaced_while_it_is_opened_is_no_dead_one(
    process: Process, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner has let go of what it replaced, and lives."""
    other = Process(directory)
    other.emit(10)
    other.shared.publish()
    open_ = SharedDirectory._open
    turns = iter(range(2))

    def opening(self: SharedDirectory, name: str) -> int | None:
        descriptor = open_(self, name)
        if name.startswith("process-") and next(turns, None) is not None:
            other.emit(10)
            other.shared.publish()
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(SharedDirectory, "_open", opening)
        process.shared.publish()

    assert ENDED not in files(directory)
    assert process.total() == 31
    other.stop()
