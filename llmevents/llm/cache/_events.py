"""The four events of a cache, emitted by an object bound to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from llmevents._bus import Bus, default_bus
from llmevents._values import clean_number
from llmevents.llm.cache._keys import hash_key


if TYPE_CHECKING:
    from llmevents._types import EventName, Metadata

HIT: Final = ("llm", "cache", "hit")
MISS: Final = ("llm", "cache", "miss")
PUT: Final = ("llm", "cache", "put")
EVICTED: Final = ("llm", "cache", "evicted")


class _Absent:
    """Stands for what was not given; None is a key and a value like any other."""

    def __repr__(self) -> str:
        return "<absent>"


# In the place of keys and values of any type.
ABSENT: Any = _Absent()


class Cache:
    """The events of one cache. Every method may be called from any thread.

    Values that are no finite numbers are dropped and counted in
    ``stats()["refused_values"]``; nothing here raises because of an odd value.

    Args:
        name: Which cache: the metadata ``cache``, and the tag of its metrics.
        metadata: Added to all its events. Secrets are taken out, once.
        bus: Where to emit; the default bus unless given.
        show_key: State keys as they are, cleaned like any metadata, rather than
            hashed.
        secret: Of the hash; see `hash_key`.

    Attributes:
        name: As given.
        bus: As given.

    Examples:
        >>> from llmevents.llm.cache import Cache
        >>> answers = Cache("answers")
        >>> answers.miss("What is an event bus?")
        >>> answers.put("What is an event bus?", entry_size=310, size=9_400)
    """

    __slots__ = ("_metadata", "_secret", "_show_key", "bus", "name")

    def __init__(
        self,
        name: str,
        metadata: Metadata | None = None,
        *,
        bus: Bus | None = None,
        show_key: bool = False,
        secret: bytes = b"",
    ) -> None:
        from llmevents._redact import clean_metadata

        self.name = name
        self.bus = default_bus if bus is None else bus
        self._metadata = clean_metadata({**(metadata or {}), "cache": name})
        self._show_key = show_key
        self._secret = secret

    def hit(
        self,
        key: object = ABSENT,
        *,
        count: int = 1,
        entry_size: int | None = None,
        size: int | None = None,
    ) -> None:
        """Emit ``llm.cache.hit``: the cache had the answer.

        A call of a model that is not made is not billed: emit this instead of
        entering `llmevents.llm.chat`.

        Args:
            key: The entry's key; None is a key.
            count: How many answers it had.
            entry_size: Bytes of the entry.
            size: Bytes of the whole cache.
        """
        self.emit(HIT, key, count=count, entry_size=entry_size, size=size)

    def miss(
        self, key: object = ABSENT, *, count: int = 1, size: int | None = None
    ) -> None:
        """Emit ``llm.cache.miss``: the cache did not have the answer; see `hit`."""
        self.emit(MISS, key, count=count, size=size)

    def put(
        self,
        key: object = ABSENT,
        *,
        count: int = 1,
        entry_size: int | None = None,
        size: int | None = None,
    ) -> None:
        """Emit ``llm.cache.put``: the cache has stored an answer; see `hit`.

        The metric ``llm.cache.size.bytes`` is the *size* of the last put or eviction.
        """
        self.emit(PUT, key, count=count, entry_size=entry_size, size=size)

    def evicted(
        self,
        key: object = ABSENT,
        *,
        count: int = 1,
        entry_size: int | None = None,
        size: int | None = None,
    ) -> None:
        """Emit ``llm.cache.evicted``: the cache has dropped an answer; see `put`."""
        self.emit(EVICTED, key, count=count, entry_size=entry_size, size=size)

    def is_heard(self, event: EventName) -> bool:
        """Whether anybody listens to *event*, one of the four."""
        return self.bus.has_handlers(event)

    def emit(self, event: EventName, key: object, **numbers: int | None) -> None:
        """Emit *event*, one of the four, if anybody listens."""
        if not self.bus.has_handlers(event):
            return
        metadata = dict(self._metadata)
        shown = None if key is ABSENT else self._shown(key)
        if shown is not None:
            metadata["key"] = shown
        self.bus.execute(event, self._measured(numbers), metadata)

    def _shown(self, key: object) -> object:
        if not self._show_key:
            return hash_key(key, secret=self._secret)
        from llmevents._redact import clean_metadata

        return clean_metadata({"key": key})["key"]

    def _measured(self, numbers: Mapping[str, int | None]) -> dict[str, int | float]:
        measured: dict[str, int | float] = {}
        for name, given in numbers.items():
            number = None if given is None else clean_number(given)
            if number is not None:
                measured[name] = number
            elif given is not None:
                self.bus.refuse_value()
        return measured
