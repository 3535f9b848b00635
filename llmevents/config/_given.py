"""What a source says about one setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias


if TYPE_CHECKING:
    from typing import TypeGuard


DEFAULT = "default"
"""The source of what nobody has set."""

FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
"""How an environment variable may say true or false, in any case."""

DEPTHS = {"reporters": 2, "logger": 1}
"""How deep tables of settings go: ``reporters.NAME.OPTION``."""

Path: TypeAlias = tuple[str, ...]


class Given(NamedTuple):
    """A value, and where it is from.

    Attributes:
        value: As TOML or Python has it.
        source: For people.
        text: As written, if it is from the environment: ``2024`` may be meant as
            text, and ``1`` as true.
        fills: Whether it is an option only, which turns nothing on.
        theirs: Whether another library reads the variable itself, and this is only to
            show it.
        template: As written, if it names environment variables: their values may
            be secrets.
    """

    value: object
    source: str
    text: str | None = None
    fills: bool = False
    theirs: bool = False
    template: str | None = None

    @property
    def showable(self) -> object:
        """The value, or as it was written if it is from variables."""
        return self.value if self.template is None else self.template

    def readings(self) -> Iterator[object]:
        """Yield what the value may mean, the likeliest first."""
        yield self.value
        if self.text is not None:
            yield self.text
            flag = FLAGS.get(self.text.strip().lower())
            if flag is not None:
                yield flag

    def flag(self) -> bool | None:
        """Return true or false, if the value is one of them."""
        for reading in self.readings():
            if isinstance(reading, bool):
                return reading
        return None


Layer: TypeAlias = list[tuple[Path, Given]]
"""What one source says, the general before the particular."""


def parse_toml(text: str) -> dict[str, Any]:
    """Return what TOML *text* says.

    Raises:
        ValueError: It is malformed, or nested too deeply.
    """
    from importlib import import_module

    try:
        toml = import_module("tomllib")
    except ModuleNotFoundError:
        toml = import_module("tomli")  # below Python 3.11
    try:
        parsed: dict[str, Any] = toml.loads(text)
    except RecursionError:
        msg = "it is nested too deeply"
        raise ValueError(msg) from None
    return parsed


def parse_value(text: str) -> object:
    """Return the TOML value that *text* is, or *text* if it is none.

    Examples:
        >>> from llmevents.config._given import parse_value
        >>> parse_value("9568"), parse_value("[1, 2]"), parse_value("localhost")
        (9568, [1, 2], 'localhost')
    """
    with suppress(ValueError):
        parsed = parse_toml(f"value = {text}")
        # A line break in it could end the value and begin another key.
        if parsed.keys() == {"value"}:
            return parsed["value"]
    return text


def spread(path: Path, given: Given) -> Iterator[tuple[Path, Given]]:
    """Yield what is given for *path*, one by one where it is a table of settings."""
    if len(path) > DEPTHS.get(path[0], 0) + 1:
        # A variable may lead deeper than settings go, into the value of an option.
        depth = DEPTHS.get(path[0], 0) + 1
        nested = given.value
        for part in reversed(path[depth:]):
            nested = {part: nested}
        yield path[:depth], given._replace(value=nested, text=None)
    elif len(path) <= DEPTHS.get(path[0], 0) and _has_keys(given.value):
        for key, value in given.value.items():
            inner = given._replace(value=value, text=None)
            yield from spread((*path, str(key)), inner)
    else:
        yield path, given


def spread_all(
    table: Mapping[str, object], source: str
) -> Iterator[tuple[Path, Given]]:
    """Yield what a whole table of settings says, one by one."""
    for key, value in table.items():
        yield from spread((str(key),), Given(value, source))


def _has_keys(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping) and len(value) > 0


def merged(lower: object, higher: object) -> object:
    """Return *higher* over *lower*, key by key where both have keys."""
    if not isinstance(lower, Mapping) or not isinstance(higher, Mapping):
        return higher
    both = {**lower, **higher}
    return {
        key: merged(lower[key], value) if key in lower and key in higher else value
        for key, value in both.items()
    }
