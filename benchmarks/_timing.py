"""Timing candidates against each other on a machine whose speed changes."""

from __future__ import annotations

import gc
import timeit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter


BLOCK_SECONDS = 0.000_5
"""Aim for one block: short enough to fall between two disturbances."""


MOST_SECONDS = 30.0
"""What all blocks may take: one execution of some candidates is longer than a block."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One statement to time.

    Attributes:
        name: Its name in the output.
        statement: Python source, timed as `timeit` does, loop included.
        names: What the statement uses.
    """

    name: str
    statement: str
    names: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A limit that a candidate has to keep.

    Attributes:
        candidate: Name of the candidate that is judged.
        against: Name of the one that it is compared with; empty for nanoseconds.
        limit: The largest ratio, or number of nanoseconds, that is accepted.
    """

    candidate: str
    against: str
    limit: float

    def ratio(self, best: Mapping[str, float]) -> float:
        """Return what was measured: the ratio, or nanoseconds."""
        return best[self.candidate] / (best[self.against] if self.against else 1)


def measure(candidates: Sequence[Candidate], rounds: int) -> dict[str, float]:
    """Return the best time of each candidate, in nanoseconds per execution.

    All candidates take turns in short blocks, and the minimum over the blocks
    counts: a disturbance of the machine can only add time, and hits all alike.
    Garbage collection is off during a block, as with `timeit`.
    """
    timers = {
        candidate.name: timeit.Timer(candidate.statement, globals=dict(candidate.names))
        for candidate in candidates
    }
    loops = {name: _loops(timer) for name, timer in timers.items()}
    best = dict.fromkeys(timers, float("inf"))
    end = perf_counter() + MOST_SECONDS
    for _ in range(rounds):
        if perf_counter() > end:
            break
        gc.collect(0)
        for name, timer in timers.items():
            seconds = timer.timeit(loops[name]) / loops[name]
            best[name] = min(best[name], seconds * 1e9)
    return best


def _loops(timer: timeit.Timer) -> int:
    """Return how many executions fill a block."""
    once = max(min(timer.repeat(5, 10)) / 10, 1e-9)
    return max(1, round(BLOCK_SECONDS / once))
