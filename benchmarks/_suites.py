"""What is measured, and what it has to keep to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks._timing import Candidate, Claim


EVENT = ("llm", "chat", "stop")
MEASUREMENTS = {"duration": 1_000, "input_tokens": 10, "output_tokens": 20}
METADATA = {"provider": "openai", "model": "gpt-4o"}

# Erlang's telemetry 1.4 in its default mode, on the machine that these limits were
# set for: nanoseconds per execute() with 0, 1 and 10 handlers.
ERLANG = {0: 210, 1: 420, 10: 1060}


@dataclass(frozen=True, slots=True)
class Suite:
    """Candidates that are measured together, in a process of their own."""

    candidates: tuple[Candidate, ...]
    claims: tuple[Claim, ...]


def _nothing(event: object, measurements: object, metadata: object = None) -> None:
    """Do nothing: what `execute` with no handler is compared with."""


def _handler(
    event: object, measurements: object, metadata: object, config: object
) -> None:
    """Do nothing, as a handler."""


def _execute(name: str, handlers: int, event: object = EVENT) -> Candidate:
    from llmevents import Bus

    bus = Bus()
    for index in range(handlers):
        bus.attach(index, "llm.chat.stop", _handler)
    names = {"execute": bus.execute, "e": event, "m": MEASUREMENTS, "d": METADATA}
    return Candidate(name, "execute(e, m, d)", names)


def _calls() -> tuple[Candidate, ...]:
    names = {"f": _handler, "e": EVENT, "m": MEASUREMENTS, "d": METADATA}
    ten = "; ".join(["f(e, m, d, None)"] * 10)
    return (
        Candidate("empty function", "f(e, m, d)", {**names, "f": _nothing}),
        Candidate("1 direct call", "f(e, m, d, None)", names),
        Candidate("10 direct calls", ten, names),
    )


def _blinker(receivers: int) -> Candidate:
    from blinker import Signal

    signal = Signal()
    # blinker keeps weak references: the list keeps the receivers alive.
    kept = [functools.partial(_receiver) for _ in range(receivers)]
    for receiver in kept:
        signal.connect(receiver, weak=False)
    names = {"send": signal.send, "m": MEASUREMENTS, "d": METADATA, "kept": kept}
    statement = "send(None, measurements=m, metadata=d)"
    return Candidate(f"blinker, {receivers} receivers", statement, names)


def _receiver(sender: object, **values: object) -> None:
    """Do nothing, as a receiver of blinker's."""


def _pyee() -> Candidate:
    from pyee.base import EventEmitter

    emitter = EventEmitter()
    emitter.on("llm.chat.stop", _listener)
    names = {"emit": emitter.emit, "m": MEASUREMENTS, "d": METADATA}
    return Candidate("pyee, 1 listener", "emit('llm.chat.stop', m, d)", names)


def _listener(measurements: object, metadata: object) -> None:
    """Do nothing, as a listener of pyee's."""


def dispatch() -> Suite:
    """`execute` against plain calls, other Python buses and Erlang's telemetry."""
    ours = tuple(_execute(f"execute, {count} handlers", count) for count in (0, 1, 10))
    return Suite(
        (
            *_calls(),
            *ours,
            _execute("execute by dotted text, 1 handlers", 1, "llm.chat.stop"),
            _blinker(1),
            _blinker(10),
            _pyee(),
        ),
        (
            Claim("execute, 0 handlers", "empty function", 2.2),
            Claim("execute, 1 handlers", "1 direct call", 3.5),
            Claim("execute, 10 handlers", "10 direct calls", 1.6),
            Claim("execute, 1 handlers", "blinker, 1 receivers", 1 / 6),
            Claim("execute, 10 handlers", "blinker, 10 receivers", 1 / 10),
            Claim("execute, 1 handlers", "pyee, 1 listener", 1 / 3),
            *(
                Claim(f"execute, {count} handlers", "", limit)
                for count, limit in ERLANG.items()
            ),
        ),
    )


def context() -> Suite:
    """`execute` once a program uses `llmevents.context`, outside and inside a block.

    Has no limits: it says what the context costs.
    """
    import llmevents

    with llmevents.context(user_id="u-1"):
        pass
    outside = [_execute(f"execute, {count} handlers", count) for count in (0, 1, 10)]
    names = {**_execute("", 1).names, "block": llmevents.context(user_id="u-1")}
    inside = Candidate(
        "one block and 100 x execute in it, 1 handlers",
        "with block:\n for _ in range(100): execute(e, m, d)",
        names,
    )
    return Suite((*_calls(), *outside, inside), ())


def spans() -> Suite:
    """A span that nobody listens to, against one of OpenTelemetry's SDK."""
    from opentelemetry.sdk.trace import TracerProvider

    from llmevents import Bus, span

    # Without a processor: what the SDK itself costs, and nothing else.
    tracer = TracerProvider().get_tracer("benchmarks")
    bus = Bus()
    listened = Bus()
    listened.attach("all", "**", _handler)
    return Suite(
        (
            Candidate(
                "span, no handlers",
                "with span('myapp.analyze', d, bus=bus): pass",
                {"span": span, "d": METADATA, "bus": bus},
            ),
            Candidate(
                "span, 1 handlers",
                "with span('myapp.analyze', d, bus=bus): pass",
                {"span": span, "d": METADATA, "bus": listened},
            ),
            Candidate(
                "OpenTelemetry SDK span",
                "with start('myapp.analyze', attributes=d): pass",
                {"start": tracer.start_as_current_span, "d": METADATA},
            ),
        ),
        (Claim("span, no handlers", "OpenTelemetry SDK span", 1 / 25),),
    )


def _pass_through(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def run(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return run


def _work(text: str, times: int = 1) -> None:
    """Do nothing, as a function that somebody decorates."""


def decorators() -> Suite:
    """A decorated function that nobody listens to, against a bare wrapper."""
    from llmevents import Bus, span

    decorated = span("myapp.work", bus=Bus())(_work)
    return Suite(
        (
            Candidate("bare function", "f('x', times=2)", {"f": _work}),
            Candidate("pass-through", "f('x', times=2)", {"f": _pass_through(_work)}),
            Candidate("decorated, no handlers", "f('x', times=2)", {"f": decorated}),
        ),
        (Claim("decorated, no handlers", "pass-through", 1.5),),
    )


SUITES: dict[str, Callable[[], Suite]] = {
    "dispatch": dispatch,
    "context": context,
    "spans": spans,
    "decorators": decorators,
}
