"""Servers and clients of ASGI and WSGI applications, written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from llmevents.testing import CapturedEvent, CapturedEvents


Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Scope: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
WSGIApp: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
LAST: Message = {"type": "http.response.body", "body": b"done"}
PART: Message = {"type": "http.response.body", "body": b"part", "more_body": True}


def scope_of(
    path: str = "/chat",
    *,
    method: str = "GET",
    query: str = "",
    headers: Iterable[tuple[str, str]] = (),
) -> Scope:
    """Return the scope of a request, as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }


class Client:
    """One request, and what the application sent."""

    def __init__(self, app: App, scope: Scope | None = None) -> None:
        self.app = app
        self.scope = scope_of() if scope is None else scope
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self._asked = False

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        self.sent.append(message)

    async def run(self) -> list[Message]:
        await self.app(self.scope, self.receive, self.send)
        return self.sent


def ask(app: App, scope: Scope | None = None) -> list[Message]:
    """Send one request and return the response's messages."""

    async def main() -> list[Message]:
        return await Client(app, scope).run()

    return asyncio.run(main())


def environ_of(
    path: str = "/chat",
    *,
    method: str = "GET",
    query: str = "",
    **more: Any,  # noqa: ANN401  # as servers do
) -> dict[str, Any]:
    """Return the environment of a request, as a server makes it."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        **more,
    }


class Server:
    """A WSGI server for one request after the other.

    Attributes:
        statuses: What `start_response` was told.
        body: What was read.
        closed: Whether the response could be closed.
    """

    def __init__(self, app: WSGIApp) -> None:
        self.app = app
        self.statuses: list[str] = []
        self.body: list[bytes] = []
        self.closed = False

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,  # noqa: ANN401
    ) -> Callable[[bytes], object]:
        if exc_info is not None and self.body:
            raise exc_info[1].with_traceback(exc_info[2])
        self.statuses.append(status)
        return self.body.append

    def run(
        self, environ: dict[str, Any] | None = None, *, most: int | None = None
    ) -> list[bytes]:
        """Answer a request; read at most so many parts of the response."""
        response = self.app(environ or environ_of(), self.start_response)
        try:
            for part in response:
                self.body.append(part)
                if len(self.body) == most:
                    break
        finally:
            close = getattr(response, "close", None)
            if close is not None:
                self.closed = True
                close()
        return self.body


def terminal(events: CapturedEvents) -> CapturedEvent:
    """Return the terminal event of the only request."""
    names = [
        event.name
        for event in events.named("http.server.request.*")
        if not event.name.endswith("chunk")
    ]
    assert len(names) == 2, names
    assert names[0] == "http.server.request.start"
    return events.named(names[1])[0]
