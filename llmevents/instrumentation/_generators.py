"""SDKs whose streams are generators, which send their request at their first step.

Such a function returns at once, and nothing has been sent yet. Its call begins when it
is called all the same: what is ambient there, and whose request it is, is what the
program says there. The attempt on the wire is watched in the first step.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, cast

from llmevents._context import current_span, take_out
from llmevents.instrumentation._calls import Method, Request, wrap, wrap_async
from llmevents.instrumentation._http import sending
from llmevents.instrumentation._streams import Proxy


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from typing_extensions import Self

    from llmevents._bus import Bus
    from llmevents.instrumentation._patching import Wrapper
    from llmevents.llm import Call

    # What is done to a generator, instead of asking for its next item.
    Action = Callable[[], Any]

    # What is told of each item.
    Reader = Callable[[Any], object]


def wrap_lazy(method: Method, bus: Bus, *, reads: bool = True) -> Wrapper:
    """Return what goes around a function that makes a call, or a generator of one.

    Args:
        method: The operation.
        bus: Where to emit.
        reads: Whether to read the generator's items. Not where they come from
            requests within the call that are read themselves.
    """
    return wrap(method, bus, LazyRequest if reads else CountedRequest)


def wrap_lazy_async(method: Method, bus: Bus, *, reads: bool = True) -> Wrapper:
    """Return what goes around a coroutine function that does so; see `wrap_lazy`."""
    return wrap_async(method, bus, LazyRequest if reads else CountedRequest)


class LazyRequest(Request):
    """A call whose attempts on the wire may come after its method has returned."""

    __slots__ = ()

    def left(self) -> None:
        """Be current no longer; attempts are still to come."""
        take_out(sending, self._attempts)
        self._put_down()
        take_out(current_span, self.call)

    def deliver(self, result: Any) -> Any:
        """Return what the caller gets: a generator is watched from its first step on."""
        if isinstance(result, GeneratorType):
            return GeneratorProxy(result, self.call, self._reader(), self)
        if isinstance(result, AsyncGeneratorType):
            return AsyncGeneratorProxy(result, self.call, self._reader(), self)
        self._attempts.leave()
        return super().deliver(result)

    def _reader(self) -> Reader | None:
        return self.call.record


class CountedRequest(LazyRequest):
    """One whose generator's items are counted, and read by requests within it."""

    __slots__ = ()

    def _reader(self) -> Reader | None:
        return None


class _Steps(Iterator[Any]):
    """A generator's items; an action takes the place of asking for the next one."""

    __slots__ = ("_generator", "_request", "action")

    def __init__(self, generator: Generator[Any], request: LazyRequest | None) -> None:
        self._generator = generator
        self._request = request
        self.action: Action | None = None

    def __next__(self) -> Any:
        action, self.action = self.action or self._generator.__next__, None
        request, self._request = self._request, None
        if request is None:
            return action()
        request.enter()
        try:
            return action()
        except Exception as error:
            request.refused(error)
            raise
        finally:
            request.leave()


class GeneratorProxy(Proxy):
    """A generator of chunks; it can do whatever a generator can.

    Args:
        generator: The SDK's.
        call: Ends with it.
        on_chunk: Called with each item.
        request: What its first step sends; None if all has been sent.
    """

    __slots__ = ("_self_chunks", "_self_steps")

    def __init__(
        self,
        generator: Generator[Any],
        call: Call,
        on_chunk: Reader | None,
        request: LazyRequest | None = None,
    ) -> None:
        super().__init__(generator)
        self._self_steps = _Steps(generator, request)
        self._self_chunks = call.iterate(self._self_steps, on_chunk)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._self_chunks)

    def send(self, value: Any) -> Any:
        """Send *value* into the SDK's generator, as its next step."""
        self._self_steps.action = partial(self._self_sdks.send, value)
        return next(self._self_chunks)

    def throw(self, *error: Any) -> Any:
        """Raise *error* in the SDK's generator, as its next step."""
        self._self_steps.action = partial(self._self_sdks.throw, *error)
        return next(self._self_chunks)

    def close(self) -> None:
        """Close the SDK's generator, and end the call unless it cannot be closed now."""
        try:
            self._self_sdks.close()
        finally:
            if self._self_sdks.gi_frame is None:
                self._self_end()

    def _self_end(self) -> None:
        """End the call, unless the generator has come to its end by itself."""
        self._self_chunks._ended()  # noqa: SLF001  # its close() closes the generator too


class _AsyncSteps(AsyncIterator[Any]):
    """An asynchronous generator's items; see `_Steps`."""

    __slots__ = ("_generator", "_request", "action")

    def __init__(
        self, generator: AsyncGenerator[Any], request: LazyRequest | None
    ) -> None:
        self._generator = generator
        self._request = request
        self.action: Action | None = None

    def __anext__(self) -> Awaitable[Any]:
        action, self.action = self.action or self._generator.__anext__, None
        request, self._request = self._request, None
        step = cast("Awaitable[Any]", action())
        return step if request is None else _first_step(step, request)


async def _first_step(step: Awaitable[Any], request: LazyRequest) -> Any:
    request.enter()
    try:
        return await step
    except Exception as error:
        request.refused(error)
        raise
    finally:
        request.leave()


class AsyncGeneratorProxy(Proxy):
    """An asynchronous generator of chunks; see `GeneratorProxy`."""

    __slots__ = ("_self_chunks", "_self_steps")

    def __init__(
        self,
        generator: AsyncGenerator[Any],
        call: Call,
        on_chunk: Reader | None,
        request: LazyRequest | None = None,
    ) -> None:
        super().__init__(generator)
        self._self_steps = _AsyncSteps(generator, request)
        self._self_chunks = call.iterate(self._self_steps, on_chunk)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._self_chunks)

    async def asend(self, value: Any) -> Any:
        """Send *value* into the SDK's generator, as its next step."""
        self._self_steps.action = partial(self._self_sdks.asend, value)
        return await anext(self._self_chunks)

    async def athrow(self, *error: Any) -> Any:
        """Raise *error* in the SDK's generator, as its next step."""
        self._self_steps.action = partial(self._self_sdks.athrow, *error)
        return await anext(self._self_chunks)

    async def aclose(self) -> None:
        """Close the SDK's generator, and end the call unless it cannot be closed now."""
        try:
            await self._self_sdks.aclose()
        finally:
            if self._self_sdks.ag_frame is None:
                self._self_end()

    def _self_end(self) -> None:
        """End the call, unless the generator has come to its end by itself."""
        self._self_chunks._ended()  # noqa: SLF001  # its aclose() closes the generator too
