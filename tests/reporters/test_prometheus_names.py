"""What definitions become in Prometheus, and what is refused at the start."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as NativeCounter

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    MetricDefinitionError,
    MetricStore,
    Sum,
    Summary,
)
from llmevents_prometheus import PrometheusReporter
from llmevents_prometheus._names import expose, label_name, sendable


def named(name: object) -> Mapping[str, Mapping[str, object]]:
    return {"prometheus": {"name": name}}


def starting_at(*tags: object) -> Mapping[str, Mapping[str, object]]:
    return {"prometheus": {"initial": list(tags)}}


@pytest.mark.parametrize(
    ("definition", "name", "kind"),
    [
        (Counter("llm.chat.stop"), "llm_chat_stop", "counter"),
        (Counter("llm.calls.total", event="a.b"), "llm_calls", "counter"),
        (Counter("calls.total.total", event="a.b"), "calls", "counter"),
        (Counter("total", event="a.b"), "total", "counter"),
        (Counter("_total", event="a.b"), "_total", "counter"),
        (Sum("a.b.tokens"), "a_b_tokens", "counter"),
        (Sum("a.b.total", monotonic=False), "a_b_total", "gauge"),
        (LastValue("a.b-c.größe"), "a_b_c_gr__e", "gauge"),
        (LastValue("9th.life"), "_9th_life", "gauge"),
        (LastValue("a:b.c"), "a_b_c", "gauge"),
        (Distribution("a.b.seconds"), "a_b_seconds", "histogram"),
        (Summary("a.b.seconds"), "a_b_seconds", "summary"),
        (
            Counter("a.b", reporter_options=named("job:calls_total")),
            "job:calls",
            "counter",
        ),
    ],
)
def test_names_and_types(definition: Metric, name: str, kind: str) -> None:
    (exposed,) = expose([definition])

    assert (exposed.name, exposed.kind) == (name, kind)


@pytest.mark.parametrize(
    ("name", "unit", "shown"),
    [
        ("llm.cost.usd.total", "usd", "usd"),
        ("llm.latency.seconds", "second", "seconds"),
        ("llm.cost.total", "usd", ""),
        ("seconds", "second", ""),
        ("llm.latency.seconds", "", ""),
    ],
)
def test_a_unit_is_one_that_the_name_ends_with(
    name: str, unit: str, shown: str
) -> None:
    """OpenMetrics 1.0 wants it so, and nobody wants it twice."""
    (exposed,) = expose([Sum(name, event="a.b", unit=unit)])

    assert exposed.unit == shown


def test_the_help_is_the_description_or_says_what_it_is() -> None:
    described, bare = expose(
        [
            Counter("a.b", description="Calls\n\ud800"),
            Sum("a.c", event="a.b", unit="token"),
        ]
    )

    assert described.description == "Calls\n\ufffd"
    assert bare.description == "Sum a.c in token"


def test_tags_become_labels() -> None:
    tags = ("gen_ai.request.model", "user-id", "1st")
    (exposed,) = expose([Counter("a.b", tags=tags, constant_tags={"env": "x"})])

    assert exposed.labels == ("gen_ai_request_model", "user_id", "_1st", "env")


@pytest.mark.parametrize("tag", ["le", "quantile", "__name__", "..x"])
def test_labels_that_prometheus_keeps_are_refused(tag: str) -> None:
    with pytest.raises(MetricDefinitionError, match=r"keeps the label '.*' for"):
        expose([Counter("a.b", tags=(tag,))])


def test_tags_that_would_be_one_label_are_refused() -> None:
    with pytest.raises(MetricDefinitionError, match="would both be the label 'a_b'"):
        expose([Counter("x.y", tags=("a.b", "a-b"))])


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        (Counter("a.b"), Counter("a-b", event="x"), "a_b"),
        (Counter("a.b"), Counter("a.b.total", event="x"), "a_b"),
        (Counter("a.b"), LastValue("a.b.total"), "a_b_total"),
        (LastValue("a.b.sum"), Distribution("a.b"), "a_b_sum"),
        (Distribution("a.b"), LastValue("a.b.bucket"), "a_b_bucket"),
        (Summary("a.b"), LastValue("a.b.count"), "a_b_count"),
        (Counter("a.b"), LastValue("a.b.created"), "a_b_created"),
        (LastValue("a.b"), LastValue("c.d", reporter_options=named("a_b")), "a_b"),
    ],
)
def test_two_metrics_with_one_name_are_refused(
    one: Metric, other: Metric, name: str
) -> None:
    complaint = f"would be '{name}', which belongs to metric '{one.name}'; rename one"

    with pytest.raises(MetricDefinitionError, match=re.escape(complaint)) as refused:
        expose([one, other])
    assert refused.value.name == other.name


def test_a_metric_cannot_have_a_name_of_ours() -> None:
    with pytest.raises(MetricDefinitionError, match="one of llmevents' own"):
        expose([Counter("llmevents.values.refused", event="a.b")])


def test_definitions_of_one_name_are_one_family() -> None:
    exposed = expose(
        [
            Counter("n", event="a.b", constant_tags={"type": "in"}),
            Counter("n", event="a.c", constant_tags={"type": "out"}),
        ]
    )

    (family,) = exposed
    assert [dict(one.tags) for one in family.initial] == [
        {"type": "in"},
        {"type": "out"},
    ]


def test_definitions_of_one_name_must_agree_on_the_new_one() -> None:
    with pytest.raises(MetricDefinitionError, match=r"differ: 'x', 'y'; make them"):
        expose(
            [
                Counter("n", event="a.b", reporter_options=named("x")),
                Counter("n", event="a.c", reporter_options=named("y")),
            ]
        )


@pytest.mark.parametrize("name", ["", "1a", "a.b", "a b", "ä", "a\n", 7])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(MetricDefinitionError, match="use letters, digits and under"):
        expose([Counter("a.b", reporter_options=named(name))])


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    options: dict[str, dict[str, object]] = {"prometheus": {"inital": []}}

    with pytest.raises(
        MetricDefinitionError, match=r"'inital' is no option .* nearest is 'initial'"
    ):
        expose([Counter("a.b", reporter_options=options)])


def test_options_of_other_reporters_are_theirs() -> None:
    assert expose([Counter("a.b", reporter_options={"statsd": {"what": 1}})])


def test_initial_series_have_their_tags_as_text() -> None:
    (exposed,) = expose(
        [
            Counter(
                "a.b",
                tags=("model", "stream", "n"),
                constant_tags={"env": "x"},
                reporter_options=starting_at({"model": "m", "stream": True, "n": 1}),
            )
        ]
    )

    (series,) = exposed.initial
    assert dict(series.tags) == {"model": "m", "stream": "true", "n": "1", "env": "x"}
    assert series.value == 0


@pytest.mark.parametrize(
    "initial", [{"model": "m"}, 7, ["model"], [{"model": None}], [{7: "m"}]]
)
def test_initial_series_are_a_list_of_tags(initial: object) -> None:
    options = {"prometheus": {"initial": initial}}

    with pytest.raises(MetricDefinitionError, match="pass a list of tags as mappings"):
        expose([Counter("a.b", tags=("model",), reporter_options=options)])


def test_initial_series_have_no_other_tags() -> None:
    options = starting_at({"modell": "m"})

    with pytest.raises(MetricDefinitionError, match=r"has the tag 'modell'.*leave it"):
        expose([Counter("a.b", tags=("model",), reporter_options=options)])


def test_initial_series_of_computed_tags_need_labels_too() -> None:
    options = starting_at({"le": "1"})

    with pytest.raises(MetricDefinitionError, match="keeps the label 'le'"):
        expose([Counter("a.b", tags=lambda _, __: {}, reporter_options=options)])


@pytest.mark.parametrize("what", ["counter", "registry"])
def test_names_in_the_users_registry_are_taken(what: str) -> None:
    registry = CollectorRegistry()
    native = NativeCounter("a_b", "Ours came first", registry=registry)
    store = MetricStore([LastValue("c.d"), Counter("a.b")])
    reporter = PrometheusReporter(port=None, registry=registry)

    with pytest.raises(
        MetricDefinitionError, match=r"cannot use metric 'a.b': .* in the registry that"
    ):
        reporter.start(Bus(), store)

    registry.unregister(native)
    reporter.start(Bus(), store)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        NativeCounter("a_b", "Ours came late", registry=registry)
    reporter.stop(0.0)


def test_a_registry_has_one_reporter() -> None:
    registry = CollectorRegistry()
    first = PrometheusReporter(port=None, registry=registry)
    first.start(Bus(), MetricStore([]))

    with pytest.raises(MetricDefinitionError, match="another PrometheusReporter"):
        PrometheusReporter(port=None, registry=registry).start(Bus(), MetricStore([]))
    first.stop(0.0)


@given(st.text(min_size=1).filter(str.isprintable))
def test_a_label_is_one_or_refused(tag: str) -> None:
    try:
        label = label_name(tag)
    except ValueError as error:
        assert "keeps the label" in str(error)  # noqa: PT017  # either may be
    else:
        assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label)
        assert not label.startswith("__")


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_sent_is_utf8_of_the_same_length(text: str) -> None:
    sent = sendable(text)

    assert sent.encode().decode() == sent
    assert len(sent) == len(text)
