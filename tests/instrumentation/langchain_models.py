"""Models of LangChain's that ask nobody, or an SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult


STATED = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def answer(text: str = "Hello", **fields: Any) -> AIMessage:  # noqa: ANN401  # a message's
    return AIMessage(content=text, **{"usage_metadata": STATED, **fields})


def chunk(text: str = "Hello", **fields: Any) -> AIMessageChunk:  # noqa: ANN401  # likewise
    return AIMessageChunk(content=text, **fields)


class Scripted(BaseChatModel):
    """Answers what it is told to, a list of candidates for each call in turn."""

    answers: list[list[AIMessage]] = []  # noqa: RUF012  # pydantic copies it
    chunks: list[AIMessageChunk] = []  # noqa: RUF012  # likewise
    before: Callable[[], object] | None = None
    llm_output: dict[str, Any] | None = None
    failure: Exception | None = None
    asked: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:  # noqa: ANN401  # LangChain's
        return {
            "ls_provider": "mistralai",
            "ls_model_name": "tiny-1",
            "ls_temperature": 0.5,
        }

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's
    ) -> ChatResult:
        if self.before is not None:
            self.before()
        if messages[-1].content == "fail":
            msg = "asked to fail"
            raise ValueError(msg)
        candidates = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        return ChatResult(
            generations=[ChatGeneration(message=each) for each in candidates],
            llm_output=self.llm_output,
        )


class Streaming(Scripted):
    """Answers in chunks, and fails after them if it is told to."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's
    ) -> Iterator[ChatGenerationChunk]:
        if self.before is not None:
            self.before()
        for each in self.chunks:
            yield ChatGenerationChunk(message=each)
        if self.failure is not None:
            raise self.failure
