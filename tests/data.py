"""Data that tests read but the project does not contain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


_DATA = Path(__file__).parents[2] / "shared" / "data"

EXCHANGES = _DATA / "exchanges.jsonl.gz"

TRACE = _DATA / "azure_llm_trace_conv_2023.csv.gz"

# In CI a missing file must not pass for a skipped test: there the test runs and fails.
needs_data = pytest.mark.skipif(
    os.environ.get("CI") != "true" and not _DATA.is_dir(),
    reason="the recorded data is not next to the repository, in ../shared/data",
)
