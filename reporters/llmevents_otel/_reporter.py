"""`OTelReporter`: what is attached to the bus, and what is sent where."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource

from llmevents import LLMEventsError, OptionError
from llmevents.reporting import ReporterStatus, carry
from llmevents_otel import _metrics, _options, _providers, _signals
from llmevents_otel._pipeline import Records
from llmevents_otel._processors import LOGS, SPANS
from llmevents_otel._profiles import DEFAULT_PROFILE, profile_named
from llmevents_otel._retry import RetryPolicy
from llmevents_otel._session import METRICS, Session
from llmevents_otel._spans import SpanRecorder


if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.trace import TracerProvider

    from llmevents import Bus
    from llmevents.metrics import MetricStore
    from llmevents_otel._pipeline import Pipeline

MOST_POINTS = 2048
"""Data points of one request."""


class OTelReporter:
    """Spans, metrics and log records, to OpenTelemetry's providers or to OTLP/HTTP.

    Spans and log records go to the provider given, or to the global one if one is set
    when starting; else, like all metrics, to the endpoint, by a daemon thread that
    batches and retries. What is waiting is bounded, and everything is counted.

    While an instrumented SDK's method runs, its call's span is OpenTelemetry's current
    one, so that spans of an HTTP client are its children. The anthropic SDK, which
    makes a span of its own for each call, makes none then, and carries on the trace
    of ours; whether it carries one on is still its option ``propagation``.

    A forked child drops what it inherited, which its parent sends, and has a thread
    of its own from its first event on.

    Args:
        spans: Whether to make spans.
        metrics: Whether to send metrics.
        logs: Whether to make log records.
        requests: Whether to make a span of each request of a call as well, as its
            child. Off by default: back ends that count spans would count such a call
            twice. Attempts that failed show as events ``llm.provider.retry`` of the
            call's span and as log records, either way.
        endpoint: Base URL, ``"http://localhost:4318"``; ``/v1/traces`` and the like
            are added. By default what ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin say,
            else that one.
        headers: Sent with every request, and shown nowhere.
        profile: Names of attributes: ``"genai-1.41"``, ``"genai-next"``, or
            ``"seed-compat"``.
        service_name: The resource's ``service.name``; by default what
            ``OTEL_SERVICE_NAME`` says.
        resource: More attributes of the resource, or a `Resource` to use as it is.
        interval: Seconds between two exports of metrics, 0.05 to 86,400.
        timeout: Seconds for one request, from connecting to the last byte.
        retry_for: Seconds that a batch is tried for, from the first attempt on.
        queue_size: Records of each kind that may wait, and 4 KiB each: 8 MiB.
        tracer_provider: Where spans go.
        metric_exporter: Where metrics go, instead of OTLP/HTTP.
        logger_provider: Where log records go.

    Raises:
        OptionError: An option has a value that it cannot have.
    """

    def __init__(
        self,
        *,
        spans: bool = True,
        metrics: bool = True,
        logs: bool = False,
        requests: bool = False,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        profile: str = DEFAULT_PROFILE,
        service_name: str | None = None,
        resource: Mapping[str, str | bool | int | float] | Resource | None = None,
        interval: float = 60.0,
        timeout: float = 10.0,
        retry_for: float = 60.0,
        queue_size: int = 2048,
        tracer_provider: TracerProvider | None = None,
        metric_exporter: MetricExporter | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self._spans = _options.check_flag(spans, "spans")
        self._metrics = _options.check_flag(metrics, "metrics")
        self._logs = _options.check_flag(logs, "logs")
        if not (spans or metrics or logs):
            raise OptionError(False, "one of spans, metrics and logs", "true")  # noqa: FBT003
        self._requests = _options.check_flag(requests, "requests")
        self._endpoint = _options.check_endpoint(endpoint)
        self._headers = _options.check_headers(headers)
        self._profile = profile_named(profile)
        self._service_name = _options.check_text(service_name, "service_name")
        self._given_resource: Resource | dict[str, Any] = (
            resource
            if isinstance(resource, Resource)
            else _options.check_resource(resource)
        )
        self._interval = _options.check_seconds(interval, "interval", 0.05)
        self._timeout = _options.check_seconds(timeout, "timeout", 0.001)
        retry_for = _options.check_seconds(retry_for, "retry_for", 0.0)
        self._policy = RetryPolicy(total=retry_for)
        self._places = _options.check_count(queue_size, "queue_size")
        self._tracer_provider = tracer_provider
        self._metric_exporter = metric_exporter
        self._logger_provider = logger_provider
        self._session: Session | None = None

    def start(self, bus: Bus, metrics: MetricStore) -> None:
        """Attach to *bus* and begin to send, also what *metrics* comes to.

        Raises:
            LLMEventsError: It was started already, and not stopped.
            MetricDefinitionError: A metric has a name that OpenTelemetry cannot have,
                or the same as another.
        """
        if self._session is not None and self._session.is_running:
            msg = "this reporter is started already; stop() it first"
            raise LLMEventsError(msg)
        names = _metrics.check_definitions(metrics) if self._metrics else {}
        session = Session(
            bus, policy=self._policy, interval=self._interval, timeout=self._timeout
        )
        tracers = loggers = None
        if self._spans:
            tracers = _providers.user_tracer_provider(self._tracer_provider)
        if self._logs:
            loggers = _providers.user_logger_provider(self._logger_provider)
        self._warn(tracers, loggers)
        resource = self._resource(tracers)
        recorder = None
        if self._spans:
            recorder = self._record_spans(session, tracers, resource)
        if self._logs:
            self._record_logs(session, loggers, resource, recorder)
        if self._metrics:
            self._send_metrics(session, resource, metrics, names)
            if recorder is not None:
                metrics.exemplify(recorder.trace_of)
                session.at_stop(partial(metrics.exemplify, None))
        self._session = session
        session.start()

    def flush(self, timeout: float) -> bool:
        """Send what there is; return whether it all arrived in *timeout* seconds.

        Spans and log records that went to a provider of the user's are flushed there.
        """
        session = self._session
        return session is None or session.flush(timeout)

    def stop(self, timeout: float) -> None:
        """Send what there is for *timeout* seconds, drop the rest, and end."""
        session = self._session
        if session is not None:
            session.stop(timeout)

    def status(self) -> ReporterStatus:
        """Return how many spans, log records and data points were sent in this process.

        What went to a provider of the user's is counted there, not here. Dropped are
        those that found the queue full (``"queue_full"``), that the endpoint refused
        (``"http_400"``, ``"rejected"``), that were tried for too long
        (``"connection_error"``, ``"timeout"``, ``"tls_error"``, ``"http_503"``), that
        cannot be encoded (``"encode_error"``) and that were left when stopping
        (``"shutdown"``). Data points are ``"superseded"`` if newer ones were there
        before they were sent, which costs nothing: each has the total.
        """
        session = self._session
        return ReporterStatus() if session is None else session.status()

    # --- What start() does -----------------------------------------------------------

    def _resource(self, tracers: Any) -> Resource:  # noqa: ANN401  # of API or SDK
        if not self._given_resource and self._service_name is None:
            # What the user's spans say that they are from, the metrics say as well.
            theirs = getattr(tracers, "resource", None)
            if isinstance(theirs, Resource):
                return _providers.make_resource(None, theirs)
        return _providers.make_resource(self._service_name, self._given_resource)

    def _record_spans(
        self,
        session: Session,
        tracers: Any,  # noqa: ANN401  # of API or SDK
        resource: Resource,
    ) -> SpanRecorder:
        if tracers is None:
            make_sender = partial(_signals.span_sender, self._target)
            session.add(SPANS, Records(name="spans"), make_sender, self._places)
            tracers = _providers.own_tracer_provider(resource, session.offer)
        else:
            session.flush_too(tracers)
        scope = _providers.scope()
        tracer = tracers.get_tracer(scope.name, scope.version)
        recorder = SpanRecorder(
            tracer=tracer, profile=self._profile, requests=self._requests
        )
        session.attach(recorder.events(), recorder)
        session.record(recorder)
        session.at_stop(carry(session.bus, recorder))
        return recorder

    def _record_logs(
        self,
        session: Session,
        loggers: Any,  # noqa: ANN401  # of API or SDK
        resource: Resource,
        recorder: SpanRecorder | None,
    ) -> None:
        from llmevents_otel._logs import LogRecorder

        if loggers is None:
            make_sender = partial(_signals.log_sender, self._target)
            session.add(LOGS, Records(name="log records"), make_sender, self._places)
            loggers = _providers.own_logger_provider(resource, session.offer)
        else:
            session.flush_too(loggers)
        scope = _providers.scope()
        logger = loggers.get_logger(scope.name, scope.version)
        context_of = None if recorder is None else recorder.context_of
        logs = LogRecorder(logger=logger, profile=self._profile, context_of=context_of)
        session.attach(logs.events(), logs.handle)

    def _send_metrics(
        self,
        session: Session,
        resource: Resource,
        metrics: MetricStore,
        names: Mapping[str, str],
    ) -> None:
        is_given = isinstance(self._given_resource, Resource)
        make_sender = partial(
            _signals.metric_sender,
            self._target,
            self._metric_exporter,
            _providers.scope(),
            _providers.ProcessResource(resource, is_given=is_given),
        )
        records = Records(
            name="data points", weigh=_metrics.count_points, cut=_metrics.cut
        )
        session.add(METRICS, records, make_sender, 1)

        def collect(pipeline: Pipeline) -> None:
            found = _metrics.to_metrics(metrics.snapshot(), names)
            pipeline.load(found, MOST_POINTS)

        session.collect_with(collect, metrics)

    @property
    def _target(self) -> _signals.Target:
        return _signals.Target(endpoint=self._endpoint, headers=self._headers)

    def _warn(self, tracers: object, loggers: object) -> None:
        """Log what somebody may not have meant."""
        _options.warn_of_plain_credentials(self._endpoint, self._headers)
        if self._endpoint is None:
            return
        for what, theirs, option in (
            ("spans", tracers, self._tracer_provider),
            ("log records", loggers, self._logger_provider),
        ):
            if theirs is not None and option is None:
                logging.getLogger("llmevents.otel").warning(
                    "%s go to the global provider that is set, not to the endpoint",
                    what,
                )
