"""Recorded exchanges are read whole, or refused with file, line and reason."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llmevents.testing.provider import Exchange, read_exchanges
from tests.data import EXCHANGES, needs_data


ROW: dict[str, Any] = {
    "id": "1",
    "source": "test",
    "provider": "openai",
    "operation": "chat",
    "stream": False,
    "model": None,
    "path": "/v1/chat/completions",
    "query": "",
    "request": {"model": "gpt-4o"},
    "status": 200,
    "content_type": "application/json",
    "response": base64.b64encode(b'{"a": 1}').decode(),
    "truth": {
        "input": 3,
        "output": 2,
        "cache_read": None,
        "cache_write": None,
        "reasoning": 0,
    },
}


def line(**changes: object) -> str:
    return json.dumps({**ROW, **changes})


def without(name: str) -> str:
    return json.dumps({key: known for key, known in ROW.items() if key != name})


@needs_data
def test_every_recording_is_read() -> None:
    """The counts are those that the description of the data states."""
    exchanges = list(read_exchanges(EXCHANGES))

    assert len(exchanges) == 396
    assert sum(exchange.truth is not None for exchange in exchanges) == 362


def test_plain_and_compressed_files_read_the_same(tmp_path: Path) -> None:
    text = f"{line()}\n\n{line(id='2', truth=None)}"
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed.jsonl"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))

    exchanges = list(read_exchanges(plain))

    assert exchanges == list(read_exchanges(str(packed)))
    assert exchanges[0] == Exchange(**{**ROW, "response": b'{"a": 1}'})
    assert [exchange.id for exchange in exchanges] == ["1", "2"]
    assert exchanges[1].truth is None


def test_an_empty_file_has_no_exchanges(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()

    assert list(read_exchanges(path)) == []


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        pytest.param("{", "Expecting property name", id="no-json"),
        pytest.param("[" * 100_000, "recursion", id="nested-too-deeply"),
        pytest.param("[]", "expected a JSON object, got list", id="no-object"),
        pytest.param(without("path"), "'path' is missing", id="missing"),
        pytest.param(line(stream=1), "'stream' is 1, expected bool", id="type"),
        pytest.param(line(status=True), "'status' is True, expected int", id="bool"),
        pytest.param(line(model=1), "expected str or NoneType", id="union"),
        pytest.param(line(status=101), "expected 200 to 599", id="status"),
        pytest.param(line(content_type="a\r\nb: c"), "printable ASCII", id="header"),
        pytest.param(line(response="?"), "base64|Incorrect padding", id="base64"),
        pytest.param(line(truth={"input": -1}), "truth.* input -1", id="negative"),
        pytest.param(line(truth={"output": True}), "output True", id="bool-count"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(
    tmp_path: Path, bad: str, complaint: str
) -> None:
    path = tmp_path / "exchanges.jsonl"
    path.write_text(f"{line()}\n{bad}\n")
    exchanges = read_exchanges(path)

    assert next(exchanges).id == "1"
    with pytest.raises(
        ValueError, match=rf"exchanges\.jsonl, line 2: .*(?:{complaint})"
    ):
        next(exchanges)


PACKED = gzip.compress(line().encode())


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(PACKED[:-9], id="truncated"),
        pytest.param(PACKED[:3], id="header-only"),
        pytest.param(PACKED[:10] + b"\xff" + PACKED[11:], id="not-deflate"),
        pytest.param(PACKED[:-8] + bytes(4) + PACKED[-4:], id="checksum"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "exchanges.jsonl.gz"
    path.write_bytes(damaged)

    with pytest.raises(ValueError, match=r"exchanges\.jsonl\.gz, line \d: "):
        list(read_exchanges(path))
