"""The handle of one attached handler."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from 3.11 on

    from llmevents._bus import Bus
    from llmevents._registration import Registration


class Subscription:
    """What `Bus.attach` returns: it detaches its handler, by hand or at a block's end.

    Attributes:
        handler_id: The id that the handler is attached under.
    """

    __slots__ = ("_bus", "_registration", "handler_id")

    def __init__(self, bus: Bus, registration: Registration) -> None:
        self._bus = bus
        self._registration = registration
        self.handler_id: Hashable = registration.handler_id

    def detach(self) -> None:
        """Detach the handler; the second time, and for a later one of its id, a no-op."""
        self._bus._remove(self._registration)  # noqa: SLF001  # one unit with the bus

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def __repr__(self) -> str:
        return f"<Subscription {self.handler_id!r}>"
