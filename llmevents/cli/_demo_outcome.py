"""What the demo says at its end."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from llmevents.cli._demo import Outcome


def show(outcome: Outcome) -> None:
    """Print the comparison, and in one line whether it agrees."""
    table = Table("", title="What was counted, and what it should be")
    for heading in ("counted", outcome.yardstick, ""):
        table.add_column(heading, justify="right")
    for line in outcome.lines:
        table.add_row(
            line.name.replace("_", " "),
            f"{line.counted:,}",
            f"{line.expected:,}",
            "equal" if line.agrees else "DIFFERENT",
        )
    console = Console()
    console.print(table)
    if outcome.agrees:
        console.print(f"Every total equals what was {outcome.yardstick}.")
    else:
        console.print("Some totals differ: please report this, with the output above.")
