"""The one place that deals with `os.fork`.

A fork copies locks in whatever state they are, and copies queued work that the
parent is going to deliver. Objects that own either register here; in the child
they are told once, before any other code runs, to start afresh.

The hooks never log, never wait and never raise: a log record in a fork hook can
deadlock before `os.fork` returns. There are exceptions: imports of ours that another
thread is in the middle of, or could begin, are done before, because the child could
never finish them; and who has to come to rest before a fork says so for itself, see
`wait_before_fork`.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module
from threading import get_ident
from time import monotonic, sleep
from typing import Protocol


LONGEST_IMPORT = 2.0
"""Seconds that a fork waits for other threads' imports at most."""

PAUSE = 0.001
"""Seconds between two looks at them."""


class ForkAware(Protocol):
    """Something that must start afresh in a forked child."""

    def after_fork_in_child(self) -> None:
        """Replace locks and drop what belongs to the parent. Must not wait."""


IMPORTED_LATE: Mapping[str, str] = {
    "llmevents._redact": "llmevents",
    "llmevents.llm.pricing": "llmevents.llm",
}
"""What the first event and the first call import, and what has to be there for that."""


def finish_imports() -> None:
    """Wait until no other thread is importing a module of ours, and leave none to begin.

    A module that is half imported when the process forks stays locked in the child for
    ever. A thread may have its first call at any moment until then, so that what that
    imports is imported now.
    """
    for late in [late for late, by in IMPORTED_LATE.items() if by in sys.modules]:
        import_module(late)
    deadline: float | None = None
    while _is_importing():
        now = monotonic()
        deadline = now + LONGEST_IMPORT if deadline is None else deadline
        if now >= deadline:
            return
        sleep(PAUSE)


def _is_importing() -> bool:
    # The locks are importlib's own (CPython 3.10 to 3.13): there are no others to ask.
    locks = getattr(sys.modules["_frozen_importlib"], "_module_locks", {})
    owners = {
        getattr(reference(), "owner", None)
        for name, reference in list(locks.items())
        if name.startswith("llmevents")
    }
    return bool(owners - {None, get_ident()})


class _Registry:
    """Everything that wants to know, and how many forks led to this process."""

    __slots__ = ("_hooked", "_members", "generation")

    def __init__(self) -> None:
        self.generation = 0
        self._members: weakref.WeakSet[ForkAware] = weakref.WeakSet()
        self._hooked = False

    def register(self, member: ForkAware) -> None:
        self._members.add(member)
        if not self._hooked and hasattr(os, "register_at_fork"):
            self._hooked = True
            os.register_at_fork(
                before=finish_imports, after_in_child=self._after_fork_in_child
            )

    def wait_before_fork(
        self,
        wait: Callable[[], object],
        go_on: Callable[[], object] | None = None,
    ) -> None:
        """Have *wait* called before each fork, and *go_on* after it in the parent.

        What is waited for may import and log, and hooks run in reverse order: those of
        `logging` and `concurrent.futures` take locks that this may need. So these are
        loaded first.
        """
        import concurrent.futures.thread  # noqa: F401  # it imports logging too

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=wait)
            if go_on is not None:
                os.register_at_fork(after_in_parent=go_on)

    def _after_fork_in_child(self) -> None:
        self.generation += 1
        for member in list(self._members):
            member.after_fork_in_child()


registry = _Registry()
"""Counts forks in ``registry.generation``; `register` takes a weak reference."""
