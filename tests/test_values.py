"""Only finite numbers are measurements, and no value can raise or be miscounted."""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmevents import Bus, span
from llmevents._values import clean_number


class Index:
    """What a NumPy integer looks like from here."""

    def __index__(self) -> int:
        return 2**60 + 1


class Float:
    """What a NumPy floating-point number looks like from here."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


class Both(Index, Float):
    """An integer that can also be had as a float, less exactly."""


class Integer(int):
    """A subclass that lies about its value."""

    def __index__(self) -> int:
        return -1

    def __float__(self) -> float:
        return -1.0


class Level(IntEnum):
    HIGH = 3


class FloatSubclass(float):
    """As NumPy's float64 is."""


EXACT: list[tuple[object, object]] = [
    (0, 0),
    (-1, -1),
    (2**63, 2**63),
    (10**5000, 10**5000),
    (-0.0, -0.0),
    (1.5, 1.5),
    (sys.float_info.max, sys.float_info.max),
    (5e-324, 5e-324),
    (Index(), 2**60 + 1),
    (Float(1.5), 1.5),
    (Both(0.0), 2**60 + 1),
    (Integer(7), 7),
    (Level.HIGH, 3),
    (FloatSubclass(1.5), 1.5),
    (Decimal("1.5"), 1.5),
    (Decimal(3), 3.0),
    (Fraction(1, 4), 0.25),
]


@pytest.mark.parametrize(("value", "expected"), EXACT, ids=range(len(EXACT)))
def test_a_finite_number_becomes_a_plain_one(value: object, expected: object) -> None:
    cleaned = clean_number(value)
    assert cleaned == expected
    assert type(cleaned) in (int, float)
    assert isinstance(cleaned, float) == isinstance(expected, float)
    if cleaned == 0:
        assert math.copysign(1, cleaned) == math.copysign(1, float(str(expected)))


@settings(deadline=None)
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_plain_finite_numbers_pass_unchanged(value: float) -> None:
    assert clean_number(value) is value


class Raising:
    """Whose conversions fail as unkindly as they can."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __index__(self) -> int:
        raise self.error

    def __float__(self) -> float:
        raise self.error


class WrongTypes:
    """Whose conversions do not convert."""

    def __index__(self) -> int:
        return "text"  # type: ignore[return-value]  # noqa: PLE0305  # that is the point

    def __float__(self) -> float:
        return "text"  # type: ignore[return-value]  # that is the point


class Proxy:
    """A lazy object without its target: even its class cannot be asked for."""

    @property  # type: ignore[misc]  # as proxies do it
    def __class__(self) -> type:
        msg = "no target"
        raise RuntimeError(msg)


REFUSED = [
    float("nan"),
    float("inf"),
    float("-inf"),
    FloatSubclass("nan"),
    Float(float("nan")),
    Float(float("inf")),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal("1e400"),
    Fraction(10**400),
    True,
    False,
    None,
    "5",
    b"5",
    bytearray(b"5"),
    memoryview(b"5"),
    1j,
    [],
    [5],
    {},
    object(),
    int,
    Raising(ValueError("no")),
    Raising(OverflowError("no")),
    Raising(MemoryError()),
    WrongTypes(),
]


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_whatever_is_no_finite_number_is_refused(value: object) -> None:
    assert clean_number(value) is None


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_a_refused_value_is_counted_and_hurts_nothing_else(value: object) -> None:
    bus = Bus()
    measured: list[dict[str, float]] = []
    bus.attach("id", "a.stop", lambda *call: measured.append(dict(call[1])))
    with span("a", bus=bus) as block:
        block.measure(before=1, odd=value, after=2)
    assert set(measured[0]) == {"before", "after", "duration", "monotonic_time"}
    assert bus.stats()["refused_values"] == 1


def test_a_value_that_cannot_even_be_classified_is_refused() -> None:
    assert clean_number(Proxy()) is None


@pytest.mark.parametrize("control", [KeyboardInterrupt, SystemExit])
def test_control_flow_is_not_mistaken_for_a_bad_value(
    control: type[BaseException],
) -> None:
    with pytest.raises(control, match="stop"):
        clean_number(Raising(control("stop")))
