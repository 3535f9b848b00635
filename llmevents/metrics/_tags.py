"""Tags: what a series is told apart by, read from an event as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from llmevents._redact import clean_metadata, clean_text
from llmevents._types import Measurements, Metadata
from llmevents.metrics._checks import TagFunction, plain_text


TAG_LIMIT = 256
"""Characters of a tag's value; a longer one is cut and says so."""

Key: TypeAlias = tuple[str | None, ...]
"""Tags as they are looked up. Only plain text and None: two values that are equal to
Python, such as 1 and True, are different tags, and foreign ``__eq__`` never runs."""

_SHORT_INTEGER = 1 << 63


class TagReader(Protocol):
    """Knows the tags of one event, for all metrics that have the same ones."""

    def plain(self, key: Key, /) -> dict[str, str]:
        """Return the tags that *key* stands for, as they are."""

    def tags(self, key: Key, /) -> dict[str, str]:
        """Return the tags that *key* stands for, without secrets."""


class KeyedTags:
    """Tags that are keys of the metadata. The values in their order are the key."""

    __slots__ = ("_constants", "names")

    def __init__(
        self, names: tuple[str, ...], constants: tuple[tuple[str, str], ...]
    ) -> None:
        self.names = names
        self._constants = constants

    def plain(self, key: Key, /) -> dict[str, str]:
        """Return the tags that are there, then the constant ones."""
        pairs = zip(self.names, key, strict=True)
        present = {name: text for name, text in pairs if text is not None}
        return {**present, **dict(self._constants)}

    def tags(self, key: Key, /) -> dict[str, str]:
        """Return the same, cleaned."""
        cleaned = map(tag_text, self.names, key)
        return self.plain(tuple(cleaned))


class ComputedTags:
    """Tags that a function makes."""

    __slots__ = ("_constants", "_function")

    def __init__(
        self, function: TagFunction, constants: tuple[tuple[str, str], ...]
    ) -> None:
        self._function = function
        self._constants = constants

    def key(self, measurements: Measurements, metadata: Metadata, /) -> Key:
        """Return names and values in turn.

        Raises:
            TypeError: The function returned no mapping.
        """
        made: object = self._function(measurements, metadata)
        if not isinstance(made, Mapping):
            msg = (
                f"expected the tags function {self._function!r} to return a mapping, "
                f"got {type(made).__name__}; return a dict of tags to values"
            )
            raise TypeError(msg)
        key: list[str | None] = []
        for name, value in made.items():
            if type(name) is str and name and value is not None:
                key += (name, value if type(value) is str else tag_text(name, value))
        return tuple(key)

    def plain(self, key: Key, /) -> dict[str, str]:
        """Return the function's tags; constant ones win over them."""
        pairs = zip(key[::2], key[1::2], strict=True)
        made = {
            name: text for name, text in pairs if name is not None and text is not None
        }
        return {**made, **dict(self._constants)}

    def tags(self, key: Key, /) -> dict[str, str]:
        """Return the same, cleaned and sorted by name."""
        pairs = zip(key[::2], key[1::2], strict=True)
        made = {
            text: value
            for name, given in pairs
            if name
            and (text := clean_text(name, TAG_LIMIT))
            and (value := tag_text(name, given)) is not None
        }
        return {**dict(sorted(made.items())), **dict(self._constants)}


def tag_text(name: str, value: object) -> str | None:
    """Return a tag's value as text without secrets, or None if there is none.

    No code of the value runs. The name matters as well: what is called a password is
    not shown.
    """
    if type(value) is int and -_SHORT_INTEGER < value < _SHORT_INTEGER:
        return str(value)
    (plain,) = clean_metadata({name: value}).values()
    return _text(plain)


def _text(plain: object) -> str | None:
    """Return a cleaned value as text that is not too long."""
    if plain is None:
        return None
    text = plain_text(plain)
    return text if len(text) <= TAG_LIMIT else clean_text(text, TAG_LIMIT)
