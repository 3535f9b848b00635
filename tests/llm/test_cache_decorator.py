"""Functions behind a cache: one call per key, one event per call, nothing billed twice."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from llmevents import Bus, OptionError, llm
from llmevents.llm.cache import ObservedCache, cached, hash_key
from llmevents.llm.cache._flights import Flights, thread_flight
from llmevents.testing import CapturedEvents, capture
from tests.llm.calls import RESPONSE


JOIN_SECONDS = 60.0
"""Long enough for a busy machine; it only runs out in a deadlock."""

CALLS = 200
THREADS = 8
KEYS = 5


class OracleError(Exception):
    """The model had no answer."""


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    """Collect what this bus emits about caches and calls."""
    with capture("llm.cache.*", "llm.chat.*", bus=bus, scope="process") as captured:
        yield captured


def whats(events: CapturedEvents) -> Counter[str]:
    return Counter(event.event[-1] for event in events.named("llm.cache.*"))


def in_threads(count: int, target: Callable[[int], object]) -> None:
    """Run *target* in that many threads; a deadlock fails rather than hangs."""
    threads = [
        threading.Thread(target=target, args=(number,), daemon=True)
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def test_an_answer_from_the_cache_is_not_billed(
    bus: Bus, events: CapturedEvents
) -> None:
    """Complaint 22: langfuse billed what LangChain's cache answered."""

    @cached({}, name="answers", bus=bus)
    @llm.chat(provider="acme", model="tiny-1", bus=bus)
    def ask(question: str) -> dict[str, Any]:
        return RESPONSE

    assert ask("why?") is ask("why?") is ask("why?")
    assert whats(events) == {"miss": 1, "put": 1, "hit": 2}
    (stop,) = events.named("llm.chat.stop")
    assert stop.measurements["total_tokens"] == 7


def test_a_coroutine_function_stays_one_and_is_called_once(
    bus: Bus, events: CapturedEvents
) -> None:
    @cached({}, name="answers", bus=bus)
    @llm.chat(provider="acme", model="tiny-1", bus=bus)
    async def ask(question: str) -> dict[str, Any]:
        """Ask the model."""
        return RESPONSE

    assert inspect.iscoroutinefunction(ask)
    assert ask.__doc__ == "Ask the model."

    async def main() -> None:
        assert await ask("why?") is await ask("why?")

    asyncio.run(main())
    assert whats(events) == {"miss": 1, "put": 1, "hit": 1}
    assert len(events.named("llm.chat.stop")) == 1


def test_the_arguments_make_the_key(bus: Bus, events: CapturedEvents) -> None:
    def ask(question: str, *, model: str = "tiny", top_p: int = 1) -> str:
        return f"{question} {model}"

    def say(question: str) -> str:
        return question

    shared: dict[Any, Any] = {}
    asked = cached(shared, bus=bus)(ask)
    said = cached(shared, bus=bus)(say)
    assert asked("a", model="m", top_p=2) == asked("a", top_p=2, model="m") == "a m"
    assert asked("a") == "a tiny"
    assert said("a") == "a"
    assert len(shared) == 3
    title = f"{test_the_arguments_make_the_key.__name__}.<locals>.ask"
    assert events[0].metadata == {
        "cache": title,
        "key": hash_key(
            (f"{__name__}.{title}", ("a",), (("model", "m"), ("top_p", 2)))
        ),
    }


def test_arguments_that_make_no_key_are_refused_with_a_way_out(bus: Bus) -> None:
    @cached({}, bus=bus)
    def ask(messages: list[str]) -> str:
        return messages[-1]

    with pytest.raises(TypeError, match=r"ask cannot be cached.*'list'.*key="):
        ask(["Why?"])


def test_a_key_function_chooses_what_counts(bus: Bus, events: CapturedEvents) -> None:
    answers: ObservedCache[str, str] = ObservedCache(
        {}, "answers", bus=bus, show_key=True
    )

    class Client:
        @cached(answers, key=lambda client, question: question.lower())
        def ask(self, question: str) -> str:
            return question

    assert Client().ask("WHY?") == Client().ask("why?") == "WHY?"
    assert [event.metadata["key"] for event in events] == ["why?"] * 3
    assert dict(answers.inner) == {"why?": "WHY?"}


def test_none_is_an_answer(bus: Bus, events: CapturedEvents) -> None:
    @cached({}, bus=bus)
    def ask() -> None:
        """Say nothing."""

    assert (ask(), ask()) == (None, None)
    assert whats(events) == {"miss": 1, "put": 1, "hit": 1}


def test_an_exception_is_not_stored(bus: Bus, events: CapturedEvents) -> None:
    outcomes: Iterator[Any] = iter([OracleError("out"), "answer"])

    @cached({}, bus=bus)
    def ask() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    with pytest.raises(OracleError, match="out"):
        ask()
    assert (ask(), ask()) == ("answer", "answer")
    assert whats(events) == {"miss": 2, "put": 1, "hit": 1}


def test_a_stream_is_passed_on_and_not_stored(bus: Bus, events: CapturedEvents) -> None:
    """The next caller would find it read already."""

    async def chunks() -> AsyncIterator[str]:
        yield "a"

    @cached({}, bus=bus)
    def ask(kind: str) -> Any:  # noqa: ANN401
        return iter("ab") if kind == "iterator" else chunks()

    @cached({}, bus=bus)
    async def ask_later() -> Any:  # noqa: ANN401
        return chunks()

    async def main() -> None:
        for _ in range(2):
            assert [chunk async for chunk in await ask_later()] == ["a"]
            assert [chunk async for chunk in ask("stream")] == ["a"]

    asyncio.run(main())
    assert list(ask("iterator")) == list(ask("iterator")) == ["a", "b"]

    @cached({}, bus=bus, single_flight=False)
    def alone() -> Iterator[str]:
        return iter("ab")

    assert list(alone()) == list(alone()) == ["a", "b"]
    assert whats(events) == {"miss": 8}


class Oracle:
    """Something to decorate that is no function."""

    def __call__(self, question: str) -> str:
        return question

    @classmethod
    def made(cls) -> Oracle:
        return cls()


def test_anything_that_can_be_called_is_cached(
    bus: Bus, events: CapturedEvents
) -> None:
    ask = cached({}, bus=bus)(Oracle())
    assert ask("a") == ask("a") == "a"
    assert whats(events) == {"miss": 1, "put": 1, "hit": 1}
    assert events[0].metadata["cache"] == "Oracle"


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(generator, id="generator"),
        pytest.param(async_generator, id="async-generator"),
        pytest.param(Oracle, id="class"),
        pytest.param(staticmethod(len), id="static-method"),
        pytest.param(vars(Oracle)["made"], id="class-method"),
        pytest.param("ask", id="text"),
    ],
)
def test_what_gives_no_answer_is_refused(target: Any) -> None:  # noqa: ANN401
    with pytest.raises(OptionError, match="expected what is cached to be a function"):
        cached({})(target)


@pytest.mark.parametrize(
    "options", [{"name": "a"}, {"bus": Bus()}], ids=["name", "bus"]
)
def test_options_without_effect_are_refused(options: dict[str, Any]) -> None:
    answers: ObservedCache[Any, Any] = ObservedCache({}, "answers")
    with pytest.raises(OptionError, match="an ObservedCache has its own name and bus"):
        cached(answers, **options)


# --- Many callers at once --------------------------------------------------------


def test_threads_that_want_the_same_answer_call_once(
    bus: Bus, events: CapturedEvents
) -> None:
    """All wait at the gate until each has asked, so that nobody is late."""
    asked = Counter[int]()
    answers: list[object] = []
    gate = threading.Event()

    @cached({}, name="answers", bus=bus)
    def ask(number: int) -> str:
        asked[number] += 1
        assert gate.wait(JOIN_SECONDS)
        return str(number)

    def run(thread: int) -> None:
        if thread == THREADS:
            gate.set()
        answers.append(ask(thread % 2))

    in_threads(THREADS + 1, run)
    assert Counter(answers) == {"0": THREADS // 2 + 1, "1": THREADS // 2}
    assert asked == {0: 1, 1: 1}
    assert whats(events) == {"miss": 2, "put": 2, "hit": THREADS - 1}


def test_totals_are_exact_for_any_number_of_threads(
    bus: Bus, events: CapturedEvents
) -> None:
    executed = Counter[int]()
    lock = threading.Lock()

    @cached({}, name="answers", bus=bus)
    def ask(number: int) -> int:
        with lock:
            executed[number] += 1
        return number

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        in_threads(THREADS, lambda _: [ask(call % KEYS) for call in range(CALLS)])
    finally:
        sys.setswitchinterval(before)
    assert executed == dict.fromkeys(range(KEYS), 1)
    assert whats(events) == {
        "miss": KEYS,
        "put": KEYS,
        "hit": THREADS * CALLS - KEYS,
    }


def test_evictions_are_exact_for_any_number_of_threads(
    bus: Bus, events: CapturedEvents
) -> None:
    answers: ObservedCache[int, int] = ObservedCache({}, "answers", bus=bus)

    def run(thread: int) -> None:
        for call in range(CALLS):
            answers[thread * CALLS + call] = call
            if call % 2:
                del answers[thread * CALLS + call]

    in_threads(THREADS, run)
    found = Counter[str]()
    for event in events:
        found[event.event[-1]] += int(event.measurements["count"])
    assert found == {"put": THREADS * CALLS, "evicted": THREADS * CALLS // 2}
    assert len(answers) == THREADS * CALLS // 2


def test_who_waited_for_an_error_calls_without_waiting_again(bus: Bus) -> None:
    asked = Counter[str]()
    together = threading.Barrier(2)
    failing = threading.Event()
    threads: list[threading.Thread] = []
    outcomes: list[str] = []

    def other() -> None:
        outcomes.append(ask())

    @cached({}, bus=bus)
    def ask() -> str:
        if not failing.is_set():
            failing.set()
            threads.extend(threading.Thread(target=other, daemon=True) for _ in "ab")
            for thread in threads:
                thread.start()
            wait_until_waiting(2)
            raise OracleError
        asked["again"] += 1
        together.wait(JOIN_SECONDS)
        return "answer"

    with pytest.raises(OracleError):
        ask()
    for thread in threads:
        thread.join(JOIN_SECONDS)
    assert outcomes == ["answer", "answer"]
    assert asked == {"again": 2}


def wait_until_waiting(count: int) -> None:
    """Return when so many threads wait for a flight to land.

    Without garbage collection: before Python 3.12 one in the middle of the look at the
    threads can block them all (python/cpython#106883).
    """
    gc.disable()
    try:
        _look_until_waiting(count)
    finally:
        gc.enable()


def _look_until_waiting(count: int) -> None:
    deadline = threading.Event()
    for _ in range(int(JOIN_SECONDS * 1000)):
        waiting = 0
        for frame in sys._current_frames().values():
            inner: Any = frame
            while inner is not None:
                waiting += inner.f_code.co_name == "ask" and (
                    "flight" in inner.f_locals
                    and inner.f_locals["flight"] is not inner.f_locals.get("own")
                )
                inner = inner.f_back
        if waiting >= count:
            return
        deadline.wait(0.001)
    pytest.fail("nobody waits")


def test_a_caller_that_is_interrupted_hands_over(
    bus: Bus, events: CapturedEvents
) -> None:
    began = threading.Event()
    outcomes: list[str] = []
    other = threading.Thread(target=lambda: outcomes.append(ask()), daemon=True)

    @cached({}, bus=bus)
    def ask() -> str:
        if not began.is_set():
            began.set()
            other.start()
            wait_until_waiting(1)
            raise KeyboardInterrupt
        return "answer"

    with pytest.raises(KeyboardInterrupt):
        ask()
    other.join(JOIN_SECONDS)
    assert outcomes == ["answer"]
    assert whats(events) == {"miss": 2, "put": 1}


def test_a_function_may_call_itself(bus: Bus, events: CapturedEvents) -> None:
    depth = iter(range(3))

    @cached({}, bus=bus)
    def ask() -> int:
        return 0 if next(depth) == 2 else ask() + 1

    async def nested() -> int:
        return 0 if next(again) == 2 else await ask_later() + 1

    again = iter(range(3))
    ask_later = cached({}, bus=bus)(nested)
    assert ask() == 2
    assert asyncio.run(ask_later()) == 2
    assert whats(events) == {"miss": 6, "put": 2}


def test_a_late_leader_finds_what_landed_before_it(
    bus: Bus, events: CapturedEvents
) -> None:
    """It looked in vain, and was not yet under way, when another one landed."""

    class Late(dict[Any, Any]):
        looks = 0

        def __getitem__(self, key: object) -> object:
            self.looks += 1
            if self.looks == 1:
                raise KeyError(key)
            return "landed"

    @cached(Late(), bus=bus, key=lambda: "q")
    def ask() -> str:
        return "called"

    @cached(Late(), bus=bus, key=lambda: "q")
    async def ask_later() -> str:
        return "called"

    assert ask() == "landed"
    assert asyncio.run(ask_later()) == "landed"
    assert whats(events) == {"hit": 2}


def test_without_single_flight_nobody_waits_and_one_answer_is_kept(
    bus: Bus, events: CapturedEvents
) -> None:
    together = threading.Barrier(THREADS)
    store: dict[Any, Any] = {}

    @cached(store, bus=bus, single_flight=False)
    def ask() -> int:
        together.wait(JOIN_SECONDS)
        return threading.get_ident()

    in_threads(THREADS, lambda _: ask())
    assert whats(events) == {"miss": THREADS, "put": 1}
    assert len(store) == 1


# --- Coroutines ------------------------------------------------------------------


def test_tasks_that_want_the_same_answer_await_once(
    bus: Bus, events: CapturedEvents
) -> None:
    executed = Counter[int]()

    @cached({}, name="answers", bus=bus)
    async def ask(number: int) -> int:
        executed[number] += 1
        await asyncio.sleep(0)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(ask(call % KEYS) for call in range(1000)))

    assert asyncio.run(main()) == [call % KEYS for call in range(1000)]
    assert executed == dict.fromkeys(range(KEYS), 1)
    assert whats(events) == {"miss": KEYS, "put": KEYS, "hit": 1000 - KEYS}


async def several(
    ask: Callable[[], Coroutine[Any, Any, Any]], count: int
) -> list[asyncio.Task[Any]]:
    """Start tasks and let each come to where it waits."""
    tasks = [asyncio.create_task(ask()) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_an_error_of_the_first_task_is_its_own(
    bus: Bus, events: CapturedEvents
) -> None:
    outcomes: Iterator[Any] = iter([OracleError("out"), "b", "c"])

    async def main() -> None:
        go = asyncio.Event()

        @cached({}, bus=bus)
        async def ask() -> str:
            outcome = next(outcomes)
            await go.wait()
            if isinstance(outcome, Exception):
                raise outcome
            return str(outcome)

        tasks = await several(ask, 3)
        go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert str(found[0]) == "out"
        assert sorted(map(str, found[1:])) == ["b", "c"]

    asyncio.run(main())
    assert whats(events) == {"miss": 3, "put": 1}


def test_a_cancelled_task_hands_over_to_one_other(
    bus: Bus, events: CapturedEvents
) -> None:
    """A client that hangs up must not cost the others their answer, nor ten calls."""
    executed = 0

    async def main() -> None:
        go = asyncio.Event()

        @cached({}, bus=bus)
        async def ask() -> str:
            nonlocal executed
            executed += 1
            await go.wait()
            return "answer"

        first, *others = await several(ask, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        for _ in range(5):
            await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*others) == ["answer"] * 9

    asyncio.run(main())
    assert executed == 2
    assert whats(events) == {"miss": 2, "put": 1, "hit": 8}


def test_a_waiting_task_that_is_cancelled_leaves_the_others_alone(
    bus: Bus, events: CapturedEvents
) -> None:
    async def main() -> None:
        go = asyncio.Event()

        @cached({}, bus=bus)
        async def ask() -> str:
            await go.wait()
            return "answer"

        first, second, third = await several(ask, 3)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        assert list(await asyncio.gather(first, third)) == ["answer"] * 2

    asyncio.run(main())
    assert whats(events) == {"miss": 1, "put": 1, "hit": 1}


def test_event_loops_do_not_wait_for_each_other(
    bus: Bus, events: CapturedEvents
) -> None:
    """A future belongs to its loop. What the other one put meanwhile is kept."""
    together = threading.Barrier(2)
    store: dict[Any, Any] = {}

    @cached(store, bus=bus)
    async def ask() -> int:
        together.wait(JOIN_SECONDS)
        return threading.get_ident()

    in_threads(2, lambda _: asyncio.run(ask()))
    assert whats(events) == {"miss": 2, "put": 1}


def test_a_coroutine_needs_no_event_loop(bus: Bus, events: CapturedEvents) -> None:
    """As under trio: nobody waits there, and nothing breaks."""

    @cached({}, bus=bus)
    async def ask() -> str:
        return "answer"

    for _ in range(2):
        with pytest.raises(StopIteration, match="answer"):
            ask().send(None)
    assert whats(events) == {"miss": 1, "put": 1, "hit": 1}


def test_a_task_lost_with_its_loop_closes_its_flight(bus: Bus) -> None:
    unraisable: list[object] = []

    async def main() -> None:
        @cached({}, bus=bus)
        async def ask() -> None:
            await asyncio.get_running_loop().create_future()

        kept.extend(await several(ask, 2))

    kept: list[asyncio.Task[Any]] = []
    before = sys.unraisablehook
    sys.unraisablehook = unraisable.append
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
        loop.set_exception_handler(lambda *_: None)
        loop.close()
        for task in kept:
            coroutine: Any = task.get_coro()
            coroutine.close()
        kept.clear()
        gc.collect()
    finally:
        sys.unraisablehook = before
    assert unraisable == []


def test_a_flight_from_before_a_fork_closes_without_harm() -> None:
    """The thread that forked goes on fetching in the child."""
    flights = Flights()
    old, new = thread_flight(), thread_flight()
    flights.join("q", old)
    flights.after_fork_in_child()
    assert flights.join("q", new) is new
    flights.close("q", old)
    assert old.landed.is_set()
    assert flights.join("q", old) is new


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_waits_for_no_thread_of_its_parent(bus: Bus) -> None:
    flights = Flights()
    flights.join("q", thread_flight())
    answers: ObservedCache[Any, Any] = ObservedCache({}, "answers", bus=bus)
    with answers._account.lock:
        child = os.fork()
        if child == 0:  # pragma: no cover  # in another process
            own = thread_flight()
            is_free = flights.join("q", own) is own
            thread = threading.Thread(target=lambda: answers.update(a=1), daemon=True)
            thread.start()
            thread.join(JOIN_SECONDS)
            os._exit(0 if is_free and dict(answers.inner) == {"a": 1} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
