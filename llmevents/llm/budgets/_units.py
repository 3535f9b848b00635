"""What budgets count in, and how amounts are written."""

from __future__ import annotations

from typing import NamedTuple

from llmevents._errors import OptionError
from llmevents.llm._money import NANO, written


LARGEST = (1 << 63) - 1
"""The largest amount: what SQL databases keep as an integer. 9.2 billion dollars."""


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
    usd = written(value)
    if usd is not None:
        nano = usd * NANO
        if nano.denominator == 1 and 0 < nano <= LARGEST:
            return int(nano)
    expected = "US dollars above 0 with at most 9 decimals, as 10, '0.50' or Decimal"
    raise OptionError(value, option, expected)
