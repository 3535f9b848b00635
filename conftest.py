"""Runs the examples in Markdown and in docstrings as tests."""

from __future__ import annotations

from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser as MarkdownCodeBlockParser
from sybil.parsers.rest import DocTestParser


pytest_collect_file = (
    Sybil(parsers=[MarkdownCodeBlockParser()], patterns=["README.md", "docs/*.md"])
    + Sybil(
        parsers=[DocTestParser()],
        patterns=["llmevents/**/*.py", "reporters/**/*.py"],
        document_types={".py": PythonDocStringDocument},
    )
).pytest()
