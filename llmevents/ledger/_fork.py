"""Forks of processes that have a database open.

SQLite keeps a list of a process's locks beside the operating system's. A fork copies
the list but not the locks: a child that opens the same file then believes in locks that
it does not have, or that nobody will ever release ("How To Corrupt An SQLite Database
File", section 2.7). So a fork waits until no thread writes, and the child first closes
the copies of idle connections, by which the list is emptied.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Protocol

from sqlalchemy import Connection

from llmevents import _forksafe


PATIENCE = 2.0
"""Seconds that a fork waits for a write."""


class Forking(Protocol):
    """What wants to know before a process forks, and after."""

    def before_fork(self, patience: float) -> None:
        """Come to rest, within *patience* seconds. Must not raise."""

    def after_fork_in_parent(self) -> None:
        """Go on, in the parent."""


_members: weakref.WeakSet[Forking] = weakref.WeakSet()

_hooked: list[bool] = []

_left: list[Connection] = []
"""Copies of connections that the parent goes on with. They are never closed."""


def register(member: Forking) -> None:
    """Have *member*, of which a weak reference is kept, told of each fork."""
    if not _hooked:
        _hooked.append(True)
        _forksafe.registry.wait_before_fork(_before, _after_in_parent)
    _members.add(member)


def leave(connection: Connection, *, is_idle: bool) -> None:
    """Get rid of the copy of a connection in a child, without harm to the parent's."""
    if is_idle:
        with suppress(Exception):
            connection.close()
    else:
        _left.append(connection)


def _before() -> None:
    for member in list(_members):
        member.before_fork(PATIENCE)


def _after_in_parent() -> None:
    for member in list(_members):
        member.after_fork_in_parent()
