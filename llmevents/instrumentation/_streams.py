"""The streams and raw responses of an SDK, passed through as what they are.

A proxy lets `isinstance` and every attribute reach the SDK's own object; only the few
methods that open a body or end it are watched.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias

from llmevents._context import when_lost


if TYPE_CHECKING:
    from typing_extensions import Self

    from llmevents._stream import ObservedAsyncIterator, ObservedIterator
    from llmevents.llm import Call


class Proxy:
    """Stands for an object of the SDK, and has the special methods that this one has.

    `wrapt.ObjectProxy` will not do: it is a number and a container to Python whatever
    it stands for, so that ``chunks += stream`` fails, which without us does not.
    """

    __slots__ = ("__weakref__", "_self_sdks")

    def __init__(self, sdks: Any) -> None:
        object.__setattr__(self, "_self_sdks", sdks)

    # What `isinstance` looks at beside the type.
    @property  # type: ignore[misc]  # mypy: a proxy is of its own class
    def __class__(self) -> Any:
        return type(self._self_sdks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._self_sdks, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_self_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._self_sdks, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._self_sdks, name)

    def __dir__(self) -> Iterable[str]:
        return dir(self._self_sdks)

    def __repr__(self) -> str:
        return repr(self._self_sdks)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._self_sdks.__reduce_ex__(protocol)


class StreamProxy(Proxy):
    """A synchronous stream of chunks.

    Args:
        stream: The SDK's.
        call: Ends with it.
        on_chunk: Called with each chunk; `Call.record` unless given.
        shown: What the caller gets of the stream; all of it unless given.
    """

    __slots__ = ("_self_chunks",)

    def __init__(
        self,
        stream: Iterable[object],
        call: Call,
        on_chunk: Callable[[Any], object] | None = None,
        *,
        shown: Iterable[object] | None = None,
    ) -> None:
        super().__init__(stream)
        items = stream if shown is None else shown
        self._self_chunks = call.iterate(items, on_chunk or call.record)

    def __iter__(self) -> ObservedIterator[object]:
        return self._self_chunks

    def __next__(self) -> object:
        return next(self._self_chunks)

    def __enter__(self) -> Self:
        self._self_sdks.__enter__()
        return self

    def __exit__(self, *exception: object) -> Any:
        try:
            return self._self_sdks.__exit__(*exception)
        finally:
            self._self_chunks._ended()  # noqa: SLF001  # see close()

    def close(self) -> Any:
        """Close as the SDK does, then end the call.

        The SDK closes the response and leaves its generators alone, so that another
        thread may close what is being read. So does this.
        """
        try:
            return self._self_sdks.close()
        finally:
            self._self_chunks._ended()  # noqa: SLF001  # its close() would close generators


class AsyncStreamProxy(Proxy):
    """An asynchronous stream of chunks; see `StreamProxy`."""

    __slots__ = ("_self_chunks",)

    def __init__(
        self,
        stream: AsyncIterable[object],
        call: Call,
        on_chunk: Callable[[Any], object] | None = None,
        *,
        shown: AsyncIterable[object] | None = None,
    ) -> None:
        super().__init__(stream)
        items = stream if shown is None else shown
        self._self_chunks = call.iterate(items, on_chunk or call.record)

    def __aiter__(self) -> ObservedAsyncIterator[object]:
        return self._self_chunks

    async def __anext__(self) -> object:
        return await anext(self._self_chunks)

    async def __aenter__(self) -> Self:
        await self._self_sdks.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> Any:
        try:
            return await self._self_sdks.__aexit__(*exception)
        finally:
            self._self_chunks._ended()  # noqa: SLF001  # see StreamProxy.close()

    async def close(self) -> Any:
        """Close as the SDK does, then end the call; see `StreamProxy.close`."""
        try:
            return await self._self_sdks.close()
        finally:
            self._self_chunks._ended()  # noqa: SLF001  # see StreamProxy.close()

    @property
    def aclose(self) -> Callable[[], Awaitable[Any]]:
        """The SDK's other name for `close`; openai 2 has none.

        Raises:
            AttributeError: The SDK's stream has none.
        """
        _ = self._self_sdks.aclose
        return self.close


Streams: TypeAlias = tuple[type[Any], type[Any]]
"""An SDK's classes of streams: the synchronous one and the asynchronous one."""

Shown: TypeAlias = Callable[[Any, "Call"], Any] | None
"""What gives the items of a stream that the caller sees; None for all of them."""

SHOWN_WHOLE: tuple[Shown, Shown] = (None, None)


def watch_stream(
    result: Any,
    call: Call,
    streams: Streams,
    shown: tuple[Shown, Shown] = SHOWN_WHOLE,
) -> Any:
    """Return *result* as a stream that ends *call*, or None if it is no stream.

    Args:
        result: What the SDK gave.
        call: Ends with the stream.
        streams: The classes to look for.
        shown: What the caller sees of each kind.
    """
    for kind, proxy, show in zip(
        streams, (StreamProxy, AsyncStreamProxy), shown, strict=True
    ):
        if isinstance(result, kind):
            items = None if show is None else show(result, call)
            return proxy(result, call, shown=items)
    return None


class RawResponseProxy(Proxy):
    """A response whose body the caller has yet to read.

    The call ends when the caller parses the body, with what it says; when the
    response is closed, with what was read by then; or when it is dropped.
    """

    __slots__ = ("_self_call", "_self_dropped", "_self_parsed", "_self_watch")

    def __init__(
        self, response: object, call: Call, watch: Callable[[Any, Call], Any]
    ) -> None:
        super().__init__(response)
        self._self_call = call
        self._self_watch = watch
        self._self_parsed: dict[int, Any] = {}
        self._self_dropped = when_lost(
            self, call, partial(call.stream_ended, None, exhausted=False)
        )

    # The SDK's own signatures: what is parsed and how depends on its version.
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        """Parse as the SDK does; a stream comes back watched."""
        try:
            parsed = self._self_sdks.parse(*args, **kwargs)
        except BaseException as error:
            self._self_call.leave(error)
            raise
        as_asked = bool(args or kwargs)
        if isawaitable(parsed):
            return self._self_await(parsed, as_asked=as_asked)
        return self._self_got(parsed, as_asked=as_asked)

    @property
    def close(self) -> Callable[[], Any]:
        """Close as the SDK does, then end the call.

        Raises:
            AttributeError: The SDK's response cannot be closed.
        """
        return partial(self._self_close, self._self_sdks.close)

    async def _self_await(self, parsing: Awaitable[Any], *, as_asked: bool) -> Any:
        try:
            parsed = await parsing
        except BaseException as error:
            self._self_call.leave(error)
            raise
        return self._self_got(parsed, as_asked=as_asked)

    def _self_got(self, parsed: Any, *, as_asked: bool) -> Any:
        """Return what was parsed, watched if it is a stream; the same for the same."""
        key = id(parsed)
        if key not in self._self_parsed:
            # From here on the stream's end is the call's, or it ends right now.
            self._self_dropped.detach()
            watched = self._self_watch(parsed, self._self_call)
            if watched is None:
                # Of the caller's own type, which need not have the usage.
                if as_asked:
                    self._self_read_body()
                self._self_call.record(parsed)
                self._self_call.stop()
            self._self_parsed[key] = parsed if watched is None else watched
        return self._self_parsed[key]

    def _self_close(self, close: Callable[[], Any]) -> Any:
        was_read = bool(getattr(self._self_sdks.http_response, "is_closed", True))
        try:
            closing = close()
        except BaseException:
            self._self_closed(was_read=was_read)
            raise
        if isawaitable(closing):
            return self._self_await_closed(closing, was_read=was_read)
        self._self_closed(was_read=was_read)
        return closing

    async def _self_await_closed(
        self, closing: Awaitable[Any], *, was_read: bool
    ) -> Any:
        try:
            return await closing
        finally:
            self._self_closed(was_read=was_read)

    def _self_closed(self, *, was_read: bool) -> None:
        self._self_dropped.detach()
        if was_read and not self._self_parsed:
            self._self_read_body()
            self._self_call.stop()
        else:
            self._self_call.stream_ended(None, exhausted=False)

    def _self_read_body(self) -> None:
        # The body cannot be had where nobody has kept it, and then nobody may; which
        # exception says so depends on the HTTP library under the SDK.
        with suppress(Exception):
            self._self_call.record(self._self_sdks.http_response.content)
