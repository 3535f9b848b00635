"""The switch that turns llmevents off from outside."""

from __future__ import annotations

import os


def disabled() -> bool:
    """Whether ``LLMEVENTS_DISABLED`` is 1, true, yes or on in the environment.

    Decorators then return the function they were given, and `instrument` does
    nothing. Read when they are applied, so set it before the program starts.
    """
    value = os.environ.get("LLMEVENTS_DISABLED", "")
    return value.strip().lower() in {"1", "true", "yes", "on"}
