"""LangChain's callbacks as events: `LLMEventsCallbackHandler`, for langchain-core.

    from llmevents.instrumentation.langchain import LLMEventsCallbackHandler
    model.invoke("Hello", config={"callbacks": [LLMEventsCallbackHandler()]})

``llmevents.instrument("langchain")`` adds one to every run by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from typing_extensions import override  # langchain-core needs it

from llmevents._bus import Bus, default_bus
from llmevents._context import current_span
from llmevents._errors import BudgetExceededError
from llmevents._redact import clean_metadata
from llmevents._span import Span
from llmevents.instrumentation._langchain_models import models
from llmevents.instrumentation._langchain_read import facts_of, usage_metadata
from llmevents.instrumentation._langchain_runs import (
    ModelRun,
    Run,
    RunCall,
    SpanRun,
    around,
    runs,
)
from llmevents.instrumentation._langchain_scopes import within


if TYPE_CHECKING:
    from uuid import UUID

    from llmevents.instrumentation._calls import Facts
    from llmevents.llm.usage import Usage

__all__ = ["LLMEventsCallbackHandler"]

OPERATIONS = {"llm.chat": "chat", "llm.completion": "text_completion"}

RETRY = "llm.provider.retry"


class LLMEventsCallbackHandler(BaseCallbackHandler):
    """Emits the events of LangChain's runs.

    Chat models become ``llm.chat``, text models ``llm.completion``; tools and
    retrievers ``llm.tool``; agents ``llm.agent``. Other chains emit nothing, and
    what runs in them is a child of what they run in.

    An instrumented SDK underneath a model is part of the model's call: it emits
    ``llm.provider.request``, and its usage, which is nearest the wire, is the call's.
    A run counts once however many of these handlers hear of it. One may be used by
    any number of runs, threads and tasks at a time.

    To know which run an SDK works for, the first handler wraps the methods of
    LangChain's models that ask (``BaseChatModel.generate`` and the like), if wrapt is
    installed; without it no SDK is instrumented. They do nothing for other runs.

    Args:
        bus: Where to emit; the default bus unless given.

    Examples:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from llmevents.instrumentation.langchain import LLMEventsCallbackHandler
        >>> from llmevents.testing import capture
        >>> handler = LLMEventsCallbackHandler()
        >>> model = FakeListChatModel(responses=["Hello"])
        >>> with capture("llm.chat.*") as events:
        ...     answer = model.invoke("Hi", config={"callbacks": [handler]})
        >>> events.names()
        ['llm.chat.start', 'llm.chat.stop']
    """

    _watches = True
    raise_error = False
    # Not in an executor's thread: what is current must be so in the run's own context.
    run_inline = True

    def __init__(self, *, bus: Bus | None = None) -> None:
        super().__init__()
        self.bus = default_bus if bus is None else bus
        self._totals = Totals()
        # What `instrument` adds is undone again, and sees to that itself.
        if self._watches:
            models.watch()

    @property
    def usage_metadata(self) -> dict[str, dict[str, Any]]:
        """Usage by model, as LangChain's ``UsageMetadataCallbackHandler`` has it.

        Of every call that has ended: without a model's name under the model that was
        asked for, or ``"unknown"``; with every candidate and failed calls included;
        and without those that LangChain's cache has answered. A copy.
        """
        return self._totals.by_model()

    def get_usage_summary(self) -> dict[str, Any]:
        """Return the totals of all calls that have ended.

        Returns:
            ``calls``, ``calls_without_usage``, ``input_tokens``, ``output_tokens``,
            ``total_tokens``, and ``models``, which is `usage_metadata`.
        """
        return self._totals.summary()

    # From here on: LangChain's callbacks. Their first parameters are positional.

    @override
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin ``llm.chat``."""
        self._model_started("llm.chat", run_id, parent_run_id, metadata, kwargs)

    @override
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin ``llm.completion``."""
        self._model_started("llm.completion", run_id, parent_run_id, metadata, kwargs)

    @override
    def on_llm_new_token(
        self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> None:
        """Count a chunk of the answer."""
        self._chunk(run_id, chunk)

    @override
    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count a chunk of the answer, in LangChain's newer form of streams."""
        if isinstance(event, Mapping) and event.get("event") == "content-block-delta":
            self._chunk(run_id, None)

    @override
    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End the call."""
        run = runs.pop(self.bus, run_id)
        if isinstance(run, ModelRun):
            run.answered(response.generations, response.llm_output)
            run.end(None)

    @override
    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: Any = None,
        **kwargs: Any,
    ) -> None:
        """End the call with an error, and with what is known of its answer."""
        run = runs.pop(self.bus, run_id)
        if isinstance(run, ModelRun):
            if response is not None:
                run.answered(response.generations, response.llm_output)
            run.end(error)

    @override
    def on_retry(self, retry_state: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Say that the model is asked again, as langchain-core's retries do."""
        run = runs.get(self.bus, run_id)
        if not isinstance(run, ModelRun) or not self.bus.has_handlers(RETRY):
            return
        known = run.call.metadata
        facts = {key: known[key] for key in RETRY_FACTS if key in known}
        tried = getattr(retry_state, "attempt_number", None)
        measured = {"attempt": tried + 1} if isinstance(tried, int) else {}
        self.bus.execute(RETRY, measured, facts)

    @override
    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin ``llm.tool``."""
        facts: Facts = {
            "operation": "execute_tool",
            "tool_name": _name(serialized, kwargs),
            "tool_call_id": kwargs.get("tool_call_id"),
        }
        self._span_started("llm.tool", facts, run_id, parent_run_id, is_current=True)

    @override
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End the tool."""
        self._span_ended(run_id, None)

    @override
    def on_tool_error(
        self, error: BaseException, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """End the tool with an error."""
        self._span_ended(run_id, error)

    @override
    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin ``llm.tool``: a retriever is a tool that finds documents."""
        facts: Facts = {
            "operation": "retrieval",
            "tool_name": _name(serialized, kwargs),
            "tool_type": "datastore",
        }
        self._span_started("llm.tool", facts, run_id, parent_run_id, is_current=True)

    @override
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End the retriever."""
        self._span_ended(run_id, None)

    @override
    def on_retriever_error(
        self, error: BaseException, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """End the retriever with an error."""
        self._span_ended(run_id, error)

    @override
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin ``llm.agent`` if the chain is one; else remember what it runs in."""
        parent = runs.get(self.bus, parent_run_id)
        agent = _agent(serialized, metadata or {}, kwargs)
        if agent is not None and not (
            isinstance(parent, Run) and parent.agent == agent
        ):
            facts: Facts = {"operation": "invoke_agent", "agent_name": agent}
            # Not current: a chain may be a generator, whose consumer would find it.
            self._span_started(
                "llm.agent", facts, run_id, parent_run_id, is_current=False
            )
            run = runs.get(self.bus, run_id)
            if run is not None:
                run.agent = agent
        elif parent is not None and runs.get(self.bus, run_id) is None:
            runs.add(self.bus, run_id, Run(parent.span, around(), parent.agent))

    @override
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End the agent, if it was one."""
        self._span_ended(run_id, None)

    @override
    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """End the agent with an error, if it was one."""
        self._span_ended(run_id, error)

    def _model_started(
        self,
        prefix: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: dict[str, Any] | None,
        kwargs: dict[str, Any],
    ) -> None:
        known = runs.get(self.bus, run_id)
        if isinstance(known, ModelRun):
            known.watch(self._totals)
            return
        scope, place = within.get(), around()
        operation = OPERATIONS[prefix]
        call = RunCall(self.bus, prefix)
        try:
            facts = facts_of(
                operation, metadata or {}, kwargs.get("invocation_params") or {}
            )
        except Exception:  # noqa: BLE001  # what others put into metadata runs their code
            call.refuse_value()
            facts = {"operation": operation}
        if scope is not None and scope.is_stream:
            facts["stream"] = True
        try:
            _begin(call, facts, runs.get(self.bus, parent_run_id), place)
        except BudgetExceededError:
            # LangChain would log it and ask the model all the same; an instrumented
            # SDK underneath refuses by itself.
            return
        run = ModelRun(call, place, facts.get("model"), self._totals)
        runs.add(self.bus, run_id, run)
        if scope is not None:
            scope.began(self.bus, run_id, run)

    def _chunk(self, run_id: UUID, chunk: object) -> None:
        run = runs.get(self.bus, run_id)
        if isinstance(run, ModelRun):
            run.chunk(chunk)

    def _span_started(
        self,
        prefix: str,
        facts: Facts,
        run_id: UUID,
        parent_run_id: UUID | None,
        *,
        is_current: bool,
    ) -> None:
        if runs.get(self.bus, run_id) is not None:
            return
        place = around()
        parent = runs.get(self.bus, parent_run_id)
        span = Span(self.bus, prefix, scoped=False)
        known = {key: value for key, value in facts.items() if value is not None}
        _begin(span, known, parent, place)
        if not span.is_open:
            if parent is not None:
                runs.add(self.bus, run_id, Run(parent.span, place, parent.agent))
            return
        run = SpanRun(span, place, None if parent is None else parent.agent)
        runs.add(self.bus, run_id, run)
        if is_current:
            run.current.enter()

    def _span_ended(self, run_id: UUID, error: BaseException | None) -> None:
        run = runs.pop(self.bus, run_id)
        if isinstance(run, SpanRun):
            run.end(error)


class EveryRunsHandler(LLMEventsCallbackHandler):
    """The one that `llmevents.instrument` adds to every run."""

    _watches = False


RETRY_FACTS = ("provider", "model", "span_id")


class Totals:
    """What the calls have used that one handler has heard of."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._used: dict[str, Usage] = {}
        self._calls = 0
        self._unknown = 0

    def add(self, model: str, used: Usage | None) -> None:
        """Add one call."""
        with self._lock:
            self._calls += 1
            if used is None:
                self._unknown += 1
                return
            known = self._used.get(model)
            self._used[model] = used if known is None else known + used

    def by_model(self) -> dict[str, dict[str, Any]]:
        """Return usage by model."""
        with self._lock:
            used = dict(self._used)
        return {model: usage_metadata(each) for model, each in used.items()}

    def summary(self) -> dict[str, Any]:
        """Return the totals of all models."""
        with self._lock:
            calls, unknown = self._calls, self._unknown
            models = self.by_model()
        totals = {
            key: sum(each[key] for each in models.values())
            for key in ("input_tokens", "output_tokens", "total_tokens")
        }
        return {
            "calls": calls,
            "calls_without_usage": unknown,
            **totals,
            "models": models,
        }


def _begin(span: Span, facts: Facts, parent: Run | None, place: object) -> None:
    """Begin *span*, under its parent run's unless something else is nearer.

    A span that the program has opened since the parent began is nearer; one of the
    context in which the parent itself began is not.
    """
    if (
        parent is None
        or parent.span is None
        or not (place is None or place is parent.around)
    ):
        span.begin(facts)
        return
    before = current_span.get()
    current_span.set(parent.span)
    try:
        span.begin(facts)
    finally:
        current_span.set(before)


def _agent(
    serialized: object, metadata: Mapping[str, Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the name of the agent that a chain is, or None if it is none.

    ``create_agent`` of langchain 1.x puts the name into the metadata; before that,
    agents were run by an ``AgentExecutor``.
    """
    name = metadata.get("lc_agent_name")
    if isinstance(name, str) and name:
        return str(clean_metadata({"agent_name": name})["agent_name"])
    return EXECUTOR if _name(serialized, kwargs) == EXECUTOR else None


EXECUTOR = "AgentExecutor"


def _name(serialized: object, kwargs: Mapping[str, Any]) -> str | None:
    """Return the name of a run: its own, or that of what is run."""
    name = kwargs.get("name")
    if not isinstance(name, str) and isinstance(serialized, Mapping):
        path = serialized.get("id")
        name = serialized.get("name") or (path[-1] if isinstance(path, list) else None)
    return name if isinstance(name, str) else None
