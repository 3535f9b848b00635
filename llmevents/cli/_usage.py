"""``llmevents usage``: what calls came to, from the ledger that keeps them.

For those who come from a script with flags: ``--summary`` is ``usage summary``;
``--user U`` is ``usage show --user U``, likewise ``--session`` and ``--source``;
``--days N`` is an option of every command; ``--export FILE`` is ``usage report --user U
-o FILE``; ``--list-users`` is ``usage users``, likewise sessions and sources.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import typer
from typer.core import TyperGroup


class Usage(TyperGroup):
    """Has its commands when somebody asks for one: their options are hundreds."""

    # Newer versions of typer bring a click of their own, older ones use the other.
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  # as above
        """Return the names of the commands."""
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401  # as above
        """Return a command, or None."""
        self._load()
        return super().get_command(ctx, cmd_name)

    def _load(self) -> None:
        if not self.commands:
            self.commands.update(_commands())


@lru_cache(maxsize=1)
def _commands() -> dict[str, Any]:
    from typer.main import get_command

    from llmevents.cli._usage_questions import commands

    return get_command(commands).commands  # type: ignore[attr-defined,no-any-return]  # of several commands it makes a group


usage_app = typer.Typer(
    name="usage",
    help="What calls came to: llmevents usage summary --days 7.",
    no_args_is_help=True,
    cls=Usage,
)


@usage_app.callback()
def options() -> None:
    """Ask the ledger what calls came to, and whose they were."""
