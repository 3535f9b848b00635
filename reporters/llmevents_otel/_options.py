"""Checks of the reporter's options. What may be a secret is never shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from math import isfinite
from urllib.parse import urlsplit

from llmevents import OptionError


LONGEST = 86_400.0

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_PATH = re.compile(r"/v1/(?:traces|metrics|logs)/?\Z")


class Headers(Mapping[str, str]):
    """HTTP headers whose values show nowhere: not in a `repr`, nor in a pickle."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: [REDACTED]" for name in self._values)
        return f"Headers({shown})"

    def __reduce__(self) -> str:
        msg = "headers hold secrets and cannot be pickled; make a new reporter instead"
        raise TypeError(msg)


def check_flag(value: object, option: str) -> bool:
    """Return *value* if it is True or False.

    Raises:
        OptionError: It is not.
    """
    if not isinstance(value, bool):
        raise OptionError(value, option, "true or false")
    return value


def check_seconds(value: object, option: str, least: float) -> float:
    """Return *value* if it is a number from *least* to 86,400.

    Raises:
        OptionError: It is not.
    """
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and isfinite(value)
        and least <= value <= LONGEST
    ):
        return float(value)
    raise OptionError(value, option, f"a number of seconds from {least:g} to 86,400")


def check_count(value: object, option: str) -> int:
    """Return *value* if it is an integer from 1 to a million.

    Raises:
        OptionError: It is not.
    """
    if type(value) is int and 1 <= value <= 1_000_000:  # noqa: PLR2004  # as it says
        return value
    raise OptionError(value, option, "an integer from 1 to 1,000,000")


def check_text(value: object, option: str) -> str | None:
    """Return *value* if it is None or text that is not empty.

    Raises:
        OptionError: It is neither.
    """
    if value is None or (isinstance(value, str) and value):
        return value
    raise OptionError(value, option, "text that is not empty")


def check_endpoint(value: object) -> str | None:
    """Return the base URL without a final slash, or None if *value* is None.

    Raises:
        OptionError: It is no ``http`` or ``https`` URL with a host and nothing but a
            path after it, or has the path of one signal.
    """
    if value is None:
        return None
    expected = (
        "the base URL of an OTLP/HTTP endpoint, without user, query and /v1/..., such "
        "as 'http://localhost:4318'; credentials belong into headers"
    )
    if not isinstance(value, str):
        raise OptionError(value, "endpoint", expected)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if (
        parts is None
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or port == 0
        or any(mark in value for mark in "@?#")
        or re.search(r"[^\x21-\x7e]", value)
        or _PATH.search(parts.path)
    ):
        raise OptionError(_shown_url(value), "endpoint", expected)
    return value.rstrip("/")


def _shown_url(value: str) -> str:
    """Return what of *value* cannot be a secret."""
    head = re.split(r"[?#]", value)[0]
    scheme, separator, rest = head.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def check_headers(value: object) -> Headers:
    """Return the headers.

    They are checked here because OpenTelemetry and requests show a malformed one in
    full.

    Raises:
        OptionError: It is no mapping, or a name or a value cannot be sent. The
            message has no values.
    """
    if value is None:
        return Headers({})
    if not isinstance(value, Mapping):
        shown = f"<{type(value).__name__}>"
        raise OptionError(shown, "headers", 'a mapping such as {"api-key": "..."}')
    for name, text in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            shown, expected = "<a malformed name>", "a mapping by names of HTTP headers"
            raise OptionError(shown, "headers", expected)
        if not isinstance(text, str) or not _VALUE.fullmatch(text):
            shown = "<a malformed value>"
            expected = "printable ASCII text without blanks around it"
            raise OptionError(shown, f"header {name!r}", expected)
    return Headers(value)


def check_resource(value: object) -> dict[str, str | bool | int | float]:
    """Return attributes of the resource.

    Raises:
        OptionError: It is no mapping of names to text, numbers or booleans.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(key, str) and key and isinstance(each, (str, bool, int, float))
        for key, each in value.items()
    ):
        expected = "a Resource, or a mapping of names to text, numbers or booleans"
        raise OptionError(value, "resource", expected)
    return dict(value)


def warn_of_plain_credentials(endpoint: str | None, headers: Headers) -> None:
    """Log it if headers go over the network without encryption."""
    if endpoint is None or not headers:
        return
    parts = urlsplit(endpoint)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        logging.getLogger("llmevents.otel").warning(
            "headers are sent to %s without encryption; use https", parts.hostname
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
