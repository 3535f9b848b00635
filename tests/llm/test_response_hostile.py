"""Objects that lie, raise, or never end: nothing is raised, and no number is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.llm import Usage
from llmevents.llm._response import Reading
from llmevents.llm.usage import read_usage
from tests.llm.calls import UNHURRIED


class Raises:
    """Every attribute that it has not got raises what is no AttributeError."""

    prompt_tokens: int

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class Slots:
    """Neither a mapping nor an object with a dictionary."""

    __slots__ = ("completion_tokens", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_tokens = 3
        self.completion_tokens = 4


class Properties:
    """As the objects of Vertex' older SDK: all of it is worked out when asked for."""

    @property
    def usage_metadata(self) -> object:
        return Counts()

    @property
    def model_version(self) -> str:
        return "m-1"

    @property
    def response_id(self) -> str:
        raise ValueError


class Counts:
    """Its usage."""

    @property
    def prompt_token_count(self) -> int:
        return 3

    @property
    def candidates_token_count(self) -> int:
        raise ValueError


class Lazy(Mapping[str, object]):
    """A mapping that is no dict, as azure's models are."""

    def __init__(self, items: dict[str, object]) -> None:
        self._items = items

    def __getitem__(self, key: str) -> object:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        return len(self._items)


class Anything:
    """Has every attribute there may be."""

    def __getattr__(self, name: str) -> Anything:
        return Anything()


class FakeModel:
    """Pretends to be a pydantic model."""

    __pydantic_extra__ = "none"
    __pydantic_fields_set__ = 3
    __pydantic_private__ = "none"

    def __init__(self) -> None:
        self.usage = {"prompt_tokens": 3}


class Dict(dict[str, Any]):
    """A dict of a library's own."""


def test_slots_are_read() -> None:
    assert read_usage(Slots()) == Usage(input_tokens=3, output_tokens=4)


def test_properties_are_read_and_may_raise() -> None:
    reading = Reading()
    reading.read(Properties())
    assert reading.usage == Usage(input_tokens=3, output_tokens=0)
    assert reading.facts == {"response_model": "m-1"}
    assert reading.raw == [{"prompt_token_count": 3}]


def test_mappings_are_read_without_being_listed() -> None:
    usage = Lazy(
        {"prompt_tokens": 3, "prompt_tokens_details": Lazy({"cached_tokens": 1})}
    )
    assert read_usage(Lazy({"choices": [], "usage": usage})) == Usage(
        input_tokens=3, cache_read_tokens=1
    )


def test_dicts_of_other_libraries_are_dicts() -> None:
    assert read_usage(Dict(usage=Dict(prompt_tokens=3))) == Usage(input_tokens=3)


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(Raises(), id="raises"),
        pytest.param(Anything(), id="has everything"),
        pytest.param(MagicMock(), id="a mock"),
        pytest.param({"usage": MagicMock()}, id="a mock as usage"),
        pytest.param({"usage": {"prompt_tokens": MagicMock()}}, id="a mock as count"),
        pytest.param({"usage": Raises()}, id="usage raises"),
        pytest.param({"choices": [Raises(), Anything()]}, id="choices raise"),
        pytest.param({"generations": [[Raises()]], "llm_output": 3}, id="results"),
        pytest.param({"generations": [[], 3], "llm_output": {}}, id="no results"),
        pytest.param({"modelId": "m", "pages": 3}, id="no pages"),
        pytest.param({"data": [Raises()], "created": 1}, id="images"),
        pytest.param({"chunk": {"bytes": 3}}, id="no chunk"),
        pytest.param({"chunk": {"bytes": "?"}}, id="no base64"),
        pytest.param(type, id="a class"),
        pytest.param(len, id="a function"),
        pytest.param(iter([{"usage": {"prompt_tokens": 3}}]), id="an iterator"),
    ],
)
def test_of_what_is_no_response_nothing_is_read(thing: object) -> None:
    reading = Reading()
    reading.read(thing)
    reading.read([thing])
    assert reading.usage is None
    assert reading.tool_calls == 0
    assert reading.finish_reasons == {}


def test_what_pretends_to_be_a_model_is_an_object() -> None:
    assert read_usage(FakeModel()) == Usage(input_tokens=3)


def test_a_zero_of_a_plain_object_counts() -> None:
    assert read_usage(SimpleNamespace(prompt_tokens=0)) == Usage(input_tokens=0)


def test_a_zero_counts_even_if_nobody_can_tell_whether_it_was_given() -> None:
    usage = Raises()
    usage.prompt_tokens = 0
    assert read_usage(usage) == Usage(input_tokens=0)


def test_mocks_state_what_they_were_given() -> None:
    response = MagicMock()
    response.usage.prompt_tokens = 3
    response.usage.completion_tokens = 4
    assert read_usage(response) == Usage(input_tokens=3, output_tokens=4)


def test_an_iterator_is_left_to_its_owner() -> None:
    """It may be the caller's stream."""
    chunks = iter([{"usage": {"prompt_tokens": 3}}])
    assert read_usage(chunks) is None
    assert len(list(chunks)) == 1


def test_a_part_that_contains_itself_comes_to_an_end() -> None:
    event: dict[str, Any] = {"type": "message_start"}
    event["message"] = event
    parts: list[Any] = [event]
    parts.append(parts)
    assert read_usage(parts) is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["message", "response", "AIMessageChunk", "ai"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "usage",
                    "usageMetadata",
                    "usage_metadata",
                    "choices",
                    "candidates",
                    "type",
                    "object",
                    "message",
                    "response",
                    "data",
                    "metadata",
                    "generations",
                    "llm_output",
                    "response_metadata",
                    "prompt_tokens",
                    "input_tokens",
                    "promptTokenCount",
                    "promptTokensDetails",
                    "total_tokens",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "embeddings",
                    "cost",
                    "meta",
                    "billed_units",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@UNHURRIED
@given(st.lists(json_values, max_size=3))
def test_whatever_json_is_read_the_counts_are_counts(parts: list[Any]) -> None:
    reading = Reading()
    for part in parts:
        reading.read(part)
    known = {} if reading.usage is None else reading.usage.measurements()
    assert all(type(count) is int and count >= 0 for count in known.values())
    assert known.get("cache_read_tokens", 0) <= known.get("input_tokens", 2**60)
    assert reading.cost_nano_usd is None or reading.cost_nano_usd >= 0
    assert isinstance(reading.raw, list)
