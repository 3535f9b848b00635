"""Type aliases that users annotate their handlers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias


EventName: TypeAlias = tuple[str, ...]
"""An event's name as every handler receives it: ``("llm", "chat", "stop")``."""

Name: TypeAlias = str | EventName
"""A name as callers may write it: dotted text or a tuple of segments."""

Names: TypeAlias = Name | list[str] | list[EventName] | list[Name]
"""One name or pattern, or a list of them; a tuple is always one name."""

Measurements: TypeAlias = Mapping[str, int | float]
"""Numbers of one event. Nanoseconds, bytes, tokens and nano-US-dollars are integers."""

# Metadata is the users' own: whatever type they put in, their handlers get out.
Metadata: TypeAlias = Mapping[str, Any]
"""Facts about one event."""

Handler: TypeAlias = Callable[[EventName, Measurements, Metadata, Any], object]
"""``handler(event, measurements, metadata, config)``; its result is ignored."""

FailurePolicy: TypeAlias = Literal["keep", "detach", "raise"]
"""What becomes of a handler that raised an `Exception`."""
