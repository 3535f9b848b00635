"""One logical call of a model: a span that knows what the call used."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, overload

from llmevents import _forksafe
from llmevents._context import current_span
from llmevents._span import Span
from llmevents.llm._response import Reading
from llmevents.llm.usage import Usage, as_count


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._span import Status
    from llmevents._stream import ObservedAsyncIterator, ObservedIterator
    from llmevents._table import SpanNames
    from llmevents._types import Measurements, Metadata, Name

T = TypeVar("T")

REQUEST_PREFIX = "llm.provider.request"
"""What a call becomes that is part of another one."""

EMBEDDING_PREFIX = "llm.embedding"
"""The calls that state how many texts they embedded, and in how many dimensions."""


class Call(Span):
    """A call of a model. Made by `llmevents.llm.chat` and by instrumented SDKs.

    The outermost call in a context owns the logical call: it emits the operation's
    events and states the usage. A call inside it, of an SDK say, becomes a span
    ``llm.provider.request`` and hands its usage over when it ends, so that nothing
    is counted twice. Usage that comes from inside beats what `record` and `usage`
    were told, and requests within one call add up, through any number of layers.
    Buses are independent: a call owns none of another bus.

    A block that is left while a request in it is under way, because it returned the
    SDK's stream for example, takes no more requests, and ends as the last of them
    does: a call is over when its response is.

    Args:
        bus: Where to emit.
        prefix: The operation, ``"llm.chat"``.
        scoped: Whether it stands for a block.
        texts: How many texts an embedding call was given.
    """

    __slots__ = ("_inner", "_left", "_owner", "_reading", "_under_way")

    def __init__(
        self, bus: Bus, prefix: Name, *, scoped: bool, texts: int | None = None
    ) -> None:
        super().__init__(bus, prefix, scoped=scoped)
        self._owner: Call | None = None
        self._reading = Reading(texts=texts)
        self._inner: list[Reading] = []
        self._under_way: set[Call] = set()
        self._left = False

    def record(self, response: object) -> None:
        """Read usage and other facts from what the provider sent.

        Understands chat completions, their stream chunks and embeddings of OpenAI
        and compatible providers, as SDK objects or decoded JSON. For a stream, give
        it every chunk, or use `observe`; the last usage stated wins. Of anything
        else nothing is read. Never raises.
        """
        if not self._is_wanted():
            return
        try:
            self._reading.read(response)
        except Exception:  # noqa: BLE001  # attributes of foreign objects run foreign code
            self.refuse_value()

    def usage(self, **tokens: int | None) -> None:
        """State what the call used, where no response says it.

        Args:
            tokens: Fields of `llmevents.llm.Usage`: ``input_tokens=1000``. The last
                value of a field wins, None states nothing. Values that are no
                counts are dropped and counted like any measurement.

        Raises:
            TypeError: A field is unknown.
        """
        Usage(**tokens)
        if not self._is_wanted():
            return
        stated: dict[str, int] = {}
        for field, given in tokens.items():
            count = as_count(given)
            if count is not None:
                stated[field] = count
            elif given is not None:
                self.refuse_value()
        if stated:
            self._reading.usage = replace(self._reading.usage or Usage(), **stated)

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

    def begin(self, metadata: Metadata | None) -> None:
        """Emit the start event: that of a request where a call is open around it."""
        owner = self._find_owner()
        if owner is not None:
            self._owner = owner
            self._names = self._bus.span_names(REQUEST_PREFIX)
            # Where nobody listens to requests, what is inside belongs to the owner.
            self.span_id = owner.span_id
            self.call = self
        super().begin(metadata)
        if owner is not None:
            owner._under_way.add(self)  # noqa: SLF001  # one of us

    def leave(self, error: BaseException | None) -> None:
        """End as the block was left, or as the last request that is under way."""
        if error is None and self._under_way:
            self._left = True
            # Looked at again: it may have ended meanwhile without seeing the mark.
            if self._under_way:
                return
        super().leave(error)

    def stream_ended(self, error: BaseException | None, *, exhausted: bool) -> None:
        """End as any span; usage may still have been to come if it was cut short."""
        if self.is_open:
            self._reading.complete = self._reading.complete and exhausted
        super().stream_ended(error, exhausted=exhausted)

    @property
    def is_open(self) -> bool:
        """As of any span, and also of a request that only the call around it hears."""
        here = self._generation == _forksafe.registry.generation
        return here and self._is_wanted() and not self._ending.locked()

    def _is_wanted(self) -> bool:
        return self._owner is not None or super()._is_wanted()

    def _find_owner(self) -> Call | None:
        """Return the nearest call around this one that takes it as its request."""
        around = current_span.get()
        owner = None if around is None else around.call
        while isinstance(owner, Call):
            if owner._bus is self._bus and owner.is_open and not owner._left:  # noqa: SLF001  # one of us
                return owner
            owner = owner._owner  # noqa: SLF001  # one of us
        return None

    def _join(self, parent: Span | None, names: SpanNames) -> SpanNames | None:
        own = super()._join(parent, names)
        self.call = self
        return own

    def _end(
        self,
        status: Status,
        measurements: Measurements | None,
        metadata: Metadata | None,
        *,
        error: BaseException | None = None,
        kind: str = "",
    ) -> None:
        try:
            super()._end(status, measurements, metadata, error=error, kind=kind)
        finally:
            # A concluded call has let go of itself; an end that came in a forked
            # child has not concluded anything.
            if self._owner is not None and self.call is not self:
                self._owner._request_ended(self, status, error)  # noqa: SLF001  # one of us

    def _request_ended(
        self, request: Call, status: Status, error: BaseException | None
    ) -> None:
        """Note that *request* is over; if the block was waiting for it, so is this."""
        try:
            self._under_way.remove(request)
        except KeyError:
            return
        if not self._left or self._under_way:
            return
        if error is not None:
            self.fail(error)
        elif status == "cancelled":
            self.cancel()
        else:
            self.stop()

    def _conclude(self, status: Status, error: BaseException | None) -> None:
        self._metadata["status"] = _status(status, error)
        # An exception's attributes may be properties that run any code.
        with suppress(Exception):
            http_status = getattr(error, "status_code", None)
            if isinstance(http_status, int):
                self._metadata["http_status"] = int(http_status)
        total = self._total()
        if self._owner is None:
            self._state(total)
        else:
            self._owner._inner.append(total)  # noqa: SLF001  # one of us
        # A reference to itself would keep it until the next garbage collection.
        self.call = self._owner

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
        self.annotate(**reading.facts)
        if self._names is not None and self._names.prefix == EMBEDDING_PREFIX:
            self.measure(**reading.vectors())
        if reading.usage is not None:
            self.measure(**reading.usage.measurements())
        if reading.usage is not None or not reading.complete:
            self._metadata["usage_complete"] = reading.complete
        if reading.finish_reasons:
            self._metadata["finish_reasons"] = [
                reason for _, reason in sorted(reading.finish_reasons.items())
            ]


def _status(status: Status, error: BaseException | None) -> Status:
    if status != "error" or error is None:
        return status
    timed_out = isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
    return "timeout" if timed_out else "error"
