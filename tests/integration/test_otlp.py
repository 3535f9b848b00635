"""The OpenTelemetry reporter against a receiver, and against endpoints that fail.

The receiver is oteltap 1.0, which decodes OTLP on its own. It forgets what nobody has
asked for: who waits for something asks before it is sent.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from llmevents import Bus, span
from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    MetricStore,
    Sum,
    Summary,
)
from llmevents_otel import OTelReporter
from tests.reporters.otlp_server import HANG, SECONDS, otlp_server, unused_port


needs_oteltap = pytest.mark.skipif(
    os.environ.get("CI") != "true" and find_spec("oteltap") is None,
    reason="oteltap is not installed; run: pip install oteltap",
)

STOP = "llm.chat.stop"
PAIR = ("provider", "model")
DEFINITIONS = (
    Counter("llm.calls.total", event=STOP, tags=PAIR, description="Calls."),
    Sum(
        "llm.tokens.input.total",
        event=STOP,
        measurement="input_tokens",
        tags=PAIR,
        unit="token",
    ),
    Sum("llm.active", event=STOP, measurement="change", monotonic=False),
    LastValue("llm.size", event=STOP, measurement="input_tokens"),
    Distribution(
        "llm.latency", event=STOP, measurement="latency", unit=("nanosecond", "second")
    ),
    Summary(
        "llm.spread", event=STOP, measurement="latency", unit=("nanosecond", "second")
    ),
)


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[Any, str]]:
    """Run oteltap on loopback."""
    oteltap: Any = import_module("oteltap")
    port = unused_port()
    settings = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=port)
    async with oteltap.OtelTapHttpProtobufReceiver(settings) as tap:
        yield tap, f"http://127.0.0.1:{port}"


@contextmanager
def running(reporter: OTelReporter) -> Iterator[Bus]:
    bus = Bus()
    store = MetricStore(DEFINITIONS)
    store.attach(bus)
    reporter.start(bus, store)
    try:
        yield bus
    finally:
        reporter.stop(SECONDS / 2)


def make_calls(bus: Bus) -> None:
    for latency in (1, 2, 4):
        metadata = {"provider": "openai", "model": "gpt-4o", "operation": "chat"}
        with span("llm.chat", metadata, bus=bus) as current:
            current.measure(input_tokens=1000, latency=latency * 10**9, change=-1)


@needs_oteltap
def test_a_receiver_reads_spans_metrics_and_log_records() -> None:
    asyncio.run(_read_everything())


async def _read_everything() -> None:
    async with receiver() as (tap, url):
        names = [definition.name for definition in DEFINITIONS]

        def of(name: str) -> Callable[[Any], bool]:
            return lambda metric: bool(metric.name == name)

        awaited = [
            tap.await_trace(lambda each: each.name == "chat gpt-4o", SECONDS),
            tap.await_log(lambda _: True, SECONDS),
            *(tap.await_metric(of(name), SECONDS) for name in names),
        ]
        tasks = [asyncio.ensure_future(each) for each in awaited]
        await asyncio.sleep(0)
        reporter = OTelReporter(endpoint=url, logs=True, interval=86_400.0)
        with running(reporter) as bus:
            make_calls(bus)
            assert await asyncio.to_thread(reporter.flush, SECONDS)
            assert reporter.status().delivered == 3 + 3 + 6
        trace, log, *metrics = await asyncio.gather(*tasks)

    values = {each.key: each.value for each in trace.attributes}
    assert values["gen_ai.usage.input_tokens"].int_value == 1000
    assert len(trace.trace_id) == len(log.trace_id) == 16
    calls, tokens, active, size, latency, spread = metrics
    assert (calls.description, tokens.unit, latency.unit) == ("Calls.", "{token}", "s")
    assert calls.sum.data_points[0].as_int == 3
    assert calls.sum.is_monotonic
    assert tokens.sum.data_points[0].as_int == 3000
    assert active.sum.data_points[0].as_int == -3
    assert not active.sum.is_monotonic
    assert size.gauge.data_points[0].as_int == 1000
    histogram = latency.histogram.data_points[0]
    assert (histogram.count, histogram.sum) == (3, 7.0)
    assert sum(histogram.bucket_counts) == 3
    assert len(histogram.exemplars) == 3
    assert histogram.exemplars[0].trace_id
    exponential = spread.exponential_histogram.data_points[0]
    assert (exponential.scale, exponential.count, exponential.sum) == (6, 3, 7.0)
    assert exponential.positive.offset == -1
    assert list(exponential.positive.bucket_counts) == [1, *[0] * 63, 1, *[0] * 63, 1]


# --- Programs of their own ----------------------------------------------------------

PROGRAM = """
    import os, sys, time
    from llmevents import Bus, span
    from llmevents.metrics import Counter, MetricStore
    from llmevents_otel import OTelReporter

    bus = Bus()
    store = MetricStore([Counter("calls", event="llm.chat.stop")])
    store.attach(bus)
    reporter = OTelReporter(endpoint=os.environ["ENDPOINT"])
    reporter.start(bus, store)

    def call(number=1):
        for _ in range(number):
            with span("llm.chat", {"model": "gpt-4o"}, bus=bus) as current:
                current.measure(input_tokens=12)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def ending():
        print("ending", time.monotonic(), flush=True)
"""


def run(program: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM) + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=10 * SECONDS,
        check=False,
        env={**os.environ, "ENDPOINT": endpoint},
    )


BLACK_HOLES = ("accepts", "never connects")


@contextmanager
def black_hole(kind: str) -> Iterator[str]:
    if kind == "accepts":
        with otlp_server() as server:
            server.decide = lambda _: HANG
            yield server.url
        return
    # A backlog that is full: Linux drops further attempts to connect.
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("kind", BLACK_HOLES)
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("ending()", id="normally"),
        pytest.param("ending()\nsys.exit(0)", id="by sys.exit"),
        pytest.param("call(600)\ntime.sleep(0.3)\nending()", id="in a request"),
    ],
)
def test_a_black_hole_holds_up_the_end_of_a_program_for_2_5_seconds_at_most(
    kind: str, ending: str
) -> None:
    # One data point is among them, unless the thread hangs since before the end.
    calls = "61[01]" if "600" in ending else "1[01]"
    with black_hole(kind) as url:
        done = run(f"call(10)\n{ending}", url)
        ended = time.monotonic()
    assert done.returncode == 0
    assert ended - float(done.stdout.split()[1]) <= 2.5
    assert re.fullmatch(
        f"llmevents: records not delivered to OpenTelemetry at exit: {calls}; "
        "the endpoint did not take them within 2 s\n",
        done.stderr,
    ), done.stderr


def test_a_daemon_thread_that_emits_to_the_very_end_does_no_harm() -> None:
    program = """
    import threading

    def forever():
        while True:
            call()

    for _ in range(2):
        threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.2)
    """
    with otlp_server() as server:
        done = run(program, server.url)
        assert done.returncode == 0
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is read from /proc, of Linux"
)
def test_memory_is_bounded_while_the_endpoint_is_down() -> None:
    """The queue is full after 2,048: what comes later adds nothing, however much."""
    program = """
    before = resident()
    call(20_000)
    growth = resident() - before
    status = reporter.status()
    assert status.is_balanced
    assert status.accepted == 20_000, status
    assert status.queued == 2048, status
    assert dict(status.dropped) == {"queue_full": 20_000 - 2048}, status
    reporter.stop(1)
    status = reporter.status()
    assert status.is_balanced
    assert (status.queued, status.delivered) == (0, 0), status
    # With the data point of the last collection.
    assert status.accepted in (20_000, 20_001), status
    print(growth)
    """
    # A port that is taken by who does not listen: nobody can come to listen on it.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        done = run(program, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert done.stderr.count("Traceback") == 0, done.stderr
    assert int(done.stdout) <= 32 * 2**20


def test_forks_neither_lose_nor_double_spans() -> None:
    program = """
    call(100)
    children = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            call(20)
            os._exit(0 if reporter.flush(30) and reporter.status().delivered == 21 else 1)
        children.append(pid)
    failed = [pid for pid in children if os.waitpid(pid, 0)[1]]
    call(100)
    assert reporter.flush(30)
    assert reporter.status().delivered == 201, reporter.status()
    assert not failed
    """
    with otlp_server() as server:
        done = run(program, server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.spans) == 300
        assert len({each.span_id for each in server.spans}) == 300
