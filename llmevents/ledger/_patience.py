"""Connections to PostgreSQL that nobody waits for longer than is allowed.

A server that is frozen takes connections and answers nothing; none of its own timeouts
are of use then. So each wait for it has a deadline here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event


if TYPE_CHECKING:
    from psycopg import Connection as DriverConnection


class Deadline:
    """Until when this thread waits for answers; each thread has its own."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @property
    def at(self) -> float:
        """On the monotonic clock; infinite unless within `within`."""
        at: float = getattr(self._of_thread, "at", float("inf"))
        return at

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Wait no longer than so many seconds from now, all together."""
        self._of_thread.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self._of_thread.at = float("inf")

    def watch(self, engine: Engine) -> None:
        """Have all connections of an engine with psycopg's driver keep to it."""

        def connect(
            _dialect: object,
            _record: object,
            arguments: list[Any],
            options: dict[str, Any],
        ) -> DriverConnection[Any]:
            return _impatient(self).connect(*arguments, **options)

        event.listen(engine, "do_connect", connect)


def _impatient(deadline: Deadline) -> type[DriverConnection[Any]]:
    """Return a class of connections that wait until the deadline at most."""
    from psycopg import Connection as DriverConnection
    from psycopg import OperationalError

    def until_deadline(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        # The driver goes on with a generator when something has come, and ten times a
        # second otherwise (psycopg 3.3, `psycopg.waiting`).
        ready = None
        while True:
            try:
                wanted = steps.send(ready)
            except StopIteration as end:
                return end.value
            ready = yield wanted
            if not ready and time.monotonic() >= deadline.at:
                msg = "the server has not answered in time"
                raise OperationalError(msg)

    class Impatient(DriverConnection[Any]):
        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # the driver's own types differ from version to version
            return super().wait(until_deadline(gen), *args, **kwargs)

    return Impatient
