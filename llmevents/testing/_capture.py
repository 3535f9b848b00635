"""Collecting the events that a test causes, and no others."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from llmevents._bus import Bus, default_bus
from llmevents._errors import OptionError
from llmevents._names import dotted, matches, parse_pattern
from llmevents._subscription import Subscription
from llmevents._types import EventName, Measurements, Metadata, Name


if TYPE_CHECKING:
    from types import TracebackType

Scope: TypeAlias = Literal["context", "process"]

SCOPES: tuple[Scope, ...] = ("context", "process")

_capturing: ContextVar[tuple[object, ...]] = ContextVar(
    "llmevents_capturing", default=()
)


class CapturedEvent(NamedTuple):
    """One event as a handler received it; the mappings are copies."""

    event: EventName
    measurements: Measurements
    metadata: Metadata

    @property
    def name(self) -> str:
        """The event's dotted name."""
        return dotted(self.event)


class CapturedEvents(list[CapturedEvent]):
    """The events that a `capture` has collected so far, in order."""

    def named(self, pattern: Name) -> list[CapturedEvent]:
        """Return those whose name fits *pattern*: ``"llm.chat.stop"``, ``"llm.**"``.

        Raises:
            EventNameError: *pattern* is malformed.
        """
        wanted = parse_pattern(pattern)
        return [event for event in self if matches(wanted, event.event)]

    def names(self) -> list[str]:
        """Return the dotted names, one for each event."""
        return [event.name for event in self]


class capture:  # noqa: N801  # reads as a statement, like contextlib.suppress
    """Collect the events of a block, for tests.

    By default only what is emitted in the block's own context is collected:
    directly, in the tasks started in it, and in threads that `llmevents.propagate`
    leads to. Another test that runs at the same time does not leak in.

    Args:
        events: Names or patterns; everything by default.
        bus: The default bus unless given.
        scope: ``"context"``, or ``"process"`` for every emission on the bus,
            whichever thread or task it comes from.

    Raises:
        EventNameError: A name or pattern is malformed.
        OptionError: *scope* is unknown.

    Examples:
        >>> import llmevents
        >>> from llmevents.testing import capture
        >>> with capture("docs.**") as events:
        ...     llmevents.execute("docs.saved", {"count": 1}, {"page": 3})
        >>> events.names()
        ['docs.saved']
        >>> events[0].metadata
        {'page': 3}
    """

    def __init__(
        self, *events: Name, bus: Bus | None = None, scope: Scope = "context"
    ) -> None:
        if scope not in SCOPES:
            raise OptionError(scope, "scope", " or ".join(map(repr, SCOPES)))
        self._events: list[Name] = list(events) or ["**"]
        self._bus = default_bus if bus is None else bus
        self._scope = scope
        self._collected = CapturedEvents()
        self._subscription: Subscription | None = None
        self._outer: tuple[object, ...] = ()
        self._inner: tuple[object, ...] = ()

    def __enter__(self) -> CapturedEvents:
        self._collected = CapturedEvents()
        # Identity, not equality, tells captures apart: they have no names.
        handler_id = ("llmevents.testing.capture", object())
        self._subscription = self._bus.attach(handler_id, self._events, self._collect)
        self._outer = _capturing.get()
        self._inner = (*self._outer, self)
        _capturing.set(self._inner)
        return self._collected

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _capturing.get() is self._inner:
            _capturing.set(self._outer)
        if self._subscription is not None:
            self._subscription.detach()

    def _collect(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        _config: object,
    ) -> None:
        if self._scope == "process" or self in _capturing.get():
            captured = CapturedEvent(event, dict(measurements), dict(metadata))
            self._collected.append(captured)
