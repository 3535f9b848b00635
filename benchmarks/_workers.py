"""Timing the same call in processes that have been prepared in different ways.

What patches an SDK cannot always be taken off again without a trace, so that states of
which only one can be in a process have a process each.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import TypeAlias

from typing_extensions import Self


State: TypeAlias = Callable[[], AbstractContextManager[None]]
"""What is on around the calls of a process; a function that can be pickled."""

MakeCall: TypeAlias = Callable[[], Callable[[], object]]
"""Returns what is timed, once the state is on; a function that can be pickled."""

CALLS = 8
"""In one block; of a millisecond each, so that a block is short."""

WARM_UP = 50
"""Calls before the first block."""


def take_turns(
    states: Mapping[str, State], make_call: MakeCall, rounds: int
) -> dict[str, float]:
    """Return the best nanoseconds of a call in each state, and beyond the first one.

    The processes take turns, one block each, and the minimum over the blocks counts:
    a disturbance of the machine can only add time, and hits all alike.
    """
    best = dict.fromkeys(states, float("inf"))
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(_Worker(state, make_call))
            for name, state in states.items()
        }
        for _ in range(rounds):
            for name, worker in workers.items():
                best[name] = min(best[name], worker.block())
    bare, *others = states
    added = {f"added by {name}": best[name] - best[bare] for name in others}
    return {**best, **added}


class _Worker:
    """A process that runs a block when it is told to."""

    def __init__(self, state: State, make_call: MakeCall) -> None:
        spawn = get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        arguments = (theirs, state, make_call)
        self._process = spawn.Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self.block()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):  # it has died, and something tells why
            self._pipe.send(False)  # noqa: FBT003  # whether there is another block
        self._process.join()

    def block(self) -> float:
        """Return the nanoseconds of a call in one block."""
        self._pipe.send(True)  # noqa: FBT003  # likewise
        nanoseconds: float = self._pipe.recv()
        return nanoseconds


def _serve(pipe: Connection, state: State, make_call: MakeCall) -> None:
    with state():
        call = make_call()
        for _ in range(WARM_UP):
            call()
        while pipe.recv():
            pipe.send(_block(call))


def _block(call: Callable[[], object]) -> float:
    call()
    gc.collect(0)
    gc.disable()
    try:
        begin = perf_counter_ns()
        for _ in range(CALLS):
            call()
        return (perf_counter_ns() - begin) / CALLS
    finally:
        gc.enable()
