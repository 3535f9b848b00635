"""A small HTTP server for one page, in threads that end when they are told to."""

from __future__ import annotations

import io
import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from errno import EACCES, EADDRINUSE
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from llmevents import OptionError
from llmevents.reporting import reset_after_fork
from llmevents_prometheus._apps import PATH


if TYPE_CHECKING:
    from typing import IO

    from llmevents_prometheus._apps import WSGIApp

MAX_CONNECTIONS = 32
"""At once. Each has a thread."""

MAX_HEAD = 16 * 1024
"""Bytes of a request's first line and headers."""

READ_SECONDS = 10.0
"""For all of a request, however it trickles in."""

WRITE_SECONDS = 30.0
"""For all of a response. Prometheus gives up after 10 s unless told otherwise."""

RETRY_SECONDS = 0.1
"""Pause after a connection could not be accepted, for want of descriptors mostly."""


class MetricsServer(WSGIServer):
    """Serves an application from when it is made until it is told to stop.

    Args:
        app: What to serve.
        address: Where to listen: an address or a name of this machine.
        port: Likewise; 0 for any.
        shared: Whether other processes may listen there as well, as far as the
            system has that (``SO_REUSEPORT``).

    Raises:
        OptionError: It cannot listen there.
    """

    timeout = 0
    # On Windows the option would let two programs have one port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 2 * MAX_CONNECTIONS

    def __init__(self, app: WSGIApp, address: str, port: int, *, shared: bool) -> None:
        self._shared = shared
        self._address = address
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="llmevents-prometheus", daemon=True
        )
        self.address_family, found = _resolve(address, port)
        try:
            super().__init__(found, _Handler)
        except OSError as error:
            raise _cannot_listen(error, address, port) from error
        self.socket.settimeout(0)
        self.set_app(app)
        try:
            self._sleeper, self._waker = socket.socketpair()
        except OSError:
            self.server_close()
            raise
        try:
            self._thread.start()
        except RuntimeError:
            self._close()
            raise
        # A child that outlives its parent would otherwise keep the port, and nobody
        # would answer there.
        reset_after_fork(self)

    @property
    def port(self) -> int:
        """The port."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self.port}{PATH}"

    def stop(self, timeout: float) -> None:
        """Stop listening, let answers be finished, and end within *timeout* seconds."""
        deadline = time.monotonic() + max(0.0, timeout)
        self._stopping.set()
        with suppress(OSError):
            self._waker.send(b"\0")
        self._thread.join(_remaining(deadline))
        self._shut_connections(socket.SHUT_RD)
        for thread in list(self._connections.values()):
            thread.join(_remaining(deadline))
        self._shut_connections(socket.SHUT_RDWR)

    def after_fork_in_child(self) -> None:
        """Close what a forked child has got from its parent, which goes on with it."""
        for inherited in (self.socket, self._sleeper, self._waker, *self._connections):
            with suppress(OSError):
                inherited.close()

    # What follows is called by the base classes.

    def server_bind(self) -> None:
        """Bind, without asking the network what this machine is called."""
        if self._shared and hasattr(socket, "SO_REUSEPORT"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        TCPServer.server_bind(self)
        self.server_name = self._address
        self.server_port = self.port
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError:
            self._stopping.wait(RETRY_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as in the base class
        """Answer in a thread, if there are not too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self.shutdown_request(request)
            return
        thread = threading.Thread(
            target=self._answer,
            args=(request, client_address),
            name="llmevents-prometheus-scrape",
            daemon=True,
        )
        self._connections[request] = thread
        try:
            thread.start()
        except RuntimeError:
            self._end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as in the base class
        """Print nothing: a scraper that goes away is no news for the host."""

    def _answer(self, request: socket.socket, client_address: Any) -> None:  # noqa: ANN401  # depends on the family
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001  # sockets, and collectors of the user
            self.handle_error(request, client_address)
        finally:
            self._end(request)

    def _end(self, request: socket.socket) -> None:
        self.shutdown_request(request)
        self._connections.pop(request, None)

    def _shut_connections(self, how: int) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(how)

    def _run(self) -> None:
        # Not epoll: its descriptor would be shared with forked children.
        with _Selector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._sleeper, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                self.handle_request()
        self._close()

    def _close(self) -> None:
        self.server_close()
        self._sleeper.close()
        self._waker.close()


class _Handler(WSGIRequestHandler):
    """Answers one request on one connection."""

    def handle(self) -> None:
        """Read the head within bounds, and let the application answer."""
        self.rfile.close()
        self.requestline = self.request_version = self.command = ""
        head = _read_head(self.connection)
        self.connection.settimeout(WRITE_SECONDS)
        if len(head) > MAX_HEAD:
            self.send_error(431)
            return
        self.rfile = io.BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        if self.parse_request():
            self._respond()

    def send_header(self, keyword: str, value: str) -> None:
        """Send a header, unless it says what software this is."""
        if keyword != "Server":
            super().send_header(keyword, value)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Print nothing."""

    def _respond(self) -> None:
        server = cast("MetricsServer", self.server)
        body, errors = io.BytesIO(), io.StringIO()
        response = _Response(
            body, cast("IO[bytes]", self.wfile), errors, self.get_environ()
        )
        response.run(cast("WSGIApp", server.get_app()))


class _Response(SimpleHandler):
    """Writes what the application returns."""

    os_environ: dict[str, str] = {}  # noqa: RUF012  # the base class's; read only

    def log_exception(self, exc_info: object) -> None:
        """Print nothing; the scraper gets to see that it failed."""


_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


def _read_head(connection: socket.socket) -> bytes:
    """Return all up to the first empty line, or what has come when time is up."""
    deadline = time.monotonic() + READ_SECONDS
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) <= MAX_HEAD:
        connection.settimeout(max(0.001, _remaining(deadline)))
        try:
            more = connection.recv(4096)
        except OSError:
            return b""
        if not more:
            break
        head += more
    return head


def _remaining(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _resolve(address: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise _cannot_listen(error, address, port) from error
    family, _, _, _, sockaddr = found[0]
    return family, sockaddr


def _cannot_listen(error: OSError, address: str, port: int) -> OptionError:
    if error.errno == EADDRINUSE:
        expected = (
            f"one that nobody listens on at {address}; pass 0 for any that is free"
        )
        return OptionError(port, "port", expected)
    if error.errno == EACCES:
        expected = "one that this process may listen on; pass one above 1023"
        return OptionError(port, "port", expected)
    return OptionError(address, "address", f"one of this machine ({error})")


# --- Forks -------------------------------------------------------------------------
