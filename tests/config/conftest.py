from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from llmevents.config._aliases import ALIASES, KILL_SWITCH
from llmevents.config._start import current


MODULE = "acme_reporters"

NAMES = (
    "acme=Acme", "acme-two=Acme", "required=Required", "anything=Anything",
    "hanging=Hanging", "broken=Broken", "zz-failing=Failing", "exploding=Exploding",
    "otel=Acme", "ledger=Anything",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """No file, no variable, and nothing left running afterwards."""
    theirs = {KILL_SWITCH, *(name for row in ALIASES for name in row.variables)}
    for name in list(os.environ):
        if name.startswith("LLMEVENTS_") or name in theirs:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    left = current.telemetry
    if left is not None:
        left.shutdown()
    assert left is None


@pytest.fixture
def acme(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The reporters of ``acme_reporters.py``, installed as a distribution is.

    They are the only ones. Two have the names of ours, and all options, so that no
    other library is needed.
    """
    root = tmp_path_factory.mktemp("site")
    info = root / "acme_reporters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-reporters\nVersion: 1.0\n"
    )
    lines = "\n".join(name.replace("=", f" = {MODULE}:") for name in NAMES)
    lines += "\nneedy = needs:Reporter"
    (info / "entry_points.txt").write_text(f"[llmevents.reporters]\n{lines}\n")
    (root / f"{MODULE}.py").write_bytes(
        (Path(__file__).parent / f"{MODULE}.py").read_bytes()
    )
    (root / "needs.py").write_text("import module_that_is_not_there\n")
    monkeypatch.syspath_prepend(root)
    monkeypatch.setenv("PYTHONPATH", str(root))
    found = metadata.distribution("acme-reporters").entry_points
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: found.select(group=group)
    )
    yield importlib.import_module(MODULE)
    sys.modules.pop(MODULE, None)
