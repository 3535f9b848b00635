"""The catalogue: every event declared once, with its measurements and metadata.

A declaration is documentation that a program can read: the event reference, the
``llmevents events`` command and `Bus` in strict mode all come from it. Declare
your own events to have them checked and listed too:

    >>> from llmevents import events
    >>> saved = events.declare(
    ...     "docs.page.saved",
    ...     measurements={"size": ("byte", "Size of the page.")},
    ...     metadata={"page": "The page's number."},
    ... )
    >>> saved.measurements["size"].unit
    'byte'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llmevents._catalogue import BUILT_IN
from llmevents._declarations import (
    DeclaredEvent,
    DeclaredMeasurement,
    Stability,
    Units,
    event,
    span_events,
)
from llmevents._errors import OptionError, UndeclaredEventError
from llmevents._names import dotted, parse_name
from llmevents._types import EventName, Name


__all__ = [
    "DeclaredEvent",
    "DeclaredMeasurement",
    "Stability",
    "catalogue",
    "check",
    "declare",
    "declare_span",
    "find",
]

STABILITIES: tuple[Stability, ...] = ("stable", "experimental")

_declared: dict[str, DeclaredEvent] = {known.name: known for known in BUILT_IN}


def declare(
    name: Name,
    *,
    measurements: Units | None = None,
    metadata: Mapping[str, str] | None = None,
    description: str = "",
    stability: Stability = "stable",
    emitted_by: str = "your code",
) -> DeclaredEvent:
    """Add an event to the catalogue; declaring the same again changes nothing.

    Args:
        name: The event's name; no pattern.
        measurements: Key -> (unit, description). See `DeclaredMeasurement`.
        metadata: Key -> description.
        description: When the event is emitted.
        stability: ``"stable"`` or ``"experimental"``.
        emitted_by: Who emits it, for the reference.

    Raises:
        EventNameError: *name* is malformed.
        OptionError: *stability* is unknown, or the event is declared differently.
    """
    declared = event(
        parse_name(name),
        description,
        measurements or {},
        metadata or {},
        stability=_checked(stability),
        emitted_by=emitted_by,
    )
    _add([declared])
    return declared


def declare_span(
    prefix: Name,
    *,
    measurements: Units | None = None,
    metadata: Mapping[str, str] | None = None,
    stability: Stability = "stable",
    emitted_by: str = "your code",
) -> None:
    """Declare the events of a span: start, stop, exception, first_chunk and chunk.

    Args:
        prefix: What the span is started with.
        measurements: Those of the terminal events, beside the span's own.
        metadata: What the events say, beside the span's own.
        stability: As `declare`.
        emitted_by: As `declare`.

    Raises:
        LLMEventsError: As `declare`.
    """
    _add(
        span_events(
            parse_name(prefix),
            measurements or {},
            metadata or {},
            stability=_checked(stability),
            emitted_by=emitted_by,
        )
    )


def catalogue() -> tuple[DeclaredEvent, ...]:
    """Return all declared events: llmevents' own first, then others as declared."""
    return tuple(_declared.values())


def find(name: Name) -> DeclaredEvent | None:
    """Return the declaration of an event, or None.

    Raises:
        EventNameError: *name* is malformed.
    """
    return _declared.get(dotted(parse_name(name)))


def check(name: EventName, measurements: Mapping[str, object]) -> None:
    """Refuse an event, or a measurement of it, that is not declared.

    Raises:
        UndeclaredEventError: It is not.
    """
    text = dotted(name)
    declared = _declared.get(text)
    if declared is None:
        raise UndeclaredEventError(text, f"event {text!r} is not declared")
    for key in measurements:
        if key not in declared.measurements:
            known = ", ".join(declared.measurements) or "none"
            reason = f"event {text!r} declares no measurement {key!r} (only: {known})"
            raise UndeclaredEventError(text, reason)


def _add(declarations: Iterable[DeclaredEvent]) -> None:
    new = list(declarations)
    for declared in new:
        known = _declared.get(declared.name, declared)
        if known != declared:
            expected = f"as it was declared first, {known}"
            raise OptionError(declared, f"event {declared.name!r}", expected)
    _declared.update({declared.name: declared for declared in new})


def _checked(stability: Stability) -> Stability:
    if stability not in STABILITIES:
        expected = " or ".join(map(repr, STABILITIES))
        raise OptionError(stability, "stability", expected)
    return stability
