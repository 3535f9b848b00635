"""Running coroutines one after the other, in a thread without an event loop."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Coroutine


class CoroutineRunner:
    """An event loop that is made when the first coroutine comes.

    Tasks that a coroutine leaves behind go on while the next ones run, and are
    cancelled in the end. (`asyncio.Runner` does the same from Python 3.11 on.)
    """

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run *coroutine* to its end and raise what it raises."""
        import asyncio

        try:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            self._loop.run_until_complete(coroutine)
        finally:
            coroutine.close()  # does something only if it could not be started

    def close(self) -> None:
        """Cancel what is still running and close the loop."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        import asyncio

        try:
            with suppress(Exception):
                tasks = asyncio.all_tasks(loop)
                for task in tasks:
                    task.cancel()
                if tasks:
                    loop.run_until_complete(asyncio.wait(tasks))
                loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
