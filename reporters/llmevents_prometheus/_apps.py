"""The page as an application: WSGI, ASGI, and who may see it."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from ipaddress import ip_address
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, make_wsgi_app


WSGIApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""``(environ, start_response)`` to the body, as in PEP 3333."""

ASGIApp: TypeAlias = Callable[
    [Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]],
    Coroutine[Any, Any, None],
]
"""``(scope, receive, send)``, as in ASGI 3.0."""

PATH = "/metrics"


def metrics_app(registry: CollectorRegistry, token: bytes | None) -> WSGIApp:
    """Return an application that serves *registry* to those who have *token*."""
    serve: WSGIApp = make_wsgi_app(registry)
    if token is None:
        return serve

    def guarded(
        environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if _has_token(environ.get("HTTP_AUTHORIZATION", ""), token):
            return serve(environ, start_response)
        challenge = ("WWW-Authenticate", "Bearer")
        return _refuse(
            start_response, "401 Unauthorized", "a token is needed", challenge
        )

    return guarded


def own_page(app: WSGIApp, *, check_host: bool) -> WSGIApp:
    """Return *app* at ``/metrics`` and nothing elsewhere.

    Args:
        app: The application.
        check_host: Whether to serve only those who asked for this machine by a name
            that can mean nothing else. A page in a browser may make its own name
            resolve to 127.0.0.1, and would get here with that name.
    """

    def page(
        environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if check_host and not _is_local(environ.get("HTTP_HOST", "localhost")):
            text = "ask for localhost, 127.0.0.1 or [::1], or use a token"
            return _refuse(start_response, "403 Forbidden", text)
        if environ["PATH_INFO"] != PATH:
            return _refuse(start_response, "404 Not Found", f"metrics are at {PATH}")
        return app(environ, start_response)

    return page


def to_asgi(app: WSGIApp) -> ASGIApp:
    """Return *app* for ASGI. It runs in a thread, so that the loop goes on meanwhile.

    ``prometheus_client.make_asgi_app`` writes the page in the event loop, where
    10,000 series keep everybody else waiting for a tenth of a second.
    """

    async def serve(
        scope: Any,  # noqa: ANN401  # as ASGI has it
        receive: Callable[[], Awaitable[Any]],  # noqa: ARG001  # a scrape has no body
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        import asyncio

        status, headers, body = await asyncio.get_running_loop().run_in_executor(
            None, _call, app, _environ(scope)
        )
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body})

    return serve


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach *address*. Resolves no names."""
    if address.lower() == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _has_token(header: str, token: bytes) -> bool:
    scheme, _, given = header.partition(" ")
    # Servers decode headers as Latin-1 (PEP 3333); of text, compare_digest takes
    # ASCII only.
    same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token)
    return same and scheme.lower() == "bearer"


def _is_local(host: str) -> bool:
    """Return whether a Host header, perhaps with a port, names this machine."""
    if host.startswith("["):
        return is_loopback(host[1:].partition("]")[0])
    return is_loopback(host.partition(":")[0])


def _refuse(
    start_response: Callable[..., Any],
    status: str,
    text: str,
    *headers: tuple[str, str],
) -> list[bytes]:
    plain = ("Content-Type", "text/plain; charset=utf-8")
    start_response(status, [plain, *headers])
    return [f"{text}\n".encode()]


def _call(
    app: WSGIApp, environ: dict[str, Any]
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of the response to one request."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    body = b"".join(app(environ, lambda *head: started.append(head)))
    ((status, headers),) = started
    encoded = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers
    ]
    length = (b"content-length", str(len(body)).encode())
    return int(status.split()[0]), [*encoded, length], body


def _environ(scope: Any) -> dict[str, Any]:  # noqa: ANN401  # as ASGI has it
    """Return as much of a WSGI environment as the application reads."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").upper(), []).append(
            value.decode("latin-1")
        )
    return {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": scope["path"],
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        **{
            f"HTTP_{name.replace('-', '_')}": ",".join(values)
            for name, values in headers.items()
        },
    }
