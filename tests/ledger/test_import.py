"""Records from files of ours and of others: each once, and exactly."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from llmevents import OptionError
from llmevents.instrumentation import _litellm as instrumentation
from llmevents.ledger import _import_litellm as litellm
from llmevents.ledger import _import_read as reading
from llmevents.ledger._import import BATCH, FAULTS, import_file
from llmevents.ledger._import_values import (
    Fault,
    integer,
    nano_usd,
    nanoseconds,
    number,
)
from llmevents.ledger._jsonl import Counts, JsonlStore, read
from llmevents.ledger._query import NewerRecordsError
from llmevents.ledger._record import Record, encode, timestamp
from llmevents.ledger._schema import COLUMNS, SCHEMA_VERSION
from tests.ledger.corpus import records as corpus
from tests.ledger.plain_engine import PlainEngine


pytest.importorskip("duckdb", reason="needs DuckDB")
pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy")

from llmevents.ledger._export import export
from llmevents.ledger._sql import SqlStore
from llmevents.ledger._sql_query import SqlEngine


class MemoryStore:
    """Takes everything, and knows no ids."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, *records: Record) -> None:
        self.records += records

    def counts(self) -> Counts:
        return Counts(len(self.records), {}, 0)


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def jsonl(tmp_path: Path) -> Iterator[JsonlStore]:
    with closing(JsonlStore(tmp_path / "store.jsonl")) as store:
        yield store


@pytest.fixture(params=["jsonl", "sqlite"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[JsonlStore | SqlStore]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    is_sql = request.param == "sqlite"
    with closing(SqlStore(url) if is_sql else JsonlStore(tmp_path / "s.jsonl")) as made:
        yield made


def lines(*rows: object) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def table(*rows: dict[str, Any]) -> io.BytesIO:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return io.BytesIO(text.getvalue().encode("utf-8-sig"))


def call(number: int, **facts: object) -> Record:
    return {
        "schema_version": SCHEMA_VERSION,
        "id": f"{number:05}",
        "event": "llm.chat",
        "timestamp": timestamp(number * 1_000_000),
        "status": "success",
        **facts,
    }


TRACKED = {
    "id": "6f1c2d1e-6a3f-4a43-9a55-0d8b8a3b1a11",
    "timestamp": "2025-01-15T10:30:00.123456",
    "source_function": "synthesize_answer",
    "api_provider": "gemini",
    "api_type": "generative",
    "model": "gemini-2.0-flash-exp",
    "operation": "chat_answer",
    "input_tokens": 1000,
    "output_tokens": 500,
    "total_tokens": 1500,
    "latency_ms": 1234.5,
    "status": "success",
    "error_message": None,
    "user_id": "user123",
    "session_id": "session456",
    "source_id": None,
    "temperature": 0.2,
    "max_tokens": 2048,
    "additional_params": '{"top_k": 40}',
    "cost_estimate": 0.000225,
}

SPENT = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
    "spend": 0.0001234,
    "total_tokens": 130,
    "prompt_tokens": 120,
    "completion_tokens": 10,
    "startTime": "2026-11-21T09:30:00.123000Z",
    "endTime": "2026-11-21T09:30:01.623000Z",
    "completionStartTime": "2026-11-21T09:30:00.373000Z",
    "model": "claude-sonnet-4",
    "model_group": "smart",
    "custom_llm_provider": "vertex_ai_beta",
    "user": "owner",
    "metadata": json.dumps(
        {
            "user_api_key_alias": "app",
            "user_api_key": "88dc28d0",
            "requester_ip_address": "192.0.2.7",
            "spend_logs_metadata": {"project": "x"},
            "additional_usage_values": {
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 100},
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
        }
    ),
    "cache_hit": "False",
    "request_tags": '["a", "b"]',
    "team_id": "team",
    "organization_id": "org",
    "end_user": "customer",
    "session_id": "session",
    "status": "success",
    "messages": '{"secret": "content"}',
}


def test_a_file_of_ours_is_imported_once(
    store: JsonlStore | SqlStore, tmp_path: Path
) -> None:
    rows = [call(number) for number in range(BATCH + 3)]
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"".join(map(encode, [*rows, rows[0]])))
    steps: list[int] = []
    expected: tuple[object, ...] = (len(rows) + 1, len(rows), 1, 0, {}, ())
    assert import_file(path, store, progress=steps.append) == expected
    assert steps == [BATCH, 4]
    again = import_file(str(path), store)
    assert again == (len(rows) + 1, 0, len(rows) + 1, 0, {}, ())


def test_a_store_that_was_closed_knows_what_it_has(tmp_path: Path) -> None:
    for expected in [(2, 2, 0), (2, 0, 2)]:
        with closing(JsonlStore(tmp_path / "store.jsonl")) as store:
            found = import_file(lines(call(1), call(2, id="\ud800")), store)
        assert found[:3] == expected


@pytest.mark.parametrize("format", ["jsonl", "json"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_was_exported_comes_back_as_it_was(
    jsonl: JsonlStore,
    tmp_path: Path,
    format: Any,  # noqa: A002, ANN401  # a format
    *,
    packed: bool,
) -> None:
    kept = [
        {
            **{
                name: 7 if type(value) is int else value
                for name, value in record.items()
            },
            "schema_version": SCHEMA_VERSION,
            "status": "success",
            "metadata": {"n": 2**63, "t": record["model"]},
        }
        for record in corpus()
    ]
    path = tmp_path / "exported"
    export(PlainEngine(kept), format, path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    found = import_file(path, jsonl)
    assert found == (len(kept), len(kept), 0, 0, {}, ())
    assert [line.record for line in read(jsonl.path)] == kept


def test_from_a_file_to_a_database_and_back_nothing_changes(
    jsonl: JsonlStore, tmp_path: Path
) -> None:
    kept = [call(n, model="m", features=["tools"], stream=True) for n in range(7)]
    with closing(SqlStore(f"sqlite:///{tmp_path / 'store.db'}")) as database:
        import_file(lines(*kept, call(9, event="llm.task")), database)
        stream = io.BytesIO()
        assert export(SqlEngine(database.url), "json", stream, tasks=True) == 8
    stream.seek(0)
    assert import_file(stream, jsonl).written == 8
    assert [line.record for line in read(jsonl.path)][:7] == kept


def test_a_line_of_a_tracker_becomes_a_record(memory: MemoryStore) -> None:
    import_file(lines(TRACKED), memory)
    assert memory.records == [
        {
            "schema_version": 1,
            "id": "6f1c2d1e-6a3f-4a43-9a55-0d8b8a3b1a11",
            "event": "llm.chat",
            "timestamp": "2025-01-15T10:30:00.123456Z",
            "status": "success",
            "operation": "chat",
            "use_case": "chat_answer",
            "provider": "gcp.gemini",
            "model": "gemini-2.0-flash-exp",
            "cost_source": "import",
            "temperature": 0.2,
            "max_tokens": 2048,
            "user_id": "user123",
            "session_id": "session456",
            "source_function": "synthesize_answer",
            "duration_ns": 1_234_500_000,
            "input_tokens": 1000,
            "output_tokens": 500,
            "total_tokens": 1500,
            "cost_nano_usd": 225_000,
            "metadata": {"additional_params": {"top_k": 40}},
        }
    ]


@pytest.mark.parametrize(
    ("api_type", "event", "operation"),
    [
        ("speech_to_text", "llm.transcription", "transcription"),
        ("translation", "llm.translation", "translation"),
        ("ocr", "llm.ocr", "ocr"),
        ("search", "llm.search", "search"),
        ("fortune_telling", "llm.chat", "fortune_telling"),
        (None, "llm.chat", "chat"),
    ],
)
def test_the_type_of_a_tracked_call_says_its_event(
    memory: MemoryStore, api_type: str | None, event: str, operation: str
) -> None:
    import_file(lines({**TRACKED, "api_type": api_type}), memory)
    (record,) = memory.records
    assert (record["event"], record["operation"]) == (event, operation)


def test_what_a_tracker_does_not_know_is_absent(memory: MemoryStore) -> None:
    rows = [
        {"api_provider": "tesseract", "timestamp": "2025-01-15T10:30:00+02:00"},
        {
            "api_provider": "openai",
            "timestamp": 1_736_937_000.5,
            "status": "broken",
            "error_message": "key sk-proj-abcdefghijklmnopqrstuvwx refused",
            "input_tokens": -1,
            "latency_ms": "soon",
            "cost_estimate": -0.5,
            "temperature": "hot",
            "user_id": True,
            "additional_params": "not json",
        },
    ]
    import_file(lines(*rows), memory)
    first, second = memory.records
    assert first == {
        "schema_version": 1,
        "id": first["id"],
        "event": "llm.chat",
        "timestamp": "2025-01-15T08:30:00.000000Z",
        "status": "success",
        "operation": "chat",
        "provider": "tesseract",
    }
    assert first["id"].startswith("import-")
    assert second["timestamp"] == "2025-01-15T10:30:00.500000Z"
    assert second["status"] == "error"
    assert "sk-proj" not in second["error_message"]
    assert second["metadata"] == {"additional_params": "not json"}
    names = {"input_tokens", "duration_ns", "cost_nano_usd", "temperature", "user_id"}
    assert not names & second.keys()


def test_rows_without_an_id_are_imported_once(store: JsonlStore | SqlStore) -> None:
    rows = [{**TRACKED, "id": None, "input_tokens": n} for n in range(3)]
    assert import_file(lines(*rows), store)[:3] == (3, 3, 0)
    # In another order of fields it is the same row.
    again = [dict(reversed(row.items())) for row in rows]
    assert import_file(lines(*again), store)[:3] == (3, 0, 3)


EXPECTED_SPENT = {
    "schema_version": 1,
    "id": "chatcmpl-1",
    "event": "llm.chat",
    "timestamp": "2026-11-21T09:30:00.123000Z",
    "status": "success",
    "operation": "chat",
    "provider": "gcp.vertex_ai",
    "model": "claude-sonnet-4",
    "cost_source": "import",
    "user_id": "customer",
    "session_id": "session",
    "organization_id": "org",
    "duration_ns": 1_500_000_000,
    "time_to_first_chunk_ns": 250_000_000,
    "input_tokens": 120,
    "output_tokens": 10,
    "total_tokens": 130,
    "cache_read_tokens": 100,
    "cache_write_tokens": 7,
    "reasoning_tokens": 4,
    "cost_nano_usd": 123_400,
    "metadata": {
        "user_api_key_alias": "app",
        "spend_logs_metadata": {"project": "x"},
        "request_tags": ["a", "b"],
        "team_id": "team",
        "litellm_user": "owner",
        "model_group": "smart",
    },
}


@pytest.mark.parametrize("form", ["lines", "array", "indented", "csv"])
def test_a_row_of_litellm_becomes_a_record(memory: MemoryStore, form: str) -> None:
    files = {
        "lines": lines(SPENT),
        "array": io.BytesIO(json.dumps([SPENT]).encode()),
        "indented": io.BytesIO(json.dumps([SPENT], indent=4).encode()),
        "csv": table(SPENT),
    }
    found = import_file(files[form], memory)
    assert found == (1, 1, 0, 0, {}, ())
    kept = {**memory.records[0]["metadata"]}
    assert set(kept) == set(EXPECTED_SPENT["metadata"])  # type: ignore[call-overload]  # a dict
    assert memory.records[0] | {"metadata": None} == EXPECTED_SPENT | {"metadata": None}
    assert kept["request_tags"] == ["a", "b"]
    assert "secret" not in str(memory.records)
    assert "192.0.2.7" not in str(memory.records)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"spend": 0}, {"cost_nano_usd": None, "cost_source": None}),
        ({"spend": 0, "cache_hit": "True"}, {"cost_nano_usd": 0, "cached": True}),
        ({"spend": "1e-9"}, {"cost_nano_usd": 1}),
        ({"end_user": ""}, {"user_id": "owner"}),
        ({"model": ""}, {"model": "smart"}),
        ({"call_type": "aembedding"}, {"event": "llm.embedding"}),
        ({"call_type": "speech"}, {"event": "llm.speech", "operation": "speech"}),
        ({"call_type": "pass_through"}, {"operation": "pass_through"}),
        ({"call_type": None}, {"operation": "chat"}),
        ({"custom_llm_provider": "azure"}, {"provider": "azure.ai.openai"}),
        ({"custom_llm_provider": ""}, {"provider": None}),
        ({"endTime": None, "request_duration_ms": 7}, {"duration_ns": 7_000_000}),
        (
            {"completionStartTime": SPENT["endTime"]},
            {"time_to_first_chunk_ns": None, "duration_ns": 1_500_000_000},
        ),
        ({"endTime": "2026-11-21T09:00:00Z"}, {"duration_ns": None}),
        ({"metadata": "{"}, {"cache_read_tokens": None}),
        (
            {
                "metadata": {
                    "usage_object": {"prompt_tokens_details": {"cached_tokens": 5}}
                }
            },
            {"cache_read_tokens": 5, "reasoning_tokens": None},
        ),
        (
            {
                "status": "failure",
                "spend": 0.0,
                "completion_tokens": 0,
                "metadata": {
                    "error_information": {
                        "error_code": "429",
                        "error_class": "RateLimitError",
                        "error_message": "too many",
                    }
                },
            },
            {
                "status": "error",
                "http_status": 429,
                "error_type": "RateLimitError",
                "error_message": "too many",
                "output_tokens": None,
                "cost_nano_usd": None,
                "input_tokens": 120,
            },
        ),
    ],
)
def test_what_litellm_says_is_understood(
    memory: MemoryStore, facts: dict[str, Any], expected: dict[str, Any]
) -> None:
    import_file(lines({**SPENT, **facts}), memory)
    (record,) = memory.records
    assert {name: record.get(name) for name in expected} == expected


def test_a_row_of_litellm_with_next_to_nothing_is_a_record(memory: MemoryStore) -> None:
    row = {"request_id": "", "startTime": "2026-11-21 09:30:00.5+00"}
    import_file(lines(row), memory)
    (record,) = memory.records
    assert record["timestamp"] == "2026-11-21T09:30:00.500000Z"
    assert "metadata" not in record


def test_calls_of_litellm_are_those_of_its_instrumentation() -> None:
    for operation in instrumentation.OPERATIONS:
        for function in operation.functions:
            assert litellm._call(function)[0] == operation.prefix


def test_every_field_of_what_is_made_is_a_column(memory: MemoryStore) -> None:
    import_file(lines(TRACKED, SPENT), memory)
    names = {column.name for column in COLUMNS}
    assert all(record.keys() <= names for record in memory.records)


@pytest.mark.parametrize("number", [7, "07", " 12 ", 7.5, True, None, "", [1]])
def test_rows_of_two_trackers_that_are_merely_numbered_are_different_calls(
    store: JsonlStore | SqlStore, number: object
) -> None:
    one = {**TRACKED, "id": number}
    other = {**one, "user_id": "user456"}
    assert import_file(lines(one), store)[:3] == (1, 1, 0)
    assert import_file(lines(other, one), store)[:3] == (2, 1, 1)


@pytest.mark.parametrize(
    ("facts", "total"),
    [
        ({"api_type": "embedding", "output_tokens": None}, 1000),
        ({"api_type": "rerank", "output_tokens": ""}, 1000),
        ({"api_type": "moderation", "output_tokens": 2}, 1002),
        ({"api_type": "generative"}, 1500),
        ({"api_type": "generative", "output_tokens": None}, None),
        ({"api_type": "embedding", "input_tokens": None}, None),
        ({"input_tokens": 2**63 - 1}, None),
        ({"total_tokens": 7}, 7),
    ],
)
def test_the_total_of_a_tracked_call_is_what_is_known_of_it(
    memory: MemoryStore, facts: dict[str, object], total: int | None
) -> None:
    """Totals and limits are of total tokens alone."""
    import_file(lines({**TRACKED, "total_tokens": None, **facts}), memory)
    assert memory.records[0].get("total_tokens") == total


def test_the_total_of_a_call_of_litellm_is_what_is_known_of_it(
    memory: MemoryStore,
) -> None:
    unstated = {**SPENT, "total_tokens": None}
    embedded = {"call_type": "aembedding", "completion_tokens": None}
    import_file(lines(unstated, {**unstated, **embedded}), memory)
    assert [record["total_tokens"] for record in memory.records] == [130, 120]


def test_a_value_that_does_not_fit_its_column_is_kept_by_no_store(
    store: JsonlStore | SqlStore,
) -> None:
    """Otherwise stores disagree, and what reads them fails."""
    odd = call(
        1,
        cost_nano_usd="abc",
        input_tokens="5",
        output_tokens=-1,
        duration_ns=1.5,
        stream="yes",
        temperature="hot",
        features="tools",
        model=7,
        metadata="none",
        user_id=None,
    )
    fine = call(2, cost_nano_usd=5, stream=True, temperature=0.5, metadata={"a": [1]})
    assert import_file(lines(odd, fine), store).written == 2
    found: list[Any]
    if isinstance(store, JsonlStore):
        found = [line.record for line in read(store.path)]
    else:
        found = sorted(SqlEngine(store.url).each(), key=itemgetter("id"))
    assert found == [call(1, model="7", features=["tools"]), fine]


def test_a_record_is_imported_whatever_is_in_its_metadata(
    store: JsonlStore | SqlStore,
) -> None:
    odd = call(1, temperature=float("nan"), metadata={"n": float("nan"), "t": "\ud800"})
    deep = json.dumps(call(2, metadata={"a": 0})).replace(
        '{"a": 0}', '{"a": ' * 600 + "0" + "}" * 600
    )
    data = io.BytesIO(lines(odd).getvalue() + deep.encode())
    found = import_file(data, store)
    assert found.written + found.damaged == 2
    assert found.faults in ((), (Fault(2, "it is nested too deeply"),))
    assert found.written


def test_fields_of_others_stay_as_they_are(memory: MemoryStore) -> None:
    kept = call(1, theirs={"a": 1.5})
    import_file(lines(kept), memory)
    assert memory.records == [kept]


@pytest.mark.parametrize(
    "moment", ["2026-99-99T99:99:99.000000Z", "1969-12-31T23:59:59.000000Z"]
)
def test_a_moment_that_never_was_is_no_moment(memory: MemoryStore, moment: str) -> None:
    found = import_file(lines(call(1, timestamp=moment)), memory)
    assert found.faults == (Fault(1, "timestamp is no moment"),)


# --- What is damaged ----------------------------------------------------------------


def test_damaged_rows_are_counted_with_their_places_and_reasons(
    store: JsonlStore | SqlStore,
) -> None:
    data = b"\n".join(
        [
            b"\xef\xbb\xbf" + encode(call(1)).strip(),
            b"",
            b'{"id": "2", "eve',
            b"[1]",
            b"5",
            b'{"some": "object"}',
            encode(call(3, timestamp="yesterday")).strip(),
            encode(call(4, event=7)).strip(),
            encode(call(5, id="")).strip(),
            encode(call(6, schema_version=SCHEMA_VERSION + 1)).strip(),
            encode(call(7, schema_version="1")).strip(),
            json.dumps({**TRACKED, "timestamp": None}).encode(),
            json.dumps({**SPENT, "startTime": "now"}).encode(),
            b"\xff\xfe",
            b"[" * 100_000,
            encode(call(8)).strip(),
        ]
    )
    found = import_file(io.BytesIO(data), store)
    assert found[:5] == (15, 2, 0, 13, {})
    reasons = {fault.line: fault.reason for fault in found.faults}
    assert list(reasons) == list(range(3, 16))
    assert "it is no JSON" in reasons[3]
    assert reasons[4] == reasons[5] == "it is no object"
    assert "it is of no known format: our own has" in reasons[6]
    assert reasons[7] == "timestamp is no moment"
    assert (reasons[8], reasons[9]) == ("event is no text", "id is no text")
    assert "update llmevents" in reasons[10]
    assert reasons[12] == "timestamp is no moment"
    assert reasons[13] == "startTime is no moment"


def test_faults_are_told_of_the_first_alone(memory: MemoryStore) -> None:
    found = import_file(io.BytesIO(b"x\n" * (FAULTS + 50)), memory)
    assert (found.damaged, len(found.faults)) == (FAULTS + 50, FAULTS)


def test_a_last_line_without_an_end_counts_if_it_is_whole(memory: MemoryStore) -> None:
    data = encode(call(1)) + encode(call(2))[:-1]
    assert import_file(io.BytesIO(data), memory).written == 2
    assert import_file(io.BytesIO(data[:-9]), memory)[3:4] == (1,)


def test_of_a_damaged_packed_file_what_is_left_is_imported(
    memory: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl.gz"
    packed = gzip.compress(b"".join(encode(call(n)) for n in range(9)))
    path.write_bytes(packed[:-8])
    found = import_file(path, memory)
    assert found.written == 9
    assert found.faults[-1].reason.startswith("the file is damaged from here on: ")


def test_in_a_damaged_array_what_is_whole_is_imported(memory: MemoryStore) -> None:
    strange = call(1, model='}{"\\')
    data = b'[\n%s,\n\n{"a": },\n 7, }, "}", \n%s,\n{"schema_version": 1' % (
        encode(strange),
        json.dumps(call(2, metadata={"deep": {}}), indent=1).encode(),
    )
    found = import_file(io.BytesIO(data), memory)
    assert [record["id"] for record in memory.records] == ["00001", "00002"]
    assert memory.records[0] == strange
    assert [fault.line for fault in found.faults] == [5, 6, 6, 6, 17]
    assert {fault.reason for fault in found.faults[1:4]} == {"it is no object"}
    assert found.faults[-1] == Fault(17, "it has no end")


@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize(
    ("end", "faults"),
    [
        (b"]", []),
        (b"]\n[]", []),
        (b"", [Fault(2, "the array has no end")]),
        (b", ", [Fault(2, "the array has no end")]),
        (b",\n", [Fault(3, "the array has no end")]),
        (b',"cut off', [Fault(2, "the array has no end")]),
        (b',[{"id"', [Fault(2, "it has no end")]),
    ],
)
def test_an_array_that_has_no_end_is_damaged(
    memory: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    end: bytes,
    faults: list[Fault],
    chunk: int,
) -> None:
    """Half a file must not look like a whole one."""
    monkeypatch.setattr(reading, "CHUNK", chunk)
    data = b"[" + encode(call(1)) + end
    found = import_file(io.BytesIO(data), memory)
    assert (found.written, list(found.faults)) == (1, faults)
    assert found.damaged == len(faults)


@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 20])
def test_an_element_that_is_no_object_is_a_damaged_row(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(reading, "CHUNK", chunk)
    data = b'[1, -2.5e3,\n"a, \\"{b", null,true,[1,[2,{"a":"]"}]],\n%s,[]]' % (
        encode(call(1, features=["[", "x"]))
    )
    found = import_file(io.BytesIO(data), memory)
    assert (found.read, found.written, found.damaged) == (8, 1, 7)
    assert [fault.line for fault in found.faults] == [1, 1, 2, 2, 2, 2, 4]
    marked = import_file(io.BytesIO(reading.MARK + data), memory)
    assert marked == found or chunk <= len(reading.MARK)
    assert {fault.reason for fault in found.faults} == {"it is no object"}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_an_array_is_read_alike_in_pieces_of_any_size(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    rows = [call(n, model='a"\\b\\\\"{', metadata={"x": {"y": "}"}}) for n in range(5)]
    scan = reading._Scan()
    data = json.dumps(rows, indent=1).encode()
    found = [
        row.value
        for start in range(0, len(data), size)
        for row in scan.feed(data[start : start + size])
    ]
    assert found == rows


def test_a_row_that_is_too_long_is_left_out(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LONGEST", 300)
    monkeypatch.setattr(reading, "CHUNK", 64)
    rows = [call(1), call(2, model="x" * 1_000), call(3)]
    for form in (lines(*rows), io.BytesIO(json.dumps(rows, indent=1).encode())):
        found = import_file(form, memory)
        assert [record["id"] for record in memory.records] == ["00001", "00003"]
        assert "longer than 300 bytes" in found.faults[0].reason
        memory.records.clear()
    found = import_file(io.BytesIO(b"x" * 300), memory)
    assert "longer than 300 bytes" in found.faults[0].reason


def test_csv_that_is_damaged_costs_its_rows_alone(memory: MemoryStore) -> None:
    data = table(SPENT, {**SPENT, "request_id": "2\n2"}, SPENT).getvalue()
    data += b'too,few\n"a"b,"broken\n'
    limit = csv.field_size_limit()
    found = import_file(io.BytesIO(data), memory)
    assert [record["id"] for record in memory.records][:2] == ["chatcmpl-1", "2\n2"]
    assert found.read == found.written + found.damaged
    assert (found.written, found.damaged) == (3, 2)
    assert found.faults[0].line == 6
    assert "not as many fields as there are names" in found.faults[0].reason
    assert csv.field_size_limit() == limit


def test_long_fields_of_csv_are_read(memory: MemoryStore) -> None:
    assert import_file(table({**SPENT, "messages": "x" * 200_000}), memory).written == 1


# --- The rest -----------------------------------------------------------------------


def test_a_format_can_be_said(memory: MemoryStore) -> None:
    row = {"timestamp": "2026-11-21T09:30:00Z", "model": "m"}
    assert import_file(lines(row), memory).damaged == 1
    assert import_file(lines(row), memory, format="tracker").written == 1
    with pytest.raises(OptionError, match="'ledger' or 'tracker' or 'litellm'"):
        import_file(lines(row), memory, format="csv")  # type: ignore[arg-type]  # that is what is tested


def test_an_empty_file_is_no_rows(store: JsonlStore | SqlStore) -> None:
    assert import_file(io.BytesIO(), store) == (0, 0, 0, 0, {}, ())


def test_a_file_that_is_not_there_is_an_error(
    memory: MemoryStore, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"calls\.jsonl"):
        import_file(tmp_path / "calls.jsonl", memory)


def test_a_dash_is_standard_input(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines(call(1))))
    assert import_file("-", memory).written == 1


def test_a_stream_stays_open(memory: MemoryStore) -> None:
    stream = lines(call(1))
    import_file(stream, memory)
    assert not stream.closed


def test_what_the_store_cannot_write_is_told(tmp_path: Path) -> None:
    store = JsonlStore(tmp_path / "directory")
    (tmp_path / "other").mkdir()
    store.add(call(1))
    (tmp_path / "directory").unlink()
    store.close()
    store.path = tmp_path / "other.jsonl"
    store._file._path = tmp_path / "other"  # cannot be written
    found = import_file(lines(call(2)), store)
    assert (found.written, sum(found.refused.values())) == (0, 1)


def test_a_store_of_a_later_version_is_left_alone(jsonl: JsonlStore) -> None:
    jsonl.add(call(1, schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(NewerRecordsError, match="update llmevents"):
        import_file(lines(call(2)), jsonl)
    assert jsonl.counts().written == 1


def test_memory_does_not_grow_with_the_number_of_rows(
    jsonl: JsonlStore, tmp_path: Path
) -> None:
    path = tmp_path / "calls.json"
    padding = "x" * 4_000
    with path.open("w") as file:
        file.write("[")
        for number in range(5_000):
            file.write(
                f"{',' if number else ''}{json.dumps(call(number, model=padding))}"
            )
        file.write("]")
    import_file(lines(call(0)), jsonl)  # DuckDB's own imports
    tracemalloc.start()
    try:
        assert import_file(path, jsonl).written == 4_999
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000 < path.stat().st_size


@pytest.mark.parametrize(
    ("written", "ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01 00:00:01.5", 1_500_000_000),
        ("1970-01-01T00:00:01.123456789123", 1_123_456_789),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00-0130", 5_400_000_000_000),
        ("1970-01-01 00:00:00 UTC", 0),
        ("1970-01-03T00:00:00+23:59", 86_460_000_000_000),
        (0.1, 100_000_000),
        (5, 5_000_000_000),
        ("1969-12-31T23:59:59Z", None),
        ("1970-02-30T00:00:00Z", None),
        ("1970-01-01T25:00:00Z", None),
        ("1970-03-01T00:00:00+24:00", None),
        ("1970-03-01T00:00:00-99:99", None),
        ("1970-03-01T00:00:00+00:60", None),
        ("", None),
        (None, None),
        (True, None),
        (-1, None),
        (float("nan"), None),
        (10**30, None),
    ],
)
def test_moments_are_read_exactly(written: object, ns: int | None) -> None:
    assert nanoseconds(written) == ns


def test_numbers_are_read_exactly_or_not_at_all() -> None:
    assert nano_usd(0.1) == nano_usd("0.1") == 100_000_000
    assert nano_usd(1e-10) == nano_usd("") == nano_usd(None) or nano_usd(1e-10) == 0
    assert nano_usd(1e300) is None
    assert nano_usd(10**12) is None
    assert integer("7") == integer(7.0) == 7
    assert [integer(odd) for odd in (7.5, "x", True, None, 2**63, -1)] == [None] * 6
    assert number("0.5") == 0.5
    assert [number(odd) for odd in ("x", True, None, "inf", 10**400)] == [None] * 5
