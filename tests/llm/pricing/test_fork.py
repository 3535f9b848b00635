"""A process that forks while prices are being loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmevents.llm.pricing._library import Library


PROGRAM = """
import os, sys
from llmevents.llm.pricing import warm_up
warm_up()
child = os.fork()
if child == 0:
    import genai_prices.data_snapshot, pydantic
    os._exit(0)
_, status = os.waitpid(child, 0)
sys.exit(status)
"""


def test_a_child_can_import_what_was_being_loaded_at_the_fork() -> None:
    """Half imported, a module would stay locked in it for ever."""
    pytest.importorskip("genai_prices")
    done = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60, check=False)
    assert done.returncode == 0


def test_a_fork_waits_for_an_import_that_has_begun_and_begins_none() -> None:
    fresh = Library()
    fresh.finish()
    assert not fresh.settled
    fresh.begin()
    fresh.finish()
    assert fresh.settled


def test_what_had_begun_begins_again_in_a_child() -> None:
    child = Library()
    child._waited_for = True
    assert child.wait(60.0)
