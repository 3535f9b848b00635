"""The ``llmevents`` command."""

from __future__ import annotations

import sys


__all__ = ["main"]

USAGE_ERROR = 2
"""Exit status of a call that cannot be carried out as it is, as for any command."""

EXTRAS = {
    "typer": "cli",
    "rich": "cli",
    "openai": "demo",
    "wrapt": "demo",
    "duckdb": "ledger",
    "orjson": "ledger",
    "sqlalchemy": "ledger",
    "psycopg": "postgresql",
}
"""Module that a command needs -> the extra that brings it."""


def main() -> None:
    """Run the command line; say what to install where its libraries are missing."""
    try:
        from llmevents.cli._app import app

        app()
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        sys.stderr.write(
            f"llmevents: this needs {error.name}, which is not installed; "
            f'run: pip install "llmevents[{EXTRAS[error.name]}]"\n'
        )
        sys.exit(USAGE_ERROR)
