"""Results of Anthropic's message batches: usage that is known afterwards.

Each result that succeeded is a call of its own, which began and ended when it was
read; it says that it is part of a ``batch``, and so is priced as such. Reading the
results of a batch again in this process counts nothing again: as many results of it
as were counted before are passed over. What another process has read cannot be
known; a result's ``response_id`` tells it from others.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from llmevents import _forksafe
from llmevents.instrumentation._streams import Proxy
from llmevents.llm import record


if TYPE_CHECKING:
    from collections.abc import Awaitable

    from llmevents._bus import Bus

PREFIX = "llm.chat"

MOST_BATCHES = 1024
"""Batches of which is remembered how many results were counted."""

_RESULTS = re.compile(r"/v1/messages/batches/([^/]+)/results$")

Read = Callable[[object], None]


class Batches:
    """How many results of which batch have been counted.

    Args:
        bus: Where to emit.
        provider_of: Says whom a client of the SDK asks.
    """

    def __init__(self, bus: Bus, provider_of: Callable[[Any], str]) -> None:
        self._bus = bus
        self._provider_of = provider_of
        self._lock = threading.Lock()
        self._counted: OrderedDict[str, int] = OrderedDict()
        _forksafe.registry.register(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which a thread of the parent may hold."""
        self._lock = threading.Lock()

    @staticmethod
    def find(path: str) -> str | None:
        """Return the id of the batch whose results are at *path*, or None."""
        found = _RESULTS.search(path) if path.endswith("/results") else None
        return None if found is None else found[1]

    def watch(self, results: Any, batch: str, client: Any) -> Any:
        """Return the results of *batch* so that each is counted when it is read."""
        if self._bus.is_quiet(PREFIX):
            return results
        read = _Reader(self, batch, client).read
        # Asked of the type: raw responses have it.
        if hasattr(type(results), "http_request"):
            return RawResultsProxy(results, read)
        return _proxy(results, read)

    def is_new(self, batch: str, position: int) -> bool:
        """Whether nobody has counted the result at *position*, from 1, of *batch*."""
        with self._lock:
            is_new = position > self._counted.get(batch, 0)
            if is_new:
                self._counted[batch] = position
                self._counted.move_to_end(batch)
                if len(self._counted) > MOST_BATCHES:
                    self._counted.popitem(last=False)
            return is_new

    def count(self, message: Any, client: Any) -> None:
        """Emit the call that *message* is the answer to."""
        record(
            message,
            provider=self._provider_of(client),
            model=message.model,
            batch=True,
            bus=self._bus,
        )

    def refuse(self) -> None:
        """Count one result that could not be read."""
        self._bus.refuse_value()


class _Reader:
    """One reading of the results of a batch."""

    def __init__(self, batches: Batches, batch: str, client: Any) -> None:
        self._batches = batches
        self._batch = batch
        self._client = client
        self._position = 0

    def read(self, item: Any) -> None:
        """Count one result, unless it failed or was counted before."""
        self._position += 1
        try:
            if not self._batches.is_new(self._batch, self._position):
                return
            # The others (errored, canceled, expired) are not billed: Anthropic's
            # guide "Batch processing", section "Retrieve batch results".
            if item.result.type == "succeeded":
                self._batches.count(item.result.message, self._client)
        except Exception:  # noqa: BLE001  # reading usage must not cost the caller the results
            self._batches.refuse()


async def _later(results: Awaitable[Any], read: Callable[[Any], Any]) -> Any:
    return read(await results)


def _proxy(results: Any, read: Read) -> Any:
    if isinstance(results, AsyncIterator):
        return AsyncResultsProxy(results, read)
    if isinstance(results, Iterator):
        return ResultsProxy(results, read)
    return results


class ResultsProxy(Proxy):
    """Results, each of which is read as it is given to the caller."""

    __slots__ = ("_self_read",)

    def __init__(self, results: Iterator[object], read: Read) -> None:
        super().__init__(results)
        self._self_read = read

    def __iter__(self) -> Iterator[object]:
        for item in self._self_sdks:
            self._self_read(item)
            yield item

    def __next__(self) -> object:
        item = next(self._self_sdks)
        self._self_read(item)
        return item


class AsyncResultsProxy(Proxy):
    """The same of asynchronous ones."""

    __slots__ = ("_self_read",)

    def __init__(self, results: AsyncIterator[object], read: Read) -> None:
        super().__init__(results)
        self._self_read = read

    async def __aiter__(self) -> AsyncIterator[object]:
        async for item in self._self_sdks:
            self._self_read(item)
            yield item

    async def __anext__(self) -> object:
        item = await anext(self._self_sdks)
        self._self_read(item)
        return item


class RawResultsProxy(Proxy):
    """A raw response whose ``parse`` gives the results."""

    __slots__ = ("_self_parsed", "_self_read")

    def __init__(self, response: object, read: Read) -> None:
        super().__init__(response)
        self._self_read = read
        self._self_parsed: dict[int, Any] = {}

    # The SDK's own signature.
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        """Parse as the SDK does; the results come back watched."""
        parsed = self._self_sdks.parse(*args, **kwargs)
        return (
            _later(parsed, self._self_got)
            if isawaitable(parsed)
            else self._self_got(parsed)
        )

    def _self_got(self, parsed: Any) -> Any:
        """Return the results watched; the same for the same."""
        if id(parsed) not in self._self_parsed:
            self._self_parsed[id(parsed)] = _proxy(parsed, self._self_read)
        return self._self_parsed[id(parsed)]
