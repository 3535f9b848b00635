"""Where settings come from: a file, the environment, keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path as FilePath

from llmevents._redact import clean_text
from llmevents.config._errors import ConfigError
from llmevents.config._given import (
    FLAGS,
    Given,
    Layer,
    Path,
    parse_toml,
    parse_value,
    spread,
    spread_all,
)


FILE = "llmevents.toml"
PROJECT = "pyproject.toml"
PREFIX = "LLMEVENTS_"
CONFIG_VARIABLE = "LLMEVENTS_CONFIG"
SWITCHES = {CONFIG_VARIABLE, "LLMEVENTS_DISABLED"}
"""Variables that begin like settings and are none."""

TABLE_FLAGS = {("prices", "built_in"), ("prices", "genai_prices")}
"""What is true or false in tables of which only the values are kept, and not how a
variable has written them."""

_VARIABLE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def file_layer(path: str | PathLike[str] | None, environ: Mapping[str, str]) -> Layer:
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
        table = _inner(_inner(table, "tool", source), "llmevents", source)
    return [
        (place, _expanded(place, given, environ))
        for place, given in spread_all(table, source)
    ]


def _inner(table: object, key: str, source: str) -> dict[str, object]:
    inner = table.get(key, {}) if isinstance(table, dict) else table
    if not isinstance(inner, dict):
        raise ConfigError(inner, key, "a table", source)
    return inner


def _expanded(path: Path, given: Given, environ: Mapping[str, str]) -> Given:
    """Put the values of variables where the file has ``${NAME}``."""
    if isinstance(given.value, str):
        text = _expand(path, given.value, given.source, environ)
        if text == given.value:
            return given
        is_all = _VARIABLE.fullmatch(given.value) is not None
        return given._replace(
            value=parse_value(text) if is_all else text,
            text=text,
            template=given.value,
        )

    def inside(value: object) -> object:
        if isinstance(value, str):
            return _expand(path, value, given.source, environ)
        if isinstance(value, dict):
            return {key: inside(item) for key, item in value.items()}
        return list(map(inside, value)) if isinstance(value, list) else value

    value = inside(given.value)
    if value == given.value:
        return given
    return given._replace(value=value, template="${...}")


def _expand(path: Path, text: str, source: str, environ: Mapping[str, str]) -> str:
    def replace(found: re.Match[str]) -> str:
        escaped, name = found.groups()
        if escaped:
            return found.group()[1:]
        if name not in environ:
            expected = f"a value with variables that are set ({name} is not)"
            raise ConfigError(text, ".".join(path), expected, source)
        return environ[name]

    return _VARIABLE.sub(replace, text)


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return what the variables say that begin with `PREFIX`.

    A double underscore leads into a table. A variable that is empty counts as not
    set.
    """
    layer: Layer = []
    for variable in sorted(environ, key=lambda name: (name.count("__"), name)):
        text = environ[variable]
        if variable.startswith(PREFIX) and variable not in SWITCHES and text:
            path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            value = parse_value(text)
            if path in TABLE_FLAGS:
                value = FLAGS.get(text.strip().lower(), value)
            given = Given(value, f"variable {variable}", text)
            layer.extend(spread(path, given))
    return layer


def keyword_layer(keywords: Mapping[str, object]) -> Layer:
    """Return what keywords say; None says nothing."""
    return [
        leaf
        for key, value in keywords.items()
        if value is not None
        for leaf in spread((key,), Given(value, f"keyword {key}"))
    ]
