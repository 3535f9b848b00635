"""The expressions of shapes: alternatives, each of which is a sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias


Slots: TypeAlias = "list[int | None]"
"""What has been stated so far, one count for each path of a shape."""


class Term(NamedTuple):
    """One summand: a slot, or another field."""

    slot: int
    field: str


Sum: TypeAlias = "tuple[Term, ...]"


def ordered(
    parsed: Mapping[str, tuple[Sum, ...]],
) -> Iterator[tuple[str, tuple[Sum, ...]]]:
    """Yield the fields, those that others refer to first."""
    waiting = dict(parsed)
    while waiting:
        for field, sums in list(waiting.items()):
            if not {term.field for terms in sums for term in terms} & waiting.keys():
                yield field, waiting.pop(field)


def first_sum(
    sums: tuple[Sum, ...], slots: Slots, known: Mapping[str, int]
) -> int | None:
    for terms in sums:
        total = add_up(terms, slots, known, None)
        if total is not None:
            return total
    return None


def add_up(
    terms: Sum, slots: Slots, known: Mapping[str, int], unknown: int | None
) -> int | None:
    """Return the sum of *terms*; *unknown* stands for the first where it is unknown."""
    first = terms[0]
    total = known.get(first.field) if first.field else slots[first.slot]
    if total is None:
        total = unknown
    if total is not None:
        for term in terms[1:]:
            total += (known.get(term.field) if term.field else slots[term.slot]) or 0
    return total
