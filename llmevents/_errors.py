"""The error tree.

    LLMEventsError
    ├── DecoratorError        TypeError     a span around something that has no calls
    ├── EventNameError        ValueError    a name or pattern that cannot be one
    ├── EventPayloadError     TypeError     measurements or metadata are no mapping
    ├── HandlerError          TypeError     a handler that could never be called
    ├── HandlerExistsError    ValueError    the handler id is taken
    ├── HandlerNotFoundError  LookupError   no handler has this id
    ├── MetricDefinitionError ValueError    a metric that could not be aggregated
    ├── OptionError           ValueError    an option with an unknown value
    └── UndeclaredEventError  LookupError   a strict bus met something undeclared

Each error also subclasses the built-in that a caller would catch, and keeps the
data it speaks of as attributes.
"""

from __future__ import annotations

from collections.abc import Hashable

from llmevents._show import show


class LLMEventsError(Exception):
    """Base class of every error that llmevents raises by itself."""


class DecoratorError(LLMEventsError, TypeError):
    """A span decorator was put on something that it cannot wrap.

    Attributes:
        target: What was decorated.
    """

    def __init__(self, target: object, reason: str) -> None:
        self.target = target
        super().__init__(f"cannot put a span around {show(target)}: it {reason}")


class EventNameError(LLMEventsError, ValueError):
    """A value that cannot be an event name, a prefix or a pattern.

    Attributes:
        name: The value as it was given.
    """

    def __init__(self, name: object, reason: str) -> None:
        self.name = name
        super().__init__(f"{show(name)} is not an event name: {reason}")


class EventPayloadError(LLMEventsError, TypeError):
    """Measurements or metadata that are not a mapping.

    Attributes:
        value: What was given.
    """

    def __init__(self, value: object, what: str) -> None:
        self.value = value
        super().__init__(
            f"expected {what} to be a mapping, got {type(value).__name__} {show(value)}; "
            f"pass a dict such as {{'count': 1}}"
        )


class HandlerError(LLMEventsError, TypeError):
    """A handler that the bus could never call.

    Attributes:
        handler: The object that was given.
    """

    def __init__(self, handler: object, reason: str) -> None:
        self.handler = handler
        super().__init__(f"handler {show(handler)} {reason}")


class HandlerExistsError(LLMEventsError, ValueError):
    """A handler id was attached twice.

    Attributes:
        handler_id: The id that is taken.
    """

    def __init__(self, handler_id: Hashable) -> None:
        self.handler_id = handler_id
        super().__init__(
            f"handler id {show(handler_id)} is already attached; "
            f"call detach({show(handler_id)}) first or choose another id"
        )


class HandlerNotFoundError(LLMEventsError, LookupError):
    """No handler is attached under this id.

    Attributes:
        handler_id: The id that was asked for.
    """

    def __init__(self, handler_id: Hashable) -> None:
        self.handler_id = handler_id
        super().__init__(
            f"no handler with id {show(handler_id)} is attached; "
            f"list_handlers() shows the ids that are"
        )


class MetricDefinitionError(LLMEventsError, ValueError):
    """A metric definition that does not fit together.

    Attributes:
        name: The metric's name, or what was given in its place.
    """

    def __init__(self, name: object, reason: str) -> None:
        self.name = name
        super().__init__(f"cannot use metric {name!r}: {reason}")


class OptionError(LLMEventsError, ValueError):
    """An option has a value that it does not know.

    Attributes:
        option: The option's name.
        value: The value that was given.
    """

    def __init__(self, value: object, option: str, expected: str) -> None:
        self.option = option
        self.value = value
        super().__init__(f"expected {option} to be {expected}, got {show(value)}")


class UndeclaredEventError(LLMEventsError, LookupError):
    """A strict bus was given an event or a measurement that nobody declared.

    Attributes:
        event: The event's dotted name.
    """

    def __init__(self, event: str, reason: str) -> None:
        self.event = event
        super().__init__(
            f"{reason}; declare it with llmevents.events.declare({event!r}, ...) "
            f"or use a bus that is not strict"
        )
