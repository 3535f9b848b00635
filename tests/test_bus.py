"""Attach, detach, list, ask, emit: what the bus does and what it refuses."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

import llmevents
from llmevents import (
    Bus,
    EventNameError,
    EventPayloadError,
    HandlerError,
    HandlerExistsError,
    HandlerNotFoundError,
    LLMEventsError,
    OptionError,
    context,
    default_bus,
    span,
)
from llmevents import _bus as bus_module
from llmevents._table import CACHE_LIMIT


if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from 3.11 on

Call = tuple[Any, ...]
"""The four arguments that a handler got."""


def handler(*call: object) -> None:
    """Stand for a handler."""


class Handler:
    """A handler that can be referred to weakly."""

    def __call__(self, *call: object) -> None: ...


def listen(bus: Bus, *events: str) -> list[Call]:
    """Collect the calls of a handler on *events* from now on."""
    calls: list[Call] = []
    bus.attach(object(), list(events), lambda *call: calls.append(call))
    return calls


@pytest.fixture(params=[False, True], ids=["no context", "in context"])
def any_context(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test on the fast path of `execute` and on the careful one."""
    if request.param:
        with context(ambient="yes"):
            yield
    else:
        yield


# --- The default bus -------------------------------------------------------------


def test_the_functions_of_the_package_are_the_default_bus() -> None:
    for name in ("attach", "detach", "execute", "has_handlers", "list_handlers", "on"):
        assert getattr(llmevents, name) == getattr(default_bus, name)
    assert llmevents.stats == default_bus.stats


def test_buses_are_independent() -> None:
    one, other = Bus(), Bus()
    calls = listen(one, "a.b")
    listen(other, "a.b")
    other.execute("a.b", {})
    assert calls == []


# --- Attach and on ---------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["a.b", ("a", "b"), ["a.b"], ["a.*"], "**", ["a.b", "x.y"]], ids=str
)
def test_every_form_of_events_reaches_the_handler(
    form: Any,  # noqa: ANN401  # each form has another type
) -> None:
    bus = Bus()
    calls: list[Call] = []
    bus.attach("id", form, lambda *call: calls.append(call), "config")
    bus.execute("a.b", {"count": 1}, {"user": "u"})
    bus.execute(("a", "b"), {"count": 2}, {"user": "u"})
    assert calls == [
        (("a", "b"), {"count": 1}, {"user": "u"}, "config"),
        (("a", "b"), {"count": 2}, {"user": "u"}, "config"),
    ]


def test_a_list_of_events_may_be_changed_after_attaching() -> None:
    bus = Bus()
    events: list[str | tuple[str, ...]] = ["a.b"]
    bus.attach("id", events, handler)
    events.append("c.d")
    assert not bus.has_handlers("c.d")


@pytest.mark.parametrize(
    ("events", "error", "complaint"),
    [
        pytest.param([], EventNameError, "at least one name", id="empty list"),
        pytest.param("", EventNameError, "it is empty", id="empty name"),
        pytest.param(["a.b", "c..d"], EventNameError, "extra dot", id="one bad"),
        pytest.param(["a.b", 5], EventNameError, "got int", id="mixed list"),
        pytest.param(None, EventNameError, "got NoneType", id="none"),
    ],
)
def test_bad_events_attach_nothing(
    events: Any,  # noqa: ANN401  # of any type, that is the point
    error: type[Exception],
    complaint: str,
) -> None:
    bus = Bus()
    with pytest.raises(error, match=complaint):
        bus.attach("id", events, handler)
    assert bus.list_handlers() == []


def test_a_taken_id_says_how_to_free_it() -> None:
    bus = Bus()
    bus.attach(("my", "id"), "a.b", handler)
    with pytest.raises(
        HandlerExistsError,
        match=r"id \('my', 'id'\) is already attached; call detach\(\('my', 'id'\)\)",
    ) as caught:
        bus.attach(("my", "id"), "a.b", handler)
    assert caught.value.handler_id == ("my", "id")
    assert isinstance(caught.value, ValueError)


def test_the_decorator_attaches_and_returns_the_function() -> None:
    bus = Bus()
    calls: list[Call] = []

    @bus.on("a.b", "c.*", config="config", on_failure="detach")
    def note(*call: object) -> None:
        calls.append(call)

    note("called by hand")
    bus.execute("c.d", {})
    assert calls == [("called by hand",), (("c", "d"), {}, {}, "config")]
    ids = {(info.handler_id, info.on_failure) for info in bus.list_handlers()}
    assert ids == {(f"{__name__}.{note.__qualname__}", "detach")}


def test_the_decorator_takes_an_id() -> None:
    bus = Bus()
    bus.on("a.b", handler_id="mine")(handler)
    bus.detach("mine")


@pytest.mark.parametrize(
    ("events", "options", "error", "complaint"),
    [
        pytest.param((), {}, EventNameError, "at least one name", id="no events"),
        pytest.param((handler,), {}, EventNameError, "expected dotted", id="no call"),
        pytest.param(("a..b",), {}, EventNameError, "extra dot", id="bad name"),
        pytest.param(
            ("a.b",), {"on_failure": "drop"}, OptionError, "on_failure", id="option"
        ),
        pytest.param(
            ("a.b",), {"handler_id": []}, HandlerError, "not hashable", id="id"
        ),
    ],
)
def test_the_decorator_refuses_mistakes_before_it_sees_a_function(
    events: Any,  # noqa: ANN401  # of any type, that is the point
    options: dict[str, Any],
    error: type[Exception],
    complaint: str,
) -> None:
    """``@bus.on`` without its parentheses would otherwise attach nothing, silently."""
    bus = Bus()
    with pytest.raises(error, match=complaint):
        bus.on(*events, **options)


# --- Detach and subscriptions ----------------------------------------------------


def test_an_unknown_id_says_where_to_look() -> None:
    with pytest.raises(
        HandlerNotFoundError,
        match=r"no handler with id 'x' .*; list_handlers\(\) shows",
    ) as caught:
        Bus().detach("x")
    assert caught.value.handler_id == "x"
    assert isinstance(caught.value, LookupError)


def test_a_subscription_is_a_block() -> None:
    bus = Bus()
    with bus.attach("id", "a.b", handler) as subscription:
        assert subscription.handler_id == "id"
        assert repr(subscription) == "<Subscription 'id'>"
        assert bus.has_handlers("a.b")
    assert not bus.has_handlers("a.b")


def test_a_subscription_detaches_also_if_its_block_fails() -> None:
    bus = Bus()
    with (
        pytest.raises(ZeroDivisionError, match="zero"),
        bus.attach("id", "a.b", handler),
    ):
        _ = 1 // 0
    assert bus.list_handlers() == []


def test_a_subscription_never_removes_a_later_handler_of_its_id() -> None:
    bus = Bus()
    first = bus.attach("id", "a.b", handler)
    first.detach()
    second = bus.attach("id", "a.b", handler)
    first.detach()
    assert bus.has_handlers("a.b")
    second.detach()
    second.detach()
    assert not bus.has_handlers("a.b")


def test_a_subscription_may_outlive_a_detach_by_id() -> None:
    bus = Bus()
    subscription = bus.attach("id", "a.b", handler)
    bus.detach("id")
    subscription.detach()
    assert bus.list_handlers() == []


def test_no_call_begins_after_detach_has_returned() -> None:
    """Also for names that were resolved before."""
    bus = Bus()
    calls = listen(bus, "x.y")
    for event in ("a.b", ("a", "b")):
        subscription = bus.attach("id", "a.*", lambda *call: calls.append(call))
        bus.execute(event, {})
        subscription.detach()
        bus.execute(event, {})
    assert len(calls) == 2


def test_a_bus_is_collected_with_its_handlers() -> None:
    """Nothing global holds on to it, neither the fork hook nor a cache."""
    bus = Bus()
    kept = Handler()
    bus.attach("id", "a.b", kept)
    bus.execute("a.b", {})
    references: list[weakref.ref[Any]] = [weakref.ref(bus), weakref.ref(kept)]
    del bus, kept
    gc.collect()
    assert [reference() for reference in references] == [None, None]


class Interruption:
    """Runs an action in the middle of a block, at its n-th call or return.

    That is where signal handlers and finalizers run. Going through all n makes
    certain what would otherwise take luck.
    """

    def __init__(self, position: int, action: Callable[[], object]) -> None:
        self.position = position
        self.action = action
        self.done = False

    def __enter__(self) -> Self:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, what: str, argument: object) -> None:
        if self.position == 0:
            self.done = True
            self.action()
        self.position -= 1


def everywhere(attempt: Callable[[int], bool]) -> None:
    """Interrupt at the first place, the second, and so on to the last."""
    places = next(place for place in itertools.count() if not attempt(place))
    assert places > 20


def test_a_change_in_the_middle_of_another_is_not_lost() -> None:
    """A signal handler or finalizer may attach or detach anywhere in this thread."""

    def attempt(place: int) -> bool:
        bus = Bus()
        calls = listen(bus, "a.b")
        bus.attach("first", "a.b", handler)

        def change() -> None:
            bus.attach("inner", "a.b", lambda *call: calls.append(call))
            bus.detach("first")

        with Interruption(place, change) as interruption:
            bus.attach("outer", "a.b", lambda *call: calls.append(call))
        if interruption.done:
            attached = {info.handler_id for info in bus.list_handlers()}
            assert {"inner", "outer"} < attached, f"interrupted at {place}"
            assert "first" not in attached, f"interrupted at {place}"
            bus.execute("a.b", {})
            assert len(calls) == 3, f"interrupted at {place}"
        return interruption.done

    everywhere(attempt)


def test_a_taken_id_is_noticed_in_the_middle_of_attaching_it() -> None:
    """One of the two gets it, and the other is told."""

    def attempt(place: int) -> bool:
        bus = Bus()
        refused: list[str] = []

        def attach() -> None:
            try:
                bus.attach("id", "a.b", handler)
            except HandlerExistsError:
                refused.append("id")

        with Interruption(place, attach) as interruption:
            attach()
        if interruption.done:
            assert refused == ["id"], f"interrupted at {place}"
            assert len(bus.list_handlers()) == 1
        return interruption.done

    everywhere(attempt)


# --- List and ask ----------------------------------------------------------------


def test_handlers_are_listed_in_attach_order_by_written_prefix() -> None:
    bus = Bus()
    for events in ("llm.chat.stop", "llm.*.stop", "**", "llm.**", "cache.hit"):
        bus.attach(events, events, handler)
    assert [info.handler_id for info in bus.list_handlers("llm")] == [
        "llm.chat.stop",
        "llm.*.stop",
        "llm.**",
    ]
    assert len(bus.list_handlers()) == 5


def test_a_listed_prefix_has_no_wildcard() -> None:
    with pytest.raises(EventNameError, match="has a wildcard"):
        Bus().list_handlers("llm.*")


@pytest.mark.parametrize("strict", [False, True])
def test_whether_anybody_listens_is_told_by_name_and_by_pattern(
    *, strict: bool
) -> None:
    bus = Bus(strict=strict)
    bus.attach("id", ["a.b", "c.**"], handler)
    for _ in range(2):
        assert bus.has_handlers("a.b")
        assert bus.has_handlers(("c", "d", "e"))
        assert not bus.has_handlers("a.c")
    bus.detach("id")
    assert not bus.has_handlers("a.b")


@pytest.mark.parametrize("name", ["", "a..b", "a.*", 5, None, ["a.b"]], ids=repr)
def test_asking_for_a_bad_name_is_an_error(
    name: Any,  # noqa: ANN401  # of any type, that is the point
) -> None:
    with pytest.raises(EventNameError, match="is not an event name"):
        Bus().has_handlers(name)


def test_asking_first_does_not_replace_the_check_of_the_first_emission() -> None:
    """``if has_handlers(e): execute(e, ...)`` is the usual way to save work."""
    bus: Any = Bus()
    listen(bus, "a.b")
    assert bus.has_handlers("a.b")
    with pytest.raises(EventPayloadError, match="measurements to be a mapping"):
        bus.execute("a.b", 5)


# --- Execute ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "a..b", "a.*", "**", ("a", "*"), 5, None, ["a"], "a\n", "\ud800"]
)
@pytest.mark.parametrize("listened", [False, True])
def test_emitting_a_bad_name_is_an_error_each_time(
    name: Any,  # noqa: ANN401  # of any type, that is the point
    *,
    listened: bool,
) -> None:
    bus = Bus()
    if listened:
        listen(bus, "**")
    for _ in range(2):
        with pytest.raises(EventNameError, match="is not an event name"):
            bus.execute(name, {})


@pytest.mark.parametrize("value", [5, 5.0, True, None, "text", [("a", 1)], object()])
def test_a_payload_that_is_no_mapping_is_shown_with_a_remedy(
    value: Any,  # noqa: ANN401  # of any type, that is the point
) -> None:
    bus: Any = Bus()
    with pytest.raises(EventPayloadError, match="expected measurements") as caught:
        bus.execute("a.b", value)
    assert caught.value.value is value
    for part in (repr(value), type(value).__name__, "pass a dict such as {'count': 1}"):
        assert part in str(caught.value)
    if value is not None:
        with pytest.raises(EventPayloadError, match="expected metadata"):
            bus.execute("a.b", {}, value)


def test_a_payload_that_is_no_mapping_does_not_fill_the_log() -> None:
    bus: Any = Bus()
    with pytest.raises(EventPayloadError, match="expected measurements") as caught:
        bus.execute("a.b", "x" * 1_000_000)
    assert len(str(caught.value)) < 2_000


class Unprintable:
    """What a broken proxy looks like."""

    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)

    __str__ = __repr__


def test_a_payload_without_a_representation_gets_the_right_error() -> None:
    bus: Any = Bus()
    with pytest.raises(EventPayloadError, match="Unprintable"):
        bus.execute("a.b", Unprintable())


def test_payloads_are_looked_at_again_when_handlers_have_changed() -> None:
    bus: Any = Bus()
    bus.execute("a.b", {})
    bus.execute("a.b", 5)
    listen(bus, "c.d")
    with pytest.raises(EventPayloadError, match="expected measurements"):
        bus.execute("a.b", 5)


cyclic: dict[str, object] = {}
cyclic["self"] = cyclic

ODD_VALUES = [
    float("nan"),
    float("inf"),
    -0.0,
    True,
    None,
    "text",
    10**5000,
    b"bytes",
    cyclic,
    "x" * 1_000_000,
    object(),
    Unprintable(),
    lambda: None,
    "\ud800\0\n\r\x1b[2J\u2028\u202e",
]


@pytest.mark.usefixtures("any_context")
@pytest.mark.parametrize("value", ODD_VALUES, ids=range(len(ODD_VALUES)))
@pytest.mark.parametrize("listeners", [0, 1, 2])
def test_execute_passes_odd_values_on_as_they_are(
    value: Any,  # noqa: ANN401  # of any type, that is the point
    listeners: int,
) -> None:
    """Neither looked at nor changed nor refused: that is the reporters' work."""
    bus = Bus()
    all_calls = [listen(bus, "a.b") for _ in range(listeners)]
    for _ in range(2):
        bus.execute("a.b", {"value": value}, {"value": value})
    assert bus.stats()["handler_failures"] == 0
    for calls in all_calls:
        assert len(calls) == 2
        for _, measurements, metadata, _ in calls:
            assert measurements["value"] is value
            assert metadata["value"] is value


def test_spans_drop_and_count_odd_measurements() -> None:
    bus = Bus()
    calls = listen(bus, "a.stop")
    odd = [float("nan"), float("inf"), True, None, "text", b"bytes", object()]
    with span("a", bus=bus) as block:
        for value in odd:
            block.measure(odd=value)
        block.measure(pages=3)
    assert set(calls[0][1]) == {"duration", "monotonic_time", "pages"}
    assert bus.stats()["refused_values"] == len(odd)


@pytest.mark.parametrize(
    "payload", [{}, MappingProxyType({"a": 1}), dict.fromkeys("abc", 1)], ids=repr
)
def test_any_mapping_is_a_payload(payload: Mapping[str, int]) -> None:
    bus = Bus()
    calls = listen(bus, "a.b")
    bus.execute("a.b", payload, payload)
    assert calls[0][1:3] == (payload, payload)


class Broken(Mapping[str, object]):
    """A lazy mapping whose source has gone."""

    def __getitem__(self, key: str) -> object:
        msg = "gone"
        raise RuntimeError(msg)

    def __iter__(self) -> Iterator[str]:
        return iter(["key"])

    def __len__(self) -> int:
        return 1


@pytest.mark.usefixtures("any_context")
@pytest.mark.parametrize("listeners", [1, 2])
def test_a_broken_mapping_is_nobodys_failure_until_somebody_reads_it(
    listeners: int,
) -> None:
    """Neither the emitter nor an innocent handler pays for it."""
    bus = Bus()
    calls: list[int] = []
    for number in range(listeners):
        bus.attach(number, "a.b", lambda *call: calls.append(1), on_failure="detach")
    for _ in range(2):
        bus.execute("a.b", {}, Broken())
    assert len(calls) == 2 * listeners
    assert bus.stats()["handler_failures"] == 0
    assert len(bus.list_handlers()) == listeners


@pytest.mark.parametrize("listeners", [1, 2])
def test_ambient_metadata_lies_below_explicit_metadata(listeners: int) -> None:
    bus = Bus()
    all_calls = [listen(bus, "a.b") for _ in range(listeners)]
    with context(user="ambient", session="s"):
        bus.execute("a.b", {}, {"user": "explicit"})
        bus.execute("a.b", {})
        bus.execute("a.b", {}, {})
    bus.execute("a.b", {}, {"user": "explicit"})
    for calls in all_calls:
        assert [call[2] for call in calls] == [
            {"user": "explicit", "session": "s"},
            {"user": "ambient", "session": "s"},
            {"user": "ambient", "session": "s"},
            {"user": "explicit"},
        ]


def test_explicit_metadata_is_not_changed_by_the_context() -> None:
    bus = Bus()
    listen(bus, "a.b")
    mine = {"user": "explicit"}
    with context(session="s"):
        bus.execute("a.b", {}, mine)
    assert mine == {"user": "explicit"}


def test_context_variables_are_not_read_until_the_first_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = Bus()
    calls = listen(bus, "a.b")
    monkeypatch.setattr(bus_module, "_context_in_use", False)
    bus.execute("a.b", {})
    with context(user="u"):
        bus.execute("a.b", {})
    assert [call[2] for call in calls] == [{}, {"user": "u"}]


# --- Dispatch under way ----------------------------------------------------------


def test_a_handler_attached_during_dispatch_waits_for_the_next_event() -> None:
    bus = Bus()
    calls: list[str] = []

    def attach_once(*call: object) -> None:
        if not calls:
            bus.attach("late", "a.b", lambda *call: calls.append("late"))
        calls.append("first")

    bus.attach("first", "a.b", attach_once)
    bus.attach("second", "a.b", lambda *call: calls.append("second"))
    bus.execute("a.b", {})
    bus.execute("a.b", {})
    assert calls == ["first", "second", "first", "second", "late"]


def test_all_handlers_may_go_during_dispatch() -> None:
    bus = Bus()
    calls: list[int] = []

    def clear(*call: object) -> None:
        calls.append(1)
        for info in bus.list_handlers():
            bus.detach(info.handler_id)

    bus.attach("clear", "a.b", clear)
    bus.attach("rest", "a.b", lambda *call: calls.append(2))
    bus.execute("a.b", {})
    bus.execute("a.b", {})
    assert calls == [1, 2]


def test_handlers_of_one_event_see_the_same_payload() -> None:
    """Nothing is copied for them; who keeps a payload copies it."""
    bus = Bus()
    first, second = listen(bus, "a.b"), listen(bus, "a.b")
    measurements, metadata = {"count": 1}, {"user": "u"}
    bus.execute("a.b", measurements, metadata)
    for calls in (first, second):
        assert calls[0][1] is measurements
        assert calls[0][2] is metadata


# --- Caches ----------------------------------------------------------------------


@pytest.mark.parametrize("listened", [False, True])
def test_names_beyond_the_cache_are_still_right(*, listened: bool) -> None:
    """Names made of user input must not grow the memory."""
    bus = Bus()
    calls = listen(bus, "user.**") if listened else []
    for user in range(CACHE_LIMIT + 100):
        bus.execute(f"user.u{user}", {})
    assert len(bus._routes) == CACHE_LIMIT
    bus.execute("user.late", {})
    assert bus.has_handlers("user.late") == listened
    assert len(calls) == (CACHE_LIMIT + 101 if listened else 0)
    assert len(bus._routes) == CACHE_LIMIT


@pytest.mark.parametrize("listened", [False, True])
def test_questions_beyond_the_cache_are_still_answered(*, listened: bool) -> None:
    bus = Bus()
    if listened:
        listen(bus, "user.**")
    answers = {bus.has_handlers(f"user.u{user}") for user in range(2 * CACHE_LIMIT)}
    assert answers == {listened}
    assert len(bus._routes) + len(bus._table.heard) <= CACHE_LIMIT


@pytest.mark.parametrize("listened", [False, True])
def test_span_prefixes_beyond_the_cache_are_still_right(*, listened: bool) -> None:
    bus = Bus()
    if listened:
        listen(bus, "user.*.stop")
    for user in range(CACHE_LIMIT + 100):
        assert (bus.span_names(f"user.u{user}") is not None) == listened
    assert len(bus._table.spans) + len(bus.quiet) == CACHE_LIMIT


def test_a_prefix_is_quiet_until_somebody_listens_to_any_of_its_events() -> None:
    bus = Bus()
    assert bus.span_names("a.b") is None
    assert "a.b" in bus.quiet
    for phase in ("start", "stop", "exception", "first_chunk", "chunk"):
        with bus.attach("id", f"a.*.{phase}", handler):
            names = bus.span_names("a.b")
            assert names is not None
            assert names is bus.span_names("a.b")
            assert (names.prefix, names.start) == ("a.b", ("a", "b", "start"))
            assert "a.b" not in bus.quiet
    with bus.attach("id", "a.b.other", handler):
        assert bus.span_names(("a", "b")) is None


@pytest.mark.parametrize("prefix", ["", "a..b", "a.*", 5, ["a.b"]], ids=repr)
def test_a_bad_prefix_is_an_error(
    prefix: Any,  # noqa: ANN401  # of any type, that is the point
) -> None:
    with pytest.raises(EventNameError, match="is not an event name"):
        Bus().span_names(prefix)


# --- Strict buses and counts -----------------------------------------------------


def test_a_new_bus_has_counted_nothing() -> None:
    assert Bus().stats() == {
        "handler_failures": 0,
        "recursion_stops": 0,
        "refused_values": 0,
    }


def test_reading_the_counts_does_not_change_them() -> None:
    bus = Bus()
    bus.refuse_value()
    assert [bus.stats()["refused_values"] for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("listened", [False, True])
def test_a_strict_bus_checks_each_emission_in_full(*, listened: bool) -> None:
    bus: Any = Bus(strict=True)
    if listened:
        listen(bus, "**")
    for _ in range(2):
        bus.execute("llm.cache.hit", {"count": 1})
        with pytest.raises(llmevents.UndeclaredEventError, match="not declared"):
            bus.execute("llm.cache.hti", {"count": 1})
        with pytest.raises(llmevents.UndeclaredEventError, match="no measurement 'n'"):
            bus.execute("llm.cache.hit", {"n": 1})
        with pytest.raises(EventPayloadError, match="metadata to be a mapping"):
            bus.execute("llm.cache.hit", {"count": 1}, [])


def test_a_strict_bus_stays_strict_when_handlers_come_and_go() -> None:
    bus = Bus(strict=True)
    bus.attach("id", "**", handler).detach()
    with pytest.raises(llmevents.UndeclaredEventError, match="not declared"):
        bus.execute("un.declared", {})


# --- Threads ---------------------------------------------------------------------


def test_ids_stay_unique_when_threads_attach_the_same_ones() -> None:
    bus = Bus()
    outcomes: list[str] = []

    def attach_all() -> None:
        for position in range(200):
            try:
                bus.attach(position, "a.b", handler)
                outcomes.append("attached")
            except HandlerExistsError:
                outcomes.append("refused")

    run_all([attach_all] * 8)
    assert outcomes.count("attached") == 200
    assert outcomes.count("refused") == 7 * 200
    assert len(bus.list_handlers()) == 200


def test_each_emission_sees_one_consistent_table() -> None:
    """Two handlers that come and go together are both called or neither is."""
    bus = Bus()
    done = threading.Event()
    torn: list[object] = []

    class Pair:
        """One registration on overlapping patterns, whose calls are counted."""

        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, *call: Any) -> None:  # noqa: ANN401  # as a handler is
            self.calls += 1

    def emit() -> None:
        while not done.is_set():
            seen: list[object] = []
            bus.execute("a.b", {}, {"seen": seen})
            if seen not in ([], ["one"], ["one", "two"]):
                torn.append(seen)

    def note(*call: Any) -> None:  # noqa: ANN401  # as a handler is
        call[2]["seen"].append(call[3])

    def change() -> None:
        try:
            for _ in range(500):
                one = bus.attach("one", "a.*", note, "one")
                two = bus.attach("two", "a.b", note, "two")
                two.detach()
                one.detach()
        finally:
            done.set()

    run_all([change, emit, emit])
    assert torn == []


def run_all(functions: list[Callable[[], None]]) -> None:
    """Run each function in a thread; one that hangs or raises fails the test."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  # reported below
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(function,), daemon=True)
        for function in functions
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


# --- Errors ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "built_in"),
    [
        (llmevents.EventNameError, ValueError),
        (llmevents.EventPayloadError, TypeError),
        (llmevents.HandlerError, TypeError),
        (llmevents.HandlerExistsError, ValueError),
        (llmevents.HandlerNotFoundError, LookupError),
        (llmevents.OptionError, ValueError),
        (llmevents.UndeclaredEventError, LookupError),
    ],
)
def test_each_error_is_also_the_built_in_that_callers_catch(
    error: type[Exception], built_in: type[Exception]
) -> None:
    assert issubclass(error, LLMEventsError)
    assert issubclass(error, built_in)
