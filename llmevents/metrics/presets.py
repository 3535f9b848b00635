"""Ready-made metrics for the events of the LLM layer.

Each preset is a function that returns definitions, to use as they are or to add to:

>>> from llmevents.metrics import MetricStore, Sum, presets
>>> store = MetricStore([*presets.default(), Sum("llm.ocr.stop.pages")])

None has a tag that grows without bound, such as ``user_id`` or ``task_id``. A call
is what its owner emits: ``llm.provider.request``, of which a call may have several,
is part of it and counts nowhere. Durations are those of all calls, failed ones
included: a call that has timed out after a minute did take a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from llmevents._catalogue import INFERENCE_ENDS
from llmevents._types import Measurements, Metadata
from llmevents.metrics._definitions import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    Sum,
)


__all__ = ["PRESETS", "basic", "cache", "cost", "default", "genai", "health", "service"]

Attributes: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of an OpenTelemetry attribute and the key of the metadata that it is from."""

MODEL = ("provider", "model")

CHAT = ["llm.chat.stop", "llm.chat.exception"]

TASK = ["llm.task.stop", "llm.task.exception"]

TOKENS = {"input": "input_tokens", "output": "output_tokens"}
"""Type of token -> measurement. The other counts are subsets of these two."""

GENAI_ATTRIBUTES: Attributes = (
    ("gen_ai.operation.name", "operation"),
    ("gen_ai.provider.name", "provider"),
    ("gen_ai.request.model", "model"),
    ("gen_ai.response.model", "response_model"),
)
"""Of all client metrics (OpenTelemetry semantic conventions v1.41.0, GenAI metrics)."""

ERROR_TYPE = ("error.type", "error_type")
"""Of the duration only (as above)."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """Tags that are keys of the metadata under other names.

    An object and no closure, so that two definitions that have the same are equal:
    a store counts equal ones once.
    """

    attributes: Attributes

    def __call__(
        self, _measurements: Measurements, metadata: Metadata
    ) -> Mapping[str, object]:
        return {name: metadata[key] for name, key in self.attributes if key in metadata}


def basic() -> list[Metric]:
    """Return how many chats there were, how many failed, and how long they took.

    ``llm.chat.requests.total`` counts all of them, and ``llm.chat.errors.total``
    those among them that ended with an exception. By provider and model.
    """
    return [
        Counter(
            "llm.chat.requests.total",
            event=CHAT,
            tags=MODEL,
            description="Chats that have ended, failed ones included.",
        ),
        Counter(
            "llm.chat.errors.total",
            event="llm.chat.exception",
            tags=MODEL,
            description="Chats that have ended with an exception.",
        ),
        Distribution(
            "llm.chat.duration.milliseconds",
            event=CHAT,
            measurement="duration",
            tags=MODEL,
            unit=("nanosecond", "millisecond"),
            description="How long chats took, failed ones included.",
        ),
    ]


def cost() -> list[Metric]:
    """Return what all calls used and cost, and what is known of costs otherwise.

    The cost is that of the calls' own terminal events; ``llm.cost.calculated``
    repeats it and is not added. By provider and model; an event that names neither,
    as a threshold over several models, has a series without tags.
    """
    return [
        *(
            Sum(
                f"llm.tokens.{kind}.total",
                event=INFERENCE_ENDS,
                measurement=measurement,
                tags=MODEL,
                unit="token",
                description=f"All {kind} tokens, those of failed calls included.",
            )
            for kind, measurement in TOKENS.items()
        ),
        Sum(
            "llm.cost.cents.total",
            event=INFERENCE_ENDS,
            measurement="cost_nano_usd",
            tags=MODEL,
            unit=("nano_usd", "cent"),
            description="Cost of all calls that have a known price.",
        ),
        Counter(
            "llm.cost.threshold_exceeded.total",
            event="llm.cost.threshold_exceeded",
            tags=MODEL,
            description="How often costs have passed a threshold.",
        ),
        Counter(
            "llm.cost.unpriced.total",
            event="llm.cost.unpriced",
            tags=MODEL,
            description="Calls without a known price.",
        ),
    ]


def cache() -> list[Metric]:
    """Return how often caches had an answer, and the last size that they stated.

    By cache. The size is what ``llm.cache.put`` and ``llm.cache.evicted`` say, the
    events that change it.
    """
    return [
        Counter(
            "llm.cache.hits.total",
            event="llm.cache.hit",
            tags=("cache",),
            description="How often a cache had the answer.",
        ),
        Counter(
            "llm.cache.misses.total",
            event="llm.cache.miss",
            tags=("cache",),
            description="How often a cache did not have the answer.",
        ),
        LastValue(
            "llm.cache.size.bytes",
            event=["llm.cache.put", "llm.cache.evicted"],
            measurement="size",
            tags=("cache",),
            unit="byte",
            description="Size as it was last stated.",
        ),
    ]


def service() -> list[Metric]:
    """Return the metrics of a service: calls of all operations, and its tasks.

    The *status* of a call is ``success``, ``error``, ``timeout`` or ``cancelled``,
    that of a task, a span ``llm.task``, ``success``, ``error`` or ``cancelled``.
    ``active_tasks`` goes up and down with the tasks that begin and end; a task that
    began before anybody listened is not among them.
    """
    return [*_service_calls(), *_service_tasks()]


def genai() -> list[Metric]:
    """Return the client metrics of OpenTelemetry's GenAI conventions, v1.41.0.

    Names, buckets and attributes are theirs; attributes are tags here. Units are
    spelled out as everywhere, and reporters write ``s`` and ``{token}`` where that
    is the custom. One is missing: ``gen_ai.client.operation.time_per_output_chunk``
    needs the time between two chunks, which no event states.
    """
    attributes = Renamed(GENAI_ATTRIBUTES)
    return [
        Distribution(
            "gen_ai.client.operation.duration",
            event=INFERENCE_ENDS,
            measurement="duration",
            tags=Renamed((*GENAI_ATTRIBUTES, ERROR_TYPE)),
            unit=("nanosecond", "second"),
            description="GenAI operation duration.",
        ),
        *(
            Distribution(
                "gen_ai.client.token.usage",
                event=INFERENCE_ENDS,
                measurement=measurement,
                tags=attributes,
                constant_tags={"gen_ai.token.type": kind},
                unit="token",
                description="Number of input and output tokens used.",
            )
            for kind, measurement in TOKENS.items()
        ),
        Distribution(
            "gen_ai.client.operation.time_to_first_chunk",
            event=INFERENCE_ENDS,
            measurement="time_to_first_chunk",
            tags=attributes,
            unit=("nanosecond", "second"),
            description="Time to receive the first chunk of a stream.",
        ),
    ]


def health() -> list[Metric]:
    """Return what telemetry itself has lost: in handlers, reporters and the store.

    Not part of `default`. What reporters have dropped comes as events only where
    `llmevents.configure` has started them.
    """
    return [
        Counter(
            "llmevents.handler.failures.total",
            event="llmevents.handler.failure",
            tags=("handler_id", "error_type"),
            description="How often handlers have raised.",
        ),
        Counter(
            "llmevents.reporter.failures.total",
            event="llmevents.reporter.failure",
            tags=("reporter", "reason"),
            description="How often reporters could not do what they were asked to.",
        ),
        Sum(
            "llmevents.reporter.dropped.total",
            event="llmevents.reporter.dropped",
            measurement="count",
            tags=("reporter", "reason"),
            description="What reporters have given up, in their own units.",
        ),
    ]


def default() -> list[Metric]:
    """Return `basic`, `cost`, `cache` and `service` together."""
    return [*basic(), *cost(), *cache(), *service()]


PRESETS: Mapping[str, Callable[[], list[Metric]]] = MappingProxyType(
    {
        "basic": basic,
        "cost": cost,
        "cache": cache,
        "service": service,
        "genai": genai,
        "health": health,
        "default": default,
        "all": default,
    }
)
"""By the names that configuration knows; ``all`` is another name of ``default``."""


def _service_calls() -> Iterator[Metric]:
    yield Counter(
        "llm.requests.total",
        event=INFERENCE_ENDS,
        tags=("operation", "provider", "model", "status"),
        description="Calls that have ended, failed ones included.",
    )
    for kind, measurement in TOKENS.items():
        yield Sum(
            "llm.tokens.total",
            event=INFERENCE_ENDS,
            measurement=measurement,
            tags=("model",),
            constant_tags={"token_type": kind},
            unit="token",
            description="Tokens of all calls, by type.",
        )
    yield Sum(
        "llm.cost.usd.total",
        event=INFERENCE_ENDS,
        measurement="cost_nano_usd",
        tags=("model",),
        unit=("nano_usd", "usd"),
        description="Cost of all calls that have a known price.",
    )
    yield Distribution(
        "llm.latency.seconds",
        event=INFERENCE_ENDS,
        measurement="duration",
        tags=("operation", "model"),
        unit=("nanosecond", "second"),
        description="How long calls took, failed ones included.",
    )
    yield Distribution(
        "llm.time_to_first_chunk.seconds",
        event=INFERENCE_ENDS,
        measurement="time_to_first_chunk",
        tags=("operation", "model"),
        unit=("nanosecond", "second"),
        description="How long the first chunk of streams took.",
    )


def _service_tasks() -> Iterator[Metric]:
    # A span states how it ended by the name of the event; tags are known by name
    # beforehand where each end has definitions of its own.
    for status, event, keep in (
        ("success", "llm.task.stop", _was_completed),
        ("error", "llm.task.exception", _was_completed),
        ("cancelled", TASK, _was_cancelled),
    ):
        yield Distribution(
            "task.duration.seconds",
            event=event,
            measurement="duration",
            constant_tags={"status": status},
            keep=keep,
            unit=("nanosecond", "second"),
            description="How long tasks took, by how they ended.",
        )
        yield Counter(
            "task.success.total",
            event=event,
            constant_tags={"status": status},
            keep=keep,
            description="Tasks that have ended, by how.",
        )
    yield Sum(
        "active_tasks",
        event=["llm.task.start", *TASK],
        measurement=_begun_or_ended,
        monotonic=False,
        description="Tasks that have begun and not ended.",
    )


def _was_cancelled(_measurements: Measurements, metadata: Metadata) -> bool:
    """Whether a task was cancelled, by itself or by its event loop."""
    return "cancelled" in (metadata.get("status"), metadata.get("kind"))


def _was_completed(measurements: Measurements, metadata: Metadata) -> bool:
    return not _was_cancelled(measurements, metadata)


def _begun_or_ended(measurements: Measurements, _metadata: Metadata) -> int:
    """Return 1 for a start event and -1 for a terminal one, which has a duration."""
    return -1 if "duration" in measurements else 1
