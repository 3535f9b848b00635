from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from llmevents import Bus, LLMEventsError, OptionError, span
from llmevents.metrics import (
    Counter,
    Distribution,
    MetricDefinitionError,
    MetricStore,
    Snapshot,
    Sum,
)
from llmevents.reporting import Reporter, ReporterStatus
from llmevents.testing import ReporterConformance
from llmevents_otel import OTelReporter
from llmevents_otel import _session as session_module
from llmevents_otel._export import is_multiprocessing_child
from llmevents_otel._options import Headers
from llmevents_otel._processors import OfferLogRecords, OfferSpans
from llmevents_otel._providers import ProcessResource
from tests.reporters.otlp_server import SECONDS, OTLPServer, otlp_server, wait_for


NEVER = 86_400.0
STOP = "llm.chat.stop"
CALLS = Counter("calls.total", event=STOP, tags=("model",))


@contextmanager
def running(
    reporter: OTelReporter, store: MetricStore | None = None
) -> Iterator[tuple[Bus, MetricStore]]:
    bus = Bus()
    store = MetricStore([CALLS]) if store is None else store
    store.attach(bus)
    reporter.start(bus, store)
    try:
        yield bus, store
    finally:
        reporter.stop(SECONDS / 2)


def call(bus: Bus, model: str = "gpt-4o") -> None:
    with span("llm.chat", {"model": model, "operation": "chat"}, bus=bus) as current:
        current.measure(input_tokens=12)


def attributes_of(resource: Any) -> dict[str, str]:  # noqa: ANN401  # protobuf's
    return {each.key: each.value.string_value for each in resource.attributes}


def reported_resource(server: OTLPServer, path: str) -> dict[str, str]:
    return attributes_of(server.messages[path][-1].resource_spans[0].resource)


# --- What is sent ----------------------------------------------------------------------


def test_spans_metrics_and_log_records_are_sent_to_one_endpoint() -> None:
    with otlp_server() as server:
        reporter: Reporter = OTelReporter(
            endpoint=f"{server.url}/",
            headers={"api-key": "1"},
            logs=True,
            service_name="shop",
            resource={"deployment.environment.name": "test"},
            interval=NEVER,
        )
        with running(reporter) as (bus, _):  # type: ignore[arg-type]  # it is one
            call(bus)
            assert reporter.flush(SECONDS)
            assert reporter.status() == ReporterStatus(accepted=3, delivered=3)

        (sent,) = server.taken["/v1/traces"]
        assert sent.name == "chat gpt-4o"
        (record,) = server.taken["/v1/logs"]
        assert (record.trace_id, record.span_id) == (sent.trace_id, sent.span_id)
        metric = server.taken["/v1/metrics"][0]
        assert metric.name == "calls.total"
        resources = [
            attributes_of(getattr(server.messages[path][0], kind)[0].resource)
            for path, kind in (
                ("/v1/traces", "resource_spans"),
                ("/v1/metrics", "resource_metrics"),
                ("/v1/logs", "resource_logs"),
            )
        ]
        assert resources[0] == resources[1] == resources[2]
        assert resources[0]["service.name"] == "shop"
        assert resources[0]["deployment.environment.name"] == "test"
        assert resources[0]["service.instance.id"]
        scope = server.messages["/v1/metrics"][0].resource_metrics[0].scope_metrics[0]
        assert scope.scope.name == "llmevents"
        assert {headers["api-key"] for _, headers in server.requests} == {"1"}


def test_exemplars_name_the_span_that_is_sent() -> None:
    store = MetricStore([Distribution("n", event=STOP, measurement="input_tokens")])
    with otlp_server() as server:
        with running(OTelReporter(endpoint=server.url), store) as (bus, _):
            call(bus)
        (sent,) = server.taken["/v1/traces"]
        (exemplar,) = server.taken["/v1/metrics"][0].histogram.data_points[0].exemplars
        assert (exemplar.trace_id, exemplar.span_id) == (sent.trace_id, sent.span_id)
        with running(OTelReporter(endpoint=server.url, metrics=False), store) as (
            bus,
            _,
        ):
            call(bus)


def test_metrics_are_sent_at_the_interval() -> None:
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, spans=False, interval=0.05)
        with running(reporter) as (bus, _):
            call(bus)
            wait_for(lambda: len(server.messages["/v1/metrics"]) > 2)


def test_the_endpoint_of_the_environment_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with otlp_server() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-from=environment")
        with running(OTelReporter(metrics=False)) as (bus, _):
            call(bus)
        assert len(server.spans) == 1
        ((_, headers),) = server.requests
        assert headers["Content-Encoding"] == "gzip"
        assert headers["x-from"] == "environment"


def test_spans_that_never_end_are_counted() -> None:
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, metrics=False)
        with running(reporter) as (bus, _):
            bus.execute("llm.chat.start", {}, {"span_id": "1"})
        assert reporter.status() == ReporterStatus(
            accepted=1, dropped={"unfinished": 1}
        )


def test_it_can_be_started_again_and_counts_anew() -> None:
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, metrics=False)
        assert reporter.flush(SECONDS)
        assert reporter.status() == ReporterStatus()
        reporter.stop(SECONDS)
        for _ in range(2):
            with running(reporter) as (bus, store):
                call(bus)
                with pytest.raises(LLMEventsError, match="stop\\(\\) it first"):
                    reporter.start(bus, store)
            call(bus)
            assert reporter.status() == ReporterStatus(accepted=1, delivered=1)


def test_it_leaves_no_handler_behind() -> None:
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, logs=True)
        with running(reporter) as (bus, store):
            store.detach()
            assert bus.list_handlers()
        assert bus.list_handlers() == []


def test_wrong_definitions_are_refused_at_the_start() -> None:
    reporter = OTelReporter(spans=False)
    definition = Counter("n", event=STOP, reporter_options={"otel": {"name": "1"}})
    bus = Bus()
    with pytest.raises(MetricDefinitionError, match="begins with a letter"):
        reporter.start(bus, MetricStore([definition]))
    assert bus.list_handlers() == []
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, metrics=False)
        with running(reporter, MetricStore([definition])) as (bus, _):
            call(bus)
        assert reporter.status().delivered == 1


# --- The user's own providers -----------------------------------------------------------


class Metrics(MetricExporter):
    """An exporter of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.exported: list[MetricsData] = []
        self.result = MetricExportResult.SUCCESS

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object
    ) -> MetricExportResult:
        self.exported.append(metrics_data)
        return self.result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        msg = "it is not ours to shut down"
        raise AssertionError(msg)


def provider_of(exporter: InMemorySpanExporter) -> TracerProvider:
    resource = Resource({"service.name": "theirs"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def test_spans_go_to_the_provider_that_is_given() -> None:
    spans, metrics = InMemorySpanExporter(), Metrics()
    reporter = OTelReporter(
        tracer_provider=provider_of(spans), metric_exporter=metrics, interval=NEVER
    )
    with running(reporter) as (bus, _):
        call(bus)
        assert reporter.flush(SECONDS)
        assert [each.name for each in spans.get_finished_spans()] == ["chat gpt-4o"]
        assert reporter.status() == ReporterStatus(accepted=1, delivered=1)
    resource = metrics.exported[0].resource_metrics[0].resource
    assert resource.attributes["service.name"] == "theirs"


def test_an_exporter_that_fails_costs_the_data_points() -> None:
    metrics = Metrics()
    metrics.result = MetricExportResult.FAILURE
    reporter = OTelReporter(spans=False, metric_exporter=metrics, interval=NEVER)
    with running(reporter) as (bus, _):
        call(bus)
        assert not reporter.flush(SECONDS)
        assert reporter.status().dropped == {"exporter_failure": 1}


def test_log_records_go_to_the_provider_that_is_given() -> None:
    records = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # theirs
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(records))
    reporter = OTelReporter(
        spans=False, metrics=False, logs=True, logger_provider=provider
    )
    with running(reporter) as (bus, _):
        call(bus)
        assert reporter.flush(SECONDS)
        assert len(records.get_finished_logs()) == 1
        assert reporter.status() == ReporterStatus()


@pytest.fixture
def global_providers(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider_of(exporter))
    monkeypatch.setattr(
        "opentelemetry._logs._internal._LOGGER_PROVIDER",
        LoggerProvider(shutdown_on_exit=False),
    )
    return exporter


def test_spans_go_to_the_global_provider_if_there_is_one(
    global_providers: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, logs=True, interval=NEVER)
        with running(reporter) as (bus, _):
            call(bus)
        assert len(global_providers.get_finished_spans()) == 1
        assert {path for path, _ in server.requests} == {"/v1/metrics"}
    assert [record.getMessage() for record in caplog.records] == [
        "spans go to the global provider that is set, not to the endpoint",
        "log records go to the global provider that is set, not to the endpoint",
    ]


class Broken:
    """A provider that cannot be flushed."""

    def __init__(self, answer: bool | None) -> None:
        self.answer = answer

    def get_tracer(self, *_: object) -> trace.Tracer:
        return trace.NoOpTracer()

    def force_flush(self, timeout_millis: int) -> bool:
        if self.answer is None:
            raise ValueError
        return self.answer


@pytest.mark.parametrize(
    ("answer", "is_done"), [(True, True), (False, False), (None, False)]
)
def test_a_flush_includes_the_users_providers(
    answer: bool | None, is_done: bool
) -> None:
    provider: Any = Broken(answer)
    with running(OTelReporter(tracer_provider=provider, metrics=False)):
        pass
    reporter = OTelReporter(tracer_provider=provider, metrics=False)
    with running(reporter):
        assert reporter.flush(SECONDS) is is_done
    no_op: Any = trace.NoOpTracerProvider()
    reporter = OTelReporter(tracer_provider=no_op, metrics=False)
    with running(reporter):
        assert reporter.flush(SECONDS)


def test_only_sampled_spans_are_offered() -> None:
    offered: list[object] = []
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    processor = OfferSpans(lambda _, record, size: offered.append((record, size)))
    provider.add_span_processor(processor)
    provider.get_tracer("t").start_span("x").end()
    processor.on_end(ReadableSpan("no context"))
    assert offered == []


# --- Options --------------------------------------------------------------------------


CANARY = "s3cret-value"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"spans": 1}, "expected spans to be true or false"),
        ({"metrics": None}, "expected metrics to be true or false"),
        ({"logs": "yes"}, "expected logs to be true or false"),
        ({"spans": False, "metrics": False}, "one of spans, metrics and logs"),
        ({"endpoint": 4318}, "the base URL"),
        ({"endpoint": "localhost:4318"}, "the base URL"),
        ({"endpoint": "http://"}, "the base URL"),
        ({"endpoint": "http://[::1"}, "the base URL"),
        ({"endpoint": "http://host:99999"}, "the base URL"),
        ({"endpoint": "http://host:0"}, "the base URL"),
        ({"endpoint": "http://host/ x"}, "the base URL"),
        ({"endpoint": "http://host:4318/v1/traces"}, "without user, query and /v1/"),
        (
            {"endpoint": f"http://me:{CANARY}@host:4318"},
            "credentials belong into headers",
        ),
        ({"endpoint": f"http://host:4318?key={CANARY}"}, "got 'http://host:4318'"),
        ({"headers": CANARY}, "got '<str>'"),
        ({"headers": {f"{CANARY}:": "x"}}, "got '<a malformed name>'"),
        ({"headers": {1: CANARY}}, "got '<a malformed name>'"),
        ({"headers": {"x": f"{CANARY}\n"}}, "header 'x' to be printable"),
        ({"headers": {"x": f" {CANARY}"}}, "got '<a malformed value>'"),
        ({"headers": {"x": None}}, "got '<a malformed value>'"),
        ({"requests": 1}, "expected requests to be true or false"),
        ({"profile": "genai"}, "expected profile to be 'genai-1.41'"),
        ({"service_name": ""}, "expected service_name to be text"),
        ({"resource": [1]}, "expected resource to be a Resource, or a mapping"),
        ({"resource": {"a": object}}, "text, numbers or booleans"),
        ({"interval": 0}, "expected interval to be a number of seconds from 0.05"),
        ({"timeout": float("nan")}, "expected timeout to be a number of seconds"),
        ({"timeout": True}, "expected timeout to be a number of seconds"),
        ({"retry_for": -1}, "expected retry_for to be a number of seconds from 0"),
        ({"queue_size": 0}, "expected queue_size to be an integer from 1"),
        ({"queue_size": 1.5}, "expected queue_size to be an integer from 1"),
    ],
)
def test_wrong_options_are_refused_and_secrets_not_shown(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(OptionError) as caught:
        OTelReporter(**options)
    assert complaint in str(caught.value)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)


def test_headers_are_not_shown_nor_pickled() -> None:
    headers = Headers({"a": CANARY})
    assert (repr(headers), len(headers), dict(headers)) == (
        "Headers(a: [REDACTED])",
        1,
        {"a": CANARY},
    )
    with pytest.raises(TypeError, match="hold secrets"):
        pickle.dumps(headers)


@pytest.mark.parametrize(
    ("endpoint", "headers", "warns"),
    [
        ("http://collector.example:4318", {"a": "b"}, True),
        ("http://10.0.0.1:4318", {"a": "b"}, True),
        ("http://collector.example:4318", {}, False),
        ("https://collector.example:4318", {"a": "b"}, False),
        ("http://localhost:4318", {"a": "b"}, False),
        ("http://[::1]:4318", {"a": "b"}, False),
        (None, {"a": "b"}, False),
    ],
)
def test_credentials_without_encryption_are_warned_of(
    endpoint: str | None,
    headers: Mapping[str, str],
    warns: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reporter = OTelReporter(endpoint=endpoint, headers=headers, metrics=False)
    with running(reporter):
        pass
    assert bool(caplog.records) is warns
    assert all("without encryption" in each.getMessage() for each in caplog.records)


def test_a_resource_of_the_users_is_used_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    for name, shown in ((None, "a"), ("b", "b")):
        metrics = Metrics()
        reporter = OTelReporter(
            spans=False,
            resource=Resource({"service.name": "a", "service.instance.id": "i"}),
            service_name=name,
            metric_exporter=metrics,
        )
        with running(reporter) as (bus, _):
            call(bus)
        resource = metrics.exported[0].resource_metrics[0].resource
        assert dict(resource.attributes) == {
            "service.name": shown,
            "service.instance.id": "i",
        }


# --- Forks and exits --------------------------------------------------------------------


def in_child(action: Callable[[], None]) -> None:
    """Run *action* in a forked child, and expect it to return."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException as error:  # noqa: BLE001  # a child must not go on
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_child_sends_its_own_and_nothing_of_its_parent() -> None:
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, interval=NEVER)
        with running(reporter) as (bus, _):

            def child() -> None:
                assert reporter.status() == ReporterStatus()
                call(bus, "child")
                assert reporter.flush(SECONDS)
                assert reporter.status() == ReporterStatus(accepted=2, delivered=2)
                reporter.stop(SECONDS)

            call(bus, "parent")
            in_child(child)
        names = sorted(each.name for each in server.spans)
        assert names == ["chat child", "chat parent"]
        instances = {
            attributes_of(message.resource_metrics[0].resource)["service.instance.id"]
            for message in server.messages["/v1/metrics"]
        }
        assert len(instances) == 2


def test_a_child_that_makes_no_spans_sends_its_metrics() -> None:
    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, spans=False, interval=NEVER)
        with running(reporter) as (bus, _):

            def child() -> None:
                reporter.stop(0.0)

            def calling_child() -> None:
                call(bus)
                call(bus)
                assert reporter.flush(SECONDS)
                assert reporter.status().delivered == 1

            in_child(child)
            assert server.requests == []
            in_child(calling_child)
            (metric,) = server.taken["/v1/metrics"]
            assert metric.sum.data_points[0].as_int == 2


def test_a_resource_that_is_given_is_the_same_in_all_processes() -> None:
    given = Resource({"service.instance.id": "i"})
    resource = ProcessResource(given, is_given=True)
    resource._pid = 0
    assert resource() is given


def run_program(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
        env={**os.environ, **environment},
    )


PROGRAM = f"""
    import os, sys
    from llmevents import Bus, span
    from llmevents.metrics import Counter, MetricStore
    from llmevents_otel import OTelReporter, _session

    # On a busy machine 2 s may not be enough, and this is not about how many they are.
    _session.EXIT_TIMEOUT = {SECONDS}

    bus = Bus()
    store = MetricStore([Counter("calls", event="llm.chat.stop")])
    store.attach(bus)
    reporter = OTelReporter(endpoint=os.environ["ENDPOINT"])
    reporter.start(bus, store)

    def call():
        with span("llm.chat", bus=bus):
            pass
"""


def test_what_is_queued_is_sent_when_the_program_ends() -> None:
    with otlp_server() as server:
        done = run_program(f"{PROGRAM}\n    call()", ENDPOINT=server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.spans) == 1
        assert len(server.taken["/v1/metrics"]) == 1


def test_a_multiprocessing_child_sends_what_is_queued_at_its_end() -> None:
    """It ends by `os._exit`, which passes over `atexit`."""
    program = f"""{PROGRAM}
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=call)
    child.start()
    child.join()
    sys.exit(child.exitcode)
    """
    with otlp_server() as server:
        done = run_program(program, ENDPOINT=server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.spans) == 1


def test_stopping_before_the_end_leaves_nothing_to_do() -> None:
    with otlp_server() as server:
        program = f"{PROGRAM}\n    call()\n    reporter.stop(30)"
        done = run_program(program, ENDPOINT=server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.requests) == 2


def test_a_missing_package_is_named_with_the_command_to_install_it() -> None:
    program = """
        import sys
        sys.modules["opentelemetry.sdk"] = None
        try:
            import llmevents_otel
        except ModuleNotFoundError as error:
            print(error.name, error)
    """
    done = run_program(program)
    assert done.stdout.startswith("opentelemetry.sdk the OpenTelemetry reporter needs")
    assert 'pip install "llmevents[otel]"' in done.stdout


def test_a_failing_collection_does_not_end_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(MetricStore):
        def snapshot(self) -> Snapshot:
            raise ValueError(CANARY)

    with otlp_server() as server:
        reporter = OTelReporter(endpoint=server.url, interval=NEVER)
        with running(reporter, Odd([Sum("n", event=STOP, measurement="n")])) as (
            bus,
            _,
        ):
            call(bus)
            assert reporter.flush(SECONDS)
        assert len(server.spans) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "OTLP: metrics wait, to be tried again: collect_error (ValueError)"
    ]


def test_sizes_are_about_right() -> None:
    """They decide how many places of the queue a record takes."""
    sizes: list[int] = []
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(OfferSpans(lambda *offered: sizes.append(offered[2])))
    tracer = provider.get_tracer("t")
    tracer.start_span("x").end()
    tracer.start_span("x", attributes={"a": "x" * 5000, "b": 1}).end()
    tracer.start_span("x", attributes={"a": "\u00e9" * 5000}).end()
    tracer.start_span("x", attributes={"a": ["x" * 5000, "y"]}).end()
    with tracer.start_as_current_span("x") as current:
        current.add_event("e", {"a": "x" * 5000})
    assert sizes[0] == 2048
    assert all(size >= 7000 for size in sizes[1:])
    assert sizes[2] > 20_000

    sizes.clear()
    records = LoggerProvider(shutdown_on_exit=False)
    offer = OfferLogRecords(lambda *offered: sizes.append(offered[2]))
    records.add_log_record_processor(offer)
    bodies: list[Any] = ["x" * 5000, b"x" * 5000, {"a": "x" * 5000}, None, object()]
    for body in bodies:
        records.get_logger("t").emit(body=body)
    assert all(size >= 7000 for size in sizes[:3])
    assert all(size < 3000 for size in sizes[3:])
    records.force_flush()
    records.shutdown()


@pytest.mark.parametrize("is_of_multiprocessing", [True, False])
def test_a_child_replaces_the_exporter_of_its_parent(
    is_of_multiprocessing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the forks above do, where coverage can see it."""
    finalizers: list[Callable[[], None]] = []
    assert not is_multiprocessing_child()
    monkeypatch.setattr(
        session_module, "is_multiprocessing_child", lambda: is_of_multiprocessing
    )
    monkeypatch.setattr(
        "multiprocessing.util.Finalize",
        lambda _, action, exitpriority: finalizers.append(action),
    )
    metrics = Metrics()
    reporter = OTelReporter(spans=False, metric_exporter=metrics, interval=NEVER)
    with running(reporter) as (bus, _):
        session = reporter._session
        assert session is not None
        parents = session._exporters.pop(os.getpid())
        session._exporters[0] = parents
        session._pid = 0
        call(bus)
        assert list(session._exporters) == [os.getpid()]
        parents.stop(SECONDS)
        assert len(finalizers) == is_of_multiprocessing
        at_exit = session._at_exit
        at_exit()
        assert metrics.exported
        at_exit()
    resource = ProcessResource(Resource({"service.instance.id": "i"}), is_given=False)
    resource._pid = 0
    assert resource().attributes["service.instance.id"] != "i"
    assert resource() is resource()


def test_the_message_about_a_missing_package_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    path = sys.modules["llmevents_otel"].__file__
    assert path is not None
    spec = importlib.util.spec_from_file_location("another", path)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ModuleNotFoundError, match="pip install") as caught:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert caught.value.name == "opentelemetry.sdk"


class TestConformance(ReporterConformance):
    """Spans, log records and metrics, to an endpoint that counts."""

    timeout_seconds = 3.0
    supports_fork = True
    bad_options = (
        {"endpoint": "localhost"},
        {"interval": 0},
        {"profile": "none"},
        {"headers": {"a": "\n"}},
    )

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        self.server = OTLPServer()
        self.server.start()
        self.is_there = True
        yield
        self.vanish()

    def make(self, **options: Any) -> OTelReporter:  # noqa: ANN401  # wrong ones as well
        chosen = {"endpoint": self.server.url, "logs": True, **options}
        return OTelReporter(**chosen)

    def received(self) -> int:
        metrics = self.server.taken["/v1/metrics"]
        points = [
            getattr(each, each.WhichOneof("data")).data_points for each in metrics
        ]
        records = len(self.server.spans) + len(self.server.taken["/v1/logs"])
        return records + sum(map(len, points))

    def vanish(self) -> None:
        if self.is_there:
            self.is_there = False
            self.server.stop()
