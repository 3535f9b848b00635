"""The debug logger: every event as one line, for eyes or for machines.

    llmevents.attach_default_logger()

Where a line goes is decided for each event. If the application has configured
`logging`, it becomes a record of the logger ``llmevents.events``, and the
application's handlers and levels decide about it. Otherwise it is written to
standard error: for eyes if that is a terminal, as one JSON object if not.

No line can be forged. Control characters, line separators, bidirectional controls,
terminal escapes and lone surrogates in names, keys and values are escaped; secrets
are taken out; what is long is cut.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TextIO

from llmevents._bus import Bus, default_bus
from llmevents._clock import Clock
from llmevents._errors import HandlerNotFoundError, OptionError
from llmevents._logline import line_processors, record_processors
from llmevents._names import dotted
from llmevents._redact import clean_metadata
from llmevents._subscription import Subscription
from llmevents._types import EventName, Measurements, Metadata, Names


if TYPE_CHECKING:
    from structlog.typing import Processor

__all__ = [
    "HANDLER_ID",
    "LOGGER_NAME",
    "attach_default_logger",
    "detach_default_logger",
]

HANDLER_ID = "llmevents.default_logger"
"""The id that the logger is attached under."""

LOGGER_NAME = "llmevents.events"
"""The logger of `logging` that events go to once an application has configured it."""

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def attach_default_logger(
    level: int | str = "info",
    events: Names = "llm.**",
    *,
    stream: TextIO | None = None,
    bus: Bus | None = None,
) -> Subscription:
    r"""Log every event, one line each: its name, its measurements, its metadata.

    Events ending in ``.exception`` and llmevents' own ``.failure`` events are logged
    at the level "error", or at *level* if that is higher.

    With an application that has handlers on the logger ``llmevents.events``, or on
    one above it such as the root, each event is a record of that logger, and nothing
    is printed here. The record's message is readable, and its attribute
    ``llmevents`` has ``event``, ``measurements`` and ``metadata`` unformatted, for
    formatters that write JSON. Mind that `logging` drops what is below "warning"
    until a level is set: ``logging.basicConfig(level="INFO")``.

    Otherwise lines go to *stream*, whatever *level* is. On a terminal durations read
    ``12.3ms`` and costs ``$0.001234``, in colour unless ``NO_COLOR`` is set
    (no-color.org) or ``TERM`` is ``dumb``. Elsewhere a line is a JSON object in ASCII
    with integers of nanoseconds and nano-US-dollars; a key that is taken gets a
    prefix: ``metadata.event``. Times are those of the bus's clock.

    A line is one write, in the emitting thread, without a lock of ours: a pipe that
    nobody reads blocks the emitter. A stream that cannot be written to is a handler
    failure, which the bus counts and reports; so is a line from a signal handler
    that interrupts the write of another, which Python's streams refuse.

    Args:
        level: ``"debug"``, ``"info"``, ``"warning"``, ``"error"`` or a level of
            `logging`.
        events: Names or patterns, as for `Bus.attach`.
        stream: Where to write, in any case. By default the application's `logging`
            or, without one, what `sys.stderr` is now.
        bus: Which bus to listen to; the default bus unless given.

    Returns:
        A handle that detaches the logger, like `detach_default_logger`.

    Raises:
        EventNameError: *events* is malformed.
        HandlerExistsError: The logger is attached to this bus already. Call
            `detach_default_logger` first.
        OptionError: *level* is unknown.

    Examples:
        >>> import io
        >>> import llmevents
        >>> lines = io.StringIO()
        >>> with llmevents.attach_default_logger(stream=lines):
        ...     llmevents.execute("llm.cache.hit", {"count": 1}, {"cache": "prompts"})
        >>> lines.getvalue().partition(", ")[2]
        '"level": "info", "event": "llm.cache.hit", "count": 1, "cache": "prompts"}\n'
    """
    chosen = default_bus if bus is None else bus
    output = _Output.make(checked_level(level), stream, chosen.clock)
    return chosen.attach(HANDLER_ID, events, log_event, output)


def detach_default_logger(*, bus: Bus | None = None) -> None:
    """Stop logging events. Where no logger is attached, this does nothing."""
    try:
        (default_bus if bus is None else bus).detach(HANDLER_ID)
    except HandlerNotFoundError:
        return


def log_event(
    event: EventName, measurements: Measurements, metadata: Metadata, config: _Output
) -> None:
    """Log one event. This is the handler; what it writes to is its config."""
    level, level_name = config.failures if _is_failure(event) else config.others
    if config.application is not None and config.application.hasHandlers():
        if not config.application.isEnabledFor(level):
            return
        write = config.to_application
    else:
        write = config.to_stream
    # Handlers get what execute() was given, as it was given.
    write(
        event=dotted(event),
        level=level_name,
        level_number=level,
        time_ns=config.clock.time_ns(),
        measurements=clean_metadata(measurements),
        metadata=clean_metadata(metadata),
    )


def _is_failure(event: EventName) -> bool:
    last = event[-1]
    return last == "exception" or (last == "failure" and event[0] == "llmevents")


def checked_level(level: object) -> int:
    if isinstance(level, str) and level in _LEVELS:
        return _LEVELS[level]
    # `logging` makes up names for the levels that it does not know: "Level 17".
    if (
        isinstance(level, int)
        and level > 1  # neither a bool nor NOTSET
        and not logging.getLevelName(level).startswith("Level ")
    ):
        return level
    names = ", ".join(map(repr, _LEVELS))
    raise OptionError(level, "level", f"{names} or a level such as logging.INFO")


class _Output(NamedTuple):
    """Where events go, and at which level: made once, when the logger is attached."""

    others: tuple[int, str]
    failures: tuple[int, str]
    clock: Clock
    application: logging.Logger | None
    to_application: Callable[..., object]
    to_stream: Callable[..., object]

    @classmethod
    def make(cls, level: int, stream: TextIO | None, clock: Clock) -> _Output:
        def named(number: int) -> tuple[int, str]:
            return number, logging.getLevelName(number).lower()

        application = logging.getLogger(LOGGER_NAME)
        # Without a console there may be no sys.stderr (pythonw on Windows).
        target = stream if stream is not None else getattr(sys, "stderr", None)
        return cls(
            others=named(level),
            failures=named(max(level, logging.ERROR)),
            clock=clock,
            application=application if stream is None else None,
            to_application=_structlog(_Records(application), record_processors()),
            to_stream=_structlog(_Lines(target), line_processors(target)),
        )


def _structlog(sink: object, processors: list[Processor]) -> Callable[..., object]:
    """Return the ``msg`` method of a structlog logger with *processors* of its own.

    Everything is given, so that `structlog.configure` changes nothing here.
    """
    import structlog

    logger = structlog.wrap_logger(
        sink,
        processors=processors,
        wrapper_class=structlog.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    write: Callable[..., object] = logger.bind().msg
    return write


class _Lines:
    """A stream that lines are written to, each with one call."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            stream.write(f"{line}\n")
        except UnicodeEncodeError:
            # A stream encodes before it writes, so that nothing is out yet.
            stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
        stream.flush()


class _Records:
    """The application's logging."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def msg(self, level: int, template: str, pairs: str, facts: object) -> None:
        self._logger.log(level, template, pairs, extra={"llmevents": facts})
