from __future__ import annotations

import logging
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from math import inf
from pathlib import Path
from typing import Any

import certifi
import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import get_current
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider

import llmevents_otel._export as export_module
import llmevents_otel._pipeline as pipeline_module
from llmevents import Bus
from llmevents.metrics import Counter, MetricStore
from llmevents_otel import OTelReporter
from llmevents_otel._counts import Tallies, Tally
from llmevents_otel._deadline import Deadline
from llmevents_otel._export import Exporter, warn_at_exit
from llmevents_otel._otlp import ForeignSender, OTLPSender
from llmevents_otel._pipeline import DELAY, MOST_SPLITS, Batch, Pipeline, Records
from llmevents_otel._queue import MOST_RECORDS, PLACE, BoundedQueue
from llmevents_otel._retry import (
    DELIVERED,
    Action,
    Outcome,
    RetryPolicy,
    of_error,
    of_status,
    parse_retry_after,
)
from tests.reporters.otlp_server import (
    HANG,
    OK,
    SECONDS,
    Answer,
    OTLPServer,
    otlp_server,
    unused_port,
    wait_for,
)


QUICK = RetryPolicy(total=SECONDS, first=0.01, longest=0.02)
NEVER = 86_400.0


def emit_spans(bus: Bus, count: int, **metadata: object) -> None:
    for number in range(count):
        fields = {"span_id": f"{metadata.get('prefix', '')}{number}", **metadata}
        bus.execute("llm.chat.start", {"system_time": 1, "monotonic_time": 1}, fields)
        bus.execute("llm.chat.stop", {"duration": 5, "monotonic_time": 6}, fields)


@contextmanager
def exporting(
    endpoint: str | None,
    policy: RetryPolicy = QUICK,
    **options: Any,  # noqa: ANN401  # the reporter's
) -> Iterator[tuple[Bus, OTelReporter]]:
    """Run a reporter that sends full batches, and else only what is to be flushed.

    By itself it sends each 5 s what there is, so that a test that is held up would find
    its records in two batches instead of one.
    """
    bus = Bus()
    options = {"metrics": False, "interval": NEVER, "timeout": SECONDS, **options}
    reporter = OTelReporter(endpoint=endpoint, **options)
    reporter._policy = policy
    store = MetricStore([Counter("calls.total", event="llm.chat.stop")])
    store.attach(bus)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_module, "DELAY", NEVER)
        reporter.start(bus, store)
        try:
            # Only when its thread has looked and found nothing the delay begins;
            # before that it sends at once the first record that comes.
            lines = exporter_of(reporter).pipelines.values()
            wait_for(lambda: all(line._send_due > 0 for line in lines))
            yield bus, reporter
        finally:
            reporter.stop(SECONDS / 2)
            wait_for(lambda: not is_sending())


def exporter_of(reporter: OTelReporter) -> Exporter:
    assert reporter._session is not None
    return reporter._session._exporters[os.getpid()]


def is_sending() -> bool:
    return any(each.name == "llmevents-otel" for each in threading.enumerate())


def assert_conserved(
    reporter: OTelReporter,
    *,
    accepted: int,
    delivered: int,
    dropped: Mapping[str, int] | None = None,
) -> None:
    """At rest nothing is queued, and all is accounted for."""
    status = reporter.status()
    assert status.is_balanced
    assert (status.accepted, status.delivered, dict(status.dropped), status.queued) == (
        accepted,
        delivered,
        dropped or {},
        0,
    )


# --- Faults of the endpoint, then healthy -----------------------------------------


def in_the_past() -> str:
    return format_datetime(datetime.now(timezone.utc) - timedelta(days=1))


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Answer(status=429)], id="429"),
        pytest.param([Answer(status=502)], id="502"),
        pytest.param([Answer(status=503)] * 3, id="503"),
        pytest.param([Answer(status=504)], id="504"),
        pytest.param(
            [Answer(status=429, headers={"Retry-After": "0"})], id="retry-after-seconds"
        ),
        pytest.param(
            [Answer(status=503, headers={"Retry-After": in_the_past()})],
            id="retry-after-date",
        ),
        pytest.param(
            [Answer(status=429, headers={"Retry-After": "soon, I think"})],
            id="retry-after-garbage",
        ),
        pytest.param([Answer(reset=True)], id="reset"),
        pytest.param([], id="healthy"),
    ],
)
def test_what_passes_is_retried_and_delivered_once(answers: list[Answer]) -> None:
    with otlp_server(*answers) as server, exporting(server.url) as (bus, reporter):
        emit_spans(bus, 1)  # one record is one batch, however slow the machine

        assert reporter.flush(SECONDS)

        assert len(server.spans) == 1
        assert len(server.requests) == len(answers) + 1
        assert_conserved(reporter, accepted=1, delivered=1)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 500, 501])
def test_what_does_not_pass_is_dropped_at_once(status: int) -> None:
    """OTLP allows retries of 429, 502, 503 and 504 only; a redirect is none."""
    answer = Answer(status=status, headers={"Location": "http://127.0.0.1:1/"})
    with otlp_server(answer) as server, exporting(server.url) as (bus, reporter):
        emit_spans(bus, 1)
        assert not reporter.flush(SECONDS)
        assert_conserved(
            reporter, accepted=1, delivered=0, dropped={f"http_{status}": 1}
        )
        emit_spans(bus, 1)
        assert reporter.flush(SECONDS)

        assert len(server.requests) == 2
        assert_conserved(
            reporter, accepted=2, delivered=1, dropped={f"http_{status}": 1}
        )


def test_an_endpoint_that_refuses_and_comes_back_gets_all() -> None:
    port = unused_port()
    with exporting(f"http://127.0.0.1:{port}") as (bus, reporter):
        emit_spans(bus, 30)
        assert not reporter.flush(0.05)
        assert reporter.status().queued == 30
        server = OTLPServer(port)
        server.start()
        try:
            assert reporter.flush(SECONDS)
            assert len(server.spans) == 30
            assert_conserved(reporter, accepted=30, delivered=30)
        finally:
            server.stop()


def recovers_after(
    number: int,
    answer: Answer,
    server: OTLPServer,
    reporter: OTelReporter,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Have *number* attempts get an *answer* for which there is not time enough.

    The next one has all the time that it needs; on a busy machine a healthy answer
    would be too late as well, and there would be one attempt more.

    Returns:
        What became of each attempt, as they are made.
    """
    exporter = exporter_of(reporter)
    line = exporter.pipelines["spans"]
    send = line._send
    became: list[str] = []

    def sending(batch: Batch, timeout: float) -> Outcome:
        outcome = send(batch, timeout)
        became.append(outcome.reason)
        if len(became) == number:
            exporter._timeout = SECONDS
        return outcome

    monkeypatch.setattr(line, "_send", sending)
    server.decide = lambda _: answer if len(became) < number else OK
    return became


def test_an_endpoint_that_never_answers_costs_one_timeout_per_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        otlp_server() as server,
        exporting(server.url, timeout=0.5) as (bus, reporter),
    ):
        attempts = recovers_after(2, HANG, server, reporter, monkeypatch)
        emit_spans(bus, 5)

        assert reporter.flush(SECONDS)

        assert attempts == ["timeout", "timeout", ""]
        # The server may read late what was sent in time.
        wait_for(lambda: len(server.requests) == len(attempts))
        assert_conserved(reporter, accepted=5, delivered=5)


def test_an_answer_that_drips_is_cut_off_at_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each byte comes in time, and there would be enough of them for minutes."""
    drip = Answer(drip=0.05, headers={"X-Long": "x" * 10_000})
    with (
        otlp_server() as server,
        exporting(server.url, timeout=0.5) as (bus, reporter),
    ):
        attempts = recovers_after(1, drip, server, reporter, monkeypatch)
        emit_spans(bus, 5)
        began = time.monotonic()

        assert reporter.flush(SECONDS)

        assert time.monotonic() - began < 5
        assert len(attempts) == 2
        wait_for(lambda: len(server.requests) == len(attempts))
        # The server has taken the spans both times: delivery is at least once.
        assert_conserved(reporter, accepted=5, delivered=5)


def test_a_batch_is_given_up_after_its_time() -> None:
    policy = RetryPolicy(total=0.05, first=0.01, longest=0.02)
    url = f"http://127.0.0.1:{unused_port()}"
    with exporting(url, policy) as (bus, reporter):
        emit_spans(bus, 5)

        assert not reporter.flush(SECONDS)

        assert_conserved(
            reporter, accepted=5, delivered=0, dropped={"connection_error": 5}
        )


def test_a_pause_that_is_too_long_costs_the_batch_and_is_kept() -> None:
    """The server is not asked again before the time that the policy allows at most."""
    policy = RetryPolicy(total=0.3, first=0.01, longest=0.02)
    answer = Answer(status=429, headers={"Retry-After": "3600"})
    with (
        otlp_server(answer) as server,
        exporting(server.url, policy) as (bus, reporter),
    ):
        began = time.monotonic()
        emit_spans(bus, 5)
        assert not reporter.flush(SECONDS)
        emit_spans(bus, 3)
        assert reporter.flush(SECONDS)

        assert time.monotonic() - began >= 0.3
        assert len(server.requests) == 2
        assert_conserved(reporter, accepted=8, delivered=3, dropped={"http_429": 5})


@pytest.mark.parametrize("status", [400, 413])
def test_one_bad_span_costs_one(status: int) -> None:
    """The batch is cut in half until the bad one is alone."""
    with otlp_server() as server, exporting(server.url) as (bus, reporter):
        server.decide = lambda spans: (
            Answer(status=status)
            if any(span.name == "chat bad" for span in spans)
            else OK
        )
        emit_spans(bus, 300)
        emit_spans(bus, 1, model="bad", prefix="bad")
        emit_spans(bus, 200, prefix="more")

        assert not reporter.flush(SECONDS)

        assert len(server.requests) <= 20
        assert len(server.spans) == 500
        assert_conserved(
            reporter, accepted=501, delivered=500, dropped={f"http_{status}": 1}
        )


def test_a_server_that_refuses_all_is_soon_asked_no_more_than_once_a_batch() -> None:
    with otlp_server() as server, exporting(server.url) as (bus, reporter):
        server.decide = lambda _: Answer(status=400)
        emit_spans(bus, 400)
        assert not reporter.flush(SECONDS)
        assert len(server.requests) <= MOST_SPLITS + 1
        before = len(server.requests)
        emit_spans(bus, 400)
        assert not reporter.flush(SECONDS)
        assert len(server.requests) == before + 1
        server.decide = lambda _: OK
        emit_spans(bus, 1)
        assert reporter.flush(SECONDS)

        assert_conserved(reporter, accepted=801, delivered=1, dropped={"http_400": 800})


def partial(rejected: int) -> bytes:
    success = ExportTracePartialSuccess(rejected_spans=rejected, error_message="no")
    body: bytes = ExportTraceServiceResponse(
        partial_success=success
    ).SerializeToString()
    return body


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        pytest.param(partial(3), 3, id="some"),
        pytest.param(partial(0), 0, id="a warning"),
        pytest.param(partial(99), 10, id="more than there were"),
        pytest.param(partial(-5), 0, id="less than none"),
        pytest.param(b'{"partialSuccess":{}}', 0, id="something else"),
    ],
)
def test_what_a_server_rejects_of_a_request_is_dropped(
    body: bytes, rejected: int
) -> None:
    with (
        otlp_server(Answer(body=body)) as server,
        exporting(server.url) as (bus, reporter),
    ):
        emit_spans(bus, 10)

        assert reporter.flush(SECONDS) is (rejected == 0)

        dropped = {"rejected": rejected} if rejected else {}
        assert_conserved(
            reporter, accepted=10, delivered=10 - rejected, dropped=dropped
        )


def test_a_span_that_cannot_be_encoded_costs_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A lone surrogate fails the whole request; ours are cleaned, others' are not."""
    with otlp_server() as server, exporting(server.url) as (bus, reporter):
        emit_spans(bus, 100)
        session = reporter._session
        assert session is not None
        provider = TracerProvider(shutdown_on_exit=False)
        span = provider.get_tracer("t").start_span("\ud800")
        span.end()
        session.offer("spans", span, 10)
        emit_spans(bus, 100, prefix="more")

        assert not reporter.flush(SECONDS)

        assert len(server.spans) == 200
        assert_conserved(
            reporter, accepted=201, delivered=200, dropped={"encode_error": 1}
        )
    assert [record.name for record in caplog.records] == ["llmevents.otel"]


def test_log_records_are_exported_likewise() -> None:
    with (
        otlp_server(Answer(status=503)) as server,
        exporting(server.url, spans=False, logs=True, profile="seed-compat") as (
            bus,
            reporter,
        ),
    ):
        emit_spans(bus, 10, provider="openai", model="gpt-4")

        assert reporter.flush(SECONDS)

        assert len(server.taken["/v1/logs"]) == 10
        assert_conserved(reporter, accepted=10, delivered=10)


# --- The queue ----------------------------------------------------------------------


def test_what_does_not_fit_is_counted_and_the_rest_is_sent() -> None:
    with (
        otlp_server() as server,
        exporting(server.url, queue_size=10) as (bus, reporter),
    ):
        server.script.append(Answer(status=503, headers={"Retry-After": "3600"}))
        reporter._session._policy = QUICK  # type: ignore[union-attr]
        emit_spans(bus, 25)
        status = reporter.status()

        assert status.is_balanced
        assert (status.accepted, status.queued) == (25, 10)
        assert dict(status.dropped) == {"queue_full": 15}


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("frequent_switches")
def test_admission_is_exact_with_many_threads() -> None:
    """OpenTelemetry's own batch processor miscounts here."""
    with (
        otlp_server() as server,
        exporting(server.url, queue_size=64) as (bus, reporter),
    ):
        threads = [
            threading.Thread(
                target=emit_spans, args=(bus, 500), kwargs={"prefix": f"{number}-"}
            )
            for number in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert reporter.flush(SECONDS)

        status = reporter.status()
        assert status.accepted == 8_000
        assert status.delivered == len(server.spans)
        assert status.queued == 0
        assert status.is_balanced


@given(st.lists(st.integers(0, 5 * PLACE), max_size=40), st.integers(1, 20))
def test_places_are_never_exceeded_and_all_come_back(
    sizes: list[int], places: int
) -> None:
    queue = BoundedQueue(places)
    occupied = 0
    admitted = 0
    for number, size in enumerate(sizes):
        needed = max(1, -(-size // PLACE))
        fits = occupied + needed <= places
        assert queue.offer(number, size) is fits
        occupied += needed if fits else 0
        admitted += fits
    assert (len(queue), queue.admitted.value()) == (admitted, admitted)
    taken, freed = queue.take()
    assert (len(taken), freed) == (admitted, occupied)
    queue.free(freed)
    assert all(queue.offer(number, 1) for number in range(places))
    assert not queue.offer("one more", 1)


def test_a_request_has_a_limited_size() -> None:
    queue = BoundedQueue(4096)
    for number in range(3):
        queue.offer(number, 1000 * PLACE)
    assert [len(queue.take()[0]) for _ in range(3)] == [2, 1, 0]


def test_tallies_count() -> None:
    tally = Tally()
    tally.add()
    tally.add(4)
    assert tally.value() == 5
    tallies = Tallies()
    tallies.add("a", 0)
    tallies.add("b", 2)
    assert tallies.values() == {"b": 2}


# --- One pipeline, step by step --------------------------------------------------------


class Script:
    """A sender that answers by a script, and takes notes."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[list[Any]] = []
        self.during: Any = None
        self.aborted = False

    def send(self, records: Sequence[Any], timeout: float) -> Outcome:
        self.sent.append(list(records))
        if self.during is not None:
            self.during()
        return self.outcomes.pop(0) if self.outcomes else DELIVERED

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        msg = "already"
        raise RuntimeError(msg)


def pipeline(
    script: Script, policy: RetryPolicy = QUICK, *, cuttable: bool = False
) -> Pipeline:
    kind = Records(name="records")
    if cuttable:
        kind = Records(name="records", weigh=len, cut=lambda text: (text[:1], text[1:]))
    return Pipeline(
        kind, lambda: script, places=2048, policy=policy, report=lambda *_: None
    )


def retry(retry_after: float | None = None) -> Outcome:
    return Outcome(action=Action.RETRY, reason="http_503", retry_after=retry_after)


SPLIT = Outcome(action=Action.SPLIT, reason="http_400")


def assert_counts(
    of: Pipeline, accepted: int, delivered: int, dropped: dict[str, int], queued: int
) -> None:
    counts = of.counts()
    assert (counts.accepted, counts.delivered, counts.dropped, counts.queued) == (
        accepted,
        delivered,
        dropped,
        queued,
    )


def test_a_batch_that_is_not_full_waits_for_the_delay() -> None:
    line = pipeline(Script())
    assert line.wait(0.0, urgent=False) == inf
    line.offer("a", 1)
    assert line.wait(1.0, urgent=False) == DELAY - 1
    assert not line.work(1.0, 1.0, urgent=False)
    assert line.wait(1.0, urgent=True) == 0
    assert line.work(DELAY, 1.0, urgent=False)
    assert_counts(line, 1, 1, {}, 0)


def test_a_full_batch_does_not_wait() -> None:
    script = Script()
    line = pipeline(script)
    full = [line.offer(number, 1) for number in range(MOST_RECORDS + 1)]
    assert full.index(True) == MOST_RECORDS - 1
    assert line.work(0.0, 1.0, urgent=False)
    assert not line.work(0.0, 1.0, urgent=False)
    assert_counts(line, MOST_RECORDS + 1, MOST_RECORDS, {}, 1)


def test_a_flush_shortens_a_pause_of_ours_but_not_the_servers() -> None:
    for retry_after, shortened in ((None, True), (50.0, False)):
        line = pipeline(Script(retry(retry_after=retry_after)))
        line.offer("a", 1)
        now = time.monotonic()
        line.work(now, 1.0, urgent=True)
        line.hurry(now)
        assert (line.wait(now, urgent=True) == 0) is shortened


def test_what_is_given_up_while_it_is_sent_is_counted_once() -> None:
    for outcome in (DELIVERED, retry(), SPLIT, Outcome(action=Action.DROP, reason="x")):
        script = Script(outcome)
        line = pipeline(script)
        for name in "abc":
            line.offer(name, 1)
        script.during = lambda line=line: line.give_up("shutdown")
        line.work(time.monotonic(), 1.0, urgent=True)

        assert_counts(line, 3, 0, {"shutdown": 3}, 0)
        assert not line.work(time.monotonic(), 1.0, urgent=True)
        line.offer("late", 1)
        assert_counts(line, 4, 0, {"shutdown": 4}, 0)


def test_what_is_given_up_while_it_comes_in_is_counted_once() -> None:
    """Who offers, loads or takes a batch looks again after it has placed it."""
    line = pipeline(Script())
    line._abandoned = "shutdown"
    line.offer("a", 1)
    line.load(["b", "c"], 1)
    line.queue.admitted.add()
    line._place([Batch(["d"], 0, 1)])
    assert_counts(line, 4, 0, {"shutdown": 4}, 0)


def test_what_is_given_up_while_it_is_taken_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script()
    line = pipeline(script)
    take = line._take

    def take_in_between() -> Batch | None:
        line._abandoned = "shutdown"
        return take()

    line.offer("a", 1)
    monkeypatch.setattr(line, "_take", take_in_between)
    assert not line.work(time.monotonic(), 1.0, urgent=True)
    assert script.sent == []
    assert_counts(line, 1, 0, {"shutdown": 1}, 0)


def test_a_record_of_more_than_one_is_cut_as_well() -> None:
    script = Script(SPLIT, SPLIT, SPLIT)
    line = pipeline(script, cuttable=True)
    line.load(["abc"], 10)
    while line.work(time.monotonic(), 1.0, urgent=True):
        pass
    assert script.sent == [["abc"], ["a"], ["bc"], ["b"], ["c"]]
    assert_counts(line, 3, 2, {"http_400": 1}, 0)


def test_a_newer_load_supersedes_an_older_one() -> None:
    script = Script()
    line = pipeline(script, cuttable=True)
    line.load(["aaa", "bb", "cccc"], 5)
    line.load(["dd", "eee", "ffff"], 5)
    while line.work(time.monotonic(), 1.0, urgent=True):
        pass
    assert script.sent == [["dd", "eee"], ["ffff"]]
    assert_counts(line, 18, 9, {"superseded": 9}, 0)
    line.load([], 5)
    line.close()
    line.close()
    line.abort()


def test_a_sender_that_cannot_be_made_costs_the_batch() -> None:
    def make_sender() -> Script:
        msg = "no such credential provider"
        raise RuntimeError(msg)

    reports: list[tuple[str, str, int]] = []
    line = Pipeline(
        Records(name="records"),
        make_sender,
        places=8,
        policy=QUICK,
        report=lambda name, why, lost: reports.append((name, why.error_type, lost)),
    )
    line.offer("a", 1)
    assert line.work(0.0, 1.0, urgent=True)
    assert_counts(line, 1, 0, {"exporter_error": 1}, 0)
    assert reports == [("records", "RuntimeError", 1)]


# --- What an answer means ----------------------------------------------------------


def test_retry_after_may_be_a_date() -> None:
    in_an_hour = datetime.now(timezone.utc) + timedelta(hours=1)

    seconds = parse_retry_after(format_datetime(in_an_hour))

    assert seconds is not None
    assert 3_500 <= seconds <= 3_600


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("5", 5, 5),
        (" 2.5 ", 2.5, 2.5),
        ("-3", 0, 0),
        ("Sun, 06 Nov 1994 08:49:37", 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, least: float, most: float) -> None:
    seconds = parse_retry_after(text)
    assert seconds is not None
    assert least <= seconds <= most


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "soon", "Mon, 99 Foo 2026 99:99:99"]
)
def test_any_other_retry_after_is_none(text: str) -> None:
    assert parse_retry_after(text) is None


@given(st.text())
def test_no_retry_after_does_harm(text: str) -> None:
    parse_retry_after(text)


def test_only_throttling_answers_may_set_the_pause() -> None:
    headers = {"Retry-After": "7"}
    assert of_status(503, headers).retry_after == 7
    assert of_status(502, headers).retry_after is None


@pytest.mark.parametrize(
    ("error", "action", "reason"),
    [
        (requests.exceptions.SSLError(), Action.RETRY, "tls_error"),
        (requests.ReadTimeout(), Action.RETRY, "timeout"),
        (TimeoutError(), Action.RETRY, "timeout"),
        (urllib3.exceptions.ProtocolError(), Action.RETRY, "connection_error"),
        (requests.ConnectionError(), Action.RETRY, "connection_error"),
        (ConnectionResetError(), Action.RETRY, "connection_error"),
        (requests.exceptions.InvalidHeader(), Action.DROP, "request_error"),
        (requests.exceptions.InvalidURL(), Action.DROP, "request_error"),
        (ValueError(), Action.DROP, "request_error"),
    ],
)
def test_errors_of_the_connection_are_retried(
    error: Exception, action: Action, reason: str
) -> None:
    outcome = of_error(error)
    assert (outcome.action, outcome.reason) == (action, reason)
    assert outcome.error_type == type(error).__name__


def test_pauses_grow_and_stay_below_their_limit() -> None:
    policy = RetryPolicy(first=1.0, longest=4.0)
    for failures, most in ((1, 1.0), (2, 2.0), (3, 4.0), (1000, 4.0)):
        pauses = [policy.pause(failures) for _ in range(200)]
        assert 0 <= min(pauses) < most / 4
        assert most * 3 / 4 < max(pauses) <= most


# --- The thread ------------------------------------------------------------------------


def exporter(
    *lines: Pipeline,
    collect: Callable[[], None] | None = None,
    interval: float = NEVER,
) -> Exporter:
    return Exporter(
        {str(number): line for number, line in enumerate(lines)},
        collect=collect,
        interval=interval,
        timeout=SECONDS,
    )


def test_full_batches_are_sent_without_being_asked_for() -> None:
    with otlp_server() as server, exporting(server.url) as (bus, _):
        emit_spans(bus, MOST_RECORDS)
        wait_for(lambda: len(server.spans) == MOST_RECORDS)


def test_a_full_batch_wakes_the_thread_once() -> None:
    """Also while it must not be sent yet: with an endpoint down many more come."""
    script = Script(retry(retry_after=50.0))
    line = pipeline(script)
    sender = exporter(line)
    sender._role.clear()
    for number in range(3 * MOST_RECORDS):
        sender.offer("0", number, 1)
    assert sender._requests.qsize() == 1
    assert sender._wait() == 0
    assert sender._turn(0.0)
    assert sender._wait() == DELAY
    sender.offer("0", "one more", 1)
    assert sender._requests.qsize() == 0


def test_metrics_are_collected_at_the_interval() -> None:
    script = Script()
    line = pipeline(script)
    sender = exporter(line, collect=lambda: line.load(["point"], 10), interval=0.01)
    sender.attend()
    wait_for(lambda: len(script.sent) > 2)
    sender.stop(SECONDS)
    assert sender.unsent() == 0


def test_stopping_gives_up_in_time_what_is_not_taken() -> None:
    with otlp_server() as server, exporting(server.url) as (bus, reporter):
        server.decide = lambda _: HANG
        emit_spans(bus, 600)
        wait_for(lambda: bool(server.requests))
        began = time.monotonic()

        reporter.stop(0.5)

        assert time.monotonic() - began < 1.0
        assert_conserved(reporter, accepted=600, delivered=0, dropped={"shutdown": 600})


def test_stopping_without_any_time_counts_everything() -> None:
    with (
        otlp_server() as server,
        exporting(f"http://127.0.0.1:{unused_port()}") as (bus, reporter),
    ):
        emit_spans(bus, 10)
        reporter.stop(0.0)
        status = reporter.status()
        assert status.is_balanced
        assert (status.accepted, status.queued) == (10, 0)
        assert server.spans == []


def test_stopping_delivers_what_there_is() -> None:
    with otlp_server() as server, exporting(server.url) as (bus, reporter):
        emit_spans(bus, 700)
        reporter.stop(SECONDS)
        assert len(server.spans) == 700
        reporter.stop(SECONDS)
        assert_conserved(reporter, accepted=700, delivered=700)


def test_what_comes_after_stopping_is_refused_and_counted() -> None:
    line = pipeline(Script())
    sender = exporter(line)
    sender.attend()
    sender.stop(SECONDS)
    sender.offer("0", "late", 1)
    assert not sender.attend()
    assert_counts(line, 1, 0, {"shutdown": 1}, 0)


class NoThreads(threading.Thread):
    """What a thread is like from Python 3.12 on while the interpreter ends."""

    def start(self) -> None:
        msg = "can't create new thread at interpreter shutdown"
        raise RuntimeError(msg)


def test_without_threads_flush_and_stop_send_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "Thread", NoThreads)
    script = Script(retry())
    line = pipeline(script)
    sender = exporter(line)
    sender.offer("0", "a", 1)
    assert not sender.attend()
    assert sender.flush(SECONDS)
    sender.offer("0", "b", 1)
    sender.stop(SECONDS)
    assert script.sent == [["a"], ["a"], ["b"]]
    assert_counts(line, 2, 2, {}, 0)


def test_a_thread_that_could_not_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script()
    sender = exporter(pipeline(script))
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", NoThreads)
        assert not sender.attend()
    monkeypatch.setattr(export_module, "monotonic", lambda: time.monotonic() + 2)
    assert sender.attend()
    sender.stop(SECONDS)


def test_a_flush_from_inside_the_thread_does_not_wait_for_itself() -> None:
    """A reader of the metrics may try to."""
    answers: list[bool] = []
    line = pipeline(Script())

    def flush() -> None:
        answers.append(sender.flush(SECONDS))

    sender = exporter(line, collect=flush)
    sender.offer("0", "a", 1)
    assert sender.flush(SECONDS)
    assert answers[0] is False
    sender.stop(SECONDS)


def test_whoever_waits_when_the_thread_ends_is_let_go() -> None:
    line = pipeline(Script())
    sender = exporter(line)
    request = export_module._Request(is_last=False)
    sender._requests.put(request)
    sender._requests.put(None)
    sender._end()
    assert request.done.is_set()
    assert not request.is_done


def test_only_one_thread_sends() -> None:
    sender = exporter(pipeline(Script()))
    assert sender.attend()
    thread = sender._thread
    sender._start_thread()
    sender._work_here(export_module._Request(is_last=False), time.monotonic())
    assert sender._thread is thread
    sender.stop(SECONDS)


def test_what_was_left_is_said_at_exit(capsys: pytest.CaptureFixture[str]) -> None:
    warn_at_exit(0, 2.0)
    warn_at_exit(3, 2.0)
    assert capsys.readouterr().err == (
        "llmevents: records not delivered to OpenTelemetry at exit: 3; "
        "the endpoint did not take them within 2 s\n"
    )


# --- Nothing but what was asked for ---------------------------------------------------


def test_requests_of_ours_make_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instrumented HTTP clients look at these two keys before they make one.

    With and without a thread; and in the thread that asks nothing is left behind.
    """
    keys = ("suppress_instrumentation", "suppress_http_instrumentation")
    seen: list[list[object]] = []

    def look() -> None:
        found = get_current()
        seen.append(
            [any(key.startswith(each) and found[key] for key in found) for each in keys]
        )

    for patch in (False, True):
        if patch:
            monkeypatch.setattr(threading, "Thread", NoThreads)
        script = Script()
        script.during = look
        sender = exporter(pipeline(script))
        sender.offer("0", "a", 1)
        assert sender.flush(SECONDS)
        sender.stop(SECONDS)
    look()
    assert seen == [[True, True], [True, True], [False, False]]


CANARY = "s3cret-value"


def test_failures_are_logged_seldom_and_without_headers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x={CANARY};bad, {CANARY}")
    caplog.set_level(logging.INFO)
    with (
        otlp_server(*[Answer(status=503)] * 3, *[Answer(status=401)] * 3) as server,
        exporting(server.url, headers={"Authorization": f"Bearer {CANARY}"}) as (
            bus,
            reporter,
        ),
    ):
        for _ in range(4):
            emit_spans(bus, 5)
            reporter.flush(SECONDS)
        sent = [
            {name.lower(): text for name, text in headers.items()}
            for _, headers in server.requests
        ]
        assert {headers["authorization"] for headers in sent} == {f"Bearer {CANARY}"}
        assert CANARY not in repr(vars(reporter))
    ours = [each for each in caplog.records if each.name == "llmevents.otel"]
    assert [each.getMessage() for each in ours] == [
        "OTLP: spans wait, to be tried again: http_503",
        "OTLP: 5 spans are lost: http_401",
    ]
    assert CANARY not in caplog.text


def test_an_exporter_of_the_users_is_taken_at_its_word() -> None:
    class Broken:
        def __init__(self, answer: bool | Exception) -> None:
            self.answer = answer

    def export(exporter: Broken, records: Sequence[object]) -> bool:
        if isinstance(exporter.answer, Exception):
            raise exporter.answer
        return exporter.answer

    outcomes = [
        ForeignSender(Broken(answer), export).send(["a"], 1.0)
        for answer in (True, False, ValueError(CANARY))
    ]
    assert [each.reason for each in outcomes] == [
        "",
        "exporter_failure",
        "exporter_error",
    ]
    ForeignSender(Broken(answer=True), export).abort()


def test_an_exporter_that_raises_has_sent_nothing() -> None:
    class Raises:
        def shutdown(self) -> None:
            """Nothing to shut."""

    def export(exporter: Raises, records: Sequence[object]) -> bool:
        raise ValueError

    sender = OTLPSender(lambda session: Raises(), export, lambda body: 0)
    assert sender.send(["a"], 1.0).reason == "encode_error"
    sender.close()


# --- The connection ------------------------------------------------------------------


needs_openssl = pytest.mark.skipif(
    os.environ.get("CI") != "true" and shutil.which("openssl") is None,
    reason="openssl makes the certificate; run: apt-get install openssl",
)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    path = tmp_path / "certificate.pem"
    key = tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {path}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=SECONDS)
    path.write_text(path.read_text() + key.read_text())
    return path


@needs_openssl
def test_a_certificate_that_is_not_trusted_is_no_connection(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    policy = RetryPolicy(total=0.0)
    with otlp_server(tls=tls) as server:
        with exporting(server.url, policy) as (bus, reporter):
            emit_spans(bus, 3)
            assert not reporter.flush(SECONDS)
            assert_conserved(
                reporter, accepted=3, delivered=0, dropped={"tls_error": 3}
            )
        assert server.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate))
        with exporting(server.url, policy) as (bus, reporter):
            emit_spans(bus, 3)
            assert reporter.flush(SECONDS)
            emit_spans(bus, 3, prefix="more")
            assert reporter.flush(SECONDS)
            assert_conserved(reporter, accepted=6, delivered=6)


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_server() as server:
        monkeypatch.setenv("http_proxy", server.url)
        with exporting("http://collector.invalid:4318") as (bus, reporter):
            emit_spans(bus, 3)
            assert reporter.flush(SECONDS)
        ((url, _),) = server.requests
        assert url == "http://collector.invalid:4318/v1/traces"


def test_a_connection_is_used_again() -> None:
    with otlp_server() as server, exporting(server.url) as (bus, reporter):
        for _ in range(3):
            emit_spans(bus, 1)
            assert reporter.flush(SECONDS)
        assert len(server.clients) == 1


def test_nothing_is_read_after_the_deadline() -> None:
    deadline = Deadline()
    deadline.abort()
    with pytest.raises(TimeoutError, match="the deadline has passed"):
        deadline.apply(None)
