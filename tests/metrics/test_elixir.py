"""The facts M-01 to M-42 about telemetry_metrics 1.1, in their order.

docs/elixir.md says where llmevents differs, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest

from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    MetricDefinitionError,
    Sum,
    Summary,
)
from llmevents.metrics._units import UNITS
from tests.metrics.readings import attached, value, values


Make = Callable[..., Metric]

every = pytest.mark.parametrize(
    "make", [Counter, Sum, LastValue, Summary, Distribution]
)
measured = pytest.mark.parametrize("make", [Sum, LastValue, Summary, Distribution])


def always(measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> bool:
    return True


@every
def test_m01_the_last_segment_of_the_name_is_the_measurement(make: Make) -> None:
    definition = make("http.request.latency")
    assert definition.name == "http.request.latency"
    assert definition.events == (("http", "request"),)
    assert getattr(definition, "measurement", "latency") == "latency"


@every
def test_m02_given_only_a_name_everything_else_is_empty(make: Make) -> None:
    definition = make("a.b")
    assert definition.tags == ()
    assert definition.description == definition.unit == ""
    assert definition.reporter_options == {}


@every
def test_m03_a_tuple_is_as_good_as_dotted_text(make: Make) -> None:
    assert make(("a", "b", "c")) == make("a.b.c")


@every
def test_m04_an_event_in_dotted_text_becomes_a_tuple(make: Make) -> None:
    assert make("n.n", event="a.b").events == (("a", "b"),)


@every
def test_m05_m06_m22_m31_options_appear_on_the_definition(make: Make) -> None:
    definition = make(
        "n.n",
        event=("a", "b"),
        tags=["x y", "z"],
        keep=always,
        unit=("second", "millisecond"),
        description="What it is.",
        reporter_options={"prometheus": {"name": "n"}},
    )
    assert definition.tags == ("x y", "z")
    assert definition.keep is always
    assert definition.unit == "millisecond"
    assert definition.description == "What it is."
    assert definition.reporter_options["prometheus"]["name"] == "n"


@every
def test_m07_a_colon_is_an_ordinary_character(make: Make) -> None:
    assert make("a:b.c").events == (("a:b",),)


@every
@pytest.mark.parametrize(
    "name",
    ["", (), None, ("a", None), ("a", 1), ".a.b", "a.b.", "a..b", "alone"],
    ids=repr,
)
def test_m08_to_m12_a_name_that_is_none_is_refused(make: Make, name: Any) -> None:  # noqa: ANN401
    with pytest.raises(MetricDefinitionError, match="cannot use metric"):
        make(name)


@every
def test_m12_the_error_says_that_an_event_is_needed(make: Make) -> None:
    with pytest.raises(MetricDefinitionError, match="one segment names no event"):
        make("alone")


@every
def test_m13_one_segment_is_enough_with_an_event(make: Make) -> None:
    assert make("alone", event="a.b").name == "alone"


@every
@pytest.mark.parametrize(
    "options",
    [
        {"event": ""},
        {"event": []},
        {"tag_values": always},
        {"tags": "x"},
        {"description": b"x"},
        {"unit": 3},
        {"reporter_options": [("x", 1)]},
        {"keep": always, "drop": always},
        {"keep": lambda: True},
        {"unit": ("byte", "second")},
        {"unit": ("second", "byte")},
        {"unit": ("second", "second", "second")},
    ],
)
def test_m14_to_m21_m32_m33_an_option_that_makes_no_sense_is_refused(
    make: Make, options: dict[str, Any]
) -> None:
    with pytest.raises(MetricDefinitionError, match="cannot use metric"):
        make("a.b", **options)


@pytest.mark.parametrize("option", ["keep", "drop"])
def test_m23_to_m25_m51_a_predicate_sees_measurements_and_metadata(option: str) -> None:
    seen: list[object] = []

    def large(measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> bool:
        seen.append((dict(measurements), dict(metadata)))
        return measurements["n"] > 1

    options: dict[str, Any] = {option: large}
    bus, store = attached(Sum("a.b.n", **options))
    bus.execute("a.b", {"n": 1, "m": 2}, {"x": "y"})
    bus.execute("a.b", {"n": 5, "m": 2}, {"x": "y"})

    assert value(store, "a.b.n") == (5 if option == "keep" else 1)
    assert seen[0] == ({"n": 1, "m": 2}, {"x": "y"})


def test_m26_m27_m53_a_measurement_may_be_made_of_metadata() -> None:
    bus, store = attached(
        Sum("a.b.n", measurement=lambda measurements, metadata: metadata["size"])
    )
    bus.execute("a.b", {}, {"size": 3})
    assert value(store, "a.b.n") == 3


def test_m29_m30_m49_a_function_makes_the_tags() -> None:
    bus, store = attached(
        Counter("a.b.n", tags=lambda m, d: {"class": f"{d['status'] // 100}xx"})
    )
    bus.execute("a.b", {}, {"status": 503})
    assert values(store, "a.b.n") == {(("class", "5xx"),): 1}


@measured
def test_m34_equal_units_change_nothing(make: Make) -> None:
    definition = make("a.b", unit=("second", "second"))
    assert definition.scale == 1
    assert getattr(definition, "measurement", None) == "b"


@pytest.mark.parametrize("measurements", [{}, {"n": None}], ids=["missing", "none"])
def test_m35_m36_what_is_not_there_is_not_converted(
    measurements: dict[str, Any],
) -> None:
    bus, store = attached(Sum("a.b.n", unit=("second", "millisecond")))
    bus.execute("a.b", measurements)
    assert values(store, "a.b.n") == {}
    assert bus.stats()["handler_failures"] == 0


@pytest.mark.parametrize("unit", ["", ("second", "millisecond")])
@pytest.mark.parametrize("odd", ["7", math.nan, True, [1]])
def test_m37_m38_m46_what_is_no_number_is_refused_and_counted(
    odd: Any,  # noqa: ANN401  # what is being tested
    unit: Any,  # noqa: ANN401  # likewise
) -> None:
    bus, store = attached(Sum("a.b.n", unit=unit))
    bus.execute("a.b", {"n": odd})
    assert values(store, "a.b.n") == {}
    assert store.refused == 1


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pair
        for pair in permutations(UNITS, 2)
        if UNITS[pair[0]].quantity == UNITS[pair[1]].quantity
    ],
)
def test_m39_m40_m54_every_pair_of_units_has_its_ratio(
    source: str, target: str
) -> None:
    bus, store = attached(Sum("a.b.n", unit=(source, target)))
    bus.execute("a.b", {"n": 3})
    exact = 3 * Fraction(UNITS[source].size) / UNITS[target].size
    assert value(store, "a.b.n") == (exact if exact.denominator == 1 else float(exact))


def test_m41_m42_what_a_function_returns_is_converted_unless_it_is_none() -> None:
    bus, store = attached(
        Sum(
            "a.b.n",
            measurement=lambda measurements, metadata: measurements.get("s"),
            unit=("second", "millisecond"),
        )
    )
    bus.execute("a.b", {})
    bus.execute("a.b", {"s": 2})
    assert value(store, "a.b.n") == 2000
    assert store.refused == 0


def test_m47_m48_a_counter_needs_no_measurement() -> None:
    bus, store = attached(Counter("llm.calls.total", event="llm.chat.stop"))
    bus.execute("llm.chat.stop", {})
    assert value(store, "llm.calls.total") == 1


def test_m52_tags_that_fail_cost_their_own_metric_one_event() -> None:
    bus, store = attached(
        Counter("bad", event="a.b", tags=lambda m, d: {"x": d["nothing"]}),
        Counter("good", event="a.b"),
    )
    bus.execute("a.b", {})
    bus.execute("a.b", {}, {"nothing": 1})
    assert value(store, "good") == 2
    assert values(store, "bad") == {(("x", "1"),): 1}
    assert bus.stats()["handler_failures"] == 1
