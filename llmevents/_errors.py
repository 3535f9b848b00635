"""The error tree.

    LLMEventsError
    ├── BudgetExceededError   RuntimeError  a call has no room in a budget
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
from typing import TYPE_CHECKING

from llmevents._show import show


if TYPE_CHECKING:
    from datetime import datetime


class LLMEventsError(Exception):
    """Base class of every error that llmevents raises by itself."""


class BudgetExceededError(LLMEventsError, RuntimeError):
    """A call was refused because a budget has no room for it; nothing was sent.

    Attributes:
        budget: The budget's name.
        key: Whose budget it is: the values of the metadata that it is per.
        unit: ``"nano_usd"``, ``"token"`` or ``"call"``, of all amounts.
        amount: What the call may use.
        spent: What is spent; None if the budget could not be checked.
        reserved: What calls under way hold; None likewise.
        limit: The limit.
        window: The period that it is for: ``"month"``, ``"24h"``, ``"total"``.
        resets_at: When there is room again by itself, in UTC; None if never, or if it
            depends on calls under way alone.
    """

    def __init__(
        self,
        budget: str,
        *,
        key: str,
        unit: str,
        amount: int,
        limit: int,
        window: str,
        spent: int | None = None,
        reserved: int | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        self.budget = budget
        self.key = key
        self.unit = unit
        self.amount = amount
        self.limit = limit
        self.window = window
        self.spent = spent
        self.reserved = reserved
        self.resets_at = resets_at
        whose = f"budget {show(budget)}" + (f" of {show(key)}" if key else "")
        super().__init__(f"{whose} {self._reason()}")

    def __reduce__(self) -> tuple[object, tuple[()]]:
        """Go through a process pool whole, although nearly all of it is keywords."""
        from functools import partial

        whole = partial(
            type(self),
            self.budget,
            key=self.key,
            unit=self.unit,
            amount=self.amount,
            limit=self.limit,
            window=self.window,
            spent=self.spent,
            reserved=self.reserved,
            resets_at=self.resets_at,
        )
        return whole, ()

    def _reason(self) -> str:
        amount, limit = self._show(self.amount), self._show(self.limit)
        if self.spent is None or self.reserved is None:
            return (
                f"could not be checked, because its store failed, for a call of up to "
                f"{amount} (limit {limit}, window {self.window}); repair the store, or "
                f"let calls through with on_store_failure='open'"
            )
        if self.amount > self.limit:
            remedy = "lower what the call may use, such as max_tokens, or raise limit"
        elif self.resets_at is not None:
            when = self.resets_at.isoformat(timespec="seconds")
            remedy = f"room comes back from {when} on; wait, or raise limit"
        elif self.reserved:
            remedy = "try again when calls under way have ended, or raise limit"
        else:
            remedy = "it never resets; raise limit"
        return (
            f"has no room for a call of up to {amount}: {self._show(self.spent)} spent "
            f"and {self._show(self.reserved)} reserved of {limit}, window "
            f"{self.window}; {remedy}"
        )

    def _show(self, amount: int) -> str:
        if self.unit != "nano_usd":
            return f"{amount} {self.unit}{'' if amount == 1 else 's'}"
        dollars, nano = divmod(amount, 1_000_000_000)
        decimals = f"{nano:09}".rstrip("0")
        return f"{dollars}.{decimals:0<2} USD"


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
