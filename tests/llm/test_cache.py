"""Cache events: what is emitted, what keys look like, and that it costs nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmevents
from llmevents import Bus
from llmevents.llm.cache import Cache, ObservedCache, byte_size, hash_key
from llmevents.llm.cache._events import ABSENT
from llmevents.metrics import MetricStore, presets
from llmevents.testing import CapturedEvents, capture
from tests.metrics.readings import value, values


Told = list[tuple[str, dict[str, Any]]]

EVENTS = ("hit", "miss", "put", "evicted")


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    """Collect what this bus emits about caches."""
    with capture("llm.cache.*", bus=bus, scope="process") as captured:
        yield captured


def told(events: CapturedEvents) -> Told:
    """Return what happened and the measurements of it."""
    return [(event.event[-1], dict(event.measurements)) for event in events]


def tell(cache: Cache, what: str, *key: object, **numbers: int) -> None:
    """Call the method named *what*."""
    method: Callable[..., None] = getattr(cache, what)
    method(*key, **numbers)


@pytest.mark.parametrize("what", EVENTS)
def test_a_method_emits_the_event_of_its_name(
    bus: Bus, events: CapturedEvents, what: str
) -> None:
    tell(Cache("answers", {"tenant": "acme"}, bus=bus), what, "q", count=2, size=90)
    (event,) = events
    assert event.name == f"llm.cache.{what}"
    assert event.measurements == {"count": 2, "size": 90}
    assert event.metadata == {
        "tenant": "acme",
        "cache": "answers",
        "key": hash_key("q"),
    }


@pytest.mark.parametrize("what", EVENTS)
def test_events_are_emitted_on_the_default_bus(what: str) -> None:
    with capture("llm.cache.*") as events:
        tell(Cache("answers"), what)
    assert events.names() == [f"llm.cache.{what}"]
    assert events[0].metadata == {"cache": "answers"}


@pytest.mark.parametrize("what", EVENTS)
def test_nothing_is_made_while_nobody_listens(what: str) -> None:
    """One look-up is all: not even the key is hashed."""
    key = Unprintable()
    tell(Cache("answers", bus=Bus()), what, key)
    assert key.asked == 0


def test_an_object_speaks_for_its_cache(bus: Bus, events: CapturedEvents) -> None:
    answers = Cache("answers", {"model": "tiny-1"}, bus=bus)
    answers.hit("q", entry_size=5, size=50)
    answers.miss("q", size=50)
    answers.put("q", entry_size=5, size=55)
    answers.evicted("q", entry_size=5, size=50)
    assert told(events) == [
        ("hit", {"count": 1, "entry_size": 5, "size": 50}),
        ("miss", {"count": 1, "size": 50}),
        ("put", {"count": 1, "entry_size": 5, "size": 55}),
        ("evicted", {"count": 1, "entry_size": 5, "size": 50}),
    ]
    assert {event.metadata["model"] for event in events} == {"tiny-1"}


def test_odd_numbers_are_dropped_and_counted(bus: Bus, events: CapturedEvents) -> None:
    odd: Any = "many"
    Cache("answers", bus=bus).put(count=math.nan, entry_size=odd, size=3)  # type: ignore[arg-type]  # what is tested
    assert told(events) == [("put", {"size": 3})]
    assert bus.stats()["refused_values"] == 2


def test_secrets_are_taken_out_of_names_and_keys(
    bus: Bus, events: CapturedEvents
) -> None:
    secret = "sk-proj-0123456789abcdefghij"  # noqa: S105  # none
    named = Cache(secret, {"api_key": secret}, bus=bus, show_key=True)
    named.hit(secret)
    assert len(events) == 1
    assert "0123456789abcdefghij" not in repr(events)


def test_a_key_is_shown_only_if_asked_for(bus: Bus, events: CapturedEvents) -> None:
    Cache("answers", bus=bus).hit("a prompt")
    Cache("answers", bus=bus, show_key=True).hit(("a prompt", 7))
    Cache("answers", bus=bus, secret=b"pepper").hit("a prompt")
    shown = [event.metadata["key"] for event in events]
    assert shown == [
        hash_key("a prompt"),
        ["a prompt", 7],
        hash_key("a prompt", secret=b"pepper"),
    ]
    assert len(set(map(str, shown))) == 3


def test_none_is_a_key_and_no_key_is_none(bus: Bus, events: CapturedEvents) -> None:
    answers = Cache("answers", bus=bus)
    answers.hit(None)
    answers.hit()
    assert events[0].metadata["key"] == hash_key(None)
    assert "key" not in events[1].metadata


# --- Hashes of keys --------------------------------------------------------------


class Unprintable:
    """A key whose text raises, and counts how often it was asked for."""

    asked = 0

    def __repr__(self) -> str:
        self.asked += 1
        raise LookupError


@dataclass(frozen=True)
class Question:
    text: str


KEYS: dict[str, object] = {
    "text": "grüße \ud800",
    "bytes": b"\x00\xff",
    "pair": ("a", 1),
    "nested": ("a", (1.5, None, True), frozenset({"x", "y"})),
    "mapping": {"b": [1], "a": {"c"}},
    "record": Question("why?"),
}


def test_a_hash_is_the_same_in_every_process() -> None:
    """Python's own hash of text is not: it is salted."""
    keys = {name: key for name, key in KEYS.items() if name != "record"}
    source = (
        "from llmevents.llm.cache import hash_key\n"
        f"print([hash_key(key) for key in {list(keys.values())!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([hash_key(key) for key in keys.values()])
    assert hash_key("text") == "913a15a24ac218833642102592a9a922"


@pytest.mark.parametrize("name", KEYS)
def test_a_hash_never_contains_the_key(name: str) -> None:
    hashed = hash_key(KEYS[name])
    assert hashed is not None
    assert len(hashed) == 32
    assert set(hashed) <= set("0123456789abcdef")


def test_keys_that_look_alike_have_hashes_of_their_own() -> None:
    alike: list[object] = [
        "1", b"1", 1, 1.0, True, None, "None", "", (), ("",), ("", ""), ("ab",),
        ("a", "b"), (("a",), "b"), ("a", ("b",)), "ab", frozenset({"ab"}), {"a": "b"},
    ]  # fmt: skip
    assert len({hash_key(key) for key in alike}) == len(alike)


def test_the_order_of_a_set_or_dict_does_not_matter() -> None:
    assert hash_key({"a": 1, "b": 2}) == hash_key({"b": 2, "a": 1})
    assert hash_key({"x", "y", "z"}) == hash_key({"z", "y", "x"})
    assert hash_key(bytearray(b"a")) == hash_key(memoryview(b"a")) == hash_key(b"a")


def test_a_secret_of_any_length_keys_the_hash() -> None:
    secrets = [b"", b"a", b"a" * 64, b"a" * 65, b"b" * 65]
    assert len({hash_key("q", secret=secret) for secret in secrets}) == len(secrets)


def test_what_has_no_lasting_text_has_no_hash() -> None:
    """An address would be another one in the next process, and tell nothing."""
    endless: list[object] = []
    endless.append(endless)
    for key in (object(), (1, object()), Unprintable(), endless):
        assert hash_key(key) is None


ANY_KEY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(ANY_KEY)
def test_any_plain_key_has_one_hash(key: object) -> None:
    assert hash_key(key) == hash_key(key) is not None


# --- A cache that is observed ----------------------------------------------------


class Newest(OrderedDict[str, Any]):
    """A cache that keeps so many entries and drops the oldest, as cachetools' do."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: str, value: object) -> None:
        super().__setitem__(key, value)
        while len(self) > self.most:
            del self[next(iter(self))]


@pytest.fixture
def answers(bus: Bus) -> ObservedCache[str, Any]:
    return ObservedCache({}, "answers", bus=bus)


def test_a_cache_may_share_the_events_of_another(
    bus: Bus, events: CapturedEvents
) -> None:
    shared = Cache("answers", {"tier": "memory"}, bus=bus)
    answers: ObservedCache[str, Any] = ObservedCache({}, shared)
    answers["a"] = 1
    assert answers.events is shared
    assert events[0].metadata["tier"] == "memory"
    assert repr(ABSENT) == "<absent>"


def test_the_count_begins_anew_in_a_forked_child(
    answers: ObservedCache[str, Any], events: CapturedEvents
) -> None:
    answers["a"] = answers["b"] = 1
    answers.inner.clear()
    answers._account.after_fork_in_child()
    answers["c"] = 1
    assert [what for what, _ in told(events)] == ["put", "put", "put"]


def test_look_ups_are_hits_and_misses(
    answers: ObservedCache[str, Any], events: CapturedEvents
) -> None:
    answers.inner["a"] = "grün"
    assert answers["a"] == "grün"
    assert answers.get("a") == "grün"
    assert answers.get("b") is None
    with pytest.raises(KeyError, match="'b'"):
        answers["b"]
    assert told(events) == [
        ("hit", {"count": 1, "entry_size": 5}),
        ("hit", {"count": 1, "entry_size": 5}),
        ("miss", {"count": 1}),
        ("miss", {"count": 1}),
    ]
    assert events[3].metadata == {"cache": "answers", "key": hash_key("b")}


def test_looking_around_is_silent(
    answers: ObservedCache[str, Any], events: CapturedEvents
) -> None:
    answers.inner["a"] = 1
    assert "a" in answers
    assert "b" not in answers
    assert (len(answers), list(answers), answers.look_up("a")) == (1, ["a"], 1)
    assert repr(answers) == "ObservedCache({'a': 1}, 'answers')"
    assert events == []


def test_changes_are_puts_and_evictions(
    answers: ObservedCache[str, Any], events: CapturedEvents
) -> None:
    answers["a"] = b"12"
    answers["a"] = b"123"
    answers.update(b=None, c="x")
    del answers["a"]
    assert answers.pop("b") is None
    assert answers.popitem() == ("c", "x")
    answers["d"] = memoryview(b"1234")
    answers["e"] = bytearray(b"12345")
    answers.clear()
    answers.clear()
    assert told(events) == [
        ("put", {"count": 1, "entry_size": 2}),
        ("put", {"count": 1, "entry_size": 3}),
        ("put", {"count": 1}),
        ("put", {"count": 1, "entry_size": 1}),
        ("evicted", {"count": 1}),
        ("evicted", {"count": 1}),
        ("evicted", {"count": 1, "entry_size": 1}),
        ("put", {"count": 1, "entry_size": 4}),
        ("put", {"count": 1, "entry_size": 5}),
        ("evicted", {"count": 2}),
    ]


def test_setdefault_is_a_hit_or_a_miss_and_a_put(
    answers: ObservedCache[str, Any], events: CapturedEvents
) -> None:
    assert answers.setdefault("a", "x") == "x"
    assert answers.setdefault("a", "y") == "x"
    assert [what for what, _ in told(events)] == ["miss", "put", "hit"]


def test_what_is_not_there_cannot_be_removed(
    answers: ObservedCache[str, Any], events: CapturedEvents
) -> None:
    with pytest.raises(KeyError, match="'a'"):
        del answers["a"]
    with pytest.raises(KeyError, match="'a'"):
        answers.pop("a")
    with pytest.raises(KeyError, match="empty"):
        answers.popitem()
    assert answers.pop("a", None) is None
    assert events == []


def test_a_cache_that_was_full_before_counts_what_it_drops(
    bus: Bus, events: CapturedEvents
) -> None:
    inner = Newest(2)
    inner["a"] = inner["b"] = "x"
    answers = ObservedCache(inner, "answers", bus=bus)
    answers["c"] = "x"
    answers["c"] = "y"
    inner.most = 1
    answers["d"] = "x"
    assert told(events) == [
        ("put", {"count": 1, "entry_size": 1}),
        ("evicted", {"count": 1}),
        ("put", {"count": 1, "entry_size": 1}),
        ("put", {"count": 1, "entry_size": 1}),
        ("evicted", {"count": 2}),
    ]
    assert "key" not in events[1].metadata


def test_entries_that_expired_are_counted_at_the_next_change(
    bus: Bus, events: CapturedEvents
) -> None:
    inner: dict[str, int] = {}
    answers = ObservedCache(inner, "answers", bus=bus)
    answers["a"] = answers["b"] = answers["c"] = 1
    del inner["a"], inner["b"]  # as a cache with a time to live does
    del answers["c"]
    whats = [(what, numbers["count"]) for what, numbers in told(events)]
    assert whats[3:] == [("evicted", 1), ("evicted", 2)]


def test_the_size_of_the_cache_is_stated_after_each_change(
    bus: Bus, events: CapturedEvents
) -> None:
    def total(inner: MutableMapping[str, str]) -> int:
        return sum(map(len, inner.values()))

    answers = ObservedCache({"a": "xx"}, "answers", bus=bus, size=total)
    answers["b"] = "xxx"
    del answers["a"]
    sizes = [numbers["size"] for _, numbers in told(events)]
    assert sizes == [5, 3]


def test_the_metrics_of_a_cache_add_up() -> None:
    bus = Bus(strict=True)
    store = MetricStore(presets.cache())
    store.attach(bus)
    answers: ObservedCache[str, Any] = ObservedCache(
        {}, "answers", bus=bus, size=lambda inner: sum(map(len, inner.values()))
    )
    for key in "abcab":
        if answers.get(key) is None:
            answers[key] = key * 10
    assert value(store, "llm.cache.hits.total") == 2
    assert value(store, "llm.cache.misses.total") == 3
    assert value(store, "llm.cache.size.bytes") == 30
    assert set(values(store, "llm.cache.hits.total")) == {(("cache", "answers"),)}


def test_a_size_that_cannot_be_told_is_left_out_and_counted(
    bus: Bus, events: CapturedEvents
) -> None:
    def broken(of: object) -> int:
        raise LookupError

    answers: ObservedCache[str, Any] = ObservedCache(
        {}, "answers", bus=bus, sizeof=broken, size=broken
    )
    answers["a"] = 1
    assert answers["a"] == 1
    assert told(events) == [("put", {"count": 1}), ("hit", {"count": 1})]
    assert bus.stats()["refused_values"] == 3
    assert byte_size(3) is None


def test_while_nobody_listens_the_cache_is_only_used() -> None:
    def broken(of: object) -> int:
        raise LookupError

    bus = Bus()
    inner: dict[str, int] = {}
    answers = ObservedCache(inner, "answers", bus=bus, sizeof=broken, size=broken)
    answers["a"] = answers["b"] = answers["c"] = 1
    assert answers["a"] == answers.setdefault("a", 2) == answers.pop("a") == 1
    del answers["b"]
    assert answers.popitem() == ("c", 1)
    answers.clear()
    assert answers.setdefault("d", 4) == 4
    assert inner == {"d": 4}
    assert answers.pop("e", 5) == 5
    with pytest.raises(KeyError, match="'e'"):
        answers.pop("e")
    assert bus.stats()["refused_values"] == 0


def test_the_count_begins_anew_when_somebody_listens_again(bus: Bus) -> None:
    answers: ObservedCache[str, Any] = ObservedCache({}, "answers", bus=bus)
    with capture("llm.cache.*", bus=bus):
        answers["a"] = 1
    del answers["a"]
    with capture("llm.cache.*", bus=bus) as events:
        answers["b"] = 1
    assert told(events) == [("put", {"count": 1})]


def test_what_the_cache_raises_is_raised(
    answers: ObservedCache[Any, Any], events: CapturedEvents
) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        answers[[]] = 1
    with pytest.raises(TypeError, match="unhashable"):
        answers.get([])
    assert events == []


def test_a_handler_may_use_the_cache(bus: Bus) -> None:
    """Events are emitted after the lock is released."""
    answers: ObservedCache[str, Any] = ObservedCache({}, "answers", bus=bus)

    def again(*given: object) -> None:
        if "b" not in answers:
            answers["b"] = 2

    bus.attach("again", "llm.cache.put", again, on_failure="raise")
    answers["a"] = 1
    assert dict(answers.inner) == {"a": 1, "b": 2}


@pytest.fixture(autouse=True)
def nothing_stays_attached() -> Iterator[None]:
    before = llmevents.list_handlers()
    yield
    assert llmevents.list_handlers() == before
