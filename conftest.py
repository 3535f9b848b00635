"""Runs the examples in Markdown and in docstrings as tests."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser as MarkdownCodeBlockParser
from sybil.parsers.rest import DocTestParser


pytest_collect_file = (
    Sybil(parsers=[MarkdownCodeBlockParser()], patterns=["README.md", "docs/*.md"])
    + Sybil(
        parsers=[DocTestParser()],
        # One for each depth: before Python 3.13 ``**`` matches a single folder.
        patterns=[
            "llmevents/*.py",
            "llmevents/*/*.py",
            "llmevents/*/*/*.py",
            "reporters/*/*.py",
        ],
        document_types={".py": PythonDocStringDocument},
    )
).pytest()

# Timed checks say more about the machine's load than about the code.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Keep collections short: many tests ask for one, and thousands are collected."""
    gc.collect()
    gc.freeze()
