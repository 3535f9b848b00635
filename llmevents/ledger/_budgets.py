"""The state of budgets in a database, for all processes that use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from llmevents import _forksafe
from llmevents._clock import SYSTEM_CLOCK
from llmevents._errors import OptionError
from llmevents._options import check_seconds
from llmevents._tally import Tally
from llmevents._throttle import FailureLog
from llmevents.ledger import _fork
from llmevents.ledger._budgets_books import Books
from llmevents.ledger._budgets_database import BudgetDatabase
from llmevents.ledger._budgets_entries import Token
from llmevents.ledger._budgets_tables import id_of, text_of
from llmevents.ledger._budgets_turns import (
    AwayError,
    BudgetStoreError,
    SqlBudgetCounts,
    Turns,
)
from llmevents.ledger._database import reason_of
from llmevents.ledger._gate import NestedError
from llmevents.llm.budgets import Account, Hold, Outcome, Reading


if TYPE_CHECKING:
    from llmevents._clock import Clock

__all__ = ["BudgetStoreError", "SqlBudgetCounts", "SqlBudgetStore"]

T = TypeVar("T")

OnFailure: TypeAlias = Literal["allow", "refuse"]

Job: TypeAlias = "tuple[Token, tuple[int, ...] | None]"
"""What could not be done at once: to settle a token or, with None, to hold it."""

MOST_LATE = 100_000
"""Jobs that wait for the database; some 100 MB."""

MOST_TOGETHER = 200
"""Of them in one transaction, so that who comes first afterwards is not held up."""


class SqlBudgetStore:
    """Keeps budgets in SQLite or PostgreSQL: exact for any number of processes.

    Every step is one transaction. In SQLite it locks the file, in PostgreSQL the
    accounts that it is about. Threads of one process take turns.

    Leases, rolling windows and periods are measured with the wall clock, which
    processes share and a monotonic clock is not; with several machines their clocks
    have to agree. A clock that is put forward ends leases early; one that is put back
    ends them late, and begins no period twice.

    What a process holds that was killed is given back within its lease, by whoever
    asks for the same account next. An account is forgotten when its period has passed,
    an hour after that, or its rolling window is empty. Without a window it stays.

    If the database cannot be used, the host never hears of it. A call is let through,
    counted as ``unseen``, and booked once the database is back; with
    ``on_failure="refuse"`` budgets that block refuse it. What was spent is booked in
    any case, unless the process ends before. Nobody waits longer than about twice the
    patience; then for a while nothing is tried.

    A child that is forked gets a connection of its own. What its parent holds stays
    with the parent.

    Args:
        url: ``sqlite:///usage.db`` or ``postgresql://user@host/name``; the ledger's, if
            you like. It is opened by the first call, and tables are made if need be.
        on_failure: ``"allow"`` or ``"refuse"`` calls that cannot be checked.
        patience: Seconds to wait for a lock that another process has, and for a server.
        clock: The system's clocks unless given.

    Raises:
        OptionError: *url* or *on_failure* is unknown, or *patience* no time.
    """

    def __init__(
        self,
        url: str,
        *,
        on_failure: OnFailure = "allow",
        patience: float = 2.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if on_failure not in ("allow", "refuse"):
            raise OptionError(on_failure, "on_failure", "'allow' or 'refuse'")
        self._allows = on_failure == "allow"
        seconds = check_seconds(patience, "patience", least=0.001)
        self._turns = Turns(BudgetDatabase(url, patience=seconds), clock, seconds)
        self.url = self._turns.database.url
        self._clock = clock
        self._late: deque[Job] = deque()
        self._unseen, self._refused, self._lost = Tally(), Tally(), Tally()
        self._failures: dict[str, Tally] = {}
        self._log = FailureLog(clock)
        _forksafe.registry.register(self)
        _forksafe.registry.register(self._turns)
        _fork.register(self._turns)

    def __repr__(self) -> str:
        return f"SqlBudgetStore({self.url.render_as_string()!r})"

    def reserve(self, holds: Sequence[Hold], /) -> Outcome:
        """Hold all amounts or none; see `BudgetStore`."""
        token = Token(holds, self._clock.time_ns())
        try:
            return self._exclusively(lambda: self._reserve(token))
        except NestedError:
            return self._let_through(token)
        except Exception as error:  # noqa: BLE001  # the host must not notice
            self._failed(error)
        blocking = [i for i, hold in enumerate(holds) if hold.limit is not None]
        if self._allows or not blocking:
            return self._let_through(token)
        self._refused.add()
        if token.may_be_held:
            self._wait((token, (0,) * len(holds)))
        return Outcome(None, (), blocking[0])

    def settle(
        self, token: object, amounts: Sequence[int], /
    ) -> tuple[Reading, ...] | None:
        """Replace what is held by what was spent; see `BudgetStore`."""
        assert isinstance(token, Token)  # noqa: S101  # from reserve()
        token.amounts = tuple(amounts)
        # Whoever has the turn does it together with what else is late.
        self._wait((token, token.amounts))
        try:
            self._exclusively(_nothing)
        except NestedError:
            return None
        except Exception as error:  # noqa: BLE001  # the host must not notice
            self._failed(error)
        return token.readings

    def announce(self, account: Account, bits: int, /) -> int:
        """Set *bits* and return the new ones; see `BudgetStore`."""
        id_ = id_of(text_of(account))

        def work(books: Books) -> int:
            books.open([account])
            return books.entries[id_].announce(bits, books.now)

        try:
            return self._exclusively(lambda: self._turns.change([id_], work))
        except NestedError:
            return 0
        except Exception as error:  # noqa: BLE001  # the host must not notice
            self._failed(error)
            return 0

    def read(self, accounts: Sequence[Account], /) -> tuple[Reading, ...]:
        """Return the state of each account; see `BudgetStore`.

        Raises:
            BudgetStoreError: The database cannot be used, or this thread is in the
                middle of a step.
        """
        ids = [id_of(text_of(account)) for account in accounts]

        def look(books: Books) -> tuple[Reading, ...]:
            books.open(accounts)
            return books.readings(ids)

        return self._looking(look)

    def accounts(self, budget: str, /) -> list[Account]:
        """Return the accounts that something was booked on; see `BudgetStore`.

        Raises:
            BudgetStoreError: As by `read`.
        """
        return self._looking(lambda books: books.accounts(budget))

    def counts(self) -> SqlBudgetCounts:
        """Return what could not be done at once so far."""
        return SqlBudgetCounts(
            self._unseen.value(),
            self._refused.value(),
            len(self._late),
            self._lost.value(),
            {why: tally.value() for why, tally in list(self._failures.items())},
        )

    def close(self) -> None:
        """Book what waits, and close the connection; it is opened again if need be."""
        with suppress(Exception):
            self._exclusively(self._turns.disconnect)

    def after_fork_in_child(self) -> None:
        """Leave to the parent what it has not booked yet."""
        self._late = deque()

    def _reserve(self, token: Token) -> Outcome:
        def work(books: Books) -> Outcome:
            outcome = books.reserve(token)
            token.may_be_held = outcome.token is not None
            return outcome

        outcome = self._change([token], work)
        token.may_be_held = False
        return outcome

    def _let_through(self, token: Token) -> Outcome:
        self._unseen.add()
        self._wait((token, None))
        return Outcome(token, ())

    def _wait(self, job: Job) -> None:
        if len(self._late) < MOST_LATE:
            self._late.append(job)
        else:
            self._lost.add()

    def _failed(self, error: Exception) -> str:
        """Count and log a failure, and return its reason."""
        is_own = isinstance(error, BudgetStoreError)
        reason = getattr(error, "reason", "") if is_own else reason_of(error)
        if not isinstance(error, AwayError):
            self._failures.setdefault(reason, Tally()).add()
            self._log.report("store of budgets", error)
        return reason

    def _looking(self, look: Callable[[Books], T]) -> T:
        try:
            return self._exclusively(lambda: self._turns.look(look))
        except NestedError:
            reason = "busy"
            raise BudgetStoreError(reason) from None
        except Exception as error:
            raise BudgetStoreError(self._failed(error)) from error

    def _exclusively(self, work: Callable[[], T]) -> T:
        """Do *work* while no other thread does any, and before it what is late."""
        self._turns.refuse_while_away()
        with self._turns.alone():
            self._catch_up()
            done = work()
        if self._late:
            # Of a finalizer, which came when this thread had looked already.
            with suppress(Exception), self._turns.alone():
                self._catch_up()
        return done

    def _catch_up(self) -> None:
        """Book what is late, in one transaction; what comes meanwhile comes last."""
        jobs = [
            self._late[index] for index in range(min(len(self._late), MOST_TOGETHER))
        ]
        if jobs:
            self._book(jobs)
        for _ in jobs:
            self._late.popleft()

    def _book(self, jobs: Sequence[Job]) -> None:
        settled = [token for token, amounts in jobs if amounts is not None]

        def work(books: Books) -> list[tuple[Reading, ...]]:
            for token, amounts in jobs:
                books.catch_up(token, amounts)
            for token, amounts in jobs:
                token.may_be_held = True
                token.may_be_settled = amounts is not None
            return [books.readings(token.ids) for token in settled]

        all_readings = self._change([token for token, _ in jobs], work)
        for token, readings in zip(settled, all_readings, strict=True):
            token.readings = readings

    def _change(self, tokens: Sequence[Token], work: Callable[[Books], T]) -> T:
        """Do what changes the accounts of tokens, in one transaction."""
        before = [(token.may_be_held, token.may_be_settled) for token in tokens]
        accounts = [hold.account for token in tokens for hold in token.holds]

        def open_and_work(books: Books) -> T:
            books.open(accounts)
            return work(books)

        try:
            ids = [id_ for token in tokens for id_ in token.ids]
            return self._turns.change(ids, open_and_work)
        except Exception:
            if self._turns.database.path is not None:
                # What SQLite says to have failed has not been done.
                for token, known in zip(tokens, before, strict=True):
                    token.may_be_held, token.may_be_settled = known
            raise


def _nothing() -> None:
    """Do nothing but what is late."""
