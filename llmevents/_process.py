"""Measurements of this process, each as the event that states it."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from llmevents._types import Measurements


Reading: TypeAlias = "tuple[str, Measurements] | None"
"""An event and its measurements; None where the platform does not tell."""

STATM = "/proc/self/statm"
"""Sizes of the process in pages; the second is what is resident (proc(5), Linux)."""


def memory() -> Reading:
    """Return ``process.memory``: ``rss``, resident bytes. Linux only."""
    try:
        with open(STATM, encoding="ascii") as statm:
            pages = int(statm.read().split()[1])
    except FileNotFoundError:
        return None
    return "process.memory", {"rss": pages * os.sysconf("SC_PAGE_SIZE")}


def cpu() -> Reading:
    """Return ``process.cpu``: ``user`` and ``system``, nanoseconds used so far."""
    times = os.times()
    used = {"user": times.user, "system": times.system}
    return "process.cpu", {key: round(value * 1e9) for key, value in used.items()}


def collections() -> Reading:
    """Return ``process.gc``: what the garbage collector did so far, all generations."""
    generations = gc.get_stats()
    keys = ("collections", "collected", "uncollectable")
    return "process.gc", {
        key: sum(generation[key] for generation in generations) for key in keys
    }


def threads() -> Reading:
    """Return ``process.threads``: ``count``, those alive that Python knows."""
    return "process.threads", {"count": threading.active_count()}


BUILT_IN: Mapping[str, Callable[[], Reading]] = {
    "memory": memory,
    "cpu": cpu,
    "gc": collections,
    "threads": threads,
}
"""By the name that they are asked for under."""
