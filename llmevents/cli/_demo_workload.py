"""What the demo does: a small application with users, sessions and a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from llmevents import context, execute, span


if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from openai.types import CompletionUsage
    from openai.types.create_embedding_response import Usage as EmbeddingUsage

USERS = {"ada": "s-1", "grace": "s-2", "edsger": "s-3", "barbara": "s-4"}
"""User -> session."""

QUESTIONS = (
    "What is an event bus?",
    "Name three uses of telemetry.",
    "What is an event bus?",
    "How many tokens are in this sentence?",
)
"""The third one has been asked before."""

FAILING = ("fault-401", "fault-429", "fault-500")
"""Models that the fake provider answers with that status."""


class Models(NamedTuple):
    """Names of the models to ask."""

    chat: str
    other_chat: str
    embedding: str


class Received:
    """What the application was told in responses, added up by the application.

    It is the yardstick where the server cannot say what it has served.
    """

    def __init__(self) -> None:
        self._usages: list[CompletionUsage | EmbeddingUsage] = []

    def add(self, usage: CompletionUsage | EmbeddingUsage | None) -> None:
        """Take note of what one response states; safe in any thread."""
        if usage is not None:
            self._usages.append(usage)

    def total(self, field: str) -> int:
        """Return the sum of a field of OpenAI's, ``"prompt_tokens"`` for example."""
        return sum(getattr(usage, field, 0) for usage in self._usages)


class Workload:
    """One run of the application.

    Args:
        client: Of the openai SDK, without retries, so that each call is one request.
        async_client: Likewise, for the asynchronous part.
        models: What to ask.
        is_fake: Whether the server is the fake provider, which has models that fail
            and an embedding model; other servers are asked for chats only.
    """

    def __init__(
        self,
        client: OpenAI,
        async_client: AsyncOpenAI,
        models: Models,
        *,
        is_fake: bool,
    ) -> None:
        self._client = client
        self._async_client = async_client
        self._models = models
        self._is_fake = is_fake
        self._cache: dict[str, str] = {}
        self.received = Received()

    def run(self) -> None:
        """Let every user do everything, each in a thread, then the asynchronous part."""
        with ThreadPoolExecutor(len(USERS)) as pool:
            for _ in pool.map(self._session, USERS.items()):
                pass
        asyncio.run(self._ask_at_once())

    def _session(self, who: tuple[str, str]) -> None:
        user, session = who
        with context(user_id=user, session_id=session):
            for step in self._steps():
                step()

    def _steps(self) -> Iterator[Callable[[], None]]:
        for question in QUESTIONS:
            yield partial(self._ask, question)
        yield self._stream
        yield self._stream_and_leave
        if self._is_fake:
            yield self._embed
            yield self._fail

    def _ask(self, question: str) -> None:
        """Answer from the cache, or from the model."""
        key = sha256(question.encode()).hexdigest()[:12]
        known = key in self._cache
        name = "llm.cache.hit" if known else "llm.cache.miss"
        execute(name, {"count": 1}, {"cache": "answers", "key": key})
        if known:
            return
        response = self._client.chat.completions.create(
            model=self._models.chat, messages=[{"role": "user", "content": question}]
        )
        self._cache[key] = response.choices[0].message.content or ""
        self.received.add(response.usage)

    @span("demo.stream")
    def _stream(self) -> None:
        for chunk in self._chunks():
            self.received.add(chunk)

    def _stream_and_leave(self) -> None:
        for position, _ in enumerate(self._chunks()):
            if position == 1:
                break

    def _chunks(self) -> Iterator[CompletionUsage | None]:
        with self._client.chat.completions.create(
            model=self._models.other_chat,
            messages=[{"role": "user", "content": "Tell me a story, in small pieces."}],
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            for chunk in stream:
                yield chunk.usage

    def _embed(self) -> None:
        response = self._client.embeddings.create(
            model=self._models.embedding, input=list(QUESTIONS)
        )
        self.received.add(response.usage)

    def _fail(self) -> None:
        from openai import APIStatusError

        for model in FAILING:
            with suppress(APIStatusError):
                self._client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hello?"}]
                )

    async def _ask_at_once(self) -> None:
        async with self._async_client as client:
            with context(task_id="nightly"):
                answers = await asyncio.gather(
                    *(self._answer(client, question) for question in QUESTIONS)
                )
        for usage in answers:
            self.received.add(usage)

    async def _answer(
        self, client: AsyncOpenAI, question: str
    ) -> CompletionUsage | None:
        response = await client.chat.completions.create(
            model=self._models.other_chat,
            messages=[{"role": "user", "content": question}],
        )
        return response.usage
