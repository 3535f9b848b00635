"""The objects of the real SDKs are read like the JSON they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk

from llmevents.llm import Usage
from llmevents.llm._response import Reading
from llmevents.llm._wire import decode
from llmevents.llm.usage import read_usage
from llmevents.testing.provider import Exchange, read_exchanges
from tests.data import EXCHANGES, needs_data


Make = Callable[[Any], Any]


def openai_types() -> dict[str, Make]:
    from openai._models import construct_type
    from openai.types import Completion, CreateEmbeddingResponse
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from openai.types.responses import Response, ResponseStreamEvent

    def make(kind: Any) -> Make:  # noqa: ANN401  # of any SDK
        return lambda value: construct_type(type_=kind, value=value)

    return {
        "chat": make(ChatCompletion),
        "chat stream": make(ChatCompletionChunk),
        "responses": make(Response),
        "responses stream": make(ResponseStreamEvent),
        "embeddings": make(CreateEmbeddingResponse),
        "text_completion": make(Completion),
    }


def anthropic_types() -> dict[str, Make]:
    from anthropic._models import construct_type
    from anthropic.types import Message, RawMessageStreamEvent

    def make(kind: Any) -> Make:  # noqa: ANN401  # of any SDK
        return lambda value: construct_type(type_=kind, value=value)

    return {"messages": make(Message), "messages stream": make(RawMessageStreamEvent)}


def google_types() -> dict[str, Make]:
    from google.genai.types import EmbedContentResponse, GenerateContentResponse

    def make(kind: Any) -> Make:  # noqa: ANN401  # of any SDK
        # As the client does: it drops the fields that the SDK does not know.
        return lambda value: kind._from_response(response=value, kwargs={})

    return {
        "generate_content": make(GenerateContentResponse),
        "generate_content stream": make(GenerateContentResponse),
        "embeddings": make(EmbedContentResponse),
    }


def ollama_types() -> dict[str, Make]:
    from ollama import ChatResponse

    make = ChatResponse.model_validate
    return {"chat": make, "chat stream": make}


def mistral_types() -> dict[str, Make]:
    from mistralai.client.models import CompletionEvent

    return {
        "chat stream": lambda part: CompletionEvent.model_validate({"data": part}),
    }


TYPES: dict[str, Callable[[], dict[str, Make]]] = {
    "openai": openai_types,
    "groq": openai_types,
    "together": openai_types,
    "anthropic": anthropic_types,
    "google": google_types,
    "ollama": ollama_types,
    "mistral": mistral_types,
}


@cache
def exchanges() -> list[Exchange]:
    return list(read_exchanges(EXCHANGES))


def made(exchange: Exchange, types: dict[str, Make]) -> Iterator[Any]:
    """Yield what the SDK makes of the parts of a body."""
    key = f"{exchange.operation} stream" if exchange.stream else exchange.operation
    for part in decode(exchange.response):
        yield types[key](part)


@needs_data
@pytest.mark.parametrize("provider", TYPES)
def test_objects_of_the_sdk_are_read_like_the_body(provider: str) -> None:
    """Usage, and every fact."""
    types, count = TYPES[provider](), 0
    for exchange in exchanges():
        if exchange.provider != provider or exchange.status >= 400:
            continue
        from_body, from_objects = Reading(), Reading()
        from_body.read(exchange.response)
        for part in made(exchange, types):
            from_objects.read(part)
        for fact in ("usage", "facts", "finish_reasons", "tool_names", "raw"):
            if fact == "raw" and provider == "google":
                continue  # the keys of the SDK's objects are not those of the wire
            seen, wanted = getattr(from_objects, fact), getattr(from_body, fact)
            if fact == "facts" and provider == "google":
                wanted.pop("service_tier", None)  # nor has it the tier
            if fact == "raw":
                seen, wanted = stated(seen), stated(wanted)
            assert seen == wanted, (exchange.id, fact)
        assert from_objects.vectors() == from_body.vectors()
        count += 1
    assert count > 0


def stated(raw: object) -> object:
    """Return *raw* without what is null, with which SDKs fill their objects."""
    if isinstance(raw, dict):
        return {k: stated(v) for k, v in raw.items() if v is not None}
    return [stated(each) for each in raw] if isinstance(raw, list) else raw


def test_what_the_sdk_has_filled_in_is_not_stated() -> None:
    """The ``mistralai`` SDK's ``UsageInfo`` says 0 for what the server has not said."""
    from mistralai.client.models import UsageInfo

    assert UsageInfo(completion_tokens=3).prompt_tokens == 0
    assert read_usage(UsageInfo(completion_tokens=3)) == Usage(output_tokens=3)
    assert read_usage(UsageInfo(prompt_tokens=0)) == Usage(input_tokens=0)
    assert read_usage(UsageInfo()) is None


def test_mistrals_ocr_states_pages() -> None:
    from mistralai.client.models import OCRResponse

    response = OCRResponse.model_validate(
        {"pages": [], "model": "ocr-1", "usage_info": {"pages_processed": 4}}
    )
    reading = Reading()
    reading.read(response)
    assert reading.usage == Usage(pages=4)
    assert reading.facts == {"response_model": "ocr-1"}


def test_cohere_declares_floats_and_means_counts() -> None:
    from cohere.types import ApiMeta, ApiMetaBilledUnits, EmbedByTypeResponse

    meta = ApiMeta(billed_units=ApiMetaBilledUnits(input_tokens=7.0, images=2.0))
    response = EmbedByTypeResponse.model_validate(
        {"id": "1", "embeddings": {"float": [[0.5, 1.0, 2.0]]}, "meta": meta}
    )
    reading = Reading()
    reading.read(response)
    assert reading.usage == Usage(input_tokens=7, images=2)
    assert reading.vectors() == {"texts": 1, "dimensions": 3}


def ai_message(**usage: int) -> AIMessage:
    counts: Any = {"total_tokens": 0, **usage}
    return AIMessage(
        "hi",
        id="run-1",
        usage_metadata=counts,
        response_metadata={
            "model_name": "m-1",
            "finish_reason": "stop",
            "service_tier": "flex",
            "token_usage": {"prompt_tokens": 1, "completion_tokens": 1},
        },
        tool_calls=[{"name": "look", "args": {"secret": 1}, "id": "c1"}],
    )


def test_langchains_message_is_read() -> None:
    reading = Reading()
    reading.read(ai_message(input_tokens=3, output_tokens=4))
    assert reading.usage == Usage(input_tokens=3, output_tokens=4)
    assert reading.facts == {
        "response_id": "run-1",
        "response_model": "m-1",
        "service_tier": "flex",
    }
    assert reading.finish_reasons == {0: "stop"}
    assert (reading.tool_calls, reading.tool_names) == (1, ["look"])
    assert "secret" not in repr(reading.raw)


def test_langchains_choices_repeat_the_usage_and_its_prompts_add_up() -> None:
    from langchain_core.outputs import ChatGeneration, LLMResult

    def choices(entered: int) -> list[Any]:
        message = ai_message(input_tokens=entered, output_tokens=1)
        return [ChatGeneration(message=message), ChatGeneration(message=message)]

    output = {"token_usage": {"prompt_tokens": 999}, "model_name": "m-1"}
    one = LLMResult(generations=[choices(3)], llm_output=output)
    two = LLMResult(generations=[choices(3), choices(40)], llm_output=output)
    assert read_usage(one) == Usage(input_tokens=3, output_tokens=1)
    both = read_usage(two)
    assert both is not None
    assert (both.input_tokens, both.output_tokens) == (43, 2)
    reading = Reading()
    reading.read(one)
    assert reading.finish_reasons == {0: "stop", 1: "stop"}


def test_langchains_result_states_what_no_message_does() -> None:
    from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult

    output = {"token_usage": {"prompt_tokens": 5}, "model_name": "m-1"}
    reading = Reading()
    reading.read(LLMResult(generations=[[Generation(text="x")]], llm_output=output))
    assert reading.usage == Usage(input_tokens=5)
    assert reading.facts == {"response_model": "m-1"}
    empty = ChatResult(generations=[], llm_output=output)
    assert read_usage(empty) == Usage(input_tokens=5)
    answer = ChatGeneration(message=ai_message(input_tokens=3, output_tokens=1))
    full = ChatResult(generations=[answer], llm_output=output)
    assert read_usage(full) == Usage(input_tokens=3, output_tokens=1)


def chunk(entered: int, left: int) -> AIMessageChunk:
    usage: Any = {
        "input_tokens": entered,
        "output_tokens": left,
        "total_tokens": entered + left,
    }
    return AIMessageChunk(content="x", usage_metadata=usage)


def test_langchains_chunks_add_up_as_langchain_adds_them() -> None:
    """Its Anthropic states input in the first chunk and output in the others."""
    chunks = [chunk(21, 0), chunk(0, 5), chunk(0, 8)]
    merged = chunks[0] + chunks[1] + chunks[2]
    assert read_usage(chunks) == read_usage(merged)
    assert read_usage(chunks) == Usage(
        input_tokens=21, output_tokens=13, total_tokens=34
    )


def test_litellms_own_price_is_read_where_it_has_one() -> None:
    from pydantic import BaseModel, PrivateAttr

    class ModelResponse(BaseModel):
        """As LiteLLM's: what it knows beside the response is private."""

        choices: list[Any] = []
        usage: dict[str, int] = {"prompt_tokens": 3}
        _hidden_params: dict[str, Any] = PrivateAttr(
            default_factory=lambda: {"response_cost": 0.00014}
        )

    response, reading = ModelResponse(), Reading()
    reading.read(response)
    assert reading.usage == Usage(input_tokens=3)
    assert reading.cost_nano_usd == 140_000
    response._hidden_params = {"response_cost": 0.0}
    unpriced = Reading()
    unpriced.read(response)
    assert unpriced.cost_nano_usd is None
