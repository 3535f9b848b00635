"""``docs/complaints.md`` has a line for each complaint, and names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "complaints.md"
NUMBERS = range(1, 55)


def cells() -> list[list[str]]:
    """Return the cells of each numbered line."""
    lines = re.findall(r"^\| (\d+ \|.*) \|$", PAGE.read_text(), flags=re.MULTILINE)
    return [re.split(r" \| ", line) for line in lines]


@cache
def functions(path: Path) -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds)
    )


def test_every_complaint_has_a_line_of_its_own() -> None:
    assert [int(line[0]) for line in cells()] == list(NUMBERS)


@pytest.mark.parametrize("line", cells(), ids=lambda line: line[0])
def test_a_line_says_where_what_why_and_which_tests(line: list[str]) -> None:
    number, where, what, why, tests = line
    assert "https://github.com/" in where, number
    assert what, number
    assert why, number
    named = re.findall(r"`([^`]+)`", tests)
    assert named, number
    for name in named:
        path, _, function = name.partition("::")
        assert (ROOT / path).is_file(), name
        assert function.startswith("test_"), name
        assert function in functions(ROOT / path), name
