"""Putting wrappers around what is imported now, or later."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from llmevents.instrumentation._patching import Patches, is_supported


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make a module that nothing has imported yet; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str) -> str:
        (tmp_path / f"{name}.py").write_text("class Client:\n    pass\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return make


def test_a_module_is_patched_when_it_is_imported(later: Callable[[str], str]) -> None:
    name = later("acme_later")
    seen: list[ModuleType] = []
    first, second = Patches(), Patches()
    for patches in (first, second):
        patches.when_imported(name, seen.append)
    assert not seen
    module = import_module(name)
    assert seen == [module, module]
    first.when_imported(name, seen.append)
    assert seen == [module, module, module]


def test_a_module_is_left_alone_if_the_patches_are_undone_before(
    later: Callable[[str], str],
) -> None:
    name = later("acme_undone")
    seen: list[ModuleType] = []
    patches = Patches()
    patches.when_imported(name, seen.append)
    patches.undo()
    import_module(name)
    assert not seen


def test_a_module_that_is_built_otherwise_warns_and_is_imported(
    later: Callable[[str], str],
) -> None:
    """The import is the application's."""
    name = later("acme_odd")
    patches = Patches()
    patches.when_imported(name, lambda module: module.NoSuchClass)
    with pytest.warns(RuntimeWarning, match=r"acme_odd is not instrumented: .*NoSuch"):
        import_module(name)
    patches.undo()


@pytest.mark.parametrize(
    ("version", "supported"),
    [("0.5.4", True), ("0.6", True), ("0.60.1", False), ("1.0", False), ("2.1", True)],
    ids=["minor", "bare", "longer", "other", "major"],
)
def test_a_version_is_supported_by_its_first_numbers(
    version: str, supported: bool
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert is_supported("acme", version, ("0.5", "0.6", 2)) is supported
    supports = "llmevents supports acme 0.5.x and 0.6.x and 2.x"
    expected = f"acme {version} is not instrumented: {supports}"
    assert [str(each.message) for each in caught] == ([] if supported else [expected])
