"""`LogRecorder`: OpenTelemetry log records about calls of models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from llmevents_otel._attributes import Value, as_dollars, as_text
from llmevents_otel._logs_api import Logger, SeverityNumber
from llmevents_otel._plans import Plans
from llmevents_otel._profiles import INFERENCE


if TYPE_CHECKING:
    from opentelemetry.context import Context

    from llmevents import EventName, Measurements, Metadata, Name
    from llmevents_otel._tables import Profile, UsageLine

DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"
"""Names of events in GenAI semantic conventions v1.41.0, docs/gen-ai/gen-ai-events.md.
Details carry the attributes of the span here, and never content."""

LINE_LIMIT = 256
"""Characters of a provider or model in a log line."""

NOTHING: Mapping[str, object] = {}


class LogRecorder:
    """A handler that makes log records of the terminal events of inference calls.

    With a profile that has log lines, one record per call: ``"LLM usage:
    openai/gpt-4 - 150 tokens, $0.004500"``, with the profile's attributes. With the
    others an event with the attributes of the call's span, and for a failure one more
    with the exception.

    Args:
        logger: Where records are emitted.
        profile: The names to use.
        context_of: Returns the context of the span that an event's metadata name, or
            None for the current context: `SpanRecorder.context_of`.
    """

    def __init__(
        self,
        *,
        logger: Logger,
        profile: Profile,
        context_of: Callable[[Metadata], Context | None] | None = None,
    ) -> None:
        self._logger = logger
        self._plans = Plans(profile, profile.logs)
        self._lines = profile.lines
        self._context_of = context_of

    @staticmethod
    def events() -> list[Name]:
        """Return what to attach `handle` to."""
        return [
            f"{prefix}.{end}" for prefix in INFERENCE for end in ("stop", "exception")
        ]

    def handle(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,  # noqa: ARG002  # a handler's signature
    ) -> None:
        """Take note of one terminal event of a call."""
        prefix = ".".join(event[:-1])
        if prefix not in INFERENCE or event[-1] not in ("stop", "exception"):
            return
        plan = self._plans.find(event, metadata)
        failed = event[-1] == "exception"
        attributes = {
            **plan.begin(NOTHING),
            **plan.family.end(measurements, metadata, NOTHING, failed=failed),
        }
        context = None if self._context_of is None else self._context_of(metadata)
        line = self._lines.get(prefix)
        if line is not None:
            self._emit(
                context,
                attributes,
                failed=failed,
                body=_text(line, measurements, metadata),
            )
            return
        self._emit(context, attributes, failed=False, name=DETAILS)
        if failed:
            raised = _exception(metadata)
            self._emit(context, {**attributes, **raised}, failed=True, name=EXCEPTION)

    def _emit(
        self,
        context: Context | None,
        attributes: Mapping[str, Value],
        *,
        failed: bool,
        body: str | None = None,
        name: str | None = None,
    ) -> None:
        now = time.time_ns()
        self._logger.emit(
            timestamp=now,
            observed_timestamp=now,
            context=context,
            severity_number=SeverityNumber.WARN if failed else SeverityNumber.INFO,
            severity_text="WARN" if failed else "INFO",
            body=body,
            attributes=attributes,
            event_name=name,
        )


def _text(line: UsageLine, measurements: Measurements, metadata: Metadata) -> str:
    """Return the line about one call; what is unknown is left out."""
    parts = [
        f"{measurements[key]} {word}"
        for key, word in line.quantities
        if key in measurements
    ]
    cost = as_dollars(measurements.get("cost_nano_usd"))
    if cost is not None:
        parts.append(f"${cost:.6f}")
    known = (_shown(metadata.get(key)) for key in ("provider", "model"))
    whose = "/".join(name for name in known if name)
    head = f"{line.label} usage: {whose or 'unknown'}"
    return f"{head} - {', '.join(parts)}" if parts else head


def _shown(value: object) -> str:
    """Return text that cannot pass for another line."""
    text = (as_text(value) or "")[:LINE_LIMIT]
    return text if text.isprintable() else repr(text)[1:-1]


def _exception(metadata: Metadata) -> dict[str, Value]:
    facts = {
        "exception.type": as_text(metadata.get("error_type")),
        "exception.message": as_text(metadata.get("error_message")),
    }
    return {key: value for key, value in facts.items() if value}
