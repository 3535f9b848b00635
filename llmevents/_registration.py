"""One attached handler, and the checks that it passes when it is attached."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from llmevents._errors import HandlerError, OptionError
from llmevents._names import is_pattern, matches
from llmevents._throttle import FailureLog
from llmevents._types import EventName, FailurePolicy, Handler


MAKES_HANDLERS = "__llmevents_handler_for__"
"""The method of a handler that returns what to call at an event of the given name."""

WANTS = "__llmevents_wants__"
"""The method of a handler that says whether to emit an event for its sake. Of one that
it does not want it learns where somebody else does."""

POLICIES: tuple[FailurePolicy, ...] = ("keep", "detach", "raise")


class HandlerInfo(NamedTuple):
    """A row of `llmevents.list_handlers`: one handler on one name or pattern."""

    handler_id: Hashable
    event: EventName
    handler: Handler
    # Whatever was given to attach(); it is handed to the handler untouched.
    config: Any
    on_failure: FailurePolicy


class Registration:
    """A handler, what it listens to, and how its failures were reported so far."""

    __slots__ = (
        "_wants",
        "config",
        "events",
        "failed",
        "handler",
        "handler_id",
        "log",
        "names",
        "on_failure",
        "patterns",
    )

    def __init__(
        self,
        handler_id: Hashable,
        events: tuple[EventName, ...],
        handler: Handler,
        config: object,
        on_failure: FailurePolicy,
        *,
        failed: Callable[
            [Registration, EventName, BaseException], BaseException | None
        ],
        log: FailureLog,
    ) -> None:
        self.handler_id = handler_id
        self.events = events
        self.handler = handler
        self.config = config
        self.on_failure = on_failure
        self.failed = failed
        self.patterns = tuple(event for event in events if is_pattern(event))
        self.names = frozenset(events).difference(self.patterns)
        self.log = log
        self._wants: Callable[[EventName], bool] | None = getattr(handler, WANTS, None)

    def wants(self, name: EventName) -> bool:
        """Whether *name* is to be emitted for the sake of this handler."""
        return self.listens_to(name) and (self._wants is None or self._wants(name))

    def listens_to(self, name: EventName) -> bool:
        """Whether *name*, a full event name, reaches this handler."""
        return name in self.names or any(
            matches(pattern, name) for pattern in self.patterns
        )

    def handler_for(self, name: EventName) -> Handler:
        """Return what to call at *name*.

        That is the handler, unless it is one of ours that makes a function for each
        event, so that what depends on the name only is worked out once.
        """
        make: Callable[[EventName], Handler] | None = getattr(
            self.handler, MAKES_HANDLERS, None
        )
        return self.handler if make is None else make(name)

    def infos(self) -> list[HandlerInfo]:
        """Return one row for each name or pattern, as given."""
        return [
            HandlerInfo(
                self.handler_id, event, self.handler, self.config, self.on_failure
            )
            for event in self.events
        ]


def check_id(handler_id: object) -> None:
    """Refuse an id that no table can hold.

    Raises:
        HandlerError: *handler_id* is not hashable.
    """
    try:
        hash(handler_id)
    except TypeError:
        reason = "cannot be an id, because it is not hashable; use text or a tuple"
        raise HandlerError(handler_id, reason) from None


def check_policy(on_failure: object) -> None:
    """Refuse a failure policy that does not exist.

    Raises:
        OptionError: *on_failure* is unknown.
    """
    if on_failure not in POLICIES:
        expected = " or ".join(map(repr, POLICIES))
        raise OptionError(on_failure, "on_failure", expected)


def check_handler(handler: object) -> None:
    """Refuse what could never work as a handler, when it is attached.

    Raises:
        HandlerError: *handler* is not callable, cannot take four arguments, or is a
            coroutine or generator function, whose body a call would not run.
    """
    if not callable(handler):
        reason = (
            "is not callable; "
            "pass a function handler(event, measurements, metadata, config)"
        )
        raise HandlerError(handler, reason)
    # Costs 10 ms to import, more than all of llmevents.
    import inspect

    for function in (handler, getattr(handler, "__call__", None)):  # noqa: B004  # the method itself is wanted
        if inspect.iscoroutinefunction(function):
            reason = (
                "is a coroutine function, and dispatch is synchronous; "
                "attach background(handler), which runs it off the emitting thread"
            )
            raise HandlerError(handler, reason)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(
            function
        ):
            reason = (
                "is a generator function, whose body a call would not run; "
                "attach a plain function"
            )
            raise HandlerError(handler, reason)
    try:
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # some built-ins have no signature to check
    try:
        signature.bind((), {}, {}, None)
    except TypeError as error:
        reason = (
            f"has the signature {signature} ({error}); the bus calls "
            "handler(event, measurements, metadata, config)"
        )
        raise HandlerError(handler, reason) from None


def default_id(handler: Handler) -> str:
    """Return ``module.qualname``, of the type if the handler itself has no name."""
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    return f"{named.__module__}.{named.__qualname__}"
