"""What happens when a handler raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents._names import dotted
from llmevents._show import show
from llmevents._tally import Tally
from llmevents._throttle import prepare


if TYPE_CHECKING:
    from types import CodeType

    from llmevents._bus import Bus
    from llmevents._registration import Registration
    from llmevents._types import EventName

FAILURE_EVENT: EventName = ("llmevents", "handler", "failure")


class FailureReporter:
    """Counts, announces and logs the failures of one bus's handlers.

    Nothing in here blocks: it runs in the emitter, possibly inside a finalizer or a
    signal handler.
    """

    __slots__ = ("_bus", "count")

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.count = Tally()

    def report(
        self, registration: Registration, name: EventName, error: Exception
    ) -> None:
        """Account for one failure: the event each time, the log now and then."""
        self.count.add()
        if name != FAILURE_EVENT and self._bus.has_handlers(FAILURE_EVENT):
            self._announce(registration, name, error)
        what = f"handler {show(registration.handler_id)}"
        registration.log.report(what, error, on=f" on {dotted(name)}")

    def _announce(
        self, registration: Registration, name: EventName, error: Exception
    ) -> None:
        _, describe_error = prepare()
        clock = self._bus.clock
        error_type, error_message = describe_error(error)
        self._bus.execute(
            FAILURE_EVENT,
            {"monotonic_time": clock.monotonic_ns(), "system_time": clock.time_ns()},
            {
                "event": dotted(name),
                "handler_id": registration.handler_id,
                "kind": "error",
                "error_type": error_type,
                "error_message": error_message,
            },
        )


def forget(error: Exception, dispatchers: frozenset[CodeType]) -> None:
    """Undo what this dispatch has added to the error's traceback, if it is an old one.

    An exception object that is raised again and again, as a failed future does,
    would keep the frames of every emission that it came out of.

    Args:
        error: As it was caught in a dispatch.
        dispatchers: The code of the functions that call handlers.
    """
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
        if place.tb_frame.f_code in dispatchers:
            error.__traceback__ = place
            return
