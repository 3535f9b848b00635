"""`span`: a span as a `with` block and as a decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llmevents._bus import Bus, default_bus
from llmevents._context import current_span, take_out
from llmevents._errors import LLMEventsError
from llmevents._span import Span


if TYPE_CHECKING:
    from types import TracebackType

    from llmevents._types import Metadata, Name

# A decorator gives back what it was given, whatever its signature.
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Span)


class Scope(Generic[S]):
    """A block or decorated function with a span of the type *S* around it.

    Subclasses say what kind of span that is, in `_span_type` and `_silent`.
    """

    __slots__ = ("_bus", "_metadata", "_prefix", "_span")

    _span_type: type[S]
    _silent: S
    """What a block gets while nobody listens: every method of it does nothing."""

    def __init__(
        self,
        prefix: Name,
        metadata: Metadata | None = None,
        *,
        bus: Bus | None = None,
    ) -> None:
        self._bus = default_bus if bus is None else bus
        self._prefix = prefix
        self._metadata = metadata
        self._span: S | None = None

    def __enter__(self) -> S:
        if self._span is not None:
            msg = "this span is entered already; create one with span() per block"
            raise LLMEventsError(msg)
        bus = self._bus
        try:
            if self._prefix in bus.quiet:
                return self._silent
        except TypeError:
            pass  # not hashable: span_names() says what is wrong with it
        if bus.span_names(self._prefix) is None:
            return self._silent
        return self._enter()

    def _enter(self) -> S:
        entered = self._span_type(self._bus, self._prefix, scoped=True)
        entered.begin(self._metadata)
        self._span = entered
        if entered.is_open:
            entered.outer = current_span.get()
            current_span.set(entered)
        return entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        left = self._span
        if left is None:
            return
        self._span = None
        take_out(current_span, left)
        left.leave(error)

    def __call__(self, function: F, /) -> F:
        """Return *function* with a span around each call of it.

        Raises:
            DecoratorError: *function* is a class, a static or class method, or
                cannot be called at all.
        """
        from llmevents._decorate import decorate

        return decorate(function, self._bus, self._prefix, self.again)

    def again(self) -> Scope[S]:
        """Return a scope like this one, for another block."""
        return type(self)(self._prefix, self._metadata, bus=self._bus)

    def handle(self) -> S:
        """Start the span as a handle, which is how a generator has it."""
        started = self._span_type(self._bus, self._prefix, scoped=False)
        started.begin(self._metadata)
        return started


class span(Scope[Span]):  # noqa: N801  # reads as a statement, like contextlib.suppress
    """Emit start and terminal events around a block or a function.

    As a block it gives a `Span` to measure and annotate. As a decorator it works on
    functions, coroutine functions, generators and asynchronous generators, which
    stay what they are. The span is current in its block: spans inside get it as
    their parent. A generator's span is current only inside each of its steps.

    A block that is left early because its generator is closed ends in a stop with
    ``status="cancelled"``; any other exception in an exception event, and it
    propagates unchanged.

    Args:
        prefix: ``"myapp.analyze"`` emits ``myapp.analyze.start`` and then
            ``myapp.analyze.stop`` or ``myapp.analyze.exception``.
        metadata: Part of the start event and of the terminal one. Secrets are
            taken out.
        bus: Where to emit; the default bus unless given.

    Raises:
        EventNameError: *prefix* is malformed.

    Examples:
        >>> import llmevents
        >>> @llmevents.on("myapp.analyze.stop", handler_id="pages")
        ... def note(event, measurements, metadata, config):
        ...     print(".".join(event), measurements["pages"], metadata["language"])
        >>> with llmevents.span("myapp.analyze") as s:
        ...     s.measure(pages=3)
        ...     s.annotate(language="en")
        myapp.analyze.stop 3 en
        >>> llmevents.detach("pages")
    """

    __slots__ = ()

    _span_type = Span
    _silent = Span.silent()
