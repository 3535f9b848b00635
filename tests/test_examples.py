"""Every example runs, as a user would run it, and says nothing on stderr."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MARKDOWN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_without_a_word_on_stderr(example: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda path: path.name)
def test_no_code_in_markdown_escapes_being_run(page: Path) -> None:
    """Sybil runs fences marked python, and passes over pycon and py in silence."""
    fences = set(re.findall(r"^```(\w+)", page.read_text(), flags=re.MULTILINE))
    assert fences <= {"python", "sh", "text", "toml"}
