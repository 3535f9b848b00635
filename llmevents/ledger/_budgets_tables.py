"""The tables that budgets of several processes are kept in."""

from __future__ import annotations

import json
from hashlib import blake2b

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    MetaData,
    Table,
    Text,
    inspect,
    select,
    update,
)

from llmevents.ledger._migrations import NewerLedgerError
from llmevents.llm.budgets import Account


METADATA = MetaData()

LONGEST_NAME = 200
"""Characters of a budget's name that its accounts are found by."""

budget_accounts = Table(
    "budget_accounts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("budget", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("announced", Text, nullable=False),
    Column("forget_at", BigInteger),
)
"""What is booked on each account: one budget, one key, one period.

``account`` is the JSON of an `Account`, ``id`` a digest of it. ``held`` counts the
rows of ``budget_holds``, and ``entries`` those of ``budget_windows``. ``announced`` is
JSON: bit -> time until which it is set, 0 for ever. ``forget_at`` is when to look
whether the account is over. All times are of the wall clock, in nanoseconds since the
Unix epoch.
"""

budget_holds = Table(
    "budget_holds",
    METADATA,
    Column("token", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""What calls under way hold, until they are settled or their lease is over."""

budget_windows = Table(
    "budget_windows",
    METADATA,
    Column("account_id", Text, primary_key=True),
    Column("moment", BigInteger, primary_key=True, autoincrement=False),
    Column("amount", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""What was spent in rolling windows, by the time it counts from."""

budget_schema = Table(
    "budget_schema",
    METADATA,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
)
"""One row: the version of these tables. Those of the ledger have one of their own."""

Index("budget_accounts_budget", budget_accounts.c.budget)
_forgotten = budget_accounts.c.forget_at
Index(
    "budget_accounts_forget_at",
    _forgotten,
    sqlite_where=_forgotten.is_not(None),
    postgresql_where=_forgotten.is_not(None),
)
Index("budget_holds_account_id", budget_holds.c.account_id, budget_holds.c.expires)

VERSION = 1
"""The newest version. Whoever changes the tables adds a step to `migrate`."""


def is_newest(connection: Connection) -> bool:
    """Return whether the tables are there, in the newest version.

    Raises:
        NewerLedgerError: They have a later one.
    """
    if not inspect(connection).has_table(budget_schema.name):
        return False
    found = connection.scalar(select(budget_schema.c.version)) or 0
    if found > VERSION:
        raise NewerLedgerError(found, VERSION)
    return bool(found == VERSION)


def migrate(connection: Connection) -> None:
    """Create the tables where there are none, in the transaction that is open.

    Raises:
        NewerLedgerError: They have a later version.
    """
    if is_newest(connection):
        return
    METADATA.create_all(connection)
    if connection.execute(update(budget_schema).values(version=VERSION)).rowcount == 0:
        connection.execute(budget_schema.insert().values(version=VERSION))


def text_of(account: Account) -> str:
    """Return an account as JSON of ASCII alone: any key can be stored so."""
    return json.dumps(account)


def id_of(text: str) -> str:
    """Return the digest of an account's text: that has no bound, and an index does."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def account_of(text: str) -> Account:
    """Return the account that `text_of` has written."""
    budget, key, start, end, rolling = json.loads(text)
    return Account(budget, tuple(key), start, end, rolling)


def name_of(budget: str) -> str:
    """Return what a budget's accounts are found by; of few long names it is the same."""
    return json.dumps(budget)[1:-1][:LONGEST_NAME]
