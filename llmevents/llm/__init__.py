"""Calls of models: what instrumented SDKs emit, for everything else.

>>> from llmevents import llm
>>> with llm.chat(provider="acme", model="tiny-1") as call:
...     call.record({"choices": [], "usage": {"prompt_tokens": 3}})
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents.llm._call import Call, ReportedError
from llmevents.llm._operations import (
    CallScope,
    chat,
    completion,
    embedding,
    image,
    moderation,
    ocr,
    rerank,
    search,
    speech,
    transcription,
    translation,
)
from llmevents.llm._record import record
from llmevents.llm._work import WorkScope, agent, task, tool
from llmevents.llm.usage import Usage


if TYPE_CHECKING:
    from llmevents.llm import budgets, cache, pricing

__all__ = [
    "Call",
    "CallScope",
    "ReportedError",
    "Usage",
    "WorkScope",
    "agent",
    "budgets",
    "cache",
    "chat",
    "completion",
    "embedding",
    "image",
    "moderation",
    "ocr",
    "pricing",
    "record",
    "rerank",
    "search",
    "speech",
    "task",
    "tool",
    "transcription",
    "translation",
]


def __getattr__(name: str) -> object:
    """Load a subpackage on first access."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return import_module(f"{__name__}.{name}")
