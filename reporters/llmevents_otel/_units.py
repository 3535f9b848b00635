"""Units as OpenTelemetry writes them: UCUM codes, and names in braces."""

from __future__ import annotations

import re


# The Unified Code for Units of Measure, version 2.2, case sensitive; prefixes as in
# OpenTelemetry's semantic conventions 1.41, "Instrument units".
CODES = {
    "nanosecond": "ns",
    "microsecond": "us",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
    "byte": "By",
    "kilobyte": "kBy",
    "megabyte": "MBy",
    "gigabyte": "GBy",
    "kibibyte": "KiBy",
    "mebibyte": "MiBy",
    "gibibyte": "GiBy",
    "ratio": "1",
    "percent": "%",
    "nano_usd": "n{USD}",
    "micro_usd": "u{USD}",
    "cent": "{cent}",
    "usd": "{USD}",
}

LONGEST = 63
"""Characters of a unit (OpenTelemetry specification 1.49, metrics API)."""

_NOT_IN_BRACES = re.compile(r"[^\x21-\x7a|~]")


def ucum(unit: str) -> str:
    """Return what *unit* is in UCUM; a unit that it lacks becomes an annotation.

    Examples:
        >>> from llmevents_otel._units import ucum
        >>> ucum("second"), ucum("token"), ucum("By"), ucum("")
        ('s', '{token}', 'By', '')
    """
    if unit in CODES:
        return CODES[unit]
    if not unit or unit in CODES.values():
        return unit
    return f"{{{_NOT_IN_BRACES.sub('_', unit.strip('{}'))[: LONGEST - 2]}}}"
