"""The only import of OpenTelemetry's log API, which is private as of version 1.45."""

from __future__ import annotations

from opentelemetry._logs import Logger, SeverityNumber


__all__ = ["Logger", "SeverityNumber"]
