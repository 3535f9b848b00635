"""What the page on the ledger says of a record is what a record has."""

from __future__ import annotations

from pathlib import Path

from llmevents.ledger import COLUMNS


PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"


def test_the_table_of_fields_is_that_of_the_schema() -> None:
    lines = PAGE.read_text().split("| field | kind | meaning |\n")[1].splitlines()
    assert lines[1:] == [
        f"| `{each.name}` | {each.kind} | {each.description} |" for each in COLUMNS
    ]
