"""`LogRecorder`: OpenTelemetry log records about calls of models, and what befalls them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from llmevents_otel._attributes import Value, as_dollars, as_text
from llmevents_otel._logs_api import Logger, SeverityNumber
from llmevents_otel._plans import Plans
from llmevents_otel._points import Points
from llmevents_otel._profiles import INFERENCE


if TYPE_CHECKING:
    from opentelemetry.context import Context

    from llmevents import EventName, Measurements, Metadata, Name
    from llmevents_otel._tables import Profile, UsageLine

DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"
"""Names of events in GenAI semantic conventions v1.41.0, docs/gen-ai/gen-ai-events.md.
Details carry the attributes of the span here, and never content."""

INFO, WARN = SeverityNumber.INFO, SeverityNumber.WARN

NEWS: Mapping[tuple[str, ...], SeverityNumber] = {
    ("llm", "provider", "retry"): WARN,
    ("llm", "provider", "rate_limit"): WARN,
    ("llm", "provider", "auth", "refresh"): INFO,
    ("llm", "cost", "unpriced"): INFO,
    ("llm", "cost", "threshold_exceeded"): WARN,
    ("llm", "budget", "warning"): WARN,
    ("llm", "budget", "exceeded"): WARN,
}
"""Events that get a record of their own. What a call cost is in the record of the call;
what budgets reserve and settle for it would be two more records of every call."""

UNPRICED = ("llm", "cost", "unpriced")

MOST_UNPRICED = 1_024
"""Models without a price that are told of; more would be names that a client made up."""

LINE_LIMIT = 256
"""Characters of a provider or model in a log line."""

NOTHING: Mapping[str, object] = {}


class LogRecorder:
    """A handler that makes log records of inference calls, when they end, and of news.

    With a profile that has log lines, one record per call: ``"LLM usage:
    openai/gpt-4 - 150 tokens, $0.004500"``, with the profile's attributes. With the
    others an event with the attributes of the call's span, and for a failure one more
    with the exception.

    News are retries and rate limits of providers, budgets that are reached, thresholds
    of cost that are passed, and once for each model that it has no price. Their
    records have the event's name and attributes, in all profiles.

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
        self._points = Points(profile)
        self._unpriced: set[tuple[str, str]] = set()
        self._lines = profile.lines
        self._context_of = context_of

    @staticmethod
    def events() -> list[Name]:
        """Return what to attach `handle` to."""
        return [
            *(".".join(event) for event in NEWS),
            *(
                f"{prefix}.{end}"
                for prefix in INFERENCE
                for end in ("stop", "exception")
            ),
        ]

    def handle(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,  # noqa: ARG002  # a handler's signature
    ) -> None:
        """Take note of one terminal event of a call, or of news."""
        if event in NEWS:
            self._tell(event, measurements, metadata)
            return
        prefix = ".".join(event[:-1])
        if prefix not in INFERENCE or event[-1] not in ("stop", "exception"):
            return
        plan = self._plans.find(event, metadata)
        failed = event[-1] == "exception"
        attributes = {
            **plan.begin(NOTHING),
            **plan.family.end(measurements, metadata, NOTHING, failed=failed),
        }
        context = self._context(metadata)
        line = self._lines.get(prefix)
        if line is not None:
            self._emit(
                context,
                attributes,
                WARN if failed else INFO,
                body=_text(line, measurements, metadata),
            )
            return
        self._emit(context, attributes, INFO, name=DETAILS)
        if failed:
            raised = _exception(metadata)
            self._emit(context, {**attributes, **raised}, WARN, name=EXCEPTION)

    def _tell(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        if event == UNPRICED and not self._is_new(metadata):
            return
        attributes = self._points.attributes(event, measurements, metadata)
        name = ".".join(event)
        body = name if self._lines else None
        context = self._context(metadata)
        self._emit(context, attributes, NEWS[event], body=body, name=name)

    def _is_new(self, metadata: Metadata) -> bool:
        """Whether nothing was said yet of the model that is without a price."""
        model = (
            as_text(metadata.get("provider")) or "",
            as_text(metadata.get("model")) or "",
        )
        if model in self._unpriced or len(self._unpriced) >= MOST_UNPRICED:
            return False
        self._unpriced.add(model)
        return True

    def _context(self, metadata: Metadata) -> Context | None:
        return None if self._context_of is None else self._context_of(metadata)

    def _emit(
        self,
        context: Context | None,
        attributes: Mapping[str, Value],
        severity: SeverityNumber,
        *,
        body: str | None = None,
        name: str | None = None,
    ) -> None:
        now = time.time_ns()
        self._logger.emit(
            timestamp=now,
            observed_timestamp=now,
            context=context,
            severity_number=severity,
            severity_text=severity.name,
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
