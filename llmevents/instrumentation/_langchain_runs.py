"""LangChain's runs that are under way: a call or a span for each, by run id.

LangChain tells of a run by callbacks that may come in any task and thread, and the
last one may never come. So nothing is kept in contexts that must be taken back
there, and the number of runs that are remembered is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast
from uuid import UUID

from llmevents._context import current_span
from llmevents.instrumentation._langchain_read import (
    OWN_IDS,
    Statements,
    candidates_in,
    finish_reason,
    is_filler,
    was_cached,
)
from llmevents.llm import Call
from llmevents.llm._fields import look_up


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._span import Span
    from llmevents.llm._ownership import Layer
    from llmevents.llm._response import Reading
    from llmevents.llm.usage import Usage

MOST_RUNS = 4096
"""Runs that are remembered at a time; the oldest is given up for one more."""


class Current:
    """What is current in a context on behalf of a span, as long as that is open.

    The end of a run may be told in another context, where nothing can be taken out
    of this one. So this stands for its span while that is open, and from then on for
    what was current before. It has what `current_span` is asked for.

    Attributes:
        outer: What was current before; see `llmevents._context.take_out`.
    """

    __slots__ = ("_span", "outer")

    def __init__(self, span: Span) -> None:
        self._span: Span | None = span
        self.outer: Around = None

    @property
    def span_id(self) -> str | None:
        """The id of what is current."""
        span = self._stands_for()
        return None if span is None else span.span_id

    @property
    def call(self) -> Span | None:
        """The call that is current."""
        span = self._stands_for()
        return None if span is None else span.call

    @property
    def is_over(self) -> bool:
        """Whether it stands for what was current before."""
        return self._span is None

    def enter(self) -> bool:
        """Be current here, in the place of those whose spans have ended.

        Returns:
            Whether it was not so before, and `leave` is due.
        """
        outer = inner = around()
        while inner is not None:
            if inner is self:
                return False
            inner = inner.outer
        self.outer = outer
        current_span.set(cast("Span", self))
        return True

    def leave(self) -> None:
        """Be current here no longer, if it is. Elsewhere it stays what it is."""
        inner: Around = current_span.get()
        if inner is self:
            current_span.set(cast("Span | None", self.outer))
            return
        while inner is not None and inner.outer is not self:
            inner = inner.outer
        if inner is not None:
            inner.outer = cast("Span | None", self.outer)

    def end(self) -> None:
        """Stand for what was current before, wherever this is still current."""
        self._span = None
        # Those in between that are over as well would be kept for nothing.
        self.outer = _alive(self.outer)

    def _stands_for(self) -> Span | None:
        if self._span is not None:
            return self._span
        outer = _alive(self.outer)
        return outer._span if isinstance(outer, Current) else outer  # noqa: SLF001  # one of us


Around: TypeAlias = "Span | Current | None"
"""What is current in a context."""


def _alive(current: Around) -> Around:
    while isinstance(current, Current) and current.is_over:
        current = current.outer
    return current


def around() -> Around:
    """Return what is current here, past everything whose span has ended."""
    return _alive(current_span.get())


class RunCall(Call):
    """The call of a chat model or LLM of LangChain.

    An instrumented SDK underneath knows better whom it asks: LangChain's name for
    every server that is like OpenAI's is ``openai``.

    Attributes:
        used: What the call used, once it has ended; None if that is not known.
    """

    __slots__ = ("used",)

    def __init__(self, bus: Bus, prefix: str) -> None:
        super().__init__(bus, prefix, scoped=False)
        self.used: Usage | None = None

    @property
    def stated(self) -> Usage | None:
        """The usage that was read last."""
        return self._reading.usage

    @property
    def response_model(self) -> object:
        """The model that answered; None while unknown."""
        return self._reading.facts.get("response_model")

    def record(self, response: object) -> None:
        """Read a part, also for the totals of a handler where nobody listens."""
        self._reading.read(response)

    def read(self, lists: list[list[Any]]) -> None:
        """Read all but usage from the candidates for each prompt."""
        every = [candidate for candidates in lists for candidate in candidates]
        for candidate in every:
            self.record(look_up(candidate, "message"))
        reading = self._reading
        own_id = reading.facts.get("response_id")
        if isinstance(own_id, str) and own_id.startswith(OWN_IDS):
            del reading.facts["response_id"]
        reasons = enumerate(map(finish_reason, every))
        known = {index: reason for index, reason in reasons if reason is not None}
        reading.finish_reasons.update(known)

    def end(
        self, usage: Usage | None, error: BaseException | None, *, is_cut: bool
    ) -> None:
        """End the call.

        Args:
            usage: What was used, as LangChain says.
            error: Why it failed, or None.
            is_cut: Whether more of the answer might have come.
        """
        self._reading.usage = usage
        self.used = None if self._is_cached else usage
        if is_cut and self.is_open:
            self._reading.complete = False
        if isinstance(error, GeneratorExit) or (error is None and is_cut):
            # Waits for the SDK's stream underneath, which is closed a moment later.
            self.stream_ended(None, exhausted=False)
        else:
            self.leave(error)

    def _take(self, request: Layer, reading: Reading) -> None:
        super()._take(request, reading)
        provider = (request._asked or {}).get("provider")  # noqa: SLF001  # one of us
        if provider is not None:
            self.annotate(provider=provider)

    def _total(self) -> Reading:
        total = super()._total()
        if not self._is_cached:
            self.used = total.usage
        return total


class View(Protocol):
    """What wants to know of every call of a model that has ended."""

    def add(self, model: str, used: Usage | None) -> None:
        """Take note of one: who answered, and what it used as far as is known."""


class Run:
    """One run of LangChain's.

    Attributes:
        span: What children of the run belong to; None if nothing above it has a span.
        around: What was current where it began.
        agent: The name of the agent that it is part of, or None.
    """

    __slots__ = ("agent", "around", "span")

    def __init__(
        self, span: Span | None, around: Around, agent: str | None = None
    ) -> None:
        self.span = span
        self.around = around
        self.agent = agent

    def give_up(self) -> None:
        """End it, because nobody will tell of its end."""


class SpanRun(Run):
    """The run of a tool, a retriever or an agent."""

    __slots__ = ("current", "own")

    def __init__(self, span: Span, around: Around, agent: str | None) -> None:
        super().__init__(span, around, agent)
        self.own = span
        self.current = Current(span)

    def end(self, error: BaseException | None) -> None:
        """End the span; *error* is why, if it failed."""
        self.current.leave()
        self.current.end()
        self.own.leave(error)

    def give_up(self) -> None:
        """End the span as cancelled."""
        self.current.end()
        self.own.cancel()


class ModelRun(Run):
    """The run of a chat model or LLM."""

    __slots__ = ("_is_streamed", "_model", "_statements", "_views", "call", "current")

    def __init__(
        self, call: RunCall, around: Around, model: object, view: View | None
    ) -> None:
        super().__init__(call, around)
        self.call = call
        self.current = Current(call)
        self._model = model
        self._statements = Statements()
        self._views = [] if view is None else [view]
        self._is_streamed = False

    def watch(self, view: View | None) -> None:
        """Tell one more handler how the run ends."""
        if view is not None and all(view is not each for each in self._views):
            self._views.append(view)

    def chunk(self, chunk: object = None) -> None:
        """Take note of a chunk of the answer, which need not be known itself."""
        if not self._is_streamed:
            self._is_streamed = True
            self.call.annotate(stream=True)
        if chunk is not None:
            message = look_up(chunk, "message")
            if look_up(message, "usage_metadata"):
                self._statements.read_chunk(message)
            if is_filler(message):
                return
        self.call.chunk()

    def answered(self, generations: object, llm_output: object) -> None:
        """Take note of the answer, or of what there is of it."""
        lists = candidates_in(generations)
        if was_cached(lists):
            self.call.cached()
        call = self.call
        call.read(lists)
        if llm_output and (call.stated is None or call.response_model is None):
            call.record({"llm_output": llm_output, "generations": []})
        self._statements.read_result(lists, llm_output, call.stated)

    def end(self, error: BaseException | None) -> None:
        """End the call; *error* is why, if it failed."""
        self.current.leave()
        self._end(error, is_cut=error is not None and self._is_streamed)

    def give_up(self) -> None:
        """End the call as cancelled, with what is known of it."""
        self._end(None, is_cut=True)

    def _end(self, error: BaseException | None, *, is_cut: bool) -> None:
        self.current.end()
        call = self.call
        call.end(self._statements.usage, error, is_cut=is_cut)
        model = call.response_model or self._model or UNKNOWN
        for view in self._views:
            view.add(str(model), call.used)


UNKNOWN = "unknown"
"""The model of a call that nothing names."""


class Runs:
    """All runs under way, of every handler; one for each bus that hears of it.

    Every method is a few steps on dictionaries, so that any thread, and the garbage
    collector in the middle of any of them, may call it without a lock.
    """

    __slots__ = ("_runs", "most")

    def __init__(self, most: int = MOST_RUNS) -> None:
        self.most = most
        self._runs: dict[UUID, dict[int, Run]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, bus: Bus, run_id: UUID, run: Run) -> None:
        """Remember *run*, and give up the oldest if there are too many."""
        self._runs.setdefault(run_id, {})[id(bus)] = run
        while len(self._runs) > self.most:
            # Copied in one step: other threads change it meanwhile.
            for oldest in list(self._runs)[: len(self._runs) - self.most]:
                for given_up in list(self._runs.pop(oldest, {}).values()):
                    given_up.give_up()

    def get(self, bus: Bus, run_id: UUID | None) -> Run | None:
        """Return a run under way, or None."""
        return None if run_id is None else self._runs.get(run_id, {}).get(id(bus))

    def of_model(self, run_id: UUID | None) -> list[ModelRun]:
        """Return the runs of a model under this id, one for each bus."""
        known = {} if run_id is None else self._runs.get(run_id, {})
        return [run for run in list(known.values()) if isinstance(run, ModelRun)]

    def pop(self, bus: Bus, run_id: UUID) -> Run | None:
        """Forget a run, and return it."""
        known = self._runs.get(run_id, {})
        run = known.pop(id(bus), None)
        if run is not None and not known:
            self._runs.pop(run_id, None)
        return run


runs = Runs()
"""Those of this process."""
