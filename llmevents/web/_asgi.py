"""The middleware for ASGI applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

from llmevents._context import context as ambient_context
from llmevents._scope import span
from llmevents.web._request import (
    PREFIX,
    SERVER_ERROR,
    ContextOf,
    Facts,
    Settings,
    outcome,
    route_of,
)


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._span import Span

# As the ASGI specification has them (version 3.0, "Applications").
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[
    [MutableMapping[str, Any], Receive, Send], Awaitable[None]
]


class ASGIMiddleware:
    """Gives each HTTP request of an ASGI application a span and a context.

    The span ``http.server.request`` is current in the application: calls of models
    are its children, in tasks and in Starlette's and FastAPI's threads too. It ends
    when the last part of the response was sent, so that background tasks are not in
    its duration; with a server error, when the application returns or raises. A
    client that goes away before that is a stop with ``status="cancelled"``. Errors
    of the application propagate unchanged. Websockets, lifespan and whatever else is
    no HTTP request are passed on untouched, and so is each message. Bodies and
    headers are not recorded. Incoming ``traceparent`` and ``baggage`` are left to
    OpenTelemetry.

    Args:
        app: The application.
        context: Returns context for a request's scope, or None. It wins over the
            others; an exception from it is counted in ``stats()["refused_values"]``.
        headers: Header -> key of the context: ``{"X-User-Id": "user_id"}``.
        query: Parameter of the query -> key of the context.
        from_parameter: The parameter that `parse_from` reads, or None. What a client
            says there is no more than a claim.
        bus: Where to emit; the default bus unless given.

    Raises:
        OptionError: *headers* or *query* do not map text to text, or *context* is a
            coroutine function.
    """

    __slots__ = ("_app", "_settings")

    def __init__(
        self,
        app: ASGIApp,
        *,
        context: ContextOf | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        from_parameter: str | None = "from",
        bus: Bus | None = None,
    ) -> None:
        self._app = app
        self._settings = Settings(
            bus=bus,
            headers=headers,
            query=query,
            from_parameter=from_parameter,
            context=context,
        )

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """Run the application for one connection."""
        if scope["type"] != "http" or self._settings.disabled:
            await self._app(scope, receive, send)
            return
        values = self._context_of(scope)
        # The first context of a process makes every emission look for one.
        with ambient_context(values) if values else nullcontext():
            await self._run(scope, receive, send)

    async def _run(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        if not self._settings.is_heard():
            await self._app(scope, receive, send)
            return
        facts = Facts(scope["method"], scope.get("scheme", "http"), scope["path"])
        with span(PREFIX, facts.metadata(), bus=self._settings.bus) as started:
            response = _Response(started, scope, receive, send)
            try:
                await self._app(scope, response.receive, response.send)
            except BaseException:
                response.failed()
                raise
            response.returned()

    def _context_of(self, scope: MutableMapping[str, Any]) -> dict[str, Any]:
        query = bytes(scope.get("query_string", b"")).decode("latin-1")
        wanted = self._settings.headers
        found: dict[str, str] = {}
        if wanted:
            for name, value in scope["headers"]:
                key = wanted.get(bytes(name).decode("latin-1").lower())
                if key is not None:
                    found.setdefault(key, bytes(value).decode("utf-8", "replace"))
        return self._settings.context_of(scope, query, found)


class _Response:
    """One response on its way, and the span that waits for its end."""

    __slots__ = (
        "_complete",
        "_gone",
        "_receive",
        "_scope",
        "_send",
        "_span",
        "_status",
        "_trailers",
    )

    def __init__(
        self,
        started: Span,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        self._span = started
        self._scope = scope
        self._receive = receive
        self._send = send
        self._status: int | None = None
        self._trailers = False
        self._complete = False
        self._gone = False

    async def receive(self) -> Message:
        """Pass a message of the client on."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a message of the application on."""
        await self._send(message)
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            self._trailers = bool(message.get("trailers"))
        elif kind == "http.response.body" and message.get("body"):
            self._span.chunk()
        if self._is_last(kind, message):
            self._complete = True
            # After a server error the exception that led to it may be raised again.
            if self._status is None or self._status < SERVER_ERROR:
                self._span.stop(metadata=self._outcome())

    def returned(self) -> None:
        """Say what is known now that the application is done; the block ends the span."""
        if self._span.is_open:
            self._span.annotate(**self._outcome())
            if self._gone and not self._complete:
                self._span.cancel()

    def failed(self) -> None:
        """Say what is known although the application failed."""
        if self._span.is_open:
            self._span.annotate(**self._outcome())

    def _is_last(self, kind: str, message: Message) -> bool:
        """Whether nothing of the response comes after *message*.

        ASGI, HTTP and WebSocket specification 2.5 and its extensions "HTTP Trailers",
        "Path Send" and "Zero Copy Send".
        """
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        if self._trailers:
            return False
        if kind in {"http.response.body", "http.response.zerocopysend"}:
            return not message.get("more_body", False)
        return bool(kind == "http.response.pathsend")

    def _outcome(self) -> dict[str, Any]:
        # FastAPI leaves the route in the scope; Starlette itself does not.
        route = self._scope.get("route")
        return outcome(self._status, route_of(route, "path"))
