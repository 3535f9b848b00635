"""The ledger reporter: a usage record of every call, in a file, a database, or both.

    pip install "llmevents[ledger]"

In TOML its table is ``[reporters.ledger]`` of llmevents.toml.
"""

from __future__ import annotations


try:
    import orjson  # noqa: F401  # only to say what is missing, and how to get it
    import sqlalchemy  # noqa: F401  # likewise
except ModuleNotFoundError as error:
    _MESSAGE = (
        f"the ledger reporter needs {error.name!r}, which is not installed; "
        'run: pip install "llmevents[ledger]"'
    )
    raise ModuleNotFoundError(_MESSAGE, name=error.name, path=error.path) from error

from llmevents_ledger._reporter import LedgerReporter


__all__ = ["LedgerReporter"]
