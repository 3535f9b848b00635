"""The reporter's options, checked when it is made."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from llmevents import OptionError


SHORTEST_INTERVAL = 0.05
LONGEST_INTERVAL = 86_400.0

SMALLEST_MTU = 64
LARGEST_MTU = 65_507
"""What an IPv4 datagram can carry: 65,535 bytes less the headers of IP and UDP."""

HIGHEST_PORT = 65_535

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of a Unix socket's path: ``sun_path`` less the final NUL, see unix(7)."""

FORMATS = ("standard", "datadog")

_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_PREFIX_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `StatsDReporter` was given, after it was checked.

    Attributes:
        socket_path: Of a Unix datagram socket; if there is one, *host* and *port* do
            not matter.
        tags: Global tags, as text.
        sample_rate: None where the format decides.
    """

    host: str
    port: int
    socket_path: str | None
    format: str
    prefix: str
    tags: Mapping[str, str]
    interval: float
    mtu: int
    sample_rate: float | None


def read_host(host: object) -> str:
    """Return the name or address of the server."""
    if isinstance(host, str) and host and host.isprintable():
        return host
    raise OptionError(host, "host", "a host's name or address")


def read_integer(value: object, option: str, least: int, most: int) -> int:
    """Return an integer that is in range."""
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and least <= value <= most
    ):
        return value
    raise OptionError(value, option, f"an integer from {least} to {most:,}")


def read_path(path: object) -> str | None:
    """Return the path of a Unix datagram socket."""
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)):
        raise OptionError(path, "socket_path", "a path or None")
    text = os.fspath(path)
    if not hasattr(socket, "AF_UNIX"):
        raise OptionError(
            path, "socket_path", "None, as there are no Unix sockets here"
        )
    if (
        isinstance(text, str)
        and "\0" not in text
        and 0 < len(os.fsencode(text)) <= LONGEST_PATH
    ):
        return text
    expected = f"a path of 1 to {LONGEST_PATH} bytes, without NUL"
    raise OptionError(path, "socket_path", expected)


def read_format(value: object) -> str:
    """Return the name of the format."""
    if isinstance(value, str) and value in FORMATS:
        return value
    raise OptionError(value, "format", " or ".join(map(repr, FORMATS)))


def read_prefix(prefix: object) -> str:
    """Return what all names begin with, without a dot at the end."""
    if isinstance(prefix, str):
        text = prefix.rstrip(".")
        if not prefix or (len(text) <= _PREFIX_LENGTH and _PREFIX.fullmatch(text)):
            return text
    expected = f"at most {_PREFIX_LENGTH} characters, of A-Z, a-z, 0-9, '_', '-' and single dots"
    raise OptionError(prefix, "prefix", expected)


def read_tags(tags: object) -> dict[str, str]:
    """Return the global tags as text."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping) or not all(map(_is_tag, tags.items())):
        expected = "a mapping of names to text or numbers, none of them empty"
        raise OptionError(tags, "tags", expected)
    return {name: str(value) for name, value in tags.items()}


def _is_tag(tag: tuple[object, object]) -> bool:
    name, value = tag
    if not isinstance(name, str) or not name or isinstance(value, bool):
        return False
    return bool(value) if isinstance(value, str) else isinstance(value, (int, float))


def read_interval(interval: object) -> float:
    """Return the seconds between two looks at the store."""
    if (
        isinstance(interval, (int, float))
        and not isinstance(interval, bool)
        and SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL
    ):
        return float(interval)
    expected = f"seconds between {SHORTEST_INTERVAL} and {LONGEST_INTERVAL:,.0f}"
    raise OptionError(interval, "interval", expected)


def is_rate(rate: object) -> bool:
    """Whether this is a sample rate: more than 0, and at most 1."""
    return (
        isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 < rate <= 1
    )


def read_sample_rate(rate: object) -> float | None:
    """Return how many lines there are to a value, or None."""
    if rate is None:
        return None
    if isinstance(rate, (int, float)) and is_rate(rate):
        return float(rate)
    raise OptionError(rate, "sample_rate", "more than 0 and at most 1, or None")
