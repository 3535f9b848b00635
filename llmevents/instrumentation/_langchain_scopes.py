"""LangChain's models: which run each of their methods works for.

A callback tells that a run has begun, not where its model is asked. The methods
that ask are wrapped for that: what an SDK does within belongs to their run, however
many runs there are at a time; and a run whose end LangChain does not tell ends with
the method that began it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from llmevents._context import Enclave, current_span
from llmevents._span import Span
from llmevents.instrumentation._langchain_runs import Current, ModelRun, RunCall, runs


if TYPE_CHECKING:
    from llmevents._bus import Bus

Method = Callable[..., Any]


class Scope:
    """One method of a model that begins runs, while it is at work.

    Attributes:
        is_stream: Whether it is a generator of chunks.
        outer: The scope around it.
    """

    __slots__ = ("_answers", "_runs", "is_stream", "outer")

    def __init__(self, *, is_stream: bool) -> None:
        self._runs: list[tuple[Bus, UUID, ModelRun]] = []
        self._answers: dict[UUID, Any] = {}
        self.is_stream = is_stream
        self.outer: Scope | None = None

    def enter(self) -> None:
        """Be the scope of what begins in this context."""
        self.outer = within.get()
        within.set(self)

    def leave(self) -> None:
        """Be that no longer."""
        if within.get() is self:
            within.set(self.outer)

    def began(self, bus: Bus, run_id: UUID, run: ModelRun) -> None:
        """Take note of a run."""
        self._runs.append((bus, run_id, run))
        # One method makes one stream; of a batch it is not known yet which is asked.
        if self.is_stream and run.call.is_open:
            run.current.enter()

    def answered(self, run_id: UUID, answer: Any) -> None:
        """Keep the answer to a run until LangChain tells of it."""
        self._answers[run_id] = answer

    def close(self, error: BaseException | None) -> None:
        """End the runs of which LangChain has not told that they have ended.

        It does not where another run of a batch has failed, or the task was cancelled.
        """
        for bus, run_id, run in self._runs:
            if runs.get(bus, run_id) is not run:
                continue
            runs.pop(bus, run_id)
            answer = self._answers.get(run_id)
            if answer is not None:
                run.answered([answer.generations], answer.llm_output)
                run.end(None)
            elif error is None or isinstance(error, Exception):
                run.give_up()
            else:
                run.end(error)


within: ContextVar[Scope | None] = ContextVar("llmevents_langchain", default=None)
"""The method of a model that runs in this context."""


class Inside:
    """A block in which the model of one run is asked, whichever buses hear of it."""

    __slots__ = ("_entered", "_runs", "scope")

    def __init__(self, asked: list[ModelRun]) -> None:
        self._runs = asked
        self._entered: list[Current] = []
        self.scope: Scope | None = None

    def __enter__(self) -> None:
        self.scope = within.get()
        within.set(None)
        self._entered = [
            run.current
            for run in self._runs
            if run.call.is_open and run.current.enter()
        ]

    def __exit__(self, *exception: object) -> None:
        for current in reversed(self._entered):
            current.leave()
        within.set(self.scope)


def generating(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Go around a method that begins runs, asks, and ends them."""
    scope = Scope(is_stream=False)
    scope.enter()
    failure: BaseException | None = None
    try:
        return wrapped(*args, **kwargs)
    except BaseException as error:
        failure = error
        raise
    finally:
        scope.leave()
        scope.close(failure)


async def generating_async(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do the same for a coroutine function."""
    scope = Scope(is_stream=False)
    scope.enter()
    failure: BaseException | None = None
    try:
        return await wrapped(*args, **kwargs)
    except BaseException as error:
        failure = error
        raise
    finally:
        scope.leave()
        scope.close(failure)


def asking(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Go around a method that asks the model for one run."""
    run_id, asked = _asked(args, kwargs)
    if not asked:
        return wrapped(*args, **kwargs)
    inside = Inside(asked)
    with inside:
        answer = wrapped(*args, **kwargs)
    _answered(inside.scope, run_id, answer)
    return answer


async def asking_async(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do the same for a coroutine function."""
    run_id, asked = _asked(args, kwargs)
    if not asked:
        return await wrapped(*args, **kwargs)
    inside = Inside(asked)
    with inside:
        answer = await wrapped(*args, **kwargs)
    _answered(inside.scope, run_id, answer)
    return answer


def streaming(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Go around a generator function that begins a run, asks, and ends it."""
    return _stepped(wrapped(*args, **kwargs), Scope(is_stream=True), [])


def streaming_async(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do the same for an asynchronous one."""
    return _stepped_async(wrapped(*args, **kwargs), Scope(is_stream=True), [])


def asking_in_steps(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Go around a generator function that asks the model for one run."""
    _, asked = _asked(args, kwargs)
    result = wrapped(*args, **kwargs)
    return _stepped(result, None, asked) if asked else result


def asking_in_steps_async(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do the same for an asynchronous one."""
    _, asked = _asked(args, kwargs)
    result = wrapped(*args, **kwargs)
    return _stepped_async(result, None, asked) if asked else result


def finding_in_cache(
    wrapped: Method, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Go around what takes an answer out of LangChain's cache."""
    current: Any = current_span.get()
    if isinstance(current, Current) and isinstance(current.call, RunCall):
        current.call.cached()
    return wrapped(*args, **kwargs)


class Steps:
    """The steps of a generator, each of them in what the steps before have left."""

    __slots__ = ("_asked", "_enclave", "_scope")

    def __init__(self, scope: Scope | None, asked: list[ModelRun]) -> None:
        self._scope = scope
        self._asked = asked
        self._enclave: Enclave | None = None

    def __enter__(self) -> None:
        is_first = self._enclave is None
        if self._enclave is None:
            self._enclave = Enclave(NOBODY)
        self._enclave.__enter__()
        if is_first:
            for run in self._asked:
                if run.call.is_open:
                    run.current.enter()
        if self._scope is not None:
            self._scope.enter()

    def __exit__(self, *exception: object) -> None:
        if self._scope is not None:
            self._scope.leave()
        if self._enclave is not None:
            self._enclave.__exit__(None, None, None)

    def close(self, error: BaseException | None) -> None:
        """End what the generator has begun."""
        if self._scope is not None:
            self._scope.close(error)


NOBODY = Span.silent()
"""Stands for no span: an enclave with it has what is current in the first step."""


def _stepped(
    stream: Generator[Any, None, None], scope: Scope | None, asked: list[ModelRun]
) -> Iterator[Any]:
    steps = Steps(scope, asked)
    failure: BaseException | None = None
    try:
        while True:
            with steps:
                try:
                    item = next(stream)
                except StopIteration:
                    return
            yield item
    except BaseException as error:
        failure = error
        raise
    finally:
        # Only then does it learn that it was closed.
        with steps:
            stream.close()
        steps.close(failure)


async def _stepped_async(
    stream: AsyncGenerator[Any, None], scope: Scope | None, asked: list[ModelRun]
) -> AsyncIterator[Any]:
    steps = Steps(scope, asked)
    failure: BaseException | None = None
    try:
        while True:
            with steps:
                try:
                    item = await anext(stream)
                except StopAsyncIteration:
                    return
            yield item
    except BaseException as error:
        failure = error
        raise
    finally:
        with steps:
            await stream.aclose()
        steps.close(failure)


def _asked(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[UUID | None, list[ModelRun]]:
    """Return the run that a method asks for; of a batch that is one request, the first.

    ``BaseLLM`` gives a list of managers as the third parameter.
    """
    manager = kwargs.get("run_manager")
    if manager is None:
        managers = args[2] if len(args) > THIRD else kwargs.get("run_managers")
        manager = managers[0] if isinstance(managers, list) and managers else None
    run_id = getattr(manager, "run_id", None)
    return (run_id, runs.of_model(run_id)) if isinstance(run_id, UUID) else (None, [])


THIRD = 2


def _answered(scope: Scope | None, run_id: UUID | None, answer: Any) -> None:
    if scope is not None and run_id is not None:
        scope.answered(run_id, answer)
