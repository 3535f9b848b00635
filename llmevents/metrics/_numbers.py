"""Values as metrics take them in: finite, and not too large to be added up."""

from __future__ import annotations

from llmevents._tally import Tally
from llmevents._values import clean_number


INTEGER_BITS = 63

LARGEST_INTEGER = (1 << INTEGER_BITS) - 1
"""What fits 64 bits, which is what every back end takes."""

LARGEST_FLOAT = 1e290
"""Fewer than 10**18 such values cannot add up to infinity."""

ABSENT = object()
"""What is found where an event lacks a measurement."""


class Checks:
    """Checks values, and counts the ones that it does not let through.

    Attributes:
        refused: How many could not be used.
        skipped: How many were not there.
    """

    __slots__ = ("refused", "skipped")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin to count at 0."""
        self.refused = Tally()
        self.skipped = Tally()

    def signed(self, value: object) -> int | float | None:
        """Return *value* as a number, or None if it is absent or cannot be used."""
        if value is ABSENT:
            self.skipped.add()
            return None
        number = clean_number(value)
        if number is not None:
            largest = LARGEST_INTEGER if isinstance(number, int) else LARGEST_FLOAT
            if -largest <= number <= largest:
                return number
        self.refused.add()
        return None

    def growing(self, value: object) -> int | float | None:
        """Return the same, and None for what would make a total go down."""
        number = self.signed(value)
        if number is not None and number < 0:
            self.refused.add()
            return None
        return number
