"""Reading responses in all the shapes that OpenAI-compatible servers send."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents.llm import Usage
from llmevents.llm._response import Reading
from tests.llm.calls import UNHURRIED


def usage(prompt: int | None, completion: int | None) -> dict[str, int | None]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


def chunk(stated: object = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}}], "usage": stated, **more}


def read(*parts: object) -> Reading:
    reading = Reading()
    for part in parts:
        reading.read(part)
    return reading


def test_a_chat_completion_is_read() -> None:
    reading = read(
        {
            "id": "chatcmpl-1",
            "model": "m-1",
            "service_tier": "flex",
            "choices": [
                {"index": 1, "finish_reason": "length"},
                {"index": 0, "finish_reason": "stop"},
            ],
            "usage": usage(3, 4),
        }
    )
    assert reading.usage == Usage(input_tokens=3, output_tokens=4)
    assert reading.facts == {
        "response_id": "chatcmpl-1",
        "response_model": "m-1",
        "service_tier": "flex",
    }
    assert reading.finish_reasons == {0: "stop", 1: "length"}
    assert reading.complete


def test_objects_are_read_like_json() -> None:
    choice = SimpleNamespace(index=0, finish_reason="stop")
    stated = SimpleNamespace(prompt_tokens=3, completion_tokens=None)
    reading = read(SimpleNamespace(choices=[choice], usage=stated, id="1", model=None))
    assert reading.usage == Usage(input_tokens=3)
    assert reading.facts == {"response_id": "1"}
    assert reading.finish_reasons == {0: "stop"}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(
            [chunk(), chunk(), {"choices": [], "usage": usage(5, 9)}],
            Usage(input_tokens=5, output_tokens=9),
            id="OpenAI: in a last chunk without choices",
        ),
        pytest.param(
            [chunk(usage(5, 1)), chunk(usage(5, 2)), chunk(usage(5, 9))],
            Usage(input_tokens=5, output_tokens=9),
            id="cumulative, on every chunk",
        ),
        pytest.param(
            [chunk(usage(5, 9)), chunk(), chunk({})],
            Usage(input_tokens=5, output_tokens=9),
            id="null afterwards",
        ),
        pytest.param(
            [chunk(), {"usage": usage(5, 9)}],
            Usage(input_tokens=5, output_tokens=9),
            id="in a chunk that has no choices at all",
        ),
        pytest.param(
            [chunk(), {"choices": None, "usage": usage(5, 9)}],
            Usage(input_tokens=5, output_tokens=9),
            id="in a chunk whose choices are null",
        ),
        pytest.param(
            [{"choices": [{"delta": {}, "usage": usage(5, 9)}]}],
            Usage(input_tokens=5, output_tokens=9),
            id="in the first choice",
        ),
        pytest.param(
            [chunk(usage(5, 9), x_groq={"usage": usage(1, 1)})],
            Usage(input_tokens=5, output_tokens=9),
            id="OpenAI's place first",
        ),
        pytest.param(
            [
                chunk(x_groq={"id": "1", "usage": usage(5, 9)}),
                chunk(x_groq={"id": "1"}),
            ],
            Usage(input_tokens=5, output_tokens=9),
            id="Groq's place",
        ),
        pytest.param([chunk(), chunk(None)], None, id="never"),
        pytest.param([chunk(usage(None, None))], None, id="only nulls"),
        pytest.param([chunk(usage(-5, 9))], Usage(output_tokens=9), id="negative"),
        pytest.param([chunk("5 tokens")], None, id="text"),
        pytest.param(
            [chunk({"prompt_tokens": True, "completion_tokens": 9.5})],
            None,
            id="no integers",
        ),
    ],
)
def test_usage_is_found_wherever_servers_put_it(
    parts: list[object], expected: Usage | None
) -> None:
    assert read(*parts).usage == expected


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(None, id="none"),
        pytest.param("text", id="text"),
        pytest.param('{"usage": {"prompt_tokens": 3}}', id="text that is JSON"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param(7, id="number"),
        pytest.param([], id="list"),
        pytest.param({}, id="empty"),
        pytest.param(object(), id="object"),
        pytest.param(
            {"choices": "none", "data": 3, "model": "m", "id": "1"}, id="other types"
        ),
        pytest.param({"type": "message", "model": "m", "id": "1"}, id="a message"),
        pytest.param({"choices": None, "usage": None, "model": "m"}, id="nulls"),
        pytest.param({"x_groq": "text", "model": "m"}, id="another x_groq"),
        pytest.param(
            {"pages": [1], "images": [2], "duration": 3.5, "id": "1", "model": "m"},
            id="what a program returns",
        ),
    ],
)
def test_of_anything_else_nothing_is_read(part: object) -> None:
    reading = read(part)
    assert reading.usage is None
    assert (reading.facts, reading.finish_reasons, reading.raw) == ({}, {}, [])
    assert (reading.vectors(), reading.tool_calls) == ({}, 0)
    assert reading.cost_nano_usd is None


@pytest.mark.parametrize(
    "choices",
    [
        [],
        [None],
        ["text"],
        [{}],
        [{"finish_reason": None, "index": 0}],
        [{"finish_reason": 3}],
    ],
)
def test_choices_may_say_nothing(choices: list[object]) -> None:
    reading = read({"choices": choices, "usage": usage(1, 2)})
    assert reading.finish_reasons == {}
    assert reading.usage == Usage(input_tokens=1, output_tokens=2)


def test_a_choice_without_an_index_has_that_of_its_place() -> None:
    reading = read(
        {"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}]},
        {"choices": [{"finish_reason": "tool_calls", "index": "0"}]},
    )
    assert reading.finish_reasons == {0: "tool_calls", 1: "length"}


def test_facts_are_texts_and_an_empty_one_is_none() -> None:
    """Azure's first chunk, of the content filter, has an empty model."""
    reading = read(
        {"choices": [], "id": "", "model": ""},
        {"choices": [], "id": "1", "model": "m", "service_tier": None},
        {"choices": [], "id": 7, "model": None},
    )
    assert reading.facts == {"response_id": "1", "response_model": "m"}


@UNHURRIED
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=200))
def test_the_dimensions_of_a_vector_do_not_depend_on_its_encoding(
    vector: list[float],
) -> None:
    packed = base64.b64encode(bytes(4 * len(vector))).decode()
    for encoded in (vector, packed, packed.rstrip("=")):
        reading = read({"data": [{"embedding": encoded}], "usage": usage(2, None)})
        assert reading.vectors() == {"texts": 1, "dimensions": len(vector)}
        assert reading.usage == Usage(input_tokens=2)


def test_dimensions_are_exact_up_to_the_longest_vectors() -> None:
    """In whole numbers: the ratio of characters and floats is no finite fraction."""
    for dimensions in range(1, 5000):
        characters = -(-dimensions * 16 // 3)
        reading = read({"data": [{"embedding": "A" * characters}]})
        assert reading.dimensions == dimensions


@pytest.mark.parametrize(
    ("items", "vectors"),
    [
        pytest.param([], {"texts": 0}, id="no texts"),
        pytest.param([{"embedding": None}], {"texts": 1}, id="no vector"),
        pytest.param([{"id": "model-1"}, {}], {"texts": 2}, id="another list"),
        pytest.param([None], {"texts": 1}, id="null"),
    ],
)
def test_a_list_without_vectors_has_no_dimensions(
    items: list[Any], vectors: dict[str, int]
) -> None:
    assert read({"data": items}).vectors() == vectors


def test_readings_of_one_call_add_up() -> None:
    total = Reading()
    first = read(
        {
            "choices": [{"finish_reason": "stop"}],
            "usage": usage(1, 2),
            "id": "1",
            "model": "m",
        }
    )
    second = read({"data": [{"embedding": [0.5] * 8}], "usage": usage(10, None)})
    third = Reading(complete=False)
    for inner in (first, second, third, second):
        total.add(inner)
    assert total.usage == Usage(input_tokens=21, output_tokens=2)
    assert total.facts == {"response_id": "1", "response_model": "m"}
    assert total.finish_reasons == {0: "stop"}
    assert total.vectors() == {"texts": 2, "dimensions": 8}
    assert not total.complete
