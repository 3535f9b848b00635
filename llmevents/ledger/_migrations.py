"""Which version the tables of a ledger have, and the way to the newest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sqlalchemy import Connection, inspect, select, update

from llmevents._errors import LLMEventsError
from llmevents.ledger._tables import METADATA, ledger_schema, views


Step: TypeAlias = Callable[[Connection], None]
"""Changes tables of one version to those of the next, inside a transaction."""


class NewerLedgerError(LLMEventsError, RuntimeError):
    """The tables are of a later version than this llmevents knows.

    Attributes:
        found: The version that they have.
        known: The latest that is known.
    """

    def __init__(self, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            f"the ledger has version {found}, and this llmevents knows versions up to "
            f"{known}; nothing was changed; upgrade llmevents or use another database"
        )


def create(connection: Connection) -> None:
    """Create the tables of version 1 where there are none."""
    METADATA.create_all(connection, checkfirst=False)
    for statement in views(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(ledger_schema.insert().values(version=0))


STEPS: Sequence[Step] = (create,)
"""How to come from each version to the next. Their number is the newest version.

A step, once published, is never changed: what it creates is what files in the world
have. When the tables change, it gets statements of its own and a further step follows.
"""


def version(connection: Connection) -> int:
    """Return the version that the tables have; 0 if there are none."""
    if not inspect(connection).has_table(ledger_schema.name):
        return 0
    found = connection.scalar(select(ledger_schema.c.version))
    return int(found or 0)


def check(connection: Connection, steps: Sequence[Step] = STEPS) -> bool:
    """Return whether the tables have the newest version.

    Raises:
        NewerLedgerError: They have a later one.
    """
    found = version(connection)
    if found > len(steps):
        raise NewerLedgerError(found, len(steps))
    return found == len(steps)


def migrate(connection: Connection, steps: Sequence[Step] = STEPS) -> None:
    """Bring the tables to the newest version, in the transaction that is open.

    Raises:
        NewerLedgerError: They have a later version.
    """
    if not check(connection, steps):
        for step in steps[version(connection) :]:
            step(connection)
        connection.execute(update(ledger_schema).values(version=len(steps)))
