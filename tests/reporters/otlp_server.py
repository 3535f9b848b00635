"""An OTLP/HTTP endpoint on loopback that does what a script says, then behaves."""

from __future__ import annotations

import gzip
import secrets
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)


SECONDS = 30.0
"""Long enough for a busy machine; it only runs out where something is broken."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to do with a request.

    Attributes:
        status: The answer's; records of a 2xx are taken.
        headers: Of the answer.
        body: Likewise.
        hang: Whether no answer ever comes.
        drip: Seconds between two bytes of the answer; 0 for all at once.
        reset: Whether the connection is closed instead.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: bool = False
    drip: float = 0.0
    reset: bool = False


OK = Answer()
HANG = Answer(hang=True)

_MESSAGES: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


def _records(path: str, message: object) -> list[Any]:
    found = []
    for resource in getattr(message, f"resource_{_ONE[path]}s"):
        for scope in getattr(resource, f"scope_{_ONE[path]}s"):
            found += getattr(scope, _MANY[path])
    return found


_ONE = {"/v1/traces": "span", "/v1/metrics": "metric", "/v1/logs": "log"}
_MANY = {"/v1/traces": "spans", "/v1/metrics": "metrics", "/v1/logs": "log_records"}


class OTLPServer:
    """The endpoint.

    Attributes:
        url: Its base URL.
        script: Answers to come; then all requests are taken.
        decide: Asked for an answer if the script is at its end.
        taken: Records of requests that were answered with 2xx, by path.
        requests: Path and headers of every request, also of those that failed.
        clients: Addresses that requests came from, one per connection.
        messages: Every message that was taken, by path.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.script: deque[Answer] = deque()
        self.decide: Callable[[list[Any]], Answer] = lambda _: OK
        self.taken: dict[str, list[Any]] = {path: [] for path in _MESSAGES}
        self.messages: dict[str, list[Any]] = {path: [] for path in _MESSAGES}
        self.clients: set[object] = set()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
            self.url = f"https://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(SECONDS)

    @property
    def spans(self) -> list[Any]:
        """The spans that were taken."""
        return self.taken["/v1/traces"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: OTLPServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away in the middle are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
        """Say nothing."""

    def do_POST(self) -> None:
        owner = cast("_Server", self.server).owner
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        # A proxy gets the whole URL.
        path = urlsplit(self.path).path
        owner.clients.add(self.client_address)
        owner.requests.append((self.path, dict(self.headers)))
        message = _MESSAGES[path].FromString(body)
        records = _records(path, message)
        answer = owner.script.popleft() if owner.script else owner.decide(records)
        if answer.hang:
            owner.ended.wait(SECONDS)
        if answer.hang or answer.reset:
            self.close_connection = True
            return
        if 200 <= answer.status < 300:
            owner.taken[path] += records
            owner.messages[path].append(message)
        self._answer(answer, owner)

    def _answer(self, answer: Answer, owner: OTLPServer) -> None:
        head = [f"HTTP/1.1 {answer.status} Whatever"]
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        head += [f"{name}: {value}" for name, value in headers.items()]
        data = "\r\n".join(head).encode() + b"\r\n\r\n" + answer.body
        if not answer.drip:
            self.wfile.write(data)
            return
        with suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                if owner.ended.wait(answer.drip):
                    break


@contextmanager
def otlp_server(
    *script: Answer, tls: ssl.SSLContext | None = None
) -> Iterator[OTLPServer]:
    """Run an endpoint that answers by *script* first."""
    server = OTLPServer(tls=tls)
    server.script.extend(script)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def unused_port() -> int:
    """Return a port of loopback where nobody listens.

    It is below those that a system gives to who asks for any: these are given to
    another process as soon as they are free (Linux and IANA begin at 32768 and 49152).
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)
