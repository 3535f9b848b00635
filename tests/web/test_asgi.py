"""The ASGI middleware: one span and one context per request, and nothing changed."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import llmevents
from llmevents import Bus, OptionError, llm
from llmevents._bus import ambient
from llmevents._context import current_span
from llmevents.testing import CapturedEvents, capture
from llmevents.web import ASGIMiddleware
from tests.web.clients import (
    LAST,
    PART,
    START,
    App,
    Client,
    Message,
    Receive,
    Scope,
    Send,
    ask,
    scope_of,
    terminal,
)


class AppError(Exception):
    """The application is broken."""


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(START)
    await send(LAST)


def sending(*messages: Message) -> App:
    """Return an application that sends these."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def test_a_request_is_a_span(bus: Bus, events: CapturedEvents) -> None:
    assert ask(ASGIMiddleware(hello, bus=bus)) == [START, LAST]
    assert events.names() == [
        "http.server.request.start",
        "http.server.request.first_chunk",
        "http.server.request.chunk",
        "http.server.request.stop",
    ]
    stop = terminal(events)
    shown = {key: stop.metadata[key] for key in stop.metadata if key != "span_id"}
    assert shown == {
        "http_method": "GET",
        "url_scheme": "https",
        "url_path": "/chat",
        "http_status": 200,
        "scoped": True,
    }
    assert stop.measurements["chunks"] == 1


def test_messages_and_scope_are_passed_on_as_they_are(bus: Bus) -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, await receive()])
        await send(START)
        await send(LAST)

    scope = scope_of()
    with capture(bus=bus):
        sent = ask(ASGIMiddleware(app, bus=bus), scope)
    assert seen[0] is scope
    assert (sent[0], sent[1]) == (START, LAST)
    assert sent[0] is START
    assert scope == scope_of()


def test_calls_of_models_are_children_with_the_context_of_the_request(
    bus: Bus, events: CapturedEvents
) -> None:
    def work() -> None:
        with llm.chat(provider="acme", model="tiny-1", bus=bus):
            pass

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        work()
        await asyncio.create_task(asyncio.to_thread(work))
        # As anyio does for Starlette's and FastAPI's functions.
        with ThreadPoolExecutor() as pool:
            pool.submit(contextvars.copy_context().run, work).result()
        await send(START)
        await send(LAST)

    ask(
        ASGIMiddleware(app, headers={"X-User-Id": "user_id"}, bus=bus),
        scope_of(headers=[("x-user-id", "u-1")]),
    )
    parent = terminal(events).metadata["span_id"]
    calls = events.named("llm.chat.stop")
    assert [call.metadata["parent_span_id"] for call in calls] == [parent] * 3
    assert {call.metadata["user_id"] for call in events} == {"u-1"}


def test_headers_query_from_and_your_own_code_say_who_asks(
    bus: Bus, events: CapturedEvents
) -> None:
    """Each beats the one before: your own code knows best."""
    app = ASGIMiddleware(
        hello,
        bus=bus,
        headers={"X-Tenant": "tenant_id", "X-User": "user_id"},
        query={"session": "session_id", "user": "user_id"},
        context=lambda scope: {"user_id": scope["path"]},
    )
    who = "from=%7B%22user_id%22%3A%22u-0%22%2C%22task_id%22%3A%22t%22%7D"
    ask(
        app,
        scope_of(
            query=f"{who}&session=s&user=u-1",
            headers=[("X-User", "u-2"), ("X-User", "u-3"), ("X-Tenant", "grün")],
        ),
    )
    metadata = terminal(events).metadata
    assert {key: metadata[key] for key in metadata if key.endswith("_id")} == {
        "user_id": "/chat",
        "session_id": "s",
        "task_id": "t",
        "tenant_id": "grün",
        "span_id": metadata["span_id"],
    }


def test_the_first_of_a_repeated_header_or_parameter_counts(
    bus: Bus, events: CapturedEvents
) -> None:
    app = ASGIMiddleware(
        hello, bus=bus, headers={"x-user": "user_id"}, query={"s": "session_id"}
    )
    ask(
        app,
        scope_of(
            query="s=1&s=2", headers=[("A", "b"), ("X-User", "a"), ("X-User", "b")]
        ),
    )
    metadata = terminal(events).metadata
    assert (metadata["user_id"], metadata["session_id"]) == ("a", "1")


def test_from_may_have_another_name_or_none(bus: Bus, events: CapturedEvents) -> None:
    query = "from=user_id%3Da&origin=user_id%3Db"
    ask(ASGIMiddleware(hello, bus=bus, from_parameter="origin"), scope_of(query=query))
    ask(ASGIMiddleware(hello, bus=bus, from_parameter=None), scope_of(query=query))
    plain = ASGIMiddleware(
        hello, bus=bus, from_parameter=None, query={"from": "user_id"}
    )
    ask(plain, scope_of(query=query))
    stops = events.named("http.server.request.stop")
    who = [stop.metadata.get("user_id") for stop in stops]
    assert who == ["b", None, "user_id=a"]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("&".join("a=b" for _ in range(999)), id="many-fields"),
        pytest.param("from=" + "%7b" * 99_999, id="long"),
        pytest.param("from=%ff%fe&user=%00", id="broken"),
        pytest.param("&&=&;;=", id="separators"),
    ],
)
def test_a_hostile_query_costs_nothing_but_itself(
    bus: Bus, events: CapturedEvents, query: str
) -> None:
    app = ASGIMiddleware(hello, bus=bus, query={"user": "user_id"})
    assert ask(app, scope_of(query=query)) == [START, LAST]
    assert len(repr(terminal(events).metadata)) < 500


def test_context_that_cannot_be_made_is_left_out_and_counted(
    bus: Bus, events: CapturedEvents
) -> None:
    def broken(scope: Scope) -> Mapping[str, Any]:
        raise AppError

    assert ask(ASGIMiddleware(hello, bus=bus, context=broken)) == [START, LAST]
    assert ask(ASGIMiddleware(hello, bus=bus, context=lambda _: None)) == [START, LAST]
    assert bus.stats()["refused_values"] == 1


def test_no_secret_of_a_request_reaches_an_event(
    bus: Bus, events: CapturedEvents
) -> None:
    secret = "sk-proj-0123456789abcdefghij"  # noqa: S105  # none
    scope = scope_of(
        f"/keys/{secret}/x?token={secret}",
        query=f"api_key={secret}",
        headers=[("authorization", f"Bearer {secret}"), ("cookie", secret)],
    )
    ask(ASGIMiddleware(hello, bus=bus), scope)
    assert terminal(events).metadata["url_path"] == "/keys/[REDACTED]/x"
    assert "0123456789abcdefghij" not in repr(events)


def test_an_unknown_method_is_other(bus: Bus, events: CapturedEvents) -> None:
    ask(ASGIMiddleware(hello, bus=bus), scope_of(method="BREW"))
    assert terminal(events).metadata["http_method"] == "_OTHER"


def test_a_head_request_is_like_any_other(bus: Bus, events: CapturedEvents) -> None:
    nothing: Message = {"type": "http.response.body"}
    ask(ASGIMiddleware(sending(START, nothing), bus=bus), scope_of(method="HEAD"))
    stop = terminal(events)
    assert stop.metadata["http_method"] == "HEAD"
    assert "chunks" not in stop.measurements


class Route:
    path = "/users/{user}"


@pytest.mark.parametrize(
    ("route", "shown"),
    [
        pytest.param(Route(), "/users/{user}", id="fastapi"),
        pytest.param(None, None, id="none"),
        pytest.param(7, None, id="something-else"),
        pytest.param(type("Odd", (), {"path": 7})(), None, id="odd-path"),
    ],
)
def test_the_route_is_told_where_the_framework_tells_it(
    bus: Bus, events: CapturedEvents, route: object, shown: str | None
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = route
        await hello(scope, receive, send)

    ask(ASGIMiddleware(app, bus=bus))
    assert terminal(events).metadata.get("http_route") == shown


# --- How a request ends ----------------------------------------------------------


TRAILERS: Message = {**START, "trailers": True}
MORE: Message = {"type": "http.response.trailers", "headers": [], "more_trailers": True}
END: Message = {"type": "http.response.trailers", "headers": []}


@pytest.mark.parametrize(
    ("messages", "before"),
    [
        pytest.param([START, PART, PART, LAST], 3, id="stream"),
        pytest.param([TRAILERS, LAST, MORE, END], 3, id="trailers"),
        pytest.param(
            [START, {"type": "http.response.pathsend", "path": "/x"}], 1, id="path"
        ),
        pytest.param(
            [
                START,
                {"type": "http.response.zerocopysend", "file": 3, "more_body": True},
                {"type": "http.response.zerocopysend", "file": 3},
            ],
            2,
            id="zero-copy",
        ),
        pytest.param([{"type": "http.response.early_hint"}, START, LAST], 2, id="hint"),
    ],
)
def test_the_span_ends_with_the_last_message(
    bus: Bus, events: CapturedEvents, messages: list[Message], before: int
) -> None:
    """What an application does afterwards, in the background, is not the request."""
    ended: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
            ended.append(len(events.named("http.server.request.stop")))
        with llm.chat(bus=bus):
            pass

    ask(ASGIMiddleware(app, bus=bus))
    assert ended == [0] * before + [1]
    stop = terminal(events)
    assert stop.metadata["http_status"] == 200
    (call,) = events.named("llm.chat.stop")
    assert call.metadata["parent_span_id"] == stop.metadata["span_id"]


def test_parts_are_counted(bus: Bus, events: CapturedEvents) -> None:
    empty: Message = {**PART, "body": b""}
    ask(ASGIMiddleware(sending(START, empty, PART, PART, LAST), bus=bus))
    assert terminal(events).measurements["chunks"] == 3


def test_an_error_is_reported_and_propagates_unchanged(
    bus: Bus, events: CapturedEvents
) -> None:
    error = AppError("out of order")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise error

    with pytest.raises(AppError, match="out of order") as raised:
        ask(ASGIMiddleware(app, bus=bus))
    assert raised.value is error
    assert error.__cause__ is error.__context__ is None
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert ended.metadata["error_message"] == "out of order"
    assert ended.metadata["http_status"] == 200


def test_an_error_page_does_not_hide_the_error(
    bus: Bus, events: CapturedEvents
) -> None:
    """Starlette sends a page and raises again."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": 500})
        await send(LAST)
        raise AppError

    with pytest.raises(AppError):
        ask(ASGIMiddleware(app, bus=bus))
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert (ended.metadata["http_status"], ended.metadata["status"]) == (500, "error")


def test_an_error_after_the_response_is_not_the_requests(
    bus: Bus, events: CapturedEvents
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        raise AppError

    with pytest.raises(AppError):
        ask(ASGIMiddleware(app, bus=bus))
    assert terminal(events).name == "http.server.request.stop"


def test_a_server_error_without_an_exception_is_an_error_too(
    bus: Bus, events: CapturedEvents
) -> None:
    ask(ASGIMiddleware(sending({**START, "status": 503}, LAST), bus=bus))
    stop = terminal(events)
    assert stop.name == "http.server.request.stop"
    assert (stop.metadata["http_status"], stop.metadata["status"]) == (503, "error")


def test_an_application_that_sends_nothing_ends_without_a_status(
    bus: Bus, events: CapturedEvents
) -> None:
    assert ask(ASGIMiddleware(sending(), bus=bus)) == []
    assert "http_status" not in terminal(events).metadata


def test_a_server_that_cannot_send_is_the_requests_error(
    bus: Bus, events: CapturedEvents
) -> None:
    """As the specification has it from 2.4 on, where the client has gone."""

    async def send(message: Message) -> None:
        raise OSError("gone")  # noqa: EM101  # as servers do

    async def main() -> None:
        client = Client(hello)
        app = ASGIMiddleware(hello, bus=bus)
        await app(client.scope, client.receive, send)

    with pytest.raises(OSError, match="gone"):
        asyncio.run(main())
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert "http_status" not in ended.metadata


def test_a_client_that_goes_away_cancels_the_request(
    bus: Bus, events: CapturedEvents
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(PART)
        while (await receive())["type"] != "http.disconnect":
            client.gone.set()

    client = Client(ASGIMiddleware(app, bus=bus))
    asyncio.run(client.run())
    stop = terminal(events)
    assert (stop.name, stop.metadata["status"]) == (
        "http.server.request.stop",
        "cancelled",
    )
    assert stop.measurements["chunks"] == 1


def test_a_client_that_goes_away_afterwards_changes_nothing(
    bus: Bus, events: CapturedEvents
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": 500})
        await send(LAST)
        client.gone.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    client = Client(ASGIMiddleware(app, bus=bus))
    asyncio.run(client.run())
    assert terminal(events).metadata["status"] == "error"


def test_a_request_that_is_cancelled_says_so(bus: Bus, events: CapturedEvents) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(Client(ASGIMiddleware(app, bus=bus)).run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    ended = terminal(events)
    assert ended.name == "http.server.request.exception"
    assert ended.metadata["kind"] == "cancelled"


def test_a_request_lost_with_its_event_loop_ends(
    bus: Bus, events: CapturedEvents
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        client = Client(app)
        running = ASGIMiddleware(app, bus=bus)(
            client.scope, client.receive, client.send
        )
        running.send(None)
        running.close()

    asyncio.run(main())
    assert terminal(events).metadata["status"] == "cancelled"


# --- What is none of its business ------------------------------------------------


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "tls"])
def test_other_connections_pass_untouched(
    bus: Bus, events: CapturedEvents, kind: str
) -> None:
    seen: list[object] = []

    async def app(*given: object) -> None:
        seen.extend([*given, ambient.get(), current_span.get()])

    scope = {**scope_of(query="from=user_id%3Da"), "type": kind}
    client = Client(app, scope)
    asyncio.run(ASGIMiddleware(app, bus=bus)(scope, client.receive, client.send))
    assert seen[0] is scope
    assert seen[1:] == [client.receive, client.send, None, None]
    assert events == []


def test_unheard_requests_pass_with_their_context_only() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([send, ambient.get()])

    client = Client(ASGIMiddleware(app, bus=Bus()), scope_of(query="from=user_id%3Da"))
    asyncio.run(client.run())
    assert seen == [client.send, {"user_id": "a"}]


def test_llmevents_can_be_turned_off(
    monkeypatch: pytest.MonkeyPatch, bus: Bus, events: CapturedEvents
) -> None:
    monkeypatch.setenv("LLMEVENTS_DISABLED", "1")
    app = ASGIMiddleware(hello, bus=bus)
    assert ask(app, scope_of(query="from=user_id%3Da")) == [START, LAST]
    assert events == []


def test_the_default_bus_is_the_default() -> None:
    with capture("http.server.request.stop") as events:
        ask(ASGIMiddleware(hello))
    assert len(events) == 1
    assert llmevents.list_handlers() == []


async def context_of(scope: Scope) -> None:
    """Not to be called."""


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({"headers": ["x"]}, "expected headers to be a mapping", id="list"),
        pytest.param({"headers": 7}, "expected headers to be a mapping", id="number"),
        pytest.param({"query": {"a": 7}}, "expected query to be a mapping", id="value"),
        pytest.param({"context": context_of}, "no coroutine function", id="coroutine"),
    ],
)
def test_options_that_cannot_work_are_refused(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(OptionError, match=complaint):
        ASGIMiddleware(hello, **options)


# --- Many requests at once -------------------------------------------------------


def test_a_thousand_interleaved_requests_keep_their_contexts(
    bus: Bus, events: CapturedEvents
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with llm.chat(bus=bus, asked=scope["path"]):
            await asyncio.sleep(0)
        await send(START)
        for _ in range(3):
            await send(PART)
        await send(LAST)

    async def main() -> None:
        running = ASGIMiddleware(app, bus=bus, headers={"X-User": "user_id"})
        await asyncio.gather(
            *(
                Client(running, scope_of(f"/{n}", headers=[("X-User", f"/{n}")])).run()
                for n in range(1000)
            )
        )

    asyncio.run(main())
    stops = events.named("http.server.request.stop")
    spans = {stop.metadata["user_id"]: stop.metadata["span_id"] for stop in stops}
    assert len(stops) == len(spans) == 1000
    for call in events.named("llm.chat.stop"):
        assert call.metadata["asked"] == call.metadata["user_id"]
        assert call.metadata["parent_span_id"] == spans[call.metadata["user_id"]]
    assert len(events.named("llm.chat.stop")) == 1000
    assert all(stop.measurements["chunks"] == 4 for stop in stops)


def test_requests_of_one_connection_leave_nothing_to_the_next(
    bus: Bus, events: CapturedEvents
) -> None:
    """Keep-alive: servers answer them in one and the same task."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/broken":
            raise AppError
        await hello(scope, receive, send)

    async def main() -> None:
        running = ASGIMiddleware(app, bus=bus, query={"u": "user_id"})
        for path, query in (("/a", "u=1"), ("/broken", "u=2"), ("/c", "")):
            try:
                await Client(running, scope_of(path, query=query)).run()
            except AppError:
                assert path == "/broken"
            assert (ambient.get(), current_span.get()) == (None, None)

    asyncio.run(main())
    starts = events.named("http.server.request.start")
    assert [start.metadata.get("user_id") for start in starts] == ["1", "2", None]
    assert not any("parent_span_id" in start.metadata for start in starts)
