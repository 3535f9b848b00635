"""Decorated functions of four kinds behave as they did, and have spans."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import sys
import traceback
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmevents import Bus, DecoratorError, EventNameError, span
from llmevents._context import current_span
from llmevents.testing import CapturedEvent, ManualClock, capture
from tests.outcomes import outcomes, until


KINDS: list[Callable[[object], bool]] = [
    inspect.isfunction,
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
]


def add(a: int, b: int = 2, *, c: int = 3) -> int:
    """Add three numbers."""
    return a + b + c


async def add_later(a: int, b: int = 2, *, c: int = 3) -> int:
    """Add three numbers, later."""
    await asyncio.sleep(0)
    return a + b + c


def count(upto: int) -> Generator[int, None, str]:
    """Count."""
    yield from range(upto)
    return "done"


async def count_later(upto: int) -> AsyncGenerator[int, None]:
    """Count, later."""
    for number in range(upto):
        await asyncio.sleep(0)
        yield number


FUNCTIONS: list[Callable[..., Any]] = [add, add_later, count, count_later]


@span("test_decorator.pickled")
def by_name() -> None:
    """Be found in this module."""


# --- It stays what it is ----------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_stays_what_inspect_says_it_is(function: Callable[..., Any]) -> None:
    decorated = span("app.job", bus=Bus())(function)

    assert decorated is not function
    assert [kind(decorated) for kind in KINDS] == [kind(function) for kind in KINDS]
    assert inspect.signature(decorated) == inspect.signature(function)
    assert inspect.unwrap(decorated) is function
    for name in (
        "__name__",
        "__qualname__",
        "__module__",
        "__doc__",
        "__annotations__",
    ):
        assert getattr(decorated, name) == getattr(function, name)


@pytest.mark.parametrize("function", FUNCTIONS[1:])
def test_what_a_call_returns_has_the_name_of_the_function(
    function: Callable[..., Any],
) -> None:
    """Warnings and debuggers show it: "coroutine 'add_later' was never awaited"."""
    running = span("app.job", bus=Bus())(function)(1)

    assert running.__name__ == function.__name__
    assert running.__qualname__ == function.__qualname__
    if inspect.iscoroutine(running):
        running.close()


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_switched_off_it_is_the_very_function(
    function: Callable[..., Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMEVENTS_DISABLED", value)

    assert span("app.job")(function) is function


@pytest.mark.parametrize("value", ["", "0", "false", "no", "off", "2"])
def test_other_values_do_not_switch_it_off(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMEVENTS_DISABLED", value)

    assert span("app.job")(add) is not add


def test_a_decorated_function_of_a_module_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(by_name)) is by_name  # noqa: S301  # our own


class Class:
    @classmethod
    def method(cls) -> None: ...


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param(Class, "is a class; decorate its methods", id="class"),
        pytest.param(int, "is a class; decorate its methods", id="type"),
        pytest.param(staticmethod(add), "below @staticmethod", id="static method"),
        pytest.param(vars(Class)["method"], "below @classmethod", id="class method"),
        pytest.param(property(add), "is not callable", id="property"),
        pytest.param(3, "is not callable; decorate a function", id="number"),
        pytest.param(None, "is not callable", id="None"),
    ],
)
@pytest.mark.parametrize("disabled", ["", "1"])
def test_what_has_no_calls_is_refused(
    target: Any,  # noqa: ANN401  # wrong on purpose
    reason: str,
    disabled: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when switched off: it is the code that is wrong."""
    monkeypatch.setenv("LLMEVENTS_DISABLED", disabled)

    with pytest.raises(DecoratorError, match=reason) as caught:
        span("app.job")(target)

    assert caught.value.target is target
    assert isinstance(caught.value, TypeError)


def test_a_malformed_prefix_is_refused_where_it_is_written() -> None:
    with pytest.raises(EventNameError, match="is not an event name"):
        span("app..job")(add)


# --- Calls ------------------------------------------------------------------------


def test_each_call_of_a_function_is_a_span() -> None:
    bus = Bus()
    decorated = span("app.add", {"a": 1}, bus=bus)(add)

    with capture(bus=bus) as events:
        assert decorated(1) == 6
        assert decorated(1, c=5, b=4) == 10

    assert outcomes(events) == ["stop", "stop"]
    assert [event.metadata["a"] for event in events] == [1] * 4
    assert [event.metadata["scoped"] for event in events] == [True] * 4
    assert len({event.metadata["span_id"] for event in events}) == 2


def test_each_call_of_a_coroutine_function_is_a_span_of_its_run() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)

    @span("app.job", bus=bus)
    async def work(number: int) -> int:
        clock.advance(5)
        await asyncio.sleep(0)
        clock.advance(6)
        return number

    async def main() -> int:
        coroutine = work(7)
        clock.advance(1_000)
        assert events == []
        return await coroutine

    with capture(bus=bus) as events:
        assert asyncio.run(main()) == 7

    assert outcomes(events) == ["stop"]
    assert events[1].measurements["duration"] == 11
    assert events[1].metadata["scoped"] is True


def test_a_span_of_a_generator_lasts_from_its_first_step_to_its_end() -> None:
    clock = ManualClock()
    bus = Bus(clock=clock)

    with capture(bus=bus) as events:
        running = span("app.count", bus=bus)(count)(2)
        clock.advance(1_000)
        assert events == []
        for _ in running:
            clock.advance(3)

    assert events.names() == [
        "app.count.start",
        "app.count.first_chunk",
        "app.count.chunk",
        "app.count.chunk",
        "app.count.stop",
    ]
    stop = events[-1]
    assert stop.measurements == {
        "chunks": 2,
        "time_to_first_chunk": 0,
        "duration": 6,
        "monotonic_time": 1_006,
    }
    assert stop.metadata["scoped"] is False
    assert "status" not in stop.metadata


def test_a_span_of_an_async_generator_does_too() -> None:
    bus = Bus()

    async def main() -> list[int]:
        return [n async for n in span("app.count", bus=bus)(count_later)(3)]

    with capture("app.count.*", bus=bus) as events:
        assert asyncio.run(main()) == [0, 1, 2]

    assert outcomes(events) == ["stop"]
    assert events[-1].measurements["chunks"] == 3


@pytest.mark.parametrize("function", FUNCTIONS[2:])
def test_a_generator_that_is_never_begun_has_no_span(
    function: Callable[..., Any],
) -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        span("app.count", bus=bus)(function)(3)
        gc.collect()

    assert events == []


def test_methods_of_every_sort_are_decorated_below() -> None:
    bus = Bus()

    class Service:
        @span("app.method", bus=bus)
        def method(self, n: int) -> tuple[object, int]:
            return self, n

        @classmethod
        @span("app.class", bus=bus)
        def of_class(cls, n: int) -> tuple[object, int]:
            return cls, n

        @staticmethod
        @span("app.static", bus=bus)
        def static(n: int) -> int:
            return n

    service = Service()
    with capture(bus=bus) as events:
        assert service.method(1) == (service, 1)
        assert service.of_class(2) == (Service, 2)
        assert service.static(3) == 3

    assert [e.event[1] for e in events] == [
        *["method"] * 2,
        *["class"] * 2,
        *["static"] * 2,
    ]


class AsyncCallable:
    async def __call__(self, a: int) -> int:
        await asyncio.sleep(0)
        return a


class GeneratorCallable:
    def __call__(self, a: int) -> Generator[int, None, None]:
        yield a


class AsyncGeneratorCallable:
    async def __call__(self, a: int) -> AsyncGenerator[int, None]:
        yield a


class PlainCallable:
    def __call__(self, a: int) -> int:
        return a


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        pytest.param(PlainCallable(), None, id="object"),
        pytest.param(partial(add, b=1), None, id="partial"),
        pytest.param(max, None, id="built-in"),
        pytest.param(AsyncCallable(), inspect.iscoroutinefunction, id="async object"),
        pytest.param(
            partial(add_later, b=1), inspect.iscoroutinefunction, id="async partial"
        ),
        pytest.param(
            GeneratorCallable(), inspect.isgeneratorfunction, id="generator object"
        ),
        pytest.param(
            partial(count), inspect.isgeneratorfunction, id="generator partial"
        ),
        pytest.param(
            AsyncGeneratorCallable(), inspect.isasyncgenfunction, id="stream object"
        ),
        pytest.param(
            partial(count_later), inspect.isasyncgenfunction, id="stream partial"
        ),
    ],
)
def test_a_callable_object_counts_as_what_its_call_is(
    target: Callable[..., Any], kind: Callable[[object], bool] | None
) -> None:
    """Or the span of a coroutine would be over before the coroutine begins."""
    decorated = span("app.job", bus=Bus())(target)

    kinds = [
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ]
    assert [one(decorated) for one in kinds] == [one is kind for one in kinds]


def test_a_function_may_call_itself() -> None:
    bus = Bus()

    @span("app.fact", bus=bus)
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    with capture("app.fact.start", bus=bus) as events:
        assert factorial(3) == 6

    ids = [event.metadata["span_id"] for event in events]
    assert [event.metadata.get("parent_span_id") for event in events] == [
        None,
        *ids[:3],
    ]


def test_a_handler_that_comes_later_hears_of_the_next_call() -> None:
    bus = Bus()
    decorated = span("app.add", bus=bus)(add)
    assert [decorated(1), decorated(2)] == [6, 7]

    with capture(bus=bus) as events:
        assert decorated(1) == 6
    assert [decorated(1), decorated(2)] == [6, 7]

    assert events.names() == ["app.add.start", "app.add.stop"]


# --- Errors -----------------------------------------------------------------------


def boom() -> None:
    msg = "boom"
    raise ValueError(msg)


async def boom_later() -> None:
    boom()


def boom_stream() -> Generator[int, None, None]:
    yield 1
    boom()


async def boom_stream_later() -> AsyncGenerator[int, None]:
    yield 1
    boom()


def run(function: Callable[..., Any], *args: object) -> object:
    """Call a function of any kind and see it through to its end."""

    async def drain(stream: AsyncGenerator[Any, Any]) -> list[Any]:
        return [item async for item in stream]

    result = function(*args)
    if inspect.isasyncgen(result):
        return asyncio.run(drain(result))
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    return list(result) if inspect.isgenerator(result) else result


BOOMS: list[Callable[..., Any]] = [boom, boom_later, boom_stream, boom_stream_later]


@pytest.mark.parametrize("function", BOOMS)
def test_an_error_comes_out_as_it_was(function: Callable[..., Any]) -> None:
    bus = Bus()

    def trace(function: Callable[..., Any]) -> tuple[list[str], BaseException]:
        with pytest.raises(ValueError, match="boom") as caught:
            run(function)
        frames = traceback.extract_tb(caught.value.__traceback__)
        here = span.__module__.partition(".")[0]
        return [
            frame.name for frame in frames if f"{here}/" not in frame.filename
        ], caught.value

    with capture(bus=bus) as events:
        plain, _ = trace(function)
        decorated, error = trace(span("app.boom", bus=bus)(function))

    assert decorated == plain
    assert decorated[-1] == "boom"
    assert error.__context__ is None
    assert error.__cause__ is None
    assert outcomes(events) == ["exception error"]
    assert events[-1].metadata["error_message"] == "boom"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_arguments_are_a_type_error_and_no_span(
    function: Callable[..., Any],
) -> None:
    """A plain function has a span by then; what is only made by the call has none."""
    bus = Bus()

    with (
        capture(bus=bus) as events,
        pytest.raises(TypeError, match=r"got an unexpected keyword argument 'wrong'"),
    ):
        run(partial(span("app.job", bus=bus)(function), wrong=1))

    assert outcomes(events) in ([], ["exception error"])


class LostError(Exception):
    """An error that can be referred to weakly."""


@pytest.mark.parametrize("caught", [True, False])
def test_a_generator_does_not_keep_an_error_alive(
    caught: bool,
) -> None:  # a test's parameter
    """A cycle through the traceback would keep every frame until the next collection."""
    bus = Bus()
    bus.attach("any", "**", lambda *args: None)

    @span("app.job", bus=bus)
    def stream() -> Generator[int, None, None]:
        try:
            yield 1
        except LostError:
            if not caught:
                raise

    def throw() -> weakref.ref[LostError]:
        running = stream()
        next(running)
        error = LostError("lost")
        gone = weakref.ref(error)
        with suppress(LostError, StopIteration):
            running.throw(error)
        del error  # its traceback leads here
        return gone

    gc.disable()
    try:
        assert throw()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("caught", [True, False])
def test_an_async_generator_does_not_keep_an_error_alive(
    caught: bool,
) -> None:  # a test's parameter
    bus = Bus()
    bus.attach("any", "**", lambda *args: None)

    @span("app.job", bus=bus)
    async def stream() -> AsyncGenerator[int, None]:
        try:
            yield 1
        except LostError:
            if not caught:
                raise

    async def throw() -> weakref.ref[LostError]:
        running = stream()
        await anext(running)
        error = LostError("lost")
        gone = weakref.ref(error)
        with suppress(LostError, StopAsyncIteration):
            await running.athrow(error)
        del error  # its traceback leads here
        return gone

    gc.disable()
    try:
        assert asyncio.run(throw())() is None
    finally:
        gc.enable()


# --- A decorated generator is the generator ---------------------------------------
#
# A script says what the generator does each time it is resumed, a list of steps what
# its consumer does. Both generators get both; all that can be seen must be equal.


class Act(NamedTuple):
    """What a generator does, and whether it catches what is thrown in there."""

    what: str
    catches: bool


class See(NamedTuple):
    """What one step of the consumer led to."""

    what: str
    value: object = None
    context: object = None
    cause: object = None


ACTS = st.builds(
    Act,
    st.sampled_from(["yield", "yield", "yield", "await", "raise", "return"]),
    st.booleans(),
)
THROWN: list[Callable[[], BaseException]] = [
    lambda: ValueError("thrown"),
    lambda: KeyboardInterrupt("thrown"),
    lambda: GeneratorExit("thrown"),
    lambda: StopIteration("thrown"),
    lambda: StopAsyncIteration("thrown"),
    lambda: asyncio.CancelledError("thrown"),
]
STEPS = st.one_of(
    st.just("next"), st.just("send"), st.just("close"), st.sampled_from(THROWN)
)


class Pause:
    """Something to await: gives control away once, then is done."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def scripted(script: list[Act], log: list[str]) -> Generator[int, object, str]:
    for number, act in enumerate(script):
        try:
            if act.what == "raise":
                int(f"raised {number}")
            if act.what == "return":
                return f"returned {number}"
            received = yield number
            log.append(f"received {received!r}")
        except BaseException as error:
            log.append(f"{number}: {error!r}")
            if not act.catches:
                raise
    return "the end"


async def scripted_later(
    script: list[Act], log: list[str]
) -> AsyncGenerator[int, object]:
    for number, act in enumerate(script):
        try:
            if act.what == "await":
                await Pause()
            if act.what == "raise":
                int(f"raised {number}")
            if act.what == "return":
                return
            received = yield number
            log.append(f"received {received!r}")
        except BaseException as error:
            log.append(f"{number}: {error!r}")
            if not act.catches:
                raise
            if isinstance(error, GeneratorExit):
                # To yield now would leave it neither closed nor usable.
                return


def finish(awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401  # of any generator
    """Run what never waits for anything but `Pause`, without an event loop."""
    waiting = awaitable.__await__()
    while True:
        try:
            next(waiting)
        except StopIteration as ended:
            return ended.value


def see(step: Callable[[], object]) -> See:
    try:
        return See("got", step())
    except BaseException as error:  # noqa: BLE001  # it is compared, whatever it is
        return See("raised", *map(repr, (error, error.__context__, error.__cause__)))


def step_of(generator: Any, step: str | Callable[[], BaseException]) -> See:  # noqa: ANN401  # of either kind
    later = inspect.isasyncgen(generator)
    prefix, end = ("a", finish) if later else ("", lambda result: result)
    if step == "next":
        return see(lambda: end(getattr(generator, f"__{prefix}next__")()))
    if step == "send":
        return see(lambda: end(getattr(generator, f"{prefix}send")("sent")))
    if step == "close":
        return see(lambda: end(getattr(generator, f"{prefix}close")()))
    assert not isinstance(step, str)
    return see(lambda: end(getattr(generator, f"{prefix}throw")(step())))


def check_events(events: list[CapturedEvent], seen: list[See]) -> None:
    """One terminal event for one start, and chunks for what was yielded."""
    phases = [event.event[-1] for event in events]
    begun = phases.count("start")
    assert begun <= 1
    assert phases.count("stop") + phases.count("exception") == begun
    yielded = sum(isinstance(what.value, int) for what in seen)
    # One was yielded to a consumer that wanted to close, which is an error.
    yielded += sum("ignored GeneratorExit" in str(what.value) for what in seen)
    assert phases.count("chunk") == yielded
    if begun:
        assert events[-1].measurements.get("chunks", 0) == yielded


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.parametrize("function", [scripted, scripted_later])
@settings(deadline=None)
@given(script=st.lists(ACTS, max_size=6), steps=st.lists(STEPS, max_size=8))
def test_a_decorated_generator_does_what_the_bare_one_does(
    function: Callable[..., Any],
    listening: bool,  # a test's parameter
    script: list[Act],
    steps: list[str | Callable[[], BaseException]],
) -> None:
    bus = Bus()
    plain_log: list[str] = []
    log: list[str] = []
    plain = function(script, plain_log)
    decorated = span("app.job", bus=bus)(function)(script, log)
    # A generator that catches GeneratorExit yields again; the last ones give up.
    steps = [*steps, *["close"] * (len(script) + 1)]

    with capture("app.**" if listening else "other", bus=bus) as events:
        seen = []
        for step in steps:
            seen.append(step_of(decorated, step))
            assert seen[-1] == step_of(plain, step), (step, log)
            assert log == plain_log
            assert current_span.get() is None

    check_events(events, seen if listening else [])


# --- How generators end -----------------------------------------------------------


def stream(log: list[str], *, catches: bool = False) -> Generator[int, None, None]:
    try:
        yield 1
        yield 2
    except GeneratorExit:
        log.append("closed")
        if not catches:
            raise


async def stream_later(
    log: list[str], *, catches: bool = False
) -> AsyncGenerator[int, None]:
    try:
        yield 1
        yield 2
    except GeneratorExit:
        await asyncio.sleep(0)
        log.append("closed")
        if not catches:
            raise


@pytest.mark.parametrize("catches", [True, False])
def test_a_generator_that_is_closed_or_dropped_was_cancelled(
    catches: bool,
) -> None:  # a test's parameter
    bus = Bus()
    decorated = span("app.job", bus=bus)(stream)
    log: list[str] = []

    with capture(bus=bus) as events:
        closed = decorated(log, catches=catches)
        next(closed)
        closed.close()
        assert outcomes(events) == ["stop cancelled"]
        dropped = decorated(log, catches=catches)
        next(dropped)
        del dropped

    assert log == ["closed", "closed"]
    assert outcomes(events) == ["stop cancelled"] * 2


@pytest.mark.parametrize("catches", [True, False])
def test_an_async_generator_that_is_closed_or_left_was_cancelled(
    catches: bool,  # a test's parameter
) -> None:
    bus = Bus()
    decorated = span("app.job", bus=bus)(stream_later)
    log: list[str] = []

    async def main() -> None:
        closed = decorated(log, catches=catches)
        await anext(closed)
        await closed.aclose()
        assert outcomes(events) == ["stop cancelled"]
        async for _ in decorated(log, catches=catches):
            break
        await until(lambda: len(log) == 2)

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert log == ["closed", "closed"]
    assert outcomes(events) == ["stop cancelled"] * 2


def test_a_generator_whose_consumer_throws_ends_with_that_error() -> None:
    bus = Bus()
    decorated = span("app.job", bus=bus)(stream)

    with capture(bus=bus) as events:
        running = decorated([])
        next(running)
        with pytest.raises(ValueError, match="enough"):
            running.throw(ValueError("enough"))

    assert outcomes(events) == ["exception error"]


def test_a_loop_that_ends_closes_each_generator_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It closes all that it saw begin at once; ours closes the one that it is around."""
    bus = Bus()
    log: list[str] = []
    kept = []

    async def main() -> None:
        for _ in range(5):
            running = span("app.job", bus=bus)(stream_later)(log)
            kept.append(running)
            await anext(running)

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert log == ["closed"] * 5
    assert outcomes(events) == ["stop cancelled"] * 5
    assert caplog.records == []


def test_the_hooks_for_async_generators_stay_as_they_were() -> None:
    bus = Bus()
    begun: list[object] = []

    async def main() -> object:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=begun.append, finalizer=hooks.finalizer)
        running = span("app.job", bus=bus)(count_later)(1)
        mine = sys.get_asyncgen_hooks()
        await anext(running)
        assert sys.get_asyncgen_hooks() == mine
        await running.aclose()
        sys.set_asyncgen_hooks(*hooks)
        return running

    assert begun == [asyncio.run(main())]


def test_an_async_generator_of_a_closed_loop_ends_all_the_same() -> None:
    """A loop that is closed at once forgets generators; nobody runs them any more."""
    bus = Bus()
    loop = asyncio.new_event_loop()

    @span("app.job", bus=bus)
    async def numbers() -> AsyncGenerator[Context, None]:
        try:
            # What is begun here, as a task or a callback, keeps a copy like this.
            yield copy_context()
        finally:
            await asyncio.sleep(0)

    async def main() -> None:
        running = numbers()
        kept.append(running)
        contexts.append(await anext(running))

    kept: list[object] = []
    contexts: list[Context] = []
    with capture("app.job.stop", bus=bus) as events:
        loop.run_until_complete(main())
        loop.close()
        kept.clear()
        gc.collect()

    assert len(contexts) == 1
    assert outcomes(events) == ["stop cancelled"]


def test_a_generator_that_is_alive_at_exit_ends_then(tmp_path: Any) -> None:  # noqa: ANN401  # a path
    import subprocess

    script = tmp_path / "leave.py"
    script.write_text(
        "import llmevents\n"
        "@llmevents.on('app.job.*', handler_id='print')\n"
        "def show(event, measurements, metadata, config):\n"
        "    print(event[-1], metadata.get('status', ''))\n"
        "@llmevents.span('app.job')\n"
        "def numbers():\n"
        "    yield 1\n"
        "    yield 2\n"
        "kept = numbers()\n"
        "next(kept)\n"
    )
    done = subprocess.run(  # our own script
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stderr == ""
    assert done.stdout.split("\n")[-2:] == ["stop cancelled", ""]


def test_a_cancelled_coroutine_is_cancelled() -> None:
    bus = Bus()

    @span("app.job", bus=bus)
    async def wait() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert outcomes(events) == ["exception cancelled"]


def test_an_async_generator_that_is_cancelled_while_it_works_is_cancelled() -> None:
    bus = Bus()

    @span("app.job", bus=bus)
    async def wait() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in wait():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await until(lambda: bool(events.named("app.job.chunk")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert outcomes(events) == ["exception cancelled"]


def test_an_async_generator_whose_consumer_is_cancelled_is_left() -> None:
    """Nothing of it was interrupted: it is a stream that was left early."""
    bus = Bus()
    decorated = span("app.job", bus=bus)(count_later)

    async def main() -> None:
        running = decorated(3)
        await anext(running)
        cancellation = asyncio.CancelledError("consumer")
        with pytest.raises(asyncio.CancelledError, match="consumer"):
            await running.athrow(cancellation)

    with capture(bus=bus) as events:
        asyncio.run(main())

    assert outcomes(events) == ["stop cancelled"]


def test_a_coroutine_that_is_dropped_half_way_was_cancelled() -> None:
    bus = Bus()

    with capture(bus=bus) as events:
        coroutine = span("app.job", bus=bus)(add_later)(1)
        coroutine.send(None)
        del coroutine

    assert outcomes(events) == ["stop cancelled"]
    assert current_span.get() is None


def test_a_coroutine_that_is_never_awaited_has_no_span() -> None:
    bus = Bus()

    with capture(bus=bus) as events, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        _ = span("app.job", bus=bus)(add_later)(1)
        del _

    assert events == []


@pytest.mark.parametrize("function", [stream, stream_later])
def test_a_chunk_handler_that_may_raise_ends_and_closes_the_generator(
    function: Callable[..., Any],
) -> None:
    bus = Bus()

    def complain(*args: object) -> None:
        msg = "complaint"
        raise LookupError(msg)

    bus.attach("strict", "app.job.first_chunk", complain, on_failure="raise")
    log: list[str] = []

    with capture(bus=bus) as events, pytest.raises(LookupError, match="complaint"):
        run(span("app.job", bus=bus)(function), log)

    assert log == ["closed"]
    assert outcomes(events) == ["exception error"]
