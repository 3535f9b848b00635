"""What stands for a value that is neither text nor a container.

No method of the value runs unless its class is one of those of the standard library
that are named here.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, cast


if TYPE_CHECKING:
    from collections.abc import Callable


# Straight from the class: its metaclass or a subclass may answer otherwise.
_module_of = type.__dict__["__module__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__
_fields_of = Enum.__dict__["__dict__"].__get__

_SIZES: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (bytes, bytes.__len__),
    (bytearray, bytearray.__len__),
    (memoryview, memoryview.nbytes.__get__),
)

# Classes of the standard library whose text needs no foreign code.
_KNOWN = {
    "UUID": ("uuid", "__str__"),
    "date": ("datetime", "isoformat"),
    "datetime": ("datetime", "isoformat"),
    "time": ("datetime", "isoformat"),
    "timedelta": ("datetime", "__str__"),
    "Decimal": ("decimal", "__str__"),
    "Fraction": ("fractions", "__str__"),
    "PosixPath": ("pathlib", "__str__"),
    "PurePosixPath": ("pathlib", "__str__"),
    "PureWindowsPath": ("pathlib", "__str__"),
    "WindowsPath": ("pathlib", "__str__"),
}


_INFINITY = float("inf")
_LARGEST = 1 << 1024


def is_plain(value: object) -> bool:
    """Say whether *value* is a scalar, no string, that JSON takes as it is."""
    if type(value) is int:
        return -_LARGEST < value < _LARGEST
    if type(value) is float:
        return -_INFINITY < value < _INFINITY
    return value is None or type(value) is bool


def as_text(value: object) -> str:
    """Return *value* as text that is not cleaned yet; a string as it is."""
    if issubclass(type(value), str):
        return cast("str", value)
    return str(plain_value(value))


def plain_value(value: object) -> str | float | None:
    """Return what stands for a value that is no string; uncleaned, if it is text."""
    kind = type(value)
    if is_plain(value):
        return cast("float | None", value)
    if issubclass(kind, int):
        return _integer(int.__int__(cast("int", value)))
    if issubclass(kind, float):
        real = float.__float__(cast("float", value))
        return real if is_plain(real) else repr(real)
    try:
        known = _known_text(value, kind)
    except Exception:  # noqa: BLE001 - a released memoryview, a number too long to print
        known = None
    return placeholder(kind) if known is None else known


def _integer(number: int) -> int | str:
    # Python refuses to print the largest ones, and takes quadratic time for others.
    return number if is_plain(number) else f"<int: {number.bit_length()} bits>"


def _known_text(value: object, kind: type) -> str | int | None:
    """Return the text of a value of the standard library, None of any other."""
    for base, size in _SIZES:
        if issubclass(kind, base):
            return f"<{base.__name__}: {size(value)}>"
    if issubclass(kind, Enum):
        return _member_text(_fields_of(value))
    name = str.__str__(_qualname_of(kind))
    module, method = _KNOWN.get(name, ("", ""))
    if kind is not _from_loaded(module, name) or _has_foreign_zone(value, module):
        return None
    return str(getattr(value, method)())


def _from_loaded(module: str, name: str) -> object:
    return getattr(sys.modules.get(module), name, None)


def _has_foreign_zone(value: object, module: str) -> bool:
    """Say whether *value* has a time zone that would run code we do not know."""
    zone = getattr(value, "tzinfo", None) if module == "datetime" else None
    return zone is not None and not (
        type(zone) is _from_loaded("datetime", "timezone")
        or type(zone) is _from_loaded("zoneinfo", "ZoneInfo")
    )


def _member_text(fields: dict[str, Any]) -> str | int | None:
    value, name = dict.get(fields, "_value_"), dict.get(fields, "_name_")
    if type(value) is int:
        return _integer(value)
    if type(value) is str:
        return value
    return name if type(name) is str else None


def placeholder(kind: type) -> str:
    """Return what stands for a value of which only the class may be told."""
    return f"<{qualified_name(kind)}>"


def qualified_name(kind: type) -> str:
    """Return ``"module.QualName"``, or ``"QualName"`` of a built-in class."""
    qualname = str.__str__(_qualname_of(kind))
    try:
        module = _module_of(kind)
    except AttributeError:
        return qualname
    if not issubclass(type(module), str):
        return qualname
    module = str.__str__(module)
    return qualname if module == "builtins" else f"{module}.{qualname}"
