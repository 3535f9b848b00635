"""Runs the examples in Markdown and in docstrings as tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
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

# Timed checks say more about the machine's load than about the code.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")
