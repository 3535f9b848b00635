"""Streams that a span watches: counted, timed, and ended once."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from llmevents._context import current_span, take_in, take_out, when_lost


if TYPE_CHECKING:
    from llmevents._span import Span

T = TypeVar("T")


class _Observed(Generic[T]):
    """What the kinds of stream have in common.

    A stream that nobody finishes has no last line of code to end its span, so a
    finalizer does: when it is garbage collected, or at exit. The finalizer holds
    the span and not the stream.
    """

    def __init__(
        self, span: Span, stream: object, on_chunk: Callable[[T], object] | None
    ) -> None:
        self._span = span
        self._stream = stream
        self._on_chunk = on_chunk
        self._enters = span.current_in_steps and not span.scoped
        span.stream_opened()
        self._abandoned = when_lost(
            self, span, partial(span.stream_ended, None, exhausted=False)
        )

    def _enter(self) -> bool:
        """Let what happens until the next item belong to the span."""
        span = self._span
        return self._enters and span.is_open and take_in(current_span, span)

    def _leave(self, entered: bool) -> None:  # noqa: FBT001  # what _enter returned
        if entered:
            take_out(current_span, self._span)

    def _saw(self, item: T) -> None:
        if self._on_chunk is not None:
            try:
                self._on_chunk(item)
            except Exception:  # noqa: BLE001  # reading usage must not cost the caller its stream
                self._span.refuse_value()
        self._span.chunk()

    def _ended(
        self, error: BaseException | None = None, *, exhausted: bool = False
    ) -> None:
        if self._abandoned.detach() is not None:
            self._span.stream_ended(error, exhausted=exhausted)


class ObservedIterator(_Observed[T], Iterator[T]):
    """A synchronous stream as `Span.iterate` returns it."""

    def __init__(
        self,
        span: Span,
        stream: Iterable[T],
        on_chunk: Callable[[T], object] | None,
    ) -> None:
        self._iterator = iter(stream)
        super().__init__(span, stream, on_chunk)

    def __next__(self) -> T:
        entered = self._enter()
        try:
            item = next(self._iterator)
        except StopIteration:
            self._leave(entered)
            self._ended(exhausted=True)
            raise
        except BaseException as error:
            self._leave(entered)
            self._ended(error)
            raise
        self._leave(entered)
        self._saw(item)
        return item

    def close(self) -> None:
        """Close the stream, if it can be closed, and end the span as cancelled."""
        try:
            for close in _closers(self._iterator, self._stream, "close"):
                close()
        finally:
            self._ended()


class ObservedAsyncIterator(_Observed[T], AsyncIterator[T]):
    """An asynchronous stream as `Span.iterate` returns it."""

    def __init__(
        self,
        span: Span,
        stream: AsyncIterable[T],
        on_chunk: Callable[[T], object] | None,
    ) -> None:
        self._async_iterator = aiter(stream)
        super().__init__(span, stream, on_chunk)

    async def __anext__(self) -> T:
        entered = self._enter()
        try:
            item = await anext(self._async_iterator)
        except StopAsyncIteration:
            self._leave(entered)
            self._ended(exhausted=True)
            raise
        except BaseException as error:
            self._leave(entered)
            self._ended(error)
            raise
        self._leave(entered)
        self._saw(item)
        return item

    async def aclose(self) -> None:
        """Close the stream, if it can be closed, and end the span as cancelled."""
        try:
            for close in _closers(
                self._async_iterator, self._stream, "aclose", "close"
            ):
                closing = close()
                if isawaitable(closing):
                    await closing
        finally:
            self._ended()


class ObservedEither(ObservedIterator[T], ObservedAsyncIterator[T]):
    """A stream of both kinds; its reader's first step decides which it is."""

    def __init__(
        self,
        span: Span,
        stream: AsyncIterable[T],
        on_chunk: Callable[[T], object] | None,
    ) -> None:
        self._iterator = _lazily(cast("Iterable[T]", stream))
        self._async_iterator = _lazily_async(stream)
        _Observed.__init__(self, span, stream, on_chunk)


def _lazily(stream: Iterable[T]) -> Iterator[T]:
    yield from stream


async def _lazily_async(stream: AsyncIterable[T]) -> AsyncIterator[T]:
    async for item in stream:
        yield item


def _closers(
    iterator: object, stream: object, *names: str
) -> Iterator[Callable[[], object]]:
    """Yield what closes the iterator, then what closes the stream that it came from.

    The iterator of an SDK's stream is often a generator, and closing that leaves the
    connection open.
    """
    sources = (iterator,) if iterator is stream else (iterator, stream)
    for source in sources:
        methods = (getattr(source, name, None) for name in names)
        found = next(filter(callable, methods), None)
        if found is not None:
            yield found


def observe(
    span: Span,
    stream: Iterable[T] | AsyncIterable[T],
    on_chunk: Callable[[T], object] | None,
) -> ObservedIterator[T] | ObservedAsyncIterator[T]:
    """Return *stream* as an iterator that reports to *span*.

    A stream that cannot even be begun ends the span with that error.
    """
    try:
        if not isinstance(stream, AsyncIterable):
            return ObservedIterator(span, stream, on_chunk)
        if isinstance(stream, Iterable):
            return ObservedEither(span, stream, on_chunk)
        return ObservedAsyncIterator(span, stream, on_chunk)
    except BaseException as error:
        span.stream_ended(error, exhausted=False)
        raise
