from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from llmevents import LLMEventsError, Name
from llmevents.metrics import Counter, LastValue, Metric, MetricDefinitionError, Sum


TYPES = [Counter, LastValue, Sum]
MEASURED = [LastValue, Sum]

each_type = pytest.mark.parametrize("make", TYPES, ids=lambda kind: kind.__name__)
each_measured = pytest.mark.parametrize(
    "make", MEASURED, ids=lambda kind: kind.__name__
)


def always(measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> bool:
    return True


def never(measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> bool:
    return False


async def later(measurements: object, metadata: object) -> bool:
    return True


@each_type
def test_the_rest_of_a_name_is_the_event(make: Callable[..., Metric]) -> None:
    """Elixir's rule (M-01)."""
    metric = make("http.request.latency")

    assert metric.name == "http.request.latency"
    assert metric.events == (("http", "request"),)


@each_measured
def test_the_last_segment_of_a_name_is_the_measurement(make: type[Sum]) -> None:
    assert make("http.request.latency").measurement == "latency"


@each_type
def test_only_a_name_leaves_the_rest_empty(make: Callable[..., Metric]) -> None:
    metric = make("http.request.latency")

    assert metric.tags == ()
    assert metric.tag_names == ()
    assert metric.constant_tags == ()
    assert metric.keep is None
    assert metric.unit == ""
    assert metric.description == ""


@each_type
def test_a_name_may_be_a_tuple(make: Callable[..., Metric]) -> None:
    assert make(("http", "request", "latency")) == make("http.request.latency")


@each_type
def test_a_colon_is_an_ordinary_character(make: Callable[..., Metric]) -> None:
    assert make("http.re:quest.latency").events == (("http", "re:quest"),)


@each_type
def test_one_segment_is_enough_with_an_event(make: Callable[..., Metric]) -> None:
    metric = make("latency", event="http.request")

    assert metric.name == "latency"
    assert metric.events == (("http", "request"),)


@pytest.mark.parametrize(
    ("event", "events"),
    [
        pytest.param("llm.chat.stop", (("llm", "chat", "stop"),), id="dotted"),
        pytest.param(("llm", "chat"), (("llm", "chat"),), id="tuple"),
        pytest.param("llm.*.stop", (("llm", "*", "stop"),), id="pattern"),
        pytest.param(["a.b", "llm.**", "a.b"], (("a", "b"), ("llm", "**")), id="list"),
    ],
)
def test_an_event_is_a_name_a_pattern_or_a_list(
    event: Name | list[Name], events: tuple[tuple[str, ...], ...]
) -> None:
    assert Counter("n", event=event).events == events


def test_each_option_appears_on_the_definition() -> None:
    metric = Sum(
        "tokens",
        event="llm.*.stop",
        measurement="input_tokens",
        tags=["provider", "model"],
        constant_tags={"type": "input", "exact": True, "version": 2},
        keep=always,
        unit="token",
        description="Tokens that went in.",
        monotonic=False,
    )

    assert metric.measurement == "input_tokens"
    assert metric.tags == ("provider", "model")
    assert metric.constant_tags == (
        ("type", "input"),
        ("exact", "true"),
        ("version", "2"),
    )
    assert metric.tag_names == ("provider", "model", "type", "exact", "version")
    assert metric.keep is always
    assert metric.unit == "token"
    assert metric.description == "Tokens that went in."
    assert metric.monotonic is False


def test_sums_are_monotonic_unless_told_otherwise() -> None:
    assert Sum("a.b").monotonic is True


def test_measurement_and_tags_may_be_functions() -> None:
    def measure(measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> int:
        return 1

    def tag(
        measurements: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> dict[str, str]:
        return {}

    metric = LastValue("a.b", measurement=measure, tags=tag)

    assert (metric.measurement, metric.tags) == (measure, tag)
    assert metric.tag_names is None


def test_a_function_without_a_signature_is_taken_on_trust() -> None:
    """The built-in `max` has none that could be read."""
    largest: Callable[..., float] = max

    assert Sum("a.b", measurement=largest).measurement == largest


def test_drop_is_stored_as_the_opposite_of_keep() -> None:
    """Whoever evaluates a definition has one predicate to know (M-23, M-25)."""
    dropped = Counter("a.b", drop=always).keep
    kept = Counter("a.b", drop=never).keep

    assert dropped is not None
    assert kept is not None
    assert dropped({}, {}) is False
    assert kept({}, {}) is True


def test_equal_definitions_are_equal_and_hash_alike() -> None:
    first = Sum("a.b", event=["x", "y"], constant_tags={"k": "v"}, drop=never)
    again = Sum("a.b", event=["x", "y"], constant_tags={"k": "v"}, drop=never)

    assert first == again
    assert hash(first) == hash(again)
    assert first != Sum("a.b", event=["x", "y"], constant_tags={"k": "w"}, drop=never)


def test_a_definition_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'unit'"):
        Counter("a.b").unit = "token"  # type: ignore[misc]  # what is being tested


@each_type
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("", "it is empty", id="empty text"),
        pytest.param((), "it is empty", id="empty tuple"),
        pytest.param(None, "got NoneType", id="none"),
        pytest.param(["a", "b"], "got list", id="list"),
        pytest.param(("a", None), "segment None is NoneType", id="not all text"),
        pytest.param(".a.b", "empty segment", id="leading dot"),
        pytest.param("a.b.", "empty segment", id="trailing dot"),
        pytest.param("a..b", "empty segment", id="doubled dot"),
        pytest.param("a.\n.b", "unprintable|printed", id="line break"),
        pytest.param(
            "a", r"write '<event>\.a', or say .* with event=", id="one segment"
        ),
        pytest.param("llm.*.count", "give the pattern as event=", id="pattern"),
        pytest.param(
            ("llm", "**", "n"), "give the pattern as event=", id="tuple pattern"
        ),
    ],
)
def test_a_bad_name_is_refused(
    make: Callable[..., Metric], name: object, complaint: str
) -> None:
    with pytest.raises(MetricDefinitionError, match=complaint):
        make(name)


@each_type
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param(
            {"event": ""}, "event= is wrong: .* it is empty", id="empty event"
        ),
        pytest.param({"event": []}, "at least one name", id="no event"),
        pytest.param({"event": "a..b"}, "empty segment", id="malformed event"),
        pytest.param({"event": "a*.b"}, "must be a whole segment", id="bad pattern"),
        pytest.param({"tags": "model"}, r"pass a tuple of keys", id="tags as text"),
        pytest.param({"tags": None}, "tags is None", id="no tags"),
        pytest.param({"tags": {"model"}}, "pass a tuple of keys", id="tags as set"),
        pytest.param({"tags": ("",)}, "'' cannot be a tag's name", id="empty tag"),
        pytest.param({"tags": (1,)}, "1 cannot be a tag's name", id="numeric tag"),
        pytest.param({"tags": ("a\n",)}, "cannot be a tag's name", id="tag with break"),
        pytest.param({"tags": ("a", "a")}, "'a' is there twice", id="repeated tag"),
        pytest.param(
            {"tags": lambda measurements: {}},
            r"called as \(measurements",
            id="one argument",
        ),
        pytest.param({"tags": later}, "use def", id="coroutine tags"),
        pytest.param(
            {"constant_tags": ["a"]}, "pass a mapping", id="constants as list"
        ),
        pytest.param({"constant_tags": {"": "b"}}, "a tag's name", id="empty constant"),
        pytest.param({"constant_tags": {"a": None}}, "'a' is None", id="constant none"),
        pytest.param(
            {"tags": ("a",), "constant_tags": {"a": "b"}},
            "'a' is both in tags and in constant_tags",
            id="tag and constant",
        ),
        pytest.param({"keep": always, "drop": always}, "exclude each other", id="both"),
        pytest.param({"keep": True}, "keep is True; pass a function", id="no function"),
        pytest.param({"keep": lambda: True}, "keep has the signature", id="keep/0"),
        pytest.param({"drop": lambda m: True}, "drop has the signature", id="drop/1"),
        pytest.param({"drop": later}, "drop is a coroutine function", id="coroutine"),
        pytest.param({"unit": None}, "unit is None; pass its name", id="unit"),
        pytest.param({"description": b"x"}, "description is b'x'", id="description"),
    ],
)
def test_a_bad_option_is_refused(
    make: Callable[..., Metric], options: dict[str, object], complaint: str
) -> None:
    """The mistake is reported where the metric is written, not at the first event."""
    with pytest.raises(MetricDefinitionError, match=complaint):
        make("a.b", **options)


@each_measured
@pytest.mark.parametrize(
    ("measurement", "complaint"),
    [
        pytest.param("", "measurement is ''; pass a key or a function", id="empty"),
        pytest.param(3, "measurement is 3; pass a key or a function", id="number"),
        pytest.param(lambda: 1, "measurement has the signature", id="no arguments"),
        pytest.param(later, "measurement is a coroutine function", id="coroutine"),
    ],
)
def test_a_bad_measurement_is_refused(
    make: Callable[..., Metric], measurement: object, complaint: str
) -> None:
    with pytest.raises(MetricDefinitionError, match=complaint):
        make("a.b", measurement=measurement)


def test_monotonic_is_a_yes_or_no() -> None:
    with pytest.raises(MetricDefinitionError, match="monotonic is 'no'; pass True"):
        Sum("a.b", monotonic="no")  # type: ignore[arg-type]  # what is being tested


@pytest.mark.parametrize(
    ("make", "option"),
    [
        pytest.param(Counter, "tag", id="typo"),
        pytest.param(Counter, "measurement", id="a counter has none"),
        pytest.param(LastValue, "monotonic", id="of sums only"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(
    make: Callable[..., Metric], option: str
) -> None:
    """Elixir ignores them without a word."""
    complaint = f"'{option}' is no option of it; nearest is '"
    with pytest.raises(MetricDefinitionError, match=complaint):
        make("a.b", **{option: "x"})


def test_the_error_names_the_metric_and_fits_the_tree() -> None:
    with pytest.raises(ValueError, match=r"cannot use metric 'a\.b': unit") as caught:
        Counter("a.b", unit=3)  # type: ignore[arg-type]  # what is being tested

    error: Exception = caught.value
    assert isinstance(error, LLMEventsError)
    assert getattr(error, "name", None) == "a.b"
