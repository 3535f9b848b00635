"""Adding up, in SQL, what some calls come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from heapq import nsmallest
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    func,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from llmevents.ledger._query import SUMS, Group, Order, Totals
from llmevents.ledger._rollups import SKETCH, merged
from llmevents.ledger._sql_parts import ADDED, COUNTED, NOTHING, Part
from llmevents.ledger._sql_reading import bucket, key_of_bucket
from llmevents.ledger._tables import calls, rollups
from llmevents.metrics._histogram import ExponentialHistogram


Number: TypeAlias = "int | None"
Key: TypeAlias = "str | None"

AT_ONCE = 1_000
"""Rows that are fetched at once."""

FEW = 500
"""Groups that are asked for by their keys. SQLite before 3.32 takes 999 parameters."""


def summary(connection: Connection, found: Sequence[Part]) -> Totals:
    """Return what all calls of some parts come to."""
    groups = _groups(connection, found)
    return groups[0].totals if groups else Totals()


def by(
    connection: Connection, found: Sequence[Part], order: Order, limit: Number
) -> list[Group]:
    """Return what the calls of each group come to, at most *limit* groups, in order."""
    if limit is not None and limit <= FEW:
        keys = _first(connection, found, order, limit)
        found = [part.among(keys) for part in found] if keys else []
    groups = _groups(connection, found)
    groups.sort(key=lambda group: _rank(order, group.key, _value(order, group.totals)))
    return groups[:limit]


def _value(order: Order, totals: Totals) -> Number:
    return None if order == "key" else getattr(totals, order)


def _rank(order: Order, key: Key, value: Number) -> tuple[Any, ...]:
    by_key = (key is None, key or "")
    if order == "key":
        return by_key
    return (value is None, -(value or 0), *by_key)


def _first(
    connection: Connection, found: Sequence[Part], order: Order, limit: int
) -> list[Key]:
    """Return the keys of the first groups in an order, without what they come to."""
    ranked: Iterable[tuple[Key, Number]]
    if len(found) == 1:
        ranked = _ranked(connection, found[0], order)
    else:
        together: dict[Key, Number] = {}
        for part in found:
            for key, value in _ranked(connection, part, order):
                together[key] = plus(together.get(key), value)
        ranked = together.items()
    chosen = nsmallest(limit, ranked, key=lambda item: _rank(order, *item))
    return [key for key, _ in chosen]


def _ordering(part: Part, order: Order) -> tuple[list[str], list[str]]:
    """Return the counts and the sums that an order looks at."""
    if order == "key":
        return [], []
    if order == "failures":
        return ["errors", "timeouts"], []
    return ([order], []) if order in part.counts else ([], [order])


def _ranked(
    connection: Connection, part: Part, order: Order
) -> Iterator[tuple[Key, Number]]:
    """Yield each key with the number that an order looks at, in no order."""
    counts, sums = _ordering(part, order)
    for row in _added(connection, part, counts, sums, stream=True):
        value: Number = None
        for number in row[1:]:
            value = plus(value, number)
        yield row[0], value


def _groups(connection: Connection, found: Sequence[Part]) -> list[Group]:
    numbers: dict[Key, list[Number]] = {}
    durations: dict[Key, Counter[int]] = {}
    for part in found:
        for key, *row in _added(connection, part, list(part.counts), list(part.sums)):
            before = numbers.get(key)
            numbers[key] = row if before is None else list(map(plus, before, row))
        _add_durations(connection, part, durations)
    return [
        Group(key, _totals(row, durations.get(key, {}))) for key, row in numbers.items()
    ]


def _totals(row: list[Number], durations: dict[int, int]) -> Totals:
    numbers = dict(zip((*COUNTED, *ADDED), row, strict=True))
    numbers["failures"] = plus(numbers.pop("errors"), numbers["timeouts"])
    duration = numbers.pop("duration_ns")
    known = {
        name: number if name in SUMS else number or 0
        for name, number in numbers.items()
    }
    histogram = ExponentialHistogram(durations, duration or 0)
    return Totals(durations=histogram, **known)  # type: ignore[arg-type]  # those that may be None are sums


def _add_durations(
    connection: Connection, part: Part, into: dict[Key, Counter[int]]
) -> None:
    """Add how many durations fell into each bucket."""
    if part.table == "rollups":
        sketches: dict[Key, list[bytes]] = {}
        asked = select(part.key, rollups.c[SKETCH]).where(part.where)
        for key, sketch in rows_of(connection, asked):
            sketches.setdefault(key, []).append(sketch)
        for key, some in sketches.items():
            into.setdefault(key, Counter()).update(merged(some))
        return
    asked = select(part.key, bucket(connection), func.count())
    asked = asked.where(part.where, calls.c.duration_ns.is_not(None))
    asked = asked.group_by(text("1"), text("2"))
    for key, found, count in rows_of(connection, asked):
        into.setdefault(key, Counter())[key_of_bucket(connection, found)] += count


def _added(
    connection: Connection,
    part: Part,
    counts: Collection[str],
    sums: Collection[str],
    *,
    stream: bool = False,
) -> Iterator[list[Any]]:
    """Yield each key of a part with some counts and then sums, which are exact."""
    chosen = [part.counts[name] for name in counts]
    table = rollups if part.table == "rollups" else calls

    def ask(summed: Sequence[ColumnElement[Any]]) -> Executable:
        asked = select(part.key, *chosen, *summed).select_from(table).where(part.where)
        return asked if part.column is NOTHING else asked.group_by(text("1"))

    return exact(connection, ask, [part.sums[name] for name in sums], stream=stream)


def exact(
    connection: Connection,
    ask: Callable[[Sequence[ColumnElement[Any]]], Executable],
    sums: Sequence[ColumnElement[int | None]],
    *,
    stream: bool = False,
) -> Iterator[list[Any]]:
    """Yield rows of a question that ends with sums, which are exact.

    SQLite's sums have 64 bits, and it says if that is not enough; then the upper and
    the lower halves of the numbers are added up apart.

    Args:
        connection: To ask by.
        ask: Makes a question of the sums that it ends with.
        sums: What is added up.
        stream: Whether rows are too many to be held.
    """
    whole = [func.sum(one) for one in sums]
    if connection.dialect.name != "sqlite" or not sums:
        for row in rows_of(connection, ask(whole)):
            yield list(map(_number, row))
        return
    if not stream:
        # If anything else is wrong, the question with halves will say so too.
        with suppress(DBAPIError):
            yield from map(list, connection.execute(ask(whole)).all())
            return
    uppers = [func.sum(one.bitwise_rshift(32)) for one in sums]
    lowers = [func.sum(one.bitwise_and(0xFFFF_FFFF)) for one in sums]
    for row in rows_of(connection, ask([*uppers, *lowers])):
        start, middle = len(row) - 2 * len(sums), len(row) - len(sums)
        yield [*row[:start], *map(_joined, row[start:middle], row[middle:])]


def rows_of(connection: Connection, asked: Executable) -> Iterator[Sequence[Any]]:
    """Yield the rows of a question, a few at a time."""
    with connection.execute(asked.execution_options(yield_per=AT_ONCE)) as result:
        for rows in result.partitions():
            yield from rows


def plus(one: Number, other: Number) -> Number:
    """Return the sum of what is known."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _number(value: Any) -> Any:  # noqa: ANN401  # PostgreSQL's sums are decimals
    return int(value) if isinstance(value, Decimal) else value


def _joined(upper: Number, lower: Number) -> Number:
    return None if upper is None or lower is None else (upper << 32) + lower
