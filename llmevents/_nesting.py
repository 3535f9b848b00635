"""How deeply dispatches are nested, as the stack tells.

The stack knows without any state of ours, so that nothing leaks between threads,
greenlets and forks. It is walked only where dispatches meet, which is rarely.
"""

from __future__ import annotations

from types import CodeType, FrameType


MAX_DEPTH = 8
"""How many dispatches may be nested in one thread before the next is refused.

One more may get through in the very moment that another thread's dispatch ends.
"""


def depth_of(frame: FrameType | None, dispatcher: CodeType) -> int:
    """Return how often a stack is in *dispatcher*, counted to one past `MAX_DEPTH`."""
    depth = 0
    while frame is not None and depth <= MAX_DEPTH:
        if frame.f_code is dispatcher:
            depth += 1
        frame = frame.f_back
    return depth
