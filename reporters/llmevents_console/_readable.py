"""Numbers as people read them, and as programs do."""

from __future__ import annotations

import re
from fractions import Fraction


NANOSECONDS = {
    "nanosecond": 1,
    "microsecond": 10**3,
    "millisecond": 10**6,
    "second": 10**9,
    "minute": 60 * 10**9,
    "hour": 3600 * 10**9,
    "day": 86_400 * 10**9,
}
"""Of the units of time that a definition can have."""

BYTES = {
    "byte": 1,
    "kilobyte": 10**3,
    "megabyte": 10**6,
    "gigabyte": 10**9,
    "kibibyte": 2**10,
    "mebibyte": 2**20,
    "gibibyte": 2**30,
}
"""Of the units of size."""

DOLLARS = {
    "nano_usd": Fraction(1, 10**9),
    "micro_usd": Fraction(1, 10**6),
    "cent": Fraction(1, 100),
    "usd": Fraction(1),
}
"""Of the units of money."""

PERCENT = {"percent": 1, "ratio": 100}

_LARGEST_PLAIN = 1e15
_SMALLEST_PLAIN = 1e-3
_SMALLEST_PERCENT = 0.1
_LEAST_SHOWN = Fraction(1, 10**4)
_ROUNDED_UP = 999.5
"""What three digits cannot show without becoming 1000."""

_TIMES = (("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9))
_SIZES = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))
_MINUTE = 60 * 10**9
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


def number(value: float) -> str:
    """Return *value* with thousands separators, and three decimals at most."""
    if isinstance(value, int):
        return f"{value:,}"
    if value and not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        return f"{value:.4g}"
    whole, _, decimals = f"{value:,.3f}".partition(".")
    decimals = decimals.rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole


def readable(value: float | Fraction, unit: str, name: str = "") -> str:
    """Return *value* with its unit, both as a person would write them.

    Args:
        value: In *unit*.
        unit: Of the definition. Times, sizes, proportions and money are shown in
            units that fit the value; others as they are.
        name: Of the metric; a unit that it names already is not repeated.
    """
    if unit in NANOSECONDS:
        return duration(float(value) * NANOSECONDS[unit])
    if unit in BYTES:
        return _scaled(float(value) * BYTES[unit], _SIZES)
    if unit in DOLLARS:
        return dollars(Fraction(value) * DOLLARS[unit])
    if unit in PERCENT:
        return _percent(float(value) * PERCENT[unit])
    text = number(float(value) if isinstance(value, Fraction) else value)
    return text if not unit or is_named(unit, name) else f"{text} {unit}"


def is_named(unit: str, name: str) -> bool:
    """Whether the *name* of a metric says its unit already."""
    words = re.split(r"[._]", name)
    return unit in words or f"{unit}s" in words


def estimate(value: float, unit: str) -> str:
    """Return a quantile: like `readable`, and a bare number has three digits."""
    if any(unit in known for known in (NANOSECONDS, BYTES, DOLLARS, PERCENT)):
        return readable(value, unit)
    return _three_digits(value)


def duration(nanoseconds: float) -> str:
    """Return a time as ``820 ms``, ``2.31 s``, ``3 min 12 s`` or ``2 d 4 h``."""
    if abs(nanoseconds) < _MINUTE:
        return _scaled(nanoseconds, _TIMES)
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(round(nanoseconds))
    for (large, size), (small, part) in (
        (("d", _DAY), ("h", _HOUR)),
        (("h", _HOUR), ("min", _MINUTE)),
    ):
        if rest >= size:
            return f"{sign}{rest // size:,} {large} {rest % size // part} {small}"
    return f"{sign}{rest // _MINUTE} min {rest % _MINUTE // 10**9} s"


def dollars(amount: Fraction) -> str:
    """Return an amount of US dollars as ``$1.2345``."""
    sign = "-" if amount < 0 else ""
    if 0 < abs(amount) < _LEAST_SHOWN:
        return f"{sign}<$0.0001"
    return f"{sign}${_decimals(abs(amount), 4)}"


def exact_dollars(amount: Fraction) -> str:
    """Return an amount of US dollars to the nano-dollar, and four decimals at least."""
    whole, _, decimals = _decimals(abs(amount), 9).partition(".")
    kept = decimals.rstrip("0").ljust(4, "0")
    return f"{'-' if amount < 0 else ''}${whole}.{kept}"


def exact(value: float) -> str:
    """Return a number as programs read it, with nothing rounded off."""
    return str(value) if isinstance(value, int) else repr(value)


def rate(per_second: float, unit: str) -> str:
    """Return a rate as ``12.3/s``, or as ``4.5/min`` where it is slow."""
    if unit in DOLLARS:
        return f"{readable(Fraction(per_second) * 60, unit)}/min"
    if unit in BYTES:
        return f"{readable(per_second, unit)}/s"
    if unit in NANOSECONDS:
        return f"{readable(per_second, unit)}/s"
    if per_second >= 1 or not per_second:
        return f"{_three_digits(per_second)}/s"
    return f"{_three_digits(per_second * 60)}/min"


def _decimals(amount: Fraction, places: int) -> str:
    """Return a positive amount rounded to so many decimals, without any floats."""
    units = round(amount * 10**places)
    return f"{units // 10**places:,}.{units % 10**places:0{places}}"


def _percent(value: float) -> str:
    """Return a proportion with one decimal, or more where that would be 0.0."""
    small = value and abs(value) < _SMALLEST_PERCENT
    return f"{_three_digits(value)} %" if small else f"{value:,.1f} %"


def _scaled(value: float, steps: tuple[tuple[str, float], ...]) -> str:
    """Return *value* in the largest of the units that leaves it at 1 or above."""
    unit, size = steps[0]
    for unit, size in steps:  # noqa: B007  # the last one looked at is the answer
        if abs(value) < _ROUNDED_UP * size:
            break
    return f"{_three_digits(value / size)} {unit}"


def _three_digits(value: float) -> str:
    """Return *value* with three digits, or all of those before the point."""
    size = abs(value)
    if not value:
        return "0"
    if size < _SMALLEST_PLAIN or size >= _LARGEST_PLAIN:
        return f"{value:.3g}"
    places = (size < 99.95) + (size < 9.995) + (size < 0.9995)  # noqa: PLR2004  # from there on it rounds up to one digit more
    return f"{value:,.{places}f}"
