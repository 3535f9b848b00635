"""The OpenTelemetry reporter: spans, metrics and log records, sent by OTLP/HTTP.

    pip install "llmevents[otel]"

Spans come from span events, metrics from the metric store, log records from events.
They go to the user's own OpenTelemetry providers where there are any, and else to the
OTLP endpoint. In TOML its table is ``[reporters.otel]`` of llmevents.toml.
"""

from __future__ import annotations


try:
    import opentelemetry.exporter.otlp.proto.http  # only to say what is missing
    import opentelemetry.sdk  # noqa: F401  # likewise
except ModuleNotFoundError as error:
    _MESSAGE = (
        f"the OpenTelemetry reporter needs {error.name!r}, which is not installed; "
        'run: pip install "llmevents[otel]"'
    )
    raise ModuleNotFoundError(_MESSAGE, name=error.name, path=error.path) from error

from llmevents_otel._reporter import OTelReporter


__all__ = ["OTelReporter"]
