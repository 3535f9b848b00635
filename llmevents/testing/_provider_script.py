"""Which reply a request gets, where somebody said so."""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import final

from llmevents.testing._exchanges import Exchange
from llmevents.testing._provider_replies import Reply


class Script:
    """A queue of replies, and recordings found by what they answer.

    Args:
        exchanges: Of several that answer the same request each is used in turn.
    """

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Reply] = deque()
        self._recordings = _by_request(exchanges)

    def push(self, replies: Iterable[Reply]) -> None:
        """Queue *replies*, next to each other."""
        with self._lock:
            self._queue.extend(replies)

    def withdraw(self, reply: Reply) -> None:
        """Remove this very reply if it is still queued."""
        with self._lock:
            self._queue = deque(queued for queued in self._queue if queued is not reply)

    def take(self, path: str, body: str, *, known_path: bool) -> Reply | None:
        """Return the next reply of the queue, else the recording that fits.

        Args:
            path: Path of the request.
            body: Its body, from `canonical`.
            known_path: Whether a reply can be made for it; else only a recording
                is taken.
        """
        with self._lock:
            if self._queue and (known_path or self._queue[0].exchange is not None):
                return self._queue.popleft()
            recordings = self._recordings.get((path, body))
            return None if recordings is None else next(recordings)


@final
class Serving:
    """A recorded exchange in the queue; as a ``with`` block, only while it lasts."""

    def __init__(self, script: Script, reply: Reply) -> None:
        self._script = script
        self._reply = reply

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._script.withdraw(self._reply)


def canonical(body: object) -> str:
    """Return the same text for JSON bodies that mean the same."""
    return json.dumps(body, sort_keys=True)


def _by_request(
    exchanges: Iterable[Exchange],
) -> dict[tuple[str, str], Iterator[Reply]]:
    recordings: dict[tuple[str, str], list[Reply]] = {}
    for exchange in exchanges:
        asked = (exchange.path, canonical(exchange.request))
        recordings.setdefault(asked, []).append(Reply.recorded(exchange))
    return {asked: itertools.cycle(known) for asked, known in recordings.items()}
