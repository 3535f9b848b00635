from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from llmevents import OptionError
from llmevents.llm._money import DIGITS, to_nano, to_usd, written


class Odd(float):
    """A float that shows itself as NumPy's do."""

    def __repr__(self) -> str:
        return f"odd.Odd({float(self)})"


@pytest.mark.parametrize(
    "value",
    [0.1, "0.1", " 0.10 ", "1e-1", Decimal("0.10"), Odd(0.1)],
    ids=repr,
)
def test_a_number_is_exactly_what_is_written(value: object) -> None:
    """A float of 0.1 is more than one tenth; what is meant is one tenth."""
    assert written(value) == Fraction(1, 10)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(True, id="true"),
        pytest.param(None, id="none"),
        pytest.param("ten", id="words"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("-inf"), id="infinity"),
        pytest.param("nan", id="nan_as_text"),
        pytest.param(Decimal("inf"), id="infinite_decimal"),
        pytest.param("1e999999999", id="huge"),
        pytest.param("1e-999999999", id="tiny"),
        pytest.param(f"1e{DIGITS + 1}", id="too_high"),
        pytest.param("7" * (DIGITS + 1), id="too_many_digits"),
        pytest.param([1], id="list"),
    ],
)
def test_what_is_no_number_is_none(value: object) -> None:
    assert written(value) is None
    with pytest.raises(OptionError, match="cost to be a number of US dollars"):
        to_usd(value, "cost")


def test_as_many_digits_are_taken_as_are_sane() -> None:
    assert written("7" * DIGITS) == int("7" * DIGITS)
    assert written(f"1e-{DIGITS}") == Fraction(1, 10**DIGITS)
    assert written("0e999999999") == 0


def test_money_is_not_negative() -> None:
    assert written("-1") == -1
    with pytest.raises(OptionError, match="0 or more"):
        to_nano("-1", "cost")


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        pytest.param("0.0000000015", 2, id="up"),
        pytest.param("0.0000000025", 2, id="down"),
        pytest.param(Fraction(1, 3), 333_333_333, id="fraction"),
        pytest.param(10**50, 10**59, id="large"),
    ],
)
def test_nano_dollars_are_rounded_half_to_even(usd: object, nano: int) -> None:
    assert to_nano(usd, "cost") == nano
