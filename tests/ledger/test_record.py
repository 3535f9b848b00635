"""What becomes of an event: a record, a line, and the record again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import Bus, EventName, Measurements, Metadata, context, llm
from llmevents.ledger import COLUMNS, EVENTS, Record, decode, encode, record_of
from llmevents.ledger._record import narrowed, timestamp
from llmevents.ledger._schema import CONTEXT, FACTS, NUMBERS
from llmevents.testing import ManualClock


NOON = 1_700_000_000_123_456_789


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time_ns=NOON)


@pytest.fixture
def records(clock: ManualClock) -> Iterator[tuple[Bus, list[Record]]]:
    """A strict bus, and the records of what ends on it."""
    bus, kept = Bus(strict=True, clock=clock), []

    def keep(
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,  # a handler's signature
    ) -> None:
        kept.append(record_of(event, measurements, metadata, clock.time_ns()))

    with bus.attach("keep", EVENTS, keep, on_failure="raise"):
        yield bus, kept


def test_a_call_is_one_record_with_all_that_is_known_of_it(
    records: tuple[Bus, list[Record]], clock: ManualClock
) -> None:
    bus, kept = records
    with (
        context(user_id="u-1", session_id="s-1", team="blue"),
        llm.chat(
            provider="acme", model="tiny-1", temperature=0.5, top_p=1, bus=bus
        ) as call,
    ):
        call.usage(input_tokens=1000, output_tokens=500, cache_read_tokens=100)
        call.cost("0.25")
        clock.advance(2_000_000)
    (record,) = kept
    assert record.pop("id")
    assert record == {
        "schema_version": 1,
        "event": "llm.chat",
        "timestamp": "2023-11-14T22:13:20.123456Z",
        "status": "success",
        "operation": "chat",
        "provider": "acme",
        "model": "tiny-1",
        "temperature": 0.5,
        "user_id": "u-1",
        "session_id": "s-1",
        "usage_complete": True,
        "cost_source": "override",
        "duration_ns": 2_000_000,
        "input_tokens": 1000,
        "output_tokens": 500,
        "total_tokens": 1500,
        "cache_read_tokens": 100,
        "cost_nano_usd": 250_000_000,
        "metadata": {"team": "blue", "top_p": 1},
    }


def test_a_call_that_failed_says_so_and_why(
    records: tuple[Bus, list[Record]],
) -> None:
    bus, kept = records
    with pytest.raises(TimeoutError), llm.chat(model="tiny-1", bus=bus):
        raise TimeoutError("late")  # noqa: EM101  # the text is looked at
    assert (kept[0]["status"], kept[0]["error_type"]) == ("timeout", "TimeoutError")
    assert kept[0]["error_message"] == "late"


def test_tasks_are_recorded_and_tools_and_requests_are_not(
    records: tuple[Bus, list[Record]],
) -> None:
    bus, kept = records
    with llm.task("report", task_id="t-1", bus=bus), llm.tool("search", bus=bus):
        llm.record(usage=llm.Usage(input_tokens=1), bus=bus)
    assert [record["event"] for record in kept] == ["llm.chat", "llm.task"]
    assert {record["task_id"] for record in kept} == {"t-1"}
    assert len({record["id"] for record in kept}) == 2


def test_every_field_has_a_column_and_every_key_its_field() -> None:
    names = [column.name for column in COLUMNS]
    assert len(names) == len(set(names))
    assert {column.key for column in (*FACTS, *CONTEXT, *NUMBERS)} <= {
        column.key for column in COLUMNS
    }
    assert all(column.description for column in COLUMNS)


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        pytest.param("model", 7, "7", id="number as text"),
        pytest.param("model", None, None, id="none"),
        pytest.param("model", True, "True", id="bool as text"),
        pytest.param("model", ["a"], '["a"]', id="list as text"),
        pytest.param("http_status", "404", None, id="text as integer"),
        pytest.param("http_status", 404.0, 404, id="whole float"),
        pytest.param("temperature", float("nan"), None, id="nan"),
        pytest.param("stream", 1, None, id="integer as boolean"),
        pytest.param("features", "tools", ["tools"], id="one of several"),
        pytest.param("max_tokens", -1, None, id="negative"),
    ],
)
def test_a_value_of_another_kind_is_made_to_fit_or_left_out(
    key: str, value: object, kept: object
) -> None:
    """`Bus.execute` passes on anything."""
    event = ("llm", "chat", "stop")
    record = record_of(event, {}, {"span_id": "1", key: value}, NOON)
    assert record.get(key) == kept


@pytest.mark.parametrize("count", [2**63, -1, True, "3", 1.5, None, float("inf")])
def test_a_count_that_is_none_is_left_out(count: Any) -> None:  # noqa: ANN401  # also what no type allows
    event = ("llm", "chat", "stop")
    record = record_of(event, {"input_tokens": count}, {"span_id": "1"}, NOON)
    assert "input_tokens" not in record


@pytest.mark.parametrize("operation", ["embedding", "rerank", "moderation"])
def test_the_total_of_a_call_without_output_is_its_input(operation: str) -> None:
    """Totals and limits are of total tokens alone."""
    event = ("llm", operation, "stop")
    record = record_of(event, {"input_tokens": 7}, {"span_id": "1"}, NOON)
    assert record["total_tokens"] == 7
    stated = {"input_tokens": 7, "total_tokens": 9}
    assert record_of(event, stated, {"span_id": "1"}, NOON)["total_tokens"] == 9
    both = {"input_tokens": 7, "output_tokens": 1}
    assert record_of(event, both, {"span_id": "1"}, NOON)["total_tokens"] == 8


@pytest.mark.parametrize(
    ("operation", "measurements"),
    [
        ("chat", {"input_tokens": 7}),
        ("embedding", {}),
        ("embedding", {"output_tokens": 7}),
        ("embedding", {"input_tokens": 2**63 - 1, "output_tokens": 1}),
    ],
)
def test_a_total_that_is_unknown_is_left_out(
    operation: str, measurements: dict[str, int]
) -> None:
    event = ("llm", operation, "stop")
    record = record_of(event, measurements, {"span_id": "1"}, NOON)
    assert "total_tokens" not in record


def test_embeddings_count_in_totals(records: tuple[Bus, list[Record]]) -> None:
    bus, kept = records
    with llm.embedding(provider="acme", model="e", bus=bus) as call:
        call.usage(input_tokens=1000)
    assert kept[0]["total_tokens"] == 1000


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([c.key for c in COLUMNS if c.key]) | st.text(max_size=8),
        values,
        max_size=6,
    )
)
def test_whatever_is_told_is_one_line_that_says_the_same(
    metadata: dict[str, object],
) -> None:
    record = record_of(("llm", "chat", "stop"), {}, {**metadata, "span_id": "1"}, NOON)
    line = encode(record)
    assert line.endswith(b"\n")
    assert len(line.decode("ascii").splitlines()) == 1
    assert decode(line) == json.loads(line) == narrowed(record)


@pytest.mark.parametrize("odd", ["\ud800", 2**70])
def test_what_is_no_number_is_null_beside_what_is_odd(odd: object) -> None:
    """Another encoder than the usual one writes such records."""
    numbers = [float("nan"), float("inf"), 1.5]
    line = encode({"id": "1", "metadata": {"n": numbers, "odd": odd}})
    assert json.loads(line)["metadata"]["n"] == [None, None, 1.5]


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"{}", b'{"id": 1}', b"\xff", b"\0\0", b"[" * 10_000]
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert decode(line) is None


def test_a_timestamp_is_cut_to_microseconds_and_sorts_as_time_does() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000000Z"
    assert timestamp(NOON) == "2023-11-14T22:13:20.123456Z"
    assert timestamp(NOON) < timestamp(NOON + 1_000)
