from __future__ import annotations

from math import inf, nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Gauge,
    Histogram,
    Metric,
)
from opentelemetry.sdk.metrics.export import Sum as OTelSum

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Distribution,
    Exemplar,
    Family,
    LastValue,
    MetricDefinitionError,
    MetricStore,
    Series,
    Snapshot,
    Sum,
    Summary,
)
from llmevents.metrics import Metric as Definition
from llmevents_otel import _metrics
from llmevents_otel._units import CODES, LONGEST, ucum


STOP = "llm.chat.stop"


def converted(*definitions: Definition, **values: float) -> dict[str, Metric]:
    """Return what the definitions make of one event."""
    bus = Bus()
    store = MetricStore(definitions)
    store.attach(bus)
    bus.execute(STOP, values, {"model": "gpt-4o"})
    return metrics_of(store)


def metrics_of(store: MetricStore) -> dict[str, Metric]:
    names = _metrics.check_definitions(store)
    metrics = _metrics.to_metrics(store.snapshot(), names)
    assert len({metric.name for metric in metrics}) == len(metrics)
    return {metric.name: metric for metric in metrics}


def points_of(metric: Metric) -> list[Any]:
    return [*metric.data.data_points]


def the_point(metric: Metric) -> Any:  # noqa: ANN401  # of any kind
    (point,) = points_of(metric)
    return point


def test_each_kind_of_metric_becomes_what_otlp_has_for_it() -> None:
    metrics = converted(
        Counter("calls", event=STOP, description="Calls."),
        Sum("tokens", event=STOP, measurement="n", unit="token"),
        Sum("active", event=STOP, measurement="n", monotonic=False),
        LastValue("size", event=STOP, measurement="n", unit="byte"),
        Distribution("spread", event=STOP, measurement="n", buckets=(1, 5, 10)),
        Summary("summary", event=STOP, measurement="n"),
        n=5,
    )

    assert (metrics["calls"].description, metrics["calls"].unit) == ("Calls.", "")
    for name, value, is_monotonic in (
        ("calls", 1, True),
        ("tokens", 5, True),
        ("active", 5, False),
    ):
        data = metrics[name].data
        assert isinstance(data, OTelSum)
        assert data.is_monotonic is is_monotonic
        assert data.aggregation_temporality is AggregationTemporality.CUMULATIVE
        assert the_point(metrics[name]).value == value
    assert isinstance(metrics["size"].data, Gauge)
    assert (the_point(metrics["size"]).value, metrics["size"].unit) == (5, "By")
    spread = the_point(metrics["spread"])
    assert isinstance(metrics["spread"].data, Histogram)
    assert (spread.explicit_bounds, spread.bucket_counts) == ((1, 5, 10), (0, 1, 0, 0))
    assert (spread.count, spread.sum, spread.min, spread.max) == (1, 5, None, None)
    summary = the_point(metrics["summary"])
    assert isinstance(metrics["summary"].data, ExponentialHistogram)
    assert (summary.count, summary.sum, summary.scale, summary.zero_count) == (
        1,
        5,
        6,
        0,
    )


def test_points_have_the_times_of_the_store_and_the_tags_there_are() -> None:
    bus = Bus()
    store = MetricStore([Counter("calls", event=STOP, tags=("model", "user"))])
    store.attach(bus)
    bus.execute(STOP, {}, {"model": "gpt-4o"})
    snapshot = store.snapshot()
    (metric,) = _metrics.to_metrics(snapshot, {"calls": "calls"})
    point = the_point(metric)

    assert point.attributes == {"model": "gpt-4o"}
    assert point.start_time_unix_nano == snapshot.start_ns
    assert point.time_unix_nano == snapshot.time_ns
    assert snapshot.start_ns <= snapshot.time_ns


def test_values_are_in_the_unit_of_the_definition() -> None:
    metrics = converted(
        Sum("cost", event=STOP, measurement="n", unit=("nano_usd", "usd")),
        Distribution(
            "latency",
            event=STOP,
            measurement="n",
            unit=("nanosecond", "second"),
            buckets=(1, 2.5, 5),
        ),
        n=2_500_000_000,
    )
    assert (the_point(metrics["cost"]).value, metrics["cost"].unit) == (2.5, "{USD}")
    latency = the_point(metrics["latency"])
    assert metrics["latency"].unit == "s"
    assert (latency.sum, tuple(latency.bucket_counts)) == (2.5, (0, 1, 0, 0))


def test_what_is_past_the_limit_is_marked_as_opentelemetry_does() -> None:
    bus = Bus()
    store = MetricStore([Counter("calls", event=STOP, tags=("model",))], max_series=2)
    store.attach(bus)
    for number in range(10):
        bus.execute(STOP, {}, {"model": f"m{number}"})
    points = points_of(metrics_of(store)["calls"])

    assert {tuple(point.attributes.items()): point.value for point in points} == {
        (("model", "m0"),): 1,
        (("model", "m1"),): 1,
        (("otel.metric.overflow", True),): 8,
    }


def test_exemplars_name_their_trace() -> None:
    trace_id, span_id = f"{0xABC:032x}", f"{0xDEF:016x}"
    bus = Bus()
    store = MetricStore([Distribution("n", event=STOP, measurement="n", buckets=(1,))])
    store.attach(bus)
    store.exemplify(lambda _: {"trace_id": trace_id, "span_id": span_id})
    bus.execute(STOP, {"n": 7}, {})
    (exemplar,) = the_point(metrics_of(store)["n"]).exemplars

    assert (exemplar.trace_id, exemplar.span_id) == (0xABC, 0xDEF)
    assert exemplar.value == 7
    assert exemplar.time_unix_nano > 0


def test_exemplars_of_another_kind_are_left_out() -> None:
    found = [
        Exemplar(1, 2, {"trace_id": "not hexadecimal", "span_id": "1"}),
        Exemplar(1, 2, {"trace_id": "1"}),
    ]
    assert [*_metrics._exemplars(found)] == []


def test_a_metric_without_events_is_not_sent() -> None:
    store = MetricStore(
        [Counter("calls", event=STOP), Distribution("n", event=STOP, measurement="n")]
    )
    assert metrics_of(store) == {}


def test_many_series_come_in_parts() -> None:
    definition = Counter("calls", event=STOP, tags=("n",))
    series = tuple(Series({"n": str(n)}, n) for n in range(1200))
    snapshot = Snapshot({"calls": Family(definition, series)})
    metrics = _metrics.to_metrics(snapshot, {"calls": "other"})

    assert [metric.name for metric in metrics] == ["other"] * 3
    assert [_metrics.count_points(metric) for metric in metrics] == [512, 512, 176]
    first, second = _metrics.cut(metrics[2])
    values = [point.value for part in (first, second) for point in points_of(part)]
    assert values == [*range(1024, 1200)]


# --- Exponential histograms -----------------------------------------------------------


def bounds(index: int) -> tuple[float, float]:
    """Return the bounds of a bucket, as OTLP defines them; the upper one is included."""
    return 2.0 ** (index / 64), 2.0 ** ((index + 1) / 64)


@given(st.lists(st.floats(-1e15, 1e15).filter(lambda x: x == 0 or abs(x) > 1e-11)))
def test_exponential_buckets_hold_the_values_that_fell_into_them(
    values: list[float],
) -> None:
    bus = Bus()
    store = MetricStore([Summary("n", event=STOP, measurement="n")])
    store.attach(bus)
    for value in values:
        bus.execute(STOP, {"n": value}, {})
    if not values:
        return
    point = the_point(metrics_of(store)["n"])

    total = point.zero_count + sum(point.positive.bucket_counts)
    assert total + sum(point.negative.bucket_counts) == point.count == len(values)
    assert point.zero_count == values.count(0)
    for sign, buckets in ((1, point.positive), (-1, point.negative)):
        for place, count in enumerate(buckets.bucket_counts):
            lower, upper = bounds(buckets.offset + place)
            # The logarithm is off by a rounding error at the bounds themselves.
            inside = [
                value
                for value in values
                if lower * (1 - 1e-12) < sign * value <= upper * (1 + 1e-12)
            ]
            assert len(inside) >= count
        if len(buckets.bucket_counts):
            assert buckets.bucket_counts[0]
            assert buckets.bucket_counts[-1]


@pytest.mark.parametrize(
    ("value", "index"), [(1.0, -1), (2.0, 63), (nextafter(1, inf), 0)]
)
def test_a_bucket_includes_its_upper_bound(value: float, index: int) -> None:
    point = the_point(
        converted(Summary("n", event=STOP, measurement="n"), n=value)["n"]
    )
    if value == nextafter(1, inf):
        # log2 of it is too close to 0 to tell: either of the two is within 1 %.
        assert point.positive.offset in (-1, 0)
    else:
        assert point.positive.offset == index


# --- Values and text that OTLP cannot carry ------------------------------------------


def test_integers_of_more_than_64_bits_become_floats() -> None:
    for value in (2**63, -(2**63) - 1):
        assert isinstance(_metrics._number(value), float)
    for value in (2**63 - 1, -(2**63)):
        assert isinstance(_metrics._number(value), int)


def test_lone_surrogates_are_replaced() -> None:
    definition = Counter("n", event=STOP, description="\ud800")
    snapshot = Snapshot({"n": Family(definition, (Series({"a\ud800": "b\ud800"}, 1),))})
    (metric,) = _metrics.to_metrics(snapshot, {"n": "n"})
    assert metric.description == "?"
    assert the_point(metric).attributes == {"a?": "b?"}


# --- Names ----------------------------------------------------------------------------


def refused(*definitions: Definition) -> str:
    with pytest.raises(MetricDefinitionError) as caught:
        _metrics.check_definitions(MetricStore(definitions))
    return str(caught.value)


def named(name: str, otel: object) -> Counter:
    return Counter(name, event=STOP, reporter_options={"otel": {"name": otel}})


def test_a_metric_may_have_another_name_in_opentelemetry() -> None:
    metrics = converted(named("calls", "gen_ai.calls"))
    assert list(metrics) == ["gen_ai.calls"]


@pytest.mark.parametrize("name", ["1calls", "", "a b", "x" * 256, "é", 5])
def test_names_that_opentelemetry_cannot_have_are_refused(name: object) -> None:
    assert "begins with a letter" in refused(named("calls", name))


def test_unknown_options_are_refused() -> None:
    definition = Counter("calls", event=STOP, reporter_options={"otel": {"nam": "x"}})
    assert "has 'nam'; 'name' is known" in refused(definition)


def test_names_that_collide_are_refused() -> None:
    assert "as 'calls' is" in refused(
        Counter("calls", event=STOP), named("other", "Calls")
    )


def test_definitions_of_one_family_agree_on_the_name() -> None:
    assert "make them agree" in refused(
        Counter("calls", event=STOP), named("calls", "other")
    )


def test_units_are_ucum() -> None:
    assert {ucum(unit) for unit in CODES} == set(CODES.values())
    assert ucum("token") == ucum("{token}") == "{token}"
    assert ucum("ms") == "ms"
    assert ucum("page per \ud800 {x}") == "{page_per____x}"
    assert len(ucum("x" * 200)) == LONGEST
