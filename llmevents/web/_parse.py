"""The ``from`` parameter of a web request, as context."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import islice
from math import isfinite
from typing import Final, TypeAlias

from llmevents._context import RESERVED_METADATA


Scalar: TypeAlias = str | int | float | bool

MAX_TEXT: Final = 4096
"""Characters that are read; a longer text is none of ours, and gives nothing."""

MAX_VALUE: Final = 256
"""Characters of one value that are kept."""

MAX_PAIRS: Final = 128
"""Pairs of a mapping that are looked at."""

LARGEST: Final = 2**63
"""Integers from here on are no ids, and no store takes them."""

KEYS: Final = frozenset(
    {
        "app_name",
        "app_version",
        "conversation_id",
        "organization_id",
        "organization_name",
        "request_id",
        "session_id",
        "source_function",
        "source_id",
        "task_id",
        "tenant_id",
        "use_case",
        "user_id",
        "user_name",
    }
)
"""What is taken without being asked for: who asks, and for what."""

ALIASES: Final[Mapping[str, str]] = {
    "company_id": "organization_id",
    "company_name": "organization_name",
    "organization.id": "organization_id",
    "session.id": "session_id",
    "user.id": "user_id",
    "user.name": "user_name",
}
"""Other names for them: of older trackers, and OpenTelemetry's attributes."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def parse_from(value: object, *, keys: Collection[str] = ()) -> dict[str, Scalar]:
    """Return a request's ``from`` parameter as a dict for `llmevents.context`.

    It is a JSON object, ``{"user_id": "u-1", "session_id": "s-2"}``, percent-encoded
    or not. ``user_id=u-1&session_id=s-2`` will do as well, and so will a mapping.
    Whatever is wrong with it, the result has what could be read, and nothing raises:

    - At most 4,096 characters are read. Values are text of at most 256 characters,
      without control characters and secrets, or finite numbers, or truth values.
    - Only keys that say who asks are taken: ``user_id``, ``user_name``,
      ``session_id``, ``organization_id`` (also as ``company_id``),
      ``organization_name``, ``tenant_id``, ``task_id``, ``conversation_id``,
      ``request_id``, ``source_id``, ``source_function``, ``use_case``, ``app_name``,
      ``app_version``. Otherwise a client could say ``status`` or ``provider``, and
      forge what the events say.

    A client can say that it is anybody. Let budgets and bills rest on a context that
    your own code has authenticated.

    Args:
        value: The parameter: text, bytes, a mapping, or None.
        keys: Further keys to take. The library's own keys never are.

    Examples:
        >>> from llmevents import context
        >>> from llmevents.web import parse_from
        >>> with context(parse_from("%7B%22user_id%22%3A%22u-1%22%7D")):
        ...     pass
        >>> parse_from("2026-01-01")
        {}
    """
    from llmevents._redact import clean_metadata

    wanted = (KEYS | frozenset(keys)) - RESERVED_METADATA
    chosen: dict[str, object] = {}
    for name, given in _pairs(_read(value)):
        key = ALIASES.get(name.strip(), name.strip())
        kept = _kept(given)
        if key in wanted and kept is not None:
            chosen[key] = kept
    return clean_metadata(chosen)


def _read(value: object) -> Mapping[str, object]:
    """Return what *value* says, by key; nothing if it cannot be read."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, bytes):
        value = value[: MAX_TEXT + 1].decode("utf-8", "replace")
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return {}
    text = value.strip()
    if text[:3].lower() == "%7b":
        from urllib.parse import unquote

        text = unquote(text, errors="replace")
    return _read_json(text) if text.startswith("{") else _read_pairs(text)


def _read_json(text: str) -> Mapping[str, object]:
    import json

    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _read_pairs(text: str) -> Mapping[str, object]:
    from urllib.parse import parse_qsl

    # A separator counts as one more field; what is read is bounded in any case.
    return dict(parse_qsl(text, errors="replace"))


def _pairs(mapping: Mapping[str, object]) -> list[tuple[str, object]]:
    """Return the first pairs of a mapping that have a name; none if it is broken."""
    try:
        pairs = list(islice(mapping.items(), MAX_PAIRS))
    except Exception:  # noqa: BLE001  # whose mapping it is, nobody knows
        return []
    return [(name, given) for name, given in pairs if type(name) is str]


def _kept(given: object) -> Scalar | None:
    """Return *given* if it can be an id, or a fact about one.

    No method of a subclass is called.
    """
    if type(given) is str:
        from llmevents._redact import clean_text

        text = _CONTROL.sub("\ufffd", given[:MAX_TEXT]).strip()
        return clean_text(text, MAX_VALUE) or None
    if type(given) is bool:
        return given
    if type(given) is int:
        return given if -LARGEST <= given < LARGEST else None
    return given if type(given) is float and isfinite(given) else None
