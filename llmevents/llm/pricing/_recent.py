"""A bounded memory of what was used of late, without a lock."""

from __future__ import annotations

from typing import Generic, TypeVar


K = TypeVar("K")
V = TypeVar("V")

LIMIT = 2_048
"""Entries of one generation; two are kept."""


class Recent(Generic[K, V]):
    """Remembers at least the `limit` keys used last, and at most twice as many.

    Two generations instead of an order: once the young one is full it becomes the old
    one, and what is used again moves back. Only single stores change it, so that any
    number of threads may use it, and a finalizer in the middle of any of them.

    Attributes:
        young: The young generation, to look into without a call.
    """

    __slots__ = ("_limit", "_old", "young")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what is remembered of a key, or None."""
        value = self.young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember something of a key."""
        young = self.young
        if len(young) >= self._limit:
            self._old = young
            self.young = young = {}
        young[key] = value

    def __len__(self) -> int:
        return len(self.young.keys() | self._old.keys())
