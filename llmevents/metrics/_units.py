"""Units that can be converted into each other, exactly."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from llmevents._errors import MetricDefinitionError


class _Unit(NamedTuple):
    """What a unit measures, and its size in that quantity's smallest unit."""

    quantity: str
    size: Fraction


def _units(quantity: str, **sizes: int | Fraction) -> dict[str, _Unit]:
    return {name: _Unit(quantity, Fraction(size)) for name, size in sizes.items()}


UNITS: dict[str, _Unit] = {
    **_units(
        "time",
        nanosecond=1,
        microsecond=10**3,
        millisecond=10**6,
        second=10**9,
        minute=60 * 10**9,
        hour=3600 * 10**9,
        day=86_400 * 10**9,
    ),
    **_units(
        "size",
        byte=1,
        kilobyte=10**3,
        megabyte=10**6,
        gigabyte=10**9,
        kibibyte=2**10,
        mebibyte=2**20,
        gibibyte=2**30,
    ),
    **_units("proportion", ratio=1, percent=Fraction(1, 100)),
    **_units("money", nano_usd=1, micro_usd=10**3, cent=10**7, usd=10**9),
}
"""By name. Decimal and binary multiples of the byte are told apart by their names, as
in IEC 80000-13."""


def scale(name: str, source: object, target: object) -> Fraction:
    """Return what a value in *source* is multiplied by to be one in *target*.

    Raises:
        MetricDefinitionError: One of them is unknown, or they measure different
            things. *name* is the metric that says so.
    """
    units = [_find(name, unit) for unit in (source, target)]
    if units[0].quantity != units[1].quantity:
        reason = (
            f"unit is {(source, target)!r}, and {source} measures {units[0].quantity}, "
            f"{target} {units[1].quantity}; use two units of one quantity"
        )
        raise MetricDefinitionError(name, reason)
    return units[0].size / units[1].size


def _find(name: str, unit: object) -> _Unit:
    found = UNITS.get(unit) if isinstance(unit, str) else None
    if found is None:
        reason = (
            f"unit is converted from or to {unit!r}, which is not known; "
            f"use {', '.join(UNITS)}"
        )
        raise MetricDefinitionError(name, reason)
    return found


def convert(value: float, factor: Fraction) -> int | float:
    """Return *value* times *factor*: exact as an integer, or correctly rounded."""
    if factor == 1:
        return value
    if type(value) is int:
        top = value * factor.numerator
        quotient, rest = divmod(top, factor.denominator)
        return quotient if not rest else top / factor.denominator
    return float(value) * factor.numerator / factor.denominator
