"""How spans ended, and the threads and processes that tests of spans run in."""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable

from llmevents.testing import CapturedEvent


JOIN_TIMEOUT = 300.0
"""Seconds until a thread or process that hangs fails its test, on a busy machine too."""


def outcomes(events: Iterable[CapturedEvent]) -> list[str]:
    """Return one word or two for each terminal event, in order.

    "stop", "stop cancelled", "exception error", "exception cancelled", ...
    """
    return [
        " ".join(
            (
                event.event[-1],
                *(
                    str(event.metadata[k])
                    for k in ("status", "kind")
                    if k in event.metadata
                ),
            )
        )
        for event in events
        if event.event[-1] in {"stop", "exception"}
    ]


def in_threads(*works: Callable[[], object]) -> None:
    """Run each in a thread of its own, all at once, and raise what they raise."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            barrier.wait(JOIN_TIMEOUT)
            work()
        except BaseException as error:  # noqa: BLE001  # raised in the test's thread instead
            errors.append(error)

    threads = [threading.Thread(target=run, args=(w,), daemon=True) for w in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_TIMEOUT)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def in_child(work: Callable[[], object]) -> object:
    """Return what *work* returns in a forked child, by way of JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, json.dumps(work()).encode())
            status = 0
        except BaseException:  # noqa: BLE001  # the child must not run on as a second pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], JOIN_TIMEOUT)
        if not ready:
            os.kill(child, signal.SIGKILL)
        answer = os.read(reader, 1 << 20)
    finally:
        os.close(reader)
    _, status = os.waitpid(child, 0)
    assert ready, "the child hangs"
    assert status == 0, "the child failed; its traceback is on stderr"
    returned: object = json.loads(answer)
    return returned


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until *condition* holds; fail if it never does."""
    import asyncio

    deadline = time.monotonic() + JOIN_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0)
