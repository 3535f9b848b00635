"""Names and tags as StatsD may have them: no character of theirs ends anything.

A colon, a bar, an at sign, a hash, a comma or a newline in a name or a tag would begin
another field, tag or metric. All that is not allowed becomes an underscore.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


NAME_LENGTH = 200
"""Characters of a name, as Datadog limits them (docs, metrics/custom_metrics)."""

SEGMENT_LENGTH = 128
"""Characters of a tag's value."""

KEY_LENGTH = 64
"""Characters of a tag's name; with the value it stays under Datadog's 200."""

NONE = "none"
"""Stands for a missing tag where tags are told apart by their place."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]", re.ASCII)
_NOT_IN_SEGMENTS = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_./-]", re.ASCII)


def clean_name(name: str) -> str:
    """Return a metric's name; dots stay."""
    return _NOT_IN_NAMES.sub("_", name[:NAME_LENGTH])


def clean_key(key: str) -> str:
    """Return a tag's name."""
    return _NOT_IN_NAMES.sub("_", key[:KEY_LENGTH])


def segments(keys: Iterable[str], tags: Mapping[str, str]) -> str:
    """Return the values of *keys*, each as a dot and one segment of a name."""
    values = (tags.get(key) or NONE for key in keys)
    return "".join(
        "." + _NOT_IN_SEGMENTS.sub("_", value[:SEGMENT_LENGTH]) for value in values
    )


def suffix(tags: Mapping[str, str]) -> str:
    """Return *tags* as the last field of a DogStatsD line; empty ones are left out."""
    fields = ",".join(
        f"{clean_key(key)}:{_NOT_IN_TAGS.sub('_', value[:SEGMENT_LENGTH])}"
        for key, value in tags.items()
        if key and value
    )
    return f"|#{fields}" if fields else ""
