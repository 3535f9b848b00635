"""The shape of the package: what is public, and which way imports point."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import llmevents


if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="pip install tomli")

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmevents"
REPORTERS = ROOT / "reporters"

COMPOSITION = ("llmevents.cli", "llmevents.config", "llmevents.server")
"""May import anything; nothing imports them."""

ALLOWED = {
    "llmevents.metrics": ("llmevents._", "llmevents.metrics"),
    "llmevents.llm": ("llmevents._", "llmevents.llm"),
    "llmevents.ledger": (
        "llmevents._",
        "llmevents.ledger",
        "llmevents.llm",
        "llmevents.metrics",
    ),
    "llmevents.web": ("llmevents._", "llmevents.web"),
    "llmevents.instrumentation": (
        "llmevents._",
        "llmevents.llm",
        "llmevents.instrumentation",
    ),
    # The conformance class makes stores for the reporters that it tries.
    "llmevents.testing": (
        "llmevents._",
        "llmevents.metrics",
        "llmevents.reporting",
        "llmevents.testing",
    ),
}
"""Package -> what of llmevents it may import when it is loaded."""


def _modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, ast.parse(path.read_text())


def _imports(tree: ast.AST) -> Iterator[str]:
    """Return the modules that are imported, for type checking only left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from _imports(node)


def test_all_names_are_sorted_and_there() -> None:
    assert sorted(llmevents.__all__) == llmevents.__all__
    for name in llmevents.__all__:
        assert getattr(llmevents, name) is not None
    assert dir(llmevents) == llmevents.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = llmevents.nothing


@pytest.mark.parametrize(
    "module", [llmevents.llm, llmevents.llm.pricing], ids=["llm", "pricing"]
)
def test_an_unknown_name_of_a_subpackage_is_one_too(module: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # type: ignore[attr-defined]  # that is what is tested  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        "config", "events", "llm", "logger", "metrics", "metrics.presets", "poller",
        "reporting", "signals", "testing", "testing.provider", "instrumentation",
        "llm.usage", "llm.budgets", "llm.cache", "llm.pricing", "web", "cli",
    ],
)  # fmt: skip
def test_public_modules_declare_what_they_export(module: str) -> None:
    loaded = importlib.import_module(f"llmevents.{module}")
    assert len(set(loaded.__all__)) == len(loaded.__all__)
    assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_importing_llmevents_imports_nothing_optional_and_nothing_slow() -> None:
    slow = {"blinker", "structlog", "wrapt", "rich", "typer", "openai", "statsd"}
    slow |= {"prometheus_client", "opentelemetry", "tomllib", "fractions"}
    slow |= {"importlib.metadata", "inspect", "dataclasses", "logging", "asyncio"}
    source = f"import llmevents, sys; print(sorted({slow!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_package_imports_a_reporter() -> None:
    for name, tree in _modules(PACKAGE):
        for imported in _imports(tree):
            assert not imported.startswith("llmevents_"), f"{name} imports {imported}"


def test_reporters_import_only_public_names() -> None:
    for name, tree in _modules(REPORTERS):
        for imported in _imports(tree):
            assert not imported.startswith("llmevents._"), f"{name} imports {imported}"


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    for name, tree in _modules(PACKAGE):
        if not f"{name}.".startswith(f"{package}."):
            continue
        for imported in _imports(tree):
            module = imported.rpartition(".")[0]
            if module.startswith("llmevents."):
                assert imported.startswith(ALLOWED[package]), f"{name}: {imported}"


def test_nothing_imports_a_composition_root() -> None:
    for name, tree in _modules(PACKAGE):
        if not name.startswith(COMPOSITION):
            for imported in _imports(tree):
                assert not imported.startswith(COMPOSITION), f"{name}: {imported}"


def test_folders_wheel_and_entry_points_name_the_same_reporters() -> None:
    """A reporter missing from the wheel is invisible in an editable installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {
        path.name for path in REPORTERS.iterdir() if (path / "py.typed").exists()
    }
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    declared = project["project"]["entry-points"]["llmevents.reporters"].values()
    installed = {point.value for point in entry_points(group="llmevents.reporters")}
    assert {f"reporters/{name}" for name in folders} == set(wheel) - {"llmevents"}
    assert {value.split(":")[0] for value in declared} == folders
    assert set(declared) == installed


def test_register_at_fork_is_called_in_one_place() -> None:
    users = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if "register_at_fork(" in path.read_text()
    ]
    assert users == ["_forksafe.py"]


def test_no_module_is_longer_than_five_hundred_lines() -> None:
    for path in [*PACKAGE.rglob("*.py"), *REPORTERS.rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 500, path
