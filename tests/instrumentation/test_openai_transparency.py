"""The same programs with and without us: they see the same, and send the same."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import openai
import pytest
from pydantic import BaseModel

import llmevents
from llmevents import Bus
from llmevents.testing import CapturedEvents, capture
from tests.instrumentation.sdk import (
    MESSAGES,
    WITHOUT_REQUESTS,
    answer,
    async_client_of,
    client_of,
    described,
    http,
    instrumented,
    server_sent,
)
from tests.outcomes import outcomes, until


COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": '{"name": "Ada"}'},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}

PARTS = [
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1",
        "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": reason}],
    }
    for word, reason in (("one", None), ("two", None), ("three", "stop"))
]

ASKED: dict[str, Any] = {"model": "m", "messages": MESSAGES}
STREAMED: dict[str, Any] = {**ASKED, "stream": True}


class Broken(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc]  # of any library
    """A body that ends in an error after two parts of three."""

    def __iter__(self) -> Iterator[bytes]:
        yield server_sent(*PARTS[:2]).removesuffix(b"data: [DONE]\n\n")
        msg = "peer closed connection"
        raise http.RemoteProtocolError(msg)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts():
            yield part

    def _parts(self) -> Iterator[bytes]:
        return Broken.__iter__(self)


Sent = tuple[str, str, dict[str, str], bytes]
"""Method, URL, headers and body of a request."""


class Wire:
    """Answers requests by their model, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.clients: list[openai.OpenAI] = []

    def client(self, **options: Any) -> openai.OpenAI:  # noqa: ANN401  # of the SDK
        return client_of(self.serve, **{"max_retries": 0, **options})

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:  # noqa: ANN401
        return async_client_of(self.serve_later, **{"max_retries": 0, **options})

    async def serve_later(self, request: Any) -> Any:  # noqa: ANN401  # of the library
        if b"slow" in request.content:
            self._note(request)
            await asyncio.sleep(300)
        return self.serve(request)

    def serve(self, request: Any) -> Any:  # noqa: ANN401  # of the HTTP library
        self._note(request)
        body = request.content
        if b'"refused"' in body:
            return answer({"error": {"message": "No.", "code": "c", "param": "p"}}, 400)
        if b'"limited"' in body:
            wait = {"retry-after-ms": "1"}
            return answer({"error": {"message": "Slower."}}, 429, wait)
        if b'"unreachable"' in body:
            msg = "no route"
            raise http.ConnectError(msg, request=request)
        if b'"late"' in body:
            msg = "too late"
            raise http.ReadTimeout(msg, request=request)
        if b'"broken"' in body:
            kind = {"content-type": "text/event-stream"}
            return http.Response(200, headers=kind, stream=Broken())
        if b'"nonsense"' in body:
            return http.Response(
                200, content=b"{", headers={"content-type": "application/json"}
            )
        if b'"stream": true' in body or b'"stream":true' in body:
            failed = {"error": {"message": "Failed."}}
            parts = [*PARTS[:1], failed] if b'"failing"' in body else PARTS
            return answer(server_sent(*parts))
        return answer(COMPLETION)

    def _note(self, request: Any) -> None:  # noqa: ANN401  # of the HTTP library
        headers = dict(request.headers)
        # Made anew for each request by the SDK.
        headers.pop("idempotency-key", None)
        self.sent.append((request.method, str(request.url), headers, request.content))


class Person(BaseModel):
    """What a model is to answer with."""

    name: str


def plain(wire: Wire) -> object:
    return wire.client().chat.completions.create(**ASKED)


def parsed(wire: Wire) -> object:
    return wire.client().chat.completions.parse(**ASKED, response_format=Person)


def raw(wire: Wire) -> object:
    response = wire.client().chat.completions.with_raw_response.create(**ASKED)
    return (type(response), response.headers["content-length"], response.parse())


def raw_stream(wire: Wire) -> object:
    response = wire.client().chat.completions.with_raw_response.create(**STREAMED)
    return list(response.parse())


def streaming_response(wire: Wire) -> object:
    with wire.client().chat.completions.with_streaming_response.create(
        **ASKED
    ) as response:
        return (response.__class__, response.status_code, response.read())


def lines(wire: Wire) -> object:
    with wire.client().chat.completions.with_streaming_response.create(
        **STREAMED
    ) as response:
        return list(response.iter_lines())


def streamed(wire: Wire) -> object:
    stream = wire.client().chat.completions.create(**STREAMED)
    chunks = list(stream)
    return (
        type(stream) is not None,
        chunks,
        stream.response.is_closed,
        next(stream, 1),
    )


def helper(wire: Wire) -> object:
    with wire.client().chat.completions.stream(**ASKED) as stream:
        kinds = [event.type for event in stream]
        return (kinds, stream.get_final_completion())


def left_early(wire: Wire) -> object:
    stream = wire.client().chat.completions.create(**STREAMED)
    with stream:
        for chunk in stream:
            return (chunk, stream.response.is_closed)
    return None


def closed(wire: Wire) -> object:
    stream = wire.client().chat.completions.create(**STREAMED)
    first = next(stream)
    stream.close()
    return (first, stream.response.is_closed)


def abandoned(wire: Wire) -> object:
    first = next(wire.client().chat.completions.create(**STREAMED))
    gc.collect()
    return first


def retried(wire: Wire) -> object:
    return wire.client(max_retries=1).chat.completions.create(
        **{**ASKED, "model": "limited"}
    )


def asking(model: str, *, stream: bool = False) -> Callable[[Wire], object]:
    """Return a program that asks a model that is answered in its own way."""

    def ask(wire: Wire) -> object:
        asked = {**(STREAMED if stream else ASKED), "model": model}
        result = wire.client().chat.completions.create(**asked)
        return list(result) if stream else result

    return ask


def without_messages(wire: Wire) -> object:
    create: Any = wire.client().chat.completions.create
    return create(model="m")


def kept(wire: Wire) -> object:
    """What a program keeps of a response, copied and stored."""
    found = wire.client().chat.completions.create(**ASKED)
    return (copy.deepcopy(found), pickle.loads(pickle.dumps(found)), found.to_json())  # noqa: S301  # ours


def embedded(wire: Wire) -> object:
    return wire.client().embeddings.create(model="refused", input="one")


PROGRAMS: dict[str, Callable[[Wire], object]] = {
    "plain": plain,
    "parsed": parsed,
    "raw": raw,
    "raw stream": raw_stream,
    "streaming response": streaming_response,
    "lines": lines,
    "streamed": streamed,
    "stream helper": helper,
    "left early": left_early,
    "closed": closed,
    "abandoned": abandoned,
    "retried": retried,
    "kept": kept,
    "refused": asking("refused"),
    "limited": asking("limited"),
    "unreachable": asking("unreachable"),
    "late": asking("late"),
    "nonsense": asking("nonsense"),
    "refused stream": asking("refused", stream=True),
    "broken stream": asking("broken", stream=True),
    "failing stream": asking("failing", stream=True),
    "without messages": without_messages,
    "refused embedding": embedded,
}


async def plain_later(client: openai.AsyncOpenAI) -> object:
    return await client.chat.completions.create(**ASKED)


async def parsed_later(client: openai.AsyncOpenAI) -> object:
    return await client.chat.completions.parse(**ASKED, response_format=Person)


async def raw_later(client: openai.AsyncOpenAI) -> object:
    response = await client.chat.completions.with_raw_response.create(**ASKED)
    return (type(response), response.parse())


async def lines_later(client: openai.AsyncOpenAI) -> object:
    async with client.chat.completions.with_streaming_response.create(
        **STREAMED
    ) as response:
        return [line async for line in response.iter_lines()]


async def streamed_later(client: openai.AsyncOpenAI) -> object:
    stream = await client.chat.completions.create(**STREAMED)
    chunks = [chunk async for chunk in stream]
    return (chunks, stream.response.is_closed, await anext(stream, 1))


async def helper_later(client: openai.AsyncOpenAI) -> object:
    async with client.chat.completions.stream(**ASKED) as stream:
        kinds = [event.type async for event in stream]
        return (kinds, await stream.get_final_completion())


async def left_early_later(client: openai.AsyncOpenAI) -> object:
    stream = await client.chat.completions.create(**STREAMED)
    async with stream:
        async for chunk in stream:
            return (chunk, stream.response.is_closed)
    return None


def asking_later(
    model: str, *, stream: bool = False
) -> Callable[[openai.AsyncOpenAI], Awaitable[object]]:
    async def ask(client: openai.AsyncOpenAI) -> object:
        asked = {**(STREAMED if stream else ASKED), "model": model}
        result: Any = await client.chat.completions.create(**asked)
        return [chunk async for chunk in result] if stream else result

    return ask


ASYNC_PROGRAMS: dict[str, Callable[[openai.AsyncOpenAI], Awaitable[object]]] = {
    "plain": plain_later,
    "parsed": parsed_later,
    "raw": raw_later,
    "lines": lines_later,
    "streamed": streamed_later,
    "stream helper": helper_later,
    "left early": left_early_later,
    "refused": asking_later("refused"),
    "limited": asking_later("limited"),
    "unreachable": asking_later("unreachable"),
    "late": asking_later("late"),
    "nonsense": asking_later("nonsense"),
    "refused stream": asking_later("refused", stream=True),
    "broken stream": asking_later("broken", stream=True),
    "failing stream": asking_later("failing", stream=True),
}


class Run(NamedTuple):
    """All that can be told of a program: what it saw, how it failed, what it sent."""

    seen: object
    frames: list[tuple[str, str]]
    sent: list[Sent]
    warned: list[str]


def told(seen: object) -> object:
    """Return what a program has returned, in a form that can be compared."""
    if isinstance(seen, (tuple, list)):
        return [told(each) for each in seen]
    return described(seen)


def frames(error: BaseException | None) -> list[tuple[str, str]]:
    """Return the frames of an error and of what has caused it, but for ours."""
    found = []
    while error is not None:
        found += [
            (frame.filename, frame.name)
            for frame in traceback.extract_tb(error.__traceback__)
            if "/llmevents/" not in frame.filename
        ]
        error = error.__cause__ or error.__context__
    return found


def run(program: Callable[[Wire], object]) -> Run:
    wire = Wire()
    raised: BaseException | None = None
    seen: object = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            seen = told(program(wire))
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is the same without us
            raised = error
            seen = described(error)
    texts = [str(each.message) for each in warned]
    return Run(seen, frames(raised), wire.sent, texts)


def in_loop(
    program: Callable[[openai.AsyncOpenAI], Awaitable[object]],
) -> Callable[[Wire], object]:
    def run_it(wire: Wire) -> object:
        async def main() -> object:
            async with wire.async_client() as client:
                return await program(client)

        return asyncio.run(main())

    return run_it


async def under_way(client: openai.AsyncOpenAI, wire: Wire) -> asyncio.Future[Any]:
    """Return a request that has reached the server, which does not answer it.

    Before that the SDK works in a thread; given up in there, it ends in another way.
    """
    asking = client.chat.completions.create(**{**ASKED, "model": "slow"})
    task = asyncio.ensure_future(asking)
    await until(lambda: bool(wire.sent) or task.done())
    return task


def cancelled(wire: Wire) -> object:
    async def ask(client: openai.AsyncOpenAI) -> object:
        task = await under_way(client, wire)
        task.cancel("enough")
        return await task

    return in_loop(ask)(wire)


def timed_out(wire: Wire) -> object:
    async def ask(client: openai.AsyncOpenAI) -> object:
        return await asyncio.wait_for(await under_way(client, wire), 0.05)

    return in_loop(ask)(wire)


IN_LOOPS: dict[str, Callable[[Wire], object]] = {
    **{name: in_loop(program) for name, program in ASYNC_PROGRAMS.items()},
    "cancelled": cancelled,
    "timed out": timed_out,
}


def compare(program: Callable[[Wire], object]) -> CapturedEvents:
    """Run *program* without us, with us, with us unheard, and without us once more."""
    bare = run(program)
    bus = Bus(strict=True)
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = run(program)
    with instrumented(Bus()):
        unheard = run(program)
    assert watched == bare
    assert unheard == bare
    assert run(program) == bare
    assert bus.stats()["handler_failures"] == 0
    return events


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_a_program_is_the_same_with_us(program: Callable[[Wire], object]) -> None:
    events = compare(program)
    assert len(outcomes(events)) == 1


@pytest.mark.parametrize("program", IN_LOOPS.values(), ids=list(IN_LOOPS))
def test_an_async_program_is_the_same_with_us(
    program: Callable[[Wire], object],
) -> None:
    events = compare(program)
    assert len(outcomes(events)) == 1


def test_what_a_program_gives_is_as_it_was() -> None:
    asked = {
        **STREAMED,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "stream_options": {"include_usage": True},
        "metadata": {"a": "b"},
        "extra_headers": {"x-own": "1"},
        "extra_query": {"q": "1"},
        "extra_body": {"own": 1},
    }
    before = copy.deepcopy(asked)
    with instrumented(Bus(strict=True)):
        list(Wire().client().chat.completions.create(**asked))
    assert asked == before


def test_a_program_that_asks_for_usage_sends_nothing_else() -> None:
    """But for the option itself, of which the program sees nothing."""
    bare = run(streamed)
    bus = Bus(strict=True)
    llmevents.instrument("openai", bus=bus, include_stream_usage=True)
    with capture(bus=bus):
        watched = run(streamed)
    llmevents.uninstrument("openai")
    assert watched.seen == bare.seen
    (_, url, headers, body), (_, bare_url, bare_headers, bare_body) = (
        watched.sent[0],
        bare.sent[0],
    )
    option = b',"stream_options":{"include_usage":true}'
    assert body.replace(option, b"") == bare_body
    assert int(headers.pop("content-length")) == len(bare_body) + len(option)
    assert int(bare_headers.pop("content-length")) == len(bare_body)
    assert (url, headers) == (bare_url, bare_headers)
