"""LiteLLM on a fake provider. It pins openai, so it has an environment of its own."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import llmevents
from llmevents import Bus, llm
from llmevents.instrumentation import Choice, _litellm
from llmevents.instrumentation._litellm import LiteLLMStream
from llmevents.instrumentation._patching import Patches
from llmevents.llm._litellm import named
from llmevents.testing import CapturedEvents, FakeProvider, capture
from tests.outcomes import outcomes


# LiteLLM warns of its own types, and leaves connections open at the end.
pytestmark = pytest.mark.filterwarnings("ignore")

MESSAGES = [{"role": "user", "content": "Hello you"}]

REQUESTS = ("llm.provider.request.start", "llm.provider.request.stop")


@pytest.fixture(scope="module")
def litellm() -> Any:  # noqa: ANN401  # of a package that need not be there
    # Its table of models would come from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return pytest.importorskip(
        "litellm", reason="litellm is not installed; it has an environment of its own"
    )


@pytest.fixture(params=["alone", "over_openai"])
def bus(request: pytest.FixtureRequest, litellm: object) -> Iterator[Bus]:
    sdks = ("litellm",) if request.param == "alone" else ("litellm", "openai")
    strict = Bus(strict=True)
    llmevents.instrument(*sdks, bus=strict)
    yield strict
    llmevents.uninstrument(*sdks)


@pytest.fixture
def events(bus: Bus) -> Iterator[CapturedEvents]:
    with capture(
        "llm.*.start",
        "llm.*.stop",
        "llm.*.exception",
        "llm.provider.*.*",
        bus=bus,
        scope="process",
    ) as captured:
        yield captured


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def to(provider: FakeProvider) -> dict[str, Any]:
    return {"api_base": provider.base_url, "api_key": "test", "num_retries": 0}


def calls(events: CapturedEvents, prefix: str = "llm.chat") -> list[dict[str, Any]]:
    """Return what the calls of one operation came to."""
    ends = [*events.named(f"{prefix}.stop"), *events.named(f"{prefix}.exception")]
    assert len(events.named(f"{prefix}.start")) == len(ends)
    return [{**each.metadata, **each.measurements} for each in ends]


def test_a_chat_is_one_call_with_one_request(
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    """Complaint 34: LiteLLM's own callbacks are fired twice."""
    answer = litellm.completion("openai/gpt-4o", messages=MESSAGES, temperature=0, **to)
    (call,) = calls(events)
    assert call["input_tokens"] == provider.totals().input_tokens
    assert call["output_tokens"] == provider.totals().output_tokens
    known = {"provider": "openai", "model": "gpt-4o", "temperature": 0}
    assert {key: call[key] for key in known} == known
    assert call["cost_nano_usd"] == round(
        answer._hidden_params["response_cost"] * 10**9
    )
    assert call["cost_source"] == "provider"
    assert events.names() == ["llm.chat.start", *REQUESTS, "llm.chat.stop"]


def test_an_async_chat_is_one_call_with_one_request(
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    asyncio.run(litellm.acompletion("gpt-4o", messages=MESSAGES, **to))
    (call,) = calls(events)
    assert call["input_tokens"] == provider.totals().input_tokens
    assert call["provider"] == "openai"
    assert events.names() == ["llm.chat.start", *REQUESTS, "llm.chat.stop"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_stream_is_one_call(
    is_async: bool,
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    asked = {
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        **to,
    }

    async def read() -> list[object]:
        stream = await litellm.acompletion("gpt-4o", **asked)
        assert isinstance(stream, litellm.CustomStreamWrapper)
        return [each async for each in stream]

    if is_async:
        chunks = asyncio.run(read())
    else:
        stream = litellm.completion("gpt-4o", **asked)
        assert isinstance(stream, litellm.CustomStreamWrapper)
        chunks = [next(stream), *stream]
    (call,) = calls(events)
    assert call["input_tokens"] == provider.totals().input_tokens
    assert call["output_tokens"] == provider.totals().output_tokens
    assert call["chunks"] == len(chunks)
    assert call["stream"] is True
    assert call["usage_complete"] is True


def test_a_stream_that_is_dropped_ends_as_cancelled(
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    async def drop() -> None:
        stream = await litellm.acompletion(
            "gpt-4o", messages=MESSAGES, stream=True, **to
        )
        await anext(stream)
        await stream.aclose()

    asyncio.run(drop())
    gc.collect()
    assert [call["status"] for call in calls(events)] == ["cancelled"]


def test_a_call_that_fails_is_one_that_failed(
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    events: CapturedEvents,
) -> None:
    with pytest.raises(litellm.InternalServerError, match="had an error"):
        litellm.completion("openai/fault-500", messages=MESSAGES, **to)
    (call,) = calls(events)
    assert (call["status"], call["http_status"]) == ("error", 500)


def test_an_embedding_states_its_texts(
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    litellm.embedding("openai/text-embedding-3-small", ["one two", "three"], **to)
    asyncio.run(litellm.aembedding("text-embedding-3-small", input=["four"], **to))
    first, second = calls(events, "llm.embedding")
    assert (first["texts"], second["texts"]) == (2, 1)
    stated = first["input_tokens"] + second["input_tokens"]
    assert stated == provider.totals().input_tokens


def test_a_router_is_one_call_however_often_it_asks(
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    provider: FakeProvider,
    events: CapturedEvents,
) -> None:
    provider.script("fault-500")
    deployments = [
        {"model_name": name, "litellm_params": {**to, "model": "openai/gpt-4o"}}
        for name in ("first", "second")
    ]
    router = litellm.Router(
        model_list=deployments, fallbacks=[{"first": ["second"]}], num_retries=0
    )
    asyncio.run(router.acompletion("first", messages=MESSAGES))
    (call,) = calls(events)
    assert call["input_tokens"] == provider.totals().input_tokens
    assert (call["model"], call["response_model"]) == ("first", "gpt-4o")
    assert call["provider"] == "openai"
    assert outcomes(events.named("llm.provider.request.*")) == [
        "stop error",
        "stop success",
    ]


def test_parallel_calls_in_a_block_add_up(
    litellm: Any,  # noqa: ANN401  # see the fixture
    to: dict[str, Any],
    provider: FakeProvider,
    bus: Bus,
    events: CapturedEvents,
) -> None:
    async def main() -> None:
        with llm.chat(provider="gateway", bus=bus):
            await asyncio.gather(
                *(
                    litellm.acompletion("gpt-4o", messages=MESSAGES, **to)
                    for _ in range(3)
                )
            )

    asyncio.run(main())
    (call,) = calls(events)
    assert call["input_tokens"] == provider.totals().input_tokens == 6


def test_a_mocked_answer_is_a_call_without_a_request(
    litellm: Any,  # noqa: ANN401  # see the fixture
    events: CapturedEvents,
) -> None:
    litellm.completion("gpt-4o", messages=MESSAGES, mock_response="Hi")
    assert len(calls(events)) == 1
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]


def test_a_text_completion_is_one_call(
    litellm: Any,  # noqa: ANN401  # see the fixture
    events: CapturedEvents,
) -> None:
    litellm.text_completion(prompt="Hello", model="gpt-4o", mock_response="Hi")
    (call,) = calls(events, "llm.completion")
    assert call["operation"] == "text_completion"
    assert events.named("llm.chat.start") == []


def test_functions_look_the_same(litellm: Any, bus: Bus) -> None:  # noqa: ANN401  # see the fixture
    assert inspect.iscoroutinefunction(litellm.acompletion)
    assert not inspect.iscoroutinefunction(litellm.completion)
    assert "model" in inspect.signature(litellm.completion).parameters


# What follows needs no LiteLLM.

MODELS = SimpleNamespace(
    provider_list=["openai", "azure", SimpleNamespace(value="groq")],
    model_cost={"gpt-4o": {"litellm_provider": "openai"}, "odd": None},
)


@pytest.mark.parametrize(
    ("asked", "provider", "model"),
    [
        pytest.param({"model": "gpt-4o"}, "openai", "gpt-4o", id="by table"),
        pytest.param({"model": "azure/mine"}, "azure", "mine", id="by prefix"),
        pytest.param({"model": "groq/a/b"}, "groq", "a/b", id="by prefix of a path"),
        pytest.param({"model": "who/a"}, None, "who/a", id="unknown prefix"),
        pytest.param({"model": "odd"}, None, "odd", id="unknown model"),
        pytest.param(
            {"model": "a", "custom_llm_provider": "azure"}, "azure", "a", id="as given"
        ),
        pytest.param(
            {"model": "azure/a", "custom_llm_provider": "azure"},
            "azure",
            "a",
            id="as given and by prefix",
        ),
        pytest.param({"custom_llm_provider": "azure"}, "azure", None, id="no model"),
        pytest.param({"custom_llm_provider": 1}, None, None, id="nothing"),
    ],
)
def test_who_is_asked_is_found_as_litellm_finds_it(
    asked: dict[str, object], provider: str | None, model: str | None
) -> None:
    assert _litellm._whom(MODELS, asked) == (provider, model)  # type: ignore[arg-type]  # not a module


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        pytest.param("vertex_ai-language-models", "gcp.vertex_ai", id="vertex"),
        pytest.param("bedrock_converse", "aws.bedrock", id="bedrock"),
        pytest.param("xai", "x_ai", id="xai"),
        pytest.param("openrouter", "openrouter", id="openrouter"),
    ],
)
def test_providers_have_opentelemetrys_names(theirs: str, ours: str) -> None:
    assert named(theirs) == ours


class Both:
    """A stream as LiteLLM's are: of either kind."""

    custom_llm_provider = "groq"

    def __init__(self) -> None:
        self.parts = iter(range(3))
        self.is_closed = False

    def __iter__(self) -> Both:
        return self

    def __next__(self) -> int:
        return next(self.parts)

    def __aiter__(self) -> Both:
        return self

    async def __anext__(self) -> int:
        for part in self.parts:
            return part
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.is_closed = True


Make = Callable[[Bus], "tuple[LiteLLMStream, CapturedEvents]"]


@pytest.fixture
def opened() -> Iterator[tuple[Any, CapturedEvents]]:
    strict = Bus(strict=True)
    with capture("llm.chat.stop", bus=strict) as captured:
        call = llm.Call(strict, "llm.chat", scoped=False)
        call.begin({})
        yield _litellm._deliver_async(Both(), call, {}), captured


def test_a_stream_may_be_read_with_for(opened: tuple[Any, CapturedEvents]) -> None:
    stream, captured = opened
    assert list(stream) == [0, 1, 2]
    assert outcomes(captured) == ["stop success"]
    assert captured[0].metadata["provider"] == "groq"


def test_a_stream_may_be_read_with_async_for(
    opened: tuple[Any, CapturedEvents],
) -> None:
    stream, captured = opened

    async def main() -> list[int]:
        return [await anext(stream), *[each async for each in stream]]

    assert asyncio.run(main()) == [0, 1, 2]
    assert outcomes(captured) == ["stop success"]


def test_a_stream_that_is_closed_ends_its_call(
    opened: tuple[Any, CapturedEvents],
) -> None:
    stream, captured = opened

    async def main() -> None:
        await anext(stream)
        await stream.aclose()

    asyncio.run(main())
    assert stream.is_closed
    assert outcomes(captured) == ["stop cancelled"]


def test_an_answer_from_litellms_cache_is_not_billed() -> None:
    strict = Bus(strict=True)
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    answer = SimpleNamespace(
        usage=usage, choices=[], _hidden_params={"cache_hit": True}
    )
    with capture("llm.chat.stop", bus=strict) as captured:
        call = llm.Call(strict, "llm.chat", scoped=False)
        call.begin({})
        assert _litellm._deliver(answer, call, {}) is answer
    assert captured[0].metadata["cached"] is True
    assert "input_tokens" not in captured[0].measurements


class RefusedError(Exception):
    llm_provider = "azure"
    status_code = 429


def _module() -> ModuleType:
    """Something that looks like LiteLLM, as far as that matters here."""
    module = ModuleType("litellm")

    def completion(model: str, **asked: object) -> object:
        if model == "refused":
            raise RefusedError
        hidden = {"custom_llm_provider": "gemini", "response_cost": 0.5}
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        return SimpleNamespace(usage=usage, choices=[], _hidden_params=hidden)

    async def acompletion(model: str, **asked: object) -> object:
        return completion(model, **asked)

    def embedding(model: str, **asked: object) -> object:
        return {"data": [], "usage": {"prompt_tokens": 2, "total_tokens": 2}}

    def stream(model: str, **asked: object) -> object:
        return Both()

    class Router:
        def completion(self, model: str, **asked: object) -> object:
            called: Any = vars(module)["completion"]
            return called("gemini/deployed", **asked)

    known = {
        "completion": completion,
        "acompletion": acompletion,
        "embedding": embedding,
        "text_completion": stream,
        "Router": Router,
        "provider_list": MODELS.provider_list,
        "model_cost": MODELS.model_cost,
    }
    vars(module).update(known)
    return module


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, CapturedEvents]]:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.106.2")
    module, strict, patches = _module(), Bus(strict=True), Patches()
    assert _litellm.patch(module, Choice(strict), patches)
    with capture(
        "llm.*.start", "llm.*.stop", "llm.*.exception", bus=strict, scope="process"
    ) as captured:
        yield module, captured
    patches.undo()


def test_what_was_asked_and_what_it_cost_is_stated(
    fake: tuple[Any, CapturedEvents],
) -> None:
    module, captured = fake
    asked = {"n": 2, "stream": False, "tools": [{}], "max_completion_tokens": 9}
    module.completion("gpt-4o", **asked)
    asyncio.run(module.acompletion(model="gpt-4o"))
    start = captured[0].metadata
    known = ("operation", "provider", "model", "choice_count", "features", "max_tokens")
    assert [start[key] for key in known] == [
        "chat",
        "openai",
        "gpt-4o",
        2,
        ["tools"],
        9,
    ]
    for stop in captured.named("llm.chat.stop"):
        assert stop.metadata["provider"] == "gcp.gemini"
        assert stop.measurements["cost_nano_usd"] == 500_000_000
        assert stop.measurements["input_tokens"] == 3


def test_an_error_says_who_was_asked(fake: tuple[Any, CapturedEvents]) -> None:
    module, captured = fake
    with pytest.raises(RefusedError):
        module.completion("refused")
    assert captured[-1].metadata["provider"] == "azure.ai.openai"
    assert captured[-1].metadata["http_status"] == 429


def test_a_routers_call_is_the_owner(fake: tuple[Any, CapturedEvents]) -> None:
    module, captured = fake
    module.Router().completion("mine", stream=True)
    assert captured.names() == ["llm.chat.start", "llm.chat.stop"]
    stop = captured[-1]
    assert (stop.metadata["model"], stop.metadata["provider"]) == ("mine", "gcp.gemini")
    assert stop.measurements["input_tokens"] == 3


def test_a_plain_function_may_return_a_stream(
    fake: tuple[Any, CapturedEvents],
) -> None:
    module, captured = fake
    assert list(module.text_completion(model="gpt-4o")) == [0, 1, 2]
    module.embedding("gpt-4o", input=["a"])
    assert outcomes(captured) == ["stop success"] * 2


def test_other_versions_are_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.0.0")
    with pytest.warns(RuntimeWarning, match=r"litellm 2\.0\.0 .* litellm 1\.x"):
        assert not _litellm.patch(MODELS, None, None)  # type: ignore[arg-type]  # not used
