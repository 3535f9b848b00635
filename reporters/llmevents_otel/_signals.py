"""What spans, log records and metrics need to be sent: exporters and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from llmevents_otel._otlp import ForeignSender, OTLPSender, Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send to.

    Attributes:
        endpoint: Base URL without ``/v1/...``; None leaves it to the environment.
        headers: Sent with every request. They are secrets.
    """

    endpoint: str | None
    headers: Mapping[str, str]

    def options(self, path: str, session: requests.Session) -> dict[str, Any]:
        """Return the arguments of an exporter."""
        options: dict[str, Any] = {"session": session}
        if self.endpoint is not None:
            options["endpoint"] = f"{self.endpoint}/{path}"
        if self.headers:
            options["headers"] = dict(self.headers)
        return options


def span_sender(target: Target) -> Sender:
    """Return what sends spans."""
    return OTLPSender(
        lambda session: OTLPSpanExporter(**target.options("v1/traces", session)),
        _export,
        _reader(ExportTraceServiceResponse, "rejected_spans"),
    )


def log_sender(target: Target) -> Sender:
    """Return what sends log records."""
    # In 1.45 logs still live under private names.
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPSender(
        lambda session: OTLPLogExporter(**target.options("v1/logs", session)),
        _export,
        _reader(ExportLogsServiceResponse, "rejected_log_records"),
    )


def metric_sender(
    target: Target,
    exporter: MetricExporter | None,
    scope: InstrumentationScope,
    resource: Callable[[], Resource],
) -> Sender:
    """Return what sends metrics, by the user's *exporter* if there is one."""

    def export(exporter: MetricExporter, metrics: Sequence[Metric]) -> bool:
        scoped = ScopeMetrics(scope, metrics, scope.schema_url or "")
        data = MetricsData([ResourceMetrics(resource(), [scoped], "")])
        return exporter.export(data) is MetricExportResult.SUCCESS

    if exporter is not None:
        return ForeignSender(exporter, export)
    return OTLPSender(
        lambda session: OTLPMetricExporter(**target.options("v1/metrics", session)),
        export,
        _reader(ExportMetricsServiceResponse, "rejected_data_points"),
    )


def _export(exporter: Any, records: Sequence[Any]) -> bool:  # noqa: ANN401  # two kinds
    exporter.export(records)
    return True


def _reader(message: Any, field: str) -> Callable[[bytes], int]:  # noqa: ANN401
    """Return what reads *field* of the partial success of an answer."""

    def count_rejected(body: bytes) -> int:
        try:
            rejected: int = getattr(message.FromString(body).partial_success, field)
        except Exception:  # noqa: BLE001  # not every server answers in protobuf
            return 0
        return rejected

    return count_rejected
