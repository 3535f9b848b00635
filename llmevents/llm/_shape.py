"""What a table that describes a usage object consists of.

A line of it is a field of `llmevents.llm.Usage` and an expression for it: paths in the
usage object, with

- ``a + b``: the sum; unknown where ``a`` is, while an unknown ``b`` adds nothing,
- ``a | b``: ``a``, or where that is unknown ``b``,
- ``=field``: what the expression of another field gives,
- ``list[KIND].key``: the sum of ``key`` over the items of that kind; ``list[].key``
  over those of none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Shape(NamedTuple):
    """One shape of a usage object.

    Attributes:
        name: What the argument ``shape`` of `read_usage` calls it.
        keys: An object that has one of them is of this shape.
        counts: Field of `Usage` -> expression.
        kind: Keys that say of what kind the item of a list is.
        zero: Fields that are 0 where something else is stated but not they.
        snake: Whether every key may be written in snake case as well.
        inner: Fields of the expressions' own, which no `Usage` has.
        cost: Whether it may state the call's cost.
        fallback: Whether it only counts for what the response itself does not state.
    """

    name: str
    keys: tuple[str, ...]
    counts: Mapping[str, str]
    kind: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    snake: bool = False
    inner: tuple[str, ...] = ()
    cost: bool = False
    fallback: bool = False
