"""A bounded queue that nobody has to wait for, and that counts exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from llmevents_otel._counts import Tallies, Tally


PLACE = 4096
"""Bytes of one place. 2,048 places are 2,048 records, or 8 MiB if they are larger."""

MOST_RECORDS = 512
MOST_PLACES = 1024
"""Of one request: 512 records as in OpenTelemetry's batch processors, and 4 MiB."""

_NEVER = object()


class BoundedQueue:
    """Takes records in from any thread, signal handlers and finalizers included.

    A record takes one place of `PLACE` bytes, or as many as it needs. Places are
    tokens in a deque, of which ``pop`` gets one or fails, in a single C call. Taking
    the place, queueing and counting are one C call too: no other thread, signal or
    exception comes between, so that a record is queued and counted, or neither.

    Attributes:
        admitted: Records that were let in.
        refused: Records that were not, by reason.
        closed: Whether all further ones are refused.
    """

    __slots__ = (
        "_free",
        "_room",
        "_waiting",
        "admitted",
        "closed",
        "places",
        "refused",
    )

    def __init__(self, places: int) -> None:
        self.places = places
        self.admitted = Tally()
        self.refused = Tallies()
        self.closed = False
        self._free: deque[None] = deque([None]) * places
        # A call of pop() at each step; the sentinel is something that never comes.
        self._room: Iterator[None] = iter(self._free.pop, _NEVER)
        self._waiting: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, record: object, size: int) -> bool:
        """Queue *record*, which has about *size* bytes; return whether there is room."""
        if self.closed:
            self.refused.add("shutdown")
            return False
        try:
            if size <= PLACE:
                self._let_in((record,), self._room)
            else:
                self._offer_large(record, -(-size // PLACE))
        except IndexError:
            self.refused.add("queue_full")
            return False
        return True

    def _offer_large(self, record: object, places: int) -> None:
        taken: list[None] = []
        try:
            taken.extend(islice(self._room, places))
        except IndexError:
            self._free.extend(taken)
            raise
        self._let_in((record,), (places,))

    def _let_in(self, records: Iterable[object], places: Iterable[int | None]) -> None:
        # The record comes first: its end is where zip stops, before it takes a place.
        steps = self.admitted.steps
        self._waiting.extend(zip(records, places, steps, strict=False))

    def take(self) -> tuple[list[Any], int]:
        """Return the records of one request, and the places to free after it."""
        records: list[Any] = []
        places = 0
        while len(records) < MOST_RECORDS and places < MOST_PLACES:
            try:
                record, size, _ = self._waiting.popleft()
            except IndexError:
                break
            records.append(record)
            places += size or 1
        return records, places

    def free(self, places: int) -> None:
        """Give back *places*."""
        self._free.extend((None,) * places)
