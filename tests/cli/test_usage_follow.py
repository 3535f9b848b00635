"""``llmevents usage tail`` and what it follows."""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llmevents.cli import _usage_follow as following
from llmevents.cli import _usage_tail
from llmevents.cli._usage_follow import Follower, JsonlFollower, SqlFollower, follow
from llmevents.cli._usage_options import Selection
from llmevents.ledger import JsonlStore, Record, Rotation, SqlStore, encode
from llmevents.ledger._open import StoreNotFoundError, find
from llmevents.ledger._query import Filter
from llmevents.ledger._record import timestamp
from llmevents.ledger._rotation import pack
from tests.cli.test_usage_store import Terminal
from tests.cli.usage_stores import NOW, add, call, store, usage
from tests.ledger.sqlstores import running_server, why_no_server


@pytest.fixture(params=["jsonl", "sqlite"])
def growing(nothing_set: Path, request: pytest.FixtureRequest) -> str:
    """A store that a test adds to."""
    return store(request.param, nothing_set, [call(1)])


@contextmanager
def followed(where: str) -> Iterator[Callable[[], list[str]]]:
    """Give what returns the ids of the records that came."""
    follower = follow(where)
    try:
        yield lambda: [record["id"] for record in follower.poll()]
    finally:
        follower.close()


def test_what_comes_is_given_once_and_in_order(growing: str) -> None:
    with followed(growing) as new:
        assert new() == []
        add(growing, call(3))
        add(growing, call(2, hours_ago=20_000))
        assert new() == ["0003", "0002"]
        assert new() == []
        add(growing, call(4))
        assert new() == ["0004"]


def test_many_at_once_are_all_given(
    growing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "BATCH", 3)
    with followed(growing) as new:
        add(growing, *(call(number) for number in range(2, 12)))
        assert new() == [f"{number:04}" for number in range(2, 12)]


def test_an_unfinished_line_is_given_when_it_has_its_end(nothing_set: Path) -> None:
    path = Path(store("jsonl", nothing_set, [call(1)]))
    line = encode(call(2))
    with path.open("ab") as file:
        file.write(line[:20])
    with followed(str(path)) as new, path.open("ab") as file:
        assert new() == []
        file.write(line[20:-1])
        file.flush()
        assert new() == []
        file.write(b"\nno record\n")
        file.flush()
        assert new() == ["0002"]


def test_a_repaired_end_costs_no_record(nothing_set: Path) -> None:
    """A writer cuts off what another one has left, and goes on from there."""
    path = Path(store("jsonl", nothing_set, [call(1)]))
    with followed(str(path)) as new:
        with path.open("ab") as file:
            file.write(b'{"id": "torn')
        assert new() == []
        add(str(path), call(2, model="x" * 100))
        assert new() == ["0002"]


def test_a_file_that_was_emptied_is_followed_from_its_beginning(
    nothing_set: Path,
) -> None:
    path = Path(store("jsonl", nothing_set, [call(1), call(2)]))
    with followed(str(path)) as new:
        path.write_bytes(encode(call(3)))
        assert new() == ["0003"]


def test_a_file_without_any_end_is_read_from_its_beginning(nothing_set: Path) -> None:
    path = nothing_set / "usage.jsonl"
    path.write_bytes(b"x" * 70_000)
    with followed(str(path)) as new, path.open("ab") as file:
        file.write(b"\n" + encode(call(2)))
        file.flush()
        assert new() == ["0002"]


def test_rotation_loses_nothing(nothing_set: Path) -> None:
    """Two files come and go between two looks, one is packed, and all is given."""
    path = Path(store("jsonl", nothing_set, [call(1)]))
    rotation = Rotation(pack=False)
    with followed(str(path)) as new:
        add(str(path), call(2))
        rotation.set_aside(path)
        assert new() == ["0002"]
        add(str(path), call(3))
        pack(rotation.set_aside(path))
        add(str(path), call(4))
        rotation.set_aside(path)
        add(str(path), call(5))
        assert new() == ["0003", "0004", "0005"]
        add(str(path), call(6))
        assert new() == ["0006"]


def test_who_writes_on_after_a_rotation_is_heard(nothing_set: Path) -> None:
    path = Path(store("jsonl", nothing_set, [call(1)]))
    now = 0.0
    follower = JsonlFollower(path, clock=lambda: now)
    with path.open("ab") as late:
        path.rename(path.with_name("usage-20261121T093000000000Z.jsonl"))
        add(str(path), call(2))
        assert [record["id"] for record in follower.poll()] == ["0002"]
        late.write(encode(call(3)))
        late.flush()
        assert [record["id"] for record in follower.poll()] == ["0003"]
        now = following.GRACE + 1
        assert list(follower.poll()) == []
        late.write(encode(call(4)))
        late.flush()
        assert list(follower.poll()) == []
    follower.close()


def test_a_damaged_packed_file_ends_where_it_is_damaged(nothing_set: Path) -> None:
    path = Path(store("jsonl", nothing_set, [call(1)]))
    with followed(str(path)) as new:
        first = path.with_name("usage-20261121T093000000000Z.jsonl")
        path.rename(first)
        packed = gzip.compress(encode(call(2)))
        second = path.with_name("usage-20261121T094000000000Z.jsonl.gz")
        second.write_bytes(packed[:-4])
        add(str(path), call(3))
        assert new()[-1] == "0003"


def test_a_file_that_is_closed_while_it_is_left_is_let_go_of(nothing_set: Path) -> None:
    path = Path(store("jsonl", nothing_set, [call(1)]))
    with followed(str(path)) as new:
        path.unlink()
        add(str(path), call(2))
        assert new() == ["0002"]


def test_what_is_not_there_cannot_be_followed(nothing_set: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="no store at 'gone"):
        follow("gone.jsonl")
    assert usage("tail", "--store", "gone.db").status == 1


@pytest.mark.skipif(bool(why_no_server()), reason=why_no_server() or "it is there")
def test_a_server_is_followed_too(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say in which order rows came, so the recent ones are looked at."""
    monkeypatch.setattr(following, "BATCH", 2)

    def recent(number: int) -> Record:
        return call(number, timestamp=timestamp(time.time_ns()))

    with running_server() as server:
        url = server.new_url()
        kept = SqlStore(url)
        kept.add(recent(1))
        place = find(url).url
        assert place is not None
        follower: Follower = SqlFollower(place)
        kept.add(recent(2), recent(3), recent(4), call(5, hours_ago=20_000))
        assert sorted(one["id"] for one in follower.poll()) == ["0002", "0003", "0004"]
        kept.add(recent(6))
        assert [one["id"] for one in follower.poll()] == ["0006"]
        assert list(follower.poll()) == []
        follower.close()
        kept.close()


@pytest.mark.parametrize(
    ("where", "is_meant"),
    [
        (Filter(), True),
        (Filter(user="ada"), True),
        (Filter(user="grace"), False),
        (Filter(since=NOW.replace(hour=11)), True),
        (Filter(since=NOW), False),
        (Filter(until=NOW), True),
        (Filter(until=NOW.replace(hour=11)), False),
        (Filter(event="llm.task"), False),
    ],
)
def test_the_same_records_are_meant_as_by_an_engine(
    where: Filter, is_meant: bool
) -> None:
    assert following.is_meant(where, call(1, user_id="ada")) is is_meant


def test_tasks_and_what_has_no_time_are_meant_only_if_asked_for() -> None:
    task = call(1, event="llm.task")
    timeless = {"id": "1"}

    assert not following.is_meant(Filter(), task)
    assert following.is_meant(Filter(event="llm.task"), task)
    assert following.is_meant(Filter(), timeless)
    assert not following.is_meant(Filter(since=NOW), timeless)
    assert not following.is_meant(Filter(until=NOW), timeless)


@dataclass
class Work:
    """What happens while a command rests: the next of some steps."""

    steps: list[Callable[[], object]] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        """Take the next step; there must be one."""
        self.steps.pop(0)()


def tail(where: str, work: Work, *, lines: int, last: int = 10, **given: str) -> None:
    selection = Selection(store=where, now=NOW, as_json="user" in given, **given)  # type: ignore[arg-type]  # texts only
    _usage_tail.tail(selection, last=last, lines=lines, interval=9, sleep=work)


def test_the_last_calls_and_those_that_come_are_printed(
    growing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = call(
        3,
        user_id="ada",
        session_id="s",
        source_id="d",
        status="error",
        error_type="Oops",
        http_status=500,
        input_tokens=1_234,
        output_tokens=5,
        cost_nano_usd=517_000,
    )
    work = Work([lambda: add(growing, call(2, event="llm.task"), failed)])

    tail(growing, work, lines=2)

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:5] == ["2026-11-21", "11:00:00", "ok", "gpt-4o", "chat"]
    assert lines[1][2:] == [
        "error",
        "gpt-4o",
        "chat",
        "1,234",
        "+",
        "5",
        "$0.000517",
        "2.00",
        "s",
        "Oops",
        "500",
        "user=ada",
        "session=s",
        "source=d",
    ]


def test_lines_for_programs_are_records(
    growing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = call(4, user_id="ada")
    work = Work([lambda: None, lambda: add(growing, call(3, user_id="grace"), mine)])

    tail(growing, work, lines=1, last=0, user="ada")

    assert json.loads(capsys.readouterr().out) == mine


def test_of_the_calls_that_are_there_the_last_ones_are_meant(
    growing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add(growing, *(call(number, hours_ago=1 / number) for number in range(2, 6)))

    tail(growing, Work(), lines=2)

    times = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert times == ["11:45:00", "11:48:00"]


def test_a_person_is_told_what_the_columns_are(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store("sqlite", nothing_set, [call(1, model="x" * 200)])
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")

    tail(kept, Work(), lines=1)

    titles, line = terminal.text.splitlines()
    assert titles.split() == [
        "UTC",
        "Status",
        "Model",
        "Input",
        "+",
        "output",
        "Cost",
        "Took",
    ]
    assert line.startswith("11:00:00  ok         xxx")
    assert len(line) == 80


def test_a_line_for_a_narrow_terminal_is_short() -> None:
    line = _usage_tail.line_of(call(1, user_id="ada"), is_wide=False)

    assert line.split() == (
        f"11:00:00 ok gpt-4o {'–'} {'–'} 2.00 s user=ada".split()  # noqa: RUF001  # it stands for the unknown
    )


def test_a_store_that_is_appended_to_by_its_writer_is_followed(
    nothing_set: Path,
) -> None:
    path = nothing_set / "usage.jsonl"
    writer = JsonlStore(path, rotation=Rotation(size=1_000, pack=False))
    writer.add(call(0))
    with followed(str(path)) as new:
        for number in range(1, 20):
            writer.add(call(number))
            assert new() == [f"{number:04}"]
    writer.close()
