"""Values as OpenTelemetry attributes: of a type it has, and never a broken string.

One attribute that protobuf cannot encode costs the whole batch that it is in: text
with a lone surrogate, an integer beyond 64 bits. Events that spans make are clean
already; `Bus.execute` passes on anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Final, TypeAlias, cast

from llmevents_otel._tables import Attribute, Conversion, Keys, Table


Scalar: TypeAlias = str | bool | int | float
Value: TypeAlias = Scalar | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]
Converter: TypeAlias = "Callable[[object], Value | None]"
Rule: TypeAlias = """tuple[
    str, type | None, Converter | None, tuple[tuple[str, Converter], ...]
]"""
"""An attribute's name, the type of which it takes most values as they are, the
converter of others, and names and converters of further attributes. Without a
converter there is no attribute."""

Rules: TypeAlias = "dict[Any, Rule]"
"""By key. Keys that no table has are added as they come."""

TEXT_LIMIT: Final = 4_096
"""Characters of one attribute, as in the metadata of spans."""

NAME_LIMIT: Final = 256
"""Characters of the name of a span or attribute."""

ITEM_LIMIT: Final = 128
"""Items of one array."""

KEY_LIMIT: Final = 64
"""Metadata of one event that are not ours. An OpenTelemetry span keeps 128 attributes
in all, and would drop the oldest, which are the ones that matter."""

NUMBER_LIMIT: Final = 16
"""Measurements of one event that are not ours."""

MOST_RULES: Final = 2_048
"""Keys of others that one table remembers."""

LARGEST: Final = 2**63
SMALLEST: Final = -LARGEST
TOO_LARGE: Final = 2**1023
"""Past what a double can state, or close to it."""

TRUNCATED: Final = "…"
SECOND: Final = 10**9
DROPPED: Final[Rule] = ("", None, None, ())


def clean_text(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return *text* as UTF-8 and every server can take it, cut to *limit* characters.

    Surrogate pairs become the character they stand for. Lone surrogates and NUL,
    which PostgreSQL refuses, become U+FFFD.
    """
    if len(text) > limit:
        text = str.__getitem__(text, slice(limit - 1)) + TRUNCATED
    if not text.isascii():
        encoded = str.encode(text, "utf-16-le", "surrogatepass")
        text = encoded.decode("utf-16-le", "replace")
    return str.replace(text, "\0", "\ufffd")


def as_any(value: object) -> Value | None:
    """Return *value* as the attribute that fits it best, or None of None.

    Dicts and lists of several kinds become JSON. Of other types only the name is
    told, since their text would be made by foreign code.
    """
    kind = type(value)
    if kind is str:
        return as_text(value)
    if kind is bool:
        return cast("bool", value)
    if kind is int:
        number = cast("int", value)
        return number if SMALLEST <= number < LARGEST else _large(number)
    if kind is float:
        real = cast("float", value)
        return real if isfinite(real) else repr(real)
    return None if value is None else _as_other(value, kind)


def as_text(value: object) -> str | None:
    """Return *value* as text."""
    if type(value) is str:
        is_fine = value.isascii() and len(value) <= TEXT_LIMIT and "\0" not in value
        return value if is_fine else clean_text(value)
    attribute = as_any(value)
    if attribute is None or isinstance(attribute, str):
        return attribute
    return clean_text(json.dumps(attribute, ensure_ascii=False))


def as_texts(value: object) -> tuple[str, ...] | None:
    """Return a list as an array of text, anything else as one of one text."""
    items = value if type(value) in (list, tuple) else (value,)
    texts = (
        as_text(item) for item in list(cast("Sequence[object]", items))[:ITEM_LIMIT]
    )
    return tuple(text for text in texts if text is not None) or None


def as_integer(value: object) -> Value | None:
    """Return an integral number as an integer; anything else as `as_any` does."""
    kind = type(value)
    if kind is int and SMALLEST <= cast("int", value) < LARGEST:
        return cast("int", value)
    if kind is float:
        real = cast("float", value)
        return int(real) if real.is_integer() and abs(real) < LARGEST else as_any(real)
    return as_any(value)


def as_number(value: object) -> Value | None:
    """Return a number as a double; anything else as `as_any` does."""
    if type(value) is int and SMALLEST <= value < LARGEST:
        return float(value)
    return as_any(value)


def as_seconds(value: object) -> Value | None:
    """Return nanoseconds as seconds."""
    return _scaled(value)


def as_milliseconds(value: object) -> int | None:
    """Return nanoseconds as whole milliseconds."""
    seconds = _scaled(value)
    return None if seconds is None else round(seconds * 1_000)


def as_dollars(value: object) -> Value | None:
    """Return nano-US-dollars as US dollars."""
    return _scaled(value)


def as_currency(value: object) -> str:  # noqa: ARG001  # there is one
    """Return the currency of a cost."""
    return "USD"


def if_true(value: object) -> bool | None:
    """Return True, and nothing else."""
    return True if value is True else None


def if_false(value: object) -> bool | None:
    """Return False, and nothing else."""
    return False if value is False else None


def if_not_one(value: object) -> Value | None:
    """Return an integer other than 1."""
    number = as_integer(value)
    return None if number == 1 else number


def if_no_success(value: object) -> str | None:
    """Return a status, unless it is the usual one."""
    text = as_text(value)
    return None if text == "success" else text


FORMER_SYSTEMS: Mapping[object, str] = {
    "gcp.vertex_ai": "vertex_ai",
    "gcp.gemini": "gemini",
    "azure.ai.openai": "az.ai.openai",
    "azure.ai.inference": "az.ai.inference",
    "x_ai": "xai",
}
"""Provider -> ``gen_ai.system`` up to v1.36.0 of the conventions, where they differ."""


def as_former_system(value: object) -> str | None:
    """Return a provider by the name that it had before v1.37.0."""
    provider = as_text(value)
    return FORMER_SYSTEMS.get(provider, provider)


CONVERTERS: Mapping[Conversion, Converter] = {
    "text": as_text,
    "texts": as_texts,
    "integer": as_integer,
    "number": as_number,
    "seconds": as_seconds,
    "milliseconds": as_milliseconds,
    "dollars": as_dollars,
    "currency": as_currency,
    "if_true": if_true,
    "if_false": if_false,
    "if_not_one": if_not_one,
    "if_no_success": if_no_success,
    "former_system": as_former_system,
}


def compile_rules(keys: Keys) -> Rules:
    """Return what `translate` reads."""
    return {key: _rule(attributes) for key, attributes in keys.items()}


def _rule(attributes: tuple[Attribute, ...]) -> Rule:
    if not attributes:
        return DROPPED
    (name, conversion), *more = attributes
    fast = {"text": str, "integer": int}.get(conversion)
    further = tuple((other, CONVERTERS[how]) for other, how in more)
    return (name, fast, CONVERTERS[conversion], further)


def translate(
    rules: Rules, pairs: Iterable[tuple[Any, Any]], into: dict[str, Value]
) -> None:
    """Add the attributes that *pairs* of keys and values become.

    What most of them are is dealt with here and not by their converters: a call costs
    as much as all else that is done for an attribute.
    """
    for key, value in pairs:
        try:
            name, fast, convert, more = rules[key]
        except KeyError:
            name, fast, convert, more = _learn(rules, key)
        kind = type(value)
        if fast is not kind:
            if convert is None:
                continue
            attribute = convert(value)
            if attribute is not None:
                into[name] = attribute
        elif (
            SMALLEST <= value < LARGEST
            if kind is int
            else value.isascii() and len(value) <= TEXT_LIMIT and "\0" not in value
        ):
            into[name] = value
        else:
            into[name] = cast("Value", as_any(value))
        for further, convert_also in more:
            attribute = convert_also(value)
            if attribute is not None:
                into[further] = attribute


def fewer(rules: Rules, source: Mapping[Any, object], room: int) -> dict[Any, object]:
    """Return *source* with *room* keys at most that are not ours, the first ones."""
    kept: dict[Any, object] = {}
    for key, value in source.items():
        rule = rules.get(key)
        if rule is None or rule[2] is as_any:
            room -= 1
            if room < 0:
                continue
        kept[key] = value
    return kept


def _learn(rules: Rules, key: object) -> Rule:
    """Return the rule of a key that is not ours, and remember it."""
    name = clean_text(key, NAME_LIMIT) if isinstance(key, str) else ""
    rule: Rule = (name, None, as_any, ()) if name else DROPPED
    if len(rules) < MOST_RULES:
        rules[key] = rule
    return rule


def finish(
    table: Table,
    measurements: Mapping[str, object],
    metadata: Mapping[str, object],
    into: dict[str, Value],
) -> None:
    """Add what only a terminal event can tell: rates and features."""
    duration = _scaled(measurements.get("duration"))
    for name, key in table.rates:
        amount = _scaled(measurements.get(key))
        if duration and amount is not None:
            into[name] = round(amount * SECOND / duration, 2)
    used = metadata.get("features")
    known = used if type(used) in (list, tuple) else ()
    for name, feature in table.features.items():
        into[name] = feature in cast("Sequence[object]", known)


def _scaled(value: object) -> float | None:
    """Return thousand-millionths as units, None of what is no finite number."""
    kind = type(value)
    if kind is int:
        return (
            cast("int", value) / SECOND if abs(cast("int", value)) < TOO_LARGE else None
        )
    if kind is float and isfinite(cast("float", value)):
        return cast("float", value) / SECOND
    return None


def _large(number: int) -> str:
    # Python refuses to print the largest ones, and takes quadratic time for others.
    bits = number.bit_length()
    return str(number) if bits <= TEXT_LIMIT else f"<int: {bits} bits>"


def _as_other(value: object, kind: type) -> Value:
    if issubclass(kind, str):
        return clean_text(str.__str__(cast("str", value)))
    if issubclass(kind, int):
        return cast("Value", as_any(int.__int__(cast("int", value))))
    if issubclass(kind, float):
        return cast("Value", as_any(float.__float__(cast("float", value))))
    if kind is list or kind is tuple:
        return _as_array(list(cast("Sequence[object]", value)))
    return _as_json(value) if kind is dict else _placeholder(value)


def _as_array(items: list[object]) -> Value:
    """Return a list of one kind as an array, any other as JSON."""
    kinds = {type(item) for item in items}
    if not items or kinds == {str}:
        return tuple(clean_text(cast("str", item)) for item in items[:ITEM_LIMIT])
    if kinds in ({bool}, {int}, {float}):
        attributes = [as_any(item) for item in items[:ITEM_LIMIT]]
        if str not in map(type, attributes):
            return cast("Value", tuple(attributes))
    return _as_json(items)


def _as_json(value: object) -> str:
    try:
        return clean_text(json.dumps(value, default=_placeholder, ensure_ascii=False))
    except Exception:  # noqa: BLE001  # a cycle, too deep, keys that are no text
        return _placeholder(value)


def _placeholder(value: object) -> str:
    return f"<{type(value).__qualname__}>"
