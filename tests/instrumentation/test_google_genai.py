"""The google-genai SDK: what is told of each operation, and that nothing else changes."""

from __future__ import annotations

import gc
import inspect
import json
from collections.abc import Callable
from importlib.util import find_spec
from itertools import takewhile
from typing import Any

import httpx
import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.testing import capture
from tests.instrumentation.checking import check_success, end_of
from tests.instrumentation.replaying import (
    compare,
    in_loop,
    instrumented,
    raised,
    raised_later,
)
from tests.instrumentation.wire import Answer, Wire, as_events, as_json


genai = pytest.importorskip("google.genai", reason="the google-genai SDK is missing")

from google.genai import types  # noqa: E402  # needs the SDK
from google.oauth2.credentials import Credentials  # noqa: E402  # comes with it


pytestmark = pytest.mark.filterwarnings(
    "ignore:.* is deprecated", "ignore::google.genai._common.ExperimentalWarning"
)

MODEL = "gemini-2.5-flash"


def part(
    prompt: int,
    candidates: int,
    *,
    thoughts: int = 0,
    content: dict[str, Any] | None = None,
) -> Any:  # noqa: ANN401  # JSON
    """Return a response, or a chunk of one, that has used this much so far."""
    return {
        "candidates": [
            {
                "content": {"role": "model", "parts": [content or {"text": "Hi"}]},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": candidates,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": prompt + candidates + thoughts,
        },
        "modelVersion": "gemini-2.5-flash-001",
        "responseId": f"r-{prompt}",
    }


ASKS = {"functionCall": {"name": "weather", "args": {"city": "Bern"}}}


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"fine in {city}"


TOOLS = {"tools": [weather]}


def client(wire: Wire, **options: Any) -> Any:  # noqa: ANN401  # the SDK's own
    """Return a client that sends by httpx, in both ways."""
    known = {
        "client_args": {"transport": wire.transport(httpx)},
        "async_client_args": {"transport": wire.transport(httpx)},
    }
    made = genai.Client(api_key="test", http_options={**known, **options})
    wire.clients.append(made)
    return made


def vertex(wire: Wire) -> Any:  # noqa: ANN401  # the SDK's own
    made = genai.Client(
        enterprise=True,
        project="mine",
        location="europe-west6",
        credentials=Credentials("test"),  # type: ignore[no-untyped-call]  # google-auth's
        http_options={
            "client_args": {"transport": wire.transport(httpx)},
            "async_client_args": {"transport": wire.transport(httpx)},
        },
    )
    wire.clients.append(made)
    return made


def said(response: Any) -> object:  # noqa: ANN401  # any of the SDK's
    if isinstance(response, list):
        return [said(each) for each in response]
    return response.model_dump(exclude={"sdk_http_response"})


def all_of(wire: Wire, program: Callable[[], object]) -> Callable[[], object]:
    """Return *program*, which then returns what it sent, too."""

    def run() -> object:
        before = len(wire.sent)
        result = program()
        return result, [sent[:2] + sent[3:] for sent in wire.sent[before:]]

    return run


def repeated(*answers: Answer) -> Wire:
    """Return a wire that answers twice, without and with instrumentation."""
    return Wire(*answers, *answers)


CALLED = part(10, 5, content=ASKS)
ANSWERED = part(30, 7, thoughts=2)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_turns_of_automatic_function_calling_are_one_call_and_add_up(
    is_async: bool,
) -> None:
    """The response that the caller gets states the last turn only."""
    wire = repeated(as_json(CALLED), as_json(ANSWERED))
    asked = {"model": MODEL, "contents": "How is it in Bern?", "config": TOOLS}

    def program() -> object:
        made = client(wire)
        if is_async:
            return said(in_loop(lambda: made.aio.models.generate_content(**asked)))
        return said(made.models.generate_content(**asked))

    seen = compare("google_genai", all_of(wire, program))
    assert seen.watched == seen.bare
    end = end_of(seen.events)
    assert end.measurements["input_tokens"] == 40
    assert end.measurements["output_tokens"] == 14
    assert end.measurements["reasoning_tokens"] == 2
    assert end.metadata["features"] == ["tools"]
    assert end.metadata["response_id"] == "r-30"
    requests = seen.events.named("llm.provider.request.stop")
    assert [each.metadata["status"] for each in requests] == ["success", "success"]
    assert end.metadata["operation"] == "generate_content"


FIRST_TURN = as_events(part(10, 2), part(10, 5, content=ASKS))
SECOND_TURN = as_events(part(30, 1), part(30, 7, thoughts=2))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_turns_of_a_stream_add_up_and_chunks_within_a_turn_do_not(
    is_async: bool,
) -> None:
    wire = repeated(FIRST_TURN, SECOND_TURN)
    asked = {"model": MODEL, "contents": "How is it in Bern?", "config": TOOLS}

    async def read(made: Any) -> object:  # noqa: ANN401  # a client
        stream = await made.aio.models.generate_content_stream(**asked)
        return said([chunk async for chunk in stream])

    def program() -> object:
        made = client(wire)
        if is_async:
            return in_loop(lambda: read(made))
        return said(list(made.models.generate_content_stream(**asked)))

    seen = compare("google_genai", all_of(wire, program))
    assert seen.watched == seen.bare
    end = end_of(seen.events)
    assert end.measurements["input_tokens"] == 40
    assert end.measurements["output_tokens"] == 14
    assert end.measurements["chunks"] == len(seen.bare[0])  # type: ignore[index]  # of all_of()
    assert end.metadata["stream"] is True
    assert end.metadata["usage_complete"] is True


def is_of_first_turn(chunk: Any) -> bool:  # noqa: ANN401  # the SDK's
    return bool(chunk.usage_metadata.prompt_token_count == 10)


@pytest.mark.parametrize("close", [False, True], ids=["dropped", "closed"])
def test_a_stream_left_in_its_second_turn_states_what_both_have_used(
    close: bool,
) -> None:
    wire = repeated(FIRST_TURN, SECOND_TURN)

    def program() -> object:
        stream = client(wire).models.generate_content_stream(
            model=MODEL, contents="Hello", config=TOOLS
        )
        seen = said(list(takewhile(is_of_first_turn, stream)))
        if close:
            stream.close()
        return seen

    seen = compare("google_genai", all_of(wire, program))
    assert seen.watched == seen.bare
    end = end_of(seen.events)
    assert end.metadata["status"] == "cancelled"
    assert end.metadata["usage_complete"] is False
    assert end.measurements["input_tokens"] == 40
    assert end.measurements["output_tokens"] == 6


def test_an_asynchronous_stream_that_is_left_states_what_it_has_used() -> None:
    wire = repeated(SECOND_TURN)

    async def main() -> object:
        stream = await client(wire).aio.models.generate_content_stream(
            model=MODEL, contents="Hello"
        )
        kind = inspect.isasyncgen(stream)
        seen = said([await anext(stream)])
        await stream.aclose()
        return kind, seen

    def left() -> object:
        seen = in_loop(main)
        # From Python 3.12 on, a task that the loop has cancelled keeps what the SDK's
        # own generator reads in a cycle.
        gc.collect()
        return seen

    seen = compare("google_genai", all_of(wire, left))
    assert seen.watched == seen.bare
    end = end_of(seen.events)
    assert end.metadata["status"] == "cancelled"
    assert end.measurements["output_tokens"] == 1


def test_a_turn_that_fails_leaves_what_was_used_before() -> None:
    refused = as_json({"error": {"code": 400, "message": "no", "status": "BAD"}}, 400)
    wire = repeated(as_json(CALLED), refused)

    def program() -> object:
        return raised(
            lambda: client(wire).models.generate_content(
                model=MODEL, contents="Hello", config=TOOLS
            )
        )

    seen = compare("google_genai", all_of(wire, program))
    assert seen.watched == seen.bare
    end = end_of(seen.events)
    assert end.metadata["status"] == "error"
    assert end.metadata["http_status"] == 400
    assert end.measurements["input_tokens"] == 10


@pytest.mark.skipif(
    "CONTINUATION" not in types.FinishReason.__members__,
    reason="this version of the SDK does not continue answers",
)
def test_a_continued_answer_is_one_call_and_its_requests_add_up() -> None:
    first = part(10, 5)
    first["candidates"][0] |= {
        "finishReason": "CONTINUATION",
        "continuationToken": "dG9rZW4=",
    }
    for answers, read in (
        ((as_json(first), as_json(part(15, 3))), lambda each: each),
        ((as_events(first), as_events(part(15, 3))), list),
    ):
        wire = repeated(*answers)

        def program(wire: Wire = wire, read: Any = read) -> object:  # noqa: ANN401  # list or nothing
            models = client(wire).models
            name = "generate_content" + ("_stream" if read is list else "")
            return said(read(getattr(models, name)(model=MODEL, contents="Hello")))

        seen = compare("google_genai", all_of(wire, program))
        assert seen.watched == seen.bare
        end = end_of(seen.events)
        assert end.measurements["input_tokens"] == 25
        assert end.measurements["output_tokens"] == 8


def test_a_chat_is_one_call_for_each_request() -> None:
    """The SDK's loop over functions is outside of what a model is asked by."""
    wire = repeated(as_json(CALLED), as_json(ANSWERED))

    def program() -> object:
        chat = client(wire).chats.create(model=MODEL, config=TOOLS)
        return said(chat.send_message("Hello")), said(chat.get_history())

    seen = compare("google_genai", all_of(wire, program))
    assert seen.watched == seen.bare
    ends = seen.events.named("llm.chat.stop")
    assert sum(each.measurements["input_tokens"] for each in ends) == 40
    assert sum(each.measurements["output_tokens"] for each in ends) == 14


EMBEDDED = {"embeddings": [{"values": [0.1, 0.2]}, {"values": [0.3, 0.4]}]}

PREDICTED = {"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": "aGk="}]}

OPERATIONS: dict[
    str, tuple[Callable[[Any], Any], object, str, dict[str, object], dict[str, int]]
] = {
    "configured": (
        lambda models: models.generate_content(
            model=f"models/{MODEL}",
            contents="Hello",
            config=types.GenerateContentConfig(
                temperature=0.5,
                max_output_tokens=9,
                candidate_count=1,
                response_mime_type="application/json",
                tools=[types.Tool(google_search=types.GoogleSearch())],
            ),
        ),
        part(3, 2),
        "llm.chat",
        {
            "operation": "generate_content",
            "model": MODEL,
            "temperature": 0.5,
            "max_tokens": 9,
            "features": ["structured_output", "search_grounding"],
            "finish_reasons": ["STOP"],
            "response_model": "gemini-2.5-flash-001",
        },
        {"input_tokens": 3, "output_tokens": 2},
    ),
    "configured by a dict": (
        lambda models: models.generate_content(
            model=MODEL,
            contents="Hello",
            config={"candidate_count": 2, "tools": [{"google_search": {}}, weather]},
        ),
        part(3, 2),
        "llm.chat",
        {"choice_count": 2, "features": ["tools", "search_grounding"]},
        {"input_tokens": 3},
    ),
    "response as it came": (
        lambda models: models.generate_content(
            model=MODEL,
            contents="Hello",
            config=types.GenerateContentConfig(should_return_http_response=True),
        ),
        part(3, 2),
        "llm.chat",
        {"model": MODEL},
        {"input_tokens": 3, "output_tokens": 2},
    ),
    "embed": (
        lambda models: models.embed_content(
            model="gemini-embedding-001", contents=["a", "b"]
        ),
        EMBEDDED,
        "llm.embedding",
        {"operation": "embeddings", "model": "gemini-embedding-001"},
        {"texts": 2, "dimensions": 2},
    ),
    "image": (
        lambda models: models.generate_images(model="imagen-4", prompt="a cat"),
        PREDICTED,
        "llm.image",
        {"operation": "image", "model": "imagen-4", "provider": "gcp.vertex_ai"},
        {"images": 1},
    ),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_says_what_was_asked_and_what_was_used(
    name: str, is_async: bool
) -> None:
    call, answer, prefix, expected, measured = OPERATIONS[name]
    wire = Wire(as_json(answer))
    make = vertex if prefix == "llm.image" else client

    def program() -> object:
        made = make(wire)
        if is_async:
            return said(in_loop(lambda: call(made.aio.models)))
        return said(call(made.models))

    seen = compare("google_genai", all_of(wire, program))
    check_success(seen, prefix, {"provider": "gcp.gemini", **expected}, measured)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("gemini-2.5-pro", "gemini-2.5-pro"),
        (
            "projects/p/locations/l/publishers/google/models/gemini-2.5-pro",
            "gemini-2.5-pro",
        ),
        ("publishers/anthropic/models/claude-sonnet-4-6", "claude-sonnet-4-6"),
        ("tunedModels/123", "tunedModels/123"),
    ],
    ids=["plain", "resource", "publisher", "tuned"],
)
def test_a_model_goes_by_its_own_name(asked: str, named: str) -> None:
    bus = Bus(strict=True)
    wire = Wire(as_json(part(3, 2)))
    with instrumented("google_genai", bus), capture("llm.**", bus=bus) as events:
        vertex(wire).models.generate_content(model=asked, contents="Hello")
    end = end_of(events)
    assert end.metadata["model"] == named
    assert end.metadata["provider"] == "gcp.vertex_ai"


def test_contents_of_any_kind_are_counted_as_texts() -> None:
    bus = Bus(strict=True)
    embedded = {"embeddings": [{"values": [0.1]}]}
    made = client(Wire(as_json(embedded)))
    with instrumented("google_genai", bus), capture("llm.**", bus=bus) as events:
        made.models.embed_content(model="e", contents=types.Part(text="a"))
        made.models.embed_content(model="e", contents="a")
    ends = events.named("llm.embedding.stop")
    assert [end.measurements["texts"] for end in ends] == [1, 1]


def test_a_stream_that_leaves_a_block_is_the_blocks_call() -> None:
    """It has sent nothing yet, but it has been asked for there."""
    bus = Bus(strict=True)

    @llm.chat(bus=bus)
    def ask() -> Any:  # noqa: ANN401  # a stream of the SDK
        return client(Wire(SECOND_TURN)).models.generate_content_stream(
            model=MODEL, contents="Hello"
        )

    with instrumented("google_genai", bus), capture("llm.**", bus=bus) as events:
        assert len(list(ask())) == 2
    end = end_of(events)
    assert end.measurements["input_tokens"] == 30
    assert end.metadata["provider"] == "gcp.gemini"


def test_functions_are_still_of_their_kind() -> None:
    def kinds() -> object:
        models, later = genai.models.Models, genai.models.AsyncModels
        return (
            inspect.isgeneratorfunction(models.generate_content_stream),
            inspect.iscoroutinefunction(later.generate_content_stream),
            inspect.signature(models.generate_content),
            inspect.signature(later.embed_content),
            models.generate_content.__doc__,
        )

    seen = compare("google_genai", kinds)
    assert seen.watched == seen.bare


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_error_within_a_stream_is_the_callers_and_the_calls(is_async: bool) -> None:
    overloaded = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
    wire = repeated(as_events(part(3, 1), overloaded))
    asked = {"model": MODEL, "contents": "Hello"}

    async def read(made: Any) -> object:  # noqa: ANN401  # a client
        stream = await made.aio.models.generate_content_stream(**asked)
        return [chunk async for chunk in stream]

    def program() -> object:
        made = client(wire)
        if is_async:
            return in_loop(lambda: raised_later(read(made)))
        return raised(lambda: list(made.models.generate_content_stream(**asked)))

    seen = compare("google_genai", all_of(wire, program))
    assert seen.watched == seen.bare
    end = end_of(seen.events)
    assert end.metadata["status"] == "error"
    assert end.metadata["http_status"] == 503
    assert end.measurements["input_tokens"] == 3


INTERACTION = {
    "id": "i-1",
    "object": "interaction",
    "model": MODEL,
    "status": "completed",
    "created": "2026-11-01T00:00:00Z",
    "updated": "2026-11-01T00:00:00Z",
    "usage": {
        "total_input_tokens": 11,
        "total_output_tokens": 4,
        "total_thought_tokens": 2,
        "total_tokens": 17,
    },
}


needs_interactions = pytest.mark.skipif(
    find_spec("google.genai._gaos") is None,
    reason="this version of the SDK has interactions of another kind",
)


@needs_interactions
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
def test_an_interaction_is_a_call(is_async: bool, is_stream: bool) -> None:
    finished = {"event_type": "interaction.completed", "interaction": INTERACTION}
    wire = Wire(as_events(finished, "[DONE]") if is_stream else as_json(INTERACTION))
    asked: dict[str, Any] = {
        "model": MODEL,
        "input": "Hello",
        "generation_config": {"temperature": 0.5},
    }
    if is_stream:
        asked["stream"] = True

    async def main(made: Any) -> object:  # noqa: ANN401  # a client
        result = await made.aio.interactions.create(**asked)
        return [each async for each in result] if is_stream else result

    def program() -> object:
        made = client(wire)
        if is_async:
            result = in_loop(lambda: main(made))
        else:
            result = made.interactions.create(**asked)
            result = list(result) if is_stream else result
        return json.loads(json.dumps(result, default=repr))

    seen = compare("google_genai", program)
    assert seen.watched == seen.bare
    end = end_of(seen.events)
    assert end.measurements["input_tokens"] == 11
    assert end.measurements["output_tokens"] == 6
    assert end.metadata["model"] == MODEL
    assert end.metadata["temperature"] == 0.5
    assert end.metadata.get("stream", False) is is_stream
    assert end.metadata["provider"] == "gcp.gemini"


@needs_interactions
def test_an_agent_is_asked_without_a_model() -> None:
    bus = Bus(strict=True)
    wire = Wire(as_json(INTERACTION))
    with instrumented("google_genai", bus), capture("llm.**", bus=bus) as events:
        client(wire).interactions.create(agent="mine", input="Hello")
    end = end_of(events)
    assert "model" not in end.metadata
    assert end.metadata["response_model"] == MODEL


def test_parameters_that_are_missing_are_the_sdks_business() -> None:
    def program() -> object:
        return raised(client(Wire(as_json({}))).models.generate_content)

    seen = compare("google_genai", program)
    assert seen.watched == seen.bare
    assert end_of(seen.events).metadata["status"] == "error"


@needs_interactions
def test_an_interaction_says_which_api_was_asked() -> None:
    bus = Bus(strict=True)
    wire = Wire(as_json(INTERACTION))
    body = {"model": f"models/{MODEL}", "input": "Hello"}
    with instrumented("google_genai", bus), capture("llm.**", bus=bus) as events:
        vertex(wire).interactions.create(request={"body": body})
    end = end_of(events)
    assert end.metadata["provider"] == "gcp.vertex_ai"
    assert end.metadata["model"] == MODEL


def test_another_version_is_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(genai, "__version__", "1.75.0")
    expected = r"google-genai 1\.75\.0 is not instrumented: .* 2\.x and 3\.x"
    with pytest.warns(RuntimeWarning, match=expected):
        llmevents.instrument("google_genai", bus=Bus(strict=True))
    llmevents.uninstrument("google_genai")
    assert not hasattr(genai.models.Models.generate_content, "__wrapped__")
