"""Where the calls that are meant are: in roll-ups, or among the records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    case,
    cast,
    func,
    null,
    or_,
    select,
    true,
)

from llmevents.ledger._query import DAY, GROUPINGS, SUMS, Filter, Grouping
from llmevents.ledger._rollups import LARGEST
from llmevents.ledger._rows import key
from llmevents.ledger._schema import TASK_EVENT
from llmevents.ledger._tables import DIMENSIONS, RATED, STATED, calls, rollups


Window: TypeAlias = tuple[str | None, str | None]
"""The first timestamp, and the first one behind."""

BY_INDEX = "source_id"
"""The dimension of which one value has so few calls that their index is faster."""

_AFTER = "~"
"""Sorts after whatever a timestamp goes on with behind its day."""

_MIDNIGHT = "T00:00:00.000000Z"

NOTHING: ColumnElement[str | None] = cast(null(), Text)
"""The key of all calls together."""


class Part(NamedTuple):
    """Some of the calls that are meant, in one of the tables.

    Attributes:
        table: ``"rollups"`` or ``"calls"``.
        column: What they are grouped by, as it is kept; `NOTHING`: by nothing.
        key: The same with null for what is not stated.
        where: Which rows.
        counts: Name -> how many calls.
        sums: Name -> what of a row is added up.
    """

    table: str
    column: ColumnElement[Any]
    key: ColumnElement[str | None]
    where: ColumnElement[bool]
    counts: Mapping[str, ColumnElement[int]]
    sums: Mapping[str, ColumnElement[int | None]]

    def among(self, keys: Collection[str | None]) -> Part:
        """Return the part of this one that has one of some keys."""
        known = [one for one in keys if one is not None]
        meant: ColumnElement[bool] = self.column.in_(known)
        if None in keys:
            meant = or_(meant, self.column.is_(None), self.column == "")
        return self._replace(where=and_(self.where, meant))


def parts(
    connection: Connection, grouping: Grouping | None, where: Filter
) -> list[Part]:
    """Return where the calls are that are meant, each of them in one part.

    Roll-ups tell of whole days, and the records of those that are meant in part, and
    of those whose sums are beyond what roll-ups can hold.
    """
    rolled_up = _rolled_up(grouping, where)
    if rolled_up is None:
        return [_records(grouping, where, where.window)]
    days, rest = split(where.window)
    found = []
    if days is not None:
        chosen = of_days(days)
        full = _full(connection, chosen)
        rest += [(day, day + _AFTER) for day in full]
        if full:
            chosen = and_(chosen, rollups.c.day.not_in(full))
        found.append(_roll_ups(grouping, and_(rolled_up, chosen)))
    return [*found, *(_records(grouping, where, window) for window in rest)]


def split(window: Window) -> tuple[Window | None, list[Window]]:
    """Return the whole days in a window, if any, and what is left of it.

    Days are given as texts that the first one is not below, and the last one is.
    """
    since, until = window
    if since is not None and until is not None and since >= until:
        return None, []
    first = last = None
    rest: list[Window] = []
    if since is not None:
        first = since[:DAY]
        if since[DAY:] != _MIDNIGHT:
            ends = first + _AFTER
            first = ends
            rest.append((since, ends if until is None else min(ends, until)))
    if until is not None:
        last = until[:DAY]
        if until[DAY:] != _MIDNIGHT and (first is None or first <= last):
            rest.append((last, until))
    if first is not None and last is not None and first >= last:
        return None, rest
    return (first, last), rest


def of_days(days: Window) -> ColumnElement[bool]:
    """Return which roll-ups are of some days."""
    return and_(true(), *_between(rollups.c.day, days))


def meant(where: Filter, window: Window) -> ColumnElement[bool]:
    """Return which records a filter means, of those in a window."""
    conditions = [
        calls.c[column] == key(text) for column, text in where.matches.items()
    ]
    if where.event is None:
        conditions.append(calls.c.event != TASK_EVENT)
    return and_(*conditions, *_between(calls.c.timestamp, window))


def stated(name: str) -> ColumnElement[str | None]:
    """Return a text of records, with null for the empty one."""
    return func.nullif(calls.c[name], "")


def rolled_up_as(name: str) -> ColumnElement[bool]:
    """Return which roll-ups are by one dimension, without tasks."""
    conditions = [rollups.c.dimension == name]
    if name == "event":
        conditions.append(rollups.c.value != TASK_EVENT)
    return and_(*conditions)


def _between(
    column: ColumnElement[str], window: Window
) -> Iterator[ColumnElement[bool]]:
    since, until = window
    if since is not None:
        yield column >= since
    if until is not None:
        yield column < until


def _rolled_up(grouping: Grouping | None, where: Filter) -> ColumnElement[bool] | None:
    """Return which roll-ups have the answer, of all days; None if none have."""
    matches = where.matches
    by_time = grouping in (None, "day")
    column = "total" if by_time or grouping is None else GROUPINGS[grouping]
    if not matches:
        return rolled_up_as(column) if column in DIMENSIONS else None
    ((name, text), *others) = matches.items()
    if others or name not in DIMENSIONS or name == BY_INDEX:
        return None
    if not by_time and column != name:
        return None
    return and_(rollups.c.dimension == name, rollups.c.value == key(text))


def _full(connection: Connection, chosen: ColumnElement[bool]) -> list[str]:
    """Return the days of which a sum is not told by roll-ups.

    Where the calls of one value come to as much, all calls of the day do; but tasks
    are not among these.
    """
    all_calls = and_(rollups.c.dimension == "total", rollups.c.value == "")
    tasks = and_(rollups.c.dimension == "event", rollups.c.value == TASK_EVENT)
    is_full = or_(*(rollups.c[name] == LARGEST for name in STATED))
    days = select(rollups.c.day).where(or_(all_calls, tasks), chosen, is_full)
    return sorted(set(connection.scalars(days)))


def _roll_ups(grouping: Grouping | None, where: ColumnElement[bool]) -> Part:
    column: ColumnElement[Any] = NOTHING
    shown: ColumnElement[str | None] = NOTHING
    if grouping == "day":
        shown = column = rollups.c.day
    elif grouping is not None:
        column = rollups.c.value
        shown = func.nullif(column, "")
    counts = {name: func.sum(rollups.c[kept]) for name, kept in _ROLLED_UP.items()}
    sums = {name: rollups.c[name] for name in _SUMS}
    return Part("rollups", column, shown, where, counts, sums)


def _records(grouping: Grouping | None, where: Filter, window: Window) -> Part:
    column: ColumnElement[Any] = NOTHING
    shown: ColumnElement[str | None] = NOTHING
    if grouping == "day":
        shown = column = func.substr(calls.c.timestamp, 1, DAY)
    elif grouping is not None:
        column = calls.c[GROUPINGS[grouping]]
        shown = stated(GROUPINGS[grouping])
    return Part("calls", column, shown, meant(where, window), COUNTED, ADDED)


_ROLLED_UP = {
    "calls": "calls",
    "successes": "successes",
    "errors": "errors",
    "timeouts": "timeouts",
    "cancelled": "cancelled",
    "priced": "cost_count",
}

_SUMS = (*SUMS, "duration_ns", *RATED)

_both = and_(calls.c.output_tokens.is_not(None), calls.c.duration_ns.is_not(None))

COUNTED: Mapping[str, ColumnElement[int]] = {
    "calls": func.count(),
    "successes": func.count().filter(calls.c.status == "success"),
    "errors": func.count().filter(calls.c.status == "error"),
    "timeouts": func.count().filter(calls.c.status == "timeout"),
    "cancelled": func.count().filter(calls.c.status == "cancelled"),
    "priced": func.count(calls.c.cost_nano_usd),
}
"""How many calls there are among records."""

ADDED: Mapping[str, ColumnElement[int | None]] = {
    name: calls.c[name] if name not in RATED else case((_both, calls.c[RATED[name]]))
    for name in _SUMS
}
"""What of records is added up."""
