"""What a reporter's own modules import, read from their source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path


LIBRARY = "llmevents"


def private_imports(module: str) -> list[str]:
    """Return the imports of llmevents' private modules and names, with their places.

    Args:
        module: A module that is loaded. It and whatever it imports of its own
            top-level package is looked at, functions included; what is not loaded
            is not.
    """
    found: list[str] = []
    package = module.partition(".")[0]
    seen: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        source = _source(name)
        if name in seen or source is None:
            continue
        seen.add(name)
        for imported, line in _imports(name, ast.parse(source)):
            if _is_private(imported):
                found.append(f"{imported} ({name}, line {line})")
            if imported.partition(".")[0] == package:
                left += [imported, imported.rpartition(".")[0]]
    return sorted(found)


def _source(name: str) -> str | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or not file.endswith(".py"):
        return None
    return Path(file).read_text(encoding="utf-8")


def _imports(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    package = getattr(sys.modules[module], "__package__", None) or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            origin = resolve_name(f"{dots}{node.module or ''}", package)
            for alias in node.names:
                yield f"{origin}.{alias.name}", node.lineno


def _is_private(imported: str) -> bool:
    library, *inside = imported.split(".")
    return library == LIBRARY and any(
        name.startswith("_") and not name.endswith("__") for name in inside
    )
