"""Event names and patterns: reading, checking, matching."""

from __future__ import annotations

from llmevents._errors import EventNameError
from llmevents._show import show
from llmevents._types import EventName, Name


ONE = "*"
ANY = "**"


def parse_name(name: object, *, may_be_empty: bool = False) -> EventName:
    """Read an event name, or a prefix of one, into its tuple form.

    Args:
        name: Dotted text or a tuple of segments. A segment is printable text that
            is not empty and contains neither a dot nor an asterisk.
        may_be_empty: Whether ``""`` and ``()`` are accepted, as the prefix of
            everything.

    Raises:
        EventNameError: *name* is none of that.
    """
    segments = _split(name, may_be_empty=may_be_empty)
    for segment in segments:
        _check_segment(name, segment)
        if ONE in segment:
            reason = (
                f"segment {show(segment)} has a wildcard; only attach() takes patterns"
            )
            raise EventNameError(name, reason)
    return segments


def parse_pattern(pattern: object) -> EventName:
    """Read a name or pattern, in which ``*`` is one segment and ``**`` any number.

    Raises:
        EventNameError: *pattern* is neither, or a wildcard is only part of a segment.
    """
    segments = _split(pattern, may_be_empty=False)
    for segment in segments:
        _check_segment(pattern, segment)
        if ONE in segment and segment not in {ONE, ANY}:
            reason = (
                f"a wildcard must be a whole segment, got {show(segment)}; "
                "write '*' for one segment or '**' for any number"
            )
            raise EventNameError(pattern, reason)
    return segments


def parse_events(events: object) -> tuple[EventName, ...]:
    """Read one name or pattern, or a list of them; duplicates are dropped.

    Raises:
        EventNameError: The list is empty or one of its items is no name.
    """
    if not isinstance(events, list):
        return (parse_pattern(events),)
    if not events:
        raise EventNameError(
            events, "a list of events needs at least one name or pattern"
        )
    return tuple(dict.fromkeys(parse_pattern(event) for event in events))


def dotted(name: Name) -> str:
    """Return the dotted form: ``("llm", "chat")`` is ``"llm.chat"``."""
    return name if isinstance(name, str) else ".".join(name)


def is_pattern(segments: EventName) -> bool:
    """Whether any segment is a wildcard."""
    return ONE in segments or ANY in segments


def matches(pattern: EventName, name: EventName) -> bool:
    """Whether *name* fits *pattern*, in time proportional to their lengths' product.

    The usual two-pointer walk of glob matching: on a mismatch it goes back to the
    last ``**`` only and lets that take one segment more.
    """
    here = position = 0
    retry, taken = -1, 0
    while position < len(name):
        wanted = pattern[here] if here < len(pattern) else None
        if wanted == ANY:
            retry, taken = here, position
            here += 1
        elif wanted is not None and wanted in {ONE, name[position]}:
            here += 1
            position += 1
        elif retry >= 0:
            taken += 1
            here, position = retry + 1, taken
        else:
            return False
    return all(segment == ANY for segment in pattern[here:])


def _split(name: object, *, may_be_empty: bool) -> EventName:
    if isinstance(name, str):
        segments: tuple[object, ...] = tuple(name.split(".")) if name else ()
    elif isinstance(name, tuple):
        segments = name
    else:
        reason = (
            f"expected dotted text or a tuple of text, got {type(name).__name__}; "
            "write 'llm.chat.stop' or ('llm', 'chat', 'stop')"
        )
        raise EventNameError(name, reason)
    if not segments and not may_be_empty:
        raise EventNameError(name, "it is empty; write 'llm.chat.stop' for example")
    for segment in segments:
        if not isinstance(segment, str):
            kind = type(segment).__name__
            reason = f"segment {show(segment)} is {kind}, not text; write it as text"
            raise EventNameError(name, reason)
    # Of a named tuple a plain one, and of an enumeration's text the text.
    return tuple(str.__str__(segment) for segment in segments)


def _check_segment(name: object, segment: str) -> None:
    if not segment:
        raise EventNameError(name, "it has an empty segment; remove the extra dot")
    if "." in segment:
        reason = (
            f"segment {show(segment)} contains a dot; split it, "
            "or use a list to name several events"
        )
        raise EventNameError(name, reason)
    if not segment.isprintable():
        reason = f"segment {show(segment)} has unprintable characters; remove them"
        raise EventNameError(name, reason)
