"""The wire of the fake provider: HTTP/1.1 on loopback, nothing about models."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit

from llmevents.testing._provider_payloads import Content, error
from llmevents.testing._provider_replies import RefusedError


MAX_BODY_BYTES = 4 * 1024 * 1024
_MAX_DISCARDED_BYTES = 16 * MAX_BODY_BYTES
_BLOCK_BYTES = 64 * 1024
_POLL_SECONDS = 0.02  # how long stop() may wait for the accept loop
_JOIN_SECONDS = 5.0


class Receipt(Protocol):
    """Is told how far an answer got, before a client can know."""

    def wrote(self, pieces: int) -> None:
        """Note that the status and so many pieces are out; 0: nothing is."""

    def dropped(self) -> None:
        """Note that the provider closes the connection before the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it arrived.

    Attributes:
        method: ``"GET"`` or ``"POST"``.
        path: Path without the query, which may hold a secret.
        authorization: Value of the header.
        body: The bytes, or why they were not read.
    """

    method: str
    path: str
    authorization: str
    body: bytes | RefusedError = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is written back, how fast, and how far."""

    status: int
    headers: Mapping[str, str]
    content: Content
    delay_seconds: float
    chunk_delay_seconds: float
    drop_after: int | None
    receipt: Receipt


class ProviderServer(ThreadingHTTPServer):
    """A server that ends with all of its connections and threads.

    Args:
        respond: Called for each request, in the thread of its connection.
        port: 0 takes any that is free.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, respond: Callable[[Request], Answer], port: int) -> None:
        self.respond = respond
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[Any] = set()
        self._serving: list[threading.Thread] = []
        super().__init__(("127.0.0.1", port), _Handler)
        self._accepting = threading.Thread(
            target=self.serve_forever,
            args=(_POLL_SECONDS,),
            name="llmevents-fake-provider",
            daemon=True,
        )
        self._accepting.start()

    def server_bind(self) -> None:
        """Bind without the name look-up that `HTTPServer` does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # the types of socketserver
        """Serve a connection in a thread that `close` can find."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="llmevents-fake-provider-connection",
            daemon=True,
        )
        with self._lock:
            self._connections.add(request)
            self._serving = [known for known in self._serving if known.is_alive()]
            thread.start()
            self._serving.append(thread)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  # the types of socketserver
        """Forget the connection before its descriptor can be reused."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Interrupt what is being served and wait for all threads to end."""
        self.stopping.set()
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._serving:
            thread.join(_JOIN_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, writes answers, logs nothing."""

    server: ProviderServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve until one side closes; a client that went away is no error."""
        with contextlib.suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        """Answer a request."""
        self._respond()

    def do_POST(self) -> None:
        """Answer a request."""
        self._respond()

    def _respond(self) -> None:
        body = self._read_body()
        if body is None:
            self.close_connection = True
            return
        request = Request(
            method=self.command,
            path=urlsplit(self.path).path,
            authorization=self.headers.get("Authorization", ""),
            body=body,
        )
        self._deliver(self.server.respond(request))

    def _read_body(self) -> bytes | RefusedError | None:
        """Read what Content-Length announces; None: the client went away."""
        stated = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            msg = "A chunked request body is not supported; send Content-Length."
            return RefusedError(HTTPStatus.LENGTH_REQUIRED, msg)
        if not re.fullmatch(r"[0-9]{1,18}", stated):
            self.close_connection = True
            msg = "Content-Length must be a number of bytes."
            return RefusedError(HTTPStatus.BAD_REQUEST, msg)
        length = int(stated)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            self._discard(length)
            msg = f"The request body is larger than {MAX_BODY_BYTES} bytes."
            return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, msg)
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _discard(self, length: int) -> None:
        """Read a body away: a client that is still sending hears no answer."""
        left = min(length, _MAX_DISCARDED_BYTES)
        while left and (block := self.rfile.read(min(left, _BLOCK_BYTES))):
            left -= len(block)

    def _deliver(self, answer: Answer) -> None:
        """Write an answer; hang up if it is not to get out as a whole."""
        count = len(answer.content.pieces)
        limit = count
        if answer.drop_after is not None:
            limit = min(answer.drop_after, count - 1)
        if self._write_pieces(answer, limit) < count:
            answer.receipt.dropped()
            self.close_connection = True

    def _write_pieces(self, answer: Answer, limit: int) -> int:
        """Write up to *limit* pieces; return how many before the server stopped."""
        pieces = answer.content.pieces
        for written, piece in enumerate(pieces[:limit]):
            if self._interrupted(answer, first=written == 0):
                return written
            answer.receipt.wrote(written + 1)
            try:
                if written == 0:
                    self._start(answer)
                last = written + 1 == len(pieces)
                self.wfile.write(self._frame(answer, piece, last=last))
            except OSError:
                answer.receipt.wrote(written)
                raise
        return limit

    def _interrupted(self, answer: Answer, *, first: bool) -> bool:
        """Wait as the answer says; True as soon as the server is stopped."""
        delay = answer.delay_seconds if first else answer.chunk_delay_seconds
        return self.server.stopping.wait(min(delay, threading.TIMEOUT_MAX))

    def _start(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content.content_type)
        for name, header in answer.headers.items():
            self.send_header(name, header)
        if self._is_chunked(answer):
            self.send_header("Transfer-Encoding", "chunked")
        else:
            length = sum(map(len, answer.content.pieces))
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _is_chunked(self, answer: Answer) -> bool:
        """HTTP/1.0 has no chunks; it gets the events with a Content-Length."""
        return answer.content.chunked and self.request_version == "HTTP/1.1"

    def _frame(self, answer: Answer, piece: bytes, *, last: bool) -> bytes:
        """Make a chunk (RFC 9112, section 7.1).

        The end mark goes out with the last chunk: a client may hang up once it has
        read the last event.
        """
        if not self._is_chunked(answer):
            return piece
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        return chunk + b"0\r\n\r\n" if last else chunk

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Refuse what http.server itself does not understand, as OpenAI would."""
        del explain
        refused = RefusedError(code, message or HTTPStatus(code).phrase)
        content = error(refused.reply)
        body = b"".join(content.pieces)
        self.close_connection = True
        self.request_version = self.protocol_version  # 0.9 would get no status
        self.send_response(code)
        self.send_header("Content-Type", content.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def version_string(self) -> str:
        """Tell nothing about the host."""
        return "llmevents-fake-provider"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # name set by http.server
        """Log nothing: requests may hold secrets, and tests own stderr."""
