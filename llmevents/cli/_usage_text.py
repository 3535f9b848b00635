"""Numbers, moments and names as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from llmevents._show import printable


UNKNOWN = "\N{EN DASH}"
"""What stands for what no record states."""

NANO = 1_000_000_000
_MINUTE = 60 * NANO
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR

_STEPS = ((1_000, "ns"), (1_000_000, "µs"), (NANO, "ms"), (_MINUTE, "s"))
"""Below how many nanoseconds -> the unit."""

SECOND = 19
"""Characters of a timestamp up to its seconds."""

_FEW = 2
_USUAL = 4
_MANY = 6


def count(number: object) -> str:
    """Return a number with thousands separators; `UNKNOWN` for what is none.

    A file of JSON lines may hold anything. Likewise `money` and `duration`.
    """
    return f"{number:,}" if type(number) is int else UNKNOWN


def money(nano_usd: object, decimals: int | None = None) -> str:
    """Return an amount as ``$1.2345``; what the *decimals* cannot show is ``<$0.0001``."""
    if type(nano_usd) is not int:
        return UNKNOWN
    if decimals is None:
        decimals = decimals_for([nano_usd])
    sign, amount = ("-" if nano_usd < 0 else ""), Fraction(abs(nano_usd), NANO)
    units = round(amount * 10**decimals)
    if amount and not units:
        return f"{sign}<${10**-decimals:.{decimals}f}"
    whole, rest = divmod(units, 10**decimals)
    return f"{sign}${whole:,}.{rest:0{decimals}}"


def decimals_for(amounts: Iterable[object]) -> int:
    """Return how many decimals show the least of some amounts, for all of a column."""
    known = [abs(amount) for amount in amounts if type(amount) is int and amount]
    least = min(known, default=0)
    if least >= 100 * NANO or not known:
        return _FEW
    return _USUAL if least >= NANO // 1_000 else _MANY


def duration(nanoseconds: object) -> str:
    """Return a time as ``820 ms``, ``2.31 s``, ``3 min 12 s`` or ``2 d 4 h``."""
    if type(nanoseconds) is not int:
        return UNKNOWN
    below = 1
    for limit, unit in _STEPS:
        # What three digits would show as 1000 of a unit is 1 of the next.
        if nanoseconds < limit - limit // 2_000:
            return f"{_three_digits(nanoseconds / below)} {unit}"
        below = limit if limit < _MINUTE else below
    for size, large, part, small in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
    ):
        if nanoseconds >= size:
            return (
                f"{nanoseconds // size:,} {large} {nanoseconds % size // part} {small}"
            )
    seconds = max(60, round(nanoseconds / NANO))
    return f"{seconds // 60} min {seconds % 60} s"


def _three_digits(value: float) -> str:
    if value >= 99.95 or not value:  # noqa: PLR2004  # from there on it rounds up to one digit more
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"  # noqa: PLR2004  # likewise


def share(part: int, whole: int) -> str:
    """Return a proportion as ``1.6 %``; what is there is never ``0.0 %``."""
    if not whole:
        return UNKNOWN
    percent = 100 * part / whole
    return "<0.1 %" if part and percent < 0.1 else f"{percent:.1f} %"  # noqa: PLR2004  # what one decimal shows


def change(before: float | None, after: float | None) -> str:
    """Return by how much a number has grown: ``+12.5 %``, ``32 times``, ``new``."""
    if before is None or after is None:
        return UNKNOWN
    if not before:
        return "new" if after else "="
    percent = 100 * (after - before) / before
    if percent >= 1_000:  # noqa: PLR2004  # beyond, nobody can imagine percent
        return f"{after / before:,.0f} times"
    if abs(percent) < 0.05:  # noqa: PLR2004  # what one decimal does not show
        return "=" if after == before else f"{'+' if percent > 0 else '-'}<0.1 %"
    return f"{percent:+.1f} %"


def moment(timestamp: object) -> str:
    """Return a timestamp of a record to the second, without the letters in it."""
    if not isinstance(timestamp, str):
        return UNKNOWN
    return printable(timestamp[:SECOND].replace("T", " ", 1))


def name(text: object, unknown: str = UNKNOWN) -> str:
    """Return text of a record so that a terminal does nothing but show it."""
    return printable(str(text)) if text is not None and text != "" else unknown


def plural(number: int, one: str, many: str = "") -> str:
    """Return ``1 user`` or ``2 users``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
