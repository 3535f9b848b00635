"""Requests to an OTLP endpoint, by OpenTelemetry's own exporter."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from llmevents.ledger._export_otlp import SpanData


SCOPE = InstrumentationScope("llmevents.ledger")

LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read."""


class Session(requests.Session):
    """Keeps what came of the last attempt of a request.

    Attributes:
        reason: Why it failed; empty if it did not.
        rejected: Spans that were refused, if the rest was taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""
        self.rejected = 0

    def request(  # type: ignore[override]  # it returns what an exporter looks at
        self,
        method: str,
        url: str,
        **options: Any,  # noqa: ANN401  # those of requests
    ) -> requests.Response:
        """Do the request. Headers with credentials are for this address alone."""
        options.update(allow_redirects=False, stream=True)
        self.rejected = 0
        try:
            with super().request(method, url, **options) as response:
                body = response.raw.read(LONGEST_ANSWER, decode_content=True)
        except Exception as error:
            self.reason = type(error).__name__
            raise
        response._content = body  # noqa: SLF001  # what was read of it, and no more
        is_taken = 200 <= response.status_code < 300  # noqa: PLR2004  # RFC 9110 section 15.3
        self.reason = "" if is_taken else f"http_{response.status_code}"
        if is_taken:
            self.rejected = _rejected(body)
        return response


class SpanSender:
    """Sends spans to one endpoint.

    Args:
        url: Of the endpoint.
        headers: Sent with every request.
        service_name: Of the resource; None leaves it to the environment.
        timeout: Seconds for a request and all attempts to repeat it.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None,
        service_name: str | None,
        timeout: float,
    ) -> None:
        named = {} if service_name is None else {SERVICE_NAME: service_name}
        self._resource = Resource.create(named)
        self._session = Session()
        # Its methods have no types.
        self._exporter: Any = OTLPSpanExporter(
            endpoint=url,
            headers=dict(headers) if headers else None,
            timeout=timeout,
            session=self._session,
        )

    def send(self, spans: Sequence[SpanData]) -> tuple[str, int]:
        """Send spans; return why some were not taken, and how many."""
        self._session.reason, self._session.rejected = "encode_error", 0
        with _silent(logging.getLogger(type(self._exporter).__module__)):
            result = self._export([self._span(span) for span in spans])
        if result is SpanExportResult.SUCCESS and not self._session.reason:
            return "rejected", min(self._session.rejected, len(spans))
        return self._session.reason or "exporter_failure", len(spans)

    def _export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result: SpanExportResult = self._exporter.export(spans)
        except requests.RequestException:
            # Of version 1.39; later ones try again, and return it.
            return SpanExportResult.FAILURE
        return result

    def close(self) -> None:
        """Close connections."""
        self._exporter.shutdown()

    def _span(self, span: SpanData) -> ReadableSpan:
        status = Status(StatusCode.UNSET)
        if span.error is not None:
            status = Status(StatusCode.ERROR, span.error)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(
                int.from_bytes(span.key[:16], "big"),
                int.from_bytes(span.key[16:], "big"),
                is_remote=False,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            ),
            resource=self._resource,
            attributes=span.attributes,
            kind=SpanKind.CLIENT if span.is_call else SpanKind.INTERNAL,
            status=status,
            start_time=span.begin,
            end_time=span.end,
            instrumentation_scope=SCOPE,
        )


def _rejected(body: bytes) -> int:
    """Return how many spans an answer says were refused.

    OTLP specification 1.9.0, "Partial Success".
    """
    try:
        answer = ExportTraceServiceResponse.FromString(body)
    except Exception:  # noqa: BLE001  # not every server answers in protobuf
        return 0
    count: int = answer.partial_success.rejected_spans
    return max(0, count)


class _Silence(logging.Filter):
    """Drops what this thread logs: it is told in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    silence = _Silence()
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)
