"""Measurements and text as people read them, in characters that can be printed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from llmevents.events import find


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

VALUE_LIMIT = 512
"""Characters of one value, before those that cannot be printed are escaped."""

# What could make text pass for something else: for another pair, or for a repr.
_NEEDS_QUOTES = frozenset(" =\"'\\")

# Measurements of events that nobody has declared.
_DURATIONS = frozenset({"duration", "monotonic_time", "time_to_first_chunk"})


def shown(value: object) -> str:
    """Return *value* in characters that can all be printed, and not too many.

    Control characters, separators of lines, bidirectional controls, lone surrogates
    and whatever else `str.isprintable` refuses are escaped as `repr` does it. Text
    is quoted where it could pass for something else.

    Args:
        value: Text, number, bool, None, or a list or dict of such, as
            `clean_metadata` leaves them.
    """
    text = value if isinstance(value, str) else repr(value)
    hidden = len(text) - VALUE_LIMIT
    if hidden > 0:
        text = f"{text[:VALUE_LIMIT]}...[+{hidden} characters]"
    if not isinstance(value, str):
        return text
    is_plain = text and text.isprintable() and _NEEDS_QUOTES.isdisjoint(text)
    return text if is_plain else repr(text)


def readable(event: str, measurements: Mapping[str, object]) -> dict[str, object]:
    """Return *measurements* with durations, times and costs as text.

    Units are those of the catalogue; for events that are not declared, the usual
    keys tell.

    Args:
        event: The event's dotted name.
        measurements: As `clean_metadata` leaves them.
    """
    declared = find(event)
    units = declared.measurements if declared is not None else {}
    return {
        key: _quantity(key, units[key].unit if key in units else _unit_of(key), value)
        for key, value in measurements.items()
    }


def utc(time_ns: int) -> datetime:
    """Return a time of the wall clock, in nanoseconds since the epoch, as UTC.

    Raises:
        OverflowError: It is beyond the year 9999, or before the year 1.
    """
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def _unit_of(key: str) -> str:
    if key in _DURATIONS or key.endswith("_duration"):
        return "nanosecond"
    return "nano_usd" if key.endswith("_nano_usd") else ""


def _quantity(key: str, unit: str, value: object) -> object:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return value
    if key == "system_time":
        return _wall_time(value)
    if unit == "nanosecond":
        return _duration(value)
    return _dollars(value) if unit == "nano_usd" else value


def _duration(nanoseconds: float) -> str:
    size = abs(nanoseconds)
    for unit, symbol, digits in ((10**9, "s", 3), (10**6, "ms", 1), (10**3, "µs", 1)):
        if size >= unit:
            return f"{nanoseconds / unit:.{digits}f}{symbol}"
    return f"{nanoseconds}ns"


def _dollars(nano_usd: float) -> str:
    """Return dollars to the micro-dollar, and integers to the nano-dollar if needed."""
    if not isinstance(nano_usd, int):
        return f"${nano_usd / 10**9:.6f}"
    dollars, rest = divmod(abs(nano_usd), 10**9)
    decimals = f"{rest:09}"
    sign = "-" if nano_usd < 0 else ""
    return f"{sign}${dollars}.{decimals[:6]}{decimals[6:].rstrip('0')}"


def _wall_time(time_ns: float) -> str:
    try:
        return f"{utc(int(time_ns)):%Y-%m-%dT%H:%M:%S.%fZ}"
    except OverflowError:
        return str(time_ns)
