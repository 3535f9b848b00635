"""A mapping that emits what it had, had not, stored and dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, TypeVar

from llmevents import _forksafe
from llmevents.llm.cache._events import ABSENT, EVICTED, HIT, PUT, Cache


if TYPE_CHECKING:
    from llmevents._bus import Bus

K = TypeVar("K")
V = TypeVar("V")


def byte_size(value: object) -> int | None:
    """Return how many bytes *value* has, as UTF-8 if it is text; None of other types."""
    if isinstance(value, str):
        # Python knows of every string if it is ASCII; only others are encoded.
        if value.isascii():
            return len(value)
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    return value.nbytes if isinstance(value, memoryview) else None


class _Account:
    """How many entries a cache ought to have, and the lock of its changes.

    Attributes:
        lock: Re-entrant: a finalizer may change the cache while its own thread does.
        known: The entries; None if nobody kept count.
    """

    __slots__ = ("__weakref__", "known", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.known: int | None = None
        _forksafe.registry.register(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self.lock = threading.RLock()
        self.known = None


class ObservedCache(MutableMapping[K, V]):
    """A cache, seen as a mapping that emits events and is otherwise the same.

    ``[]``, ``get`` and `setdefault` are look-ups: each is one hit or one miss. Storing
    is a put. Deleting, `pop`, `popitem` and `clear` are evictions, and so is what the
    cache drops by itself: such entries are counted when the cache is changed the next
    time, from how many it then has, in an event without a key. ``in``, `len` and
    iteration are silent.

    Look-ups take no lock. Changes take one while somebody listens, so that the counts
    are exact for any number of threads, and hold it while the cache is at work. What
    the cache raises is raised unchanged.

    Args:
        inner: The cache: a dict, one of cachetools, anything with the methods of a
            `collections.abc.MutableMapping`. Change it only through this object.
        events: The cache's name, or its events.
        bus: Where to emit, if *events* is a name.
        show_key: See `Cache`; if *events* is a name.
        sizeof: Returns the bytes of a value, or None if they are unknown.
        size: Returns the bytes of the whole cache, given *inner*. It is called under
            the lock, after each change. For a cache of cachetools that was made
            with ``getsizeof=len``: ``lambda inner: inner.currsize``.

    Attributes:
        inner: As given.
        events: What it emits with.

    Examples:
        >>> from llmevents.llm.cache import ObservedCache
        >>> from llmevents.testing import capture
        >>> answers = ObservedCache({}, "answers")
        >>> with capture("llm.cache.**") as events:
        ...     answers["q"] = "42"
        ...     _ = answers.get("q"), answers.get("r")
        >>> [event.event[-1] for event in events]
        ['put', 'hit', 'miss']
    """

    def __init__(
        self,
        inner: MutableMapping[K, V],
        events: Cache | str,
        *,
        bus: Bus | None = None,
        show_key: bool = False,
        sizeof: Callable[[V], int | None] = byte_size,
        size: Callable[[MutableMapping[K, V]], int | None] | None = None,
    ) -> None:
        if isinstance(events, str):
            events = Cache(events, bus=bus, show_key=show_key)
        self.inner = inner
        self.events = events
        self._sizeof = sizeof
        self._size = size
        self._account = _Account()

    def __getitem__(self, key: K) -> V:
        try:
            value = self.inner[key]
        except KeyError:
            self.events.miss(key)
            raise
        self.note_hit(key, value)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._store(key, value, once=False)

    def __delitem__(self, key: K) -> None:
        if not self._is_watched():
            del self.inner[key]
            return
        with self._account.lock:
            ought = self._count() - 1
            del self.inner[key]
            dropped, size = self._settle(ought)
        self.events.evicted(key, size=size)
        self._note_dropped(dropped, size)

    def __contains__(self, key: object) -> bool:
        return key in self.inner

    def __iter__(self) -> Iterator[K]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r}, {self.events.name!r})"

    # The mixin's would be a look-up first. Its own overloads say the types.
    def pop(self, key: K, default: V = ABSENT) -> V:  # type: ignore[override]  # of any default
        """Remove an entry and return its value, or *default* if that is given.

        Raises:
            KeyError: There is no such entry, and no *default*.
        """
        if not self._is_watched():
            given = () if default is ABSENT else (default,)
            return self.inner.pop(key, *given)
        with self._account.lock:
            try:
                value = self.inner[key]
            except KeyError:
                if default is ABSENT:
                    raise
                return default
            ought = self._count() - 1
            del self.inner[key]
            dropped, size = self._settle(ought)
        self.events.evicted(key, entry_size=self._measure(value), size=size)
        self._note_dropped(dropped, size)
        return value

    def popitem(self) -> tuple[K, V]:
        """Remove the entry that the cache would drop next, and return it.

        Raises:
            KeyError: The cache is empty.
        """
        if not self._is_watched():
            return self.inner.popitem()
        with self._account.lock:
            ought = self._count() - 1
            key, value = self.inner.popitem()
            dropped, size = self._settle(ought)
        self.events.evicted(key, entry_size=self._measure(value), size=size)
        self._note_dropped(dropped, size)
        return key, value

    def clear(self) -> None:
        """Remove all entries: one event that counts them."""
        if not self._is_watched():
            self.inner.clear()
            return
        with self._account.lock:
            ought = self._count()
            self.inner.clear()
            dropped, size = self._settle(ought)
        self._note_dropped(dropped, size)

    def setdefault(self, key: K, default: V = None) -> V:  # type: ignore[assignment]  # as of a dict
        """Return the value of *key*, which is *default* from now on if there was none."""
        value = self.look_up(key)
        if value is ABSENT:
            self.events.miss(key)
            return self.put_once(key, default)
        self.note_hit(key, value)
        return value

    def look_up(self, key: K) -> V:
        """Return the value of *key*, or ``ABSENT``; silently."""
        try:
            return self.inner[key]
        except KeyError:
            # Not typed as a value, so that nobody need tell it apart by its type.
            return ABSENT  # type: ignore[no-any-return]

    def put_once(self, key: K, value: V) -> V:
        """Store *value* unless there is one already; return the one that there is."""
        return self._store(key, value, once=True)

    def note_hit(self, key: K, value: V) -> None:
        """Emit that the cache had *value*."""
        if self.events.is_heard(HIT):
            self.events.hit(key, entry_size=self._measure(value))

    def _store(self, key: K, value: V, *, once: bool) -> V:
        """Store *value*; with *once* only where there is none. Return what is there.

        Events are emitted after the lock is released: a handler may use the cache.
        """
        if not self._is_watched():
            return self._store_unheard(key, value, once=once)
        with self._account.lock:
            found = self.look_up(key) if once else ABSENT
            if found is not ABSENT:
                return found
            ought = self._count() + (key not in self.inner)
            self.inner[key] = value
            dropped, size = self._settle(ought)
        self.events.put(key, entry_size=self._measure(value), size=size)
        self._note_dropped(dropped, size)
        return value

    def _store_unheard(self, key: K, value: V, *, once: bool) -> V:
        if not once:
            self.inner[key] = value
            return value
        with self._account.lock:
            return self.inner.setdefault(key, value)

    def _is_watched(self) -> bool:
        """Whether anybody is told of changes; if not, the count is lost."""
        if self.events.is_heard(PUT) or self.events.is_heard(EVICTED):
            return True
        self._account.known = None
        return False

    def _count(self) -> int:
        known = self._account.known
        return len(self.inner) if known is None else known

    def _settle(self, ought: int) -> tuple[int, int | None]:
        """Return how many entries are gone besides, and the size of those there are."""
        self._account.known = known = len(self.inner)
        size = None
        if self._size is not None:
            try:
                size = self._size(self.inner)
            except Exception:  # noqa: BLE001  # a size is not worth the caller's answer
                self.events.bus.refuse_value()
        return max(0, ought - known), size

    def _measure(self, value: V) -> int | None:
        try:
            return self._sizeof(value)
        except Exception:  # noqa: BLE001  # a size is not worth the caller's answer
            self.events.bus.refuse_value()
            return None

    def _note_dropped(self, count: int, size: int | None) -> None:
        if count:
            self.events.evicted(count=count, size=size)
