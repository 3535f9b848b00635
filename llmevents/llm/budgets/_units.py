"""What budgets count in, and how amounts are written."""

from __future__ import annotations

from typing import NamedTuple

from llmevents._errors import OptionError


NANO = 1_000_000_000
"""Nano-US-dollars in a US dollar."""

LARGEST = (1 << 63) - 1
"""The largest amount: what SQL databases keep as an integer. 9.2 billion dollars."""

_DIGITS = 10
"""Digits before the point of the largest amount of dollars."""


class Unit(NamedTuple):
    """What a budget counts in.

    Attributes:
        name: As events state it.
        measurements: Where a terminal event has the amount: the first that is there,
            of those in one tuple the sum.
    """

    name: str
    measurements: tuple[tuple[str, ...], ...]


_MONEY = Unit("nano_usd", (("cost_nano_usd",),))

UNITS: dict[str, Unit] = {
    "usd": _MONEY,
    "nano_usd": _MONEY,
    "tokens": Unit("token", (("total_tokens",), ("input_tokens", "output_tokens"))),
    "input_tokens": Unit("token", (("input_tokens",),)),
    "output_tokens": Unit("token", (("output_tokens",),)),
    "calls": Unit("call", ()),
}
"""As a budget's ``unit`` is written -> what it means."""


def read_amount(value: object, unit: str, option: str) -> int:
    """Return *value*, as written for *unit*, in the unit that is counted in.

    Raises:
        OptionError: It is no such amount, is not above 0, or is too large.
    """
    if unit == "usd":
        return _read_usd(value, option)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST:
        return int(value)
    raise OptionError(value, option, f"an integer of 1 or more, in {unit}")


def _read_usd(value: object, option: str) -> int:
    nano = None if isinstance(value, bool) else _nano_usd(value)
    if nano is None:
        expected = (
            "US dollars above 0 with at most 9 decimals, as 10, '0.50' or Decimal"
        )
        raise OptionError(value, option, expected)
    return nano


def _nano_usd(value: object) -> int | None:
    from decimal import Decimal, InvalidOperation
    from fractions import Fraction

    if not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        # The repr of a float is the number that was written.
        usd = Decimal(repr(value) if isinstance(value, float) else value)
    except (InvalidOperation, ValueError):
        return None
    # Looked at before it is multiplied: 1e999999 has a million digits.
    if not usd.is_finite() or usd <= 0 or not -_DIGITS < usd.adjusted() < _DIGITS:
        return None
    nano = Fraction(usd) * NANO
    return int(nano) if nano.denominator == 1 and nano <= LARGEST else None
