"""The WSGI middleware: a span for each request, in place only while its code runs."""

from __future__ import annotations

import gc
import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import flask
import pytest
from werkzeug.test import Client as FlaskClient

from llmevents import Bus, context, llm
from llmevents._bus import ambient
from llmevents._context import current_span
from llmevents.testing import CapturedEvents, capture
from llmevents.web import WSGIMiddleware
from tests.web.clients import Server, WSGIApp, environ_of, terminal


JOIN_SECONDS = 60.0
"""Long enough for a busy machine; it only runs out in a deadlock."""


class AppError(Exception):
    """The application is broken."""


def hello(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
    start_response("200 OK", [])
    return [b"hello"]


def ignore(*given: object) -> Callable[[bytes], object]:
    """Start a response that nobody looks at."""
    return bytearray().extend


def giving(*parts: bytes, status: str = "200 OK") -> WSGIApp:
    """Return an application that streams these."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401
        start_response(status, [])
        yield from parts

    return app


class Response:
    """What frameworks return: something to iterate over, and to close."""

    def __init__(self, *parts: bytes, error: Exception | None = None) -> None:
        self.parts = parts
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)

    def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


class Sized(Response):
    def __len__(self) -> int:
        return len(self.parts)


def returning(response: Iterable[bytes]) -> WSGIApp:
    """Return an application that returns *response*."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        start_response("200 OK", [])
        return response

    return app


def test_a_request_is_a_span(bus: Bus, events: CapturedEvents) -> None:
    server = Server(WSGIMiddleware(hello, bus=bus))
    assert server.run(environ_of("/grün", method="POST")) == [b"hello"]
    assert server.statuses == ["200 OK"]
    metadata = terminal(events).metadata
    assert {key: metadata[key] for key in metadata if key != "span_id"} == {
        "http_method": "POST",
        "url_scheme": "http",
        "url_path": "/grün",
        "http_status": 200,
        "scoped": False,
    }


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param([b"a", b"b"], id="list"),
        pytest.param((), id="tuple"),
        pytest.param(FileWrapper(io.BytesIO(b"file")), id="file"),
    ],
)
def test_a_whole_response_is_returned_as_it_is(
    bus: Bus, events: CapturedEvents, whole: Iterable[bytes]
) -> None:
    """Servers look at it: how long it is, or whether the kernel can send it."""
    environ = {**environ_of(), "wsgi.file_wrapper": FileWrapper}
    app = WSGIMiddleware(returning(whole), bus=bus)
    assert app(environ, ignore) is whole
    assert terminal(events).name == "http.server.request.stop"


def test_a_response_that_has_a_length_keeps_it(
    bus: Bus, events: CapturedEvents
) -> None:
    environ = {**environ_of(), "wsgi.file_wrapper": lambda file: file}
    sized: Any = WSGIMiddleware(returning(Sized(b"a")), bus=bus)(environ, ignore)
    plain: Any = WSGIMiddleware(returning(Response(b"a")), bus=bus)(environ, ignore)
    assert len(sized) == 1
    assert not hasattr(plain, "__len__")
    sized.close()
    plain.close()


def test_a_stream_ends_the_span_with_its_last_part(
    bus: Bus, events: CapturedEvents
) -> None:
    response = Response(b"a", b"", b"b")
    server = Server(WSGIMiddleware(returning(response), bus=bus))
    assert server.run() == [b"a", b"", b"b"]
    assert response.closed == 1
    stop = terminal(events)
    assert stop.name == "http.server.request.stop"
    assert stop.measurements["chunks"] == 2
    assert "status" not in stop.metadata


def test_a_response_need_not_have_anything_to_close(
    bus: Bus, events: CapturedEvents
) -> None:
    server = Server(WSGIMiddleware(returning(iter([b"a"])), bus=bus))
    assert server.run() == [b"a"]
    assert server.closed
    assert terminal(events).name == "http.server.request.stop"


def test_the_span_is_current_only_inside_the_steps_of_the_response(
    bus: Bus, events: CapturedEvents
) -> None:
    """In between the thread is the server's, and may be at work for others."""
    inside: list[object] = []
    between: list[object] = []

    def seen() -> tuple[object, object]:
        span = current_span.get()
        return ambient.get(), span and span.span_id

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401
        start_response("200 OK", [])
        for part in (b"a", b"b"):
            inside.append(seen())
            with llm.chat(bus=bus):
                pass
            # Left open over a yield: it stays the generator's own.
            with context(part=part.decode()):
                yield part
                with llm.chat(bus=bus):
                    pass
        inside.append(seen())

    running = WSGIMiddleware(app, bus=bus, headers={"X-User-Id": "user_id"})
    response: Any = running(environ_of(HTTP_X_USER_ID="u-1"), ignore)
    between.append(seen())
    between.extend(seen() for _ in response)
    response.close()
    between.append(seen())
    span_id = terminal(events).metadata["span_id"]
    assert between == [(None, None)] * 4
    assert inside == [({"user_id": "u-1"}, span_id)] * 3
    calls = events.named("llm.chat.stop")
    assert [call.metadata.get("part") for call in calls] == [None, "a", None, "b"]
    assert {call.metadata["parent_span_id"] for call in calls} == {span_id}
    assert {event.metadata["user_id"] for event in events} == {"u-1"}


def test_closing_happens_in_the_context_of_the_request(
    bus: Bus, events: CapturedEvents
) -> None:
    class Closing(Response):
        def close(self) -> None:
            with llm.chat(bus=bus):
                pass

    Server(WSGIMiddleware(returning(Closing()), bus=bus)).run(
        environ_of(query="from=user_id%3Du-1")
    )
    (call,) = events.named("llm.chat.stop")
    assert call.metadata["user_id"] == "u-1"
    assert call.metadata["parent_span_id"] == terminal(events).metadata["span_id"]


@pytest.mark.parametrize("most", [0, 1], ids=["unread", "read-in-part"])
def test_a_response_that_is_closed_early_is_cancelled(
    bus: Bus, events: CapturedEvents, most: int
) -> None:
    response: Any = WSGIMiddleware(giving(b"a", b"b"), bus=bus)(environ_of(), ignore)
    for _ in range(most):
        next(response)
    response.close()
    response.close()
    stop = terminal(events)
    assert (stop.name, stop.metadata["status"]) == (
        "http.server.request.stop",
        "cancelled",
    )


def test_a_response_to_head_need_not_be_read(bus: Bus, events: CapturedEvents) -> None:
    app = WSGIMiddleware(returning(Response(b"a")), bus=bus)
    response: Any = app(environ_of(method="HEAD"), ignore)
    response.close()
    assert "status" not in terminal(events).metadata


def test_a_response_that_is_lost_is_cancelled(bus: Bus, events: CapturedEvents) -> None:
    """Not every server closes what it could not send."""
    response: Any = WSGIMiddleware(giving(b"a", b"b"), bus=bus)(environ_of(), ignore)
    assert next(response) == b"a"
    del response
    gc.collect()
    stop = terminal(events)
    assert (stop.metadata["status"], stop.metadata["http_status"]) == ("cancelled", 200)


# --- Errors ----------------------------------------------------------------------


def broken_at_once(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
    raise AppError


def broken_later(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401
    start_response("200 OK", [])
    yield b"a"
    raise AppError


class Unreadable(Response):
    def __iter__(self) -> Iterator[bytes]:
        raise AppError


@pytest.mark.parametrize(
    ("app", "status"),
    [
        pytest.param(broken_at_once, None, id="at-once"),
        pytest.param(broken_later, 200, id="later"),
        pytest.param(returning(Unreadable()), 200, id="unreadable"),
        pytest.param(
            returning(Response(b"a", b"b", error=AppError())), 200, id="in-close"
        ),
    ],
)
def test_an_error_propagates_and_ends_the_span_once(
    bus: Bus, events: CapturedEvents, app: WSGIApp, status: int | None
) -> None:
    with pytest.raises(AppError):
        Server(WSGIMiddleware(app, bus=bus)).run(most=2)
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert ended.metadata.get("http_status") == status
    assert ended.metadata["error_type"].endswith("AppError")


def test_an_error_in_close_after_the_end_still_propagates(
    bus: Bus, events: CapturedEvents
) -> None:
    app = WSGIMiddleware(returning(Response(b"a", error=AppError())), bus=bus)
    with pytest.raises(AppError):
        Server(app).run()
    assert terminal(events).name == "http.server.request.stop"


def test_an_error_that_the_application_hands_over_is_the_spans(
    bus: Bus, events: CapturedEvents
) -> None:
    """PEP 3333, "Error Handling": it answers with a page of its own."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        start_response("200 OK", [])
        try:
            broken_at_once(environ, start_response)
        except AppError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"page"]

    server = Server(WSGIMiddleware(app, bus=bus))
    assert server.run() == [b"page"]
    assert server.statuses == ["200 OK", "500 Oops"]
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert (ended.metadata["http_status"], ended.metadata["status"]) == (500, "error")


def test_an_error_page_that_comes_too_late_raises_the_error(
    bus: Bus, events: CapturedEvents
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401
        start_response("200 OK", [])
        yield b"a"
        try:
            broken_at_once(environ, start_response)
        except AppError:
            start_response("500 Oops", [], exc_info=sys.exc_info())

    with pytest.raises(AppError):
        Server(WSGIMiddleware(app, bus=bus)).run()
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert ended.metadata["http_status"] == 200


@pytest.mark.parametrize(
    "exc_info", [None, (None, None, None), "odd"], ids=["none", "empty", "odd"]
)
def test_no_error_handed_over_is_no_error(
    bus: Bus, events: CapturedEvents, exc_info: object
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        start_response("200 OK", [], exc_info)
        return []

    WSGIMiddleware(app, bus=bus)(environ_of(), ignore)
    assert terminal(events).name == "http.server.request.stop"


def test_a_server_error_without_an_exception_is_an_error_too(
    bus: Bus, events: CapturedEvents
) -> None:
    Server(WSGIMiddleware(giving(b"page", status="503 Later"), bus=bus)).run()
    stop = terminal(events)
    assert (stop.metadata["http_status"], stop.metadata["status"]) == (503, "error")


@pytest.mark.parametrize("given", [(), ("abc",), (None,), (b"2",)])
def test_a_status_that_is_none_is_left_to_the_server(
    bus: Bus, events: CapturedEvents, given: tuple[object, ...]
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        start_response(*given)
        return []

    told: list[object] = []

    def start_response(*args: object) -> Callable[[bytes], object]:
        told.append(args)
        return ignore()

    WSGIMiddleware(app, bus=bus)(environ_of(), start_response)
    assert told == [given]
    assert terminal(events).metadata.get("http_status") in {None, 2}


def test_a_broken_start_response_is_the_requests_error(
    bus: Bus, events: CapturedEvents
) -> None:
    def start_response(*given: object) -> Callable[[bytes], object]:
        raise AppError

    with pytest.raises(AppError):
        WSGIMiddleware(hello, bus=bus)(environ_of(), start_response)
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert "http_status" not in ended.metadata


def test_an_environment_without_anything_is_enough(
    bus: Bus, events: CapturedEvents
) -> None:
    assert WSGIMiddleware(hello, bus=bus)({}, ignore) == [b"hello"]
    assert terminal(events).metadata["http_method"] == "_OTHER"
    assert "url_path" not in terminal(events).metadata


def test_write_is_the_servers_own(bus: Bus) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        start_response("200 OK", [])(b"written")
        return [b"given"]

    assert Server(WSGIMiddleware(app, bus=bus)).run() == [b"written", b"given"]


# --- Transparency ----------------------------------------------------------------


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
def test_the_specification_is_kept_on_both_sides(bus: Bus, heard: bool) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Response(b"a", b"b")

    inner = WSGIMiddleware(validator(app), bus=bus, query={"u": "user_id"})
    checked: Any = validator(inner)
    environ = {
        **environ_of(query="u=1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.version": (1, 0),
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if heard:
        bus.attach("heard", "**", lambda *_: None)
    response = checked(
        environ, lambda status, headers, exc_info=None: bytearray().extend
    )
    assert list(response) == [b"a", b"b"]
    response.close()


def test_unheard_requests_without_a_context_are_passed_on() -> None:
    response = Response(b"a")
    app = WSGIMiddleware(returning(response), bus=Bus())
    assert app(environ_of(), ignore) is response


def test_unheard_requests_still_have_their_context() -> None:
    seen: list[object] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401
        start_response("200 OK", [])
        seen.append(ambient.get())
        yield b"a"

    running = WSGIMiddleware(app, bus=Bus(), context=lambda _: {"user_id": "u"})
    assert Server(running).run() == [b"a"]
    assert seen == [{"user_id": "u"}]


def test_llmevents_can_be_turned_off(
    monkeypatch: pytest.MonkeyPatch, bus: Bus, events: CapturedEvents
) -> None:
    monkeypatch.setenv("LLMEVENTS_DISABLED", "1")
    app = WSGIMiddleware(giving(b"a"), bus=bus, context=lambda _: {"user_id": "u"})
    assert Server(app).run() == [b"a"]
    assert events == []


def test_the_default_bus_is_the_default() -> None:
    with capture("http.server.request.stop") as events:
        Server(WSGIMiddleware(hello)).run()
    assert len(events) == 1


# --- Flask -----------------------------------------------------------------------


@pytest.fixture
def client(bus: Bus) -> FlaskClient:
    app = flask.Flask("shop")

    @app.get("/users/<int:user>")
    def show(user: int) -> str:
        with llm.chat(bus=bus):
            return str(user)

    @app.get("/stream")
    def stream() -> flask.Response:
        def parts() -> Iterator[str]:
            for part in "ab":
                with llm.chat(bus=bus):
                    yield part

        return flask.Response(parts())

    @app.get("/broken")
    def broken() -> str:
        raise AppError

    return FlaskClient(WSGIMiddleware(app.wsgi_app, bus=bus, query={"u": "user_id"}))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/users/7?u=1", (200, "/users/<int:user>", 1), id="route"),
        pytest.param("/stream?u=1", (200, "/stream", 2), id="stream"),
        pytest.param("/broken?u=1", (500, "/broken", 0), id="error"),
        pytest.param("/nowhere?u=1", (404, None, 0), id="nowhere"),
    ],
)
def test_a_flask_application_is_watched(
    client: FlaskClient,
    events: CapturedEvents,
    path: str,
    expected: tuple[int, str | None, int],
) -> None:
    status, route, calls = expected
    response = client.get(path)
    assert response.status_code == status
    assert response.get_data() != b""
    response.close()
    stop = terminal(events)
    assert stop.metadata["http_status"] == status
    assert stop.metadata.get("http_route") == route
    found = events.named("llm.chat.stop")
    assert len(found) == calls
    assert all(
        call.metadata["parent_span_id"] == stop.metadata["span_id"]
        and call.metadata["user_id"] == "1"
        for call in found
    )


# --- Many requests at once -------------------------------------------------------


def test_a_thousand_requests_in_threads_keep_their_contexts(
    bus: Bus, events: CapturedEvents
) -> None:
    threads, requests = 8, 125

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401
        start_response("200 OK", [])
        for part in (b"a", b"b"):
            with llm.chat(bus=bus, asked=environ["QUERY_STRING"]):
                yield part

    running = WSGIMiddleware(app, bus=bus, query={"u": "user_id"})

    def work(thread: int) -> None:
        for number in range(requests):
            Server(running).run(environ_of(query=f"u={thread}-{number}"))
            assert (ambient.get(), current_span.get()) == (None, None)

    failed: list[threading.ExceptHookArgs] = []
    started = [
        threading.Thread(target=work, args=(number,), daemon=True)
        for number in range(threads)
    ]
    before = threading.excepthook
    threading.excepthook = failed.append
    try:
        for thread in started:
            thread.start()
        for thread in started:
            thread.join(JOIN_SECONDS)
    finally:
        threading.excepthook = before
    assert not any(thread.is_alive() for thread in started)
    assert failed == []
    stops = events.named("http.server.request.stop")
    spans = {stop.metadata["user_id"]: stop.metadata["span_id"] for stop in stops}
    assert len(stops) == len(spans) == threads * requests
    calls = events.named("llm.chat.stop")
    assert len(calls) == 2 * threads * requests
    for call in calls:
        assert call.metadata["asked"] == f"u={call.metadata['user_id']}"
        assert call.metadata["parent_span_id"] == spans[call.metadata["user_id"]]


def test_responses_that_are_read_by_turns_keep_their_contexts(
    bus: Bus, events: CapturedEvents
) -> None:
    """As servers with greenlets or one thread for several connections do."""
    running = WSGIMiddleware(chatting(bus), bus=bus, query={"u": "user_id"})
    responses: list[Any] = [
        iter(running(environ_of(query=f"u={number}"), ignore)) for number in range(100)
    ]
    for _ in range(3):
        for response in responses:
            next(response, None)
            assert (ambient.get(), current_span.get()) == (None, None)
    for response in responses:
        response.close()
    calls = events.named("llm.chat.stop")
    assert len(calls) == 200
    assert all(call.metadata["asked"] == call.metadata["user_id"] for call in calls)
    assert len(events.named("http.server.request.stop")) == 100


def chatting(bus: Bus) -> WSGIApp:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401
        start_response("200 OK", [])
        for part in (b"a", b"b"):
            with llm.chat(bus=bus, asked=environ["QUERY_STRING"][2:]):
                yield part

    return app
