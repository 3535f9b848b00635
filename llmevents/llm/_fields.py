"""Looking into objects of SDKs and decoded JSON, whatever these are, without harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from fractions import Fraction
from types import SimpleNamespace
from typing import Protocol, TypeAlias, runtime_checkable


Path: TypeAlias = "str | tuple[str | int, ...]"
"""A key, or several, one below the other; a number is a position in a list."""

LONGEST = 256
"""Characters of a fact; no model, id or reason is longer."""

MOST = 2**53 - 1
"""What JSON numbers state exactly everywhere (RFC 8259, section 6)."""

_NO_FIELDS = (str, bytes, int, float, list, tuple, set, type(None))

_ATOMS = frozenset(_NO_FIELDS)


@runtime_checkable
class Fields(Protocol):
    """What is asked of a response: the value of a key, or None."""

    def get(self, key: str, /) -> object:
        """Return the value of *key*, or None if there is none."""


class _Attributes:
    """The attributes of an object as fields, properties included.

    A property, or a ``get`` of a foreign mapping, runs foreign code, so that it may
    raise; then there is no such field.
    """

    __slots__ = ("_source",)

    def __init__(self, source: object) -> None:
        self._source = source

    def get(self, key: str, /) -> object:
        try:
            if isinstance(self._source, Mapping):
                return self._source.get(key)
            return getattr(self._source, key, None)
        except Exception:  # noqa: BLE001  # see above
            return None


def fields(source: object) -> Fields | None:
    """Return what *source* has: items of a mapping, or attributes of an object.

    The fields of pydantic models, which is what most SDKs give, are had without
    asking for attributes: one that is missing would cost an exception. None for
    text, numbers, lists and None.
    """
    kind = type(source)
    if kind is dict:
        return source  # type: ignore[return-value]  # its type is exactly dict
    if kind in _ATOMS:
        return None
    try:
        extra = source.__pydantic_extra__  # type: ignore[attr-defined]  # then it is no model
        own = source.__dict__
    except Exception:  # noqa: BLE001  # attributes of foreign objects run foreign code
        return _foreign(source)
    if extra is None and type(own) is dict:
        return own
    if type(extra) is dict and type(own) is dict:
        return {**own, **extra} if extra else own
    return _foreign(source)


def _foreign(source: object) -> Fields | None:
    if isinstance(source, _NO_FIELDS):
        return None
    if isinstance(source, (dict, _Attributes)):
        return source
    return vars(source) if type(source) is SimpleNamespace else _Attributes(source)


def stated_in(source: object) -> set[str] | None:
    """Return which fields of a pydantic model were given; None for all else.

    The others hold defaults, of which some are 0 where nothing was stated.
    """
    try:
        given: object = getattr(source, "__pydantic_fields_set__", None)
    except Exception:  # noqa: BLE001  # attributes of foreign objects run foreign code
        return None
    if type(given) is not set:
        return None
    # Extra fields are had only if they were given.
    extra = getattr(source, "__pydantic_extra__", None)
    return {*given, *extra} if type(extra) is dict else given


def private(source: object, key: str) -> object:
    """Return what a pydantic model keeps beside its fields, or None.

    Only of objects that `fields` has found to have a plain dict of them.
    """
    kept: object = getattr(source, "__pydantic_private__", None)
    return kept.get(key) if type(kept) is dict else None


def look_up(source: object, key: str | int) -> object:
    """Return an item of decoded JSON or an attribute of an SDK's object, or None."""
    if type(source) is dict:
        return source.get(key)
    if isinstance(key, int):
        within = isinstance(source, (list, tuple)) and len(source) > key
        return source[key] if within else None  # type: ignore[index]  # a list, says the line above
    found = fields(source)
    return None if found is None else found.get(key)


def dig(source: object, path: Path) -> object:
    """Return what is at *path* below *source*, or None."""
    if type(path) is str:
        return look_up(source, path)
    for key in path:
        if type(source) is dict:
            source = source.get(key)
        elif source is None:
            return None
        else:
            source = look_up(source, key)
    return source


def first_text(source: Fields, paths: Iterable[Path]) -> str | None:
    """Return the first text that *source* has at one of *paths*."""
    for path in paths:
        value = source.get(path) if type(path) is str else dig(source, path)
        if type(value) is str and 0 < len(value) <= LONGEST:
            return value
        text = None if value is None else as_text(value)
        if text is not None:
            return text
    return None


def as_text(value: object) -> str | None:
    """Return a name: text, or what a member of an enumeration stands for.

    None for what is empty or too long to be a name, and for everything else.
    """
    if type(value) is str:
        return value if 0 < len(value) <= LONGEST else None
    if isinstance(value, str):
        return as_text(str.__str__(value))
    if isinstance(value, Enum):
        return as_text(value.value) or value.name
    return None


def as_stated(value: object) -> int | None:
    """Return a count as providers state it, or None where *value* is none.

    A float counts if it is a whole number: JSON does not tell 9 from 9.0, and some
    SDKs declare floats. Bools, text, negative numbers, and what is too large to be
    exact, are no counts.
    """
    if type(value) is int:
        return value if 0 <= value <= MOST else None
    if type(value) is float:
        value = int(value) if value.is_integer() else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value <= MOST else None


def scaled(value: object, factor: int | Fraction) -> int | None:
    """Return a stated number times *factor*, exactly, half to even; None for no number.

    A float stands for what it is written as. Not with `decimal`: of which precision
    its arithmetic is, the host decides.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # NaN is in no order, and infinity is more than the most.
    if not 0 <= value <= MOST:
        return None
    written = repr(value) if type(value) is float else int(value)
    exact = round(Fraction(written) * factor)
    return exact if exact <= MOST else None
