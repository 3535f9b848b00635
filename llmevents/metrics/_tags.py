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
    """Reads the tags of one event, for all metrics that have the same ones."""

    def key(self, measurements: Measurements, metadata: Metadata, /) -> Key:
        """Return the tags as they were found, as cheaply as can be."""

    def tags(self, key: Key, /) -> dict[str, str]:
        """Return the tags that *key* stands for, without secrets."""


class KeyedTags:
    """Tags that are keys of the metadata."""

    __slots__ = ("_constants", "_names")

    def __init__(
        self, names: tuple[str, ...], constants: tuple[tuple[str, str], ...]
    ) -> None:
        self._names = names
        self._constants = constants

    def key(self, _measurements: Measurements, metadata: Metadata, /) -> Key:
        """Return the values in the order of the names."""
        found: list[str | None] = []
        for name in self._names:
            value = metadata.get(name)
            if value is not None and (type(value) is not str or len(value) > TAG_LIMIT):
                value = tag_text(name, value)
            found.append(value)
        return tuple(found)

    def tags(self, key: Key, /) -> dict[str, str]:
        """Return the tags that are there, then the constant ones."""
        cleaned = {
            name: tag_text(name, value)
            for name, value in zip(self._names, key, strict=True)
        }
        present = {name: text for name, text in cleaned.items() if text is not None}
        return {**present, **dict(self._constants)}


class ComputedTags:
    """Tags that a function makes."""

    __slots__ = ("_constants", "_function")

    def __init__(
        self, function: TagFunction, constants: tuple[tuple[str, str], ...]
    ) -> None:
        self._function = function
        self._constants = constants

    def key(self, measurements: Measurements, metadata: Metadata, /) -> Key:
        """Return names and values in turn, sorted by name.

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
        for name, value in sorted(clean_metadata(made).items()):
            text = _text(value)
            if name and text is not None:
                key += (name, text)
        return tuple(key)

    def tags(self, key: Key, /) -> dict[str, str]:
        """Return the function's tags; constant ones win over them."""
        pairs = zip(key[::2], key[1::2], strict=True)
        made = {
            name: text for name, text in pairs if name is not None and text is not None
        }
        return {**made, **dict(self._constants)}


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
