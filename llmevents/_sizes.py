"""Guessing how much memory an event holds."""

from __future__ import annotations

from itertools import islice
from sys import getsizeof

from llmevents._types import Measurements, Metadata


EVENT_SIZE = 400
"""The event by itself: its record and two empty dicts, rounded up."""

ENTRY_SIZE = 100
"""A key and a place in a dict; also any value whose size is not looked at."""

MAX_LOOKED_AT = 1_000
"""Values within one value that are looked at; the rest is taken to be like them."""

# Types are compared with `is`: `in` would ask their metaclass, which is foreign code.


def estimate_size(measurements: Measurements, metadata: Metadata) -> int:
    """Return about how many bytes an event keeps alive, in a few microseconds.

    Text and bytes count with their size, everything else by rule of thumb. Lists,
    dicts and the like are looked into, 1,000 values in all of each. Keys, and objects
    of other types, whose methods are not called, count 100 bytes. What several
    events share counts for each of them.
    """
    total = EVENT_SIZE + ENTRY_SIZE * (len(measurements) + len(metadata))
    for value in metadata.values():
        kind = type(value)
        if kind is str or kind is bytes:
            total += getsizeof(value)
        elif not (kind is int or kind is float or kind is bool or value is None):
            total += _container_size(value)
    return total


def _container_size(container: object) -> int:
    total = seen = unseen = 0
    left = [container]
    while left:
        value = left.pop()
        seen += 1
        kind = type(value)
        if kind is str or kind is bytes:
            total += getsizeof(value)
            continue
        total += ENTRY_SIZE
        if kind is dict:
            items = value.values()  # type: ignore[attr-defined]  # exactly a dict
        elif kind is list or kind is tuple or kind is set or kind is frozenset:
            items = value
        else:
            continue
        room = max(0, MAX_LOOKED_AT - seen - len(left))
        unseen += max(0, len(items) - room)
        # In one step, in which no other thread can change the container.
        left += islice(items, room)
    return total + unseen * total // seen
