"""Every operation of openai that a model answers: told once, and passed through."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import openai
import pytest
from pydantic import BaseModel, ValidationError

from llmevents import Bus
from llmevents.instrumentation._calls import Method, wrap, wrap_async
from llmevents.instrumentation._openai import OPERATIONS, _wrap_all
from llmevents.instrumentation._patching import Patches
from llmevents.testing import CapturedEvents, capture
from tests.instrumentation.sdk import (
    WITHOUT_REQUESTS,
    answer,
    async_client_of,
    client_of,
    described,
    instrumented,
    server_sent,
)
from tests.outcomes import outcomes


USED = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
IMAGES = {
    "created": 1,
    "data": [{"b64_json": "eA=="}, {"b64_json": "eA=="}],
    "usage": {**USED, "input_tokens_details": {"image_tokens": 3, "text_tokens": 4}},
}
PICTURE = ("picture.png", b"\x89PNG", "image/png")
SOUND = ("sound.wav", b"RIFF", "audio/wav")

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-4o-2024-08-06",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": '{"name": "Ada"}', "annotations": []}
            ],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "look_up",
            "arguments": "{}",
        },
    ],
    "usage": {
        **USED,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 1},
    },
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


class Case(NamedTuple):
    """One method, what it is answered, and what is to be told of that."""

    method: str
    asked: dict[str, Any]
    body: object
    prefix: str
    operation: str
    used: dict[str, int]
    facts: dict[str, object] = {}  # noqa: RUF012  # only read


CASES = {
    "completion": Case(
        "completions.create",
        {"model": "m", "prompt": "Hi", "max_tokens": 5},
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "m",
            "choices": [{"text": "x", "index": 0, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        },
        "llm.completion",
        "text_completion",
        USED,
        {"max_tokens": 5, "finish_reasons": ["length"], "response_id": "cmpl-1"},
    ),
    "response": Case(
        "responses.create",
        {
            "model": "gpt-4o",
            "input": "Hi",
            "max_output_tokens": 9,
            "temperature": 0.5,
            "tools": [{"type": "web_search"}],
            "conversation": "conv_1",
        },
        RESPONSE,
        "llm.chat",
        "chat",
        {**USED, "cache_read_tokens": 2, "reasoning_tokens": 1},
        {
            "max_tokens": 9,
            "temperature": 0.5,
            "features": ["tools", "search_grounding"],
            "conversation_id": "conv_1",
            "tool_calls": ["look_up"],
            "response_id": "resp_1",
            "response_model": "gpt-4o-2024-08-06",
        },
    ),
    "beta response": Case(
        "beta.responses.create",
        {"model": "gpt-4o", "input": "Hi", "conversation": {"id": "conv_2"}},
        RESPONSE,
        "llm.chat",
        "chat",
        {**USED, "cache_read_tokens": 2, "reasoning_tokens": 1},
        {"conversation_id": "conv_2"},
    ),
    "compaction": Case(
        "responses.compact",
        {"model": "gpt-4o", "input": "Hi"},
        {
            "id": "resp_2",
            "object": "response.compaction",
            "created_at": 1,
            "output": [],
            "usage": {
                **USED,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        },
        "llm.chat",
        "chat",
        {**USED, "cache_read_tokens": 0, "reasoning_tokens": 0},
    ),
    "embedding": Case(
        "embeddings.create",
        {"model": "m", "input": ["a", "b"], "encoding_format": "float"},
        {
            "object": "list",
            "model": "m",
            "data": [
                {"object": "embedding", "index": at, "embedding": [0.5, 0.25]}
                for at in range(2)
            ],
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        },
        "llm.embedding",
        "embeddings",
        {"input_tokens": 7, "total_tokens": 7, "texts": 2, "dimensions": 2},
    ),
    "image": Case(
        "images.generate",
        {"model": "gpt-image-1", "prompt": "a cat", "n": 2},
        IMAGES,
        "llm.image",
        "image",
        {**USED, "image_input_tokens": 3, "images": 2},
        {"output_type": "image"},
    ),
    "edited image": Case(
        "images.edit",
        {"model": "gpt-image-1", "prompt": "a dog", "image": PICTURE},
        IMAGES,
        "llm.image",
        "image",
        {**USED, "image_input_tokens": 3, "images": 2},
    ),
    "variation": Case(
        "images.create_variation",
        {"image": PICTURE},
        {"created": 1, "data": [{"url": "https://example.com/cat"}]},
        "llm.image",
        "image",
        {"images": 1},
    ),
    "transcription": Case(
        "audio.transcriptions.create",
        {"model": "whisper-1", "file": SOUND},
        {"text": "Hello.", "usage": {"type": "duration", "seconds": 3}},
        "llm.transcription",
        "transcription",
        {"audio_duration": 3_000_000_000},
    ),
    "translation": Case(
        "audio.translations.create",
        {"model": "whisper-1", "file": SOUND},
        {"text": "Hello."},
        "llm.translation",
        "translation",
        {},
    ),
    "speech": Case(
        "audio.speech.create",
        {"model": "tts-1", "input": "Hello you", "voice": "alloy"},
        b"\xff\xf3",
        "llm.speech",
        "speech",
        {"characters": 9},
        {"output_type": "speech"},
    ),
    "moderation": Case(
        "moderations.create",
        {"model": "omni-moderation-latest", "input": "Hello"},
        {"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": []},
        "llm.moderation",
        "moderation",
        {},
    ),
}

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def method_of(root: Any, name: str) -> Callable[..., Any]:  # noqa: ANN401  # an SDK's client
    """Return the method of this dotted name; skip if the SDK has no such method."""
    for part in name.split("."):
        if not hasattr(root, part):
            pytest.skip(f"openai {openai.__version__} has no {name}")
        root = getattr(root, part)
    found: Callable[..., Any] = root
    return found


def serve(case: Case) -> Callable[[Any], Any]:
    def handler(_request: object) -> Any:  # noqa: ANN401  # of the HTTP library
        return answer(case.body)

    return handler


def seen_of(result: Any) -> object:  # noqa: ANN401  # whatever a method returns
    return described(result.content if hasattr(result, "iter_bytes") else result)


def ask(case: Case, raw: bool) -> object:
    client = client_of(serve(case))
    method = method_of(client.with_raw_response if raw else client, case.method)
    result = method(**case.asked)
    return seen_of(result.parse() if raw else result)


def ask_async(case: Case, raw: bool) -> object:
    async def main() -> object:
        async with async_client_of(serve(case)) as client:
            method = method_of(client.with_raw_response if raw else client, case.method)
            result = await method(**case.asked)
            return seen_of(result.parse() if raw else result)

    return asyncio.run(main())


@pytest.mark.parametrize("asked", [ask, ask_async], ids=["sync", "async"])
@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
@every_case
def test_an_operation_is_told_once_and_passed_through(
    case: Case, raw: bool, asked: Callable[[Case, bool], object]
) -> None:
    bare = asked(case, raw)
    bus = Bus(strict=True)
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = asked(case, raw)
    assert watched == bare
    assert events.names() == [f"{case.prefix}.start", f"{case.prefix}.stop"]
    start, stop = events
    times = {"duration", "monotonic_time", "cost_nano_usd"}
    numbers = {k: v for k, v in stop.measurements.items() if k not in times}
    assert numbers == case.used
    assert start.metadata["operation"] == case.operation
    assert start.metadata.get("model") == case.asked.get("model")
    told = {key: stop.metadata.get(key) for key in case.facts}
    assert told == case.facts
    assert "choice_count" not in stop.metadata
    assert bus.stats()["refused_values"] == 0


@every_case
def test_a_refused_operation_is_told_as_such(
    case: Case, events: CapturedEvents
) -> None:
    refusal = {"error": {"message": "Refused.", "type": "invalid_request_error"}}
    client = client_of(lambda _request: answer(refusal, 400))
    with pytest.raises(openai.BadRequestError, match="Refused"):
        method_of(client, case.method)(**case.asked)
    assert events.names() == [f"{case.prefix}.start", f"{case.prefix}.exception"]
    assert events[-1].metadata["http_status"] == 400


STREAMS = {
    "response": Case(
        "responses.create",
        {"model": "gpt-4o", "input": "Hi", "stream": True},
        server_sent(
            {
                "type": "response.created",
                "sequence_number": 0,
                "response": {**RESPONSE, "status": "in_progress", "usage": None},
            },
            {
                "type": "response.output_text.delta",
                "sequence_number": 1,
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": "Hi",
                "logprobs": [],
            },
            {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
        ),
        "llm.chat",
        "chat",
        {**USED, "cache_read_tokens": 2, "reasoning_tokens": 1, "chunks": 3},
    ),
    "completion": Case(
        "completions.create",
        {"model": "m", "prompt": "Hi", "stream": True},
        server_sent(
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 1,
                "model": "m",
                "choices": [{"text": "x", "index": 0, "finish_reason": "stop"}],
            },
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 1,
                "model": "m",
                "choices": [],
                "usage": {
                    "prompt_tokens": 7,
                    "completion_tokens": 5,
                    "total_tokens": 12,
                },
            },
        ),
        "llm.completion",
        "text_completion",
        {**USED, "chunks": 2},
    ),
    "image": Case(
        "images.generate",
        {"model": "gpt-image-1", "prompt": "a cat", "stream": True},
        server_sent(
            {
                "type": "image_generation.partial_image",
                "b64_json": "eA==",
                "partial_image_index": 0,
            },
            {
                "type": "image_generation.completed",
                "b64_json": "eA==",
                "usage": IMAGES["usage"],
            },
        ),
        "llm.image",
        "image",
        {**USED, "image_input_tokens": 3, "images": 1, "chunks": 2},
    ),
    "transcription": Case(
        "audio.transcriptions.create",
        {"model": "gpt-4o-transcribe", "file": SOUND, "stream": True},
        server_sent(
            {"type": "transcript.text.delta", "delta": "Hi"},
            {
                "type": "transcript.text.done",
                "text": "Hi",
                "usage": {**USED, "type": "tokens"},
            },
        ),
        "llm.transcription",
        "transcription",
        {**USED, "chunks": 2},
    ),
}


@pytest.mark.parametrize("case", STREAMS.values(), ids=list(STREAMS))
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_streamed_operation_is_told_once_it_is_read(
    case: Case, asynchronous: bool
) -> None:
    async def read() -> list[object]:
        async with async_client_of(serve(case)) as client:
            stream = await method_of(client, case.method)(**case.asked)
            return [described(part) async for part in stream]

    def seen() -> object:
        if asynchronous:
            return asyncio.run(read())
        stream = method_of(client_of(serve(case)), case.method)(**case.asked)
        return [described(part) for part in stream]

    bare = seen()
    bus = Bus(strict=True)
    with (
        instrumented(bus),
        capture(*WITHOUT_REQUESTS, bus=bus, scope="process") as events,
    ):
        watched = seen()
    assert watched == bare
    assert outcomes(events) == ["stop success"]
    stop = events[-1]
    assert stop.name == f"{case.prefix}.stop"
    times = {"duration", "monotonic_time", "cost_nano_usd", "time_to_first_chunk"}
    numbers = {k: v for k, v in stop.measurements.items() if k not in times}
    assert numbers == case.used
    assert stop.metadata["stream"] is True
    assert stop.metadata["usage_complete"] is True


def test_the_stream_helper_of_responses_is_one_call(events: CapturedEvents) -> None:
    with client_of(serve(STREAMS["response"])).responses.stream(
        model="gpt-4o", input="Hi"
    ) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().id == "resp_1"
    assert kinds[-1] == "response.completed"
    assert outcomes(events) == ["stop success"]
    assert events[-1].measurements["total_tokens"] == 12


class Person(BaseModel):
    """What the model is to answer with."""

    name: str


def test_a_parsed_response_is_a_call_with_structured_output(
    events: CapturedEvents,
) -> None:
    parsed = client_of(serve(CASES["response"])).responses.parse(
        model="gpt-4o", input="Hi", text_format=Person
    )
    assert parsed.output_parsed == Person(name="Ada")
    assert outcomes(events) == ["stop success"]
    assert events[-1].metadata["features"] == ["structured_output"]
    assert events[-1].metadata["output_type"] == "json"


def test_an_answer_that_cannot_be_parsed_states_what_it_used(
    events: CapturedEvents,
) -> None:
    """The SDK raises, and its error does not have the answer that was paid for."""

    class Animal(BaseModel):
        legs: int

    with pytest.raises(ValidationError, match="legs"):
        client_of(serve(CASES["response"])).responses.parse(
            model="gpt-4o", input="Hi", text_format=Animal
        )
    assert outcomes(events) == ["exception error error"]
    assert events[-1].measurements["total_tokens"] == 12


def test_what_is_only_looked_at_again_is_not_counted_again(
    all_events: CapturedEvents,
) -> None:
    """``retrieve`` repeats the usage of a response; so does a stream that is resumed."""
    client = client_of(serve(CASES["response"]))
    assert client.responses.retrieve("resp_1").usage is not None
    client.responses.cancel("resp_1")
    resumed = client_of(serve(STREAMS["response"])).responses.retrieve(
        "resp_1", stream=True, starting_after=1
    )
    assert len(list(resumed)) == 3
    assert all_events == []


@pytest.mark.parametrize(
    ("asked", "output_type"),
    [
        pytest.param({}, None, id="not asked"),
        pytest.param({"text": {}}, None, id="no format"),
        pytest.param({"text": {"format": {"type": "text"}}}, "text", id="text"),
        pytest.param({"text": {"format": {"type": "json_object"}}}, "json", id="json"),
    ],
)
def test_the_type_of_output_is_told_where_it_was_asked_for(
    asked: dict[str, Any], output_type: str | None, events: CapturedEvents
) -> None:
    client = client_of(serve(CASES["response"]))
    client.responses.create(model="gpt-4o", input="Hi", **asked)
    assert events[0].metadata.get("output_type") == output_type
    is_json = output_type == "json"
    assert events[0].metadata.get("features") == (
        ["structured_output"] if is_json else None
    )


def test_speech_is_told_to_be_asked_of_a_chat(events: CapturedEvents) -> None:
    refusal = {"error": {"message": "Refused."}}
    client = client_of(lambda _request: answer(refusal, 400))
    with pytest.raises(openai.BadRequestError, match="Refused"):
        client.chat.completions.create(
            model="m",
            messages=[],
            modalities=["text", "audio"],
            audio={"voice": "alloy", "format": "wav"},
        )
    assert events[0].metadata["output_type"] == "speech"


def test_speech_of_something_odd_has_no_characters(events: CapturedEvents) -> None:
    case = CASES["speech"]
    given: Any = {**case.asked, "input": None}
    client_of(serve(case)).audio.speech.create(**given)
    assert outcomes(events) == ["stop success"]
    assert "characters" not in events[-1].measurements


def test_methods_that_an_older_version_lacks_are_no_matter() -> None:
    class Responses:
        def create(self) -> None:
            """As the SDK's."""

    class AsyncResponses(Responses):
        async def create(self) -> None:  # type: ignore[override]  # as the SDK's
            """As the SDK's."""

    module = types.ModuleType("responses")
    vars(module).update(Responses=Responses, AsyncResponses=AsyncResponses)
    patches = Patches()
    operation = OPERATIONS[1]
    assert "compact" in operation.methods
    method = Method("llm.chat", lambda _instance, _asked: {})
    wrappers = {"": wrap(method, Bus()), "Async": wrap_async(method, Bus())}
    before = (vars(Responses)["create"], vars(AsyncResponses)["create"])
    _wrap_all(patches, operation, wrappers, module)
    assert vars(Responses)["create"] is not before[0]
    patches.undo()
    assert (vars(Responses)["create"], vars(AsyncResponses)["create"]) == before
    assert not hasattr(Responses, "compact")


def test_every_operation_has_its_methods_in_this_version() -> None:
    for operation in OPERATIONS:
        name = f"openai.resources.{operation.module}"
        if operation.module == "beta.responses" and find_spec(name) is None:
            assert openai.__version__.startswith("2.")
            continue
        module = import_module(name)
        for kind in ("", "Async"):
            owner = getattr(module, f"{kind}{operation.name}")
            assert hasattr(owner, operation.methods[0])
