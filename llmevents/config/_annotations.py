"""Whether a value fits a parameter's annotation, as far as that is simple to say."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from os import PathLike
from typing import IO, Annotated, Any, Literal, Union, get_args, get_origin

from llmevents.config._given import Given


MISFIT = object()
"""What `fit` returns where no reading of a value fits."""

_WORDS: dict[object, str] = {
    None: "None",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    type(None): "None",
}

_CONTAINERS = (Mapping, Sequence, AbstractSet)
_UNIONS = (Union, types.UnionType)


def fit(given: Given, annotation: object) -> object:
    """Return the first reading of *given* that fits *annotation*, or `MISFIT`."""
    for reading in given.readings():
        if fits(reading, annotation):
            return reading
    return MISFIT


def fits(value: object, annotation: object) -> bool:
    """Say whether *value* fits. What is too involved to check fits."""
    if annotation is None or annotation is type(None):
        return value is None
    origin = get_origin(annotation)
    if origin in _UNIONS:
        return any(fits(value, member) for member in get_args(annotation))
    if origin is Literal:
        return any(
            type(value) is type(member) and value == member
            for member in get_args(annotation)
        )
    if origin is Annotated:
        return fits(value, get_args(annotation)[0])
    if origin is not None:
        return _fits_generic(value, origin, get_args(annotation))
    return not isinstance(annotation, type) or _fits_class(value, annotation)


def _fits_class(value: object, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, (int, float))
    if isinstance(value, str) and (kind is PathLike or issubclass(kind, PathLike)):
        return True
    if issubclass(kind, IO):  # no base class of any real file
        return hasattr(value, "write")
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be checked when running
        return True


def _fits_generic(value: object, origin: type, members: tuple[Any, ...]) -> bool:
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and (
            len(members) != 2  # noqa: PLR2004  # keys and values
            or all(
                fits(key, members[0]) and fits(item, members[1])
                for key, item in value.items()
            )
        )
    if issubclass(origin, _CONTAINERS):
        return isinstance(value, (list, tuple, set, frozenset)) and all(
            fits(item, members[0]) for item in value
        )
    return _fits_class(value, origin)


def describe(annotation: object) -> str:
    """Return for people what fits *annotation*."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin = get_origin(annotation)
    members = [m for m in get_args(annotation) if m not in (type(None), Ellipsis)]
    if origin in _UNIONS:
        return " or ".join(map(describe, members))
    if origin is Literal:
        return " or ".join(map(repr, members))
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, _CONTAINERS):
        return _describe_container(kind, members)
    if isinstance(kind, type) and issubclass(kind, PathLike):
        return "text (a path)"
    name = getattr(annotation, "__name__", str(annotation))
    return f"a {name}, which only configure(reporters={{...}}) in Python can give"


def _describe_container(kind: type, members: Sequence[object]) -> str:
    is_table = issubclass(kind, Mapping)
    what = "a table" if is_table else "a list"
    if not members:
        return what
    each, inner = ("value", members[-1]) if is_table else ("item", members[0])
    return f"{what}, each {each} {describe(inner)}"


def annotations_of(cls: type) -> dict[str, object]:
    """Return the annotations of the constructor's parameters that can be resolved.

    One that names what is imported for type checkers only costs itself, not the
    others.
    """
    constructor = getattr(cls, "__init__")  # noqa: B009  # mypy takes cls for an instance
    scope = vars(sys.modules.get(constructor.__module__, types))
    found: dict[str, object] = {}
    for name, annotation in getattr(constructor, "__annotations__", {}).items():
        if not isinstance(annotation, str):
            found[name] = annotation
            continue
        # Whatever it raises, that annotation is not checked. What is evaluated is the
        # module's own source, as typing.get_type_hints() does it.
        with suppress(Exception):
            found[name] = eval(annotation, dict(scope))  # noqa: S307
    return found
