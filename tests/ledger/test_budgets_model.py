"""The store of budgets in a file against the model that the one in memory follows."""

from __future__ import annotations

import tempfile

from hypothesis import settings

from llmevents.ledger._budgets import SqlBudgetStore
from tests.llm.budgets.test_store_model import StoreMachine


class SqlStoreMachine(StoreMachine):
    """The same machine, with a file of its own each time."""

    def make_store(self) -> SqlBudgetStore:
        self.directory = tempfile.TemporaryDirectory()
        return SqlBudgetStore(
            f"sqlite:///{self.directory.name}/usage.db", clock=self.clock
        )

    def teardown(self) -> None:
        assert isinstance(self.store, SqlBudgetStore)
        assert self.store.counts() == (0, 0, 0, 0, {})
        self.store.close()
        self.directory.cleanup()


SqlStoreMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None
)
TestSqlStore = SqlStoreMachine.TestCase
