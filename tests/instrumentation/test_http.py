"""Attempts on the wire, as events: which requests are, and what they say."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.instrumentation import _http
from llmevents.instrumentation._http import Attempts, nobody_hears_attempts, sending
from llmevents.instrumentation._patching import Patches
from llmevents.testing import CapturedEvents, FakeProvider, Reply, capture
from tests.instrumentation.sdk import (
    MESSAGES,
    answer,
    async_client_of,
    client_of,
    http,
    in_async,
    instrumented,
)
from tests.outcomes import outcomes, until


COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hi."},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}

ONCE = [
    "llm.chat.start",
    "llm.provider.request.start",
    "llm.provider.request.stop",
    "llm.chat.stop",
]


def ask(client: openai.OpenAI, model: str = "m") -> object:
    return client.chat.completions.create(model=model, messages=MESSAGES)


@pytest.fixture
def patient(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    """A client that retries twice, as they do by default."""
    with openai.OpenAI(base_url=provider.base_url, api_key="test") as made:
        yield made


def test_a_call_that_nobody_owns_has_its_request_in_it(
    client: openai.OpenAI, all_events: CapturedEvents
) -> None:
    ask(client)
    assert all_events.names() == ONCE
    call, start, stop = all_events[:3]
    known = {
        "provider": "openai",
        "model": "m",
        "server_address": "127.0.0.1",
        "server_port": call.metadata["server_port"],
        "span_id": start.metadata["span_id"],
        "parent_span_id": call.metadata["span_id"],
        "scoped": False,
    }
    assert start.metadata == known
    assert stop.metadata == {**known, "status": "success", "http_status": 200}
    assert stop.measurements["duration"] > 0


def test_an_async_call_and_a_stream_have_theirs(
    provider: FakeProvider, all_events: CapturedEvents
) -> None:
    async def ask_twice(client: openai.AsyncOpenAI) -> None:
        await client.chat.completions.create(model="m", messages=MESSAGES)
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        )
        assert outcomes(all_events[4:]) == ["stop success"], "the answer has come"
        async for _chunk in stream:
            pass

    in_async(provider, ask_twice)
    names = [name for name in all_events.names() if "chunk" not in name]
    assert names == ONCE * 2


def test_retries_of_the_sdk_are_one_call_with_all_its_attempts(
    provider: FakeProvider, patient: openai.OpenAI, all_events: CapturedEvents
) -> None:
    """Each refusal is a rate limit, also those of which the SDK tells nobody."""
    limited = Reply.rate_limited(0.001)
    provider.script(limited, limited, Reply())
    ask(patient)
    request = ["llm.provider.request.start", "llm.provider.request.stop"]
    refused = [request[0], "llm.provider.rate_limit", request[1]]
    again = ["llm.provider.retry"]
    assert all_events.names() == [
        "llm.chat.start",
        *refused,
        *again,
        *refused,
        *again,
        *request,
        "llm.chat.stop",
    ]
    call_id = all_events[0].metadata["span_id"]
    about = {
        "provider": "openai",
        "model": "m",
        "http_status": 429,
        "span_id": call_id,
    }
    retries = all_events.named("llm.provider.retry")
    assert [retry.metadata for retry in retries] == [about] * 2
    assert [retry.measurements for retry in retries] == [
        {"attempt": number, "retry_after": 1_000_000} for number in (2, 3)
    ]
    limits = all_events.named("llm.provider.rate_limit")
    assert [limit.metadata for limit in limits] == [about] * 2
    ends = all_events.named("llm.provider.request.stop")
    assert [end.metadata["http_status"] for end in ends] == [429, 429, 200]
    assert [end.metadata["status"] for end in ends] == ["error", "error", "success"]
    assert provider.totals().calls == 3


def test_retries_of_an_async_call_are_counted_likewise(
    provider: FakeProvider, all_events: CapturedEvents
) -> None:
    provider.script(Reply(status=500), Reply())

    async def ask_patiently(client: openai.AsyncOpenAI) -> None:
        await client.with_options(max_retries=1).chat.completions.create(
            model="m", messages=MESSAGES
        )

    in_async(provider, ask_patiently)
    retry = all_events.named("llm.provider.retry")[0]
    assert retry.measurements == {"attempt": 2}
    assert retry.metadata["http_status"] == 500
    assert outcomes(all_events) == ["stop error", "stop success", "stop success"]


def test_the_wait_that_a_failing_server_asks_for_is_told(
    provider: FakeProvider, patient: openai.OpenAI, all_events: CapturedEvents
) -> None:
    provider.script(Reply(status=503, headers={"retry-after-ms": "2"}), Reply())
    ask(patient)
    retry = all_events.named("llm.provider.retry")[0]
    assert retry.measurements == {"attempt": 2, "retry_after": 2_000_000}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param("ReadTimeout", "timeout", id="timeout"),
        pytest.param("ConnectError", "error", id="no connection"),
    ],
)
def test_an_attempt_without_an_answer_ends_in_its_error(
    error: str, status: str, asynchronous: bool, all_events: CapturedEvents
) -> None:
    tries = []

    def serve(request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        tries.append(request)
        if len(tries) == 1:
            msg = "gone"
            raise getattr(http, error)(msg, request=request)
        return answer(COMPLETION)

    async def ask_later() -> None:
        async with async_client_of(serve) as client:
            await client.chat.completions.create(model="m", messages=MESSAGES)

    if asynchronous:
        asyncio.run(ask_later())
    else:
        ask(client_of(serve))
    failed = all_events.named("llm.provider.request.exception")[0].metadata
    assert failed["status"] == status
    assert failed["error_type"].endswith(error)
    assert "http_status" not in failed
    retry = all_events.named("llm.provider.retry")[0]
    assert retry.measurements == {"attempt": 2}
    assert "http_status" not in retry.metadata
    assert outcomes(all_events)[1:] == ["stop success", "stop success"]


def test_a_cancelled_attempt_says_so(
    provider: FakeProvider, all_events: CapturedEvents
) -> None:
    async def cancel(client: openai.AsyncOpenAI) -> None:
        task = asyncio.create_task(
            client.chat.completions.create(model="fault-slow", messages=MESSAGES)
        )
        await until(lambda: len(provider.calls) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_async(provider, cancel)
    assert outcomes(all_events) == ["exception cancelled cancelled"] * 2
    assert all_events[2].name == "llm.provider.request.exception"


def renewing(serve: Callable[[Any], Any]) -> openai.OpenAI:
    """Return a client that asks for a new key each time that it sends."""
    keys = iter(["key-old", "key-new", "key-newer"])
    return client_of(serve, api_key=lambda: next(keys))


def test_credentials_that_are_renewed_after_a_refusal_are_told_without_them(
    all_events: CapturedEvents,
) -> None:
    seen = []

    def serve(request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        seen.append(request.headers["authorization"])
        if len(seen) == 1:
            again = {"x-should-retry": "true", "retry-after-ms": "1"}
            return answer({"error": {"message": "expired"}}, 401, again)
        return answer(COMPLETION)

    ask(renewing(serve))
    assert seen == ["Bearer key-old", "Bearer key-new"]
    refresh = all_events.named("llm.provider.auth.refresh")
    assert [event.measurements for event in refresh] == [{}]
    assert refresh[0].metadata["http_status"] == 401
    assert all_events.names().count("llm.provider.retry") == 1
    assert "key-" not in repr(all_events)


def test_the_same_credentials_once_more_are_no_refresh(
    all_events: CapturedEvents,
) -> None:
    seen = []

    def serve(request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        seen.append(request)
        again = {"x-should-retry": "true", "retry-after-ms": "1"}
        return (
            answer({"error": {}}, 401, again) if len(seen) == 1 else answer(COMPLETION)
        )

    ask(client_of(serve))
    assert all_events.named("llm.provider.auth.refresh") == []
    assert len(all_events.named("llm.provider.retry")) == 1


def test_what_the_host_sends_by_itself_is_no_attempt(
    provider: FakeProvider, client: openai.OpenAI, all_events: CapturedEvents
) -> None:
    """Neither outside of calls, nor inside: to renew a token, or in a hook."""
    url = f"{provider.base_url}/models"

    def token() -> str:
        http.get(url)
        return "test"

    def hook(_request: object) -> None:
        http.get(url)

    http.get(url)
    with http.Client(event_hooks={"request": [hook]}) as sender:
        host = openai.OpenAI(
            base_url=provider.base_url, api_key=token, http_client=sender
        )
        ask(host)
    client.models.list()
    assert all_events.names() == ONCE
    assert provider.totals("models").calls == 4
    assert sending.get() is None


def test_a_request_within_an_attempt_is_none_even_by_the_same_client(
    all_events: CapturedEvents,
) -> None:
    """An authentication may fetch its token by the client that it is used by."""

    def serve(request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        if request.url.path.endswith("/token"):
            return answer({"token": "t"})
        sender.get("https://api.openai.com/token")
        return answer(COMPLETION)

    client = client_of(serve)
    sender = client._client
    ask(client)
    assert all_events.names() == ONCE


def test_a_task_that_outlives_the_call_sends_for_itself(
    all_events: CapturedEvents,
) -> None:
    """It has inherited the context of the call in which it was begun."""
    tasks = []

    async def serve(request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        if request.url.path.endswith("/later"):
            return answer({})
        return answer(COMPLETION)

    async def ask_and_begin() -> None:
        async with async_client_of(serve) as client:
            sender = client._client

            async def later() -> None:
                await asyncio.sleep(0)
                await until(lambda: len(all_events) == len(ONCE))
                await sender.get("https://api.openai.com/later")

            async def key() -> str:
                tasks.append(asyncio.create_task(later()))
                return "test"

            asking = client.with_options(api_key=key)
            await asking.chat.completions.create(model="m", messages=MESSAGES)
            await asyncio.gather(*tasks)

    asyncio.run(ask_and_begin())
    assert all_events.names() == ONCE


def test_the_query_and_the_path_of_a_url_stay_out_of_events(
    all_events: CapturedEvents,
) -> None:
    client = client_of(
        lambda _request: answer(COMPLETION),
        base_url="https://gateway.example:8443/canary-path/v1",
        default_query={"key": "canary-query"},
        default_headers={"x-key": "canary-header"},
    )
    ask(client)
    start = all_events.named("llm.provider.request.start")[0].metadata
    assert (start["server_address"], start["server_port"]) == ("gateway.example", 8443)
    assert "canary" not in repr(all_events)


def test_the_schemes_own_port_is_left_out(all_events: CapturedEvents) -> None:
    ask(client_of(lambda _request: answer(COMPLETION)))
    for event in all_events[:2]:
        assert event.metadata["server_address"] == "api.openai.com"
        assert "server_port" not in event.metadata


@pytest.mark.parametrize(
    "pattern",
    ["llm.provider.request.*", "llm.provider.retry", "llm.provider.rate_limit"],
)
def test_attempts_are_heard_by_who_listens_to_nothing_else(
    pattern: str, provider: FakeProvider, patient: openai.OpenAI
) -> None:
    bus = Bus()
    provider.script(Reply.rate_limited(0.001), Reply())
    with instrumented(bus), capture(pattern, bus=bus) as events:
        ask(patient)
    assert len(events) == (4 if pattern.endswith("*") else 1)
    assert all("parent_span_id" not in event.metadata for event in events)


def test_attempts_that_nobody_hears_cost_no_events(
    provider: FakeProvider, patient: openai.OpenAI
) -> None:
    bus = Bus()
    provider.script(Reply.rate_limited(0.001), Reply(), Reply())
    with instrumented(bus), capture("llm.chat.stop", bus=bus) as events:
        ask(patient)
        ask(patient)
        assert nobody_hears_attempts(bus)
    assert events.names() == ["llm.chat.stop"] * 2


def test_failures_that_nobody_hears_of_are_the_sdks_alone() -> None:
    tries = []

    def serve(request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        tries.append(request)
        if len(tries) == 1:
            return answer({}, 500, {"retry-after-ms": "1"})
        if len(tries) == 2:
            msg = "gone"
            raise http.ConnectError(msg, request=request)
        return answer(COMPLETION)

    bus = Bus()
    with instrumented(bus), capture("llm.chat.stop", bus=bus) as events:
        ask(client_of(serve))
    assert events.names() == ["llm.chat.stop"]
    assert len(tries) == 3


def test_two_refused_calls_in_one_are_two_rate_limits(
    client: openai.OpenAI, bus: Bus, all_events: CapturedEvents
) -> None:
    with llm.chat(bus=bus):
        for _ in range(2):
            with pytest.raises(openai.RateLimitError, match="Rate limit reached"):
                ask(client, "fault-429")
    limits = all_events.named("llm.provider.rate_limit")
    assert len(limits) == 2
    assert {limit.metadata["span_id"] for limit in limits} == {
        all_events[0].metadata["span_id"]
    }
    assert all_events.named("llm.provider.retry") == [], "of another call each"


def test_an_interrupt_while_a_refusal_is_told_ends_the_request(
    client: openai.OpenAI, bus: Bus, all_events: CapturedEvents
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with (
        bus.attach("interrupts", "llm.provider.rate_limit", interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        ask(client, "fault-429")
    assert outcomes(all_events) == ["stop error", "exception error exit"]
    assert sending.get() is None


def methods() -> list[object]:
    return [vars(owner)["send"] for owner in (http.Client, http.AsyncClient)]


def test_the_clients_are_watched_once_until_the_last_sdk_lets_go() -> None:
    before = methods()
    first, second = Patches(), Patches()
    _http.patch(first)
    watched = methods()
    assert not any(ours is theirs for ours, theirs in zip(watched, before, strict=True))
    _http.patch(second)
    assert [id(each) for each in methods()] == [id(each) for each in watched]
    first.undo()
    first.undo()
    assert [id(each) for each in methods()] == [id(each) for each in watched]
    second.undo()
    assert [id(each) for each in methods()] == [id(each) for each in before]


def test_a_library_that_is_built_differently_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Client:
        """One without ``send``."""

    for odd in (types.ModuleType("httpx"), types.ModuleType("httpx")):
        vars(odd)["Client"] = Client
        monkeypatch.setitem(sys.modules, "httpx", odd)
        patches = Patches()
        _http.patch(patches)
        patches.undo()
    assert "send" not in vars(Client)


def run(code: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.skipif(openai.__version__ < "3", reason="openai 2 sends by httpx only")
def test_a_library_that_is_imported_later_is_watched_too() -> None:
    """The third major sends by httpx2, and by httpx for who gives it such a client."""
    printed = run(
        """
        import sys, openai, llmevents
        assert "httpx" not in sys.modules
        bus = llmevents.Bus(strict=True)
        llmevents.instrument("openai", bus=bus)
        import httpx
        from llmevents.testing import FakeProvider, capture
        requests = "llm.provider.request.stop"
        with FakeProvider() as provider, capture(requests, bus=bus) as events:
            client = openai.OpenAI(
                base_url=provider.base_url, api_key="test", http_client=httpx.Client()
            )
            with client:
                client.embeddings.create(model="m", input="one")
        print(*events.names())
        llmevents.uninstrument()
        print(type(vars(httpx.Client)["send"]).__name__)
        """
    )
    assert printed.split() == ["llm.provider.request.stop", "function"]


def test_a_library_that_is_imported_when_nobody_wants_it_is_left_alone() -> None:
    printed = run(
        """
        import sys, llmevents
        from llmevents.instrumentation import _http
        from llmevents.instrumentation._patching import Patches
        patches = Patches()
        _http.patch(patches)
        patches.undo()
        import httpx
        print(type(vars(httpx.Client)["send"]).__name__)
        """
    )
    assert printed == "function"


def test_a_late_import_of_a_library_that_nobody_wants_changes_nothing() -> None:
    before = methods()
    _http._transport._imported(http)
    assert [id(each) for each in methods()] == [id(each) for each in before]


def test_what_is_current_after_an_attempt_is_kept() -> None:
    """Where the context is another one than that in which it began."""
    bus = Bus(strict=True)
    mine, others = (
        Attempts(bus, llm.Call(bus, "llm.chat", scoped=False), {}, None)
        for _ in range(2)
    )
    others.enter()
    _http._back(mine)
    assert sending.get() is others
    others.leave()
    assert sending.get() is None


class _Odd:
    """Something of which nothing can be read."""

    @property
    def url(self) -> object:
        msg = "no URL"
        raise ZeroDivisionError(msg)

    status_code = headers = request = url


def test_requests_and_answers_that_cannot_be_read_cost_nobody_anything() -> None:
    bus = Bus(strict=True)
    with capture(bus=bus) as events:
        attempts = Attempts(bus, llm.Call(bus, "llm.chat", scoped=False), {}, None)
        attempts.answered(_Odd(), attempts.begin(_Odd()))
        refused = http.Response(401)
        attempts.answered(refused, attempts.begin(None))
        attempts.answered(http.Response(200), attempts.begin(_Odd()))
    assert events.names().count("llm.provider.retry") == 1
    assert attempts.paid_for() == b""
    assert attempts.paid_for() is None


def test_an_attempt_that_is_closed_elsewhere_leaves_no_trace_there() -> None:
    """A coroutine may be closed in another context than the one that it began in."""

    @types.coroutine
    def wait() -> Iterator[None]:
        yield

    async def send(_request: object) -> None:
        await wait()

    async def call() -> None:
        attempts.enter()
        try:
            await _http._send_async(send, None, (None,), {})
        finally:
            attempts.leave()

    bus = Bus(strict=True)
    attempts = Attempts(bus, llm.Call(bus, "llm.chat", scoped=False), {}, None)
    with capture(bus=bus, scope="process") as events:
        calling = call()
        contextvars.copy_context().run(calling.send, None)
        calling.close()
    assert sending.get() is None
    assert outcomes(events) == ["stop cancelled"]


def test_retries_begin_anew_after_an_answer() -> None:
    """A method that asks several times, one after the other, retries nothing."""
    bus = Bus(strict=True)
    with capture("llm.provider.retry", bus=bus) as events:
        attempts = Attempts(bus, llm.Call(bus, "llm.chat", scoped=False), {}, None)
        for status in (200, 200, 500, 500, 200, 500, 200):
            attempts.answered(http.Response(status), attempts.begin(None))
    tried = [event.measurements["attempt"] for event in events]
    assert tried == [2, 3, 2]


def test_instrumenting_the_sdk_watches_its_clients() -> None:
    before = methods()
    llmevents.instrument("openai", bus=Bus())
    assert [id(each) for each in methods()] != [id(each) for each in before]
    llmevents.uninstrument("openai")
    assert [id(each) for each in methods()] == [id(each) for each in before]
