"""Calls of a real SDK, to a server on this machine, as records of the ledger."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import llmevents
from llmevents import llm
from llmevents.ledger import read
from llmevents.testing import FakeProvider, Reply


openai = pytest.importorskip("openai", reason="the openai SDK is missing")

MESSAGES = [{"role": "user", "content": "Count."}]
CHAT = 8
EMBEDDINGS = 3

COUNTED = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


def ask(provider: FakeProvider) -> None:
    """Make calls of every kind, in a task: plain, streamed, refused and dropped."""
    refused = Reply.rate_limited(retry_after_seconds=0.001)
    with (
        openai.OpenAI(
            base_url=provider.base_url, api_key="test", max_retries=2
        ) as client,
        llmevents.context(user_id="u-1"),
        llm.task("count", task_id="t-1"),
    ):
        create = client.chat.completions.create
        for _ in range(3):
            create(model="gpt-4o", messages=MESSAGES)
        options = {"include_usage": True}
        for _ in range(2):
            list(
                create(
                    model="gpt-4o-mini",
                    messages=MESSAGES,
                    stream=True,
                    stream_options=options,
                )
            )
        provider.script(refused, refused)
        create(model="gpt-4o", messages=MESSAGES)
        for model in ("fault-401", "fault-drop"):
            with pytest.raises(openai.OpenAIError):
                client.with_options(max_retries=0).chat.completions.create(
                    model=model, messages=MESSAGES
                )
        for _ in range(EMBEDDINGS):
            client.embeddings.create(model="text-embedding-3-small", input="Count.")


@pytest.mark.parametrize("durability", ["process", "batch"])
def test_each_call_of_an_sdk_is_one_record_with_the_tokens_that_were_served(
    durability: str, provider: FakeProvider, tmp_path: Path
) -> None:
    path, database = tmp_path / "calls.jsonl", tmp_path / "usage.db"
    ledger = {"jsonl": path, "url": f"sqlite:///{database}", "durability": durability}
    with llmevents.configure(
        instrument=["openai"],
        metrics="default",
        logger=False,
        reporters={"ledger": ledger},
    ) as telemetry:
        ask(provider)
        assert telemetry.flush(10)
        status = telemetry.status()
    records: list[dict[str, Any]] = [line.record or {} for line in read(path)]
    assert Counter(record["event"] for record in records) == {
        "llm.chat": CHAT,
        "llm.embedding": EMBEDDINGS,
        "llm.task": 1,
    }
    assert len({record["id"] for record in records}) == len(records)
    assert {record["task_id"] for record in records} == {"t-1"}
    assert {record["user_id"] for record in records} == {"u-1"}
    chats = [record for record in records if record["event"] == "llm.chat"]
    assert Counter(record["status"] for record in chats) == {"success": 6, "error": 2}
    assert sum(record.get("stream", False) for record in chats) == 2
    # What broke off was served, but never arrived.
    arrived = [call for call in provider.calls if call.completed and call.status == 200]
    for name in COUNTED:
        assert sum(record.get(name, 0) for record in records) == sum(
            getattr(call, name) or 0 for call in arrived
        )
    with closing(sqlite3.connect(database)) as connection:
        names = ("id", "status", "model", "input_tokens", "output_tokens")
        rows = connection.execute(f"SELECT {', '.join(names)} FROM calls").fetchall()  # noqa: S608  # constants
    assert sorted(rows) == sorted(tuple(r.get(n) for n in names) for r in records)
    found = status.reporters["ledger"]
    assert (found.delivered, found.queued) == (2 * len(records), 0)
