"""Where settings come from: a file, the environment, keywords."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

from llmevents._redact import clean_text
from llmevents.config._errors import ConfigError, one_of
from llmevents.config._given import Given, Layer, parse_toml, parse_value


FILE = "llmevents.toml"
PROJECT = "pyproject.toml"
PREFIX = "LLMEVENTS_"
CONFIG_VARIABLE = "LLMEVENTS_CONFIG"
SWITCHES = {CONFIG_VARIABLE, "LLMEVENTS_DISABLED"}
"""Variables that begin like settings and are none."""

_VARIABLE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def file_layer(path: str | None, environ: Mapping[str, str]) -> Layer:
    """Return what the file says, if there is one.

    That is *path*, else the one that `CONFIG_VARIABLE` names, else ``llmevents.toml``
    in the working directory, else the table ``[tool.llmevents]`` of its
    ``pyproject.toml``.

    Raises:
        ConfigError: It cannot be read, or names a variable that is not set.
    """
    named = path or environ.get(CONFIG_VARIABLE)
    if named:
        by = "configure(config=...)" if path else f"variable {CONFIG_VARIABLE}"
        return _read(FilePath(named), environ, by)
    for name in (FILE, PROJECT):
        if FilePath(name).is_file():
            return _read(FilePath(name), environ, "working directory")
    return []


def _read(path: FilePath, environ: Mapping[str, str], named_by: str) -> Layer:
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        expected = f"a file that can be read ({error.strerror})"
        raise ConfigError(str(path), "config", expected, named_by) from None
    except ValueError as error:  # no UTF-8, a NUL in the path, or no TOML
        expected = f"a TOML file ({clean_text(str(error), 200)})"
        raise ConfigError(str(path), "config", expected, named_by) from None
    source = str(path)
    if path.name == PROJECT:
        source = f"{path} [tool.llmevents]"
        table = _table(_table(table, "tool", source), "llmevents", source)
    return [
        found for key, value in table.items() for found in _leaves(key, value, source)
    ] if not environ else list(_expanded(table, source, environ))
