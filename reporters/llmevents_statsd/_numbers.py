"""Numbers as StatsD servers read them: exact, and never with an exponent.

A server's parser need not know exponents: that of the npm daemon (0.9.0, stats.js)
reads the sample rate ``1e-05`` as 1.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from math import isfinite


_EXACT = Context(prec=800, Emax=9999, Emin=-9999, traps=[Inexact, InvalidOperation])
"""Wide enough for the difference of any two floats, written out."""

_PLACES = 12
"""Significant digits of a value that stands for many."""

_LONGEST = 1023
"""Bits of the largest integer that servers, which read floats, can take."""


class Number(Decimal):
    """A decimal that is written in full: ``0.0000001``, not ``1E-7``."""

    __slots__ = ()

    def __str__(self) -> str:
        if not self:
            return "0"
        return format(self.normalize(_EXACT), "f")


def exact(value: float) -> Number:
    """Return *value*: an integer as it is, a float in its shortest decimal form.

    Raises:
        ValueError: It is not finite, or too large to be a float.
    """
    if isinstance(value, int):
        if value.bit_length() <= _LONGEST:
            return Number(value)
    elif isfinite(value):
        return Number(repr(value))
    msg = "expected a finite number that a float can hold, got another one"
    raise ValueError(msg)


def scaled(raw: float, scale: Fraction, shown: float) -> Number:
    """Return *raw* times *scale*, exactly; if that has no end, what is *shown*."""
    try:
        top = _EXACT.multiply(exact(raw), Decimal(scale.numerator))
        return Number(_EXACT.divide(top, Decimal(scale.denominator)))
    except Inexact:
        return exact(shown)


def difference(one: Decimal, other: Decimal) -> Number:
    """Return *one* less *other*, exactly."""
    return Number(_EXACT.subtract(one, other))


def total(one: Decimal, other: Decimal) -> Number:
    """Return *one* and *other* together, exactly."""
    return Number(_EXACT.add(one, other))


def product(one: Decimal, count: int) -> Number:
    """Return *one* times *count*, exactly."""
    return Number(_EXACT.multiply(one, Decimal(count)))


def rounded(value: float) -> Number:
    """Return *value* with 12 significant digits.

    Raises:
        ValueError: It is not finite.
    """
    return exact(float(f"{value:.{_PLACES}g}"))


@lru_cache(maxsize=4096)
def rate(count: int) -> str:
    """Return the sample rate that says "this stands for *count*"."""
    return str(exact(1 / count))


@lru_cache(maxsize=4096)
def countable(count: int) -> int:
    """Return the most, up to *count*, that a server makes of its sample rate exactly.

    A server divides 1 by the rate, in floating point: by that of 49 it gets
    49.00000000000001 or 48.99999999999999, so 49 has to be sent as 48 and 1.
    """
    while 1 / float(rate(count)) != count:
        count -= 1
    return count
