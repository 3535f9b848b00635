"""Handlers that run off the emitting thread."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from llmevents._bus import Bus, default_bus
from llmevents._clock import SYSTEM_CLOCK, Clock
from llmevents._delivery import Delivery
from llmevents._errors import OptionError
from llmevents._options import check_count, check_seconds, check_text
from llmevents._queue import BoundedQueue, OnFull
from llmevents._registration import check_handler, default_id
from llmevents._types import EventName, Handler, Measurements, Metadata


ON_FULL: tuple[OnFull, ...] = ("drop_new", "drop_old", "block")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundStats:
    """What became of the events that a background handler was offered.

    ``accepted == delivered + sum(dropped.values()) + queued``, exactly, whenever no
    event is on the move; until then *accepted* may be ahead.

    Attributes:
        accepted: Events offered, in this process.
        delivered: Events that the handler returned from.
        dropped: Events that were not delivered, by reason. ``queue_full``: there was
            no room; ``too_large``: the event alone exceeds ``max_bytes``;
            ``handler_error``: the handler raised; ``recursion``: the handler's own
            emissions led back to it eight times over; ``shutdown``: offered after
            `Background.shutdown`, or still queued when that gave up. Reasons
            that did not occur are left out.
        queued: Events that wait, and the one that the handler is working on.
    """

    accepted: int
    delivered: int
    dropped: Mapping[str, int]
    queued: int


class Background:
    """A handler that queues events for another. Made by `background`.

    Attach it as any other handler. Once nothing refers to it any more, what is
    queued is still delivered, and then its thread ends.

    Attributes:
        name: As given, or ``module.qualname`` of the handler.
    """

    __slots__ = ("__weakref__", "_delivery", "name")

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.name = delivery.name
        # Not atexit: the exit hook knows the deadline. It holds no reference to us.
        weakref.finalize(self, delivery.close).atexit = False

    def __call__(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,
    ) -> None:
        """Queue an event; this is what the bus calls. Never raises for lack of room."""
        self._delivery.offer(event, dict(measurements), dict(metadata), config)

    def stats(self) -> BackgroundStats:
        """Return the counters of this process. Safe everywhere, never waits."""
        queue = self._delivery.queue
        queue.settle()
        # Against the direction in which events move, or one could be seen twice.
        dropped: dict[str, int] = {
            reason: count for reason, count in queue.dropped.items() if count
        }
        delivered = queue.delivered
        queued = queue.queued
        return BackgroundStats(
            accepted=queue.accepted,
            delivered=delivered,
            dropped=MappingProxyType(dropped),
            queued=queued,
        )

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until what was offered before this call is delivered or dropped.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            False if there is something left. At once if the handler itself calls,
            for it would wait for its own end.

        Raises:
            OptionError: *timeout* is no finite number of seconds.
        """
        return self._delivery.flush(check_seconds(timeout, "timeout"))

    def shutdown(self, timeout: float = 2.0) -> bool:
        """Take no more events, deliver those queued, and end the thread.

        What is left after *timeout* is dropped, except the one event that the handler
        is working on: nobody can take that back, and it stays ``queued`` until the
        handler returns. Calling it again does no harm. Where no thread can be
        started any more, as at the end of the process from Python 3.12 on, the
        events are delivered in the calling thread; the time is then looked at
        between two events.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            False if the time was too short, and always from then on. Also if the
            handler itself calls: it cannot wait for its own end, but nothing is
            dropped then.

        Raises:
            OptionError: *timeout* is no finite number of seconds.
        """
        return self._delivery.shutdown(check_seconds(timeout, "timeout"))

    def __repr__(self) -> str:
        return f"<Background {self.name!r}>"


def background(
    handler: Handler,
    *,
    max_events: int = 10_000,
    max_bytes: int = 8 * 1024 * 1024,
    on_full: OnFull = "drop_new",
    block_timeout: float = 1.0,
    name: str | None = None,
    bus: Bus | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Background:
    """Return a handler that queues events and has *handler* called in a thread.

    One daemon thread, started by the first event, delivers one event after the
    other in the order they were queued. A coroutine function runs on an event loop
    that this thread owns, each call to its end before the next one.

    The queue holds shallow copies of both mappings: the handler gets its own dicts,
    but values that can change are shared with the emitter. The handler runs in the
    thread's context, not in the emitter's; ambient metadata is part of the event
    already.

    Queueing takes no lock, so that finalizers and signal handlers may emit. An error
    of the handler is counted, logged at most once a second, and becomes
    ``llmevents.handler.failure`` with *name* as ``handler_id``. What the handler
    itself emits may be queued for it in turn, eight times over, then it is dropped
    as ``recursion``; emissions from threads that the handler starts are not
    recognised, only the queue's limits bound them.

    When the process ends, queued events are delivered for 2 s at most, over all
    background handlers together, and stderr says if that was not enough. SIGTERM ends
    a process without this, unless the program handles it. A forked child starts with
    an empty queue and counters at 0: what was queued, the parent delivers.

    Args:
        handler: ``handler(event, measurements, metadata, config)``, a function or a
            coroutine function.
        max_events: How many events may wait.
        max_bytes: How many bytes these may have, by an estimate: text and bytes in
            full, 100 bytes for any other value and for each key, 400 for the event.
            Beside what waits there is the event being delivered, and while an emitter
            is suspended in the middle of queueing, up to as much again.
        on_full: What to do with an event that there is no room for. ``"drop_new"``
            drops it, ``"drop_old"`` drops the oldest ones that wait, ``"block"`` has
            its emitter wait for room, which stalls an event loop that it runs on.
            Emitters that must not wait, the handler itself and code that has
            interrupted an emission, never do: their event is dropped.
        block_timeout: Seconds that ``"block"`` waits before the event is dropped.
        name: Names the handler in the log and the failure event, and the thread;
            ``module.qualname`` of the handler by default.
        bus: Where failures are announced; the default bus unless given.
        clock: Paces the log and dates failure events.

    Raises:
        HandlerError: *handler* cannot be called with four arguments, or is a generator
            function.
        OptionError: Another option has a value that it cannot have.

    Examples:
        >>> import llmevents
        >>> stored = []
        >>> def store(event, measurements, metadata, config):
        ...     stored.append((event, measurements))
        >>> queued = llmevents.background(store)
        >>> subscription = llmevents.attach("store", "docs.**", queued)
        >>> llmevents.execute("docs.saved", {"count": 1})
        >>> queued.shutdown()
        True
        >>> stored
        [(('docs', 'saved'), {'count': 1})]
        >>> subscription.detach()
    """
    _check_background_handler(handler)
    check_count(max_events, "max_events")
    check_count(max_bytes, "max_bytes")
    if on_full not in ON_FULL:
        raise OptionError(on_full, "on_full", " or ".join(map(repr, ON_FULL)))
    timeout = check_seconds(block_timeout, "block_timeout")
    delivery = Delivery(
        handler,
        partial(BoundedQueue, max_events, max_bytes, on_full),
        block_timeout=timeout if on_full == "block" else None,
        name=default_id(handler) if name is None else check_text(name, "name"),
        bus=default_bus if bus is None else bus,
        clock=clock,
    )
    return Background(delivery)


class _CalledSynchronously:
    """A coroutine function as the checks of a bus would like it."""

    def __init__(self, handler: Handler) -> None:
        from inspect import signature

        self._handler = handler
        self.__signature__ = signature(handler, follow_wrapped=False)

    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        return repr(self._handler)


def _check_background_handler(handler: Handler) -> None:
    """Refuse what a bus would refuse, except for coroutine functions.

    Raises:
        HandlerError: As for `Bus.attach`.
    """
    from inspect import iscoroutinefunction

    call = getattr(handler, "__call__", None)  # noqa: B004  # the method itself is wanted
    if iscoroutinefunction(handler) or iscoroutinefunction(call):
        check_handler(_CalledSynchronously(handler))
    else:
        check_handler(handler)
