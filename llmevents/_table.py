"""An immutable table of handlers, and what has been looked up in it so far."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from llmevents._names import dotted
from llmevents._registration import Registration
from llmevents._types import EventName, Handler, Measurements, Metadata, Name


CACHE_LIMIT = 4096
"""Names and prefixes that one table remembers; the rest are matched each time."""

Route: TypeAlias = tuple[EventName, Handler, Any, "Registration | None"]
"""Where an event goes: its name, a handler, the handler's config, its registration.

Several handlers stand behind one that fans out; its config is the `Listener` tuple
and it has no registration.
"""

Listener: TypeAlias = tuple[Handler, Any, Registration]
"""A handler, its config and its registration."""


class SpanNames(NamedTuple):
    """The names of the events that a span may emit."""

    prefix: str
    start: EventName
    stop: EventName
    exception: EventName
    first_chunk: EventName
    chunk: EventName

    @classmethod
    def of(cls, prefix: EventName) -> SpanNames:
        """Return the names of the spans of *prefix*."""
        return cls(dotted(prefix), *((*prefix, phase) for phase in cls._fields[1:]))


class HandlerTable:
    """The handlers of a bus at one moment, in attach order.

    Only the caches ever change, by single stores, so that any number of threads
    may use and fill them. They end with the table: a new one starts empty.

    Attributes:
        registrations: By handler id.
        routes: Event as it was emitted -> where it goes; None where nobody listens.
        spans: Prefix as it was written -> its names; only those listened to.
        heard: Event as it was asked for -> whether anybody wants it.
        quiet: Prefixes, as they were written, of which nobody wants anything.
    """

    __slots__ = ("heard", "quiet", "registrations", "routes", "spans", "strict")

    def __init__(
        self,
        registrations: tuple[Registration, ...],
        *,
        strict: bool,
    ) -> None:
        self.registrations = {
            registration.handler_id: registration for registration in registrations
        }
        self.strict = strict
        self.routes: dict[Name, Route | None] = {}
        self.heard: dict[Name, bool] = {}
        self.spans: dict[Name, SpanNames] = {}
        self.quiet: set[Name] = set()

    def route(self, event: Name, name: EventName) -> Route | None:
        """Return where *event* goes, and remember it unless the table is strict."""
        listeners = tuple(
            (found.handler_for(name), found.config, found)
            for found in self.registrations.values()
            if found.listens_to(name)
        )
        route = _route_to(name, listeners)
        if not self.strict and len(self.routes) < CACHE_LIMIT:
            self.routes[event] = route
        return route

    def is_heard(self, event: Name, name: EventName) -> bool:
        """Return whether anybody wants *event*, and remember it."""
        heard = self._hears(name)
        if len(self.heard) < CACHE_LIMIT:
            self.heard[event] = heard
        return heard

    def span_names(self, prefix: Name, name: EventName) -> SpanNames | None:
        """Return the event names of a span, or None if nobody listens to any.

        To a strict table every span matters, since its events are to be checked.
        """
        names = SpanNames.of(name)
        if self.strict:
            return names
        heard = any(self._hears(event) for event in names[1:])
        if len(self.spans) + len(self.quiet) < CACHE_LIMIT:
            if heard:
                self.spans[prefix] = names
            else:
                self.quiet.add(prefix)
        return names if heard else None

    def _hears(self, name: EventName) -> bool:
        return any(found.wants(name) for found in self.registrations.values())

    def adding(self, registration: Registration) -> HandlerTable:
        """Return a table with one handler more."""
        return self._with((*self.registrations.values(), registration))

    def removing(self, registration: Registration) -> HandlerTable:
        """Return a table without *registration*; other handlers of its id stay."""
        kept = (
            found for found in self.registrations.values() if found is not registration
        )
        return self._with(tuple(kept))

    def _with(self, registrations: tuple[Registration, ...]) -> HandlerTable:
        return HandlerTable(registrations, strict=self.strict)


def _route_to(name: EventName, listeners: tuple[Listener, ...]) -> Route | None:
    if not listeners:
        return None
    if len(listeners) == 1:
        return (name, *listeners[0])
    if all(config is None for _, config, _ in listeners):
        pairs = tuple((handler, found) for handler, _, found in listeners)
        return (name, fan_out_plain, pairs, None)
    return (name, fan_out, listeners, None)


def fan_out(
    name: EventName,
    measurements: Measurements,
    metadata: Metadata,
    listeners: tuple[Listener, ...],
) -> None:
    """Call several handlers; raise the first exception that is to escape.

    A plain function, because calling a bound method costs a quarter more.
    """
    escaped: BaseException | None = None
    for handler, config, registration in listeners:
        try:
            handler(name, measurements, metadata, config)
        except BaseException as error:  # noqa: BLE001  # the registration sorts them
            escaped = _first(escaped, registration.failed(registration, name, error))
    if escaped is not None:
        try:
            raise escaped
        finally:
            del escaped  # or the traceback would keep this frame alive


def fan_out_plain(
    name: EventName,
    measurements: Measurements,
    metadata: Metadata,
    listeners: tuple[tuple[Handler, Registration], ...],
) -> None:
    """Do as `fan_out`, for handlers without a config.

    Most have none, and pairs are unpacked faster: 3 % of an emission to ten.
    """
    escaped: BaseException | None = None
    for handler, registration in listeners:
        try:
            handler(name, measurements, metadata, None)
        except BaseException as error:  # noqa: BLE001  # the registration sorts them
            escaped = _first(escaped, registration.failed(registration, name, error))
    if escaped is not None:
        try:
            raise escaped
        finally:
            del escaped  # as above


def _first(
    escaped: BaseException | None, further: BaseException | None
) -> BaseException | None:
    """Return the first of two exceptions; control flow comes before any error."""
    if escaped is None or (
        isinstance(escaped, Exception)
        and further is not None
        and not isinstance(further, Exception)
    ):
        return further
    return escaped
