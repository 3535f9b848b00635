"""Calls within calls: who owns the logical call, and what becomes of the others."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from llmevents import _forksafe
from llmevents._context import current_span
from llmevents._span import Span
from llmevents.llm._response import Reading


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._span import Status
    from llmevents._table import SpanNames
    from llmevents._types import Measurements, Metadata, Name

REQUEST_PREFIX = "llm.provider.request"
"""What a call becomes that is part of another one."""

ADOPTED = ("provider", "model", "stream")
"""Metadata that a call takes from its first request where it has none of its own."""


class Layer(Span):
    """A span that is a logical call, or one layer of the call that is open around it.

    Args:
        bus: Where to emit.
        prefix: The operation, ``"llm.chat"``.
        scoped: Whether it stands for a block.
        sends: Whether its attempts on the wire emit ``llm.provider.request`` by
            themselves. Then it is silent within another call: one attempt, one
            request.
    """

    current_in_steps = True

    __slots__ = (
        "_asked",
        "_chunk_count",
        "_count_first",
        "_inner",
        "_inner_chunks",
        "_left",
        "_owner",
        "_sends",
        "_under_way",
    )

    def __init__(
        self, bus: Bus, prefix: Name, *, scoped: bool, sends: bool = False
    ) -> None:
        super().__init__(bus, prefix, scoped=scoped)
        self._owner: Layer | None = None
        self._asked: Metadata | None = None
        self._sends = sends
        self._inner: list[Reading] = []
        self._inner_chunks = 0
        self._chunk_count: int | None = None
        self._count_first = itertools.count().__next__
        self._under_way: set[Layer] = set()
        self._left = False

    def begin(self, metadata: Metadata | None, *, ago: int = 0) -> None:
        """Emit the start event: that of a request where a call is open around it."""
        owner = self._find_owner()
        self._asked = metadata
        if owner is not None:
            self._owner = owner
            self._names = None if self._sends else self._bus.span_names(REQUEST_PREFIX)
            # Where nobody listens to requests, what is inside belongs to the owner.
            self.span_id = owner.span_id
            self.call = self
        super().begin(metadata, ago=ago)
        if owner is not None:
            owner._under_way.add(self)  # noqa: SLF001  # one of us

    def first_chunk(self) -> None:
        """Note that the first part of the answer has come; `iterate` does so itself.

        Emits ``llm.chat.first_chunk`` and sets ``time_to_first_chunk``, once.
        """
        if self.is_open:
            self._first_chunk(self._names)

    def leave(self, error: BaseException | None) -> None:
        """End as the block was left, or as the last request that is under way."""
        if error is None and self._under_way:
            self._left = True
            # Looked at again: it may have ended meanwhile without seeing the mark.
            if self._under_way:
                return
        super().leave(error)

    def stream_ended(self, error: BaseException | None, *, exhausted: bool) -> None:
        """End as any span; where a request is under way in a dropped stream, with it.

        A stream that is dropped comes to its end before the streams that it reads,
        and these know what has been used.
        """
        dropped = not exhausted and (error is None or isinstance(error, GeneratorExit))
        if dropped and not self.scoped and self._under_way:
            self._left = True
            # Looked at again: see leave().
            if self._under_way:
                return
        super().stream_ended(error, exhausted=exhausted)

    @property
    def is_open(self) -> bool:
        """As of any span, and also of a request that only the call around it hears."""
        here = self._generation == _forksafe.registry.generation
        return here and self._is_wanted() and not self._ending.locked()

    def _is_wanted(self) -> bool:
        return self._owner is not None or super()._is_wanted()

    def _find_owner(self) -> Layer | None:
        """Return the nearest call around this one that takes it as its request."""
        around = current_span.get()
        owner = None if around is None else around.call
        while isinstance(owner, Layer):
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
        self, request: Layer, status: Status, error: BaseException | None
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

    def _take(self, request: Layer, reading: Reading) -> None:
        """Take over what *request* has read, and whom it asked if that is not known."""
        self._inner.append(reading)
        if not request.is_open:
            self._inner_chunks += request._chunks()
        missing = {
            key: value
            for key, value in (request._asked or {}).items()
            if key in ADOPTED and key not in self._metadata
        }
        if missing:
            self.annotate(**missing)

    def _first_chunk(self, names: SpanNames | None) -> None:
        if self._count_first():
            return
        super()._first_chunk(names)
        if self._owner is not None:
            self._owner.first_chunk()

    def _chunks(self) -> int:
        """Those of its own stream; if it read none, those of the requests within it."""
        if self._chunk_count is None:
            self._chunk_count = super()._chunks() or self._inner_chunks
        return self._chunk_count
