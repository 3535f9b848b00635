"""What one transaction does to the accounts of budgets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from sqlalchemy.engine.interfaces import DBAPICursor

from llmevents.ledger import _budgets_sql as sql
from llmevents.ledger._budgets_entries import Entry, Token
from llmevents.ledger._budgets_tables import account_of, id_of, name_of, text_of
from llmevents.llm.budgets import Account, Hold, Outcome, Reading
from llmevents.llm.budgets._book import MAX_ENTRIES, SLACK_NS, coarser
from llmevents.llm.budgets._units import LARGEST


CHUNK = 200
"""Accounts that are asked for at once."""

TRIES = 2
"""Accounts that are looked at for each new one, whether they are over."""


class Books:
    """The accounts that one transaction is about.

    Args:
        execute: Executes a statement, with parameters.
        cursor: What it is executed by.
        now: Wall-clock time.
    """

    def __init__(self, cursor: DBAPICursor, now: int, *, is_sqlite: bool) -> None:
        self._cursor = cursor
        self._is_sqlite = is_sqlite
        self.now = now
        self.entries: dict[str, Entry] = {}

    def open(self, accounts: Iterable[Account]) -> None:
        """Read accounts, as they are at present."""
        wanted = {id_of(text_of(account)): account for account in accounts}
        rest = iter(wanted)
        while ids := list(islice(rest, CHUNK)):
            marks = ", ".join("?" * len(ids))
            for row in self._all(sql.LOAD.format(marks), ids):
                entry = self._entry(row[0], wanted[row[0]], row[1:])
                self.entries[entry.id] = entry
        for id_, account in wanted.items():
            self.entries.setdefault(id_, Entry(id_, account))

    def reserve(self, token: Token) -> Outcome:
        """Hold all amounts of a token, or none."""
        entries = [self.entries[id_] for id_ in token.ids]
        if token.may_be_held and self._numbers(token):
            return Outcome(token, self._readings(entries))
        for index, (entry, hold) in enumerate(zip(entries, token.holds, strict=True)):
            taken = entry.spent + entry.reserved + hold.needs
            if hold.limit is not None and taken > hold.limit:
                readings = self._readings(entries[: index + 1])
                return Outcome(None, readings, index)
        self._take(token)
        return Outcome(token, self._readings(entries))

    def catch_up(self, token: Token, amounts: Sequence[int] | None) -> None:
        """Do what could not be done at once: settle or, without amounts, hold."""
        if amounts is not None:
            self.settle(token, amounts)
        elif token.amounts is None and not (token.may_be_held and self._numbers(token)):
            self._take(token)

    def _take(self, token: Token) -> None:
        rows = token.rows()
        # Of one that was granted unseen a lease may be over by now.
        due = [row for row in rows if _integer(row[4]) > self.now]
        for row in due:
            self.entries[str(row[2])].hold(_integer(row[3]), 1)
        if due:
            self._many(sql.HOLD, due)

    def settle(self, token: Token, amounts: Sequence[int]) -> None:
        """Replace what a token holds by what was spent."""
        numbers = self._numbers(token)
        if token.may_be_settled and not numbers:
            # It was committed, although nobody said so.
            return
        for number in numbers:
            hold = token.holds[number]
            self.entries[token.ids[number]].hold(-hold.amount, -1)
        if numbers:
            self._run(sql.END, (token.id,))
        for id_, hold, amount in zip(token.ids, token.holds, amounts, strict=True):
            self._spend(self.entries[id_], hold, min(amount, LARGEST), token.began)

    def readings(self, ids: Iterable[str]) -> tuple[Reading, ...]:
        """Return the state of accounts."""
        return self._readings([self.entries[id_] for id_ in ids])

    def accounts(self, budget: str) -> list[Account]:
        """Return the accounts of a budget."""
        found = [account_of(row[0]) for row in self._all(sql.NAMES, (name_of(budget),))]
        return [account for account in found if account.budget == budget]

    def save(self, try_lock: Callable[[str], bool]) -> None:
        """Write what has changed, and forget what is over where new accounts come."""
        new: list[Entry] = []
        changed: list[Entry] = []
        for entry in self.entries.values():
            if entry.is_expired:
                self._run(sql.EXPIRE, (entry.id, self.now))
            if entry.is_trimmed:
                self._run(sql.TRIM, (entry.id, self.now - entry.account.rolling))
            if entry.is_changed and entry.entries > MAX_ENTRIES:
                self._coarsen(entry)
            if entry.is_changed:
                (new if entry.is_new else changed).append(entry)
        if changed:
            self._many(sql.CHANGE, [(*e.values(None)[:-1], e.id) for e in changed])
        if new:
            self._many(sql.ADD, [self._row(entry) for entry in new])
            self._forget(try_lock, TRIES * len(new))

    def _row(self, entry: Entry) -> tuple[object, ...]:
        account = entry.account
        forget_at = account.end + SLACK_NS if account.end else None
        if account.rolling:
            forget_at = self.now + account.rolling
        text, name = text_of(account), name_of(account.budget)
        return (entry.id, name, text, *entry.values(forget_at))

    def _forget(self, try_lock: Callable[[str], bool], limit: int) -> None:
        """Delete accounts that are over, of those that it is time to look at."""
        for id_, text in self._all(sql.DUE, (self.now, limit)):
            is_in_use = id_ in self.entries
            if not is_in_use:
                if not try_lock(id_):
                    continue
                self.open([account_of(text)])
            entry = self.entries[id_]
            if not is_in_use and entry.is_over(self.now):
                for statement in sql.FORGET:
                    self._run(statement, (id_,))
            else:
                later = self.now + (entry.account.rolling or SLACK_NS)
                self._run(sql.LATER, (later, id_))

    def _entry(self, id_: str, account: Account, row: Sequence[Any]) -> Entry:
        entry = Entry(id_, account)
        entry.is_new = False
        entry.spent, entry.reserved, entry.held, entry.entries = row[:4]
        entry.bits = {int(bit): until for bit, until in json.loads(row[4]).items()}
        first_expiry, entry.oldest = row[5:]
        if first_expiry is not None and first_expiry <= self.now:
            for (amount,) in self._all(sql.EXPIRED, (id_, self.now)):
                entry.hold(-amount, -1)
            entry.is_expired = True
        horizon = self.now - account.rolling
        if entry.oldest is not None and entry.oldest <= horizon:
            for (amount,) in self._all(sql.LEFT, (id_, horizon)):
                entry.spend(-amount)
                entry.entries -= 1
            ((entry.oldest,),) = self._all(sql.OLDEST, (id_, horizon))
            entry.is_trimmed = True
        return entry

    def _spend(self, entry: Entry, hold: Hold, amount: int, began: int) -> None:
        rolling = entry.account.rolling
        if not rolling:
            entry.spend(amount)
            return
        if self.now - began >= rolling:
            # Its window is over. What nothing was held for has not counted yet.
            began, amount = self.now, max(0, amount - hold.amount)
        if amount:
            entry.spend(amount)
            entry.entries += 1
            self._run(sql.SPEND, (entry.id, began, amount))
            oldest = entry.oldest
            entry.oldest = began if oldest is None else min(oldest, began)

    def _coarsen(self, entry: Entry) -> None:
        """Put neighbours in time together, as the store in memory does."""
        rolling = entry.account.rolling
        recent = [(m, a) for m, a in self._all(sql.RECENT, (entry.id,))]
        if len(recent) > MAX_ENTRIES:
            recent = list(coarser(recent, max(1, rolling * 2 // MAX_ENTRIES)))
            self._run(sql.EMPTY, (entry.id,))
            self._many(sql.SPEND, [(entry.id, m, min(a, LARGEST)) for m, a in recent])
        entry.entries = len(recent)

    def _numbers(self, token: Token) -> list[int]:
        """Return which holds of a token are booked, and not over."""
        return [number for (number,) in self._all(sql.HELD, (token.id, self.now))]

    def _readings(self, entries: Sequence[Entry]) -> tuple[Reading, ...]:
        return tuple([entry.read(self.now) for entry in entries])

    def _all(self, statement: str, values: Sequence[object]) -> list[Any]:
        self._run(statement, values)
        return list(self._cursor.fetchall())

    def _run(self, statement: str, values: Sequence[object]) -> None:
        self._cursor.execute(self._own(statement), values)

    def _many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        self._cursor.executemany(self._own(statement), rows)

    def _own(self, statement: str) -> str:
        return statement if self._is_sqlite else statement.replace("?", "%s")


def _integer(value: object) -> int:
    assert isinstance(value, int)  # noqa: S101  # of a row of ours
    return value
