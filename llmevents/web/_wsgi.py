"""The middleware for WSGI applications."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from llmevents._context import Enclave, when_lost
from llmevents._context import context as ambient_context
from llmevents._span import start_span
from llmevents.web._request import (
    PREFIX,
    ContextOf,
    Facts,
    Settings,
    outcome,
    route_of,
)


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._span import Span

# As PEP 3333 has them: the environment is the server's, `start_response` takes an
# optional third argument.
Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, Any], Iterable[bytes]]


class WSGIMiddleware:
    """Gives each request of a WSGI application a span and a context.

    The span ``http.server.request`` and the context are in place while the
    application is called, and inside each step of the response that it returns, not
    in between: calls of models there are children of the span. It ends with the last
    part of the response. A response that the server closes before, other than one to
    a HEAD request, is a stop with ``status="cancelled"``, as is one that it loses. An
    error propagates unchanged; one that the application hands to
    ``start_response(..., exc_info)`` is the span's error too. Lists, tuples and the
    server's own ``wsgi.file_wrapper`` are returned as they are, and end the span
    there and then. Bodies and headers are not recorded.

    Args:
        app: The application: of Flask, ``app.wsgi_app = WSGIMiddleware(app.wsgi_app)``.
        context: Returns context for a request's environment, or None. It wins over
            the others; an exception from it is counted in
            ``stats()["refused_values"]``.
        headers: Header -> key of the context: ``{"X-User-Id": "user_id"}``.
        query: Parameter of the query -> key of the context.
        from_parameter: The parameter that `parse_from` reads, or None. What a client
            says there is no more than a claim.
        bus: Where to emit; the default bus unless given.

    Raises:
        OptionError: *headers* or *query* do not map text to text, or *context* is a
            coroutine function.

    Examples:
        >>> from llmevents.testing import capture
        >>> from llmevents.web import WSGIMiddleware
        >>> def app(environ, start_response):
        ...     start_response("200 OK", [])
        ...     return [b"hello"]
        >>> app = WSGIMiddleware(app, headers={"X-User-Id": "user_id"})
        >>> with capture("http.server.request.stop") as events:
        ...     environ = {"REQUEST_METHOD": "GET", "HTTP_X_USER_ID": "u-1"}
        ...     app(environ, lambda status, headers: None)
        [b'hello']
        >>> events[0].metadata["http_status"], events[0].metadata["user_id"]
        (200, 'u-1')
    """

    __slots__ = ("_app", "_headers", "_settings")

    def __init__(
        self,
        app: WSGIApp,
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
        # RFC 3875, section 4.1.18.
        self._headers = {
            "HTTP_" + name.upper().replace("-", "_"): key
            for name, key in self._settings.headers.items()
        }

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        if self._settings.disabled:
            return self._app(environ, start_response)
        values = self._context_of(environ)
        if not values and not self._settings.is_heard():
            return self._app(environ, start_response)
        # The first context of a process makes every emission look for one.
        with ambient_context(values) if values else nullcontext():
            facts = Facts(
                environ.get("REQUEST_METHOD", ""),
                environ.get("wsgi.url_scheme", ""),
                _text(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")),
            )
            started = start_span(PREFIX, facts.metadata(), bus=self._settings.bus)
            return _Request(environ, started).answer(self._app, environ, start_response)

    def _context_of(self, environ: Environ) -> dict[str, Any]:
        found = {
            key: _text(environ[name])
            for name, key in self._headers.items()
            if name in environ
        }
        query = environ.get("QUERY_STRING", "")
        return self._settings.context_of(environ, query, found)


class _Request:
    """One request under way, and the context that it is worked on in.

    Made within the request's ambient context, which the enclave takes along. It does
    not keep the environment, which may lead to the response and keep that alive.

    Attributes:
        span: The request's.
        has_no_body: Whether a server may close the response without having read it.
    """

    __slots__ = ("_enclave", "_route", "_status", "has_no_body", "span")

    def __init__(self, environ: Environ, started: Span) -> None:
        self.span = started
        self.has_no_body = environ.get("REQUEST_METHOD") == "HEAD"
        self._enclave = Enclave(started)
        self._status: int | None = None
        self._route: str | None = None

    def answer(
        self, app: WSGIApp, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Return the application's response, watched where it is still to come."""
        watching = self._watching(environ, start_response)
        result: Iterable[bytes] = self.step(app, environ, watching)
        if _is_whole(result, environ.get("wsgi.file_wrapper")):
            self.end(self.span.stop)
            return result
        kind = _SizedBody if hasattr(type(result), "__len__") else _Body
        return kind(result, self)

    # Whatever a function of the application takes and returns.
    def step(self, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        """Call a function of the application within the request's context.

        An exception ends the span and is raised, except for the end of an iteration.
        """
        try:
            with self._enclave:
                return function(*args)
        except StopIteration:
            raise
        except BaseException as error:
            self.end(partial(self.span.leave, error))
            raise

    def end(self, how: Callable[[], object]) -> None:
        """End the span within the request's context, unless it has ended."""
        if self.span.is_open:
            self.span.annotate(**outcome(self._status, self._route))
            self._enclave.run(how)

    def _watching(
        self, environ: Environ, start_response: StartResponse
    ) -> StartResponse:
        """Return *start_response*, from which the status is learnt as well."""

        # Any further arguments, so that what is wrong with them is the server's to say.
        def start(*args: Any, **kwargs: Any) -> Callable[[bytes], object]:  # noqa: ANN401
            write = start_response(*args, **kwargs)
            self._status = _code(args)
            # Flask's request; Flask takes it out when the application has returned.
            request = environ.get("werkzeug.request")
            self._route = route_of(request, "url_rule", "rule")
            error = _error(args, kwargs)
            if error is not None and self.span.is_open:
                # Called by the application, so within its context already.
                self.span.annotate(**outcome(self._status, self._route))
                self.span.fail(error)
            return write

        return start


class _Body:
    """A response that the server reads part by part.

    One that it neither reads to its end nor closes ends the span when it is garbage
    collected.
    """

    __slots__ = ("__weakref__", "_iterator", "_lost", "_request", "_result")

    def __init__(self, result: Iterable[bytes], request: _Request) -> None:
        self._result = result
        self._request = request
        self._iterator: Iterator[bytes] | None = None
        started = request.span
        self._lost = when_lost(self, started, partial(request.end, started.cancel))

    def __iter__(self) -> Iterator[bytes]:
        self._iterator = self._request.step(iter, self._result)
        return self

    def __next__(self) -> bytes:
        try:
            part: bytes = self._request.step(self._pull)
        except StopIteration:
            self._lost.detach()
            self._request.end(self._request.span.stop)
            raise
        return part

    def close(self) -> None:
        """Close the response; the server calls this in any case."""
        span = self._request.span
        self._lost.detach()
        close = getattr(self._result, "close", None)
        if close is not None:
            self._request.step(close)
        self._request.end(span.stop if self._request.has_no_body else span.cancel)

    def _pull(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._result)
        part = next(self._iterator)
        if part:
            self._request.span.chunk()
        return part


class _SizedBody(_Body):
    """One that says how many parts it has; servers ask for it to state its length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._result)  # type: ignore[arg-type]  # chosen where it can


def _is_whole(result: object, wrapper: object) -> bool:
    """Whether the server has all of it, and may look at what it is."""
    kinds = (list, tuple, wrapper) if isinstance(wrapper, type) else (list, tuple)
    return isinstance(result, kinds)


def _code(args: tuple[Any, ...]) -> int | None:
    """Return the code in the status that `start_response` was given."""
    try:
        return int(args[0][:3])
    except (IndexError, TypeError, ValueError):
        return None


def _error(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseException | None:
    """Return the exception that `start_response` was told of."""
    exc_info = args[2] if len(args) > 2 else kwargs.get("exc_info")  # noqa: PLR2004
    error = exc_info[1] if isinstance(exc_info, tuple) else None
    return error if isinstance(error, BaseException) else None


def _text(native: str) -> str:
    """Return a string of the environment as the UTF-8 that it was (PEP 3333)."""
    return native.encode("latin-1", "replace").decode("utf-8", "replace")
