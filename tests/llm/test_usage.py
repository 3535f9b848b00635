"""Usage: read from what providers send, added up, unknown kept apart from zero."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import llm
from llmevents._catalogue import USAGE
from llmevents.llm import Usage
from llmevents.llm.usage import FIELDS, as_count, read_usage
from tests.llm.calls import UNHURRIED


usages = st.dictionaries(
    st.sampled_from([name for name in FIELDS if name != "total_tokens"]),
    st.integers(min_value=0, max_value=10**12),
).map(lambda counts: Usage(**counts))

FULL: dict[str, Any] = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {
        "cached_tokens": 80,
        "cache_write_tokens": 10,
        "audio_tokens": 7,
    },
    "completion_tokens_details": {
        "reasoning_tokens": 30,
        "audio_tokens": 5,
        "accepted_prediction_tokens": 1,
        "rejected_prediction_tokens": 2,
    },
}


def test_every_field_is_a_declared_measurement() -> None:
    assert set(FIELDS) <= set(USAGE)


def test_a_full_usage_is_read_field_by_field() -> None:
    assert read_usage(FULL) == Usage(
        input_tokens=100,
        output_tokens=50,
        total_tokens=150,
        cache_read_tokens=80,
        cache_write_tokens=10,
        audio_input_tokens=7,
        reasoning_tokens=30,
        audio_output_tokens=5,
    )


def test_objects_are_read_like_json() -> None:
    as_object = SimpleNamespace(
        **{
            **FULL,
            "prompt_tokens_details": SimpleNamespace(**FULL["prompt_tokens_details"]),
        }
    )
    assert read_usage(as_object) == read_usage(FULL)


@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="empty"),
        pytest.param([], id="list"),
        pytest.param("12", id="text"),
        pytest.param(7, id="number"),
        pytest.param({"tokens_in": 1, "tokens_out": 2}, id="no shape"),
        pytest.param({"prompt_tokens": None, "completion_tokens": None}, id="nulls"),
        pytest.param({"prompt_tokens_details": None}, id="null details"),
        pytest.param({"prompt_tokens_details": [1]}, id="details of another shape"),
    ],
)
def test_what_states_no_count_is_no_usage(nothing: object) -> None:
    assert read_usage(nothing) is None


NO_COUNTS = [
    pytest.param(-1, id="negative"),
    pytest.param(True, id="true"),
    pytest.param(False, id="false"),
    pytest.param(1.5, id="fraction"),
    pytest.param(-2.0, id="negative float"),
    pytest.param(float("nan"), id="nan"),
    pytest.param(float("inf"), id="infinity"),
    pytest.param("5", id="text"),
    pytest.param(b"6", id="bytes"),
    pytest.param(None, id="none"),
    pytest.param([1], id="list"),
    pytest.param({}, id="dict"),
    pytest.param(object(), id="object"),
]


@pytest.mark.parametrize("junk", NO_COUNTS)
def test_what_is_no_count_is_ignored(junk: object) -> None:
    assert as_count(junk) is None
    usage = read_usage({"prompt_tokens": junk, "completion_tokens": 3})
    assert usage == Usage(output_tokens=3)


@pytest.mark.parametrize("many", [2**53, 10**30, 1e300])
def test_what_json_cannot_state_exactly_is_no_count(many: float) -> None:
    assert read_usage({"prompt_tokens": many, "completion_tokens": 3}) == Usage(
        output_tokens=3
    )


def test_a_whole_number_written_as_a_float_is_a_count() -> None:
    """JSON does not tell 9 from 9.0, and Cohere's SDK declares its counts as floats."""
    usage = read_usage({"prompt_tokens": 9.0, "completion_tokens": 2**53 - 1})
    assert usage == Usage(input_tokens=9, output_tokens=2**53 - 1)
    assert type(usage.input_tokens) is int


class _Index:
    """An integer of another library, like NumPy's."""

    def __index__(self) -> int:
        return 12


@pytest.mark.parametrize(
    ("value", "count"), [(0, 0), (12, 12), (10**30, 10**30), (_Index(), 12)]
)
def test_counts_stay_exact(value: object, count: int) -> None:
    assert as_count(value) == count
    assert type(as_count(value)) is int


def test_zero_is_stated_and_unknown_is_absent() -> None:
    assert Usage(input_tokens=0).measurements() == {"input_tokens": 0}
    assert Usage().measurements() == {}


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        pytest.param(Usage(input_tokens=3, output_tokens=4), 7, id="both known"),
        pytest.param(Usage(input_tokens=3), None, id="output unknown"),
        pytest.param(Usage(output_tokens=4), None, id="input unknown"),
        pytest.param(
            Usage(input_tokens=3, output_tokens=4, total_tokens=9), 9, id="as stated"
        ),
    ],
)
def test_the_total_is_as_stated_or_else_the_sum(
    usage: Usage, total: int | None
) -> None:
    assert usage.measurements().get("total_tokens") == total


@UNHURRIED
@given(usages, usages)
def test_sums_are_exact_field_by_field(one: Usage, other: Usage) -> None:
    both = one + other
    for name in FIELDS:
        if name == "total_tokens":
            continue
        known = [
            value
            for value in (getattr(one, name), getattr(other, name))
            if value is not None
        ]
        assert getattr(both, name) == (sum(known) if known else None)


@UNHURRIED
@given(st.lists(usages, min_size=2, max_size=6), st.randoms())
def test_the_order_of_a_sum_does_not_matter(parts: list[Usage], random: Any) -> None:  # noqa: ANN401  # hypothesis' Random
    def total(summands: list[Usage]) -> dict[str, int]:
        result = summands[0]
        for usage in summands[1:]:
            result += usage
        return result.measurements()

    shuffled = [*parts]
    random.shuffle(shuffled)
    assert total(shuffled) == total(parts)


@UNHURRIED
@given(usages, usages)
def test_a_total_is_never_less_than_its_parts(one: Usage, other: Usage) -> None:
    """As it would be if one summand stated a total and the other did not."""
    known = (one + other).measurements()
    if "total_tokens" in known:
        parts = known.get("input_tokens", 0) + known.get("output_tokens", 0)
        assert known["total_tokens"] == parts


def test_totals_that_both_state_add_up() -> None:
    assert Usage(total_tokens=3) + Usage(total_tokens=4) == Usage(total_tokens=7)
    both = Usage(input_tokens=1, output_tokens=2, total_tokens=3) + Usage(
        input_tokens=5
    )
    assert both == Usage(input_tokens=6, output_tokens=2)


def test_the_module_is_what_the_package_exports() -> None:
    assert llm.__all__ == sorted(llm.__all__)
    assert llm.Usage is Usage
