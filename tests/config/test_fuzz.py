"""Whatever is in files and variables, the answer is a documented error or none."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmevents.config import ConfigError
from llmevents.config._aliases import ALIASES, KILL_SWITCH
from llmevents.config._annotations import annotations_of, describe, fits
from llmevents.config._given import merged
from llmevents.config._prepare import prepare
from llmevents.metrics import MetricDefinitionError


DOCUMENTED = (ConfigError, MetricDefinitionError, ModuleNotFoundError)

KEYS = st.sampled_from(
    ["enabled", "instrument", "metrics", "max_series", "max_idle", "logger", "level", "events",
     "shutdown_timeout", "reporters", "acme", "port", "headers", "otel", "tool",
     "log_level", "otlp_enabled", "telemetry_backend", "otel_endpoint", "", "x"]
)  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)  # which is not equal to itself
    | TEXT
    | st.sampled_from(["acme", "basic", "info", "openai", "${X}", "${", "a.b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=5)
THEIRS = [KILL_SWITCH, *(name for row in ALIASES for name in row.variables)]
VARIABLES = st.dictionaries(
    st.sampled_from(THEIRS)
    | st.lists(KEYS, min_size=1, max_size=4).map(
        lambda keys: f"LLMEVENTS_{'__'.join(keys).upper()}"
    ),
    TEXT | VALUES.map(json.dumps),
    max_size=5,
)
fuzzed = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=150,
)


def _problems(keywords: dict[str, Any], environ: dict[str, str]) -> list[Exception]:
    prepared = prepare(keywords, environ=environ)
    json.dumps({name: one.value for name, one in prepared.settings.items()})
    return prepared.problems


@fuzzed
@given(VARIABLES)
def test_no_environment_does_harm(acme: ModuleType, environ: dict[str, str]) -> None:
    for problem in _problems({}, environ):
        assert isinstance(problem, DOCUMENTED), repr(problem)
        assert str(problem).isprintable()


@fuzzed
@given(TABLES)
def test_no_keywords_do_harm(acme: ModuleType, keywords: dict[str, Any]) -> None:
    for problem in _problems(keywords, {}):
        assert isinstance(problem, DOCUMENTED), repr(problem)


@fuzzed
@given(st.binary() | TABLES.map(lambda table: _toml(table).encode()))
def test_no_file_does_harm(acme: ModuleType, data: bytes) -> None:
    Path("llmevents.toml").write_bytes(data)
    for problem in _problems({}, {"X": "1"}):
        assert isinstance(problem, DOCUMENTED), repr(problem)


def _toml(value: dict[str, object]) -> str:
    """Write a table as TOML, as far as JSON and TOML agree."""
    return "\n".join(
        f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items()
    )


def _inline(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value)


@given(TABLES, TABLES)
def test_merging_goes_key_by_key_and_the_later_wins(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    both = cast("dict[str, Any]", merged(earlier, later))

    assert both.keys() == earlier.keys() | later.keys()
    for key, value in both.items():
        if key not in later:
            assert value == earlier[key]
        elif not (isinstance(later[key], dict) and isinstance(earlier.get(key), dict)):
            assert value == later[key]
        else:
            assert value == merged(earlier[key], later[key])
    assert _sorted(merged(later, later)) == _sorted(later)


def _sorted(value: object) -> str:
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "words"),
    [
        (None, [None], [0], "None"),
        (dict, [{}], [[]], "a table"),
        (list, [[]], ["a"], "a list"),
        (list[int], [[1]], [["a"], 1], "a list, each item an integer"),
        (
            dict[str, float],
            [{"a": 1}],
            [{"a": "b"}, []],
            "a table, each value a number",
        ),
        (tuple[int, ...], [[1], (1, 2)], [["a"]], "a list, each item an integer"),
        (frozenset[str], [["a"]], ["a"], "a list, each item text"),
        (Path, ["a", Path("a")], [1], "text (a path)"),
        (type[int], [int], [3], "a type"),
        (Any, [1, "a"], [], None),
        ("unresolved", [1], [], None),
    ],
    ids=repr,
)
def test_annotations_are_checked_as_far_as_that_is_simple(
    annotation: object, good: list[object], bad: list[object], words: str | None
) -> None:
    assert all(fits(value, annotation) for value in good)
    assert not any(fits(value, annotation) for value in bad)
    if words is not None:
        assert describe(annotation).startswith(words)


def test_a_protocol_that_cannot_be_checked_fits_everything() -> None:
    from llmevents.reporting import Reporter

    assert fits(3, Reporter)


def test_callables_and_annotated_types_are_known() -> None:
    from collections.abc import Callable
    from typing import Annotated

    assert fits(print, Callable[[str], None])
    assert not fits("print", Callable[[str], None])
    assert fits("a", Annotated[str, "whatever"])
    assert not fits(3, Annotated[str, "whatever"])
    assert describe(Annotated[str, "whatever"]) == "text"


def test_annotations_may_be_types_text_or_beyond_knowing() -> None:
    class Reporter:
        def __init__(self, one: int, two: int, three: int) -> None: ...

    Reporter.__init__.__annotations__ = {"one": int, "two": "int", "three": "nothing"}

    assert annotations_of(Reporter) == {"one": int, "two": int}
