"""The demo: a real SDK, a live table, and totals that have to agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import llmevents
from llmevents.cli._demo_workload import FAILING, Models, Received, Workload
from llmevents.metrics import Counter, MetricStore, Sum
from llmevents.reporting import Reporter, load_reporter
from llmevents.testing import FAULTS, FakeProvider, Reply


if TYPE_CHECKING:
    from llmevents.metrics import Metric

CALLS = ("llm.chat", "llm.embedding")
TERMINAL = [f"{call}.{phase}" for call in CALLS for phase in ("stop", "exception")]
MODEL = ("provider", "model")

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
"""Measurements of calls, and fields of what the provider has served."""

METRICS: tuple[Metric, ...] = (
    Counter("llm.calls", event=TERMINAL, tags=MODEL),
    Counter("llm.errors", event=[f"{call}.exception" for call in CALLS], tags=MODEL),
    *(
        Sum(f"llm.{key}", event=TERMINAL, measurement=key, tags=MODEL, unit="token")
        for key in TOKENS
    ),
    Counter("llm.provider.rate_limit", tags=MODEL, event="llm.provider.rate_limit"),
    Counter("llm.cache.hit", event="llm.cache.hit", tags=("cache",)),
    Counter("llm.cache.miss", event="llm.cache.miss", tags=("cache",)),
)


class Line(NamedTuple):
    """One line of the comparison."""

    name: str
    counted: int
    expected: int

    @property
    def agrees(self) -> bool:
        """Whether both numbers are the same."""
        return self.counted == self.expected


class Outcome(NamedTuple):
    """What the demo found."""

    yardstick: str
    lines: list[Line]

    @property
    def agrees(self) -> bool:
        """Whether every line does."""
        return all(line.agrees for line in self.lines)


def run(
    *, base_url: str | None, model: str | None, log: bool, live: bool | None
) -> Outcome:
    """Run the demo and return the comparison.

    Args:
        base_url: An OpenAI-compatible server; the fake provider if None. Its key is
            taken from ``OPENAI_API_KEY``.
        model: The model to ask; what the fake provider is asked for if None.
        log: Also show the debug log.
        live: Whether to draw a live table; None: if the output is a terminal.
    """
    store = MetricStore(METRICS)
    with ExitStack() as stack:
        stack.enter_context(_telemetry(store, log=log))
        # Reporters take their options as keywords, which the protocol cannot say.
        console: Callable[..., Reporter] = load_reporter("console")
        reporter = console(interval=0.25, live=live)
        reporter.start(llmevents.default_bus, store)
        stack.callback(reporter.stop, 2.0)
        if base_url is not None:
            received = _work(base_url, model, is_fake=False)
            served = _stated_in(received)
        else:
            with FakeProvider(models=_replies()) as provider:
                _work(provider.base_url, model, is_fake=True)
                served = _served_by(provider)
    counted = {name: _total(store, f"llm.{name}") for name in served}
    yardstick = "served" if base_url is None else "in responses"
    lines = [Line(name, counted[name], served[name]) for name in served]
    return Outcome(yardstick, lines)


@contextmanager
def _telemetry(store: MetricStore, *, log: bool) -> Iterator[None]:
    """Switch everything on for the demo, and off again."""
    store.attach(llmevents.default_bus)
    if log:
        llmevents.attach_default_logger(events=["llm.**", "demo.**"])
    llmevents.instrument("openai")
    try:
        yield
    finally:
        llmevents.uninstrument("openai")
        llmevents.detach_default_logger()
        store.detach()


def _work(base_url: str, model: str | None, *, is_fake: bool) -> Received:
    """Run the application against a server."""
    from openai import AsyncOpenAI, OpenAI

    key = os.environ.get("OPENAI_API_KEY", "none") if not is_fake else "none"
    models = Models(
        chat=model or "gpt-4o",
        other_chat=model or "gpt-4o-mini",
        embedding="text-embedding-3-small",
    )
    # Without retries each call is one request, and what is served is what is counted.
    with OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        aside = AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)
        workload = Workload(client, aside, models, is_fake=is_fake)
        workload.run()
    return workload.received


def _replies() -> dict[str, Reply]:
    """Return what the fake provider answers, slowly enough to watch."""
    chat = Reply(
        content="An event bus tells whoever asked what has just happened.",
        delay_seconds=0.5,
        chunk_delay_seconds=0.1,
        cache_read_tokens=64,
        reasoning_tokens=16,
    )
    slow_error = {name: replace(FAULTS[name], delay_seconds=0.3) for name in FAILING}
    return {"gpt-4o": chat, "gpt-4o-mini": chat, **slow_error}


def _served_by(provider: FakeProvider) -> dict[str, int]:
    """Return what the fake provider has served."""
    totals = provider.totals()
    served = {"calls": totals.calls, "errors": totals.errors}
    return {**served, **{key: getattr(totals, key) for key in TOKENS}}


def _stated_in(received: Received) -> dict[str, int]:
    """Return what a server that keeps no books has stated in its responses."""
    return {
        "input_tokens": received.total("prompt_tokens"),
        "output_tokens": received.total("completion_tokens"),
    }


def _total(store: MetricStore, metric: str) -> int:
    """Return the sum of a metric's series; these are all integers."""
    family = store.snapshot().families[metric]
    return sum(each.value for each in family.series if isinstance(each.value, int))
