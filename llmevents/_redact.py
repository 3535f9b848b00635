"""Free text enters the library here, and leaves without secrets or not at all.

Span and call metadata, context values, error messages, URLs and headers pass through
these functions once, before any handler sees them. Every function works on a copy,
runs no code of the values it is given (the exceptions are named where they occur),
takes time bounded by its limits and not by its input, and is safe in any thread.

`llmevents._redact_patterns` says what a secret looks like.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from llmevents._redact_patterns import (
    CUT_MARK,
    REDACTED,
    is_secret_key,
    may_hold_secret,
    redact_secrets,
    strip_urls,
)
from llmevents._redact_values import (
    as_text,
    is_plain,
    placeholder,
    plain_value,
    qualified_name,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    _Read: TypeAlias = Callable[[Any], Iterable[Any]]

__all__ = [
    "REDACTED",
    "clean_headers",
    "clean_metadata",
    "clean_text",
    "clean_url",
    "describe_error",
]

TRUNCATED = "[TRUNCATED]"
"""Last entry of a container that had more."""

TEXT_LIMIT = 4096
MESSAGE_LIMIT = 1024
NAME_LIMIT = 256
KEY_LIMIT = 128

MAX_DEPTH = 8
MAX_ITEMS = 128
_ATTEMPTS = 8
# Characters of one call to clean_metadata, so that an event stays below 64 KiB. An item
# costs something by itself: lists of lists must not multiply.
_BUDGET = 60 * 1024
_ITEM_COST = 16
# A character outside ASCII takes six bytes in JSON.
_WIDE_COST = 6

# Patterns see this much more than is kept, so that a secret across the cut is whole
# enough to be known. No pattern needs half of it.
_MARGIN = 512
_SMALLEST_LIMIT = 64
# Room for the note on left-out characters and for a marker that the cut would split.
_RESERVED = 48

_ROUNDS = 4

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_REPLACEMENT = "\ufffd"


# --- Text ------------------------------------------------------------------------


def clean_text(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return *text* without secrets, at most *limit* characters of it.

    Secrets become `REDACTED`, lone surrogates U+FFFD; NUL is removed, because
    PostgreSQL refuses it. Line breaks, terminal escapes and markup stay: each sink
    escapes what is special to it. Cleaning twice equals cleaning once.

    Args:
        text: Any string; of a subclass, no overridden method is called.
        limit: Characters of the result, the note on how many were left out
            included. Less than 64 counts as 64. The cut comes before the search for
            secrets, so that a huge string costs no more than a long one.
    """
    return _clean(text, limit, urls=False)


def _clean(text: str, limit: int, *, urls: bool) -> str:
    limit = max(limit, _SMALLEST_LIMIT)
    piece = str.__getitem__(text, slice(limit + _MARGIN))
    hidden = str.__len__(text) - len(piece)
    if not piece.isascii():
        piece = _SURROGATE.sub(_REPLACEMENT, piece)
    if may_hold_secret(piece) is not None:
        piece, grown = _redact(piece.replace("\0", ""), limit + _MARGIN, urls=urls)
        hidden += grown
    if hidden == 0 and len(piece) <= limit:
        return piece
    # What the patterns could not see whole is among the last characters.
    kept = len(piece) - _MARGIN if hidden else len(piece)
    kept = max(0, min(kept, limit - _RESERVED))
    marker = piece.find(REDACTED, max(0, kept - len(REDACTED) + 1))
    if 0 <= marker <= kept:
        kept = marker + len(REDACTED)
    # Half a note of an earlier cut would no longer be known for one.
    start = piece[:kept].rstrip(f" {CUT_MARK}")
    hidden += len(piece) - len(start)
    return f"{start} {CUT_MARK}{hidden} characters]"


def _redact(text: str, longest: int, *, urls: bool) -> tuple[str, int]:
    """Return *text* without secrets, and by how much that was too long."""
    grown = 0
    for _ in range(_ROUNDS):  # pragma: no branch - settles before
        before = text
        text = redact_secrets(text)
        if urls:
            text = strip_urls(text)
        if text == before:
            break
        grown += max(0, len(text) - longest)
        text = text[:longest]
    return text, grown


_URL = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)([^/?#]*)([^?#]*)")
_HOST = re.compile(r"(?:\[[^\]\s]*\]|[^\s:\[\]]*)(?::[0-9]{1,5}(?![^/]))?")


def clean_url(url: str) -> str:
    """Return scheme, host, port and path of *url*: no user, query or fragment.

    A segment of the path that looks like a secret becomes `REDACTED`. What is no
    absolute URL is cleaned as text, up to its first ``?`` or ``#``.

    Examples:
        >>> from llmevents._redact import clean_url
        >>> clean_url("https://me:pw@api.example.com:8443/v1/chat?key=abc#top")
        'https://api.example.com:8443/v1/chat'
    """
    text = clean_text(url)
    for _ in range(_ROUNDS):  # pragma: no branch - settles before
        before, text = text, clean_text(_address(text))
        if text == before:
            break
    return text


def _address(url: str) -> str:
    parts = _URL.match(url)
    if parts is None:
        head, slash, path = re.split("[?#]", url, maxsplit=1)[0].partition("/")
        return head.rpartition("@")[2] + slash + path
    start, authority, path = parts.groups()
    host = _HOST.match(authority.rpartition("@")[2])
    return start + (host.group() if host else "") + path


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return the class name and the cleaned message of *error*.

    The name is qualified as for ``error.type`` of the OpenTelemetry conventions:
    ``"ValueError"``, ``"httpx.ReadTimeout"``. The message is ``str(error)`` without
    secrets, and with the URLs in it cut down to scheme, host and path, at most 1,024
    characters. Causes, arguments, locals and the stack are not looked at.

    ``__str__`` of the error is the one foreign method that runs. An ``Exception`` from
    it gives ``"<message unavailable>"``; ``KeyboardInterrupt`` and its like pass.
    """
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the class of the user may raise anything
        message = "<message unavailable>"
    name = clean_text(qualified_name(type(error)), NAME_LIMIT)
    return name, _clean(message, MESSAGE_LIMIT, urls=True)


# --- Containers ------------------------------------------------------------------


def clean_metadata(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Return a copy of *metadata* that may go to handlers and into JSON.

    - The value under a key that names a secret (``api_key``, ``Authorization``,
      ``session_token``; not ``max_tokens``) becomes `REDACTED`.
    - Strings, and keys, go through `clean_text`. Numbers, booleans and None stay;
      subclasses become the plain type. Floats that are not finite become ``"nan"``,
      ``"inf"`` and ``"-inf"``, integers beyond 1,024 bits ``"<int: N bits>"``.
    - Dicts, lists, tuples and sets are copied, the last three as lists: 8 levels,
      128 items each, 60 KiB of text together; ``"[TRUNCATED]"`` says that there was
      more, ``"<cycle>"`` that a container is inside itself. In a tuple of two, the
      first may name the second a secret, as in lists of headers.
    - UUIDs, dates and times, ``Decimal``, ``Fraction``, paths and enum members become
      text (an enum member its value, if that is a string or an integer).
    - Bytes become ``"<bytes: N>"``, anything else ``"<module.Class>"``.

    No method of a value is called, overridden methods of built-in types included. Only
    *metadata* itself may be a mapping of another class, whose ``items()`` is called
    once; if that raises an ``Exception``, the result is empty. Nothing is raised. A
    dict that another thread changes meanwhile is read as it was at one moment.
    """
    return _Walk().mapping(_pairs(metadata), (id(metadata),))


_PLAIN = frozenset({str, int, float, bool})

_harmless: set[tuple[object, ...]] = set()
"""Metadata that was found to be clean; of plain values, so that nothing runs code."""

MAX_HARMLESS = 512
MAX_REMEMBERED = 1_024
"""Characters of the text in one of them."""


def clean_again(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Do as `clean_metadata` for what is likely to come again, as of each call.

    What was clean is remembered, in bounds; what was not is not.
    """
    if type(metadata) is not dict:
        return clean_metadata(metadata)
    kinds = tuple(map(type, metadata.values()))
    if not _PLAIN.issuperset(kinds) or not _PLAIN.issuperset(map(type, metadata)):
        return clean_metadata(metadata)
    # 1, 1.0 and True are equal; their types are not.
    key = (kinds, *metadata.items())
    if key in _harmless:
        return metadata.copy()
    cleaned = clean_metadata(metadata)
    texts = (text for text in metadata.values() if type(text) is str)
    if cleaned == metadata and sum(map(len, texts)) <= MAX_REMEMBERED:
        if len(_harmless) >= MAX_HARMLESS:
            _harmless.clear()
        _harmless.add(key)
    return cleaned


def clean_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* with cleaned values, those of secret headers `REDACTED`.

    Secret are ``Authorization``, ``Cookie``, ``X-Api-Key`` and what else
    `clean_metadata` takes for a secret. At most 128 headers are kept.
    """
    cleaned = {}
    for key, value in _pairs(headers)[:MAX_ITEMS]:
        name, secret = _learn_key(key)
        cleaned[name] = REDACTED if secret else clean_text(as_text(value))
    return cleaned


def _read(items: _Read, source: object) -> list[Any]:
    """Return the first items of a container, one more than are kept.

    The copy is made without running Python code in between, so that another thread
    can hardly change the container meanwhile; if it does, we try again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return list(islice(items(source), MAX_ITEMS + 1))
        except RuntimeError:
            continue
    return []


def _pairs(source: object) -> list[tuple[object, object]]:
    if issubclass(type(source), dict):
        return _read(dict.items, source)
    try:
        mapping: Any = source
        return [(key, value) for key, value in islice(mapping.items(), MAX_ITEMS + 1)]
    except Exception:  # noqa: BLE001 - the class of the user may raise anything
        return []


# Every class test below is `is` or `issubclass(type(value), ...)`: `isinstance` would ask
# the value for its `__class__`, `in` and `==` would ask its metaclass.
_CONTAINERS: tuple[tuple[type, _Read], ...] = (
    (dict, dict.items),
    (list, list.__iter__),
    (tuple, tuple.__iter__),
    (set, set.__iter__),
    (frozenset, frozenset.__iter__),
)


# Names of models, providers and hosts come again and again.
_HARMLESS: set[str] = set()
_MOST_HARMLESS = 1024
_SHORT = 64


def _is_harmless(text: str) -> bool:
    """Say whether short *text* stays as it is. Only harmless text is remembered."""
    if len(text) > _SHORT:
        return False
    if text in _HARMLESS:
        return True
    if not text.isascii() or clean_text(text) != text:
        return False
    if len(_HARMLESS) >= _MOST_HARMLESS:
        _HARMLESS.clear()
    _HARMLESS.add(text)
    return True


def clean_name(name: str) -> str:
    """Do as `clean_text` for a name: of a model, a provider, a service tier."""
    return name if _is_harmless(name) else clean_text(name)


class _Walk:
    """What one call may still spend. A path is the ids of the containers around."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _BUDGET

    def mapping(
        self, pairs: list[tuple[object, object]], path: tuple[int, ...]
    ) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        cut = len(pairs) > MAX_ITEMS
        if cut:
            pairs = pairs[: MAX_ITEMS - 1]
        for key, value in pairs:
            if self.left <= 0:
                cut = True
                break
            known = _KEYS.get(key) if type(key) is str else None
            if known is None:
                known = _learn_key(key)
                # Keys that look alike: the last one counts, at its own place.
                cleaned.pop(known[0], None)
            name, secret = known
            self.left -= _ITEM_COST + len(name)
            if secret:
                self.left -= len(REDACTED)
                cleaned[name] = REDACTED
            elif value is None or type(value) is bool:
                cleaned[name] = value
            else:
                cleaned[name] = self.value(value, path)
        if cut:
            self.left -= _ITEM_COST + len("...") + len(TRUNCATED)
            cleaned["..."] = TRUNCATED
        return cleaned

    def sequence(self, items: list[object], path: tuple[int, ...]) -> list[Any]:
        cleaned: list[Any] = []
        cut = len(items) > MAX_ITEMS
        if cut:
            items = items[: MAX_ITEMS - 1]
        for item in items:
            if self.left <= 0:
                cut = True
                break
            self.left -= _ITEM_COST
            cleaned.append(self.value(item, path))
        if cut:
            self.left -= _ITEM_COST + len(TRUNCATED)
            cleaned.append(TRUNCATED)
        return cleaned

    def value(self, value: object, path: tuple[int, ...]) -> object:
        if type(value) is str and _is_harmless(value):
            self.left -= len(value)
            return value
        if is_plain(value):
            return value
        kind = type(value)
        if issubclass(kind, str):
            return self.text(cast("str", value))
        for base, read in _CONTAINERS:
            if issubclass(kind, base):
                return self.container(value, read, path)
        plain = plain_value(value)
        return self.text(plain) if isinstance(plain, str) else plain

    def text(self, text: str) -> str:
        cost = 1 if str.isascii(text) else _WIDE_COST
        cleaned = clean_text(text, min(TEXT_LIMIT, self.left // cost))
        self.left -= len(cleaned) * (1 if cleaned.isascii() else _WIDE_COST)
        return cleaned

    def container(self, source: object, read: _Read, path: tuple[int, ...]) -> object:
        if id(source) in path:
            return self.text("<cycle>")
        if len(path) >= MAX_DEPTH:
            return self.text(placeholder(type(source)))
        path = (*path, id(source))
        items = _read(read, source)
        if read is dict.items:
            return self.mapping(items, path)
        if read is tuple.__iter__ and _is_secret_pair(items):
            items[1] = REDACTED
        return self.sequence(items, path)


# --- Keys ------------------------------------------------------------------------

# Decisions on keys as they are: bounded, and harmless to lose or to make twice.
_KEYS: dict[str, tuple[str, bool]] = {}
_MOST_KEYS = 2048


def _learn_key(key: object) -> tuple[str, bool]:
    """Return *key* as it may be shown, and if it names a secret."""
    text = as_text(key)
    name = clean_text(text, KEY_LIMIT)
    if _CONTROL.search(name):
        name = clean_text(_CONTROL.sub(_REPLACEMENT, name), KEY_LIMIT)
    secret = _is_secret_name(text) or _is_secret_name(name)
    if type(key) is str and name == key:
        if len(_KEYS) >= _MOST_KEYS:
            _KEYS.clear()
        _KEYS[name] = (name, secret)
    return name, secret


def _is_secret_pair(items: list[object]) -> bool:
    return len(items) == 2 and _is_secret_name(items[0])  # noqa: PLR2004 - a pair


def _is_secret_name(name: object) -> bool:
    """Judge by both ends of *name*: a suffix counts, however long the rest."""
    if not issubclass(type(name), str):
        return False
    text = cast("str", name)
    end = str.__getitem__(text, slice(-KEY_LIMIT, None))
    return is_secret_key(end) or is_secret_key(str.__getitem__(text, slice(KEY_LIMIT)))
