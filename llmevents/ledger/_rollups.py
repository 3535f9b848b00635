"""What calls come to, by day and by each dimension, exactly.

Only inference calls are calls: the record of a task is rolled up under its event
alone, where it would otherwise count the time of its calls a second time.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import compress
from typing import Any, TypeAlias

from llmevents.ledger._rows import Row
from llmevents.ledger._schema import TASK_EVENT
from llmevents.ledger._tables import (
    COUNTS,
    DIMENSIONS,
    KEY,
    KNOWN,
    RATED,
    STATED,
    STATUSES,
    SUMS,
)
from llmevents.metrics._histogram import key_of


Key: TypeAlias = tuple[str, str, str]
"""Dimension, UTC day (``"2026-11-21"``), value."""

LARGEST = 2**63 - 1
"""The greatest sum that is kept: 9 thousand million US dollars, or 292 years of calls,
on one day. Above it a sum stays what it is."""

SKETCH = "duration_sketch"

LANES: tuple[str, ...] = ("calls", *STATUSES.values(), *SUMS)
"""What a call adds to, in the order of the lanes of a cell."""


class Cell:
    """What the calls of one key come to.

    All amounts are lanes of one integer, so that a call is added to them by a single
    addition: of 128 bits, the lower 96 are the sum, and the others say how many calls
    stated the number. Calls would have to be 2**32 for one lane to reach the next.

    Attributes:
        amounts: The lanes.
        sketch: How many durations fell into each bucket of an exponential histogram.
    """

    __slots__ = ("amounts", "sketch")

    def __init__(self) -> None:
        self.amounts = 0
        self.sketch: dict[int, int] = {}

    def add(self, amounts: int, bucket: int | None) -> None:
        """Add a call."""
        self.amounts += amounts
        if bucket is not None:
            self.sketch[bucket] = self.sketch.get(bucket, 0) + 1

    def merge(self, other: Cell) -> None:
        """Add all that another cell has."""
        self.amounts += other.amounts
        sketch = self.sketch
        for bucket, count in other.sketch.items():
            sketch[bucket] = sketch.get(bucket, 0) + count

    def row(self, key: Key, before: Row | None = None) -> Row:
        """Return the cell as a row of the table of roll-ups.

        Args:
            key: Of the row.
            before: The row so far, which the cell is added to. It becomes that row.
        """
        row = before or {**_EMPTY, **dict(zip(KEY, key, strict=True))}
        numbers = _FORMAT.unpack(self.amounts.to_bytes(_FORMAT.size, "little"))
        stated = numbers[2::3]
        lanes = zip(LANES, numbers[::3], numbers[1::3], stated, strict=True)
        for name, lower, upper, count in compress(lanes, stated):
            total = row.get(name, 0) + lower + (upper << 64)
            row[name] = min(total, LARGEST)
            if name in KNOWN:
                row[KNOWN[name]] += count
        row[SKETCH] = packed(self.sketch, row[SKETCH])
        return row


Cells: TypeAlias = dict[Key, Cell]

_EMPTY: Row = {**dict.fromkeys(COUNTS, 0), SKETCH: b""}
"""What no calls come to."""

_FORMAT = struct.Struct(f"<{'QII' * len(LANES)}")
"""Of the lanes as bytes."""

_ONE = struct.Struct("<cHB")
"""Of a sketch with one bucket."""

_STATED = 1 << 96

_SHIFTS = [(name, 128 * LANES.index(name)) for name in STATED]

_RATED_SHIFTS = [(name, 128 * LANES.index(lane)) for lane, name in RATED.items()]

_OF_STATUS = {
    status: (_STATED + 1) | (_STATED + 1) << 128 * LANES.index(name)
    for status, name in STATUSES.items()
}
"""Status -> what it adds: a call, and one with this status."""

_COARSE = DIMENSIONS[1:7]
"""Few values each: calls are added up by all of them at once, and then by each."""

_FINE = DIMENSIONS[7:]
"""Many values each. Which of them a call has is what few calls differ in again."""

USED: tuple[str, ...] = ("timestamp", *DIMENSIONS[1:], *STATED)
"""The columns of calls that roll-ups are made of."""


def roll_up(rows: Iterable[Row], into: Cells | None = None) -> Cells:
    """Return what rows of calls come to, each with what it is added to."""
    coarse: dict[tuple[tuple[str, ...], tuple[str, ...]], Cell] = {}
    cells: Cells = {} if into is None else into
    for row in rows:
        day = row["timestamp"][:10]
        amounts, bucket = _amounts(row)
        absent = []
        if row["event"] != TASK_EVENT:
            for name in _FINE:
                if value := row.get(name):
                    _cell(cells, (name, day, value)).add(amounts, bucket)
                else:
                    absent.append(name)
        values = [row.get(name) or "" for name in _COARSE]
        _cell(coarse, ((day, *values), tuple(absent))).add(amounts, bucket)
    for ((day, *values), absent_), cell in coarse.items():
        for name, value in _coarse_keys(values, absent_):
            _cell(cells, (name, day, value)).merge(cell)
    return cells


def _coarse_keys(values: list[str], absent: Iterable[str]) -> list[tuple[str, str]]:
    pairs = list(zip(_COARSE, values, strict=True))
    event = pairs[-1]
    if event[1] == TASK_EVENT:
        return [event]
    return [("total", ""), *pairs, *((name, "") for name in absent)]


def _cell(cells: dict[Any, Cell], key: object) -> Cell:
    cell = cells.get(key)
    if cell is None:
        cell = cells[key] = Cell()
    return cell


def _amounts(row: Row) -> tuple[int, int | None]:
    """Return what a call adds to each amount, and the bucket of its duration."""
    amounts = _OF_STATUS.get(row["status"], _STATED + 1)
    for name, shift in _shifts(tuple(row)):
        amounts += (row[name] + _STATED) << shift
    duration = row.get("duration_ns")
    return amounts, None if duration is None else key_of(duration)


@lru_cache(maxsize=1024)
def _shifts(columns: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return which of a row's columns are added to which lanes."""
    shifts = [(name, shift) for name, shift in _SHIFTS if name in columns]
    if {"duration_ns", "output_tokens"} <= set(columns):
        shifts += _RATED_SHIFTS
    return shifts


def packed(sketch: Mapping[int, int], before: bytes = b"") -> bytes:
    """Return a sketch as bytes: nothing, or a letter and then keys and counts.

    The letter says how wide a count is, as `array` names it: B, H, I, Q for 1, 2, 4, 8
    bytes, least first. A key has two bytes. Durations are not negative, so keys are
    not either. Keys ascend.

    Args:
        sketch: Counts by key.
        before: A sketch as bytes that it is added to.
    """
    if not before and len(sketch) == 1:
        # That of one call, as most are.
        ((only, times),) = sketch.items()
        if times < 1 << 8:
            return _ONE.pack(b"B", only, times)
    together = dict(sketch)
    add_sketch(before, together)
    if not together:
        return b""
    keys = sorted(together)
    counts = [together[key] for key in keys]
    width = next(code for code, above in _WIDTHS if max(counts) < above)
    return width.encode() + _bytes(array("H", keys)) + _bytes(array(width, counts))


def add_sketch(packed: bytes, into: dict[int, int]) -> None:
    """Add the counts of a sketch, which is ``duration_sketch``, to those by key."""
    if packed[:1] == b"B":
        # Nearly all are such, of a few keys each: the quickest way to read them.
        middle = 1 + (len(packed) - 1) // 3 * 2
        keys: Iterable[int] = struct.unpack_from(f"<{middle // 2}H", packed, 1)
        counts: Iterable[int] = packed[middle:]
    else:
        keys, counts = _arrays(packed)
    for key, count in zip(keys, counts, strict=True):
        into[key] = into.get(key, 0) + count


def merged(sketches: Iterable[bytes]) -> Counter[int]:
    """Return what many sketches come to: counts by key.

    Nearly all are small, and most of their counts are 1. So the keys of these are put
    one behind the other and counted, and what counts say beyond 1 is added.
    """
    found: Counter[int] = Counter()
    keys, counts = array("H"), bytearray()
    for sketch in sketches:
        if sketch[:1] == b"B":
            middle = 1 + (len(sketch) - 1) // 3 * 2
            keys.frombytes(sketch[1:middle])
            counts += sketch[middle:]
        else:
            add_sketch(sketch, found)
    if sys.byteorder == "big":  # pragma: no cover  # no such machine is tested on
        keys.byteswap()
    found.update(keys)
    is_more = map((1).__ne__, counts)
    for key, count in compress(zip(keys, counts, strict=True), is_more):
        found[key] += count - 1
    return found


def _arrays(packed: bytes) -> tuple[array[int], array[int]]:
    """Return the keys and the counts of a sketch."""
    keys, counts = array("H"), array(chr(packed[0]) if packed else "B")
    if packed:
        middle = 1 + 2 * ((len(packed) - 1) // (2 + counts.itemsize))
        keys.frombytes(packed[1:middle])
        counts.frombytes(packed[middle:])
        if sys.byteorder == "big":  # pragma: no cover  # no such machine is tested on
            keys.byteswap()
            counts.byteswap()
    return keys, counts


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":  # pragma: no cover  # likewise
        numbers.byteswap()
    return numbers.tobytes()


_WIDTHS = [(code, 1 << 8 * array(code).itemsize) for code in "BHIQ"]
"""Of a count: its letter, and the least that is too much for it."""

COLUMN_NAMES: tuple[str, ...] = (*KEY, *COUNTS, *SUMS, SKETCH)
"""The columns of the table of roll-ups."""


def known_rows(found: Iterable[Iterable[Any]]) -> dict[Key, Row]:
    """Return rows of `COLUMN_NAMES` by their keys."""
    rows = [
        {n: v for n, v in zip(COLUMN_NAMES, row, strict=True) if v is not None}
        for row in found
    ]
    return {(row["dimension"], row["day"], row["value"]): row for row in rows}
