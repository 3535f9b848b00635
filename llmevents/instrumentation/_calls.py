"""What the SDKs have in common: a method that makes a call, wrapped.

Each SDK's module says which methods it has, as data (`Method`), and for each which
facts the parameters state and what becomes of the result. How a call begins and
ends is said here, once for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from llmevents import _carriers
from llmevents._context import current_span, take_in, take_out
from llmevents.instrumentation._http import (
    NO_CLIENT,
    Attempts,
    nobody_hears_attempts,
)
from llmevents.instrumentation._streams import AsyncStreamProxy, StreamProxy
from llmevents.llm import Call


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.instrumentation._patching import Wrapper

T = TypeVar("T")

Facts: TypeAlias = dict[str, object]

Parameters: TypeAlias = Mapping[str, Any]


def record(result: Any, call: Call, _asked: Parameters) -> Any:
    """Read a finished response, end the call, and return the response untouched."""
    call.record(result)
    call.stop()
    return result


def stream(result: Any, call: Call, _asked: Parameters) -> Any:
    """Return a stream that ends the call; anything else is a finished response."""
    if isinstance(result, AsyncIterator):
        return AsyncStreamProxy(result, call)
    if isinstance(result, Iterator):
        return StreamProxy(result, call)
    return record(result, call, _asked)


def no_texts(_asked: Parameters) -> int | None:
    """An operation that embeds nothing."""
    return None


def any_client(_instance: Any) -> object:
    """An SDK of which it is not known by which HTTP client it sends."""
    return None


def as_given(asked: Parameters) -> Parameters:
    """Send what the caller has given."""
    return asked


def ignore(_error: BaseException, _call: Call, _facts: Facts) -> None:
    """An error that says nothing beyond what every error does."""


@dataclass(frozen=True, slots=True)
class Method:
    """One operation of an SDK, whatever its methods are called.

    Attributes:
        prefix: Of its events: ``"llm.chat"``.
        facts: ``facts(instance, parameters)`` gives the start event's metadata,
            ``operation``, ``provider`` and ``model`` among it; never content. The
            parameters are the keyword arguments. What it raises is a refused value.
        deliver: ``deliver(result, call, parameters)`` returns what the caller gets,
            and ends the call: now, or when a stream has been read.
        failed: ``failed(error, call, facts)`` is told of an error before the call
            ends with it.
        texts: ``texts(parameters)`` says how many texts an embedding is asked for.
        positional: The names of parameters that may be given by position.
        sends: Whether attempts on the wire are seen, and are the requests then. The
            SDK's module calls `llmevents.instrumentation._http.patch` for that.
        client: ``client(instance)`` returns the HTTP client that the SDK sends by.
            What other clients send while the method runs, to renew credentials for
            example, is no attempt then. None: whatever is sent is one.
        prepare: ``prepare(parameters)`` returns the keyword arguments to send; a new
            mapping where they are not those given. Used where the caller has asked
            us to add something.
    """

    prefix: str
    facts: Callable[[Any, Parameters], Facts]
    deliver: Callable[[Any, Call, Parameters], Any] = record
    failed: Callable[[BaseException, Call, Facts], None] = ignore
    texts: Callable[[Parameters], int | None] = no_texts
    positional: tuple[str, ...] = ()
    sends: bool = False
    client: Callable[[Any], object] = any_client
    prepare: Callable[[Parameters], Parameters] = as_given


def wrap(method: Method, bus: Bus, kind: type[Request] | None = None) -> Wrapper:
    """Return what goes around a function that makes such a call.

    Args:
        method: The operation.
        bus: Where to emit.
        kind: Of the request; `Request` unless given.
    """
    make = kind or Request

    def calling(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if nobody_listens(method, bus):
            return wrapped(*args, **kwargs)
        request = make(method, bus, instance, args, kwargs)
        try:
            request.begin()
            result = wrapped(*args, **method.prepare(kwargs))
        except BaseException as error:
            request.failed(error)
            raise
        finally:
            request.left()
        return request.deliver(result)

    return calling


def wrap_async(method: Method, bus: Bus, kind: type[Request] | None = None) -> Wrapper:
    """Return what goes around a coroutine function that makes such a call; see `wrap`."""
    make = kind or Request

    def calling(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if nobody_listens(method, bus):
            return wrapped(*args, **kwargs)
        return awaited(wrapped, instance, args, kwargs)

    # Nothing has happened before it is awaited, and possibly nothing ever does.
    async def awaited(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        request = make(method, bus, instance, args, kwargs)
        try:
            request.begin()
            result = await wrapped(*args, **method.prepare(kwargs))
        except BaseException as error:
            request.failed(error)
            raise
        finally:
            request.left()
        return request.deliver(result)

    return calling


def nobody_listens(method: Method, bus: Bus) -> bool:
    """Whether no handler, and no call around this one, would learn of it."""
    return (
        bus.is_quiet(method.prefix)
        and current_span.get() is None
        and nobody_hears_attempts(bus)
    )


class Request:
    """One call of an SDK's method on its way; current in its context until it is left."""

    __slots__ = (
        "_asked",
        "_attempts",
        "_bus",
        "_carried",
        "_facts",
        "_method",
        "call",
    )

    def __init__(
        self,
        method: Method,
        bus: Bus,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Parameters,
    ) -> None:
        self._method = method
        self._bus = bus
        self._carried: _carriers.Entered | None = None
        self._asked: Parameters = kwargs
        if args:
            named = zip(method.positional, args, strict=False)
            self._asked = {**dict(named), **kwargs}
        self.call = Call(
            bus,
            method.prefix,
            scoped=False,
            texts=self._of(method.texts, self._asked),
            sends=method.sends,
        )
        try:
            self._facts = method.facts(instance, self._asked)
        except Exception:  # noqa: BLE001  # parameters are foreign objects
            self.call.refuse_value()
            self._facts = {}
        client = self._of(method.client, instance) if method.sends else NO_CLIENT
        self._attempts = Attempts(bus, self.call, self._facts, client)

    def _of(self, read: Callable[[Any], T], source: Any) -> T | None:
        try:
            return read(source)
        except Exception:  # noqa: BLE001  # parameters are foreign objects
            return None

    def begin(self) -> None:
        """Emit the start event, and be what calls and attempts inside belong to."""
        call = self.call
        call.begin(self._facts)
        if call.is_open:
            take_in(current_span, call)
            self._carried = _carriers.enter(self._bus, call.span_id)
        self._attempts.enter()

    def enter(self) -> None:
        """Let what is sent belong to the call again, at the first step of a lazy one."""
        if self.call.is_open:
            self._carried = _carriers.enter(self._bus, self.call.span_id)
        self._attempts.enter()

    def leave(self) -> None:
        """Undo `enter`: nothing more is sent."""
        self._attempts.leave()
        self._put_down()

    def left(self) -> None:
        """Be current no longer: the SDK has returned, or raised."""
        self.leave()
        take_out(current_span, self.call)

    def _put_down(self) -> None:
        carried, self._carried = self._carried, None
        if carried:
            _carriers.leave(self._bus, carried)

    def failed(self, error: BaseException) -> None:
        """End the call with *error*."""
        try:
            self.refused(error)
            self.call.record(self._attempts.paid_for())
            self._method.failed(error, self.call, self._facts)
        finally:
            self.call.leave(error)

    def refused(self, error: BaseException) -> None:
        """Note what *error* says of a refusal, where its attempt was not seen."""
        self._attempts.ended(error)

    def deliver(self, result: Any) -> Any:
        """Return what the caller gets, and end the call now or when it is read."""
        try:
            return self._method.deliver(result, self.call, self._asked)
        except Exception:  # noqa: BLE001  # reading a response must not cost the caller it
            self.call.refuse_value()
            self.call.stop()
            return result
