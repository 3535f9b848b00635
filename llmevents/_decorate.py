"""A span around each call of a function, whichever of the four kinds it is."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmevents._context import Enclave, current_span, when_lost
from llmevents._errors import DecoratorError
from llmevents._names import parse_name
from llmevents._span import kind_of
from llmevents._switch import disabled


if TYPE_CHECKING:
    from types import AsyncGeneratorType, GeneratorType

    from llmevents._bus import Bus
    from llmevents._scope import Scope
    from llmevents._span import Span
    from llmevents._types import Name

# What is decorated keeps its type; inside, any signature must do.
AnyFunction = Callable[..., Any]
F = TypeVar("F", bound=AnyFunction)


def decorate(
    function: F,
    bus: Bus,
    prefix: Name,
    again: Callable[[], Scope[Any]],
    *,
    always: bool = False,
) -> F:
    """Return *function* with a span of *again* around each call.

    It stays what `inspect` says it is: a coroutine function remains one, and so on.
    While nobody listens, a call costs one set look-up more than a plain wrapper.
    For that its own call must not run anything: wrong arguments are a TypeError when
    a coroutine is awaited and when a generator is asked for its first item.

    Args:
        function: What to decorate.
        bus: Where the span is emitted.
        prefix: The span's.
        again: Makes the scope of one call.
        always: Enter the scope even if nobody listens.

    Raises:
        DecoratorError: *function* is a class, a static or class method, or not
            callable at all.
        EventNameError: *prefix* is malformed.
    """
    parse_name(prefix)
    _check(function)
    if disabled():
        return function
    if _is(inspect.isasyncgenfunction, function):
        wrapper = _around_async_generator(function, again)
    elif _is(inspect.iscoroutinefunction, function):
        wrapper = _around_coroutine(function, again)
    elif _is(inspect.isgeneratorfunction, function):
        wrapper = _around_generator(function, again)
    else:
        wrapper = _around_function(function, bus, None if always else prefix, again)
    return cast("F", wrapper)


def _check(function: object) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        reason = f"is a {kind}; put the span decorator below @{kind}"
        raise DecoratorError(function, reason)
    if isinstance(function, type):
        raise DecoratorError(function, "is a class; decorate its methods instead")
    if not callable(function):
        raise DecoratorError(function, "is not callable; decorate a function")


def _is(kind: Callable[[object], bool], function: AnyFunction) -> bool:
    """Whether a call runs a function of this *kind*; of an object, its ``__call__``."""
    return kind(function) or kind(type(function).__call__)


def _around_function(
    function: AnyFunction,
    bus: Bus,
    prefix: Name | None,
    again: Callable[[], Scope[Any]],
) -> AnyFunction:
    @wraps(function)
    def run(*args: object, **kwargs: object) -> object:
        # Within another span it may be part of a call that somebody listens to.
        if prefix in bus.quiet and current_span.get() is None:
            return function(*args, **kwargs)
        with again() as started:
            result = function(*args, **kwargs)
            started.returned(result)
            return result

    return run


def _around_coroutine(
    function: Callable[..., Coroutine[Any, Any, Any]], again: Callable[[], Scope[Any]]
) -> AnyFunction:
    @wraps(function)
    async def run(*args: object, **kwargs: object) -> object:
        with again() as started:
            result = await function(*args, **kwargs)
            started.returned(result)
            return result

    return run


def _around_generator(
    function: Callable[..., GeneratorType[Any, Any, Any]],
    again: Callable[[], Scope[Any]],
) -> AnyFunction:
    @wraps(function)
    def run(*args: object, **kwargs: object) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        started, enclave = _begin(again)
        step: Callable[[], Any] = generator.__next__
        closing = False
        try:
            while True:
                with enclave:
                    item = step()
                    started.returned(item)
                    started.chunk()
                try:
                    sent = yield item
                except BaseException as error:  # noqa: BLE001  # the generator's to deal with
                    closing = isinstance(error, GeneratorExit)
                    step = partial(generator.throw, error)
                else:
                    step = partial(generator.send, sent)
        except StopIteration as ended:
            enclave.run(started.cancel if closing else started.stop)
            return ended.value
        except BaseException as error:
            enclave.run(partial(started.leave, error))
            raise
        finally:
            # It may hold the error whose traceback holds this frame.
            del step
            # Unless it was a handler that raised, it has been run to its end.
            if generator.gi_frame is not None:
                enclave.run(generator.close)

    return run


def _around_async_generator(
    function: Callable[..., AsyncGeneratorType[Any, Any]],
    again: Callable[[], Scope[Any]],
) -> AnyFunction:
    @wraps(function)
    async def run(*args: object, **kwargs: object) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        started, enclave = _begin(again)
        step: Callable[[], Awaitable[Any]] = partial(_first_step, generator)
        thrown: BaseException | None = None
        try:
            while True:
                with enclave:
                    item = await step()
                    started.returned(item)
                    started.chunk()
                try:
                    sent = yield item
                except BaseException as error:  # noqa: BLE001  # the generator's to deal with
                    thrown = error
                    step = partial(generator.athrow, error)
                else:
                    thrown = None
                    step = partial(generator.asend, sent)
        except StopAsyncIteration:
            closing = isinstance(thrown, GeneratorExit)
            enclave.run(started.cancel if closing else started.stop)
        except BaseException as error:
            if error is thrown and kind_of(error) == "cancelled":
                # Nobody was waiting for an item: its consumer was cancelled, or the
                # task that closes what was left behind.
                enclave.run(started.cancel)
            else:
                enclave.run(partial(started.leave, error))
            raise
        finally:
            # They may hold the error whose traceback holds this frame.
            del step, thrown
            # Unless it was a handler that raised, it has been run to its end.
            if generator.ag_frame is not None:
                with enclave:
                    await generator.aclose()

    return run


def _begin(again: Callable[[], Scope[Any]]) -> tuple[Span, Enclave]:
    """Start the span of a generator, and make the enclave that it runs in.

    The frame of the generator holds the enclave. If it is dropped without being run
    to its end, as happens at exit and when an event loop is closed, the span ends
    with it.
    """
    started = again().handle()
    enclave = Enclave(started)
    if started._is_wanted():  # noqa: SLF001  # cheap, and nobody else's business
        when_lost(enclave, started, started.cancel)
    return started, enclave


def _first_step(generator: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Ask for the first item, behind the back of the event loop.

    At its end a loop closes all generators that it saw begin, at the same time. The
    one around this one closes it, and two who do so are an error. Where the loop
    forgets the one around it, this one is forgotten too.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None, finalizer=_forget)
    try:
        return generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _forget(generator: AsyncGenerator[Any, Any]) -> None:
    """Let a generator go as it is, half-way."""
