from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmevents import Bus, HandlerExistsError
from llmevents.metrics import (
    Counter,
    LastValue,
    MetricStore,
    Sum,
)
from llmevents.metrics import _store as store_module
from llmevents.metrics._cells import State, Total
from llmevents.metrics._groups import Group
from llmevents.metrics._shards import GroupRows
from llmevents.metrics._tags import KeyedTags
from tests.metrics.readings import (
    MODEL,
    attached,
    in_threads,
    value,
    values,
)


# --- What is taken in ----------------------------------------------------------------


def test_a_counter_counts_events_whatever_they_measure() -> None:
    """X-03: Elixir's console skips counters whose last segment is no measurement."""
    bus, store = attached(Counter("llm.chat.stop.total"))

    bus.execute("llm.chat.stop", {})
    bus.execute("llm.chat.stop", {"total": math.nan})

    assert value(store, "llm.chat.stop.total") == 2
    assert store.refused == 0


def test_a_sum_adds_up_and_a_last_value_is_replaced() -> None:
    bus, store = attached(Sum("job.stop.pages"), LastValue("job.stop.size"))

    bus.execute("job.stop", {"pages": 3, "size": 10})
    bus.execute("job.stop", {"pages": 4, "size": 2.5})

    assert value(store, "job.stop.pages") == 7
    assert value(store, "job.stop.size") == 2.5


def test_an_event_without_the_measurement_is_skipped() -> None:
    """Unknown is absent, never 0: not even a series comes about."""
    bus, store = attached(Sum("job.stop.pages"), LastValue("job.stop.size"))

    bus.execute("job.stop", {"duration": 1})

    assert values(store, "job.stop.pages") == {}
    assert values(store, "job.stop.size") == {}
    assert store.refused == 0


def test_a_pattern_gathers_events_and_each_counts_once() -> None:
    bus, store = attached(Counter("calls", event=["llm.*.stop", "llm.chat.**"]))

    bus.execute("llm.chat.stop", {})
    bus.execute("llm.embedding.stop", {})
    bus.execute("llm.chat.start", {})
    bus.execute("llm.embedding.start", {})

    assert value(store, "calls") == 3


def test_functions_get_measurements_and_metadata() -> None:
    seen: list[object] = []

    def measure(
        measurements: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> float:
        seen.append((dict(measurements), dict(metadata)))
        rate: float = metadata["rate"]
        return rate * measurements["pages"]

    bus, store = attached(Sum("cost", event="job.stop", measurement=measure))

    bus.execute("job.stop", {"pages": 3}, {"rate": 5})

    assert value(store, "cost") == 15
    assert seen == [({"pages": 3}, {"rate": 5})]


def test_a_function_that_returns_none_skips_the_event() -> None:
    bus, store = attached(Sum("cost", event="job.stop", measurement=lambda m, d: None))

    bus.execute("job.stop", {})

    assert values(store, "cost") == {}
    assert store.refused == 0


def test_keep_and_drop_choose_events() -> None:
    def is_slow(measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> bool:
        return measurements["duration"] > 5

    bus, store = attached(
        Counter("slow", event="job.stop", keep=is_slow),
        Counter("fast", event="job.stop", drop=is_slow),
    )

    for duration in (1, 9, 8):
        bus.execute("job.stop", {"duration": duration})

    assert value(store, "slow") == 2
    assert value(store, "fast") == 1


def test_nothing_is_taken_in_before_attach_and_after_detach() -> None:
    bus = Bus()
    store = MetricStore([Counter("a.b.n")])

    bus.execute("a.b", {})
    store.attach(bus)
    bus.execute("a.b", {})
    store.detach()
    store.detach()
    bus.execute("a.b", {})

    assert value(store, "a.b.n") == 1
    assert bus.list_handlers() == []


def test_a_store_takes_in_several_buses_each_once() -> None:
    bus, store = attached(Counter("a.b.n"))
    other = Bus()
    store.attach(other)

    with pytest.raises(HandlerExistsError, match=r"llmevents\.metrics\.\d+"):
        store.attach(bus)
    bus.execute("a.b", {})
    other.execute("a.b", {})

    assert value(store, "a.b.n") == 2


def test_several_stores_share_a_bus() -> None:
    bus, store = attached(Counter("a.b.n"))
    other = MetricStore([Counter("a.b.n")])
    other.attach(bus)

    bus.execute("a.b", {})

    assert value(store, "a.b.n") == value(other, "a.b.n") == 1


def test_a_store_without_definitions_listens_to_nothing() -> None:
    bus, store = attached()

    assert bus.list_handlers() == []
    assert dict(store.snapshot().families) == {}


def test_all_metrics_of_an_event_share_one_handler() -> None:
    bus, _ = attached(
        Counter("a", event="x.**"),
        Counter("b", event="x.y"),
        Counter("c.d", event="x.y"),
    )

    assert {info.handler_id for info in bus.list_handlers()} == {
        bus.list_handlers()[0].handler_id
    }


def test_event_names_beyond_the_cache_are_counted_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_module, "CACHE_LIMIT", 2)
    bus, store = attached(Counter("all", event="**"))

    for number in range(20):
        bus.execute(f"event.e{number}", {})

    assert value(store, "all") == 20
    assert len(store._recorder._known) == 2


# --- Values --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(True, id="bool"),
        pytest.param(None, id="none"),
        pytest.param("3", id="text"),
        pytest.param(math.nan, id="nan"),
        pytest.param(math.inf, id="infinity"),
        pytest.param(-math.inf, id="negative infinity"),
        pytest.param(2**63, id="more than 64 bits"),
        pytest.param(10**5000, id="huge"),
        pytest.param(1e300, id="a few of it are infinite"),
        pytest.param(Decimal("NaN"), id="decimal nan"),
        pytest.param([1], id="list"),
    ],
)
def test_an_odd_value_is_refused_and_hurts_nothing_else(odd: object) -> None:
    bus, store = attached(
        Sum("job.stop.pages"), LastValue("job.stop.size"), Counter("job.stop.n")
    )
    bus.execute("job.stop", {"pages": 1, "size": 1})

    execute = cast("Callable[[str, dict[str, object]], None]", bus.execute)
    execute("job.stop", {"pages": odd, "size": 2})
    execute("job.stop", {"pages": 3, "size": odd})

    assert value(store, "job.stop.pages") == 4
    assert value(store, "job.stop.size") == 2
    assert value(store, "job.stop.n") == 3
    assert store.refused == 2
    assert bus.stats()["handler_failures"] == 0


@pytest.mark.parametrize("given", [2**63 - 1, 2.5, Fraction(1, 2), Decimal(7), -0.0])
def test_a_number_of_any_kind_is_taken_in(given: float) -> None:
    bus, store = attached(Sum("job.stop.pages"))

    bus.execute("job.stop", {"pages": given})

    assert value(store, "job.stop.pages") == given
    assert type(value(store, "job.stop.pages")) in {int, float}


def test_a_monotonic_sum_refuses_what_would_make_it_smaller() -> None:
    """R-05: a counter that goes back looks like a restart to its readers."""
    bus, store = attached(
        Sum("job.stop.pages"),
        Sum("balance", event="job.stop", measurement="pages", monotonic=False),
    )

    for pages in (5, -2, -0.5):
        bus.execute("job.stop", {"pages": pages})

    assert value(store, "job.stop.pages") == 5
    assert value(store, "balance") == 2.5
    assert store.refused == 2


def test_a_sum_of_floats_that_cancel_out_stays_a_series() -> None:
    bus, store = attached(Sum("job.stop.pages", monotonic=False))

    bus.execute("job.stop", {"pages": 1.5})
    bus.execute("job.stop", {"pages": -1.5})

    assert values(store, "job.stop.pages") == {(): 0.0}


@example([-1, 2**54 + 3, 0.0])
@given(st.lists(st.integers(-(2**63), 2**63) | st.floats(-1e290, 1e290), min_size=1))
def test_the_order_in_which_threads_end_does_not_show(numbers: list[float]) -> None:
    """Rounding must not make a total go back when a thread ends."""
    states: list[State] = [(number,) for number in numbers]
    folded = states[0]
    for state in states[1:]:
        folded = Total().merge([folded, state])

    together = Total().value(Total().merge(states))

    assert Total().value(folded) == together
    exact = sum(map(Fraction, numbers))
    assert together == (exact if isinstance(together, int) else float(exact))


# --- Users' functions that fail ------------------------------------------------------


@pytest.mark.parametrize("option", ["measurement", "tags", "keep", "drop"])
def test_a_function_that_fails_costs_its_own_metric_the_event(option: str) -> None:
    """One bad metric must not stop the others (Elixir detaches them all)."""

    def fail(measurements: object, metadata: object) -> NoReturn:
        msg = "broken"
        raise KeyError(msg)

    options: dict[str, Any] = {option: fail}
    bus, store = attached(
        Counter("first", event="a.b"),
        Sum("bad", event="a.b", **{"measurement": "n", **options}),
        Counter("after", event="a.b"),
        Counter("tagged", event="a.b", tags=("model",)),
    )

    bus.execute("a.b", {"n": 1}, MODEL)
    bus.execute("a.b", {"n": 1}, MODEL)

    assert value(store, "first") == value(store, "after") == 2
    assert value(store, "tagged") == 2
    assert values(store, "bad") == {}
    assert bus.stats()["handler_failures"] == 2


def test_the_first_failure_is_what_the_bus_reports() -> None:
    def fail_with(text: str) -> Callable[[object, object], NoReturn]:
        def fail(measurements: object, metadata: object) -> NoReturn:
            raise ValueError(text)

        return fail

    bus, _ = attached(
        Sum("x", event="a.b", measurement=fail_with("first"), tags=("t",)),
        Sum("y", event="a.b", measurement=fail_with("second"), tags=("t",)),
        Sum("z", event="a.b", measurement=fail_with("third")),
    )
    messages: list[str] = []
    bus.attach(
        "watch",
        "llmevents.handler.failure",
        lambda event, measurements, metadata, config: messages.append(
            metadata["error_message"]
        ),
    )

    bus.execute("a.b", {})

    assert messages == ["first"]


def test_a_tags_function_must_return_a_mapping() -> None:
    bus, store = attached(Counter("n", event="a.b", tags=lambda m, d: ["x"]))  # type: ignore[arg-type, return-value]  # what is being tested
    messages: list[str] = []
    bus.attach(
        "watch",
        "llmevents.handler.failure",
        lambda event, measurements, metadata, config: messages.append(
            metadata["error_message"]
        ),
    )

    bus.execute("a.b", {})

    assert values(store, "n") == {}
    assert "return a mapping, got list; return a dict" in messages[0]


# --- Snapshots -----------------------------------------------------------------------


def test_a_snapshot_is_immutable_and_stays_as_it_was() -> None:
    bus, store = attached(Counter("a.b.n", tags=("model",)))
    bus.execute("a.b", {}, MODEL)
    snapshot = store.snapshot()
    bus.execute("a.b", {}, MODEL)

    (series,) = snapshot.families["a.b.n"].series
    assert series.value == 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        series.tags["model"] = "x"  # type: ignore[index]  # what is being tested
    with pytest.raises(TypeError, match="does not support item assignment"):
        snapshot.families["x"] = snapshot.families["a.b.n"]  # type: ignore[index]  # likewise
    with pytest.raises(AttributeError, match="cannot assign to field"):
        series.raw = 3  # type: ignore[misc]  # likewise


def test_a_snapshot_has_every_family_in_the_order_of_definition() -> None:
    _, store = attached(Sum("z.z"), Counter("a.a", unit="call"))

    families = store.snapshot().families

    assert list(families) == ["z.z", "a.a"]
    assert families["a.a"].definition == Counter("a.a", unit="call")
    assert families["a.a"].series == ()


def test_series_are_in_the_order_in_which_they_came_up() -> None:
    bus, store = attached(Counter("a.b.n", tags=("t",)), max_series=2)

    for tag in "zab":
        bus.execute("a.b", {}, {"t": tag})

    assert [tags[0][1] for tags in values(store, "a.b.n")] == ["z", "a", "__overflow__"]


# --- The plan ------------------------------------------------------------------------


def test_what_two_metrics_have_in_common_is_worked_out_once() -> None:
    calls: list[str] = []

    def keep(measurements: object, metadata: object) -> bool:
        calls.append("keep")
        return True

    def tags(measurements: object, metadata: object) -> dict[str, str]:
        calls.append("tags")
        return {"x": "y"}

    bus, store = attached(
        Counter("one", event="a.b", keep=keep, tags=tags),
        Counter("two", event="a.b", keep=keep, tags=tags, constant_tags={"k": 1}),
        Counter("three", event="a.b", keep=keep),
    )
    bus.execute("a.b", {})

    assert sorted(calls) == ["keep", "tags"]
    assert values(store, "two") == {(("x", "y"), ("k", "1")): 1}


def test_functions_that_cannot_be_hashed_are_told_apart_by_identity() -> None:
    class Tags:
        __hash__ = None  # type: ignore[assignment]  # as of a class with __eq__ only

        def __init__(self, value: str) -> None:
            self.value = value

        def __call__(self, measurements: object, metadata: object) -> dict[str, str]:
            return {"x": self.value}

    bus, store = attached(
        Counter("one", event="a.b", tags=Tags("1")),
        Counter("two", event="a.b", tags=Tags("2")),
    )
    bus.execute("a.b", {})

    assert values(store, "one") == {(("x", "1"),): 1}
    assert values(store, "two") == {(("x", "2"),): 1}


def test_a_conversion_is_worked_out_once_for_all_that_need_it() -> None:
    options: dict[str, Any] = {"measurement": "s", "unit": ("second", "millisecond")}
    bus, store = attached(
        Sum("t", event="a.a", unit=("nanosecond", "millisecond"), tags=("k",)),
        Sum("t", event="a.b", constant_tags={"k": "1"}, **options),
        Sum("t", event="a.b", constant_tags={"k": "2"}, **options),
    )
    bus.execute("a.b", {"s": 2})

    assert values(store, "t") == {(("k", "1"),): 2000, (("k", "2"),): 2000}
    assert store.source("a.b").count("convert") == 1


def test_the_handler_that_is_listed_takes_events_as_well() -> None:
    bus, store = attached(Counter("calls", event="a.*"))
    (info,) = bus.list_handlers()

    info.handler(("a", "b"), {}, {}, None)

    assert value(store, "calls") == 1


def test_a_row_is_not_made_twice() -> None:
    """Between the look-up and this, an interruption may have been here."""
    bus, store = attached(Counter("calls", event="a.b", tags=("x",)))
    bus.execute("a.b", {}, {"x": "y"})
    (member,) = store._shards.mine().groups
    assert f"local.{member}" in store.source("a.b")
    runtime = store._runtime
    group = Group(
        member,
        [store._families["calls"]],
        KeyedTags(("x",), ()),
        runtime.shards,
        most=9,
    )

    assert group.open(("y",)) is None
    assert value(store, "calls") == 1


def test_a_row_whose_series_is_forgotten_meanwhile_is_not_remembered() -> None:
    bus, store = attached(Counter("calls", event="a.b", tags=("x",)))
    bus.execute("a.b", {}, {"x": "y"})
    family = store._families["calls"]

    class Meanwhile(Group):
        """Somebody forgets the series before its row can be looked up."""

        def _row(self, rows: GroupRows, key: tuple[str | None, ...]) -> list[Any]:
            row = super()._row(rows, key)
            store.prune({"x": "z"})
            return row

    tags = KeyedTags(("x",), ())
    group = Meanwhile("g", [family], tags, store._runtime.shards, most=9)

    assert group.open(("z",)) is None
    assert store._shards.mine().groups["g"].lookup == {}
    assert values(store, "calls") == {(("x", "y"),): 1}


def test_the_store_tells_what_it_could_not_take_in() -> None:
    bus, store = attached(Sum("a.b.n", tags=("x",)), max_series=1)
    for x in "yz":
        bus.execute("a.b", {"n": 1}, {"x": x})
    bus.execute("a.b", {"n": math.nan})
    bus.execute("a.b", {})

    assert (store.refused, store.skipped) == (1, 1)
    assert store.overflowing == ("a.b.n",)


# --- The first event -----------------------------------------------------------------


def test_the_first_event_of_each_thread_is_announced() -> None:
    bus, store = attached(Counter("calls", event="a.b", tags=("x",)))
    seen: list[str] = []
    end = store.on_first_event(lambda: seen.append(threading.current_thread().name))
    other = store.on_first_event(lambda: None)

    for x in "yyz":
        bus.execute("a.b", {}, {"x": x})
    here, *_ = seen
    in_threads(1, lambda number: bus.execute("a.b", {}, {"x": "y"}))
    end()
    in_threads(1, lambda number: bus.execute("a.b", {}, {"x": "y"}))
    other()

    assert here == threading.current_thread().name
    assert len(seen) == 2
    assert values(store, "calls") == {(("x", "y"),): 4, (("x", "z"),): 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_the_first_event_of_a_forked_child_is_announced() -> None:
    bus, store = attached(Counter("calls", event="a.b"))
    bus.execute("a.b", {})
    seen: list[int] = []
    store.on_first_event(lambda: seen.append(os.getpid()))
    bus.execute("a.b", {})

    pid = os.fork()
    if pid == 0:
        bus.execute("a.b", {})
        os._exit(0 if seen == [os.getpid()] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert seen == []


def test_a_callback_that_fails_costs_no_event() -> None:
    bus, store = attached(Counter("calls", event="a.b"))

    def fail() -> NoReturn:
        raise ValueError

    store.on_first_event(fail)
    bus.execute("a.b", {})
    bus.execute("a.b", {})

    assert value(store, "calls") == 2
    assert bus.stats()["handler_failures"] == 0
