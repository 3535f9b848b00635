"""The page: what series look like in both formats, and what spoils it (nothing)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from math import inf
from types import MappingProxyType
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import (
    text_string_to_metric_families as parse_classic,
)

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Distribution,
    Exemplar,
    ExponentialHistogram,
    Family,
    Histogram,
    LastValue,
    Metric,
    MetricStore,
    Series,
    Snapshot,
    Sum,
    Summary,
    Value,
)
from llmevents_prometheus import PrometheusReporter


openmetrics: Callable[[CollectorRegistry], bytes] = exposition.generate_latest
parse: Callable[[str], Iterable[Any]] = parser.text_string_to_metric_families

EXEMPLAR = {"trace_id": "ab" * 16, "span_id": "cd" * 8}


def store_of(*definitions: Metric) -> tuple[Bus, MetricStore]:
    bus = Bus()
    store = MetricStore(definitions)
    store.attach(bus)
    return bus, store


class Fixed(MetricStore):
    """A store that shows what it was told to, good or bad."""

    def __init__(self, definition: Metric, *series: Series) -> None:
        super().__init__([definition])
        family = Family(definition, series)
        self._shown = MappingProxyType({definition.name: family})

    def snapshot(self) -> Snapshot:
        return Snapshot(self._shown)


class Page:
    """A started reporter in a registry of its own, without a server."""

    def __init__(self, store: MetricStore) -> None:
        self.registry = CollectorRegistry()
        self.reporter = PrometheusReporter(port=None, registry=self.registry)
        self.reporter.start(Bus(), store)

    def classic(self) -> str:
        return without_ours(generate_latest(self.registry).decode())

    def openmetrics(self) -> str:
        return without_ours(openmetrics(self.registry).decode())

    def samples(self) -> list[tuple[str, Mapping[str, str], float]]:
        """Return what both formats have, as their parsers read it."""
        text = openmetrics(self.registry).decode()
        new = [
            (sample.name, sample.labels, sample.value)
            for family in parse(text)
            for sample in family.samples
            if not sample.name.startswith("llmevents_")
        ]
        old = [
            (sample.name, sample.labels, sample.value)
            for family in parse_classic(generate_latest(self.registry).decode())
            for sample in family.samples
            if not sample.name.startswith("llmevents_")
        ]
        assert old == new
        return new


def without_ours(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if "llmevents_" not in line)


@contextmanager
def page_of(store: MetricStore) -> Iterator[Page]:
    page = Page(store)
    try:
        yield page
    finally:
        page.reporter.stop(1.0)


PAIR = ("provider", "model")

ALL = (
    Counter(
        "llm.chat.requests.total",
        event="llm.chat.stop",
        tags=PAIR,
        description='Calls, "all" of\nthem \\o/',
    ),
    Sum(
        "llm.cost.usd.total",
        event="llm.chat.stop",
        measurement="cost",
        unit=("nano_usd", "usd"),
        tags=PAIR,
    ),
    Sum("llm.active", event="llm.chat.stop", measurement="active", monotonic=False),
    LastValue("llm.temperature", event="llm.chat.stop", measurement="temperature"),
    Distribution(
        "llm.latency.seconds",
        event="llm.chat.stop",
        measurement="duration",
        unit=("nanosecond", "second"),
        buckets=(0.5, 1, 2.5),
        tags=("model",),
    ),
    Summary(
        "llm.chunks",
        event="llm.chat.stop",
        measurement="chunks",
    ),
)


def call(bus: Bus, model: str = "gpt-4o", **measurements: float) -> None:
    metadata = {"provider": "openai", "model": model}
    bus.execute("llm.chat.stop", measurements, metadata)


CLASSIC = r"""
# HELP llm_chat_requests_total Calls, "all" of\nthem \\o/
# TYPE llm_chat_requests_total counter
llm_chat_requests_total{model="gpt-4o",provider="openai"} 4.0
# HELP llm_cost_usd_total Sum llm.cost.usd.total in usd
# TYPE llm_cost_usd_total counter
llm_cost_usd_total{model="gpt-4o",provider="openai"} 0.001234567
# HELP llm_active Sum llm.active
# TYPE llm_active gauge
llm_active -2.0
# HELP llm_temperature LastValue llm.temperature
# TYPE llm_temperature gauge
llm_temperature -0.5
# HELP llm_latency_seconds Distribution llm.latency.seconds in second
# TYPE llm_latency_seconds histogram
llm_latency_seconds_bucket{le="0.5",model="gpt-4o"} 1.0
llm_latency_seconds_bucket{le="1.0",model="gpt-4o"} 2.0
llm_latency_seconds_bucket{le="2.5",model="gpt-4o"} 3.0
llm_latency_seconds_bucket{le="+Inf",model="gpt-4o"} 4.0
llm_latency_seconds_count{model="gpt-4o"} 4.0
llm_latency_seconds_sum{model="gpt-4o"} 6.5
# HELP llm_chunks Summary llm.chunks
# TYPE llm_chunks summary
llm_chunks{quantile="0.5"} Q
llm_chunks{quantile="0.9"} Q
llm_chunks{quantile="0.95"} Q
llm_chunks{quantile="0.99"} Q
llm_chunks_count 2.0
llm_chunks_sum 14.0
""".lstrip()


def test_this_is_the_page() -> None:
    bus, store = store_of(*ALL)
    # A value that is equal to a bound belongs to its bucket.
    call(bus, duration=500_000_000, cost=1_000_000, active=1, temperature=1)
    call(bus, duration=1_000_000_000, cost=234_567, active=-3, temperature=-0.5)
    call(bus, duration=2_000_000_000, chunks=7)
    call(bus, duration=3_000_000_000, chunks=7)

    with page_of(store) as page:
        text = page.classic()
        quantiles = re.findall(r"llm_chunks{.*} (\S+)", text)
        assert all(abs(float(value) - 7) < 0.07 for value in quantiles)
        text = re.sub(r"(llm_chunks{.*}) \S+", r"\1 Q", text)
        assert text == CLASSIC

        text = page.openmetrics()
        assert "# TYPE llm_cost_usd counter\n# UNIT llm_cost_usd usd\n" in text
        assert "# UNIT llm_latency_seconds seconds\n" in text
        assert text.endswith("\n# EOF\n")
        assert len(page.samples()) == 16


def test_series_without_events_start_at_0() -> None:
    """Otherwise the first increase of a counter is one that ``rate`` cannot see."""
    declared = {"prometheus": {"initial": [{"model": "gpt-4o"}]}}
    _, store = store_of(
        Counter("a.n"),
        Counter("a.m", tags=("model", "user"), reporter_options=declared),
        Counter("a.nobody", tags=("model",)),
        LastValue("a.level"),
        Distribution("a.d", buckets=(1,)),
        Summary("a.s"),
    )

    with page_of(store) as page:
        assert page.samples() == [
            ("a_n_total", {}, 0),
            ("a_m_total", {"model": "gpt-4o", "user": ""}, 0),
            ("a_d_bucket", {"le": "1.0"}, 0),
            ("a_d_bucket", {"le": "+Inf"}, 0),
            ("a_d_count", {}, 0),
            ("a_d_sum", {}, 0),
            ("a_s_count", {}, 0),
            ("a_s_sum", {}, 0),
        ]
        assert "# TYPE a_nobody_total counter\n" in page.classic()
        assert "# TYPE a_level gauge\n" in page.classic()


def test_initial_series_become_the_real_ones() -> None:
    declared = {"prometheus": {"initial": [{"m": "x"}, {"m": "y"}]}}
    bus, store = store_of(
        Counter("a.n", tags=("m",), reporter_options=declared),
        LastValue("a.v", tags=("m",), reporter_options=declared),
        Distribution("a.d", tags=("m",), buckets=(1,), reporter_options=declared),
        Summary("a.s", tags=("m",), reporter_options=declared),
        Counter("a.f", tags=lambda _, m: m, reporter_options=declared),
    )
    bus.execute("a", {"v": 3, "d": 1, "s": 0.0}, {"m": "x"})

    with page_of(store) as page:
        found = {(name, *labels.values()): n for name, labels, n in page.samples()}

    assert found["a_n_total", "x"] == 1
    assert found["a_n_total", "y"] == 0
    assert found["a_v", "x"] == 3
    assert found["a_v", "y"] == 0
    assert found["a_d_bucket", "1.0", "x"] == 1
    assert found["a_s_count", "x"] == 1
    assert found["a_s", "x", "0.5"] == 0
    assert found["a_f_total", "x"] == 1
    assert found["a_f_total", "y"] == 0


def test_a_missing_tag_is_an_empty_label() -> None:
    """Series of one family have the same labels; the empty one is the absent one."""
    bus, store = store_of(Counter("a.n", tags=("model", "user")))
    bus.execute("a", {}, {"model": "m"})
    bus.execute("a", {}, {"model": "m", "user": ""})
    bus.execute("a", {}, {"model": "m", "user": "u"})

    with page_of(store) as page:
        assert page.samples() == [
            ("a_n_total", {"model": "m", "user": ""}, 2),
            ("a_n_total", {"model": "m", "user": "u"}, 1),
        ]
        assert page.reporter.status().dropped == {}


def test_computed_tags_have_labels_of_their_own() -> None:
    bus, store = store_of(
        Counter("a.n", tags=lambda _, metadata: metadata, constant_tags={"env": "x"})
    )
    bus.execute("a", {}, {"model": "m"})
    bus.execute("a", {}, {"user.id": "u"})

    with page_of(store) as page:
        assert page.samples() == [
            ("a_n_total", {"env": "x", "model": "m", "user_id": ""}, 1),
            ("a_n_total", {"env": "x", "model": "", "user_id": "u"}, 1),
        ]


@pytest.mark.parametrize(
    "tags", [{"le": "1"}, {"__name__": "evil"}, {"a.b": "1", "a-b": "2"}]
)
def test_computed_tags_that_are_no_labels_cost_their_series(
    tags: Mapping[str, str],
) -> None:
    bus, store = store_of(Counter("a.n", tags=lambda _, metadata: metadata))
    bus.execute("a", {}, tags)
    bus.execute("a", {}, {"model": "m"})

    with page_of(store) as page:
        assert page.classic().endswith('a_n_total{model="m"} 1.0\n')
        status = page.reporter.status()

    assert dict(status.dropped) == {"bad_series": 1}
    assert status.delivered == 1
    assert status.is_balanced


# --- Hostile text -----------------------------------------------------------------

HOSTILE = {
    "quotes": '"} 1\nevil_total 1\n#',
    "backslashes": "\\\\n\\",
    "newlines": "a\nb\r\nc\u2028d\x85e\x0b\x0c\x1c",
    "braces": "{,}=#",
    "controls": "\0\x1b[2J\x7f\t",
    "other scripts": "表é👩\u200d🚀\u202e",
    "long": "x" * 2**20,
    "nothing": "",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_labels_are_what_the_tags_were(value: str) -> None:
    constants = {"k": value}
    bus, store = store_of(
        Counter("a.n", constant_tags=constants),
        Distribution("a.d", constant_tags=constants, buckets=(1,)),
    )
    bus.execute("a", {"d": 0}, {})

    with page_of(store) as page:
        samples = page.samples()

    assert [labels["k"] for _, labels, _ in samples] == [value] * 5
    assert [n for _, _, n in samples] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("definition", "raws", "shown"),
    [
        (Counter("a.n", tags=("k",)), (1, 2), [3]),
        (Sum("a.n", tags=("k",), monotonic=False), (1, -2), [-1]),
        (LastValue("a.n", tags=("k",)), (1, 2), [2]),
        (
            Distribution("a.n", tags=("k",), buckets=(1,)),
            (Histogram((1,), (1, 0), 1), Histogram((1,), (1, 1), 3)),
            [2, 3, 3, 4],
        ),
        (
            Summary("a.n", tags=("k",)),
            (ExponentialHistogram({0: 1}, 0), ExponentialHistogram({0: 2}, 0)),
            [0, 0, 0, 0, 3, 0],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_text_that_is_none_cannot_break_the_page(
    definition: Metric, raws: tuple[Any, Any], shown: list[float]
) -> None:
    """A lone surrogate is no UTF-8. What differs in these only becomes one series."""
    first, second = raws
    store = Fixed(
        definition, Series({"k": "\ud800"}, first), Series({"k": "\udfff"}, second)
    )

    with page_of(store) as page:
        samples = page.samples()
        assert page.reporter.status().dropped == {}

    assert {labels["k"] for _, labels, _ in samples} == {"\ufffd"}
    assert [n for _, _, n in samples] == shown


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_a_label(text: str) -> None:
    bus, store = store_of(Counter("a.n", constant_tags={"k": text}))
    bus.execute("a", {}, {})

    with page_of(store) as page:
        ((_, labels, count),) = page.samples()

    assert re.fullmatch("(?s)" + re.sub("\ufffd+", ".+", re.escape(labels["k"])), text)
    assert count == 1


# --- Numbers ----------------------------------------------------------------------


def test_what_openmetrics_cannot_have_below_0_is_left_out() -> None:
    """OpenMetrics 1.0: no sum where it may go down, and no negative quantiles."""
    bus, store = store_of(
        Distribution("a.below", measurement="d", buckets=(-1, 1)),
        Distribution("a.above", measurement="d", buckets=(1, 2)),
        Summary("a.s", measurement="d"),
    )
    bus.execute("a", {"d": -5}, {})

    with page_of(store) as page:
        found = [(name, *labels.values(), n) for name, labels, n in page.samples()]

    assert found == [
        ("a_below_bucket", "-1.0", 1),
        ("a_below_bucket", "1.0", 1),
        ("a_below_bucket", "+Inf", 1),
        ("a_above_bucket", "1.0", 1),
        ("a_above_bucket", "2.0", 1),
        ("a_above_bucket", "+Inf", 1),
        ("a_s_count", 1),
    ]


def test_bounds_are_written_as_go_writes_them() -> None:
    bus, store = store_of(Distribution("a.d", buckets=(0, 1, 4**12, 2**60)))
    bus.execute("a", {"d": 1}, {})

    with page_of(store) as page:
        bounds = re.findall(r'le="(.*?)"', page.openmetrics())

    assert bounds == ["0.0", "1.0", "1.6777216e+07", "1.152921504606847e+18", "+Inf"]


# --- Exemplars ---------------------------------------------------------------------


def exemplars_of(page: Page) -> dict[str, Any]:
    text = openmetrics(page.registry).decode()
    return {
        sample.labels["le"]: sample.exemplar
        for family in parse(text)
        for sample in family.samples
        if sample.exemplar
    }


def test_buckets_have_exemplars_in_openmetrics() -> None:
    bus, store = store_of(
        Distribution("a.d", buckets=(1, 2), unit=("millisecond", "second"))
    )
    store.exemplify(lambda metadata: EXEMPLAR if metadata else None)
    bus.execute("a", {"d": 1500}, {"any": 1})
    bus.execute("a", {"d": 500}, {})
    bus.execute("a", {"d": 9000}, {"any": 1})

    with page_of(store) as page:
        found = exemplars_of(page)
        assert "trace_id" not in page.classic()

    assert found.keys() == {"2.0", "+Inf"}
    assert found["2.0"].labels == EXEMPLAR
    assert [each.value for each in found.values()] == [1.5, 9.0]
    assert 0 <= store.snapshot().time_ns / 1e9 - float(found["2.0"].timestamp) < 600


@pytest.mark.parametrize(
    "attributes",
    [
        {"trace_id": "x" * 121},
        {"le": "x"},
        {"a b": "x" * 126},
        {"trace_id": 7},
    ],
)
def test_an_exemplar_that_cannot_be_sent_is_left_out(
    attributes: Mapping[str, Any],
) -> None:
    """OpenMetrics 1.0 allows 128 characters; the bucket is worth more than these."""
    exemplar = Exemplar(1, 1, attributes)
    raw = Histogram((1,), (1, 0), 1)
    store = Fixed(
        Distribution("a.d", buckets=(1,)), Series({}, raw, Fraction(1), {0: exemplar})
    )

    with page_of(store) as page:
        assert exemplars_of(page) == {}
        assert "a_d_count 1.0" in page.classic()


def test_an_exemplar_may_have_128_characters() -> None:
    exemplar = Exemplar(0.5, 1_700_000_000_000_000_007, {"trace_id": "é\ud800" * 60})
    raw = Histogram((1,), (1, 0), 1)
    store = Fixed(
        Distribution("a.d", buckets=(1,)), Series({}, raw, Fraction(1), {0: exemplar})
    )

    with page_of(store) as page:
        text = page.openmetrics()
        found = exemplars_of(page)

    assert found["1.0"].labels == {"trace_id": "é\ufffd" * 60}
    assert "} 0.5 1700000000.000000007\n" in text


# --- Series and stores that are broken ----------------------------------------------


HISTOGRAM = Histogram((1,), (1, 2), 3)

NOT_TEXT: Any = {"k": 7}


@pytest.mark.parametrize(
    ("definition", "good", "bad"),
    [
        (Counter("a.n", tags=("k",)), 1, Series({"k": "bad"}, -1)),
        (Counter("a.n", tags=("k",)), 1, Series({"k": "bad"}, HISTOGRAM)),
        (Counter("a.n", tags=("k",)), 1, Series({"k": "bad"}, float("nan"))),
        (LastValue("a.n", tags=("k",)), 1, Series({"k": "bad"}, 10**400)),
        (Distribution("a.n", tags=("k",)), HISTOGRAM, Series({"k": "bad"}, 1)),
        (
            Distribution("a.n", tags=("k",)),
            HISTOGRAM,
            Series({"k": "bad"}, Histogram((1, 2), (1,), 3)),
        ),
        (Distribution("a.n", tags=("k",)), HISTOGRAM, Series({"k": "good"}, 1)),
        (
            Summary("a.n", tags=("k",)),
            ExponentialHistogram({1: 1}, 1),
            Series({"k": "bad"}, 1),
        ),
        (
            Summary("a.n", tags=("k",)),
            ExponentialHistogram({1: 1}, 1),
            Series({"k": "good"}, 1),
        ),
        (Counter("a.n", tags=("k",)), 1, Series(NOT_TEXT, 1)),
        (Counter("a.n", tags=lambda _, m: m), 1, Series(NOT_TEXT, 1)),
        (Counter("a.n", tags=lambda _, m: m), 1, Series({"k": "good"}, HISTOGRAM)),
    ],
)
def test_one_bad_series_does_not_spoil_the_scrape(
    definition: Metric, good: Value, bad: Series
) -> None:
    store = Fixed(definition, Series({"k": "good"}, good), bad)

    with page_of(store) as page:
        samples = page.samples()
        status = page.reporter.status()

    assert {labels["k"] for _, labels, _ in samples} == {"good"}
    assert dict(status.dropped) == {"bad_series": 2}
    assert status.delivered == 2
    assert status.is_balanced


def test_what_is_infinite_is_shown_so() -> None:
    store = Fixed(LastValue("a.n"), Series({}, inf))

    with page_of(store) as page:
        assert page.samples() == [("a_n", {}, inf)]


def test_a_store_that_fails_leaves_a_gap_and_no_reset() -> None:
    class Broken(MetricStore):
        def snapshot(self) -> NoReturn:
            msg = "no"
            raise RuntimeError(msg)

    with page_of(Broken([Counter("a.n")])) as page:
        assert page.classic() == ""
        status = page.reporter.status()

    assert dict(status.dropped) == {"scrape_error": 1}
    assert status.is_balanced


# --- About ourselves ----------------------------------------------------------------


def test_the_page_says_what_was_refused_and_dropped() -> None:
    bus, store = store_of(Sum("a.n"), Counter("a.f", tags=lambda _, __: {"le": "1"}))
    bus.execute("a", {"n": float("nan")}, {})

    with page_of(store) as page:
        value: Callable[..., float | None] = page.registry.get_sample_value
        dropped = "llmevents_prometheus_series_dropped_total"
        assert value("llmevents_values_refused_total") == 1
        assert value("llmevents_prometheus_scrapes_total") == 2
        assert value(dropped, {"reason": "bad_series"}) == 3
        assert value(dropped, {"reason": "scrape_error"}) == 0


def test_a_scrape_may_ask_for_some_names_only() -> None:
    bus, store = store_of(*ALL)
    call(bus, duration=1)

    with page_of(store) as page:
        some = page.registry.restricted_registry(["llm_latency_seconds_count"])
        lines = generate_latest(some).decode().splitlines()

    assert lines[2:] == ['llm_latency_seconds_count{model="gpt-4o"} 1.0']
