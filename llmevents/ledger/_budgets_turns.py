"""One connection to the database of budgets, which threads take turns at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from llmevents._errors import LLMEventsError
from llmevents.ledger import _fork
from llmevents.ledger._budgets_books import Books
from llmevents.ledger._budgets_database import BudgetDatabase
from llmevents.ledger._database import reason_of
from llmevents.ledger._gate import Gate


if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPICursor

    from llmevents._clock import Clock

T = TypeVar("T")

SHARE = 4
"""Times as long as an attempt that failed took, none is made: a fifth of the time is
spent on a database that is away."""

LONGEST_PAUSE = 30.0
"""Seconds after which it is tried again at the latest."""


class SqlBudgetCounts(NamedTuple):
    """What a store could not do at once, in this process.

    Attributes:
        unseen: Calls that were let through although nobody could look.
        refused: Calls that were refused because nobody could look.
        waiting: What is to be booked once the database is back.
        lost: What was not kept for that, because there was too much.
        failures: By reason: ``locked``, ``unreachable``, ``disk_full``, ``read_only``,
            ``newer_ledger``, ``error``; ``busy`` if other threads of this process
            took too long.
    """

    unseen: int
    refused: int
    waiting: int
    lost: int
    failures: dict[str, int]


class BudgetStoreError(LLMEventsError, RuntimeError):
    """The state of budgets cannot be read at present.

    Attributes:
        reason: ``locked``, ``unreachable``, ``busy`` ...; see `SqlBudgetCounts`.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the database of budgets cannot be used: {reason}; calls go on as "
            f"on_failure says, and it is tried again"
        )


class AwayError(BudgetStoreError):
    """It has failed a moment ago, and is not tried yet."""

    def __init__(self) -> None:
        super().__init__("away")


class Turns:
    """Does one step after the other, each in one transaction.

    Args:
        database: Where.
        clock: Its wall clock is the time of a step.
        patience: Seconds that a thread waits for its turn, and that a step takes.
    """

    def __init__(self, database: BudgetDatabase, clock: Clock, patience: float) -> None:
        self.database = database
        self._clock = clock
        self._patience = patience
        self._connection: Connection | None = None
        self._begin()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads out.

        Raises:
            NestedError: This thread is in the middle of a step.
            BudgetStoreError: Other threads have not come to an end.
        """
        with self._gate.alone(self._patience) as is_alone:
            if not is_alone:
                reason = "busy"
                raise BudgetStoreError(reason)
            yield

    def refuse_while_away(self) -> None:
        """Raise if a step has failed a moment ago.

        Raises:
            AwayError: It has.
        """
        if time.monotonic() < self._retry_at:
            raise AwayError

    def look(self, work: Callable[[Books], T]) -> T:
        """Do what changes nothing. Whoever calls is alone."""

        def step() -> T:
            with self.database.look(self._connected()) as cursor:
                return work(self._books(cursor))

        return self._tried(step)

    def change(self, ids: Iterable[str], work: Callable[[Books], T]) -> T:
        """Do what changes the accounts of these ids. Whoever calls is alone."""

        def step() -> T:
            with self.database.step(self._connected(), ids) as cursor:
                books = self._books(cursor)
                done = work(books)
                books.save(lambda id_: self.database.try_lock(cursor, id_))
                return done

        return self._tried(step)

    def disconnect(self) -> None:
        """Close the connection; the next step opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                # Not to be asked any more what it thinks of its transaction.
                connection.invalidate()
                connection.close()

    def before_fork(self, patience: float) -> None:
        """Wait until no thread is at work: SQLite's locks do not survive a fork."""
        self._gate.before_fork(patience)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._gate.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Begin with a connection of its own."""
        connection, self._connection = self._connection, None
        if connection is not None:
            is_idle = self._gate.is_forking and self.database.path is not None
            _fork.leave(connection, is_idle=is_idle)
        self.database.renew()
        self._begin()

    def _begin(self) -> None:
        self._gate = Gate()
        self._retry_at = 0.0

    def _books(self, cursor: DBAPICursor) -> Books:
        is_sqlite = self.database.path is not None
        return Books(cursor, self._clock.time_ns(), is_sqlite=is_sqlite)

    def _tried(self, step: Callable[[], T]) -> T:
        """Do a step, by a new connection if the one that was open is none any more."""
        self.refuse_while_away()
        started = time.monotonic()
        was_open = self._connection is not None
        try:
            with self.database.deadline.within(self._patience):
                try:
                    return step()
                except Exception as error:
                    self.disconnect()
                    is_late = time.monotonic() - started > self._patience / 2
                    if not was_open or is_late or reason_of(error) in _FINAL:
                        raise
                return step()
        except BaseException as error:
            self.disconnect()
            if isinstance(error, Exception):
                ended = time.monotonic()
                self._retry_at = ended + min(SHARE * (ended - started), LONGEST_PAUSE)
            raise

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and self.database.is_another(connection):
            self.disconnect()
        if self._connection is None:
            self._connection = self.database.connect()
        return self._connection


_FINAL = ("locked", "disk_full")
"""Reasons that another connection would meet as well."""
