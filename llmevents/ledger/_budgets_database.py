"""The database of budgets: nobody waits for it longer than a few seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from llmevents.ledger import _budgets_tables as tables
from llmevents.ledger._database import Database, transaction
from llmevents.ledger._postgresql import BEGIN


LOCK_CHARACTERS = 16
"""Of an account's id, which are a number of 64 bits."""

MORE = 1.5
"""Times the patience after which the server ends by itself what a client has begun."""


class BudgetDatabase(Database):
    """Where budgets are kept, beside the tables of a ledger if there is one.

    Args:
        url: As of a `Database`.
        patience: Seconds that a step waits for locks and answers, all together.
    """

    def __init__(self, url: str, *, patience: float) -> None:
        self._seconds = patience
        super().__init__(url, full=False, patience=patience)

    def is_newest(self, connection: Connection) -> bool:
        """Whether the tables are there, in the newest version."""
        return tables.is_newest(connection)

    def migrate(self, connection: Connection) -> None:
        """Create the tables, in the transaction that is open."""
        tables.migrate(connection)

    @contextmanager
    def step(self, connection: Connection, ids: Iterable[str]) -> Iterator[DBAPICursor]:
        """Hold a transaction that nobody else changes these accounts beside."""
        cursor = connection.connection.cursor()
        with closing(cursor), transaction(cursor.execute, self._begin(ids)):
            yield cursor

    @contextmanager
    def look(self, connection: Connection) -> Iterator[DBAPICursor]:
        """Hold a transaction that sees one state, and changes nothing."""
        cursor = connection.connection.cursor()
        with closing(cursor), transaction(cursor.execute, (self.kind.snapshot,)):
            yield cursor

    def try_lock(self, cursor: DBAPICursor, id_: str) -> bool:
        """Lock one more account, unless somebody else has it."""
        if self.path is not None:
            return True
        cursor.execute(f"SELECT pg_try_advisory_xact_lock({_lock(id_)})")
        row = cursor.fetchone()
        return row is not None and bool(row[0])

    def _begin(self, ids: Iterable[str]) -> tuple[str, ...]:
        if self.path is not None:
            return self.kind.begin
        # In one order everywhere, or two transactions could wait for each other; and
        # in one message to the server.
        locks = sorted({_lock(id_) for id_ in ids})
        taken = [f"SELECT pg_advisory_xact_lock({lock})" for lock in locks]
        return ("; ".join([BEGIN, *taken]),)

    def _connect_args(self) -> dict[str, Any]:
        arguments = super()._connect_args()
        if self.path is None:
            longest = max(1, round(self._seconds * MORE * 1000))
            names = ("statement_timeout", "idle_in_transaction_session_timeout")
            own = " ".join(f"-c {name}={longest}" for name in names)
            arguments["options"] = f"{own} {arguments['options']}"
        return arguments


def _lock(id_: str) -> int:
    number = int(id_[:LOCK_CHARACTERS], 16)
    return number - (1 << 63)
