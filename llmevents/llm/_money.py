"""Exact money: dollars come in as fractions, and leave as integer nano-dollars."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import isfinite

from llmevents._errors import OptionError


NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

DIGITS = 40
"""Digits of a number given as text, and of its exponent's reach: nobody's price has
more, and ``1e999999999`` would take all memory."""

A_PRICE = "a number of US dollars, 0 or more, such as 2.5 or '0.00015'"


def written(value: object) -> Fraction | None:
    """Return the number that somebody wrote, exactly; None where it is none.

    Args:
        value: An integer, `decimal.Decimal`, text, or a float, which stands for what
            it is written as: 0.1 is one tenth. True and False are no numbers.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float):
        # A subclass may show itself as anything: NumPy's as np.float64(0.1).
        return Fraction(float.__repr__(value)) if isfinite(value) else None
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation:
            return None
    if isinstance(value, Decimal) and value.is_finite():
        # Looked at before it is multiplied out.
        sane = (
            -DIGITS <= value.adjusted() <= DIGITS
            and len(value.as_tuple().digits) <= DIGITS
        )
        return Fraction(value) if sane or not value else None
    return None


def to_usd(value: object, option: str) -> Fraction:
    """Return *value* as an exact amount of US dollars.

    Args:
        value: A `fractions.Fraction`, or as for `written`.
        option: What it is, for the message.

    Raises:
        OptionError: It is no number, negative, or not finite.
    """
    number = Fraction(value) if isinstance(value, Fraction) else written(value)
    if number is None or number < 0:
        raise OptionError(value, option, A_PRICE)
    return number


def to_nano(usd: object, option: str) -> int:
    """Return an amount of US dollars in nano-dollars, rounded half to even.

    Raises:
        OptionError: As `to_usd`.
    """
    return round(to_usd(usd, option) * NANO)


def show_usd(amount: Fraction) -> str:
    """Return an amount as people write it: no exponent, no trailing zeros."""
    shown = Decimal(amount.numerator) / Decimal(amount.denominator)
    text = f"{shown:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
