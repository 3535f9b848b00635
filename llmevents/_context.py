"""Ambient metadata: what is true of everything that happens in a block.

No contextvar token is held anywhere. A token may only be reset in the context it
came from, and generators and callbacks leave blocks in other contexts than they
entered them; instead, a block restores the variable if it still holds its value.
Nor need blocks be left in the order in which they were entered, when two generators
take turns: what a variable holds knows what it was put over, and a block that is
left takes its own value out from among the others.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar

from llmevents._bus import ambient, default_bus, use_context
from llmevents._errors import HandlerError, LLMEventsError


if TYPE_CHECKING:
    from types import TracebackType

    from llmevents._span import Span
    from llmevents._types import Metadata

P = ParamSpec("P")
R = TypeVar("R")

RESERVED_METADATA = frozenset(
    {"span_id", "parent_span_id", "scoped", "kind", "error_type", "error_message"}
)
"""Keys of metadata that are the library's; what a user puts there is dropped."""

current_span: ContextVar[Span | None] = ContextVar("llmevents_span", default=None)
"""The innermost span of this context that somebody listens to."""


class Entered(Protocol):
    """What a context variable holds while a block is entered."""

    # Another of its kind, or None.
    outer: Any


def take_in(variable: ContextVar[Any], entered: Entered) -> bool:
    """Let *variable* hold *entered*, unless that is among what it holds already.

    Returns:
        Whether it did, so that `take_out` is due.
    """
    outer = inner = variable.get()
    while inner is not None:
        if inner is entered:
            return False
        inner = inner.outer
    entered.outer = outer
    variable.set(entered)
    return True


def take_out(variable: ContextVar[Any], left: Entered) -> None:
    """Let *variable* no longer hold *left*, nor come back to it later."""
    inner = variable.get()
    if inner is left:
        variable.set(left.outer)
    else:
        while inner is not None and inner.outer is not left:
            inner = inner.outer
        if inner is not None:
            inner.outer = left.outer
    # Tasks of which each begins the next one in a block would keep all of them.
    left.outer = None


class _Ambient(dict[str, Any]):
    """The metadata of one block, merged, and that of the block around it."""

    __slots__ = ("outer",)

    def __init__(self, values: Mapping[str, Any], outer: Metadata | None) -> None:
        super().__init__(values)
        self.outer = outer


class context:  # noqa: N801  # reads as a statement, like contextlib.suppress
    """Add metadata to every event that is emitted within a block.

    Explicit metadata of an event beats the context, and an inner block beats an
    outer one; a value of None removes the outer one's key. Secrets are taken out
    of the values once, at entry, and so are the library's own keys (``span_id``,
    ``kind``, ``error_type``, ...), which the default bus counts in
    ``stats()["refused_values"]``. Tasks started in the block inherit it; for
    threads there is `propagate`.

    Args:
        values: Metadata as a mapping, for keys that are no identifiers.
        more: Metadata as keywords; they win over *values*.

    Raises:
        LLMEventsError: The same object is entered again before it was left.

    Examples:
        >>> import llmevents
        >>> seen = []
        >>> @llmevents.on("docs.saved", handler_id="docs")
        ... def note(event, measurements, metadata, config):
        ...     seen.append(metadata)
        >>> with llmevents.context(user_id="u-1"):
        ...     llmevents.execute("docs.saved", {"count": 1}, {"page": 3})
        >>> seen
        [{'user_id': 'u-1', 'page': 3}]
        >>> llmevents.detach("docs")
    """

    __slots__ = ("_inner", "_values")

    def __init__(
        self, values: Mapping[str, object] | None = None, /, **more: object
    ) -> None:
        self._values: dict[str, object] = {**(values or {}), **more}
        self._inner: _Ambient | None = None

    def __enter__(self) -> None:
        from llmevents._redact import clean_metadata

        if self._inner is not None:
            msg = "this context is entered already; create one with context() per block"
            raise LLMEventsError(msg)
        use_context()
        outer = ambient.get()
        cleaned = clean_metadata(self._values)
        for key in RESERVED_METADATA.intersection(cleaned):
            del cleaned[key]
            default_bus.refuse_value()
        merged = {**(outer or {}), **cleaned}
        known = {key: value for key, value in merged.items() if value is not None}
        self._inner = _Ambient(known, outer)
        ambient.set(self._inner)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        left, self._inner = self._inner, None
        if left is not None:
            take_out(ambient, left)


_Values: TypeAlias = "tuple[Metadata | None, Span | None]"

_entered: ContextVar[object] = ContextVar("llmevents_enclave", default=None)
"""The key of the enclave that is entered in this context, which tells it from others.

Not the enclave: tasks that are begun in it would keep it alive.
"""


class Enclave:
    """The context variables of a generator, kept apart from those of its consumer.

    A generator runs in the context of whoever asks for the next item. Entered
    around each step, an enclave puts the generator's own span and metadata in
    place, and afterwards puts back what the consumer had. A step that begins in one
    context and ends in another, as when it is given up on, leaves the other alone.
    """

    __slots__ = ("__weakref__", "_inside", "_key", "_outer_key", "_outside")

    def __init__(self, span: Span) -> None:
        # A span that nobody listens to is no parent.
        current = span if span.is_open else current_span.get()
        self._inside: _Values = (ambient.get(), current)
        self._outside: _Values = (None, None)
        self._key = object()
        self._outer_key: object = None

    def __enter__(self) -> None:
        self._outside = (ambient.get(), current_span.get())
        self._outer_key = _entered.get()
        _entered.set(self._key)
        self._put(self._inside)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _entered.get() is not self._key:
            return
        self._inside = (ambient.get(), current_span.get())
        self._put(self._outside)
        _entered.set(self._outer_key)

    def run(self, function: Callable[[], object]) -> None:
        """Call *function* within."""
        with self:
            function()

    @staticmethod
    def _put(values: _Values) -> None:
        ambient.set(values[0])
        current_span.set(values[1])


def when_lost(
    holder: object, span: Span, end: Callable[[], object]
) -> weakref.finalize[..., Any]:
    """Call *end* of *span* when *holder* is garbage collected, or at exit.

    The collector comes at any time, so in the middle of something that has nothing to
    do with the span; what it emits keeps the metadata that is ambient now. That, and
    no copy of the context, which might lead back to *holder* and keep it for ever.
    """
    return weakref.finalize(holder, Enclave(span).run, end)


def propagate(function: Callable[P, R], /) -> Callable[P, R]:
    """Return *function* bound to a copy of the current context, for another thread.

    Everything that is in context variables goes along: ambient metadata, the
    current span, and what other libraries keep there (OpenTelemetry's parent, for
    one). Each call runs in a copy of its own, so that calls may overlap.

    Raises:
        HandlerError: *function* is a coroutine function. Tasks inherit the context
            of their creator by themselves, also through
            `asyncio.run_coroutine_threadsafe`. Or it is a generator function: its
            body runs wherever the items are asked for.

    Examples:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from llmevents import propagate
        >>> with ThreadPoolExecutor() as pool:
        ...     pool.submit(propagate(len), "abc").result()
        3
    """
    _check_propagated(function)
    captured = copy_context()

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return captured.copy().run(function, *args, **kwargs)

    return run


def _check_propagated(function: Callable[..., object]) -> None:
    import inspect

    if inspect.iscoroutinefunction(function):
        reason = (
            "is a coroutine function, whose body runs in its task's context; "
            "start the task inside the block and it inherits the context"
        )
        raise HandlerError(function, reason)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        reason = (
            "is a generator function, whose body runs in the context of its consumer; "
            "propagate the function that asks for the items"
        )
        raise HandlerError(function, reason)
