"""What a declared event is, and the events that every span has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from llmevents._errors import OptionError
from llmevents._names import dotted
from llmevents._show import show
from llmevents._types import EventName


Stability: TypeAlias = Literal["stable", "experimental"]
"""Stable events keep their names and units within a major version."""

Units: TypeAlias = Mapping[str, tuple[str, str]]
"""Measurement key -> (unit, description), as declarations are written."""


@dataclass(frozen=True, slots=True)
class DeclaredMeasurement:
    """One measurement of an event.

    Attributes:
        unit: Singular and spelled out: ``"nanosecond"``, ``"token"``, ``"byte"``,
            ``"nano_usd"`` (a thousand-millionth of a US dollar); ``"1"`` for counts.
        description: What it measures, as a sentence.
    """

    unit: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredEvent:
    """One event of the catalogue.

    Attributes:
        name: Dotted, ``"llm.chat.stop"``.
        description: When it is emitted, as a sentence.
        measurements: What it may carry, by key. Each is absent where unknown.
        metadata: Meaning of each key. Context and the user's own keys come on top.
        stability: ``"stable"`` events keep their names and units within a major
            version, ``"experimental"`` ones need not.
        emitted_by: Who emits it.
    """

    name: str
    description: str = ""
    measurements: Mapping[str, DeclaredMeasurement] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    stability: Stability = "stable"
    emitted_by: str = "your code"


def event(
    name: EventName,
    description: str,
    measurements: Units,
    metadata: Mapping[str, str],
    *,
    stability: Stability,
    emitted_by: str,
) -> DeclaredEvent:
    """Return a declaration whose mappings nobody can change."""
    declared = {key: _measurement(key, pair) for key, pair in measurements.items()}
    return DeclaredEvent(
        name=dotted(name),
        description=description,
        measurements=MappingProxyType(declared),
        metadata=MappingProxyType(dict(metadata)),
        stability=stability,
        emitted_by=emitted_by,
    )


def _measurement(key: str, pair: object) -> DeclaredMeasurement:
    if not isinstance(pair, tuple) or [type(part) for part in pair] != [str, str]:
        expected = "(unit, description), both text"
        raise OptionError(pair, f"measurement {show(key)}", expected)
    return DeclaredMeasurement(*pair)


MONOTONIC: Units = {
    "monotonic_time": ("nanosecond", "Monotonic clock; only differences have meaning.")
}
SYSTEM: Units = {
    "system_time": ("nanosecond", "Wall clock, since the Unix epoch, UTC.")
}
DURATION: Units = {
    "duration": ("nanosecond", "From the end of the start handlers to the end.")
}
FIRST_CHUNK: Units = {
    "time_to_first_chunk": ("nanosecond", "From the start to the first item.")
}
STREAM: Units = {**FIRST_CHUNK, "chunks": ("1", "Items that the stream gave.")}

IDENTITY: Mapping[str, str] = {
    "span_id": "32 hexadecimal digits, the same in all events of one span.",
    "parent_span_id": "The span around it; absent if there is none.",
    "scoped": "Whether the span is a block of one context rather than a handle.",
}
CANCELLED: Mapping[str, str] = {
    "status": "`cancelled` if the stream was left early or the result not wanted.",
}
ERROR: Mapping[str, str] = {
    "kind": "`error`, `cancelled` (a cancelled task) or `exit` (KeyboardInterrupt).",
    "error_type": "Qualified name of the exception's class.",
    "error_message": "The exception's text, without secrets.",
}


def span_events(
    prefix: EventName,
    measurements: Units,
    metadata: Mapping[str, str],
    *,
    stability: Stability,
    emitted_by: str,
) -> Iterator[DeclaredEvent]:
    """Return the five events of a span.

    Args:
        prefix: What the span is started with.
        measurements: Those of the terminal events, beside the span's own.
        metadata: What the events say, beside the span's own.
        stability: Of all five.
        emitted_by: Of all five.
    """
    both = {**IDENTITY, **metadata}
    ended = {**DURATION, **MONOTONIC, **STREAM, **measurements}
    phases: dict[str, tuple[str, Units, Mapping[str, str]]] = {
        "start": ("The operation begins.", {**MONOTONIC, **SYSTEM}, both),
        "stop": ("It has ended without an error.", ended, {**CANCELLED, **both}),
        "exception": ("It has ended with an error.", ended, {**ERROR, **both}),
        "first_chunk": (
            "The first item of its stream has come.",
            {**MONOTONIC, **FIRST_CHUNK},
            both,
        ),
        "chunk": (
            "An item of its stream has come; only while somebody listens.",
            {**MONOTONIC, "index": ("1", "Position in the stream, from 0.")},
            both,
        ),
    }
    for phase, (description, units, facts) in phases.items():
        yield event(
            (*prefix, phase),
            description,
            units,
            facts,
            stability=stability,
            emitted_by=emitted_by,
        )
