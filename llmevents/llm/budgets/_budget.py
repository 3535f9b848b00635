"""What a budget is: plain data, checked where it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from llmevents._errors import OptionError
from llmevents._options import check_count, check_text
from llmevents.llm.budgets._units import LARGEST, UNITS, read_amount
from llmevents.llm.budgets._windows import Window, read_duration, read_window


if TYPE_CHECKING:
    from decimal import Decimal

    from llmevents.llm.budgets._windows import Duration

    Amount: TypeAlias = int | float | str | Decimal

    Filter: TypeAlias = str | int | Iterable[str | int]

UnitName: TypeAlias = Literal[
    "usd", "nano_usd", "tokens", "input_tokens", "output_tokens", "calls"
]

Action: TypeAlias = Literal["block", "warn"]

Missing: TypeAlias = Literal["skip", "share"]


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """A limit on what calls may use.

    Args:
        name: Unique among the budgets of one guard.
        limit: In *unit*. Dollars as an integer, ``Decimal``, text or float, with up to
            nine decimals; everything else is an integer.
        unit: ``"usd"``, ``"nano_usd"``, ``"tokens"`` (input and output),
            ``"input_tokens"``, ``"output_tokens"`` or ``"calls"``.
        per: Key of metadata, or several: each of their values has the limit for
            itself. ``"user_id"``, ``("organization_id", "model")``, any key. None: all
            calls together.
        window: ``"day"``, ``"week"``, ``"month"`` or ``"year"`` of the calendar;
            a length such as ``"1h"`` or a ``timedelta`` for a window that rolls; None:
            it never begins again.
        timezone: Whose calendar it is, ``"Europe/Berlin"``. UTC has no daylight
            saving time, so that its days are equally long.
        warn: Parts of the limit, between 0 and 1, that ``llm.budget.warning`` tells of
            once in each period.
        on_exceeded: ``"block"`` raises `BudgetExceededError` before the request is
            sent; ``"warn"`` only emits events.
        match: Which calls count: key of metadata -> a value, or several. ``*`` and
            ``?`` in text stand for any characters and any single one. A call without
            the key does not match.
        reserve: What a call reserves that does not state itself how much it may use;
            in *unit*. By default about as much as the largest of the latest calls has
            used, and if anything of the limit is left, it is admitted.
        max_input_tokens: The longest input that calls can have. With it, what a call
            reserves in tokens covers its input as well as its ``max_tokens``.
        lease: How long a call holds what it reserved without being settled, such as
            one whose process was killed. As long as the longest call may take.
        missing: What a call counts for that lacks a key of *per*: ``"skip"``, not at
            all, or ``"share"``, one limit for all such calls.

    Attributes:
        limit: In nano-US-dollars, tokens or calls.
        reserve: Likewise, or None.
        window: A `Window`.
        lease: In nanoseconds.

    Raises:
        OptionError: An option has a value that it cannot have.

    Examples:
        >>> from llmevents.llm.budgets import Budget
        >>> budget = Budget("users", limit="2.50", per="user_id", window="month")
        >>> budget.limit, budget.window.text
        (2500000000, 'month')
    """

    name: str
    limit: int
    unit: UnitName
    per: tuple[str, ...]
    window: Window
    warn: tuple[float, ...]
    on_exceeded: Action
    match: tuple[tuple[str, tuple[str | int, ...]], ...]
    reserve: int | None
    max_input_tokens: int | None
    lease: int
    missing: Missing

    def __init__(
        self,
        name: str,
        *,
        limit: Amount,
        unit: UnitName = "usd",
        per: str | Iterable[str] | None = None,
        window: Duration | None = None,
        timezone: str = "UTC",
        warn: float | Iterable[float] = (0.8, 0.95),
        on_exceeded: Action = "block",
        match: Mapping[str, Filter] | None = None,
        reserve: Amount | None = None,
        max_input_tokens: int | None = None,
        lease: Duration = "10m",
        missing: Missing = "skip",
    ) -> None:
        _one_of(unit, "unit", UNITS)
        _one_of(on_exceeded, "on_exceeded", ("block", "warn"))
        _one_of(missing, "missing", ("skip", "share"))
        values = {
            "name": check_text(name, "name"),
            "limit": read_amount(limit, unit, "limit"),
            "unit": unit,
            "per": _read_keys(per),
            "window": read_window(window, timezone),
            "warn": _read_levels(warn),
            "on_exceeded": on_exceeded,
            "match": _read_match(match),
            "reserve": _optional_amount(reserve, unit),
            "max_input_tokens": _optional_count(max_input_tokens),
            "lease": read_duration(lease, "lease")[0],
            "missing": missing,
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)


def _one_of(value: object, option: str, known: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in known:
        raise OptionError(value, option, " or ".join(map(repr, known)))


def _optional_amount(value: object, unit: str) -> int | None:
    return None if value is None else read_amount(value, unit, "reserve")


def _optional_count(value: object) -> int | None:
    if value is None:
        return None
    return min(check_count(value, "max_input_tokens"), LARGEST)


def _read_keys(per: object) -> tuple[str, ...]:
    if per is None:
        return ()
    keys = (per,) if isinstance(per, str) else per
    if isinstance(keys, Iterable):
        found = tuple(keys)
        if all(isinstance(key, str) and key for key in found):
            return tuple(dict.fromkeys(found))
    raise OptionError(per, "per", "a key of metadata such as 'user_id', or several")


def _read_levels(warn: object) -> tuple[float, ...]:
    levels = [warn] if isinstance(warn, (int, float)) else warn
    if isinstance(levels, Iterable) and not isinstance(levels, (str, Mapping)):
        found = set(levels)
        if all(isinstance(level, (int, float)) and 0 < level < 1 for level in found):
            return tuple(sorted(found))
    expected = "numbers between 0 and 1, such as [0.8, 0.95] for 80 % and 95 %"
    raise OptionError(warn, "warn", expected)


def _read_match(match: object) -> tuple[tuple[str, tuple[str | int, ...]], ...]:
    if match is None:
        return ()
    if isinstance(match, Mapping):
        found = [(key, _read_filter(wanted)) for key, wanted in match.items()]
        if all(isinstance(key, str) and wanted for key, wanted in found):
            return tuple(found)
    expected = "a table of metadata, such as {'provider': 'openai', 'model': 'gpt-*'}"
    raise OptionError(match, "match", expected)


def _read_filter(wanted: object) -> tuple[str | int, ...]:
    """Return what a filter takes; nothing if it is none."""
    if isinstance(wanted, (str, int)):
        return (wanted,)
    if not isinstance(wanted, Iterable) or isinstance(wanted, Mapping):
        return ()
    found = tuple(wanted)
    return found if all(isinstance(value, (str, int)) for value in found) else ()
