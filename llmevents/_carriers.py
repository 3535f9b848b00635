"""Who makes a call's span current for what an SDK does while it is called.

A span of an SDK's call is a handle, and so current nowhere. Other libraries keep a
current span of their own: OpenTelemetry, so that the HTTP client's spans and the trace
that a request carries on belong to the right one. What keeps such a thing for our
spans is a `Carrier`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias


if TYPE_CHECKING:
    from llmevents._bus import Bus


class Carrier(Protocol):
    """Makes spans of ours current elsewhere. Its methods must neither wait nor raise."""

    def enter(self, span_id: str) -> object:
        """Make the open span *span_id* current in this context.

        Returns:
            What ``leave`` is to be given; None if there is nothing to leave.
        """

    def leave(self, entered: object) -> None:
        """Undo an ``enter``, as far as that is still to be done in this context."""

    def stand_in(self, span_id: str) -> object:
        """Return what an SDK is to use in place of a span of its own for the call.

        Returns:
            A span of OpenTelemetry's that records nothing and is of the same trace
            as the open span *span_id*; None if there is none.
        """


Entered: TypeAlias = "list[tuple[Carrier, object]]"

_lock = threading.Lock()
_carriers: tuple[tuple[Bus, Carrier], ...] = ()


def carry(bus: Bus, carrier: Carrier) -> Callable[[], None]:
    """Have *carrier* make the spans of SDK calls on *bus* current from now on.

    For reporters. The SDK's method runs between ``enter`` and ``leave``,
    in one context if the caller lets it.

    Returns:
        What ends it; a second call does nothing.
    """
    added = (bus, carrier)
    _change(lambda known: (*known, added))
    return lambda: _change(
        lambda known: tuple(each for each in known if each is not added)
    )


def _change(
    change: Callable[
        [tuple[tuple[Bus, Carrier], ...]], tuple[tuple[Bus, Carrier], ...]
    ],
) -> None:
    global _carriers  # noqa: PLW0603  # read without a lock, replaced as a whole
    with _lock:
        _carriers = change(_carriers)


def enter(bus: Bus, span_id: str) -> Entered | None:
    """Enter *span_id* with every carrier of *bus*; None if there is nothing to leave."""
    if not _carriers or not span_id:
        return None
    entered: Entered = []
    for known, carrier in _carriers:
        if known is bus:
            try:
                place = carrier.enter(span_id)
            except Exception:  # noqa: BLE001  # a reporter's code, in the host's call
                bus.refuse_value()
                continue
            if place is not None:
                entered.append((carrier, place))
    return entered


def leave(bus: Bus, entered: Entered) -> None:
    """Undo `enter`."""
    for carrier, place in reversed(entered):
        try:
            carrier.leave(place)
        except Exception:  # noqa: BLE001  # a reporter's code, in the host's call
            bus.refuse_value()


def stand_in(bus: Bus, span_id: str) -> object:
    """Return what the first carrier that has one offers in place of an SDK's span."""
    for known, carrier in _carriers:
        if known is bus and span_id:
            try:
                span = carrier.stand_in(span_id)
            except Exception:  # noqa: BLE001  # a reporter's code, in the host's call
                bus.refuse_value()
                continue
            if span is not None:
                return span
    return None
