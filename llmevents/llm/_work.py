"""What surrounds calls: tools, agents and tasks. They never carry tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from llmevents._context import context
from llmevents._scope import Scope
from llmevents._span import Span


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from llmevents._bus import Bus
    from llmevents._types import Metadata, Name

    F = TypeVar("F", bound=Callable[..., Any])


class WorkScope(Scope[Span]):
    """A span around a tool, an agent or a task; works like `llmevents.span`.

    What the calls inside use is theirs to state: a span that repeated it would count
    it twice.
    """

    __slots__ = ("_ambient",)

    _span_type = Span
    _silent = Span.silent()

    def __init__(
        self,
        prefix: Name,
        metadata: Metadata | None = None,
        *,
        bus: Bus | None = None,
    ) -> None:
        super().__init__(prefix, metadata, bus=bus)
        self._ambient: context | None = None

    def __enter__(self) -> Span:
        entered = super().__enter__()
        task_id = self._task_id()
        if task_id is not None:
            self._ambient = context(task_id=task_id)
            self._ambient.__enter__()
        return entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ambient, self._ambient = self._ambient, None
        if ambient is not None:
            ambient.__exit__(kind, error, traceback)
        super().__exit__(kind, error, traceback)

    def __call__(self, function: F, /) -> F:
        """Return *function* with a span around each call of it; see `Scope`."""
        from llmevents._decorate import decorate

        always = self._task_id() is not None
        return decorate(function, self._bus, self._prefix, self.again, always=always)

    def _task_id(self) -> object:
        return None if self._metadata is None else self._metadata.get("task_id")


def tool(
    name: str,
    *,
    call_id: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> WorkScope:
    """Emit ``llm.tool`` events around the execution of a tool.

    Args:
        name: The tool's.
        call_id: The id that the model gave to this call of it.
        bus: The default bus unless given.
        metadata: Further metadata, such as ``tool_type``; no arguments or results.

    Examples:
        >>> from llmevents import llm
        >>> from llmevents.testing import capture
        >>> @llm.tool("add")
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> with capture("llm.tool.stop") as events:
        ...     add(1, 2)
        3
        >>> events[0].metadata["tool_name"]
        'add'
    """
    known = _known(tool_name=name, tool_call_id=call_id, operation="execute_tool")
    return WorkScope("llm.tool", {**metadata, **known}, bus=bus)


def agent(
    name: str | None = None,
    *,
    agent_id: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> WorkScope:
    """Emit ``llm.agent`` events around what an agent does: its calls and its tools.

    Args:
        name: The agent's.
        agent_id: Its id.
        bus: The default bus unless given.
        metadata: Further metadata, such as the ``model`` that it works with.
    """
    known = _known(agent_name=name, agent_id=agent_id, operation="invoke_agent")
    return WorkScope("llm.agent", {**metadata, **known}, bus=bus)


def task(
    name: str | None = None,
    *,
    task_id: str | None = None,
    bus: Bus | None = None,
    **metadata: object,
) -> WorkScope:
    """Emit ``llm.task`` events around one piece of work, whatever it takes.

    From them come the metrics ``task.duration.seconds``, ``task.success.total`` and
    ``active_tasks`` of the preset `llmevents.metrics.presets.service`.

    Args:
        name: What kind of task it is.
        task_id: Which one it is. All events in the block state it; those in a
            decorated generator, whose consumer they would reach as well, do not.
        bus: The default bus unless given.
        metadata: Further metadata.

    Examples:
        >>> from llmevents import llm
        >>> from llmevents.testing import capture
        >>> with capture("llm.*.stop") as events:
        ...     with llm.task("report", task_id="t-1"), llm.chat(model="tiny-1"):
        ...         pass
        >>> [(event.name, event.metadata["task_id"]) for event in events]
        [('llm.chat.stop', 't-1'), ('llm.task.stop', 't-1')]
    """
    known = _known(workflow_name=name, task_id=task_id, operation="invoke_workflow")
    return WorkScope("llm.task", {**metadata, **known}, bus=bus)


def _known(**named: str | None) -> dict[str, str]:
    return {key: value for key, value in named.items() if value is not None}
