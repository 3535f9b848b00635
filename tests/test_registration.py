"""What could never work as a handler is refused when it is attached."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from llmevents import Bus, HandlerError, HandlerInfo, LLMEventsError, OptionError
from llmevents._registration import default_id


def four(event: object, measurements: object, metadata: object, config: object) -> None:
    """Stand for a handler."""


def five(
    first: object, event: object, measurements: object, metadata: object, config: object
) -> None:
    """Stand for a handler with one argument too many."""


def with_default(
    event: object, measurements: object, metadata: object, config: object, more: int = 0
) -> None: ...


@functools.wraps(five)
def adapted(
    event: object, measurements: object, metadata: object, config: object
) -> None:
    """Give a function of another shape the shape of a handler."""
    five("first", event, measurements, metadata, config)


class Handlers:
    """Handlers that are no plain functions."""

    def method(self, *call: object) -> None: ...

    @staticmethod
    def of_nothing(*call: object) -> None: ...

    @classmethod
    def of_class(cls, *call: object) -> None: ...

    def __call__(self, *call: object) -> None: ...


class Unreadable(Handlers):
    """Its signature cannot be told."""

    __signature__ = "none"


GOOD = [
    pytest.param(four, id="function"),
    pytest.param(lambda *call: None, id="variadic"),
    pytest.param(with_default, id="with default"),
    pytest.param(adapted, id="adapter made with functools.wraps"),
    pytest.param(functools.partial(five, "first"), id="partial"),
    pytest.param(Handlers().method, id="method"),
    pytest.param(Handlers.of_nothing, id="static method"),
    pytest.param(Handlers.of_class, id="class method"),
    pytest.param(Handlers(), id="callable object"),
    pytest.param(Unreadable(), id="without signature"),
    pytest.param("{} {} {} {}".format, id="built-in"),
    pytest.param(mock.Mock(), id="mock"),
]


@pytest.mark.parametrize("handler", GOOD)
def test_what_takes_four_arguments_is_a_handler(handler: Callable[..., object]) -> None:
    """It is the signature of what is called that counts, not of what that wraps."""
    bus = Bus()
    bus.attach("id", "a.b", handler)
    bus.execute("a.b", {})
    assert bus.stats()["handler_failures"] == 0
    assert bus.list_handlers()[0].handler is handler


async def coroutine(*call: object) -> None: ...


def generator(*call: object) -> Iterator[None]:
    yield


async def async_generator(*call: object) -> AsyncIterator[None]:
    yield


class Coroutine:
    async def __call__(self, *call: object) -> None: ...


class Generator:
    def __call__(self, *call: object) -> Iterator[None]:
        yield


TELL = r"handler\(event, measurements, metadata, config\)"

BAD = [
    pytest.param(None, f"handler None is not callable; .*{TELL}", id="none"),
    pytest.param("print", f"'print' is not callable; .*{TELL}", id="text"),
    pytest.param(
        lambda: None, f"signature .*; the bus calls {TELL}", id="none of four"
    ),
    pytest.param(lambda e, m, d: None, "missing|too many", id="three"),
    pytest.param(five, f"signature .*; the bus calls {TELL}", id="five"),
    pytest.param(functools.partial(four, "bound"), "too many", id="partial of four"),
    pytest.param(lambda *call, more: None, "missing .*more", id="required keyword"),
    pytest.param(coroutine, r"coroutine .*background\(handler\)", id="coroutine"),
    pytest.param(
        functools.partial(coroutine), r"coroutine .*background", id="partial coroutine"
    ),
    pytest.param(Coroutine(), r"coroutine .*background", id="coroutine object"),
    pytest.param(mock.AsyncMock(), r"coroutine .*background", id="coroutine mock"),
    pytest.param(generator, "generator .*attach a plain", id="generator"),
    pytest.param(Generator(), "generator .*attach a plain", id="generator object"),
    pytest.param(async_generator, "generator .*attach a plain", id="async generator"),
]


@pytest.mark.parametrize(("handler", "complaint"), BAD)
def test_what_could_never_work_is_refused_with_the_remedy(
    handler: Any,  # noqa: ANN401  # of any type, that is the point
    complaint: str,
) -> None:
    bus = Bus()
    with pytest.raises(HandlerError, match=complaint) as caught:
        bus.attach("id", "a.b", handler)
    assert caught.value.handler is handler
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, LLMEventsError)
    assert bus.list_handlers() == []


@pytest.mark.parametrize("handler_id", [[], {}, set(), ([],)], ids=repr)
@pytest.mark.parametrize("method", ["attach", "detach"])
def test_an_id_that_cannot_be_hashed_is_refused(
    handler_id: object, method: str
) -> None:
    bus: Any = Bus()
    with pytest.raises(
        HandlerError, match=r"cannot be an id, .*not hashable; use text or a tuple"
    ):
        getattr(bus, method)(handler_id, *(["a.b", four] if method == "attach" else []))
    assert bus.list_handlers() == []


@pytest.mark.parametrize("policy", ["drop", "", None, True, ["keep"], "KEEP"])
def test_an_unknown_failure_policy_is_refused(policy: object) -> None:
    bus: Any = Bus()
    with pytest.raises(
        OptionError, match="on_failure to be 'keep' or 'detach' or 'raise', got"
    ) as caught:
        bus.attach("id", "a.b", four, on_failure=policy)
    assert (caught.value.option, caught.value.value) == ("on_failure", policy)
    assert repr(policy) in str(caught.value)
    assert bus.list_handlers() == []


def test_an_unknown_option_is_refused() -> None:
    bus: Any = Bus()
    with pytest.raises(TypeError, match="on_fail"):
        bus.attach("id", "a.b", four, on_fail="keep")


def test_a_row_of_the_list_shows_what_was_attached() -> None:
    bus = Bus()
    bus.attach("id", ["a.b", "c.*"], four, "config", on_failure="raise")
    assert bus.list_handlers() == [
        HandlerInfo("id", ("a", "b"), four, "config", "raise"),
        HandlerInfo("id", ("c", "*"), four, "config", "raise"),
    ]


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        pytest.param(four, f"{__name__}.four", id="function"),
        pytest.param(Handlers().method, f"{__name__}.Handlers.method", id="method"),
        pytest.param(Handlers(), f"{__name__}.Handlers", id="object"),
        pytest.param(functools.partial(five, 1), "functools.partial", id="partial"),
    ],
)
def test_the_default_id_is_module_and_qualified_name(
    handler: Callable[..., object], expected: str
) -> None:
    assert default_id(handler) == expected


def test_a_coroutine_that_a_handler_returns_is_ignored() -> None:
    """As anything else it returns; only coroutine functions can be told beforehand."""
    bus = Bus()
    made = coroutine()
    bus.attach("id", "a.b", lambda *call: made)
    bus.execute("a.b", {})
    asyncio.run(made)
    assert bus.stats()["handler_failures"] == 0
