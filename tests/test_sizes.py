"""The size of an event is guessed fast, and not wildly wrong."""

from __future__ import annotations

import pytest

from llmevents._sizes import ENTRY_SIZE, EVENT_SIZE, MAX_LOOKED_AT, estimate_size


def size_of(value: object) -> int:
    """Return what *value* adds to an event as metadata."""
    return estimate_size({}, {"key": value}) - EVENT_SIZE - ENTRY_SIZE


def test_measurements_and_keys_count() -> None:
    assert estimate_size({}, {}) == EVENT_SIZE
    assert estimate_size({"n": 1}, {"a": 1, "b": None}) == EVENT_SIZE + 3 * ENTRY_SIZE


@pytest.mark.parametrize(
    ("value", "least"),
    [
        ("x" * 1_000, 1_000),
        ("€" * 1_000, 2_000),
        (b"x" * 1_000, 1_000),
        (["x" * 1_000], 1_000),
        (({"role": "user", "content": [{"text": "x" * 1_000}]},), 1_000),
        ({"a", "b"}, 2 * 50),
        (object(), ENTRY_SIZE),
    ],
    ids=["text", "wide", "bytes", "list", "messages", "set", "object"],
)
def test_what_a_value_holds_counts(value: object, least: int) -> None:
    assert least <= size_of(value) <= least + 6 * ENTRY_SIZE


@pytest.mark.parametrize("value", [1, 1.5, True, None], ids=str)
def test_numbers_are_part_of_their_entry(value: object) -> None:
    assert size_of(value) == 0


def test_a_long_list_is_not_read_to_its_end() -> None:
    """The values beyond are taken to be like those that were looked at."""
    text = "x" * 951
    value = [text] * 1_000_000

    assert size_of(value) == pytest.approx(1_000 * len(value), rel=0.05)
    assert size_of([value, value]) == pytest.approx(2_000 * len(value), rel=0.05)


def test_many_lists_are_taken_to_be_like_the_first() -> None:
    vector = [0.5] * 1_536

    assert size_of([vector] * 100) == pytest.approx(
        ENTRY_SIZE * 100 * len(vector), rel=0.05
    )


def test_cycles_end() -> None:
    cycle: list[object] = []
    cycle.append(cycle)

    assert size_of(cycle) == pytest.approx(MAX_LOOKED_AT * ENTRY_SIZE, rel=0.05)


class HostileClass(type):
    def __hash__(cls) -> int:
        raise AssertionError

    def __eq__(cls, other: object) -> bool:
        raise AssertionError


class Hostile(str, metaclass=HostileClass):
    __slots__ = ()

    def __len__(self) -> int:
        raise AssertionError


def test_no_code_of_a_value_runs() -> None:
    assert size_of(Hostile()) == ENTRY_SIZE
    assert size_of([Hostile()]) == 2 * ENTRY_SIZE
