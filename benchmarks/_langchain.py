"""What instrumentation adds to one call of a chat model of LangChain's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from benchmarks._sdk import instrumented
from benchmarks._timing import Claim
from benchmarks._workers import State, take_turns


BARE = "LangChain, not instrumented"
OURS = "llmevents: LangChain, prices, default metrics, Prometheus"

CLAIMS = (Claim(f"added by {OURS}", "", 1_000_000),)
"""In nanoseconds: 2 % of a call that takes 50 milliseconds."""

STATES: dict[str, State] = {
    BARE: nullcontext,
    OURS: partial(instrumented, "langchain"),
}


def measure(rounds: int) -> dict[str, float]:
    """Return the best nanoseconds per call, and what instrumentation adds."""
    return take_turns(STATES, _make_call, max(5, rounds // 10))


def _make_call() -> Callable[[], object]:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    answer = AIMessage(
        content="Good morning.",
        usage_metadata={
            "input_tokens": 1200,
            "output_tokens": 300,
            "total_tokens": 1500,
        },
        response_metadata={"model_name": "gpt-4o", "finish_reason": "stop"},
    )

    def call() -> object:
        return GenericFakeChatModel(messages=iter([answer])).invoke("Good morning?")

    return call
