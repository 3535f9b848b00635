"""Series that nothing happens to any more."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from llmevents._clock import Clock
from llmevents.metrics._admission import Slot, TagKey, tag_key
from llmevents.metrics._cells import State


NANOSECONDS = 1_000_000_000


class Expiry:
    """Finds series that did not change for a time, when somebody reads.

    Metrics that have the same tags are kept as long as one of them changes. The
    series of what is past the limit stays.
    """

    __slots__ = ("_changed", "_clock", "_idle_ns", "_lock", "_seen")

    def __init__(self, max_idle: float, clock: Clock) -> None:
        self._idle_ns = int(max_idle * NANOSECONDS)
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget everything, locks included."""
        self._lock = threading.Lock()
        self._seen: dict[Slot, State] = {}
        self._changed: dict[TagKey, int] = {}

    def find(self, states: Mapping[Slot, State]) -> frozenset[Slot]:
        """Return the series that have expired; none, if another reader is at it."""
        if not self._lock.acquire(blocking=False):
            return frozenset()
        try:
            return self._find(states)
        finally:
            self._lock.release()

    def _find(self, states: Mapping[Slot, State]) -> frozenset[Slot]:
        now = self._clock.monotonic_ns()
        keys = {slot: tag_key(slot.tags) for slot in states if not slot.is_overflow}
        changed = self._changed
        for slot, key in keys.items():
            if self._seen.get(slot) != states[slot]:
                changed[key] = now
        gone = {key for key, at in changed.items() if now - at > self._idle_ns}
        self._seen = {
            slot: states[slot] for slot, key in keys.items() if key not in gone
        }
        self._changed = {
            key: changed[key] for key in set(keys.values()) if key not in gone
        }
        return frozenset(slot for slot, key in keys.items() if key in gone)
