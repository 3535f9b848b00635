"""A process that forks while prices are being loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest


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
