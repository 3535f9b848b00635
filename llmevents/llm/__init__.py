"""Calls of models: what instrumented SDKs emit, for everything else.

>>> from llmevents import llm
>>> with llm.chat(provider="acme", model="tiny-1") as call:
...     call.record({"choices": [], "usage": {"prompt_tokens": 3}})
"""

from llmevents.llm._call import Call
from llmevents.llm._operations import CallScope, chat, embedding
from llmevents.llm.usage import Usage


__all__ = ["Call", "CallScope", "Usage", "chat", "embedding"]
