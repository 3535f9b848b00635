"""`record`: a call that is told of when it is over."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING

from llmevents._bus import default_bus
from llmevents._errors import OptionError
from llmevents.llm._call import Call
from llmevents.llm._operations import OPERATIONS, described
from llmevents.llm.usage import FIELDS


if TYPE_CHECKING:
    from decimal import Decimal

    from llmevents._bus import Bus
    from llmevents.llm.usage import Usage

VECTORS = ("texts", "dimensions")
"""What embeddings state beside their usage."""

MICROSECOND = 1_000
"""Nanoseconds."""


def record(
    response: object = None,
    *,
    operation: str = "chat",
    provider: str | None = None,
    model: str | None = None,
    usage: Usage | None = None,
    duration: int | timedelta = 0,
    cost: Decimal | float | str | None = None,
    error: BaseException | str | None = None,
    bus: Bus | None = None,
    **more: object,
) -> None:
    """Emit the events of a call that is over: one start event, one terminal event.

    Args:
        response: What the provider sent, to read usage from; see `Call.record`.
        operation: ``"chat"``, ``"embedding"``, ``"ocr"``, ...: the name of the
            function of this package for that operation.
        provider: As for `chat`.
        model: As for `chat`.
        usage: What it used, where no response says it.
        duration: How long it took, in nanoseconds or as a `datetime.timedelta`. The
            start event tells of the time that it began by that.
        cost: What it cost, in US dollars, where you know better.
        error: What it failed with, if it did.
        bus: The default bus unless given.
        more: Usage by its fields, ``input_tokens=1000``; the ``texts`` and
            ``dimensions`` of an embedding; anything else is metadata.

    Raises:
        OptionError: The operation is unknown, the duration is no such thing or
            negative, or the cost no amount of money.

    Examples:
        >>> from llmevents import llm
        >>> from llmevents.testing import capture
        >>> with capture("llm.ocr.stop") as events:
        ...     llm.record(operation="ocr", provider="acme", pages=3, cost="0.03")
        >>> events[0].measurements["pages"], events[0].measurements["cost_nano_usd"]
        (3, 30000000)
    """
    if operation not in OPERATIONS:
        raise OptionError(operation, "operation", _expected(operation))
    prefix, name = OPERATIONS[operation]
    ago = _nanoseconds(duration)
    used = {key: more.pop(key) for key in FIELDS if key in more}
    vectors = {key: more.pop(key) for key in VECTORS if key in more}
    call = Call(default_bus if bus is None else bus, prefix, scoped=False)
    if cost is not None:
        call.cost(cost)
    call.begin(described(name, provider, model, more), ago=ago)
    call.record(response)
    if usage is not None:
        call.usage(**usage.measurements())
    call.usage(**used)  # type: ignore[arg-type]  # it drops and counts what is no count
    call.measure(**vectors)
    if error is not None:
        call.error(error)
    call.leave(None)


def _nanoseconds(duration: object) -> int:
    if isinstance(duration, timedelta):
        duration = duration // timedelta(microseconds=1) * MICROSECOND
    if type(duration) is not int or duration < 0:
        expected = "nanoseconds as an int, or a timedelta, 0 or more"
        raise OptionError(duration, "duration", expected)
    return duration


def _expected(operation: object) -> str:
    close = get_close_matches(str(operation), OPERATIONS, 1)
    hint = f" ({close[0]!r}?)" if close else ""
    return f"one of {', '.join(map(repr, OPERATIONS))}{hint}"
