"""One logical call of a model: a span that knows what the call used and cost."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, TypeVar, overload

from llmevents._bus import ambient
from llmevents._span import is_timeout
from llmevents.llm._active import active_guards, reserve
from llmevents.llm._bills import Asked, Bill, announce, bill, due, expect_bills
from llmevents.llm._ownership import Layer
from llmevents.llm._response import Reading
from llmevents.llm.usage import Usage, as_count


if TYPE_CHECKING:
    from decimal import Decimal

    from llmevents._bus import Bus
    from llmevents._span import Status
    from llmevents._stream import ObservedAsyncIterator, ObservedIterator
    from llmevents._types import Metadata, Name
    from llmevents.llm.budgets import Reservation

T = TypeVar("T")

RAW_USAGE = "llmevents.usage.raw"
"""For who keeps what the provider sent: emitted while somebody listens."""

HTTP_STATUSES = range(100, 600)
"""RFC 9110, section 15."""

EMBEDDING_PREFIX = "llm.embedding"
"""The calls that state how many texts they embedded, and in how many dimensions."""


class ReportedError(Exception):
    """An error that a call was told of as text; see `Call.error`."""


class Call(Layer):
    """A call of a model. Made by `llmevents.llm.chat` and by instrumented SDKs.

    The outermost call in a context owns the logical call: it emits the operation's
    events and states usage and cost. A call inside it, of an SDK say, becomes a span
    ``llm.provider.request`` and hands its usage over when it ends, so that nothing
    is counted twice. Usage that comes from inside beats what `record` and `usage`
    were told, and requests within one call add up, through any number of layers,
    each at the price of its own model. Buses are independent: a call owns none of
    another bus.

    A block that is left while a request in it is under way, because it returned the
    SDK's stream for example, takes no more requests, and ends as the last of them
    does: a call is over when its response is.

    Args:
        bus: Where to emit.
        prefix: The operation, ``"llm.chat"``.
        scoped: Whether it stands for a block.
        texts: How many texts an embedding call was given.
        sends: Whether its attempts on the wire emit ``llm.provider.request`` by
            themselves. Then it is silent within another call: one attempt, one
            request.
    """

    __slots__ = (
        "_bills",
        "_cost",
        "_count_handed",
        "_error",
        "_is_cached",
        "_reading",
        "_reserved",
    )

    def __init__(
        self,
        bus: Bus,
        prefix: Name,
        *,
        scoped: bool,
        texts: int | None = None,
        sends: bool = False,
    ) -> None:
        super().__init__(bus, prefix, scoped=scoped, sends=sends)
        self._reading = Reading(texts=texts)
        self._bills: list[Bill] = []
        self._count_handed = itertools.count().__next__
        self._cost: int | None = None
        self._error: BaseException | None = None
        self._is_cached = False
        self._reserved: tuple[Reservation, ...] = ()

    def record(self, response: object) -> None:
        """Read usage and other facts from what the provider sent.

        Understands what the providers' APIs answer, as an SDK's object, decoded JSON
        or the bytes of the body; see `llmevents.llm.usage`. For a stream, give it
        every chunk, or use `observe`; the last usage stated wins. Of anything else
        nothing is read. Never raises.
        """
        if not self._is_wanted():
            return
        try:
            self._reading.read(response)
        except Exception:  # noqa: BLE001  # attributes of foreign objects run foreign code
            self.refuse_value()

    def usage(self, **used: int | None) -> None:
        """State what the call used, where no response says it.

        Args:
            used: Fields of `llmevents.llm.Usage`: ``input_tokens=1000``, ``pages=3``.
                The last value of a field wins, None states nothing. Values that are
                no counts are dropped and counted like any measurement.

        Raises:
            TypeError: A field is unknown.
        """
        Usage(**used)
        if not self._is_wanted():
            return
        stated: dict[str, int] = {}
        for field, given in used.items():
            count = as_count(given)
            if count is not None:
                stated[field] = count
            elif given is not None:
                self.refuse_value()
        if stated:
            self._reading.usage = replace(self._reading.usage or Usage(), **stated)

    def cost(self, usd: Decimal | float | str) -> None:
        """State what the call cost, in US dollars; it beats every other price.

        Args:
            usd: A float stands for what it is written as: 0.1 is one tenth.

        Raises:
            OptionError: It is no amount of money: not a number, or negative.
        """
        from llmevents.llm._money import to_nano

        self._cost = to_nano(usd, "cost")

    def error(self, error: BaseException | str) -> None:
        """State that the call failed, although its block ends without an exception.

        For code that catches an error by itself. The call ends in an exception event
        as if *error* had left the block; the last one stated wins.
        """
        self._error = ReportedError(error) if isinstance(error, str) else error

    def cached(self) -> None:
        """State that the answer came from your own cache: nothing was used or paid.

        The call says ``cached=True``, costs 0, and states no tokens, whatever the
        stored answer says of itself.
        """
        self._is_cached = True
        self.annotate(cached=True)

    @overload
    def observe(self, stream: AsyncIterable[T]) -> ObservedAsyncIterator[T]: ...

    @overload
    def observe(self, stream: Iterable[T]) -> ObservedIterator[T]: ...

    def observe(
        self, stream: Iterable[T] | AsyncIterable[T]
    ) -> ObservedIterator[T] | ObservedAsyncIterator[T]:
        """Pass a stream of chunks through and record each; see `Span.iterate`."""
        return self.iterate(stream, on_chunk=self.record)

    def returned(self, result: object) -> None:
        """Record what a decorated function returned or gave as an item."""
        self.record(result)

    def begin(self, metadata: Metadata | None, *, ago: int | None = None) -> None:
        """Reserve what budgets ask for, and emit the start event.

        Args:
            metadata: Part of the start event and of the terminal one.
            ago: For a call that is over, which no budget can refuse any more: how
                many nanoseconds ago it began.

        Raises:
            BudgetExceededError: A budget has no room for the call; nothing is
                emitted about it but what the budget says.
        """
        if active_guards(self._bus) and self._find_owner() is None:
            asked = {**(ambient.get() or {}), **self._own(metadata)}
            try:
                self._reserved = reserve(self._bus, asked, refuse=ago is None)
            except BaseException:
                self._names = None  # there is nothing that could end
                raise
        super().begin(metadata, ago=ago or 0)
        if self._names is not None:
            expect_bills()

    def leave(self, error: BaseException | None) -> None:
        """End as the block was left, or with the error that was stated."""
        super().leave(self._error if error is None else error)

    def stream_ended(self, error: BaseException | None, *, exhausted: bool) -> None:
        """End as any span; usage may still have been to come if it was cut short."""
        if self.is_open:
            self._reading.complete = self._reading.complete and exhausted
        super().stream_ended(error, exhausted=exhausted)

    def _conclude(self, status: Status, error: BaseException | None) -> None:
        told = _status(status, error)
        self._metadata["status"] = told
        if error is not None:
            # An exception's attributes may be properties that run any code.
            with suppress(Exception):
                http_status = _http_status(error)
                if http_status is not None:
                    self._metadata["http_status"] = http_status
        owner = self._owner
        if isinstance(owner, Call):
            self._hand_over(owner, told)
        else:
            total, bills = self._reckon(told)
            self._state(total)
            self._charge(bills)
            for reservation in self._reserved:
                reservation.settle(self._measurements, told, complete=total.complete)
        # A reference to itself would keep it until the next garbage collection.
        self.call = owner

    def _hand_over(self, owner: Call, status: Status) -> None:
        """Give *owner* what was read and what is due, once: when either of them ends."""
        if self._count_handed():
            return
        total, bills = self._reckon(status)
        owner._take(self, total)
        owner._bills += bills

    def _reckon(self, status: Status) -> tuple[Reading, list[Bill]]:
        """Return what was read and what is due.

        Requests that are still under way have read a part. It counts, unless this call
        itself was told more.
        """
        if self._inner or self._reading.usage is None:
            requests = [
                each for each in list(self._under_way) if isinstance(each, Call)
            ]
            for request in requests:
                # As of one that has failed: where no usage is known, none is due.
                request._hand_over(self, "error")  # noqa: SLF001  # one of us
        # Before the total, in which its own usage gives way to that of requests.
        bills = self._billed(status)
        return self._total(), bills

    def _billed(self, status: Status) -> list[Bill]:
        """Return the bills of this call: its own, or those of the requests within."""
        provider, model = self._said("provider"), self._said("model")
        stated = self._measurements.get("cost_nano_usd", self._cost)
        if stated is not None:
            return [Bill(int(stated), "override", None, provider, model)]
        if self._is_cached:
            return [Bill(0, "cache", None, provider, model)]
        own = self._reading
        if self._inner and own.cost_nano_usd is None:
            inner_used = any(inner.usage is not None for inner in self._inner)
            if inner_used or (self._bills and own.usage is None):
                return self._bills
        is_batch = self._said("batch") is not None
        asked = Asked(provider, model, is_batch, self._bus.clock.time_ns())
        return bill(own, asked, status)

    def _said(self, key: str) -> str | None:
        """Return what this call, or the nearest around it, says of itself."""
        layer: Layer | None = self
        while layer is not None:
            for said in (layer._metadata, layer._asked):  # noqa: SLF001  # one of us
                value = None if said is None else said.get(key)
                if value:
                    return str(value)
            layer = layer._owner  # noqa: SLF001  # one of us
        return None

    def _charge(self, bills: list[Bill]) -> None:
        total = due(bills)
        if total is not None:
            self._measurements["cost_nano_usd"] = total.cost_nano_usd
            self._metadata["cost_source"] = total.source
            if total.price_date is not None:
                self._metadata["price_date"] = total.price_date
        announce(self._bus, self.span_id, bills, total)

    def _total(self) -> Reading:
        """Return what this call and the requests within it have read together."""
        total = self._reading
        if self._under_way:
            total.complete = False
        if any(inner.usage is not None for inner in self._inner):
            total.usage = None
        for inner in self._inner:
            total.add(inner)
        return total

    def _state(self, reading: Reading) -> None:
        clean = _clean_name()
        for key, name in reading.facts.items():
            self._metadata[key] = clean(name)
        if self._names is not None and self._names.prefix == EMBEDDING_PREFIX:
            self.measure(**reading.vectors())
        usage = None if self._is_cached else reading.usage
        if usage is not None:
            # Counts already; `measure` would check each of them once more.
            self._measurements.update(usage.measurements())
        if usage is not None or not reading.complete:
            self._metadata["usage_complete"] = reading.complete
        if reading.tool_calls:
            self.annotate(tool_calls=reading.tool_names)
        if self._bus.has_handlers(RAW_USAGE):
            self._state_raw(reading)
        if reading.finish_reasons:
            self._metadata["finish_reasons"] = [
                reason for _, reason in sorted(reading.finish_reasons.items())
            ]

    def _state_raw(self, reading: Reading) -> None:
        raw = reading.raw
        if raw:
            metadata = {"span_id": self.span_id, "raw": raw}
            self._bus.execute(RAW_USAGE, {"count": len(raw)}, metadata)


@cache
def _clean_name() -> Callable[[str], str]:
    """Return what takes secrets out of names; its patterns take long to load."""
    from llmevents._redact import clean_name

    return clean_name


def _status(status: Status, error: BaseException | None) -> Status:
    if status != "error" or error is None:
        return status
    return "timeout" if is_timeout(error) else "error"


def _http_status(error: BaseException | None) -> int | None:
    """Return the status that an SDK's error states: ``code`` is Google's name of it.

    Ollama's errors say -1 where there is none.
    """
    for name in ("status_code", "code"):
        stated = getattr(error, name, None)
        if isinstance(stated, int) and stated in HTTP_STATUSES:
            return int(stated)
    return None
