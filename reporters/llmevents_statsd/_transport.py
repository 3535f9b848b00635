"""The socket: datagrams to a host or to a path, never waiting for either."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, TypeAlias


Address: TypeAlias = tuple[int, Any]
"""Family, and what a socket of it connects to."""

_REASONS = {
    errno.EAGAIN: "would_block",
    errno.EWOULDBLOCK: "would_block",
    errno.ENOBUFS: "no_buffers",
    errno.EMSGSIZE: "too_long",
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "refused",
    errno.ENOENT: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.ECANCELED: "stopped",
}

BUSY = frozenset({"would_block", "no_buffers"})
"""Reasons that pass by themselves, and soon."""

TOO_LONG = "too_long"
"""The network takes smaller datagrams only; the socket is in order."""


def reason_of(error: OSError) -> str:
    """Return why a packet was not sent, in a word."""
    if isinstance(error, socket.gaierror):
        return "unresolved"
    return _REASONS.get(error.errno or 0, "send_error")


class Transport:
    """A connected datagram socket, opened when it is first needed.

    Connected, because only then a socket hears that nobody listens at the other end.
    The host's name is resolved at each opening; where there are several addresses,
    each opening takes the next, IPv4 first, as most servers listen there only.
    """

    def __init__(self, host: str, port: int, path: str | None) -> None:
        self._host = host
        self._port = port
        self._path = path
        self._socket: socket.socket | None = None
        self._openings = 0
        self._is_cancelled = False

    def __str__(self) -> str:
        if self._path is not None:
            return repr(self._path)
        return f"{self._host!r}, port {self._port}"

    def cancel(self) -> None:
        """Let nothing be sent any more. May be called by any thread."""
        self._is_cancelled = True

    def send(self, data: bytes) -> None:
        """Send one datagram.

        Raises:
            OSError: It was not sent; or it was, and this or an earlier one refused.
        """
        opened = self._socket
        if opened is None:
            opened = self._socket = self._open()
        if self._is_cancelled:
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        opened.send(data)
        self.check()

    def check(self) -> None:
        """Raise the error that has come in since the last datagram was sent.

        On loopback a refusal is there at once, from elsewhere it takes a round trip.

        Raises:
            OSError: There was one.
        """
        if self._socket is not None:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Close the socket; the next datagram opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        addresses = self._addresses()
        family, address = addresses[self._openings % len(addresses)]
        self._openings += 1
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)  # noqa: FBT003  # it takes no keyword
            opened.connect(address)
        except BaseException:
            opened.close()
            raise
        return opened

    def _addresses(self) -> list[Address]:
        if self._path is not None:
            return [(socket.AF_UNIX, self._path)]
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except UnicodeError as error:  # no name of a host, by the rules for names
            raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
        addresses = [(family, address) for family, _, _, _, address in found]
        return sorted(addresses, key=lambda each: each[0] != socket.AF_INET)
