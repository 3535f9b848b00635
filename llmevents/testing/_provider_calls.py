"""What the fake provider served, as exact facts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from llmevents.testing._provider_payloads import Content
from llmevents.testing._provider_replies import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCall:
    """One request that arrived, and what became of it.

    A count is None until the response has stated it: in a stream that is cut short,
    and in one that was not asked for usage, it never does.

    Attributes:
        operation: ``"chat"``, ``"embeddings"``, ``"models"``, that of a recorded
            exchange, or ``"unknown"``.
        path: Path of the request, without its query.
        model: The model asked for, if the body says so.
        stream: Whether a stream was asked for.
        request: JSON body of the request; empty if it had none that is an object.
        status: HTTP status; None while nothing has been sent.
        completed: Whether the whole body was written. A client that hangs up may
            have left some of it unread.
        dropped: Whether the provider closed the connection before the end, as it
            was told to, or because it was stopped.
        input_tokens: Stated input, cached included.
        output_tokens: Stated output, reasoning included.
        cache_read_tokens: Stated part of the input that came from a cache.
        reasoning_tokens: Stated part of the output that was reasoning.
    """

    operation: str
    path: str
    model: str | None
    stream: bool
    request: Mapping[str, Any] = field(repr=False)
    status: int | None = None
    completed: bool = False
    dropped: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def failed(self) -> bool:
        """Whether it was answered with an error status, or dropped."""
        return self.dropped or (self.status or 0) >= HTTPStatus.BAD_REQUEST

    @property
    def usage_stated(self) -> bool:
        """Whether the response stated any count."""
        usage = (
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.reasoning_tokens,
        )
        return any(count is not None for count in usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTotals:
    """Sums over calls; tokens that were not stated add nothing.

    Attributes:
        calls: Requests that arrived.
        errors: Calls that failed: an error status, or dropped by the provider.
        usage_stated: Calls whose response stated usage.
        input_tokens: All input, cached included.
        output_tokens: All output, reasoning included.
        cache_read_tokens: Part of the input that came from a cache.
        reasoning_tokens: Part of the output that was reasoning.
    """

    calls: int
    errors: int
    usage_stated: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    reasoning_tokens: int


def total(calls: Iterable[ServedCall], operation: str | None) -> ServedTotals:
    """Add up the calls of one operation, or of all (None)."""
    chosen = [call for call in calls if operation in (None, call.operation)]
    return ServedTotals(
        calls=len(chosen),
        errors=sum(call.failed for call in chosen),
        usage_stated=sum(call.usage_stated for call in chosen),
        input_tokens=sum(call.input_tokens or 0 for call in chosen),
        output_tokens=sum(call.output_tokens or 0 for call in chosen),
        cache_read_tokens=sum(call.cache_read_tokens or 0 for call in chosen),
        reasoning_tokens=sum(call.reasoning_tokens or 0 for call in chosen),
    )


class CallLog:
    """The calls in order of arrival; safe for any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[ServedCall] = []

    def add(self, call: ServedCall) -> int:
        """Append a call and return its number, from 0."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()
            return len(self._calls) - 1

    def update(self, number: int, **changes: Any) -> None:  # noqa: ANN401  # fields of ServedCall
        """Replace fields of a call."""
        with self._changed:
            self._calls[number] = replace(self._calls[number], **changes)
            self._changed.notify_all()

    def snapshot(self) -> tuple[ServedCall, ...]:
        """Return the calls as they are now."""
        with self._changed:
            return tuple(self._calls)

    def wait_for(
        self,
        condition: Callable[[tuple[ServedCall, ...]], bool],
        timeout_seconds: float,
    ) -> tuple[ServedCall, ...]:
        """Return the calls once *condition* holds for them."""
        with self._changed:
            if self._changed.wait_for(
                lambda: condition(tuple(self._calls)), timeout_seconds
            ):
                return tuple(self._calls)
            msg = (
                f"the condition did not hold within {timeout_seconds} s; "
                f"the calls are {self._calls}"
            )
        raise TimeoutError(msg)


class CallReceipt:
    """Writes into the log how far the answer to one call got."""

    def __init__(
        self, log: CallLog, number: int, *, status: int, content: Content
    ) -> None:
        self._log = log
        self._number = number
        self._status = status
        self._content = content

    def wrote(self, pieces: int) -> None:
        """Note that the status and so many pieces are out; 0: nothing is."""
        content = self._content
        stated = content.usage if pieces >= content.usage_after else Usage()
        self._log.update(
            self._number,
            status=self._status if pieces else None,
            completed=pieces == len(content.pieces),
            **stated._asdict(),
        )

    def dropped(self) -> None:
        """Note that the provider closes the connection before the end."""
        self._log.update(self._number, dropped=True)
