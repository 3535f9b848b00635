"""Checks of what is given as an option."""

from __future__ import annotations

from math import isfinite
from threading import TIMEOUT_MAX

from llmevents._errors import OptionError


def check_count(value: object, option: str) -> int:
    """Return *value* if it is an integer of 1 or more.

    Raises:
        OptionError: It is not; True and False are no numbers here.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise OptionError(value, option, "an integer of 1 or more")


def check_seconds(value: object, option: str, *, least: float = 0.0) -> float:
    """Return *value* if it is a finite number of at least *least* seconds.

    What exceeds the longest time that a lock can wait, some 292 years, is cut down
    to it.

    Raises:
        OptionError: It is not; True and False are no numbers here.
    """
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (isinstance(value, int) or isfinite(value))
        and value >= least
    ):
        return float(min(value, TIMEOUT_MAX))
    expected = f"a finite number of seconds, {least:g} or more"
    raise OptionError(value, option, expected)


def check_text(value: object, option: str) -> str:
    """Return *value* if it is text, and not empty.

    Raises:
        OptionError: It is not.
    """
    if isinstance(value, str) and value:
        return value
    raise OptionError(value, option, "text that is not empty")
