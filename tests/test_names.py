"""Event names and patterns are read strictly, and matched as written down."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmevents import Bus, EventNameError
from llmevents._names import (
    dotted,
    is_pattern,
    matches,
    parse_events,
    parse_name,
    parse_pattern,
)


Segments = tuple[str, ...]

on_any_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

segments = st.text(
    st.characters(exclude_characters=".*", exclude_categories=["C", "Z"]),
    min_size=1,
    max_size=5,
)
names = st.lists(st.sampled_from("abc"), min_size=1, max_size=7).map(tuple)
patterns = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=7).map(
    tuple
)


# --- Reading ---------------------------------------------------------------------


@on_any_machine
@given(st.lists(segments, min_size=1, max_size=6).map(tuple))
def test_dotted_text_and_tuple_are_the_same_name(name: Segments) -> None:
    assert parse_name(".".join(name)) == parse_name(name) == name
    assert dotted(name) == dotted(".".join(name)) == ".".join(name)


@on_any_machine
@given(patterns)
def test_dotted_text_and_tuple_are_the_same_pattern(pattern: Segments) -> None:
    assert parse_pattern(".".join(pattern)) == parse_pattern(pattern) == pattern
    assert is_pattern(pattern) == ("*" in ".".join(pattern))


@on_any_machine
@given(st.text(max_size=12) | st.lists(st.text(max_size=4), max_size=4).map(tuple))
def test_any_text_is_a_name_or_a_name_error(name: object) -> None:
    """No other error, and what is accepted can be written either way."""
    try:
        read = parse_name(name)
    except EventNameError:
        return
    assert parse_name(dotted(read)) == read


@pytest.mark.parametrize("empty", ["", ()], ids=["text", "tuple"])
def test_a_prefix_may_be_empty(empty: str | Segments) -> None:
    assert parse_name(empty, may_be_empty=True) == ()


BAD_SEGMENTS = [
    pytest.param("", "empty", "it is empty; write 'llm.chat.stop'", id="empty text"),
    pytest.param((), "empty", "it is empty; write 'llm.chat.stop'", id="empty tuple"),
    pytest.param(".", "empty segment", "remove the extra dot", id="dot"),
    pytest.param(".a", "empty segment", "remove the extra dot", id="leading dot"),
    pytest.param("a.", "empty segment", "remove the extra dot", id="trailing dot"),
    pytest.param("a..b", "empty segment", "remove the extra dot", id="doubled dot"),
    pytest.param(("a", ""), "empty segment", "remove", id="empty segment"),
    pytest.param(("a.b",), "contains a dot", "split it, or use a list", id="dotted"),
    pytest.param(None, "got NoneType", "write 'llm.chat.stop'", id="none"),
    pytest.param(5, "got int", "write 'llm.chat.stop'", id="number"),
    pytest.param(b"a.b", "got bytes", "write 'llm.chat.stop'", id="bytes"),
    pytest.param({"a"}, "got set", "write 'llm.chat.stop'", id="set"),
    pytest.param(["a"], "got list", "write 'llm.chat.stop'", id="list"),
    pytest.param(("a", 5), "segment 5 is int, not text", "write it", id="mixed"),
    pytest.param(("a", None), "segment None is NoneType", "write it", id="with none"),
    pytest.param(("a", ("b",)), "is tuple, not text", "write it", id="nested"),
    pytest.param("a.b\n", "unprintable characters", "remove", id="newline"),
    pytest.param("a\x1b[31m.b", "unprintable characters", "remove", id="escape"),
    pytest.param("a\0", "unprintable characters", "remove", id="nul"),
    pytest.param("a.\ud800", "unprintable characters", "remove", id="surrogate"),
    pytest.param("a\u2028b", "unprintable characters", "remove", id="line separator"),
    pytest.param("a\u202eb", "unprintable characters", "remove", id="right to left"),
]


@pytest.mark.parametrize(("name", "reason", "remedy"), BAD_SEGMENTS)
def test_a_bad_name_is_refused_with_value_reason_and_remedy(
    name: object, reason: str, remedy: str
) -> None:
    with pytest.raises(EventNameError, match="is not an event name") as caught:
        parse_name(name)
    assert caught.value.name is name
    for part in (repr(name), reason, remedy):
        assert part in str(caught.value)


@pytest.mark.parametrize(("name", "reason", "remedy"), BAD_SEGMENTS)
def test_what_is_no_name_is_no_pattern_either(
    name: object, reason: str, remedy: str
) -> None:
    with pytest.raises(EventNameError, match="is not an event name") as caught:
        parse_pattern(name)
    for part in (repr(name), reason, remedy):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["*", "**", "a.*", "a.b*", ("a", "**")])
def test_a_name_has_no_wildcard(name: str | Segments) -> None:
    with pytest.raises(EventNameError, match=r"only attach\(\) takes patterns"):
        parse_name(name)


@pytest.mark.parametrize("pattern", ["a*", "*a.b", "a.***", ("a", "b**")])
def test_a_wildcard_is_a_whole_segment(pattern: str | Segments) -> None:
    with pytest.raises(
        EventNameError, match=r"must be a whole segment.*write '\*' for one segment"
    ):
        parse_pattern(pattern)


def test_the_error_message_of_a_bad_name_is_printable() -> None:
    """It goes into logs and terminals, whatever was in the name."""
    hostile = "a.\n\r\x1b[2J\u2028\u202e\ud800\0"
    with pytest.raises(EventNameError, match="unprintable characters") as caught:
        parse_name(hostile)
    assert str(caught.value).isprintable()


def test_the_error_message_of_a_huge_name_is_short() -> None:
    """A payload passed in the wrong place must not fill the log."""
    with pytest.raises(EventNameError, match="empty segment") as caught:
        parse_name("a" * 1_000_000 + "..b")
    assert len(str(caught.value)) < 2_000


def test_several_events_are_a_list_without_duplicates_in_order() -> None:
    given_events = ["c.d", ("a", "b"), "a.b", "c.*", "c.d"]
    assert parse_events(given_events) == (("c", "d"), ("a", "b"), ("c", "*"))
    assert parse_events("a.b") == parse_events(["a.b"]) == (("a", "b"),)


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        pytest.param([], "at least one name or pattern", id="empty list"),
        pytest.param(["a.b", ""], "it is empty", id="empty name"),
        pytest.param(["a.b", 5], "expected dotted text or a tuple", id="number"),
        pytest.param(["a.b", None], "expected dotted text or a tuple", id="none"),
        pytest.param([["a.b"]], "expected dotted text or a tuple", id="nested"),
        pytest.param(("a.b", "c.d"), "use a list to name several", id="tuple of names"),
        pytest.param({"a.b"}, "expected dotted text or a tuple", id="set"),
        pytest.param(iter(["a.b"]), "expected dotted text or a tuple", id="iterator"),
    ],
)
def test_bad_events_are_refused(events: object, complaint: str) -> None:
    with pytest.raises(EventNameError, match=complaint):
        parse_events(events)


class Operation(str, Enum):
    """As people name things; it is text, but formats as something else."""

    CHAT = "chat"


class Pair(NamedTuple):
    first: str
    second: str


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(("llm", Operation.CHAT), id="enum segment"),
        pytest.param(Pair("llm", "chat"), id="named tuple"),
    ],
)
def test_handlers_receive_a_plain_tuple_of_plain_text(name: Segments) -> None:
    """Who emits first must not decide what all later handlers are given."""
    bus = Bus()
    received: list[Any] = []
    bus.attach("id", "llm.chat", lambda *call: received.append(call[0]))
    bus.execute(name, {})
    bus.execute(("llm", "chat"), {})
    for event in received:
        assert type(event) is tuple
        assert [type(segment) for segment in event] == [str, str]


# --- Matching --------------------------------------------------------------------


def fits(pattern: Segments, name: Segments) -> bool:
    """Say what `matches` is to mean, without regard to time."""
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(fits(rest, name[taken:]) for taken in range(len(name) + 1))
    return bool(name) and first in ("*", name[0]) and fits(rest, name[1:])


@on_any_machine
@given(patterns, names)
def test_matching_agrees_with_its_definition(pattern: Segments, name: Segments) -> None:
    assert matches(pattern, name) == fits(pattern, name)


@on_any_machine
@given(names, st.data())
def test_a_name_fits_itself_with_any_segment_replaced(
    name: Segments, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(name) - 1))
    length = data.draw(st.integers(0, len(name) - position))
    assert matches(name, name)
    assert matches((*name[:position], "*", *name[position + 1 :]), name)
    assert matches((*name[:position], "**", *name[position + length :]), name)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("llm.**", "llm", True),
        ("llm.**", "llm.chat", True),
        ("llm.**", "llm.chat.stop", True),
        ("llm.**", "llmevents.chat", False),
        ("**", "a", True),
        ("*", "a", True),
        ("*", "a.b", False),
        ("llm.*.stop", "llm.chat.stop", True),
        ("llm.*.stop", "llm.stop", False),
        ("llm.*.stop", "llm.provider.request.stop", False),
        ("llm.**.stop", "llm.stop", True),
        ("llm.**.stop", "llm.provider.request.stop", True),
        ("llm.**.stop", "llm.stop.start", False),
        ("**.**", "a", True),
        ("**.*", "a", True),
        ("*.**.*", "a", False),
        ("**.a.**.b", "a.b.a.c.b", True),
    ],
)
def test_wildcards_match_as_documented(
    pattern: str, name: str, *, expected: bool
) -> None:
    assert matches(parse_pattern(pattern), parse_name(name)) == expected


def test_matching_takes_no_exponential_time() -> None:
    """Twenty wildcards that almost match would take centuries by trying all ways."""
    pattern = parse_pattern(".".join(["**", "a"] * 20 + ["b"]))
    before = time.perf_counter()
    assert not matches(pattern, ("a",) * 400)
    assert time.perf_counter() - before < 1
