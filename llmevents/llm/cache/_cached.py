"""A cache in front of a function or coroutine function."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Iterator,
    MutableMapping,
)
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmevents._errors import OptionError
from llmevents.llm.cache._events import ABSENT
from llmevents.llm.cache._flights import (
    Flight,
    Flights,
    Leading,
    landing,
    running_loop,
    task_flight,
    thread_flight,
)
from llmevents.llm.cache._observed import ObservedCache


if TYPE_CHECKING:
    from llmevents._bus import Bus

# A decorator gives back what it was given, whatever its signature.
F = TypeVar("F", bound=Callable[..., Any])

READ_ONCE = (Iterator, AsyncIterator, Awaitable)
"""What can be read but once, and so not be shared with the next caller."""


class cached:  # noqa: N801  # a decorator, like functools.cache
    """Answer calls of a function or coroutine function from a cache.

    Each call is one ``llm.cache.hit`` or one ``llm.cache.miss``, and each miss that
    ends well is one ``llm.cache.put``. On a hit the function is not called: put this
    *above* `llmevents.llm.chat`, or around a call of an instrumented SDK, and an
    answer from the cache emits no call and costs nothing.

    Callers who want the same answer at the same time wait for the first of them, and
    their calls are hits. What the function raises is not stored; those who waited for
    it then call the function themselves, all at once. If the first one is cancelled,
    the next one takes its place. Threads wait for threads, and coroutines for
    coroutines of the same asyncio event loop; what others put meanwhile is kept.

    Iterators, streams and awaitables that a function returns are passed on, and not
    stored. A cached answer is the same object for everybody.

    Args:
        cache: An `ObservedCache`, or any mapping that one is to be made of.
        key: Makes the key of the function's arguments; it must be hashable. By
            default the function's name and all its arguments.
        name: The cache's name if *cache* is a mapping; by default the function's.
        bus: Where to emit, if *cache* is a mapping.
        single_flight: Whether callers wait for one another.

    Raises:
        OptionError: What is decorated is no function, or a generator function, or
            an option beside an `ObservedCache` would have no effect.

    Examples:
        >>> from llmevents import llm
        >>> from llmevents.llm.cache import cached
        >>> from llmevents.testing import capture
        >>> @cached({}, name="answers")
        ... @llm.chat(provider="acme", model="tiny-1")
        ... def ask(question):
        ...     return {"choices": [], "usage": {"prompt_tokens": 12}}
        >>> with capture("llm.cache.*", "llm.chat.stop") as events:
        ...     _ = ask("What is an event bus?"), ask("What is an event bus?")
        >>> events.names()
        ['llm.cache.miss', 'llm.chat.stop', 'llm.cache.put', 'llm.cache.hit']
    """

    __slots__ = ("_bus", "_cache", "_key", "_name", "_single_flight")

    def __init__(
        self,
        cache: MutableMapping[Any, Any],
        *,
        key: Callable[..., Hashable] | None = None,
        name: str | None = None,
        bus: Bus | None = None,
        single_flight: bool = True,
    ) -> None:
        if isinstance(cache, ObservedCache) and not (name is None and bus is None):
            expected = "left out: an ObservedCache has its own name and bus"
            raise OptionError(name if bus is None else bus, "name and bus", expected)
        self._cache = cache
        self._key = key
        self._name = name
        self._bus = bus
        self._single_flight = single_flight

    def __call__(self, function: F, /) -> F:
        """Return *function* with the cache in front of it."""
        import inspect

        if _is_no_function(function):
            expected = (
                "a function or coroutine function; of a generator cache the list of "
                "its items, and of a method put the decorator below @classmethod"
            )
            raise OptionError(function, "what is cached", expected)
        title = str(getattr(function, "__qualname__", type(function).__qualname__))
        cache = self._cache
        if not isinstance(cache, ObservedCache):
            cache = ObservedCache(cache, self._name or title, bus=self._bus)
        module = getattr(function, "__module__", "")
        key = self._key or _default_key(f"{module}.{title}")
        if inspect.iscoroutinefunction(function):
            asked = _Coroutines(cache, single_flight=self._single_flight)

            @wraps(function)
            async def run_coroutine(*args: object, **kwargs: object) -> object:
                return await asked.ask(
                    key(*args, **kwargs), lambda: function(*args, **kwargs)
                )

            return cast("F", run_coroutine)
        called = _Functions(cache, single_flight=self._single_flight)

        @wraps(function)
        def run(*args: object, **kwargs: object) -> object:
            return called.ask(key(*args, **kwargs), lambda: function(*args, **kwargs))

        return cast("F", run)


class _Asked:
    """What functions and coroutine functions have in common."""

    __slots__ = ("_cache", "_flights", "_single_flight")

    def __init__(self, cache: ObservedCache[Any, Any], *, single_flight: bool) -> None:
        self._cache = cache
        self._single_flight = single_flight
        self._flights = Flights()

    def _hit(self, key: Hashable, answer: object) -> object:
        self._cache.note_hit(key, answer)
        return answer

    # Answers are the users' own, of any type.
    def _landed(self, key: Hashable, flight: Flight | None) -> Any:  # noqa: ANN401
        """Return what another leader has put since the first look-up, or `ABSENT`."""
        if flight is None:
            return ABSENT
        flight.answer = answer = self._cache.look_up(key)
        return answer

    def _keep(self, key: Hashable, answer: object, flight: Flight | None) -> None:
        """Store *answer*, and hand it to those who wait for it."""
        if isinstance(answer, READ_ONCE):
            if flight is not None:
                flight.failed = True
            return
        self._cache.put_once(key, answer)
        if flight is not None:
            flight.answer = answer


class _Functions(_Asked):
    """Calls of a function."""

    __slots__ = ()

    def ask(self, key: Hashable, function: Callable[[], object]) -> object:
        """Return the answer to *key*, by calling *function* if need be."""
        answer = self._cache.look_up(key)
        while answer is ABSENT and self._single_flight:
            own = thread_flight()
            flight = self._flights.join(key, own)
            if flight is own:
                with Leading(self._flights, key, own):
                    return self._fetch(key, function, own)
            if flight.leader == own.leader:
                break  # the function calls itself
            flight.landed.wait()
            answer = flight.answer
            if flight.failed:
                break
        if answer is ABSENT:
            return self._fetch(key, function, None)
        return self._hit(key, answer)

    def _fetch(
        self, key: Hashable, function: Callable[[], object], flight: Flight | None
    ) -> object:
        answer = self._landed(key, flight)
        if answer is not ABSENT:
            return self._hit(key, answer)
        self._cache.events.miss(key)
        answer = function()
        self._keep(key, answer, flight)
        return answer


class _Coroutines(_Asked):
    """Calls of a coroutine function."""

    __slots__ = ()

    async def ask(
        self, key: Hashable, function: Callable[[], Awaitable[object]]
    ) -> object:
        """Return the answer to *key*, by awaiting *function* if need be."""
        answer = self._cache.look_up(key)
        loop = running_loop() if self._single_flight else None
        while answer is ABSENT and loop is not None:
            own = task_flight(loop)
            flight = self._flights.join((loop, key), own)
            if flight is own:
                with Leading(self._flights, (loop, key), own):
                    return await self._fetch(key, function, own)
            if flight.leader is own.leader:
                break  # the function awaits itself
            await landing(flight)
            answer = flight.answer
            if flight.failed:
                break
        if answer is ABSENT:
            return await self._fetch(key, function, None)
        return self._hit(key, answer)

    async def _fetch(
        self,
        key: Hashable,
        function: Callable[[], Awaitable[object]],
        flight: Flight | None,
    ) -> object:
        answer = self._landed(key, flight)
        if answer is not ABSENT:
            return self._hit(key, answer)
        self._cache.events.miss(key)
        answer = await function()
        self._keep(key, answer, flight)
        return answer


def _is_no_function(function: object) -> bool:
    """Whether a call of *function* would not give an answer that can be kept."""
    import inspect

    return (
        not callable(function)
        or isinstance(function, (type, staticmethod))
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    )


def _default_key(title: str) -> Callable[..., Hashable]:
    def key(*args: object, **kwargs: object) -> Hashable:
        made = title, args, tuple(sorted(kwargs.items()))
        try:
            hash(made)
        except TypeError as error:
            msg = (
                f"{title} cannot be cached by these arguments ({error}); "
                "pass cached() a function key=, which makes something hashable of them"
            )
            raise TypeError(msg) from error
        return made

    return key
