"""How the debug logger's events become text: structlog processors.

Each chain starts with a dict of ``event``, ``level``, ``level_number``, ``time_ns``,
``measurements`` and ``metadata``, the last two cleaned.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, TextIO

from llmevents._readable import readable, shown, utc


if TYPE_CHECKING:
    from structlog.dev import Column, ConsoleRenderer
    from structlog.typing import EventDict, Processor

# Keys of a line that are not the event's own. structlog's console renderer prints
# the last three on lines of their own, and takes the empty one for its default column.
_RESERVED = frozenset(
    {"", "timestamp", "level", "event", "stack", "exception", "exc_info"}
)


def line_processors(stream: TextIO | None) -> list[Processor]:
    """Return how events become lines on *stream*: for eyes or as JSON."""
    if _is_terminal(stream):
        return [_for_terminal, _console(_columns(colours=_has_colours()))]
    from structlog.processors import JSONRenderer

    return [_for_machines, JSONRenderer(_dumps, ensure_ascii=True, allow_nan=False)]


def record_processors() -> list[Processor]:
    """Return how events become the arguments of a record of `logging`."""
    return [_AsRecord()]


class _AsRecord:
    """Last processor for records of `logging`.

    The name is part of the template, because error trackers group by that.
    """

    __slots__ = ("_render",)

    def __init__(self) -> None:
        self._render = _console(_columns(colours=False)[-1:])

    def __call__(
        self, logger: object, method: str, event_dict: EventDict
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        facts = {key: event_dict[key] for key in ("event", "measurements", "metadata")}
        pairs = self._render(logger, method, _pairs(event_dict, for_eyes=True))
        template = shown(event_dict["event"]).replace("%", "%%") + " %s"
        return (event_dict["level_number"], template, pairs, facts), {}


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except Exception:  # noqa: BLE001  # closed, or no more than a write method
        return False


def _has_colours() -> bool:
    # Consoles of Windows need to be switched to escape sequences first.
    if os.name == "nt" or os.environ.get("TERM") == "dumb":
        return False
    return not os.environ.get("NO_COLOR")


def _for_machines(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    return {
        "timestamp": f"{utc(event_dict['time_ns']):%Y-%m-%dT%H:%M:%S.%fZ}",
        "level": event_dict["level"],
        "event": event_dict["event"],
        **_pairs(event_dict),
    }


# Any: structlog hands the options on that it was given.
def _dumps(record: EventDict, **options: Any) -> str:  # noqa: ANN401
    # JSON allows DEL in strings (RFC 8259, section 7); terminals act on it.
    return json.dumps(record, **options).replace("\x7f", "\\u007f")


def _for_terminal(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    time = utc(event_dict["time_ns"]).astimezone()
    return {
        "timestamp": f"{time:%H:%M:%S}.{time.microsecond // 1000:03}",
        "level": event_dict["level"],
        "event": event_dict["event"],
        **_pairs(event_dict, for_eyes=True),
    }


def _pairs(event_dict: EventDict, *, for_eyes: bool = False) -> dict[str, Any]:
    """Return measurements and metadata in one dict, under keys that do not clash."""
    pairs: dict[str, Any] = {}
    measurements = event_dict["measurements"]
    if for_eyes:
        measurements = readable(event_dict["event"], measurements)
    both = ("measurements", measurements), ("metadata", event_dict["metadata"])
    for kind, values in both:
        for key, value in values.items():
            free = key
            while free in _RESERVED or free in pairs:
                free = f"{kind}.{free}"
            pairs[free] = value
    return pairs


def _console(columns: list[Column]) -> ConsoleRenderer:
    from structlog.dev import ConsoleRenderer

    return ConsoleRenderer(columns=columns, sort_keys=False)


def _columns(*, colours: bool) -> list[Column]:
    """Return how each part of a line is written; the last one is for the pairs."""
    from structlog.dev import Column, ConsoleRenderer

    codes = ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[35m")
    reset, bright, dim, cyan, magenta = codes if colours else ("",) * len(codes)
    levels = ConsoleRenderer.get_default_level_styles(colours)

    # structlog's protocol passes the key by this name.
    def time(key: str, value: object) -> str:  # noqa: ARG001
        return f"{dim}{value}{reset}"

    def level(key: str, value: object) -> str:  # noqa: ARG001
        return f"[{levels.get(str(value), '')}{value!s:<7}{reset}]"

    def name(key: str, value: object) -> str:  # noqa: ARG001
        return f"{bright}{shown(value):<26}{reset}"

    def pair(key: str, value: object) -> str:
        return f"{cyan}{shown(key)}{reset}={magenta}{shown(value)}{reset}"

    return [
        Column("timestamp", time),
        Column("level", level),
        Column("event", name),
        Column("", pair),
    ]
