"""HTTP connections with one deadline for everything.

The timeout of requests and urllib3 starts anew at every read: a server that sends one
byte a second is never too slow for it. Here each read of a response gets the time that
is left until the deadline, and another thread can break off the request.
"""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from time import monotonic
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class Deadline:
    """When the request under way has to be over; one request at a time.

    Attributes:
        at: As `time.monotonic` counts.
    """

    __slots__ = ("_socket", "at")

    def __init__(self) -> None:
        self.at = float("inf")
        self._socket: Any = None

    def watch(self, sock: Any) -> None:  # noqa: ANN401  # plain or TLS, both duck-typed
        """Remember the socket that `abort` has to shut."""
        self._socket = sock

    def apply(self, sock: Any) -> None:  # noqa: ANN401  # as above
        """Let the next call on *sock* wait until then, and no longer.

        Raises:
            TimeoutError: There is no time left.
        """
        left = self.at - monotonic()
        if left <= 0:
            msg = "the deadline has passed"
            raise TimeoutError(msg)
        sock.settimeout(min(left, _LONGEST))

    def abort(self) -> None:
        """Break off what goes on at the connection. Safe in any thread."""
        self.at = 0.0
        sock = self._socket
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


_LONGEST = 86_400.0


class _GuardedReader(io.RawIOBase):
    """Reads from a socket, each time with what is left of the time."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:  # noqa: ANN401
        super().__init__()
        self._socket = sock
        self._deadline = deadline
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401  # any buffer
        self._deadline.apply(self._socket)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _GuardedSocket:
    """A socket as `http.client` uses it; everything else is passed on."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:  # noqa: ANN401
        self._guarded = sock
        self._deadline = deadline
        deadline.watch(sock)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  # always "rb"
        return io.BufferedReader(_GuardedReader(self._guarded, self._deadline))

    def sendall(self, data: Any) -> None:  # noqa: ANN401  # any buffer
        self._deadline.watch(self._guarded)
        self._deadline.apply(self._guarded)
        self._guarded.sendall(data)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever it is
        return getattr(self._guarded, name)


class _GuardedHTTP(HTTPConnection):
    deadline: Deadline

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _GuardedSocket(self.sock, self.deadline)


class _GuardedHTTPS(HTTPSConnection):
    deadline: Deadline

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _GuardedSocket(self.sock, self.deadline)


class GuardedAdapter(HTTPAdapter):
    """Makes connections that keep *deadline*, also through proxies."""

    def __init__(self, deadline: Deadline) -> None:
        http = type("_HTTP", (_GuardedHTTP,), {"deadline": deadline})
        https = type("_HTTPS", (_GuardedHTTPS,), {"deadline": deadline})
        self._pools = {
            "http": type("_Pool", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("_Pools", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager
